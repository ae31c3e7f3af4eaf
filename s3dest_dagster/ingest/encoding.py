"""How the batches of a stream become encoded, and which of them must not land: the part that no columns change.

`StreamSchema` chooses the columns of a landing. `FixedSchema` has the columns that the driver of an order has chosen.
Must not know: the registry, where columns are reserved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from s3dest_dagster.columns.inference import inferred_schema
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.partition_values import RecordGrouper
from s3dest_dagster.columns.schema_differences import EvolutionRules, refuse_undeclared
from s3dest_dagster.columns.stream_columns import records_in
from s3dest_dagster.formats import Encoder, encoder, format_of
from s3dest_dagster.ingest.encode_queue import EncodedBatch
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.schema_contract import SchemaContract, Verdict
from s3dest_dagster.stream import Stream, StreamId, Sync


def contract_of(destination: S3Destination, stream: Stream) -> SchemaContract:
    """The contract that a stream lands with: its own, or else the destination's."""
    return stream.settings.schema_contract or destination.contract


def evolution_rules(destination: S3Destination, stream: Stream, landed: StreamId) -> EvolutionRules:
    """The rules by which a stream's columns follow its schema."""
    format_ = format_of(destination.format)
    is_declared = stream.json_schema is not None
    return EvolutionRules(
        stream=str(landed),
        is_declared=is_declared,
        is_typed=destination.format.is_typed,
        keeps_unknown=is_declared and format_.has_null_columns,
        keeps_missing=format_.has_fixed_positions,
        name_style=destination.name_style,
        allows_any_name=destination.format.allows_any_name,
        contract=contract_of(destination, stream),
        rename={path.steps: name for path, name in stream.settings.rename.items()},
    )


class Encoding:
    """Makes the encoders of a stream, and refuses batches that its settings do not let land.

    Args:
        destination: The settings that the stream lands with.
        stream: The stream, with its name as in the source and its declared schema.
        landed: The stream's name as it is in the bucket.
        sync: The sync, whose number records of the newer envelope have.
    """

    def __init__(self, destination: S3Destination, stream: Stream, landed: StreamId, sync: Sync) -> None:
        self.rules = evolution_rules(destination, stream, landed)
        """The rules by which the stream's columns follow its schema."""
        self._destination = destination
        self._sync = sync

    def encoder(self, stream: Stream, record: Record, *, may_overflow: bool = True) -> Encoder:
        """The encoder for these columns. If the columns can change, values that do not fit are judged afterwards."""
        rule = stream.settings.partition_by
        return encoder(
            self._destination.format,
            stream,
            record,
            reports_new_fields=self.rules.names_new_fields and not self.rules.is_declared,
            on_mismatch="overflow" if may_overflow else self._destination.on_type_mismatch,
            grouper=RecordGrouper(rule, record, self.rules.stream) if rule else None,
            sync_number=self._sync.number,
        )

    def check(self, encoded: EncodedBatch, stream: Stream, discarded: frozenset[str]) -> None:
        """Checks a batch in its final form.

        Args:
            encoded: The batch.
            stream: The stream, with the schema that it has by now.
            discarded: `StreamSchema.discarded`.

        Raises:
            SchemaContractError: It has undeclared fields, and the contract freezes them.
            RecordError: A value does not fit its column, and `on_type_mismatch` is "fail".
        """
        tally = encoded.encoded.tally
        if self.rules.is_declared:
            undeclared = tally.undeclared if self.rules.is_typed else self._undeclared(encoded)
            refuse_undeclared(self.rules.stream, self.rules.contract, undeclared, discarded)
        if tally.overflowed and self._destination.on_type_mismatch == "fail":
            strict = self.encoder(stream, encoded.encoder.record, may_overflow=False)
            strict.encode(encoded.batch, encoded.entropy)

    def _undeclared(self, encoded: EncodedBatch) -> Mapping[str, int]:
        """The undeclared fields of a batch in a format without types, whose encoder does not look for all of them. They
        are looked for only if the contract freezes them. Each counts once."""
        if self.rules.contract.undeclared_field is not Verdict.FREEZE:
            return {}
        seen = record_type(inferred_schema(encoded.batch), "", None)
        return dict.fromkeys(_undeclared_names(encoded.encoder.record, seen), 1)


class FixedSchema:
    """The columns of a sync that never change while it runs.

    Values that have no column, or do not fit theirs, go to the overflow column, as under any declared schema.

    Args:
        destination: The settings that the stream lands with.
        stream: The stream as it lands, with its declared schema.
        landed: The stream's name as it is in the bucket.
        record: The columns, as the driver has reserved them.
        discarded: `StreamSchema.discarded` of the driver.
        sync: As in `Encoding`.
    """

    def __init__(
        self,
        destination: S3Destination,
        stream: Stream,
        landed: StreamId,
        record: Record,
        discarded: frozenset[str],
        sync: Sync,
    ) -> None:
        self._encoding = Encoding(destination, stream, landed, sync)
        self._stream = stream
        self._discarded = discarded
        columns = record.dropping_undeclared() if self._encoding.rules.drops_undeclared else record
        self.encoder = self._encoding.encoder(stream, columns)
        """The encoder of all batches."""
        self.big_integers: frozenset[int] = frozenset()
        """The ids of the columns in which integers were seen that no double holds."""

    def in_final_form(self, encoded: EncodedBatch) -> EncodedBatch:
        """The batch as it is. Raises as `Encoding.check` does."""
        self._encoding.check(encoded, self._stream, self._discarded)
        self.big_integers |= encoded.encoded.big_integers
        return encoded


def _undeclared_names(record: Record, seen: Record, prefix: str = "") -> Iterator[str]:
    """Yields the fields of the record type `seen` that the other one lacks, at every level, as a `Tally` names them."""
    declared = {field.source: field.kind for field in record.fields}
    for field in seen.fields:
        kind = declared.get(field.source)
        if kind is None:
            yield prefix + field.source
            continue
        for known in records_in(kind):
            for inner in records_in(field.kind):
                yield from _undeclared_names(known, inner, f"{prefix}{field.source}.")
