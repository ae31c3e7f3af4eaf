"""Record types as compact JSON values, for manifests: which column a source's field has, and of which type.

A field is `[source, id, kind]`, then its column's name if that differs, then the Avro doc if that is unusual. The
name is null if it is `standard_name(source)` and the source's name is ASCII. After the doc comes true if text formats
have the column's name in place of the source's. A kind is a word, or a list that begins
with one: `["object", fields]`, `["array", item]`, `["tuple", item]`, `["union", kind, …]`.
Must not know: what a stream remembers, where the JSON is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.decimal import DECIMAL_TEXT, Decimal
from s3dest_dagster.columns.kinds.json_text import JSON_TEXT, LIST_TEXT
from s3dest_dagster.columns.kinds.number import DOUBLE, FLOAT, LONG
from s3dest_dagster.columns.kinds.record import Field, Record
from s3dest_dagster.columns.kinds.scalar import BOOLEAN, BYTES, NULL, STRING
from s3dest_dagster.columns.kinds.temporal import DATE, LOCAL_TIMESTAMP, TIME, TIMESTAMP
from s3dest_dagster.columns.kinds.union import Union
from s3dest_dagster.columns.names import original_name_doc, standard_name
from s3dest_dagster.errors import ManifestError
from s3dest_dagster.settings.formats import EnvelopeName

JsonValue = Any
"""Lists, texts and numbers, and objects with text keys."""
_SCALARS = {
    kind.code: kind
    for kind in (
        STRING,
        BOOLEAN,
        BYTES,
        NULL,
        LONG,
        DOUBLE,
        FLOAT,
        DATE,
        TIME,
        TIMESTAMP,
        LOCAL_TIMESTAMP,
        JSON_TEXT,
        LIST_TEXT,
        DECIMAL_TEXT,
    )
}
_ENVELOPE: EnvelopeName = "airbyte_0"
"""The envelope of a record type that names none."""
_ITEMS = ".items"
"""What the converter adds to a field's name for the record of its items."""


def record_to_json(record: Record) -> JsonValue:
    """The record type as a JSON value. `record_from_json` gives an equal record type, which keeps undeclared fields."""
    return {
        "name": record.name,
        "namespace": record.namespace,
        "fields": fields_to_json(record.fields),
        **({"doc": record.doc} if record.doc else {}),
        **({"envelope": record.envelope} if record.envelope != _ENVELOPE else {}),
    }


def record_from_json(value: JsonValue) -> Record:
    """The record type of a JSON value. Raises ManifestError if it is none, or has kinds of a newer version."""
    with reading_columns():
        name, namespace = value["name"], value["namespace"]
        fields, envelope = fields_from_json(value["fields"]), value.get("envelope", _ENVELOPE)
        return Record(name, namespace, fields, value.get("doc"), envelope=envelope)


def fields_to_json(fields: Sequence[Field], enclosing: str = "") -> list[JsonValue]:
    """The fields of the root, or of a record with this full name."""
    return [_field_to_json(field, enclosing) for field in fields]


def fields_from_json(value: Sequence[JsonValue], enclosing: str = "") -> tuple[Field, ...]:
    """The fields of the root, or of a record with this full name."""
    return tuple(_field_from_json(each, enclosing) for each in value)


def _field_to_json(field: Field, enclosing: str) -> list[JsonValue]:
    entry: list[JsonValue] = [field.source, field.id, _kind_to_json(field.kind, field.source, enclosing)]
    has_usual_doc = field.doc == original_name_doc(field.source, field.name)
    if field.name != field.source or not has_usual_doc or field.is_titled:
        entry.append(None if field.name == _derived_name(field.source) else field.name)
    if not has_usual_doc or field.is_titled:
        entry.append(field.doc)
    return [*entry, True] if field.is_titled else entry


def _field_from_json(entry: Sequence[JsonValue], enclosing: str) -> Field:
    source, number, code, *rest = entry
    name = source if not rest else standard_name(source) if rest[0] is None else rest[0]
    doc = rest[1] if len(rest) > 1 else original_name_doc(source, name)
    return Field(name, source, _kind_from_json(code, source, enclosing), doc, number, is_titled=len(rest) > 2)


def _derived_name(source: str) -> str | None:
    """The name that need not be written. Not every version of Unicode has the same rule for names of other letters."""
    return standard_name(source) if source.isascii() else None


def _kind_to_json(kind: Kind, name: str, enclosing: str) -> JsonValue:
    if isinstance(kind, Record):
        own = {"name": kind.name, "namespace": kind.namespace, "doc": kind.doc}
        usual = _usual(name, enclosing)
        unusual = {key: value for key, value in own.items() if value != usual[key]}
        return ["object", fields_to_json(kind.fields, full_name(kind)), *([unusual] if unusual else [])]
    if isinstance(kind, Array):
        return ["array" if kind.fallback else "tuple", _kind_to_json(kind.item, name + _ITEMS, enclosing)]
    if isinstance(kind, Union):
        return ["union", *(_kind_to_json(branch, name, enclosing) for branch in kind.branches)]
    return kind.code


def _kind_from_json(code: JsonValue, name: str, enclosing: str) -> Kind:
    if isinstance(code, str):
        return _SCALARS.get(code) or Decimal.of_code(code)
    word, *parts = code
    if word == "object":
        own = _usual(name, enclosing) | (parts[1] if len(parts) > 1 else {})
        outer = Record(own["name"], own["namespace"], (), own["doc"])
        return Record(outer.name, outer.namespace, fields_from_json(parts[0], full_name(outer)), outer.doc)
    if word in ("array", "tuple"):
        return Array(_kind_from_json(parts[0], name + _ITEMS, enclosing), word == "array")
    if word == "union":
        return Union(tuple(_kind_from_json(part, name, enclosing) for part in parts))
    raise KeyError(word)


def _usual(name: str, enclosing: str) -> dict[str, str | None]:
    """The names of a record that most records have."""
    written = standard_name(name)
    return {"name": written, "namespace": enclosing or None, "doc": original_name_doc(name, written)}


def full_name(record: Record) -> str:
    """The Avro record's name with its namespace."""
    return f"{record.namespace}.{record.name}" if record.namespace else record.name


@contextmanager
def reading_columns() -> Iterator[None]:
    """Raises ManifestError in place of what a wrong JSON value raises in this context."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ManifestError(
            f"A manifest has columns that cannot be read ({error!r}). Another version of the library wrote it: use "
            "that version or a newer one."
        ) from error
