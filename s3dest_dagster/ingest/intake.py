"""Prepares the records of a sync before they are encoded: takes out private fields, and decides about bad records.

A landing and a shard receive their records here. Must not know: how records are encoded, when they are published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from s3dest_dagster.batch import ArrowBatch, BadRecord, Batch, FiniteRecord, JsonBatch, common_types
from s3dest_dagster.columns.non_finite import finite_batch, non_finite_changes, split_batch
from s3dest_dagster.ingest.field_filter import FieldFilter
from s3dest_dagster.ingest.receipt import Progress
from s3dest_dagster.ingest.segment_writer import SegmentWriter
from s3dest_dagster.record_changes import nulled
from s3dest_dagster.settings.destination import S3Destination

_FINITE_AT_ONCE = 256
"""The number of records that are staged together after their NaN and infinite numbers have become null."""


class BatchWriter(Protocol):
    """Receives what an `Intake` lets through."""

    segment: SegmentWriter
    """The segment that is being written. It counts, and keeps bad records."""

    @property
    def progress(self) -> Progress:
        """How far the records have come."""

    def append(self, batch: Batch) -> None:
        """Stages the next records."""


class Intake:
    """Passes batches on to a writer: without private fields, and with the records that `on_bad_record` and
    `on_non_finite` let land.

    Args:
        destination: The settings that the stream lands with.
        fields: The stream's rules for its fields.
        writer: Receives the batches.
        on_batch: Called with every batch as it lands, without the values of fields that do not.
        on_progress: Called after every batch.
    """

    def __init__(
        self,
        destination: S3Destination,
        fields: FieldFilter,
        writer: BatchWriter,
        *,
        on_batch: Callable[[Batch], None] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._destination = destination
        self._fields = fields
        self._writer = writer
        self._on_batch = on_batch
        self._on_progress = on_progress
        self._finite: list[FiniteRecord] = []
        self._expected_rows: int | None = None

    def expect(self, rows: int) -> None:
        """Notes how many records the source expects to read, for the progress."""
        self._expected_rows = rows

    def append(self, batch: Batch) -> None:
        """Passes the next records on. Raises what the writer raises."""
        self._flush_finite()
        self._pass_on(batch)

    def reject(self, bad: BadRecord) -> None:
        """Quarantines a line that is not a record, or raises RecordError, depending on `on_bad_record`.

        A record with NaN or infinite numbers may also land without them, depending on `on_non_finite`.
        """
        if bad.finite is not None and self._destination.non_finite_policy == "null":
            self._finite.append(bad.finite)
            if len(self._finite) == _FINITE_AT_ONCE:
                self._flush_finite()
            return
        self._quarantine(bad)

    def flush(self) -> None:
        """Passes on what is still held back, and the counts of what private fields held. Call it before the segment
        ends."""
        self._flush_finite()
        self._writer.segment.add_tally(self._fields.pop_tally())

    def _flush_finite(self) -> None:
        """Passes on the records whose NaN and infinite numbers have become null."""
        if not self._finite:
            return
        records, self._finite = self._finite, []
        raws = [each.raw for each in records]
        times = np.array([each.emitted_at for each in records], np.int64)
        self._writer.segment.count_non_finite(Counter(name for each in records for name in each.fields))
        types = common_types(each.types for each in records)
        changes = {row: (*each.changes, *nulled(each.fields)) for row, each in enumerate(records)}
        self._pass_on(JsonBatch(raws, times, sum(map(len, raws)), types, changes))

    def _pass_on(self, batch: Batch) -> None:
        batch = self._fields.apply(batch)
        if isinstance(batch, ArrowBatch) and self._destination.searches_arrow:
            batch = self._searched(batch)
        if not batch.num_rows:
            return
        self._writer.append(batch)
        if self._on_batch is not None:
            self._on_batch(batch)
        if self._on_progress is not None:
            self._on_progress(replace(self._writer.progress, expected_rows=self._expected_rows))

    def _searched(self, batch: ArrowBatch) -> ArrowBatch:
        """The batch without NaN and infinite numbers, or without the rows that have some."""
        if self._destination.non_finite_policy == "null":
            finite, counts = finite_batch(batch)
            if counts and self._destination.tells_changes:
                finite = replace(finite, changes=non_finite_changes(batch.data))
            self._writer.segment.count_non_finite(counts)
            return finite
        split = split_batch(batch)
        for bad in split.bad:
            self._quarantine(bad)
        return split.finite

    def _quarantine(self, bad: BadRecord) -> None:
        self._writer.segment.reject(bad.without_text() if self._fields.is_active else bad)
