"""The specification describes what the settings accept: the connector's ten keys and all of our own."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.connector_config import from_connector_config
from s3dest_dagster.settings.connector_spec import connector_spec
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.fields import about
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, JsonlFormat, ParquetFormat

PUBLISHED = Path(__file__).parents[3] / "shared" / "cases" / "spec_0.6.2.json"
COMPARED = (
    "type",
    "enum",
    "default",
    "minimum",
    "maximum",
    "order",
    "title",
    "airbyte_secret",
    "always_show",
    "examples",
)


def properties() -> dict:
    return connector_spec()["connectionSpecification"]["properties"]


def formats() -> dict:
    return {each["properties"]["format_type"]["enum"][0]: each for each in properties()["format"]["oneOf"]}


def own_settings() -> dict:
    return properties()["s3dest"]["properties"]


@pytest.fixture(scope="module")
def published() -> dict:
    if not PUBLISHED.exists():
        pytest.skip("the published specification is not at hand")
    return json.loads(PUBLISHED.read_text())


def differences(ours: object, theirs: object, where: str = "") -> list[str]:
    """The differences between the two in keys, enumerations, defaults and ranges. Wording may differ."""
    if isinstance(theirs, dict) and "properties" in theirs:
        assert isinstance(ours, dict)
        found = [] if ours["properties"].keys() == theirs["properties"].keys() else [f"{where}: keys"]
        for key in theirs["properties"]:
            found += differences(ours["properties"].get(key), theirs["properties"][key], f"{where}.{key}")
        if ours.get("required") != theirs.get("required", ours.get("required")):
            found.append(f"{where}: required")
        return found
    assert isinstance(theirs, dict)
    assert isinstance(ours, dict)
    found = [f"{where}: {word}" for word in COMPARED if word in theirs and word in ours and ours[word] != theirs[word]]
    found += [f"{where}: {word} is missing" for word in COMPARED if word in theirs and word not in ours]
    if [each["title"] for each in ours.get("oneOf", ())] != [each["title"] for each in theirs.get("oneOf", ())]:
        return [*found, f"{where}: alternatives"]
    for left, right in zip(ours.get("oneOf", ()), theirs.get("oneOf", ()), strict=True):
        found += differences(left, right, f"{where}[{right['title']}]")
    return found


def test_keys_choices_defaults_and_ranges_of_the_connector_are_the_published_ones(published):
    ours = connector_spec()["connectionSpecification"]
    del ours["properties"]["s3dest"]
    assert differences(ours, published["connectionSpecification"]) == []


def test_the_abilities_of_the_connector_are_the_published_ones(published):
    ours = connector_spec()
    assert {name: value for name, value in published.items() if name in ours and name != "connectionSpecification"} == {
        name: value for name, value in ours.items() if name != "connectionSpecification"
    }


def test_every_own_setting_is_in_the_specification_with_its_default():
    connector = {"s3_bucket_name", "s3_bucket_path", "s3_path_format", "file_name_pattern", "format"}
    connector |= {"region", "endpoint", "access_key_id", "secret_access_key", "role_arn"}
    expected = {
        each.name: each.default if about(each).connector_default is None else about(each).connector_default
        for cls in (S3Destination, S3Connection)
        for each in fields(cls)
        if each.name not in connector
    }
    found = {
        name: setting.get("default")
        for name, setting in own_settings().items()
        if name not in ("format", "streams", "dedup")
    }
    assert found == expected


def test_every_own_format_setting_is_in_the_specification():
    known = {each.name for kind in (CsvFormat, JsonlFormat, AvroFormat, ParquetFormat) for each in fields(kind)}
    of_the_connector = {name for each in formats().values() for name in each["properties"]}
    of_the_connector |= {"codec", "compression_level", "include_checksum"}
    assert set(own_settings()["format"]["properties"]) == known - of_the_connector


def test_secrets_are_marked():
    marked = {name for name, setting in {**properties(), **own_settings()}.items() if setting.get("airbyte_secret")}
    assert marked == {"access_key_id", "secret_access_key", "session_token", "external_id", "hash_key"}


@pytest.mark.parametrize("name", sorted(set(own_settings()) - {"format"}))
def test_each_choice_of_an_own_setting_is_accepted_and_anything_else_refused(name):
    base = {"s3_bucket_name": "lake", "s3_bucket_path": "", "s3_bucket_region": "", "format": {"format_type": "CSV"}}
    setting = own_settings()[name]
    for value in setting.get("enum", ()):
        from_connector_config({**base, "s3dest": {name: value}})
    if "enum" in setting:
        with pytest.raises(SettingsError):
            from_connector_config({**base, "s3dest": {name: "no such choice"}})


@pytest.mark.parametrize("kind", ["CSV", "JSONL", "Avro", "Parquet"])
def test_every_example_of_a_format_is_accepted(kind):
    base = {"s3_bucket_name": "lake", "s3_bucket_path": "", "s3_bucket_region": "eu-west-1"}
    options = formats()[kind]["properties"]
    for name, option in options.items():
        for value in option.get("enum", ()):
            from_connector_config({**base, "format": {"format_type": kind, name: value}})
        for alternative in option.get("oneOf", ()):
            chosen = {key: value["default"] for key, value in alternative["properties"].items()}
            from_connector_config({**base, "format": {"format_type": kind, name: chosen}})
