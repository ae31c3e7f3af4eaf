"""JSON Lines, and JSON within CSV, have the names that the user chooses at every level, and readers find all values."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from land_and_read import batch_of, data_keys, destination, sync, target
from servers import S3Server

from s3dest_dagster.columns.evolution import evolve
from s3dest_dagster.columns.inference import json_schema_of_records
from s3dest_dagster.columns.json_names import JsonNames, SourceNames
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.schema_differences import EvolutionRules
from s3dest_dagster.columns.stream_columns import StreamColumns
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.read import read_tables
from s3dest_dagster.settings.destination import NameStyle, S3Destination
from s3dest_dagster.settings.formats import (
    CsvFormat,
    Flattening,
    FormatSettings,
    JsonlFormat,
    ParquetFormat,
    TextCompression,
)
from s3dest_dagster.settings.stream_settings import StreamSettings
from s3dest_dagster.stream import Scope, Stream, SyncMode

PLAIN = TextCompression.NONE
JSONL = JsonlFormat(compression=PLAIN)
FORMATS = {
    "jsonl": JSONL,
    "flat jsonl": JsonlFormat(compression=PLAIN, flattening=Flattening.ROOT),
    "csv": CsvFormat(compression=PLAIN),
    "flat csv": CsvFormat(compression=PLAIN, flattening=Flattening.ROOT),
}
EVERY = pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
INTEGER, TEXT = {"type": "integer"}, {"type": "string"}
PLACE = {"type": "object", "properties": {"zipCode": TEXT}}
SCHEMA: dict[str, Any] = {
    "properties": {
        "userId": INTEGER,
        "homePlace": PLACE,
        "allPlaces": {"type": "array", "items": {"type": "array", "items": PLACE}},
    }
}
RECORD = {"userId": 1, "homePlace": {"zipCode": "a"}, "allPlaces": [[{"zipCode": "b"}, None], []]}
RENAMES = {"userId": "id", "homePlace.zipCode": "zip", "allPlaces[][].zipCode": "code"}


def landed(
    server: S3Server,
    settings: S3Destination,
    *records: dict[str, Any],
    schema: dict[str, Any] | None = None,
    rename: dict[str, str] | None = None,
    sync_id: str = "1",
    mode: SyncMode = SyncMode.APPEND,
) -> list[Any]:
    """All records in the bucket after a sync, in the shape that the objects have."""
    lands = Stream(
        name="users", json_schema=schema, sync_mode=mode, settings=StreamSettings.of({"rename": rename or {}})
    )
    with target(server, settings) as opened:
        land([batch_of([each]) for each in records], opened, lands, sync(sync_id))
    found: list[Any] = []
    for key in data_keys(server, settings.s3_bucket_name):
        content = server.client().get_object(Bucket=settings.s3_bucket_name, Key=key)["Body"].read().decode()
        found += _records(content) if key.endswith("jsonl") else _rows(content)
    return found


def _records(content: str) -> list[Any]:
    values = [json.loads(line, object_pairs_hook=_without_repetition) for line in content.splitlines()]
    found = [each.get("_airbyte_data", each) for each in values]
    return [
        {name: value for name, value in each.items() if not name.startswith("_airbyte_e") and name != "_airbyte_ab_id"}
        for each in found
    ]


def _rows(content: str) -> list[Any]:
    rows = list(csv.DictReader(io.StringIO(content)))
    if "_airbyte_data" in rows[0]:
        return [json.loads(row["_airbyte_data"], object_pairs_hook=_without_repetition) for row in rows]
    values = [{name: cell for name, cell in row.items() if not name.startswith("_airbyte") and cell} for row in rows]
    return [
        {name: json.loads(cell) if cell[:1] in "[{0123456789" else cell for name, cell in row.items()} for row in values
    ]


def _without_repetition(members: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(members)) == len(members)
    return dict(members)


def read(server: S3Server, settings: S3Destination) -> pa.Table:
    tables = read_tables(server.open(settings), settings.template, Scope(Stream(name="users").id))
    return pa.concat_tables(tables, promote_options="permissive")


@EVERY
def test_a_rename_has_its_effect_at_every_level(moto_s3: S3Server, format: FormatSettings) -> None:
    settings = destination(moto_s3.new_bucket(), format=format)
    for number in (1, 2):
        found = landed(moto_s3, settings, RECORD, schema=SCHEMA, rename=RENAMES, sync_id=str(number))
    expected = {"id": 1, "homePlace": {"zip": "a"}, "allPlaces": [[{"code": "b"}, None], []]}
    assert found == [expected, expected]
    table = read(moto_s3, settings)
    assert table["id"].to_pylist() == [1, 1]
    assert [row["zip"] for row in table["homePlace"].to_pylist()] == ["a", "a"]
    assert [row[0][0]["code"] for row in table["allPlaces"].to_pylist()] == ["b", "b"]
    assert table["_airbyte_additional_properties"].null_count == 2


@EVERY
@pytest.mark.parametrize("schema", [SCHEMA, None], ids=["declared", "inferred"])
def test_a_style_has_its_effect_at_every_level(
    moto_s3: S3Server, format: FormatSettings, schema: dict[str, Any] | None
) -> None:
    settings = destination(moto_s3.new_bucket(), format=format, name_style="snake")
    for number in (1, 2):
        found = landed(moto_s3, settings, RECORD, schema=schema, sync_id=str(number))
    expected = {"user_id": 1, "home_place": {"zip_code": "a"}, "all_places": [[{"zip_code": "b"}, None], []]}
    assert found == [expected, expected]
    assert read(moto_s3, settings)["home_place"].to_pylist()[1]["zip_code"] == "a"


@EVERY
def test_fields_that_appear_later_in_a_sync_get_their_names(moto_s3: S3Server, format: FormatSettings) -> None:
    settings = destination(moto_s3.new_bucket(), format=format, name_style="snake")
    found = landed(
        moto_s3,
        settings,
        {"userId": 1},
        {"userId": 2, "newField": {"aB": 1}},
        {"newField": {"aB": 2, "cD": [{"eF": 3}]}},
    )
    assert found == [
        {"user_id": 1},
        {"user_id": 2, "new_field": {"a_b": 1}},
        {"new_field": {"a_b": 2, "c_d": [{"e_f": 3}]}},
    ]
    assert [row and row["a_b"] for row in read(moto_s3, settings)["new_field"].to_pylist()] == [None, 1, 2]


@pytest.mark.parametrize("format", [JSONL, FORMATS["flat jsonl"], FORMATS["csv"]], ids=["jsonl", "flat jsonl", "csv"])
def test_a_field_without_a_column_never_shares_a_name(moto_s3: S3Server, format: FormatSettings) -> None:
    settings = destination(moto_s3.new_bucket(), format=format)
    record = {"userId": 1, "id": 2, "homePlace": {"zip": "y", "zipCode": "x"}}
    found = landed(moto_s3, settings, record, record, schema=SCHEMA, rename=RENAMES)
    expected = {
        "id": 1,
        "homePlace": {"zip": "x", "_airbyte_additional_properties": {"zip": "y"}},
        "_airbyte_additional_properties": {"id": 2},
    }
    assert found == [expected, expected]
    table = read(moto_s3, settings)
    assert table["_airbyte_additional_properties"].to_pylist() == [[("id", "2")]] * 2
    assert table["homePlace"].to_pylist()[0]["_airbyte_additional_properties"] == [("zip", "y")]


@EVERY
def test_names_can_be_swapped(moto_s3: S3Server, format: FormatSettings) -> None:
    settings = destination(moto_s3.new_bucket(), format=format)
    swapped = {"o.a": "b", "o.b": "a", "a": "b", "b": "a"}
    inner = {"type": "object", "properties": {"a": INTEGER, "b": INTEGER}}
    schema = {"properties": {"a": INTEGER, "b": INTEGER, "o": inner}}
    found = landed(moto_s3, settings, {"a": 1, "b": 2, "o": {"a": 3, "b": 4}}, schema=schema, rename=swapped)
    assert found == [{"b": 1, "a": 2, "o": {"b": 3, "a": 4}}]
    (row,) = read(moto_s3, settings).to_pylist()
    assert (row["a"], row["b"], row["o"]["a"], row["o"]["b"]) == (2, 1, 4, 3)


def test_a_name_that_another_field_keeps_is_refused(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), format=JSONL)
    schema = {"properties": {"o": {"type": "object", "properties": {"a": INTEGER, "x-y": INTEGER}}}}
    with pytest.raises(SettingsError, match=r"'users': the field 'a' would get the name 'x-y'.*keeps"):
        landed(moto_s3, settings, {"o": {"a": 1, "x-y": 2}}, schema=schema, rename={"o.a": "x-y"})
    assert data_keys(moto_s3, settings.s3_bucket_name) == []


@EVERY
@pytest.mark.parametrize("mode", [SyncMode.APPEND, SyncMode.FULL_REFRESH])
def test_a_rename_may_come_late_and_go_again(moto_s3: S3Server, format: FormatSettings, mode: SyncMode) -> None:
    """A column keeps the name that it was once given, as in Parquet."""
    schema = {"properties": {"e-mail": TEXT, "id": INTEGER}}
    settings = destination(moto_s3.new_bucket(), format=format)
    for number, rename in enumerate([{}, {"e-mail": "mail"}, {}]):
        found = landed(
            moto_s3,
            settings,
            {"e-mail": f"m{number}", "id": 1},
            schema=schema,
            rename=rename,
            sync_id=str(number),
            mode=mode,
        )
    appended = [{"e-mail": "m0", "id": 1}, {"mail": "m1", "id": 1}, {"mail": "m2", "id": 1}]
    assert found == (appended if mode is SyncMode.APPEND else appended[-1:])
    table = read(moto_s3, settings)
    assert [value for value in table["mail"].to_pylist() if value] == (
        ["m1", "m2"] if mode is SyncMode.APPEND else ["m2"]
    )


def test_a_rename_that_came_late_and_went_again_is_the_same_in_parquet(moto_s3: S3Server) -> None:
    schema = {"properties": {"e-mail": TEXT, "id": INTEGER}}
    settings = destination(moto_s3.new_bucket(), format=ParquetFormat())
    for number, rename in enumerate([{}, {"e-mail": "mail"}, {}]):
        lands = Stream(
            name="users",
            json_schema=schema,
            sync_mode=SyncMode.APPEND,
            settings=StreamSettings.of({"rename": rename}),
        )
        with target(moto_s3, settings) as opened:
            land([batch_of([{"e-mail": f"m{number}", "id": 1}])], opened, lands, sync(str(number)))
    rows = read(moto_s3, settings).to_pylist()
    assert [(row.get("e_mail"), row.get("mail")) for row in rows] == [("m0", None), (None, "m1"), (None, "m2")]


def test_without_a_name_to_change_records_are_not_even_parsed(moto_s3: S3Server) -> None:
    for style, schema in (("connector", SCHEMA), ("snake", {"properties": {"user_id": INTEGER}})):
        rules = EvolutionRules(is_typed=False, name_style=NameStyle(style))
        record = evolve(StreamColumns(), record_type(schema, "users", None), rules).record
        assert not JsonNames(record)
        assert not SourceNames(record)


_names = st.sampled_from(["aB", "a_b", "AB", "ab", "x y", "名", "", "é", "e\u0301", "_airbyte_ab_id", "\x00"])
_values = st.recursive(
    st.integers() | st.text(max_size=3) | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(st.dictionaries(_names, _values, max_size=4), min_size=1, max_size=3), st.sampled_from(["snake", "lower"])
)
def test_the_names_of_the_source_come_back(records: list[dict[str, Any]], style: str) -> None:
    raws = [json.dumps(each, ensure_ascii=False, separators=(",", ":")).encode() for each in records]
    rules = EvolutionRules(is_typed=False, is_declared=False, name_style=NameStyle(style))
    record = evolve(StreamColumns(), record_type(json_schema_of_records(raws), "users", None), rules).record
    there, back = JsonNames(record), SourceNames(record)
    renamed = there.apply(raws, {}) if there else raws  # type: ignore[arg-type]
    for raw, text in zip(raws, renamed, strict=True):
        json.loads(text, object_pairs_hook=_without_repetition)
        restored = back.apply(text) if back else text
        assert json.loads(restored) == json.loads(raw)
