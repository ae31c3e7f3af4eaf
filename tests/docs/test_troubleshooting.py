"""The page on troubleshooting has a section for every error, with what the error really says."""

from __future__ import annotations

import ast
import re

import pytest
from docs.error_occurrences import OCCURRENCES, Place

from docs import pages
from s3dest_dagster.cli.output import full_text
from s3dest_dagster.errors import S3DestError

PAGE = "docs/troubleshooting.md"
_EXAMPLE = re.compile(r"\A\s*```text\n(?P<text>.*?)```$", re.MULTILINE | re.DOTALL)


def error_classes() -> set[str]:
    """The names of all errors below the root of the tree, wherever they are defined."""
    defined = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for path in (pages.ROOT / "s3dest_dagster").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    found, new = {S3DestError.__name__}, {S3DestError.__name__}
    while new:
        new = {name for name, bases in defined.items() if bases & found} - found
        found |= new
    return found - {S3DestError.__name__}


def test_every_error_has_a_section_and_an_occurrence():
    names = sorted(error_classes())
    assert sorted(re.findall(r"^### (\w+)$", pages.read(PAGE), re.MULTILINE)) == names
    assert sorted(kind.__name__ for kind in OCCURRENCES) == names


@pytest.mark.parametrize("kind", OCCURRENCES, ids=lambda kind: kind.__name__)
def test_the_example_is_what_the_error_says_and_the_path_leads_to_it(kind, moto_s3, rclone_s3, faulty_moto, tmp_path):
    place = Place(moto_s3, rclone_s3, faulty_moto, moto_s3.new_bucket(), tmp_path)
    with pytest.raises(S3DestError) as raised:
        OCCURRENCES[kind](place)
    assert type(raised.value) is kind
    shown, help_page = re.fullmatch(r"(.*) Help: (\S+)", full_text(raised.value), re.DOTALL).groups()
    assert help_page == f"{PAGE}#{kind.__name__.lower()}"
    assert help_page.partition("#")[2] in pages.anchors(PAGE)
    example = _EXAMPLE.match(pages.section(PAGE, kind.__name__))["text"]
    pattern = ".*".join(map(re.escape, " ".join(example.split()).split("…")))
    said = " ".join(shown.replace(place.bucket, "my-bucket").split())
    assert re.fullmatch(pattern, said), said
