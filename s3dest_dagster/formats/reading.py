"""Shared code of all formats' readers: makes columns in `Layout.NAMED` from JSON lines or from rows of Python values.

It is for people who read landed objects, and for tests: it reads whole objects into memory. Must not know: S3, commits,
the format of a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s3dest_dagster.batch import TARGET_BATCH_BYTES, JsonBatch
from s3dest_dagster.columns.converter import RecordConverter
from s3dest_dagster.columns.kinds import Kind, Layout
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.kinds.scalar import STRING
from s3dest_dagster.columns.kinds.union import Position
from s3dest_dagster.columns.names import OVERFLOW
from s3dest_dagster.columns.schemas import (
    META,
    META_TYPE,
    arrow_schema,
    emitted_at_column,
    envelope_of,
    within_parquet,
)


class Line(NamedTuple):
    """A record of a text format. Without an envelope, only `record` has a meaning."""

    id: str
    emitted_at: int
    record: bytes
    """Its JSON text."""
    meta: bytes = b"null"
    """The JSON text of `_airbyte_meta`, in the envelope that has it."""
    generation_id: int | None = None
    """The generation, in the envelope that has it."""


ROWS_AT_ONCE = 10_000


def table_schema(record: Record) -> pa.Schema:
    """The columns that `read_table` returns for this record type."""
    return schema_of(within_parquet(record))


def schema_of(record: Record) -> pa.Schema:
    """The envelope columns, and the columns of the record's fields."""
    return pa.schema([*envelope_of(record).arrow, *arrow_schema(record, layout=Layout.NAMED)])


def table_of_lines(record: Record, lines: Iterable[Line]) -> pa.Table:
    """The table of the records of a text format."""
    record = within_parquet(record)
    schema, converter = schema_of(record), RecordConverter(record, layout=Layout.NAMED)
    batches = []
    for chunk in _chunks(lines):
        raws = tuple(line.record for line in chunk)
        times = np.array([line.emitted_at for line in chunk], np.int64)
        converted = converter.convert(JsonBatch(raws, times, sum(map(len, raws)))).data
        columns = [*_envelope_columns(record, chunk, times), *converted.columns]
        batches.append(pa.RecordBatch.from_arrays(columns, schema=schema))
    return pa.Table.from_batches(batches, schema)


def _envelope_columns(record: Record, lines: Sequence[Line], times: NDArray[np.int64]) -> list[pa.Array]:
    """The columns of the envelope for these lines."""
    names = envelope_of(record).names
    if not names:
        return []
    columns = [pa.array([line.id for line in lines], pa.string()), emitted_at_column(times)]
    if META in names:
        columns.append(pa.array([msgspec.json.decode(line.meta) for line in lines], META_TYPE))
        columns.append(pa.array([line.generation_id for line in lines], pa.int64()))
    return columns


