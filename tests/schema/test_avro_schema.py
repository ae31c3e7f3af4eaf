"""The Avro schema beyond the connector's cases: namespaces, envelope, text."""

from __future__ import annotations

import json

from s3dest_dagster.schema import avro_schema, avro_schema_text, record_type

NESTED = {"properties": {"a": {"type": "object", "properties": {"b": {"type": "object"}}}}}


def test_namespaces_are_written_only_where_they_change():
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


def test_the_text_is_the_schema_without_blanks():
    record = record_type({"properties": {"ü": {"type": "string"}}}, "s", None)
    assert json.loads(avro_schema_text(record)) == avro_schema(record)
    assert ": " not in avro_schema_text(record)
    assert "_airbyte_original_name:ü" in avro_schema_text(record)
