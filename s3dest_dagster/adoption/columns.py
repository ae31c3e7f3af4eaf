"""The columns of adopted objects in their stream: which names and ids they have, and which objects cannot be read
together with the others.

Must not know: S3, where columns are remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from s3dest_dagster.columns.evolution import evolve
from s3dest_dagster.columns.kinds.record import Field, Record
from s3dest_dagster.columns.schema_differences import EvolutionRules
from s3dest_dagster.columns.stream_columns import StreamColumns


def expected_columns(declared: Record, known: StreamColumns) -> Record:
    """The columns that the files of a stream may have: the declared ones, and further ones that the stream remembers.

    Args:
        declared: The columns that the stream's catalog declares.
        known: The columns that the stream has or had.
    """
    current = {column.source: column for column in known.current()}
    own = [_called(field, current.get(field.source)) for field in declared.fields]
    declared_sources = {field.source for field in declared.fields}
    others = [column for source, column in current.items() if source not in declared_sources]
    return replace(declared, fields=(*own, *(replace(each, id=0) for each in others)))


def _called(field: Field, known: Field | None) -> Field:
    return field if known is None else replace(field, name=known.name)


@dataclass(frozen=True, slots=True)
class AdoptedColumns:
    """The columns that a stream has with those of the objects that it adopts."""

    columns: StreamColumns
    """The columns to reserve."""
    records: Mapping[Record, Record]
    """The record type of each adopted object as the stream has it, with names and ids, by what its file shows."""
    refused: Mapping[Record, str]
    """The record types that do not fit, and why, as the end of a sentence."""


def adopted_columns(known: StreamColumns, shown: Iterable[Record], *, is_typed: bool) -> AdoptedColumns:
    """Finds the columns of files in a stream.

    Args:
        known: The columns that the stream has or had.
        shown: The record types that the files show, oldest first.
        is_typed: Whether their format has types. Then a column of a file is found by its name.
    """
    records, refused = dict[Record, Record](), dict[Record, str]()
    rules = EvolutionRules(is_declared=False, is_typed=is_typed, keeps_unknown=True)
    for record in dict.fromkeys(shown):
        evolution = evolve(known, replace(record, envelope=known.envelope or record.envelope), rules)
        columns = {column.source: column for column in evolution.record.fields}
        reason = next(filter(None, (_misfit(each, columns, is_typed=is_typed) for each in record.fields)), "")
        if reason:
            refused[record] = reason
            continue
        fields = tuple(columns[field.source] for field in record.fields)
        records[record] = replace(evolution.record, fields=fields, envelope=record.envelope)
        known = evolution.columns
    return AdoptedColumns(known, records, refused)


def _misfit(field: Field, columns: Mapping[str, Field], *, is_typed: bool) -> str:
    """Why a column of a file has no place in the stream. Empty if it has one."""
    column = columns.get(field.source)
    if column is None:
        return f"its column {field.name!r} has no type that the stream could take over"
    if is_typed and column.name != field.name:
        return (
            f"its column {field.name!r} is {field.kind.words()}, and readers would find another type under this name "
            "in other objects of the stream"
        )
    return ""
