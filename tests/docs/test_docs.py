"""The documentation is correct: generated parts are made again and compared, blocks run, and tables match the code."""

from __future__ import annotations

import ast
import collections.abc
import dataclasses
import importlib
import inspect
import json
import os
import re
import sqlite3
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import click
import dagster as dg
import numpy as np
import pytest
import yaml
from aws_identities import policy_of_prefix
from dagster.components.core.component_tree import ComponentTree
from docs.warm_command import warm_command
from servers import SEED_ACTIONS, S3Server

import s3dest_dagster
from docs import made, pages, transcript
from s3dest_dagster import (
    AirbyteSource,
    FileSource,
    build_file_sensor,
    build_stream_assets,
    errors,
    open_bucket,
    shards,
    stream_asset,
)
from s3dest_dagster.batch import JsonBatch, Tally
from s3dest_dagster.cli.commands import s3dest
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.commit.landed_objects import SegmentObject
from s3dest_dagster.commit.segment import Counts, SchemaChanges
from s3dest_dagster.dagster import loading
from s3dest_dagster.dagster.assets import AssetSettings
from s3dest_dagster.dagster.io_manager import S3DestinationIOManager
from s3dest_dagster.dagster.lineage import SOURCE_ASSET_KEY, column_lineage
from s3dest_dagster.dagster.metadata import receipt_metadata
from s3dest_dagster.dagster.preview import Preview
from s3dest_dagster.dagster.resource import S3Resource
from s3dest_dagster.dagster.run_config import StreamRunConfig
from s3dest_dagster.dagster.run_start import run_metadata
from s3dest_dagster.ingest.read_limit import ReadLimit
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.connector_config import from_connector_config
from s3dest_dagster.settings.connector_spec import connector_spec
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, FormatSettings, JsonlFormat, ParquetFormat
from s3dest_dagster.stream import Scope, Stream, StreamId
from website import diagrams

EVERY_PAGE = [*pages.PAGES, *pages.DESIGN]
SETTINGS, COMMAND, YAML = (f"docs/{name}.md" for name in ("settings", "command", "yaml"))
DAGSTER = "docs/dagster"
"""The folder of the pages about Dagster."""
LARGEST_IMAGE = 150_000
RENEW = "Run `make docs`, and look at what changed."


# ---------------------------------------------------------------------- generated parts


def made_parts() -> list[tuple[str, str]]:
    return [(page, name) for page in EVERY_PAGE for name in pages.made(page)]


@pytest.mark.parametrize(("page", "name"), made_parts())
def test_generated_parts_are_up_to_date(page, name):
    assert pages.made(page)[name] == made.make(name), RENEW


