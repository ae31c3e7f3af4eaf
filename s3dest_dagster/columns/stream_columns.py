"""The memory of a stream's columns: what each is called, which type and id it has, at every level of its records.

A name and an id belong to one column for good, even after the source has dropped its property. Values only. Must not
know: where the memory is kept, data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.record import Field, Record
from s3dest_dagster.columns.kinds.union import Union
from s3dest_dagster.columns.record_json import JsonValue, fields_from_json, fields_to_json, reading_columns
from s3dest_dagster.settings.formats import EnvelopeName

Steps: TypeAlias = tuple[str | None, ...]
"""A path: the source's names from the root, and None for the items of a list."""


@dataclass(frozen=True, slots=True)
class StreamColumns:
    """Every column that the stream has or had."""

    fields: tuple[Field, ...] = ()
    """The columns of the root level, in the order in which they came. Several may have the same source name: at most
    one of them is not `retired`. The records in their kinds are remembered in the same way."""
    next_id: int = 1
    """The id of the next new column. An id is never used again."""
    retired: frozenset[int] = frozenset()
    """Ids of columns whose source name now has another column, because its type or its name was changed."""
    absent: frozenset[int] = frozenset()
    """Ids of columns whose property the declared schema no longer has."""
    big_integers: frozenset[int] = frozenset()
    """Ids of columns that have or had integers that a double cannot hold exactly."""
    is_typed: bool = False
    """Whether Avro or Parquet objects have been encoded with these columns, so that types cannot simply change."""
    envelope: EnvelopeName | None = None
    """The envelope before these columns. None if it is not known."""

    def all_fields(self) -> Iterator[Field]:
        """Yields every column of every level."""
        yield from all_fields(self.fields)

    def current(self) -> tuple[Field, ...]:
        """The columns of the root level that their source names have now."""
        return tuple(field for field in self.fields if field.id not in self.retired)

    def with_big_integers(self, ids: Iterable[int]) -> StreamColumns:
        """The memory in which these columns, too, have integers that a double cannot hold exactly."""
        return replace(self, big_integers=self.big_integers | frozenset(ids))

    def to_json(self) -> JsonValue:
        """The memory as a JSON value of about 50 bytes per column. `from_json` gives an equal memory."""
        sets = {"retired": self.retired, "absent": self.absent, "big_integers": self.big_integers}
        return {
            "fields": fields_to_json(self.fields),
            "next_id": self.next_id,
            **{name: sorted(ids) for name, ids in sets.items() if ids},
            **({"is_typed": True} if self.is_typed else {}),
            **({"envelope": self.envelope} if self.envelope is not None else {}),
        }

    @classmethod
    def from_json(cls, value: JsonValue) -> StreamColumns:
        """The memory of a JSON value. Raises ManifestError if it is none, or has kinds of a newer version."""
        with reading_columns():
            return cls(
                fields=fields_from_json(value["fields"]),
                next_id=value["next_id"],
                retired=frozenset(value.get("retired", ())),
                absent=frozenset(value.get("absent", ())),
                big_integers=frozenset(value.get("big_integers", ())),
                is_typed=bool(value.get("is_typed", False)),
                envelope=value.get("envelope"),
            )


def records_in(kind: Kind) -> list[Record]:
    """The records directly in a kind: itself, a list's items, or branches of a union."""
    found: list[Record] = []

    def keep(record: Record) -> Record:
        found.append(record)
        return record

    kind.map_records(keep)
    return found


def all_fields(fields: Iterable[Field]) -> Iterator[Field]:
    """Yields these columns, and every column within them."""
    yield from (field for _, field in with_paths(fields))


def with_paths(fields: Iterable[Field], path: Steps = ()) -> Iterator[tuple[Steps, Field]]:
    """Yields these columns, and every column within them, each with its path."""
    for field in fields:
        own = (*path, field.source)
        yield own, field
        yield from _within(field.kind, own)


def _within(kind: Kind, path: Steps) -> Iterator[tuple[Steps, Field]]:
    """Yields every column within a kind."""
    if isinstance(kind, Record):
        yield from with_paths(kind.fields, path)
    elif isinstance(kind, Array):
        yield from _within(kind.item, (*path, None))
    elif isinstance(kind, Union):
        for branch in kind.branches:
            yield from _within(branch, path)
