"""`stage`: uploads the records of one shard, in any process, without making them visible.

A worker reserves no columns and decides nothing. It reads the scope's head before and after it closes its last object,
so that a worker that comes after the commit leaves nothing behind. Must not know: other shards, how they are committed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from msgspec.structs import replace

from s3dest_dagster.batch import BadRecord, Batch, SourceFile, SourceItem, State, StreamBatch, StreamNotice
from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.documents import quarantine_key, segment_name, sync_of
from s3dest_dagster.commit.generations import metadata_of
from s3dest_dagster.commit.publication import Clock
from s3dest_dagster.commit.segment_builder import replaces_scope
from s3dest_dagster.errors import SchemaError, SettingsError, StorageError, UploadVanishedError
from s3dest_dagster.ingest.encoding import FixedSchema
from s3dest_dagster.ingest.field_filter import FieldFilter
from s3dest_dagster.ingest.intake import Intake
from s3dest_dagster.ingest.key_allocator import KeyAllocator
from s3dest_dagster.ingest.object_writer import Quarantine, RollingObjectWriter, SegmentWriting
from s3dest_dagster.ingest.partitioned_writer import PartitionedObjectWriter, directory_count, new_object_writer
from s3dest_dagster.ingest.receipt import Progress
from s3dest_dagster.ingest.segment_writer import SegmentWriter
from s3dest_dagster.ingest.target import Entropy, Target, open_target
from s3dest_dagster.keys import RANDOM_BYTES_OF_A_PART, marked_part
from s3dest_dagster.shards.order import Order, S3Access
from s3dest_dagster.shards.receipts import ShardId, ShardReceipt
from s3dest_dagster.sources.items import items_of
from s3dest_dagster.stream import Stream

_MOST_OBJECTS = 100
"""Objects that a receipt holds itself. Those of a shard with more are listed in the bucket."""
_ID_BYTES = 8


def system_clock() -> datetime:
    """This machine's time."""
    return datetime.now(UTC)


