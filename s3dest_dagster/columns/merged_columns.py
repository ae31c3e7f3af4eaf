"""One record type for objects that were written with different columns of one stream.

Must not know: where the columns are recorded, how objects are read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from s3dest_dagster.columns.kinds import Kind, Widening
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.number import LONG
from s3dest_dagster.columns.kinds.record import Field, Record
from s3dest_dagster.columns.kinds.scalar import STRING
from s3dest_dagster.columns.kinds.union import Union
from s3dest_dagster.columns.stream_columns import StreamColumns, records_in, with_paths
from s3dest_dagster.errors import SchemaError

_Path = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class WrittenColumns:
    """The columns with which an object was written."""

    record: Record
    is_typed: bool
    """Whether its format has types. Otherwise its values can be read with other types."""


def merged_record(versions: Sequence[WrittenColumns], stream: str) -> Record:
    """The columns of objects that were written with these columns, oldest first.

    Every column is there once, with the widest of its types. A column that took over the values of another one, whose
    type had changed, is next to it. The envelope is that of any of the objects.

    Raises:
        SchemaError: A column has types that no single type can hold. The error names the `stream`.
    """
    merge = _Merge(versions[0], stream)
    for version in versions[1:]:
        merge.add(version)
    envelopes = (version.record.envelope for version in reversed(versions))
    return replace(merge.record, envelope=next((each for each in envelopes if each != "none"), "none"))


def readable_record(written: WrittenColumns, merged: Record) -> Record:
    """The columns by which an object is read so that its values fit the merged ones.

    Values of a format without types are read with the merged types.
    """
    if written.is_typed:
        return written.record
    kinds = {field.name: field.kind for field in merged.fields}
    fields = (
        replace(field, kind=_read_once(kinds.get(field.name, field.kind), field.kind))
        for field in written.record.fields
    )
    return replace(written.record, fields=tuple(fields))


def _read_once(kind: Kind, written: Kind) -> Kind:
    """The kind, in whose records a field that was written is read into its own column only."""
    own = {field.name: field for record in records_in(written) for field in record.fields}
    sources = {field.source for field in own.values()}

    def of_record(record: Record) -> Record:
        fields = (field for field in record.fields if field.name in own or field.source not in sources)
        return replace(
            record,
            fields=tuple(
                replace(field, kind=_read_once(field.kind, own[field.name].kind)) if field.name in own else field
                for field in fields
            ),
        )

    return kind.map_records(of_record)


def remembered_columns(versions: Sequence[WrittenColumns], stream: str) -> StreamColumns:
    """The memory of a stream whose registry is lost, as far as its objects show it. `versions` are its columns, oldest
    first.

    It is not known which integers landed, so all integer columns count as having some that no double can hold.
    """
    if not versions:
        return StreamColumns()
    merged = merged_record(versions, stream)
    columns = StreamColumns(
        fields=merged.fields,
        is_typed=any(version.is_typed for version in versions),
        envelope=versions[-1].record.envelope,
    )
    fields = list(columns.all_fields())
    return replace(
        columns,
        next_id=1 + max((field.id for field in fields), default=0),
        retired=frozenset(_retired(merged.fields, versions)),
        big_integers=frozenset(field.id for field in fields if field.kind.element() == LONG),
    )


def with_live_types(columns: StreamColumns, ids: Collection[int], live: Iterable[WrittenColumns]) -> StreamColumns:
    """The memory in which those of these columns have their former types again that live objects have with a type that
    cannot become the remembered one. It is not known which integers are in them, as in `remembered_columns`."""
    former = {
        field.id: field.kind
        for written in live
        if written.is_typed
        for _, field in with_paths(written.record.fields)
        if field.id in ids
    }

    def restored(field: Field) -> Field:
        kind = former.get(field.id)
        if kind is not None and kind.widened(field.kind, Widening(_first)) is None:
            return replace(field, kind=kind)
        return replace(field, kind=field.kind.map_records(within))

    def within(record: Record) -> Record:
        return replace(record, fields=tuple(map(restored, record.fields)))

    integers = (number for number, kind in former.items() if kind.element() == LONG)
    return replace(columns, fields=tuple(map(restored, columns.fields))).with_big_integers(integers)


def _first(known: Record, _other: Record, _path: object) -> Record:
    return known


def has_column(record: Record, column: int) -> bool:
    """Whether the record type has the column with this id, at any level."""
    return any(field.id == column for _, field in with_paths(record.fields))


class _Merge:
    """Merges the columns of newer objects into those of older ones. `record` has the columns of all so far."""

    def __init__(self, first: WrittenColumns, stream: str) -> None:
        self.record = first.record
        self._stream = stream
        self._newer_is_typed = first.is_typed
        self._typed: set[_Path] = set()
        self._note_typed(first)

    def add(self, newer: WrittenColumns) -> None:
        """Adds the columns of newer objects."""
        self._newer_is_typed = newer.is_typed
        self.record = self._records(self.record, newer.record, ())
        self._note_typed(newer)

    def _note_typed(self, written: WrittenColumns) -> None:
        """Notes the columns of which there are objects with a type. A stream can have some and others."""
        if written.is_typed:
            self._typed.update(_name_paths(written.record, ()))

    def _records(self, older: Record, newer: Record, path: _Path) -> Record:
        """The record with the columns of both. A column's name is its own for good. `path` has names of columns."""
        fields = {field.name: field for field in older.fields}
        for field in newer.fields:
            if (known := fields.get(field.name)) is not None:
                kind = self._kind(known, field, (*path, field.name))
                fields[field.name] = replace(field, kind=kind, id=field.id or known.id)
            else:
                fields = _with_beside(fields, field)
        return replace(newer, fields=tuple(fields.values()))

    def _kind(self, known: Field, field: Field, path: _Path) -> Kind:
        older, newer = known.kind, field.kind
        if older == newer:
            return newer
        widening = Widening(self._records, path)
        wider = older.widened(newer, widening) or newer.widened(older, widening)
        if wider is not None:
            return wider
        if path not in self._typed:
            return newer
        if not self._newer_is_typed:
            return older
        if STRING in (older, newer):
            return STRING
        column = ".".join(step for step in path if step is not None)
        raise SchemaError(
            f"{self._stream} cannot be read as one table, since its syncs had different schemas: {column!r} was "
            f"{older.words()} and is {newer.words()}. Land it anew by a full refresh, or read its objects one by one.",
            stream=self._stream,
        )


