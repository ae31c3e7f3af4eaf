"""The Avro schema that a Parquet file's columns have, for readers such as parquet-avro that read it from the file.

Such a reader takes the schema for the columns' shape. The connector's union layout has the shape of the stream's own
Avro schema; with named members a union is a record, and a temporal column has no text beside it. It must not know data.
"""

from __future__ import annotations

import json
from typing import Any

from s3dest_dagster.columns.kinds import Kind, Layout
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.kinds.union import Position
from s3dest_dagster.columns.schemas import avro_schema


def avro_schema_of_columns(record: Record, layout: Layout) -> str:
    """The schema as JSON text, with the envelope."""
    schema = avro_schema(record)
    if layout is Layout.NAMED:
        _name_unions(schema, record, len(schema["fields"]) - len(record.fields) - 1, record.name)
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


def _name_unions(schema: dict[str, Any], record: Record, skipped: int, path: str) -> None:
    """Rewrites the types of a record level's fields; `skipped` fields stand before its own."""
    for written, field in zip(schema["fields"][skipped:], record.fields, strict=False):
        written["type"] = _position(written["type"], field.kind, f"{path}_{field.name}", fallback=True)


def _position(written: Any, kind: Kind, path: str, *, fallback: bool) -> Any:
    """The type of a field or item. `written` is "null" or a union that begins with null."""
    if written == "null":
        return written
    named = Position(kind, fallback).members(Layout.NAMED)
    if not named:
        return ["null", _branch(written[1], kind, path)]
    fields = [
        {"name": name, "type": ["null", _branch(branch, part, f"{path}_{name}")], "default": None}
        for branch, (name, part) in zip(written[1:], named, strict=False)  # a fallback text has no member
    ]
    return ["null", {"type": "record", "name": f"{path}_union", "namespace": "", "fields": fields}]


def _branch(written: Any, kind: Kind, path: str) -> Any:
    if isinstance(kind, Array):
        return {**written, "items": _position(written["items"], kind.item, f"{path}_item", fallback=kind.fallback)}
    if isinstance(kind, Record):
        _name_unions(written, kind, 0, path)
    return written
