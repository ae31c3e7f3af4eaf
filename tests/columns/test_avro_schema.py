"""The Avro schema beyond the connector's cases: namespaces, envelope, text."""

from __future__ import annotations

import json
from random import Random

import fastavro
import pytest
from columns.avro_kinds import unwrapped
from columns.junk import Taste, json_schema, record
from fastavro.validation import validate

from s3dest_dagster.columns.converter import convert_record
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.schemas import avro_schema, avro_schema_text

NESTED = {"properties": {"a": {"type": "object", "properties": {"b": {"type": "object"}}}}}


def test_namespaces_are_written_only_if_they_change():
    plain = avro_schema(record_type(NESTED, "s", None), envelope=False)
    inner = plain["fields"][0]["type"][1]
    assert "namespace" not in plain
    assert "namespace" not in inner
    assert inner["fields"][0]["type"][1]["namespace"] == "a"
    spaced = avro_schema(record_type(NESTED, "s", "n"), envelope=False)
    assert spaced["namespace"] == "n"
    assert spaced["fields"][0]["type"][1]["namespace"] == ""


def test_the_envelope_comes_first_and_the_overflow_last():
    names = [field["name"] for field in avro_schema(record_type(NESTED, "s", None))["fields"]]
    assert names == ["_airbyte_ab_id", "_airbyte_emitted_at", "a", "_airbyte_additional_properties"]


def test_the_text_is_the_schema_without_whitespace():
    record = record_type({"properties": {"ü": {"type": "string"}}}, "s", None)
    assert json.loads(avro_schema_text(record)) == avro_schema(record)
    assert ": " not in avro_schema_text(record)
    assert "_airbyte_original_name:ü" in avro_schema_text(record)


@pytest.mark.parametrize("seed", range(60))
def test_any_json_schema_produces_a_legal_avro_schema_for_its_records(seed):
    r = Random(seed)
    schema = json_schema(r, plain=False)
    record_kind = record_type(schema, "s", r.choice([None, "n"]))
    parsed = fastavro.parse_schema(without_logical_types(avro_schema(record_kind, envelope=False)))
    for _ in range(20):
        raw = record(r, schema, Taste(0.2, 0.3, 48, True, True))
        values, _ = convert_record(record_kind, raw, layout=Layout.AVRO)
        assert validate(without_nulls(unwrapped(values)), parsed), raw.decode()


def without_logical_types(schema):
    """The schema with plain numbers for dates and times, as the rules produce them."""
    if isinstance(schema, dict):
        return {name: without_logical_types(inner) for name, inner in schema.items() if name != "logicalType"}
    return [without_logical_types(branch) for branch in schema] if isinstance(schema, list) else schema


def without_nulls(value):
    """Records without their null fields, which Avro's defaults represent."""
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value
