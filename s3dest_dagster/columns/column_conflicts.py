"""Finds the columns of objects whose type is no longer one that the stream's column can have.

Values only. Must not know: landings, where columns are remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from s3dest_dagster.columns.kinds import Kind, Widening
from s3dest_dagster.columns.kinds.record import Record, outline
from s3dest_dagster.columns.stream_columns import Steps, StreamColumns, with_paths


@dataclass(frozen=True, slots=True)
class ColumnConflict:
    """A column whose objects and whose stream cannot be read as one table."""

    id: int
    """The column's id."""
    path: Steps
    """The field."""
    written: Kind
    """The type that the objects have."""
    remembered: Kind | None
    """The type that the stream remembers. None if the stream does not know the column."""


def column_conflicts(columns: StreamColumns, records: Iterable[Record]) -> Iterator[ColumnConflict]:
    """Yields the columns of these record types, at every level, that the stream does not remember, or with a type to
    which theirs does not widen.

    Args:
        columns: The stream's columns.
        records: The record types of objects that are written in formats with types.
    """
    remembered = {field.id: field for field in columns.all_fields()}
    for record in records:
        for path, field in with_paths(record.fields):
            known = remembered.get(field.id)
            if known is None or known.name != field.name:
                yield ColumnConflict(field.id, path, field.kind, None)
            elif not _widens(field.kind, known.kind, holds=field.id not in columns.big_integers):
                yield ColumnConflict(field.id, path, field.kind, known.kind)


def retyped_ids(before: StreamColumns, now: StreamColumns) -> frozenset[int]:
    """The ids of the columns whose type has become one to which the former does not widen. Columns within such a column
    may be gone."""
    kinds = {field.id: field.kind for field in now.all_fields()}
    fields = (field for field in before.all_fields() if field.id in kinds)
    return frozenset(field.id for field in fields if not _widens(field.kind, kinds[field.id]))


def _widens(kind: Kind, wider: Kind, *, holds: bool = True) -> bool:
    """Whether a column of the one kind can become one of the other. The fields of records are columns themselves."""
    known, now = outline(kind), outline(wider)
    return known.widened(now, Widening(_first, doubles_hold_integers=holds)) == now


def _first(known: Record, _other: Record, _path: Steps) -> Record:
    return known
