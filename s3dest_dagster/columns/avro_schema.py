"""The Avro schema of a record type, as the connector writes it (version 0.6.2). It must not know Arrow or data."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from s3dest_dagster.columns.types import EMITTED_AT, OVERFLOW, RECORD_ID, Array, Field, Kind, Record, Scalar, Union
from s3dest_dagster.columns.unions import branches

_LOGICAL: dict[Scalar, dict[str, str]] = {
    Scalar.DATE: {"type": "int", "logicalType": "date"},
    Scalar.TIME: {"type": "long", "logicalType": "time-micros"},
    Scalar.TIMESTAMP: {"type": "long", "logicalType": "timestamp-micros"},
}
_ENVELOPE: tuple[dict[str, Any], ...] = (
    {"name": RECORD_ID, "type": {"type": "string", "logicalType": "uuid"}},
    {"name": EMITTED_AT, "type": {"type": "long", "logicalType": "timestamp-millis"}},
)
_OVERFLOW: dict[str, Any] = {
    "name": OVERFLOW,
    "type": ["null", {"type": "map", "values": "string"}],
    "default": None,
}


def avro_schema(record: Record, *, envelope: bool = True) -> dict[str, Any]:
    """The Avro schema as JSON values. With `envelope`, the record id and emission time come first; every record level
    ends with the overflow map."""
    return _record(record, None, _ENVELOPE if envelope else ())


def avro_schema_text(record: Record) -> str:
    """The canonical text of the schema with its envelope: the same record type gives the same text."""
    return json.dumps(avro_schema(record), ensure_ascii=False, separators=(",", ":"))


def fingerprint(record: Record) -> str:
    """SHA-256 of the canonical text, in hexadecimal."""
    return sha256(avro_schema_text(record).encode()).hexdigest()


def _record(record: Record, enclosing: str | None, first: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """Avro inherits the enclosing namespace, so it is written where it differs; "" leaves all namespaces."""
    written: dict[str, Any] = {"type": "record", "name": record.name}
    if record.namespace != enclosing:
        written["namespace"] = record.namespace or ""
    if record.doc:
        written["doc"] = record.doc
    fields = [_field(field, record.namespace) for field in record.fields]
    written["fields"] = [*first, *fields, _OVERFLOW]
    return written


def _field(field: Field, enclosing: str | None) -> dict[str, Any]:
    doc = {"doc": field.doc} if field.doc else {}
    return {"name": field.name, **doc, "type": _nullable(field.kind, enclosing), "default": None}


def _nullable(kind: Kind, enclosing: str | None, *, fallback: bool = True) -> Any:
    if kind is Scalar.NULL:
        return "null"
    return ["null", *(_branch(branch, enclosing) for branch in branches(kind, fallback=fallback))]


def _branch(kind: Kind, enclosing: str | None) -> Any:
    if isinstance(kind, Array):
        return {"type": "array", "items": _nullable(kind.item, enclosing, fallback=kind.fallback)}
    if isinstance(kind, Record):
        return _record(kind, enclosing)
    assert not isinstance(kind, Union)  # a branch is never a union
    return _LOGICAL.get(kind, kind.value)