def test_every_generated_part_is_on_a_page():
    assert {name for _, name in made_parts()} == made.MADE


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the warm command."""
    with warm_command(tmp_path_factory.mktemp("warm")) as address:
        yield address


@pytest.mark.parametrize("page", [page for page in EVERY_PAGE if pages.blocks(page, "console")])
def test_commands_answer_as_the_page_shows(page, moto_s3: S3Server, tmp_path: Path, command: str):
    assert transcript.renewed(page, pages.read(page), moto_s3, tmp_path, command) == pages.read(page), RENEW


@pytest.mark.parametrize("path", diagrams.files(), ids=lambda path: path.name)
def test_drawings_are_up_to_date(path):
    assert path.read_text("utf-8") == diagrams.files()[path], RENEW


@pytest.mark.parametrize("name", diagrams.NAMES)
def test_every_drawing_has_a_title_and_a_description(name):
    drawing = ElementTree.fromstring(diagrams.source(name))
    described = [drawing.find(f".//*[@id='{each}']") for each in drawing.attrib["aria-labelledby"].split()]
    assert [len((each.text or "").split()) > 3 for each in described] == [True, True]


# ---------------------------------------------------------------------- links and words


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_every_link_within_the_documentation_has_a_target(page):
    for target in pages.links(page):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (pages.ROOT / page).parent / path if path else pages.ROOT / page
        assert found.exists(), target
        if anchor:
            assert anchor in pages.anchors(str(found.resolve().relative_to(pages.ROOT))), target


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_every_image_exists_is_small_and_has_an_alternative_text(page):
    for target, alt in pages.images(page).items():
        if "://" in target:
            continue
        found = (pages.ROOT / page).parent / target
        assert found.is_file(), target
        assert found.stat().st_size <= LARGEST_IMAGE, target
        assert len(alt.split()) >= 3, target


def test_every_image_is_on_a_page():
    shown = {((pages.ROOT / page).parent / target).resolve() for page in EVERY_PAGE for target in pages.images(page)}
    assert {path for path in (pages.ROOT / "docs" / "images").glob("*") if path not in shown} == set()


def test_every_claim_of_the_readme_links_to_its_proof():
    """To a test, or to figures that were measured. Whether they exist is a test of all links."""
    claims = re.split(r"^- ", pages.section("README.md", "What it promises"), flags=re.MULTILINE)[1:]
    ours = [row["s3dest_dagster"] for row in pages.table(pages.section("README.md", "Next to others"))]
    assert len(claims) >= 5
    assert len(ours) >= 5
    assert [
        each for each in (*claims, *ours) if not re.search(r"\]\((tests/[\w/]+\.py|docs/performance\.md#)", each)
    ] == []


def test_the_readme_links_to_every_page():
    found, new = {"README.md"}, {"README.md"}
    while new:
        new = {linked for page in new for linked in pages.linked_pages(page)} - found
        found |= new
    assert {*EVERY_PAGE} <= found


# ---------------------------------------------------------------------- the site


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml without creating the objects of its plugins."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
SITE = yaml.load(pages.read("mkdocs.yml"), _Loader)


def in_the_navigation(entries: list[Any]) -> list[str]:
    """Every page of the navigation, as a path in the repository."""
    found: list[str] = []
    for entry in entries:
        for below in entry.values():
            found += in_the_navigation(below) if isinstance(below, list) else [below]
    return found


def test_every_page_is_in_the_navigation_once_and_exists():
    documented = [each if each in pages.BESIDE_DOCS else f"docs/{each}" for each in in_the_navigation(SITE["nav"])]
    assert sorted(documented) == sorted(page for page in EVERY_PAGE if page != "README.md")


def docstrings(folder: str) -> list[str]:
    """Names for which the reference shows the docstrings."""
    mark = re.compile(r"^<!-- docstring: ([\w.]+) -->$", re.MULTILINE)
    return [name for page in pages.PAGES if page.startswith(folder) for name in mark.findall(pages.read(page))]


@pytest.mark.parametrize("name", [name for name in docstrings("docs/reference/") if "." in name])
def test_the_reference_finds_what_it_shows(name):
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(f"s3dest_dagster.{module}"), attribute)


def test_the_reference_has_every_public_name_and_every_error():
    tree = [name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)]
    shown = [name.rpartition(".")[2] for name in docstrings("docs/reference/")]
    assert sorted(shown) == sorted([*s3dest_dagster.__all__, *shards.__all__, *tree])
    linked = {
        name
        for line in re.findall(r"^\| \[.*?\|", pages.read("docs/reference.md"), re.MULTILINE)
        for name in re.findall(r"`(\w+)`", line)
    }
    assert linked == {*s3dest_dagster.__all__, *shards.__all__}


MARKETING = "blazing|seamless|effortless|powerful|robust|world-class|cutting-edge|state-of-the-art|revolutionary|easily"
UNFINISHED = "todo|fixme|tbd|lorem"
FOREIGN = r"hero pixel|prototype"
FORBIDDEN = re.compile(rf"\b(?:{MARKETING}|{UNFINISHED})\b|{FOREIGN}", re.IGNORECASE)


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_empty_words_are_not_used(page):
    assert FORBIDDEN.findall(pages.read(page)) == []


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_tables_are_complete(page):
    """Every row has all columns of its header, and every difference has a reason."""
    for row in pages.table(pages.read(page)):
        assert row.get("reason") != "", row


def named_tests() -> list[tuple[str, str]]:
    """Every test that a page names, as path or path::name, with its page."""
    named = re.compile(r"`(tests/[\w/.]+(?:::\w+)?)`")
    return [(page, name) for page in EVERY_PAGE for name in named.findall(pages.read(page))]


@pytest.mark.parametrize(("page", "named"), named_tests())
def test_named_tests_exist(page, named):
    path, _, name = named.partition("::")
    assert (pages.ROOT / path).exists(), page
    assert not name or re.search(rf"^def {name}\(", pages.read(path), re.MULTILINE), page


def test_every_promise_names_a_test():
    promises = [row for row in pages.table(pages.read("docs/guarantees.md")) if "promise" in row]
    assert promises
    assert [row["promise"] for row in promises if "`tests/" not in row["shown by"]] == []


def test_the_glossary_is_sorted_and_has_one_sentence_for_a_term():
    rows = pages.table(pages.read("docs/glossary.md"))
    terms = [row["term"] for row in rows]
    assert terms == sorted({*terms})
    assert [row["term"] for row in rows if not row["meaning"].endswith(".") or ". " in row["meaning"]] == []


# ---------------------------------------------------------------------- settings


def own_settings() -> set[str]:
    """The settings that the connector does not have."""
    ours = connector_spec()["connectionSpecification"]["properties"]["s3dest"]["properties"]
    return {*ours, *ours["format"]["properties"]} - {"format", "dedup"}


@pytest.mark.parametrize(
    "kind", [S3Destination, S3Connection, CsvFormat, JsonlFormat, AvroFormat, ParquetFormat], ids=lambda k: k.__name__
)
def test_every_setting_is_in_its_table_with_its_default(kind):
    rows = pages.table(pages.section(SETTINGS, kind.__name__))
    assert [pages.code(row["setting"]) for row in rows] == [each.name for each in dataclasses.fields(kind)]
    for row, each in zip(rows, dataclasses.fields(kind), strict=True):
        assert documented_default(row["default"]) == default_of(each), each.name
        assert row["of"] == ("ours" if each.name in own_settings() else "connector"), each.name
        assert row["effect"].endswith("."), each.name


def test_every_setting_of_a_connector_process_is_in_its_table_with_its_default():
    rows = pages.table(pages.section(SETTINGS, "AirbyteSource"))
    documented = {pages.code(row["setting"]): documented_default(row["default"]) for row in rows}
    assert documented == {each.name: default_of(each) for each in dataclasses.fields(AirbyteSource)}
    assert [row for row in rows if not row["effect"].endswith(".")] == []


def test_settings_that_only_the_io_manager_has_are_described():
    text = pages.section(SETTINGS, "In Dagster's run config") + pages.read(f"{DAGSTER}/io-manager.md")
    of_the_destination = {each.name for each in dataclasses.fields(S3Destination)}
    own = S3DestinationIOManager.model_fields.keys() - of_the_destination
    assert [name for name in sorted(own) if f"`{name}`" not in text] == []


def documented_default(cell: str) -> Any:
    text = pages.code(cell)
    return text if text == "required" or text.endswith("()") else ast.literal_eval(text)


def default_of(each: dataclasses.Field[Any]) -> Any:
    if each.default is not dataclasses.MISSING:
        return each.default
    return "required" if each.default_factory is dataclasses.MISSING else f"{type(each.default_factory()).__name__}()"


def test_other_names_of_a_connections_settings_are_those_of_the_resource_and_the_connector():
    connector = connector_spec()["connectionSpecification"]["properties"]
    for row in pages.table(pages.section(SETTINGS, "S3Connection")):
        names = {pages.code(cell) for cell in (row["setting"], *filter(None, row["elsewhere"].split("; ")))}
        assert names & S3Resource.model_fields.keys(), row
        assert row["of"] == "ours" or names & connector.keys(), row


@pytest.mark.parametrize("kind", get_args(FormatSettings), ids=lambda k: k.__name__)
def test_every_option_of_a_format_is_explained(kind):
    name = kind.__name__.removesuffix("Format").lower()
    rows = [row for row in pages.table(pages.read(f"docs/formats/{name}.md")) if "option" in row]
    assert [pages.code(row["option"]) for row in rows] == [each.name for each in dataclasses.fields(kind)]
    for row in rows:
        is_ours = pages.code(row["in `config.json`"]).startswith("s3dest.")
        assert is_ours == (pages.code(row["option"]) in own_settings()), row


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_configurations_on_the_pages_are_valid(page):
    place = {"s3_bucket_name": "my-bucket", "s3_bucket_path": "lake", "s3_bucket_region": ""}
    for block in pages.blocks(page, "json"):
        if block.text.startswith('{"format_type"'):
            assert from_connector_config({**place, "format": json.loads(block.text)}).ignored == ()
        elif "s3_bucket_name" in block.text:
            assert from_connector_config(json.loads(block.text)).ignored == ()


def test_the_run_config_on_the_page_is_valid():
    (block,) = pages.blocks(SETTINGS, "yaml")

    @stream_asset
    def users():
        return [{"id": 1}]

    resources = {"io_manager": S3DestinationIOManager.configure_at_launch()}
    job = dg.Definitions([users], jobs=[dg.define_asset_job("all")], resources=resources).resolve_job_def("all")
    dg.validate_run_config(job, yaml.safe_load(block.text))


def test_the_documented_policies_are_those_of_the_tests():
    documents = [json.loads(block.text) for block in pages.blocks("docs/credentials.md", "json")]
    whole, of_prefix = (each for each in documents if "s3:PutObject" in json.dumps(each))
    assert [each["Action"] for each in whole["Statement"]] == [list(SEED_ACTIONS)]
    assert of_prefix == policy_of_prefix("YOUR_BUCKET_NAME", "YOUR_BUCKET_PATH")


# ---------------------------------------------------------------------- the command


def verbs(group: click.Group = s3dest, before: str = "") -> dict[str, click.Command]:
    """Every command with its words."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        found |= verbs(command, f"{name} ") if isinstance(command, click.Group) else {f"{before}{name}": command}
    return found


