"""The state of a comparison of a schema with the columns that a stream remembers, which all levels of both share.

It gives new columns their names and ids, asks the contract, and makes the outcome. `evolution` decides what a
difference means. Must not know: data, formats, where the memory is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from s3dest_dagster.columns.column_names import NameRequest, allocate_names, suffixed_name
from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.record import Field, Record
from s3dest_dagster.columns.kinds.scalar import NULL
from s3dest_dagster.columns.kinds.union import Union
from s3dest_dagster.columns.names import OVERFLOW_NAMES, original_name_doc, standard_name
from s3dest_dagster.columns.record_json import full_name
from s3dest_dagster.columns.schema_differences import (
    ENVELOPE,
    UNKNOWN,
    ColumnChange,
    Difference,
    Evolution,
    EvolutionRules,
    path_text,
)
from s3dest_dagster.columns.schemas import ENVELOPES, envelope_of
from s3dest_dagster.columns.stream_columns import Steps, StreamColumns
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.schema_contract import Verdict

IsLive = Callable[[Field], bool]
"""Whether an Avro or Parquet object that has this column with this type is live after the sync, or belongs to an
earlier part of the sync itself. It is asked only if a type has changed beyond widening, and may cost requests."""


class Comparison:
    """The state of one comparison, which all levels share."""

    def __init__(self, known: StreamColumns, proposed: Record, rules: EvolutionRules, is_live: IsLive) -> None:
        self.known = known
        self.rules = rules
        self.is_live = is_live
        self.retired = set(known.retired)
        self.absent = set(known.absent)
        self.big_integers = set(known.big_integers)
        self.landing: set[int] = set()
        """Ids of the columns that the proposed schema has."""
        self.kinds_of_sync: dict[int, Kind] = {}
        """Other kinds for this sync only, by id: those of an untyped format in a stream with typed objects."""
        self.frozen: list[ColumnChange] = []
        self.discarded: set[str] = set()
        self._proposed = proposed
        self._envelope = envelope_of(proposed).names
        self._changes: list[ColumnChange] = []
        self._next_id = known.next_id

    def verdict(self, difference: Difference, path: Steps, before: Kind | None, now: Kind | None) -> Verdict:
        """What the contract says of a difference, which is noted. A frozen one counts as evolving: the end is an error.

        A type that becomes known is no difference to the contract.
        """
        becomes_known = before is not None and not before.is_known
        verdict = Verdict.EVOLVE
        if difference is not Difference.RENAMED and not becomes_known:
            verdict = getattr(self.rules.contract, difference)
        self._note(ColumnChange(difference, path, _words(before), _words(now), verdict))
        return verdict

    def compare_envelopes(self) -> None:
        """Notes the columns of the envelope that come and go. The settings decide about them, so none is discarded."""
        if self.known.envelope is None:
            return
        before, now = ENVELOPES[self.known.envelope].names, self._envelope
        new = [(Difference.NEW_COLUMN, name, "", ENVELOPE) for name in now if name not in before]
        missing = [(Difference.MISSING_COLUMN, name, ENVELOPE, "") for name in before if name not in now]
        for difference, name, old, new_type in (*new, *missing):
            is_frozen = getattr(self.rules.contract, difference) is Verdict.FREEZE
            verdict = Verdict.FREEZE if is_frozen else Verdict.EVOLVE
            self._note(ColumnChange(difference, (name,), old, new_type, verdict))

    def _note(self, change: ColumnChange) -> None:
        (self.frozen if change.verdict is Verdict.FREEZE else self._changes).append(change)

    def has_type(self, kind: Kind) -> bool:
        """Whether a typed format has columns of this kind."""
        return kind.is_known or (self.rules.keeps_unknown and not kind.lacks_digits)

    def normalised(self, kind: Kind) -> Kind:
        """The kind without branches that hold nothing but null or empty lists, if those do not land."""
        if isinstance(kind, Array):
            return kind.with_item(self.normalised(kind.item))
        if not isinstance(kind, Union):
            return kind
        branches = tuple(self.normalised(branch) for branch in kind.branches if self.has_type(branch))
        return Union(branches) if len(branches) > 1 else branches[0] if branches else NULL

    # ------------------------------------------------------------------ new columns

    def new_fields(self, proposed: Iterable[Field], path: Steps) -> tuple[Field, ...]:
        """The columns of a level that had none."""
        new = {self.request(field, path): field for field in proposed}
        return tuple(self.named(new, (), path))

    def request(self, field: Field, path: Steps) -> NameRequest:
        """The request for the name of a new column."""
        return NameRequest(field.source, self.rules.rename.get((*path, field.source), ""))

    def named(self, new: Mapping[NameRequest, Field], known: Iterable[Field], path: Steps) -> Iterable[Field]:
        """Yields the new columns of a level with their names and ids."""
        reserved = OVERFLOW_NAMES if path else OVERFLOW_NAMES.union(self._envelope)
        names = allocate_names(new, {column.name for column in known} | reserved, self.rules.name_style)
        for request, field in new.items():
            if request.is_given and names[request] != request.base:
                raise self._name_in_use((*path, field.source), request.base)
            number = self._next_id
            self._next_id += 1
            self.landing.add(number)
            name, where = names[request], (*path, field.source)
            doc = field.doc if name == field.name else original_name_doc(field.source, name)
            kind = self.with_ids(self.normalised(field.kind), where)
            yield Field(name, field.source, kind, doc, number)

    def with_ids(self, kind: Kind, path: Steps) -> Kind:
        """The kind with names and ids in those of its records that have none."""
        if isinstance(kind, Array):
            return kind.with_item(self.with_ids(kind.item, (*path, None)))
        if isinstance(kind, Union):
            return Union(tuple(self.with_ids(branch, path) for branch in kind.branches))
        if isinstance(kind, Record) and any(field.id == 0 for field in kind.fields):
            return kind.with_fields(self.new_fields(kind.fields, path))
        return kind

    def _name_in_use(self, path: Steps, name: str) -> SettingsError:
        return SettingsError(
            f"Stream {self.rules.stream!r}: rename gives the field {path_text(path)!r} the column {name!r}, which "
            "another field has or had, or which every record has. Give it another name.",
            stream=self.rules.stream or None,
            setting="rename",
        )

    # ------------------------------------------------------------------ the outcome

    def outcome(self, fields: tuple[Field, ...]) -> Evolution:
        """The outcome for these remembered columns of the root level."""
        fields = self._with_record_names(fields)
        columns = StreamColumns(
            fields=fields,
            next_id=self._next_id,
            retired=frozenset(self.retired),
            absent=frozenset(self.absent),
            big_integers=frozenset(self.big_integers),
            is_typed=self.known.is_typed or self.rules.is_typed,
            envelope=self._proposed.envelope,
        )
        own = tuple(field for field in fields if field.name not in self._envelope)
        record = self._landed_record(self._proposed.with_fields(own), ())
        return Evolution(
            columns=columns, record=record, changes=tuple(self._changes), discarded=frozenset(self.discarded)
        )

    def _landed_record(self, record: Record, path: Steps) -> Record:
        fields = self._landed(record.fields, path)
        # An object that declares no properties may have any: nothing in it is undeclared.
        is_open = bool(path) and not record.fields
        record, drops_undeclared = record.with_fields(fields), self.rules.drops_undeclared and not is_open
        if record.drops_undeclared == drops_undeclared:
            return record
        return replace(record, drops_undeclared=drops_undeclared)

    def _landed(self, fields: Iterable[Field], path: Steps) -> tuple[Field, ...]:
        """The columns of one level that objects get."""
        landed = []
        for field in fields:
            is_present = field.id in self.landing or not self.rules.is_declared or self.rules.keeps_missing
            if field.id in self.retired or not is_present:
                continue
            where = (*path, field.source)
            kind = self.kinds_of_sync.get(field.id) or map_records(field.kind, self._landed_record, where)
            if self.has_type(kind) or not self.rules.is_typed:
                self._check_name(field)
                field, is_titled = field.with_kind(kind), self.rules.has_title(where, field.name)
                landed.append(field if field.is_titled == is_titled else replace(field, is_titled=is_titled))
        return tuple(landed)

    def _check_name(self, field: Field) -> None:
        if self.rules.allows_any_name or standard_name(field.name) == field.name:
            return
        raise SettingsError(
            f"Stream {self.rules.stream!r}: the column of the field {field.source!r} is called {field.name!r}, and "
            "the format allows only letters, digits and '_' in names, and no digit at the beginning. Give the field "
            "another name by rename, or land the stream in Parquet.",
            stream=self.rules.stream or None,
            setting="rename",
        )

    def _with_record_names(self, fields: tuple[Field, ...]) -> tuple[Field, ...]:
        """The columns, in which a record that is new has a full name of its own. Known ones keep theirs."""
        known = dict(_record_names(self.known.fields, ()))
        used = {*known.values(), full_name(self._proposed)}

        def named(record: Record, path: Steps) -> Record:
            inner = record.with_fields(map_field(field, path) for field in record.fields)
            if path in known:
                return inner
            name = suffixed_name(full_name(record), path_text(path), used)
            used.add(name)
            known[path] = name
            namespace, _, own = name.rpartition(".")
            return inner if name == full_name(record) else replace(inner, name=own, namespace=namespace or None)

        def map_field(field: Field, path: Steps) -> Field:
            return field.with_kind(map_records(field.kind, named, (*path, field.source)))

        return tuple(map_field(field, ()) for field in fields)


def _words(kind: Kind | None) -> str:
    if kind is None:
        return ""
    return kind.words() if kind.is_known else UNKNOWN


def map_records(kind: Kind, change: Callable[[Record, Steps], Record], path: Steps) -> Kind:
    """The kind with `change` applied to the records in it. Unlike `Kind.map_records`, it knows their paths."""
    if isinstance(kind, Array):
        return kind.with_item(map_records(kind.item, change, (*path, None)))
    if isinstance(kind, Union):
        return Union(tuple(map_records(branch, change, path) for branch in kind.branches))
    return change(kind, path) if isinstance(kind, Record) else kind


def _record_names(fields: Iterable[Field], path: Steps) -> Iterable[tuple[Steps, str]]:
    """Yields the path and the full name of every record in these columns."""
    found: list[tuple[Steps, Record]] = []

    def keep(record: Record, where: Steps) -> Record:
        found.append((where, record))
        return record

    for field in fields:
        map_records(field.kind, keep, (*path, field.source))
    for where, record in found:
        yield where, full_name(record)
        yield from _record_names(record.fields, where)
