"""Infers the JSON schema of data that has none, from the types of Arrow columns or from a first batch of records.

Must not know: record types, since `record_type` converts the schema like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from s3dest_dagster.batch import ArrowBatch, Batch, FieldPath, ValueType, ValueTypes
from s3dest_dagster.columns.arrow_types import is_any_binary, is_any_list, is_any_string, is_document
from s3dest_dagster.columns.binary_columns import as_list, as_object
from s3dest_dagster.columns.decimals import KEYWORD, Digits, keyword_of
from s3dest_dagster.columns.json_forms import has_form
from s3dest_dagster.columns.kinds.number import integer, is_exact_double, nearest_double

MAX_INFERRED_DEPTH = 50
"""The most levels of objects and arrays that are inferred from a first batch. Deeper ones become JSON text."""
MAX_INFERRED_FIELDS = 2_000
"""The most names of one level that become fields. Further ones go to the overflow."""

_LONG = "integer beyond doubles"
_DECIMAL = "number beyond doubles"
_NULLABLE_STRING: dict[str, Any] = {"type": ["null", "string"]}
_UNKNOWN: dict[str, Any] = {"type": "null"}
_SCHEMAS: Mapping[ValueType, Mapping[str, Any]] = {
    ValueType.FLOAT: {"type": "number", "airbyte_type": "float"},
    ValueType.DATE: {**_NULLABLE_STRING, "format": "date"},
    ValueType.TIME: {**_NULLABLE_STRING, "format": "time"},
    ValueType.TIMESTAMP: {**_NULLABLE_STRING, "format": "date-time"},
    ValueType.LOCAL_TIMESTAMP: {
        **_NULLABLE_STRING,
        "format": "date-time",
        "airbyte_type": "timestamp_without_timezone",
    },
    ValueType.BYTES: {"$ref": "WellKnownTypes.json#/definitions/BinaryData"},
}
"""The schemas of values whose type JSON lacks, the same for records and for Arrow data."""


def inferred_schema(batch: Batch) -> Mapping[str, Any]:
    """The JSON schema that the values of a batch show."""
    if isinstance(batch, ArrowBatch):
        return json_schema_of_arrow(batch.data.schema)
    return json_schema_of_records(batch.raws, batch.types)


def json_schema_of_arrow(schema: pa.Schema) -> dict[str, Any]:
    """The JSON schema of Arrow data. Every column is nullable.

    A duration is an integer: the count of its unit. A decimal has the digits of its type, and later more if it needs
    them. Types that JSON lacks (intervals, maps whose keys are not texts) are strings with the value's text.
    """
    return _object_of((field.name, field.type) for field in schema)


def json_schema_of_records(raws: Sequence[bytes], types: ValueTypes = frozenset()) -> dict[str, Any]:
    """The JSON schema of these records by the types of their values. Every field is nullable, in first-seen order.

    A field with integers and other numbers is a number. If neither an int64 nor a double holds all numbers of a field
    exactly, it is a decimal, whose digits only its values show. A field that is always null, and the items of an array
    that is always empty, have the type null: it is not known yet. Values of other types in later records are coerced or
    overflow, as under any schema.

    Args:
        raws: The records.
        types: The fields whose values are decimals, dates and so on. If all values of a field can be of its type, it
            has the schema that the same values have in Arrow.
    """
    seen = _SeenTypes(dict(types))
    for raw in raws:
        seen.add(bytes(raw), 0)
    return seen.object_schema()


def with_further_fields(known: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """An inferred schema with the root fields that later records have shown, and the types of fields whose type was not
    known."""
    fields = dict(known.get("properties") or {})
    for name, definition in (seen.get("properties") or {}).items():
        if fields.get(name, _UNKNOWN) == _UNKNOWN:
            fields[name] = definition
    return {"type": "object", **known, "properties": fields}


def with_seen_types(declared: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """A declared schema in which the fields and items whose only type is null have the types that records show.

    Args:
        declared: The declared schema.
        seen: The schema that is inferred from records.
    """
    completed = dict(declared)
    if isinstance(properties := declared.get("properties"), Mapping):
        shown = seen.get("properties") or {}
        completed["properties"] = {
            name: _with_seen_type(definition, shown.get(name, {})) for name, definition in properties.items()
        }
    if isinstance(declared.get("items"), Mapping):
        completed["items"] = _with_seen_type(declared["items"], seen.get("items", {}))
    return completed


def _with_seen_type(declared: Any, seen: Mapping[str, Any]) -> Any:
    if not isinstance(declared, Mapping):
        return declared
    if declared.get("type") in ("null", ["null"]) and "type" in seen:
        return seen
    return with_seen_types(declared, seen)


class _SeenTypes:
    """The types of the values at one position of a first batch.

    Args:
        marked: The types that the source says this position and those below have.
    """

    def __init__(self, marked: Mapping[FieldPath, ValueType]) -> None:
        self.types: dict[str, None] = {}
        self.fields: dict[str, _SeenTypes] = {}
        self.items: _SeenTypes | None = None
        self._marked = marked
        self._type = marked.get(())
        """The type of all values so far, if JSON lacks it."""

    def add(self, raw: bytes, depth: int) -> None:
        name = _json_type(raw)
        if depth > MAX_INFERRED_DEPTH and name in ("object", "array"):
            name = "string"
        if name == "null":
            return
        self.types[name] = None
        if self._type is ValueType.DECIMAL:
            self.types[_DECIMAL] = None
        elif self._type is not None and not has_form(raw, self._type):
            self._type = None
        if name == "object":
            self._add_fields(raw, depth)
        elif name == "array":
            self.items = self.items or _SeenTypes(self._below(None))
            for item in as_list(raw):
                self.items.add(bytes(item), depth + 1)

    def _add_fields(self, raw: bytes, depth: int) -> None:
        for name, value in as_object(raw).items():
            if name not in self.fields:
                if len(self.fields) == MAX_INFERRED_FIELDS:
                    continue
                self.fields[name] = _SeenTypes(self._below(name))
            self.fields[name].add(bytes(value), depth + 1)

    def _below(self, step: str | None) -> Mapping[FieldPath, ValueType]:
        return {path[1:]: type_ for path, type_ in self._marked.items() if path and path[0] == step}

    def object_schema(self) -> dict[str, Any]:
        return {"type": "object", "properties": {name: field.schema() for name, field in self.fields.items()}}

    def schema(self) -> dict[str, Any]:
        types = _merged_types(self.types)
        if not types:
            return _UNKNOWN
        if self._type is not None and self._type in _SCHEMAS:
            return dict(_SCHEMAS[self._type])
        schema: dict[str, Any] = {"type": ["null", *types]}
        if _has_decimals(self.types):
            schema[KEYWORD] = {}
        if "object" in types:
            schema["properties"] = self.object_schema()["properties"]
        if self.items:
            schema["items"] = self.items.schema()
        return schema


_NUMERIC = frozenset({"integer", _LONG, "number", _DECIMAL})


def _merged_types(seen: Iterable[str]) -> list[str]:
    """The JSON schema types of these values. All numbers have one type."""
    numbers = "number" if {"number", _DECIMAL}.intersection(seen) else "integer"
    return list(dict.fromkeys(numbers if name in _NUMERIC else name for name in seen))


def _has_decimals(seen: Collection[str]) -> bool:
    """Whether only a decimal holds all these numbers exactly."""
    return _DECIMAL in seen or (_LONG in seen and "number" in seen)


def _json_type(raw: bytes) -> str:
    """The JSON schema type of one JSON text, or _LONG or _DECIMAL."""
    first = raw[:1]
    named = {b'"': "string", b"{": "object", b"[": "array", b"t": "boolean", b"f": "boolean", b"n": "null"}.get(first)
    if named:
        return named
    text = raw.decode()
    value = nearest_double(text)
    exact = value is not None and is_exact_double(text, value)
    if integer(text) is not None:
        return "integer" if exact else _LONG
    return "number" if exact else _DECIMAL


def _object_of(fields: Iterable[tuple[str, pa.DataType]]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: _of_arrow(kind) for name, kind in fields}}


def _of_arrow(kind: pa.DataType) -> Mapping[str, Any]:
    """The nullable JSON schema of one Arrow type."""
    if is_document(kind):
        return {"type": ["null", "object"]}
    if isinstance(kind, pa.BaseExtensionType):
        return _of_arrow(kind.storage_type)
    if pt.is_dictionary(kind) or pt.is_run_end_encoded(kind):
        return _of_arrow(kind.value_type)
    if pt.is_struct(kind):
        return {**_object_of((field.name, field.type) for field in kind), "type": ["null", "object"]}
    if pt.is_map(kind):
        return {"type": ["null", "object"]} if is_any_string(kind.key_type) else _NULLABLE_STRING
    if is_any_list(kind):
        return {"type": ["null", "array"], "items": _of_arrow(kind.value_type)}
    return _of_arrow_scalar(kind)


def _of_arrow_scalar(kind: pa.DataType) -> Mapping[str, Any]:
    if pt.is_integer(kind) or pt.is_duration(kind):
        return {"type": ["null", "integer"]}
    if pt.is_float64(kind):
        return {"type": ["null", "number"]}
    if pt.is_decimal(kind):
        digits = Digits(kind.precision - kind.scale, max(kind.scale, 0))
        return {"type": ["null", "number"], KEYWORD: keyword_of(digits)}
    if pt.is_boolean(kind):
        return {"type": ["null", "boolean"]}
    if pt.is_null(kind):
        return _UNKNOWN
    type_ = _value_type(kind)
    return _NULLABLE_STRING if type_ is None else _SCHEMAS[type_]


def _value_type(kind: pa.DataType) -> ValueType | None:
    """The type of a scalar Arrow type's values, if JSON lacks it."""
    if pt.is_float32(kind) or pt.is_float16(kind):
        return ValueType.FLOAT
    if pt.is_timestamp(kind):
        return ValueType.LOCAL_TIMESTAMP if kind.tz is None else ValueType.TIMESTAMP
    if pt.is_date(kind):
        return ValueType.DATE
    if pt.is_time(kind):
        return ValueType.TIME
    return ValueType.BYTES if is_any_binary(kind) else None