def test_every_command_has_its_section():
    titles = set(re.findall(r"^## (.+)$", pages.read(COMMAND), re.MULTILINE))
    assert titles >= verbs().keys()


@pytest.mark.parametrize("verb", verbs())
def test_every_command_has_an_example(verb):
    assert f"$ s3dest {verb}" in pages.section(COMMAND, verb)


def test_every_option_is_in_the_table_with_its_commands():
    rows = [row for row in pages.table(pages.read(COMMAND)) if "option" in row]
    documented = {pages.code(row["option"]): documented_verbs(row["of"]) for row in rows}
    assert documented.pop("--version") == {"s3dest"}
    assert documented == {option: having(option) for option in {"--help", *options()}}


def documented_verbs(cell: str) -> set[str]:
    """Parses "all", "all but `a`, `b`" or "`a`, `b`". The text after a semicolon is a remark."""
    named = set(re.findall(r"`([^`]+)`", cell))
    return set(verbs()) - named if cell.startswith("all") else named


def options() -> set[str]:
    return {name for command in verbs().values() for each in command.params for name in each.opts}


def having(option: str) -> set[str]:
    if option == "--help":
        return set(verbs())
    return {verb for verb, command in verbs().items() if any(option in each.opts for each in command.params)}


def shell_lines() -> list[tuple[str, str]]:
    """Lines of the pages that users type into a shell, with their pages."""
    return [
        (page, line.strip().removeprefix("$ "))
        for page in EVERY_PAGE
        for line in pages.read(page).splitlines()
        if re.match(r" *(\$ )?(make|s3dest)\b", line) and (line.startswith(("    ", "$ ", "make", "s3dest")))
    ]