def _chunks(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Yields the lines in batches of the size for which conversion is fastest."""
    chunk: list[Line] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line.record)
        if size >= TARGET_BATCH_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def table_of_rows(record: Record, rows: Iterable[dict[str, Any]]) -> pa.Table:
    """The table of rows whose values have the shape of its columns."""
    schema, rest = schema_of(record), iter(rows)
    chunks = iter(lambda: list(islice(rest, ROWS_AT_ONCE)), [])
    return pa.Table.from_batches([pa.RecordBatch.from_pylist(chunk, schema) for chunk in chunks], schema)


# ---------------------------------------------------------------------- unions, one record at a time

_NOT_IN_SCHEMA: Final = object()


class Branches(Protocol):
    """The way in which a value shows to which branch of its position it belongs."""

    def find(self, value: Any, parts: tuple[Kind, ...]) -> tuple[int, Any]:
        """The index of the branch in `parts` (their number for a text in addition to them), and the value in it."""


class AvroBranches:
    """The branches of Avro values. The Python type shows the branch, since no two branches share a type."""

    def find(self, value: Any, parts: tuple[Kind, ...]) -> tuple[int, Any]:
        number = next((number for number, part in enumerate(parts) if part.is_read_as(value)), len(parts))
        return number, parts[number].from_avro(value) if number < len(parts) else value


class MemberBranches:
    """The branches of structs with one member per branch and one member set, as in the connector's Parquet files."""

    def find(self, value: Any, parts: tuple[Kind, ...]) -> tuple[int, Any]:
        if not isinstance(value, dict) or "member0" not in value:
            return 0, value
        return next((number, member) for number, member in enumerate(value.values()) if member is not None)


def named_record(record: Record, stored: Record, row: dict[str, Any], branches: Branches) -> dict[str, Any]:
    """A root record with its envelope, and with every union's value under its branch's name.

    Temporal values stay integers, since they may be out of the range of Python's own types.

    Args:
        record: The type of the row.
        stored: The same type with text for kinds that nest too deep.
        row: The values.
        branches: Finds the branch of a union's value.
    """
    envelope = {name: row[name] for name in envelope_of(record).names}
    return envelope | _record(record, stored, row, branches)


def _record(record: Record, stored: Record, value: dict[str, Any], branches: Branches) -> dict[str, Any]:
    """One record. Texts in addition to a temporal kind go to the overflow, since this layout has no place for them."""
    named: dict[str, Any] = {}
    overflow = dict(value.get(OVERFLOW) or {})
    for field, target in zip(record.fields, stored.fields, strict=True):
        inner = value.get(field.name)
        named[field.name] = _position(field.kind, target.kind, inner, branches, fallback=True)
        if named[field.name] is _NOT_IN_SCHEMA:
            named[field.name] = None
            overflow[field.source] = _overflow_text(field.kind, inner, branches)
    named[OVERFLOW] = sorted(overflow.items()) or None
    return named


def _position(kind: Kind, stored: Kind, value: Any, branches: Branches, *, fallback: bool) -> Any:
    """The value of a field or item; `_NOT_IN_SCHEMA` if this layout has no place for it."""
    if value is None:
        return None
    if stored == STRING and kind != STRING:
        return _overflow_text(kind, value, branches)
    names, parts = _branches_of(kind, fallback=fallback)
    number, inner = branches.find(value, parts)
    if number == len(parts):
        return _NOT_IN_SCHEMA
    named = _value(parts[number], _branches_of(stored, fallback=fallback)[1][number], inner, branches)
    return {names[number]: named} if names and named is not _NOT_IN_SCHEMA else named


def _branches_of(kind: Kind, *, fallback: bool) -> tuple[tuple[str, ...], tuple[Kind, ...]]:
    """The names and the kinds of a position's branches. A single branch has no name."""
    named = Position(kind, fallback).members(Layout.NAMED)
    return tuple(name for name, _ in named), tuple(part for _, part in named) or (kind,)


def _value(kind: Kind, stored: Kind, value: Any, branches: Branches) -> Any:
    if isinstance(kind, Record) and isinstance(stored, Record):
        return _record(kind, stored, value, branches)
    if not isinstance(kind, Array) or not isinstance(stored, Array):
        return value
    items = [_position(kind.item, stored.item, item, branches, fallback=kind.fallback) for item in value]
    return _NOT_IN_SCHEMA if any(item is _NOT_IN_SCHEMA for item in items) else items


def _overflow_text(kind: Kind, value: Any, branches: Branches) -> str:
    """The text of a misfit in the overflow: a text unchanged, any other value as JSON."""
    json_value = _json_value(kind, value, branches, fallback=True)
    return json_value if isinstance(json_value, str) else msgspec.json.encode(json_value).decode()


def _json_value(kind: Kind, value: Any, branches: Branches, *, fallback: bool) -> Any:
    """A value as a JSON value, with dates and times in ISO 8601."""
    if value is None:
        return None
    _, parts = _branches_of(kind, fallback=fallback)
    number, inner = branches.find(value, parts)
    part = parts[number] if number < len(parts) else STRING
    if isinstance(part, Array):
        return [_json_value(part.item, item, branches, fallback=part.fallback) for item in inner]
    if isinstance(part, Record):
        fields = {f.source: _json_value(f.kind, inner.get(f.name), branches, fallback=True) for f in part.fields}
        present = {name: value for name, value in fields.items() if value is not None}
        return present | dict(inner.get(OVERFLOW) or {})
    return part.json_value(inner)
