"""Values that nest too deep for Parquet's readers become JSON text, and nothing else changes."""

from __future__ import annotations

import pytest

from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.kinds.scalar import STRING
from s3dest_dagster.columns.schemas import within_parquet

TIMESTAMP = {"type": "string", "format": "date-time"}


def lists(levels, schema):
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def objects(levels, schema):
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def record_of(schema) -> Record:
    return record_type({"properties": {"f": schema, "other": {"type": "integer"}}}, "s", None)


@pytest.mark.parametrize(
    "schema",
    [
        lists(49, {"type": "integer"}),
        lists(48, TIMESTAMP),
        lists(48, {"type": ["integer", "boolean"]}),
        objects(96, {"type": "integer"}),
        objects(94, lists(2, {})),
    ],
    ids=["lists", "lists of timestamps", "lists of unions", "objects", "lists in objects"],
)
def test_a_type_that_is_not_too_deep_stays_unchanged(schema):
    assert within_parquet(record_of(schema)) == record_of(schema)


@pytest.mark.parametrize(
    ("schema", "levels"),
    [
        (lists(50, {"type": "integer"}), 49),
        (lists(49, TIMESTAMP), 49),
        (lists(49, {"type": ["integer", "boolean"]}), 49),
        (objects(97, {"type": "integer"}), 96),
        (objects(95, lists(2, {})), 96),
    ],
    ids=["lists", "lists of timestamps", "lists of unions", "objects", "lists in objects"],
)
def test_the_first_position_that_is_too_deep_becomes_text(schema, levels):
    landed = within_parquet(record_of(schema))
    assert landed.fields[1] == record_of(schema).fields[1]
    kind, depth = landed.fields[0].kind, 0
    while kind is not STRING:
        kind = kind.item if isinstance(kind, Array) else kind.fields[0].kind
        depth += 1
    assert depth == levels
