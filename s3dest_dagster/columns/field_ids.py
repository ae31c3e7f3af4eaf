"""The field ids of a Parquet file: one for every field of every level, the same in every file of a stream.

A column has its id in the stream's registry, from 1 up. All other fields belong to a column, or to the root, whose
number is 0 here: items of lists, members of unions, keys and values of maps, the overflow, the envelope. Their ids
follow from this number. They begin at 2³⁰, so no column ever has one of them.

Must not know: where ids of columns come from, how a file is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

import pyarrow as pa
import pyarrow.types as pt

from s3dest_dagster.columns.kinds import Kind, Layout
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.kinds.union import Position

FIELD_ID = b"PARQUET:field_id"
"""The metadata key of an Arrow field's id in Parquet."""

FIRST_DERIVED = 1 << 30
"""The ids from here on belong to fields that are no columns."""
_PER_COLUMN = 1 << 11
_PER_DEPTH = 1 << 5
_MOST_COLUMNS = FIRST_DERIVED // _PER_COLUMN - 2
"""Parquet's ids have 31 bits, and Iceberg keeps the last 200 for itself."""
_ITEM = 0
_TYPE = "type of a value"
"""Not the word of a kind, but the member of a typed union that names the member with its value."""
_MEMBERS = {
    word: index
    for index, word in enumerate(
        (
            "array",
            "boolean",
            "bytes",
            "date",
            "decimal",
            "float",
            "integer",
            "json",
            "local_timestamp",
            "null",
            "number",
            "object",
            "string",
            "text",
            "time",
            "timestamp",
            _TYPE,
            "json_list",
        ),
        start=1,
    )
}
"""The positions of a union's members by the words of their kinds. They are in files: append new words at the end."""
_OVERFLOW, _KEY, _VALUE = 29, 30, 31
_ENVELOPE = 1
"""The position of the first column of the envelope, at the root. What is within its columns comes after the last."""


def with_field_ids(schema: pa.Schema, record: Record, *, layout: Layout) -> pa.Schema:
    """A schema of the record's columns with the ids of its fields at every level, as pyarrow writes them to Parquet.

    If the stream does not remember the record's columns, no field has an id.

    Args:
        schema: The envelope, the record's columns and the overflow.
        record: The record type, with the ids of its columns.
        layout: The layout of unions in the schema.
    """
    if not all(field.id for field in record.fields):
        return schema
    before = len(schema) - len(record.fields) - 1
    root = _Column(0, layout)
    within = count(_ENVELOPE + before)
    envelope = [
        root.numbered(field.with_type(root.of_envelope(field.type, within)), 0, _ENVELOPE + number)
        for number, field in enumerate(list(schema)[:before])
    ]
    return pa.schema([*envelope, *root.members(list(schema)[before:], record, 0)])


class _Column:
    """Gives ids to what is within one column, or within the root."""

    def __init__(self, number: int, layout: Layout) -> None:
        self._number = number
        self._layout = layout

    def numbered(self, field: pa.Field, depth: int, index: int) -> pa.Field:
        """The field with the id of this position, which is so many lists within the column."""
        offset = depth * _PER_DEPTH + index
        if self._number > _MOST_COLUMNS or offset >= _PER_COLUMN:
            return field
        return _with_id(field, FIRST_DERIVED + self._number * _PER_COLUMN + offset)

    def of_envelope(self, type_: pa.DataType, numbers: Iterator[int]) -> pa.DataType:
        """The type of a column of the envelope, with the next of these positions for every field within it."""
        if pt.is_struct(type_):
            return pa.struct(self._numbered_within(field, numbers) for field in type_)
        return pa.list_(self._numbered_within(type_.value_field, numbers)) if pt.is_list(type_) else type_

    def _numbered_within(self, field: pa.Field, numbers: Iterator[int]) -> pa.Field:
        index = next(numbers)
        return self.numbered(field.with_type(self.of_envelope(field.type, numbers)), 0, index)

    def members(self, fields: Sequence[pa.Field], record: Record, depth: int) -> list[pa.Field]:
        """The fields of a record level, of which the last is the overflow."""
        own = [
            _with_id(field.with_type(_Column(each.id, self._layout).typed(field.type, each.position(), 0)), each.id)
            for field, each in zip(fields, record.fields, strict=False)
        ]
        return [*own, self._overflow(fields[-1], depth)]

    def typed(self, type_: pa.DataType, position: Position, depth: int) -> pa.DataType:
        """The type of a position with the ids of what is within it."""
        if not (members := position.members(self._layout)):
            return self._of_kind(type_, position.kind, depth)
        return pa.struct(
            self.numbered(field.with_type(self._of_kind(field.type, kind, depth)), depth, _MEMBERS[kind.word])
            for field, (_, kind) in zip(type_, members, strict=True)
        )

    def _of_kind(self, type_: pa.DataType, kind: Kind, depth: int) -> pa.DataType:
        if isinstance(kind, Record):
            return pa.struct(self.members(list(type_), kind, depth))
        if isinstance(kind, Array):
            item = self.typed(type_.value_type, kind.position(), depth + 1)
            return pa.list_(self.numbered(type_.value_field.with_type(item), depth + 1, _ITEM))
        return type_

    def _overflow(self, field: pa.Field, depth: int) -> pa.Field:
        key, value = field.type.key_field, field.type.item_field
        pairs = pa.map_(self.numbered(key, depth, _KEY), self.numbered(value, depth, _VALUE))
        return self.numbered(field.with_type(pairs), depth, _OVERFLOW)


def beside_members(field: pa.Field, member: pa.Field, kind: Kind) -> pa.Field:
    """The member of a union that names the type of its value, with the id of its position.

    Args:
        field: The member.
        member: Another member of the union. If it has no id, none is given.
        kind: That member's kind.
    """
    other = (member.metadata or {}).get(FIELD_ID)
    return field if other is None else _with_id(field, int(other) - _MEMBERS[kind.word] + _MEMBERS[_TYPE])


def _with_id(field: pa.Field, number: int) -> pa.Field:
    return field.with_metadata({FIELD_ID: str(number)})