@pytest.mark.parametrize(("page", "line"), shell_lines())
def test_typed_commands_exist(page, line):
    words = line.split("#")[0].split()
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", pages.read("Makefile"), re.MULTILINE)
        assert words[1] in targets, page
        return
    typed = [name for name in re.split(r"[ |]+", line.split("--")[0].removeprefix("s3dest ").strip()) if name.isalpha()]
    known = {word for verb in verbs() for word in verb.split()}
    assert typed[0] in known, page
    assert set(re.findall(r"(?<= )--[a-z-]+", line)) <= {*options(), "--help", "--version"}, page


def commands_of_the_readme() -> list[str]:
    """The commands in the README's overview, without their descriptions."""
    lines = re.findall(r"^    (s3dest .+?)(?: {6,}.*)?$", pages.section("README.md", "The command"), re.MULTILINE)
    several = lines.pop().removeprefix("s3dest ").split(" | ")
    return [*lines, *(f"s3dest {verb} --config config.json" for verb in several)]


def test_commands_of_the_readme_run(moto_s3: S3Server, tmp_path: Path, command: str):
    (config,) = [block for block in pages.blocks(SETTINGS) if block.name == "config.json"]
    (source,) = [block for block in pages.blocks(COMMAND) if block.name == "source-shop"]
    sitting = transcript.Sitting(moto_s3, tmp_path, command)
    for block in (config, dataclasses.replace(source, name="source-faker"), pages.Block("json", "faker.json", "{}", 0)):
        sitting.lay_out(block)
    typed = commands_of_the_readme()
    assert len(typed) > 4
    for line in typed:
        kept = " > catalog.json" if " discover " in line else ""
        kept += " --allow-empty" if " write " in line else ""
        assert sitting.answer(f"{line}{kept}; echo ended with $?").endswith("ended with 0\n"), line