def _with_beside(fields: dict[str, Field], new: Field) -> dict[str, Field]:
    """The columns with a new one: after the last column of the same source name, or at the end."""
    positions = [number for number, field in enumerate(fields.values(), 1) if field.source == new.source]
    position = positions[-1] if positions else len(fields)
    entries = list(fields.items())
    return dict([*entries[:position], (new.name, new), *entries[position:]])


def _name_paths(record: Record, path: _Path) -> Iterator[_Path]:
    """Yields the path of every column of a record, of all levels, with the names of columns and None for items."""
    for field in record.fields:
        yield (*path, field.name)
        yield from _inner_paths(field.kind, (*path, field.name))


def _inner_paths(kind: Kind, path: _Path) -> Iterator[_Path]:
    if isinstance(kind, Record):
        yield from _name_paths(kind, path)
    elif isinstance(kind, Array):
        yield from _inner_paths(kind.item, (*path, None))
    elif isinstance(kind, Union):
        for branch in kind.branches:
            yield from _inner_paths(branch, path)


def _retired(fields: Iterable[Field], versions: Iterable[WrittenColumns]) -> Iterator[int]:
    """Yields the ids of the columns whose source name has another column in the newest version that has the name."""
    current = {path: field.name for version in versions for path, field in with_paths(version.record.fields)}
    for path, field in with_paths(fields):
        if current[path] != field.name:
            yield field.id