def stage(
    order: Order,
    records: Any,
    *,
    shard: ShardId,
    s3: S3Access = None,
    hash_key: str | None = None,
    on_batch: Callable[[Batch], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    clock: Clock = system_clock,
    entropy: Entropy = os.urandom,
) -> ShardReceipt:
    """Stages the records of one shard, or nothing: if it fails, all of its uploads are aborted.

    Nothing is visible before `commit`, which must get the receipt. A shard may be staged several times, one attempt
    after another or side by side. If the sync is complete by the end, nothing is kept, and the receipt says so.

    Args:
        order: What the driver began.
        records: Anything that `batches` accepts, or a source's items without states. Values that do not fit the order's
            columns go to the overflow column, as in every landing.
        shard: The name of the shard, the same in every attempt at it.
        s3: How this process reaches S3. Default: the machine's own identity, at the order's endpoint.
        hash_key: The key of hashed fields. An order does not carry it.
        on_batch: Called with every batch as it lands, without the values of fields that do not.
        on_progress: Called after every batch.
        clock: Returns the current time with a time zone.
        entropy: Returns random bytes.

    Raises:
        SettingsError: The records have states, or `hash_key` is not the key with which the stream was first hashed.
        SchemaError: This library would write other columns than the driver's.
        RecordError: A record cannot land.
        StorageError: S3 refused an upload.

    Example:
        receipt = stage(order, [{"id": 1}, {"id": 2}], shard=0)
    """
    if order.complete:
        return ShardReceipt(order=order.id, shard=str(shard), complete=True)
    destination = order.to_destination(hash_key)
    bucket = order.open_bucket(s3, destination)
    with (
        open_target(destination, bucket, clock=clock, entropy=entropy) as target,
        _Shard(target, order, on_batch=on_batch, on_progress=on_progress) as staged,
    ):
        items = items_of(records, emitted_at=lambda: int(clock().timestamp() * 1000))
        return staged.receipt(items, str(shard))


class _ShardWriter:
    """Encodes and uploads the records of one attempt at one shard (see `BatchWriter`)."""

    def __init__(self, target: Target, order: Order, stream: Stream) -> None:
        self._target = target
        self._order = order
        landed = order.landed_scope
        self._template = target.destination.template_of(stream)
        self._directories = directory_count(target.destination, stream, order.scope)
        self._replaces = replaces_scope(target.destination, stream, landed)
        self._metadata = metadata_of(stream)
        self._schema = FixedSchema(
            target.destination, stream, landed.stream, order.record, frozenset(order.discarded), order.sync
        )
        if self._schema.encoder.fingerprint != order.fingerprint:
            raise SchemaError(
                f"This version of s3dest-dagster would write other columns of {order.scope} than the driver has "
                "reserved. Install the same version on the driver and on all workers.",
                **order.error_location(),
            )
        part = marked_part(order.mark, target.entropy(RANDOM_BYTES_OF_A_PART))
        key = quarantine_key(order.manifest_root(target.destination), segment_name(order.sync_id, part))
        self.segment = SegmentWriter(
            order.id,
            target,
            order.scope,
            Quarantine(target, order.scope, key, order.id),
            self._schema,
            self._new_object_writer,
            sums_content=False,
        )
        """What is being written. Its objects have the id of the order in their metadata."""

    @property
    def progress(self) -> Progress:
        """How far the shard has come."""
        return Progress(rows=self.segment.read, objects=self.segment.objects, bytes=self.segment.bytes)

    @property
    def big_integers(self) -> tuple[int, ...]:
        """Ids of columns in which integers were seen that no double holds."""
        return tuple(sorted(self._schema.big_integers))

    def append(self, batch: Batch) -> None:
        """Stages the next records."""
        self.segment.append(batch, self._schema.encoder)

    def _new_object_writer(self, mark: str) -> RollingObjectWriter | PartitionedObjectWriter:
        keys = KeyAllocator(
            self._target,
            self._template,
            self._order.landed_scope,
            self._order.sync,
            None,
            extension=self._target.destination.format.extension,
            replaces=self._replaces,
            keys_distinct=False,
            mark=self._order.mark,
        )
        writing = SegmentWriting(self._target, keys, mark, self._metadata)
        return new_object_writer(writing, self._directories)


class _Shard:
    """One attempt at one shard. Leaving the `with` aborts its uploads, unless `receipt` has named them."""

    def __init__(
        self,
        target: Target,
        order: Order,
        *,
        on_batch: Callable[[Batch], None] | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        destination = target.destination
        fields = FieldFilter(order.to_stream(), destination.hash_key)
        _refuse_other_key(order, fields.hash_key_id)
        self._order = order
        self._commit_log = CommitLog(
            target.bucket,
            order.manifest_root(destination),
            order.landed_scope,
            objects_of_a_list=order.objects_of_a_list,
        )
        self._entropy = target.entropy
        self._writer = _ShardWriter(target, order, fields.stream)
        self._intake = Intake(destination, fields, self._writer, on_batch=on_batch, on_progress=on_progress)

    def receipt(self, items: Iterable[SourceItem | Batch], shard: str) -> ShardReceipt:
        """Stages all of these. Returns the receipt."""
        try:
            for item in items:
                self._append(item)
            return self._finish(shard)
        except UploadVanishedError:
            # The commit has aborted it as a leftover.
            if not self._is_over():
                raise
            return self._too_late(shard)

    def _append(self, item: SourceItem | Batch) -> None:
        if isinstance(item, State):
            raise SettingsError(
                f"The records of a shard of {self._order.scope} have a state. A shard is a part of a sync, so that "
                "nobody could tell which records the state covers. Land a source with states in one process.",
                stream=str(self._order.scope.stream),
                partition=self._order.partition,
            )
        if isinstance(item, SourceFile):
            raise SettingsError(
                f"The records of a shard of {self._order.scope} come with files. Land a source with "
                "files in one process.",
                stream=str(self._order.scope.stream),
                partition=self._order.partition,
            )
        if isinstance(item, BadRecord):
            self._intake.reject(item)
        elif not isinstance(item, StreamNotice):
            batch = item.batch if isinstance(item, StreamBatch) else item
            if batch.num_rows:
                self._intake.append(batch)

    def _finish(self, shard: str) -> ShardReceipt:
        self._intake.flush()
        self._writer.segment.drain()
        if self._is_over():
            return self._too_late(shard)
        objects, quarantine, counts = self._writer.segment.finish()
        receipt = ShardReceipt(
            order=self._order.id,
            shard=shard,
            counts=counts,
            fingerprint=self._order.fingerprint,
            big_integers=self._writer.big_integers,
        )
        lists = self._commit_log.lists
        with lists.writer(self._order.id, f"{self._entropy(_ID_BYTES).hex()}-") as writer:
            writer.append(objects, [quarantine] if quarantine is not None else [])
            if writer.has_written or len(objects) > min(lists.most, _MOST_OBJECTS):
                receipt = replace(receipt, lists=writer.finish())
            else:
                receipt = replace(receipt, objects=objects, quarantine=quarantine)
            # The commit looks for leftovers after it has published. What was uploaded later is dropped here.
            if self._is_over():
                writer.discard()
                return self._too_late(shard)
        self._writer.segment.mark_decided()
        return receipt

    def _too_late(self, shard: str) -> ShardReceipt:
        return ShardReceipt(order=self._order.id, shard=shard, complete=True)

    def _is_over(self) -> bool:
        """Whether the sync is decided, so that this attempt comes too late."""
        head, sync_id = self._commit_log.read_head().head, self._order.sync_id
        if head.pending_segment is not None and sync_of(head.pending_segment) == sync_id:
            return True
        sync = self._commit_log.find_sync(head, sync_id)
        return sync is not None and sync.complete

    def __enter__(self) -> _Shard:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._writer.segment.abort()
        except StorageError as failure:
            if error is not None:
                error.add_note(f"An upload of {self._order.scope} could not be aborted either ({failure}).")
            # The commit, `abandon` or a sweep aborts it.


def _refuse_other_key(order: Order, key_id: str | None) -> None:
    """Raises SettingsError if this worker would hash fields with another key than the driver's."""
    if key_id != order.hash_key_id:
        raise SettingsError(
            f"{order.scope}: the driver hashes fields with another hash_key (id {order.hash_key_id}, and this worker "
            f"has {key_id}), so that equal values would get different hashes. Give the worker the driver's key.",
            stream=str(order.scope.stream),
            partition=order.partition,
            setting="hash_key",
        )