# ---------------------------------------------------------------------- Python


TESTED_AS_WHOLE_PAGES = ("docs/read/", "docs/recipes/")
"""Folders of pages whose code runs in `test_read.py` and `test_recipes.py`."""


def python_blocks() -> list[Any]:
    return [
        pytest.param(block, id=f"{page}:{block.line}")
        for page in EVERY_PAGE
        if not page.startswith(TESTED_AS_WHOLE_PAGES)
        for block in pages.blocks(page, "python")
    ]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages mention."""
    monkeypatch.chdir(tmp_path)
    schema = {"type": "object", "properties": {"id": {"type": "integer"}}}
    streams = [{"name": name, "json_schema": schema} for name in ("users", "products")]
    (tmp_path / "catalog.json").write_text(json.dumps({"streams": streams}))
    (block,) = [block for block in pages.blocks(SETTINGS) if block.name == "config.json"]
    (tmp_path / "config.json").write_text(block.text)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "users.jsonl").write_text('{"id": 1}\n{"id": 2}\n')
    connector = tmp_path / "source-faker"
    connector.write_text(CONNECTOR)
    connector.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


CONNECTOR = """\
#!/bin/sh
# read --config FILE --catalog FILE: a record of each stream that is asked for
for stream in users products; do
    if grep -q "\\"$stream\\"" "$5"; then
        printf '{"type": "RECORD", "record": {"stream": "%s", "data": {"id": 1}, "emitted_at": 0}}\\n' $stream
    fi
done
"""


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("block", python_blocks())
def test_python_on_the_pages_runs(block: pages.Block, moto_s3: S3Server):
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(block.text, f"line {block.line}", "exec"), names)
    if isinstance(defs := names.get("defs"), dg.Definitions):
        dg.Definitions.validate_loadable(defs)
        assert landed(defs, moto_s3)
    if callable(load := names.get("load")):
        assert load(moto_s3.connection, moto_s3.new_bucket()) == 2


def landed(defs: dg.Definitions, server: S3Server) -> bool:
    """Whether the assets of the definitions can be materialized, with their own settings, on the server."""
    resources = dict(defs.resources or {})
    place = {"s3_bucket_name": server.new_bucket(), "s3": server.connection}
    for key, theirs in resources.items():
        if not isinstance(theirs, S3DestinationIOManager):
            continue
        settings = {each.name: getattr(theirs, each.name) for each in dataclasses.fields(S3Destination)}
        resources[key] = S3DestinationIOManager(**{**settings, **place})
    partitioned = any(each.partitions_def for each in defs.assets or ())
    key = "2026-01-01" if partitioned else None
    return dg.materialize(list(defs.assets or ()), resources=resources, partition_key=key).success


FEEDS = """\
import dagster as dg


def readings(context: dg.AssetExecutionContext):
    yield {"day": context.partition_key}


@dg.failure_hook
def tell_the_team(context):
    context.log.error("It failed.")
