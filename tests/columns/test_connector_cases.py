"""Every known case of the connector: its schemas exactly, and its values except for the listed differences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from columns.avro_kinds import kind_of_avro, unwrapped
from columns.differences import OVERFLOW as OVERFLOWED
from columns.differences import RECORDS, TEMPORALS, VALUES, Inexact

from s3dest_dagster.columns.converter import convert_record
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.kinds.record import Field, Record
from s3dest_dagster.columns.kinds.temporal import date_days, time_micros, timestamp_micros
from s3dest_dagster.columns.names import OVERFLOW, standard_name
from s3dest_dagster.columns.schemas import EMITTED_AT, RECORD_ID, avro_schema

CASES = Path(__file__).resolve().parents[2].parent / "shared" / "cases"

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"the connector's cases are not at {CASES}")


def read(name: str) -> list[dict[str, Any]]:
    path = CASES / name
    return json.loads(path.read_text()) if path.exists() else []


def temporal_cases() -> list[list[str]]:
    path = CASES / "derived" / "json_avro_datetimes.tsv"
    return [line.split("\t") for line in path.read_text().splitlines()[1:]] if path.exists() else []


@pytest.mark.parametrize("case", read("json_conversion_test_cases_v0.json"), ids=lambda case: case["schemaName"])
def test_the_avro_schema_equals_that_of_the_connector(case):
    record = record_type(case["jsonSchema"], case["schemaName"], case.get("namespace"))
    assert avro_schema(record, envelope=case["appendAirbyteFields"]) == case["avroSchema"]


@pytest.mark.parametrize("case", read("type_conversion_test_cases_v0.json"), ids=lambda case: case["fieldName"])
def test_the_avro_type_of_a_field_equals_that_of_the_connector(case):
    schema = avro_schema(record_type({"properties": {case["fieldName"]: case["jsonFieldSchema"]}}, "stream", None))
    types = {field["name"]: field["type"] for field in schema["fields"]}
    name = OVERFLOW if case["fieldName"] == "_ab_additional_properties" else case["fieldName"]
    assert types[name] == case["avroFieldType"]


@pytest.mark.parametrize("case", read("json_conversion_test_cases_v0.json"), ids=lambda case: case["schemaName"])
def test_a_record_lands_as_with_the_connector(case):
    record = record_type(case["jsonSchema"], case["schemaName"], case.get("namespace"))
    data = {k: v for k, v in case["jsonObject"].items() if k not in (RECORD_ID, EMITTED_AT)}
    values, _ = convert_record(record, json.dumps(data, separators=(",", ":")).encode(), layout=Layout.AVRO)
    expected, _ = RECORDS.get(case["schemaName"], (case["avroObject"], None))
    expected = {k: v for k, v in expected.items() if k not in (RECORD_ID, EMITTED_AT)}
    assert with_absent(record, unwrapped(values)) == with_absent(record, expected)


def with_absent(record: Record, values: Any) -> Any:
    """The record with every declared field, null if it is missing. If fields nest in lists, then a list of such
    records."""
    if isinstance(values, list):
        return [with_absent(record, value) for value in values]
    if not isinstance(values, dict):
        return values
    absent = {field.name: None for field in record.fields}
    return {**absent, **{k: without_nulls(v) for k, v in values.items()}}


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "case",
    read("derived/json_avro_values.json"),
    ids=lambda case: f"{json.dumps(case['avroFieldType'])[:40]}-{case['jsonValueText']}",
)
def test_a_value_lands_as_with_the_connector_or_as_listed(case):
    try:
        kind = kind_of_avro(case["avroFieldType"])
    except KeyError:
        pytest.skip("an Avro type that no JSON schema gives since version 0.4.0")
    raw = case["jsonValueText"]
    record = Record("stream", None, (Field("f", "f", kind),))
    values, _ = convert_record(record, b'{"f":%b}' % raw.encode(), layout=Layout.AVRO)
    landed, over = unwrapped(values.get("f")), dict(values[OVERFLOW] or ())
    key = (json.dumps(case["avroFieldType"]), raw)
    if key not in VALUES:
        assert case["outcome"] == "value", "the connector fails here, so what we do must be a listed difference"
        assert as_the_table_writes(landed, case["avroValueText"]) == as_json(case["avroValueText"])
        assert not over
        return
    ours, _ = VALUES[key]
    text = json.loads(raw) if raw.startswith('"') else raw
    if ours is OVERFLOWED:
        assert (landed, over) == (None, {"f": text})
    elif isinstance(ours, Inexact):
        assert (landed, over) == (ours.value, {"f": text})
    else:
        assert (landed, over) == (ours, {})


def as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def as_the_table_writes(landed: Any, text: str) -> Any:
    """The value in the form of the table, which writes Java's text of a value: numbers in lists and the quotes of
    strings are lost."""
    if isinstance(landed, str) and not isinstance(as_json(text), str):
        return as_json(landed)
    if isinstance(landed, dict):
        return {"id": None, **landed} if "id" in as_json(text) else without_nulls(landed)
    if isinstance(landed, list):
        return [as_json(item) if isinstance(item, str) else item for item in landed]
    return landed


@pytest.mark.parametrize("case", temporal_cases(), ids=lambda case: f"{case[0]}-{case[1]}")
def test_a_temporal_text_is_parsed_as_by_the_connector_or_as_listed(case):
    kind, text, theirs = case
    parse = {"TS": timestamp_micros, "DATE": date_days, "TIME": time_micros}[kind]
    expected = None if theirs == "null" else int(theirs)
    assert parse(text) == TEMPORALS.get((kind, text), (expected, None))[0]


@pytest.mark.parametrize("case", read("json_field_name_updater_test_case.json"), ids=lambda case: case["name"])
def test_names_are_standardised_as_by_the_connector(case):
    assert {name: standard_name(name) for name in case["nameMap"]} == case["nameMap"]


def test_every_listed_difference_is_a_case_of_the_tables():
    tables = {(json.dumps(c["avroFieldType"]), c["jsonValueText"]) for c in read("derived/json_avro_values.json")}
    assert set(VALUES) <= tables
    assert set(TEMPORALS) <= {(kind, text) for kind, text, _ in temporal_cases()}
    assert set(RECORDS) <= {case["schemaName"] for case in read("json_conversion_test_cases_v0.json")}
