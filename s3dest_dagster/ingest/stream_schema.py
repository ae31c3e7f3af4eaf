"""The columns of one sync's records: which encoder a batch needs, and what follows if records show other columns.

The stream's registry reserves all columns before an encoder uses them. Must not know: objects, uploads, segments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

from s3dest_dagster.batch import ArrowBatch, Batch, Tally, ValueTypes
from s3dest_dagster.columns.decimals import grown, may_grow
from s3dest_dagster.columns.evolution import evolve
from s3dest_dagster.columns.inference import (
    inferred_schema,
    with_further_fields,
    with_seen_types,
)
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds.record import Field, Record
from s3dest_dagster.columns.merged_columns import WrittenColumns, has_column
from s3dest_dagster.columns.schema_differences import (
    ColumnChange,
    Evolution,
    refuse_new_stream,
    undiscardable_stream,
)
from s3dest_dagster.columns.stream_columns import StreamColumns, records_in
from s3dest_dagster.commit.registry import RegistryEntry
from s3dest_dagster.formats import Encoder
from s3dest_dagster.ingest.encode_queue import EncodedBatch
from s3dest_dagster.ingest.encoding import Encoding, evolution_rules
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.schema_contract import Verdict
from s3dest_dagster.stream import Scope, Stream, Sync

_MOST_CHANGES = 50
"""How often one sync gets another encoder because of its records. Later new fields go to the overflow, so that a source
whose every record has other fields does not make an object of each."""


def planned_columns(
    destination: S3Destination, stream: Stream, registry_entry: RegistryEntry, scope: Scope, *, replaces: bool
) -> Evolution:
    """The columns that a sync with the stream's declared schema would have. Reserves nothing.

    Without a declared schema, they are those that the stream has so far. The arguments are those of `StreamSchema`.

    Raises:
        SchemaContractError: The stream's contract does not allow the columns.
    """
    proposed = record_type(stream.json_schema or {}, scope.stream.name, scope.stream.namespace, destination.type_rules)
    rules = evolution_rules(destination, stream, scope.stream)
    replaced = scope if replaces else None
    live = _live_columns(registry_entry, replaced)
    known = registry_entry.columns_beside(replaced)
    return evolve(known, proposed, rules, is_live=lambda column: _is_live_column(live(), column))


def _live_columns(registry_entry: RegistryEntry, replaced: Scope | None) -> Callable[[], list[WrittenColumns]]:
    """Returns the columns of the objects that a sync leaves live. The first call reads all scopes, later ones
    nothing."""
    return cache(partial(registry_entry.written_columns, but=replaced))


class StreamSchema:
    """Provides the encoder of a sync's records, and replaces it when records show columns that it lacks.

    A declared schema determines the columns, except those whose declared type is null: a Parquet column of unknown type
    is left out until a value shows its type. If no schema is declared, it is inferred from the first batch, and widened
    by each later batch with new fields or with values that do not fit. A batch without such values costs nothing.

    The results depend only on the batches and their order.

    Args:
        destination: The settings that the stream lands with.
        stream: The stream, with its name as in the source.
        registry_entry: The stream's registry entry, already checked.
        scope: The scope to land, with its stream's name as it is in the bucket.
        sync: As in `Encoding`.
        replaces: Whether the sync replaces what the scope holds.
    """

    def __init__(
        self,
        destination: S3Destination,
        stream: Stream,
        registry_entry: RegistryEntry,
        scope: Scope,
        sync: Sync,
        *,
        replaces: bool,
    ) -> None:
        self.stream = stream
        """The stream. Its schema is the inferred one if it declares none."""
        self.encoder: Encoder | None = None
        """The encoder of the next batch. None before the first batch."""
        self.changes: list[ColumnChange] = []
        """How the columns differ from those that the stream had before."""
        self._destination = destination
        self._registry_entry = registry_entry
        self._replaced = scope if replaces else None
        self._discarded: frozenset[str] = frozenset()
        self._encoding = Encoding(destination, stream, scope.stream, sync)
        self._rules = self._encoding.rules
        self._declared = stream.json_schema
        self._open_names: frozenset[str] = frozenset()
        self._growing_names: frozenset[str] = frozenset()
        self._examined_names: set[str] = set()
        self._arrow_schema: Any = None
        self._types: ValueTypes = frozenset()
        self._encoders: list[Encoder] = []

    def is_changed_by(self, batch: Batch) -> bool:
        """Whether `adapt` must be called before the batch is encoded, and after all earlier batches are written."""
        if self.encoder is None:
            return True
        if self._declared is not None:
            return False
        if isinstance(batch, ArrowBatch):
            return bool(batch.data.schema != self._arrow_schema)
        return not batch.types <= self._types

    def adapt(self, batch: Batch) -> None:
        """Chooses the encoder for this batch and those after it, from the declared schema or else from the batch.

        Raises:
            SchemaContractError: The stream's contract does not allow the columns.
        """
        if self._registry_entry.is_new:
            refuse_new_stream(self._rules.stream, self._rules.contract)
        if self._declared is not None:
            self._use(self._declared, batch)
            return
        if isinstance(batch, ArrowBatch):
            self._arrow_schema = batch.data.schema
        else:
            self._types |= batch.types
        self._widen(inferred_schema(batch), batch)

    def declare(self) -> None:
        """Reserves the columns of the declared schema, and makes their encoder, before there is any record.

        Raises:
            SchemaContractError: The stream's contract does not allow the columns.
        """
        assert self._declared is not None, "only a declared schema is known before the first batch"
        if self._registry_entry.is_new:
            refuse_new_stream(self._rules.stream, self._rules.contract)
            if self._rules.contract.new_stream is Verdict.DISCARD:
                raise undiscardable_stream(self._rules.stream, "several workers stage it")
        self._use(self._declared, None)

    def in_final_form(self, encoded: EncodedBatch) -> EncodedBatch:
        """A batch in the form in which it is written: encoded again if the encoder was replaced in the meantime, or if
        its records show columns that the encoder lacks.

        Raises:
            SchemaContractError: The stream's contract does not allow the columns.
            RecordError: A value does not fit its column, and `on_type_mismatch` is "fail".
        """
        assert self.encoder is not None, "a batch that was encoded has its encoder"
        if self._is_frozen_without_types:
            self._learn_from(encoded.batch)
        encoded = encoded.encoded_by(self.encoder)
        if encoded.encoded.tally and (self._unexamined_names(encoded.encoded.tally) or self._needs_digits(encoded)):
            self._learn_from(encoded.batch)
            encoded = encoded.encoded_by(self.encoder)
            self._examined_names |= self._unexamined_names(encoded.encoded.tally)
        self._encoding.check(encoded, self.stream, self._discarded)
        self._registry_entry.note_big_integers(encoded.encoded.big_integers)
        return encoded

    # ------------------------------------------------------------------ steps

    @property
    def discarded(self) -> frozenset[str]:
        """The new fields whose values count as undeclared, and that `undeclared_field: freeze` does not refuse."""
        return self._discarded

    @property
    def _may_change(self) -> bool:
        """Whether another object can begin, with other columns."""
        return len(self._encoders) <= _MOST_CHANGES and self._destination.allows_checkpoints

    @property
    def _is_frozen_without_types(self) -> bool:
        """Whether each batch must be compared with the columns: the contract freezes some, the schema is inferred,
        and an encoder without types counts neither new fields nor values of other types."""
        contract = self._rules.contract
        frozen = Verdict.FREEZE in (contract.new_column, contract.new_type)
        return frozen and self._declared is None and not self._rules.is_typed

    def _unexamined_names(self, tally: Tally) -> set[str]:
        """The fields that could get a column for their values, and have none."""
        if not self._may_change:
            return set()
        names = {*tally.undeclared, *tally.overflowed} - self._examined_names
        return names if self._declared is None else names & self._open_names

    def _learn_from(self, batch: Batch) -> None:
        """Looks for the types of the fields that have no column."""
        seen = inferred_schema(batch)
        if self._declared is None:
            self._widen(seen, batch)
        else:
            self._declared = with_seen_types(self._declared, seen)
            self._use(self._declared, batch)

    def _widen(self, seen: Mapping[str, Any], batch: Batch) -> None:
        """Extends the inferred schema by what a batch shows."""
        self.stream = replace(self.stream, json_schema=with_further_fields(self.stream.json_schema or {}, seen))
        self._use(seen, batch)

    def _use(self, json_schema: Mapping[str, Any], batch: Batch | None) -> None:
        """Makes the encoder for a schema, unless the columns stay the same. The columns are reserved then.

        The decimals that may grow get the digits that the batch needs, if there is one.
        """
        rules = self._destination.type_rules
        proposed = record_type(json_schema, self.stream.name, self.stream.namespace, rules)
        evolved = partial(self._evolved, self._grown(proposed, batch), batch)
        evolution = self._registry_entry.reserve(evolved, replaced=self._replaced)
        self.changes += evolution.changes
        self._discarded = evolution.discarded | frozenset(_open_objects(evolution.record))
        self._open_names = frozenset(_unknown_names(proposed))
        self._growing_names = frozenset(_growing_names(evolution.record))
        if self.encoder is None or self.encoder.record != evolution.record:
            self.encoder = self._encoding.encoder(self.stream, evolution.record)
            self._encoders.append(self.encoder)

    def _grown(self, record: Record, batch: Batch | None) -> Record:
        """The record type with the digits that the batch needs. Formats without types need none."""
        return grown(record, batch) if self._rules.is_typed and batch is not None else record

    def _needs_digits(self, encoded: EncodedBatch) -> bool:
        """Whether decimals that may grow lack digits for the batch."""
        assert self.encoder is not None
        if self._growing_names.isdisjoint(encoded.encoded.tally.overflowed) or not self._may_change:
            return False
        return self._grown(self.encoder.record, encoded.batch) != self.encoder.record

    def _evolved(self, proposed: Record, batch: Batch | None, known: StreamColumns) -> Evolution:
        is_live = partial(self._is_live, _live_columns(self._registry_entry, self._replaced))
        evolution = evolve(known, proposed, self._rules, is_live=is_live)
        wider = self._grown(evolution.record, batch)
        if wider == evolution.record:
            return evolution
        # A known decimal holds what an inferred schema takes for integers or doubles.
        further = evolve(evolution.columns, wider, self._rules, is_live=is_live)
        return replace(further, changes=evolution.changes + further.changes, discarded=evolution.discarded)

    def _is_live(self, live: Callable[[], list[WrittenColumns]], column: Field) -> bool:
        """Whether an object has this column, other than those that the sync replaces."""
        if self._rules.is_typed and any(has_column(each.record, column.id) for each in self._encoders):
            return True
        return _is_live_column(live(), column)


def _is_live_column(live: Iterable[WrittenColumns], column: Field) -> bool:
    """Whether one of these objects has the column with a type."""
    return any(each.is_typed and has_column(each.record, column.id) for each in live)


def _open_objects(record: Record, prefix: str = "") -> Iterator[str]:
    """Yields the objects without declared fields, whose entries do not count as undeclared."""
    for field in record.fields:
        for inner in records_in(field.kind):
            if not inner.fields:
                yield prefix + field.source
            yield from _open_objects(inner, f"{prefix}{field.source}.")


def _unknown_names(record: Record, prefix: str = "") -> Iterator[str]:
    """Yields the fields whose type is not known, at every level, as a `Tally` names them."""
    for field in record.fields:
        if not field.kind.is_known:
            yield prefix + field.source
        for inner in records_in(field.kind):
            yield from _unknown_names(inner, f"{prefix}{field.source}.")


def _growing_names(record: Record, prefix: str = "") -> Iterator[str]:
    """Yields the fields with decimals that may grow, at every level, as a `Tally` names them."""
    for field in record.fields:
        if may_grow(field.kind):
            yield prefix + field.source
            for inner in records_in(field.kind):
                yield from _growing_names(inner, f"{prefix}{field.source}.")