"""


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("shop", {"shop/users", "shop/products"}),
        ("readings", {"readings"}),
        ("orders", {"orders", "invoices"}),
        ("inbox", {"visits", "orders"}),
    ],
)
def test_components_on_the_page_are_valid(workspace: Path, monkeypatch: pytest.MonkeyPatch, name: str, keys: set[str]):
    (block,) = [each for each in pages.blocks(YAML, "yaml") if each.name == f"assets/{name}/defs.yaml"]
    folder = workspace / f"documented_{name}" / name
    folder.mkdir(parents=True)
    (folder / "defs.yaml").write_text(block.text)
    (folder / "catalog.json").write_text((workspace / "catalog.json").read_text())
    (folder.parent / "__init__.py").touch()
    (workspace / "feeds.py").write_text(FEEDS)
    monkeypatch.syspath_prepend(workspace)
    monkeypatch.delitem(sys.modules, "feeds", raising=False)
    defs = ComponentTree.from_module(importlib.import_module(folder.parent.name), workspace).build_defs()
    assert {spec.key.to_user_string() for each in defs.assets for spec in each.specs} == keys
    dg.Definitions.validate_loadable(
        dg.Definitions.merge(defs, dg.Definitions(resources={"io_manager": dg.mem_io_manager}))
    )


def test_the_component_of_the_readme_lands(workspace: Path, monkeypatch: pytest.MonkeyPatch, moto_s3: S3Server):
    (block,) = pages.blocks("README.md", "yaml")
    folder = workspace / "of_the_readme" / "shop"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "defs.yaml").write_text(block.text)
    with sqlite3.connect(workspace / "shop.db") as database:
        database.executescript("create table customers (id); create table orders (id); insert into orders values (1)")
    monkeypatch.setenv("SHOP_DATABASE", f"sqlite:///{workspace / 'shop.db'}")
    monkeypatch.syspath_prepend(workspace)
    defs = ComponentTree.from_module(importlib.import_module("of_the_readme"), workspace).build_defs()
    assert {spec.key.to_user_string() for each in defs.assets for spec in each.specs} == {"customers", "orders"}
    assert landed(defs, moto_s3)


def test_the_three_ways_of_the_readme_have_ten_lines_each():
    ways = pages.blocks("README.md", "python", "yaml")
    assert [len([line for line in each.text.splitlines() if line.strip()]) <= 10 for each in ways] == [True] * 3


def test_every_component_on_the_page_is_tested():
    named = {each.name for each in pages.blocks(YAML, "yaml") if each.name}
    assert named == {f"assets/{name}/defs.yaml" for name in ("shop", "readings", "orders", "inbox")}


def test_every_public_name_is_documented():
    text = "".join(map(pages.read, pages.PAGES))
    assert [name for name in s3dest_dagster.__all__ if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize(
    ("function", "page"),
    [
        (stream_asset, "python"),
        (build_stream_assets, "connector-streams"),
        (FileSource, "files"),
        (build_file_sensor, "files-that-arrive"),
    ],
    ids=["stream_asset", "build_stream_assets", "FileSource", "build_file_sensor"],
)
def test_arguments_are_in_their_table(function, page):
    rows = [row for row in pages.table(pages.read(f"{DAGSTER}/{page}.md")) if "argument" in row]
    parameters = set(inspect.signature(function).parameters) - {"function", "asset", "settings"}
    assert {pages.code(row["argument"]) for row in rows} == parameters


def test_arguments_of_an_asset_are_listed():
    (listed,) = re.findall(r"these arguments of `dg\.asset`: (.*?)\. ", pages.read(f"{DAGSTER}/python.md"), re.DOTALL)
    assert re.findall(r"`(\w+)`", listed) == list(AssetSettings.__annotations__)


def test_metadata_of_a_materialization_is_in_its_table():
    documented = {
        pages.code(name)
        for row in pages.table(pages.read(f"{DAGSTER}/metadata.md"))
        for name in row["metadata"].split(", ")
    }
    source = {SOURCE_ASSET_KEY: dg.MetadataValue.asset(dg.AssetKey("users"))}
    of_lineage = column_lineage(Record(name="users", namespace=None, fields=()), source)
    others = of_lineage.keys() | metadata_of_limited_run().keys()
    assert documented - others == {name for partition in (None, "2026-01-05") for name in metadata_of(partition)}
    assert others <= documented


def metadata_of_limited_run() -> dict[str, Any]:
    """The metadata of a run with a limit that has left out a record."""
    stream, limit = StreamId(None, "users"), ReadLimit(1, None, lambda: 0.0)
    limit.apply(JsonBatch([b'{"id":1}', b'{"id":2}'], np.zeros(2, np.int64), 16), stream)
    return run_metadata(StreamRunConfig(record_limit=1), limit, stream)


def metadata_of(partition: str | None) -> dict[str, Any]:
    """The metadata of a receipt in which everything is set."""
    one = {"id": 1}
    nothing = {each.name: None for each in dataclasses.fields(Receipt)}
    receipt = Receipt(
        **nothing
        | {
            "scope": Scope(StreamId(None, "users"), partition),
            "sync_id": "monday",
            "objects": (
                SegmentObject(
                    key="a/b", rows=1, bytes=9, etag="", close_reason="memory", partition_values={"region": None}
                ),
            ),
            "replaces": True,
            "removed": (),
            "counts": Counts(read=2, landed=1, quarantined=1, tally=Tally(*[one] * len(dataclasses.fields(Tally)))),
            "schema": "{}",
            "fingerprint": "0",
            "json_schema": '{"properties": {"id": {"type": "integer"}}}',
            "schema_changes": SchemaChanges(added=("id",)),
            "state": None,
            "manifest": "s3://b/m",
            "checkpoints": 1,
            "earlier": Counts(read=1, landed=1),
            "repeated": True,
            "swept": 1,
            "left_beside": (Scope(StreamId(None, "users"), "2026-01-05"),),
            "former_template": "s3_path_format '${STREAM_NAME}/'",
            "expired": ("2025-01-05",),
            "discarded": 1,
            "quarantine": ("a/q",),
            "format": {},
        }
    )
    stream, preview = Stream(name="users"), Preview(Stream(name="users"), 1)
    preview.add(JsonBatch([b'{"id":1}'], np.zeros(1, np.int64), 8))
    bucket = open_bucket(S3Connection(endpoint="http://127.0.0.1:9000"), "b")
    places = ("people under s3://b/lake",)
    return receipt_metadata(receipt, stream, bucket=bucket, seconds=1.0, preview=preview, left_elsewhere=places)


def test_supported_annotations_are_in_their_table():
    rows = pages.table(pages.read(f"{DAGSTER}/loading.md"))
    names = (pages.code(name) for row in rows if "annotation" in row for name in row["annotation"].split("`, "))
    documented = {name.partition("[")[0] for name in names} - {"none"}
    kinds = (*loading._WHOLE, *loading._ROWS, *loading._MAPPINGS)
    datasets = {name for name in documented if name.partition(".")[0] in ("dask", "pyspark", "ray")}
    assert {f"{name.partition('.')[0]}.{name.rpartition('.')[2]}" for name in datasets} == loading.DATASETS.keys()
    assert documented - datasets == {*map(annotation_name, kinds), *loading._FRAMES}


def annotation_name(kind: Any) -> str:
    if kind is Any or kind in (list, dict, object) or kind.__module__ == collections.abc.__name__:
        return kind.__name__
    module = {"pyarrow.lib": "pyarrow", "pyarrow._dataset": "pyarrow.dataset"}[kind.__module__]
    return f"{module}.{kind.__name__}"


# ---------------------------------------------------------------------- dependencies


@pytest.mark.parametrize(("title", "part"), [("Of the library", "library"), ("For development and the demo", "dev")])
def test_every_dependency_has_a_line_with_its_reason(title, part):
    rows = pages.table(pages.section("docs/design/dependencies.md", title))
    documented = {re.sub(r" \(extra .*", "", name) for row in rows for name in row["package"].split(", ")}
    assert documented == {re.split(r"[\[><=;]", each)[0] for each in declared_dependencies(part)}


@pytest.mark.parametrize("path", sorted((pages.ROOT / "requirements").glob("*.in")), ids=lambda path: path.stem)
def test_separate_environments_are_documented(path):
    names = re.findall(r"^[\w-]+", path.read_text("utf-8"), re.MULTILINE)
    text = pages.read("docs/design/dependencies.md")
    assert [name for name in names if f"`{name}`" not in text and f"| {name} |" not in text] == []


def declared_dependencies(part: str) -> list[str]:
    declared = tomllib.loads((pages.ROOT / "pyproject.toml").read_text("utf-8"))
    if part == "dev":
        return declared["dependency-groups"]["dev"]
    project = declared["project"]
    return [*project["dependencies"], *(each for some in project["optional-dependencies"].values() for each in some)]
