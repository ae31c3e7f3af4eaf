"""CONTRIBUTING's section "Add a setting" is correct: a setting needs a field, its effect and its test, and nothing
else."""

from __future__ import annotations

import re
from dataclasses import Field, fields
from textwrap import dedent, indent

import pytest

from docs import pages
from s3dest_dagster.dagster.component.models import DestinationModel
from s3dest_dagster.dagster.io_manager import S3DestinationIOManager
from s3dest_dagster.dagster.resource import S3Resource
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.connector_spec import connector_spec
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.fields import about, groups_of

BLOCK = re.compile(r"^( *)```python (?P<file>\S+)\n(?P<code>.*?)^ *```$", re.MULTILINE | re.DOTALL)
EXAMPLE = "storage_class"
CLASSES = [S3Destination, S3Connection]
SETTINGS = [pytest.param(cls, each, id=each.name) for cls in CLASSES for each in fields(cls)]


def steps() -> list[tuple[str, str]]:
    """The files that the section names, and the code that it shows from each."""
    section = pages.section("CONTRIBUTING.md", "Add a setting")
    return [(match["file"], dedent(match["code"])) for match in BLOCK.finditer(section)]


@pytest.mark.parametrize(("file", "code"), steps(), ids=lambda value: value if "\n" not in value else "")
def test_the_section_shows_the_actual_code(file: str, code: str) -> None:
    text = pages.read(file)
    assert any(indent(code.rstrip(), " " * depth) in text for depth in range(0, 13, 4))
    assert EXAMPLE in code


def test_the_section_names_field_effect_and_test() -> None:
    field, effect, test = (file for file, _ in steps())
    assert (pages.ROOT / field).parent.name == "settings"
    assert effect.startswith("s3dest_dagster/")
    assert test.startswith("tests/")
    assert EXAMPLE in {each.name for group in groups_of(S3Destination) for each in fields(group)}


def published(cls: type, each: Field[object]) -> dict[str, object]:
    """The text about a setting in the specification."""
    properties = connector_spec()["connectionSpecification"]["properties"]
    name = about(each).connector
    return properties[name] if name else properties["s3dest"]["properties"][each.name]


@pytest.mark.parametrize(("cls", "each"), SETTINGS)
def test_the_specification_and_the_yaml_match_the_field(cls: type, each: Field[object]) -> None:
    description = about(each).description
    assert published(cls, each)["description"] == description
    (schema,) = (extra.json_schema for extra in DestinationModel.__metadata__)
    properties = (
        schema["properties"] | schema["properties"]["s3dest"]["properties"] | {"format": schema["properties"]["format"]}
    )
    assert properties[about(each).connector or each.name]["description"] == description


@pytest.mark.parametrize(("cls", "each"), SETTINGS)
def test_dagsters_config_matches_the_field(cls: type, each: Field[object]) -> None:
    model = S3DestinationIOManager if cls is S3Destination else S3Resource
    name = about(each).resource or each.name
    if model is S3Resource and name in ("region_name", "endpoint_url", "aws_access_key_id", "profile_name"):
        pytest.skip("dagster-aws has this field")
    assert model.model_fields[name].description == about(each).description


@pytest.mark.parametrize(("cls", "each"), SETTINGS)
def test_the_page_and_the_docstring_match_the_field(cls: type, each: Field[object]) -> None:
    rows = pages.table(pages.section("docs/settings.md", cls.__name__))
    assert about(each).text in [row["effect"] for row in rows if pages.code(row["setting"]) == each.name]
    assert f"{each.name}: {about(each).description}" in (cls.__doc__ or "")
