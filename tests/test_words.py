"""The names in the library are the usual terms of the field. None of its former private words is left in a name.

Names of modules, classes, functions, parameters and fields are split at underscores and capitals and compared word
by word. Local variables are included.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PRIVATE = {
    "aside": "background",
    "bodies": "asset functions",
    "canaries": "secret scan",
    "carries": "absorbs",
    "census": "duplicate names",
    "chosen": "selected",
    "compose": "build",
    "composing": "building",
    "delivery": "outputs",
    "doors": "recording proxy",
    "doubted": "with suggestion",
    "draft": "segment writer",
    "folding": "compaction",
    "folds": "compacts",
    "handed": "value",
    "lane": "stream queue",
    "leaving": "retired",
    "leaves": "retires",
    "ledger": "commit log",
    "meant": "closest match",
    "patience": "retry policy",
    "place": "source position, landing resource, selection",
    "placed": "located",
    "places": "targets",
    "reach": "resolve",
    "register": "registry",
    "registration": "registry entry",
    "remark": "diagnostic",
    "remarks": "diagnostics",
    "road": "record converter",
    "recover_all": "mark decided",
    "settled": "decided",
    "shape": "pattern",
    "shapes": "overlap",
    "slot": "placeholder",
    "standing": "stream progress",
    "take": "append, receive, next",
    "taken": "used",
    "told": "described, located, reported",
    "trail": "conversion log",
    "upkeep": "maintain",
}
"""A private word, and its replacement."""

WHOLE_NAMES = {
    "Event": "entry",
    "Reading": "sample",
    "access": "s3 access",
    "common_text": "shared key",
    "delete_due": "expire retired",
    "faults": "error mapping",
    "in_place": "compact",
    "kept_keys": "retired keys",
    "let_go": "spill, close generator",
    "plain": "what it is plain of",
}
"""Names that are too vague alone, although their words are good inside other names, such as `access_key_id`."""

ALLOWED = {
    "bodies": "the parts of lines between their heads and tails",
    "settle_s": "a public argument of build_file_sensor",
    "settled": "files that the argument settle_s lets pass",
    "_is_settled": "files that the argument settle_s lets pass",
    "slots": "a keyword of dataclasses",
}
"""Names that stay, with the reason."""


def words(name: str) -> set[str]:
    """The words of a name in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def names(path: Path) -> Iterator[tuple[str, int]]:
    """The names that a module defines, with their lines, and the module's own name."""
    yield path.stem, 1
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name, node.lineno
            case ast.arg():
                yield node.arg, node.lineno
            case ast.Name(ctx=ast.Store()):
                yield node.id, node.lineno
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr, node.lineno


def is_private(name: str) -> bool:
    return name not in ALLOWED and (name in WHOLE_NAMES or bool(words(name) & PRIVATE.keys()))


@pytest.mark.parametrize("folder", ["s3dest_dagster", "benchmarks", "assets", "resources", "examples", "demo"])
def test_names_are_the_words_of_the_field(folder):
    assert [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name, line in names(path)
        if is_private(name)
    ] == []


def test_modules_of_tests_are_named_by_the_words_of_the_field():
    assert [
        str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests").rglob("*.py")) if is_private(path.stem)
    ] == []


@pytest.mark.parametrize(
    ("name", "private"),
    [("RecordRoad", True), ("_told", True), ("access", True), ("access_key_id", False), ("slots", False)],
)
def test_names_are_split_into_words(name, private):
    assert is_private(name) is private
