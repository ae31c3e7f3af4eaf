"""Lands one sync of one stream or partition: receives batches, stages objects, and publishes everything or nothing.

This module defines the order of a sync; other modules do the work. This is the path of a record:

1. `Landing.append` receives the source's items one by one, and `Intake.append` takes out private fields.
   `SyncWriter.append` creates the stream's encoder from the first batch, and `SegmentWriter.append` counts the batch.
2. `EncodeQueue.append` has the batch encoded (`Encoder.encode`), on another thread if that helps.
3. `RollingObjectWriter.append` writes the encoded batch into the open object, whose key comes from
   `KeyAllocator.next_key`, and closes the object when it is full. `Upload` sends its parts in the background. Nobody
   can see the object yet.
4. `Landing.advance_state` publishes a checkpoint when one is due according to `CheckpointSchedule`.
5. `Landing.commit` finishes the segment (`SyncWriter.finish`), decides and publishes it (`SyncCommit.publish`).

Items are pushed into a `Landing`, so that the interleaved streams of one source can land side by side (`streams.py`).
`land` iterates over the items of one stream and pushes them. Neither holds the whole stream in memory. It must not know
where records come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from threading import Lock
from types import TracebackType

from s3dest_dagster.batch import (
    BadRecord,
    Batch,
    Lineage,
    SourceFile,
    SourceItem,
    State,
    StreamBatch,
    StreamEstimate,
    StreamStatus,
)
from s3dest_dagster.commit.documents import new_attempt
from s3dest_dagster.commit.generations import may_remove
from s3dest_dagster.commit.head import ReachedState
from s3dest_dagster.commit.registry import RegistryEntry, owner_of
from s3dest_dagster.commit.retention import with_retention
from s3dest_dagster.commit.segment import Segment
from s3dest_dagster.commit.segment_builder import replaces_scope
from s3dest_dagster.commit.sync_commit import SyncCommit
from s3dest_dagster.errors import CommitError, StorageError
from s3dest_dagster.ingest.encoding import contract_of
from s3dest_dagster.ingest.field_filter import FieldFilter
from s3dest_dagster.ingest.intake import Intake
from s3dest_dagster.ingest.publishing import Publisher
from s3dest_dagster.ingest.receipt import Progress, Receipt, receipt_of_discarded
from s3dest_dagster.ingest.segment_writer import SyncWriter
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.schema_contract import Verdict
from s3dest_dagster.stream import Scope, Stream, Sync


class Landing:
    """One sync of one scope. Use it in a `with`: leaving it without `commit` aborts the sync, and only what checkpoints
    have published stays visible.

    If this sync's id is already complete (`recorded`), nothing is landed again, and `commit` returns the recorded
    receipt. If the stream has never landed and its contract discards new streams (`discards`), records and states are
    counted and dropped. An append of an unpartitioned stream is published with its state at intervals (see
    `CheckpointSchedule`).

    Use it from one thread at a time, except that `abort` may be called while another thread is in `commit`.

    Args:
        scope: The partition to land. Default: the unpartitioned stream.
        keys_distinct: See `KeyAllocator`. If False, the keys of a stream that do not contain its name get a tag.
        registry_entry: The stream's registry entry, already checked. Default: it is read and checked here.
        asset: Key of the asset that lands the stream. It becomes the stream's owner if the settings name none.
        allow_empty: Whether a stream that the source never mentions has no records. If False, the sync of such a stream
            fails if it would delete something.
        on_batch: Called with every batch as it lands, without the values of fields that do not.
        on_progress: Called after every batch.
        on_checkpoint: Called with the receipt of what a checkpoint published.

    Raises:
        OwnershipError: The stream has another owner.
        TemplateError: The stream lands under another template.
        SettingsError: The stream's settings of fields contradict its schema, or lack a key.
    """

    def __init__(
        self,
        target: Target,
        stream: Stream,
        sync: Sync,
        *,
        scope: Scope | None = None,
        keys_distinct: bool = False,
        registry_entry: RegistryEntry | None = None,
        asset: str | None = None,
        allow_empty: bool = True,
        on_batch: Callable[[Batch], None] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_checkpoint: Callable[[Receipt], None] | None = None,
    ) -> None:
        self.scope = scope or Scope(stream.id)
        self.scope.check_unicode()
        self.mentioned = allow_empty
        """Whether the source has mentioned the stream, even if only to say that it has no records."""
        self._target = target
        self._on_checkpoint = on_checkpoint
        destination = with_retention(target.destination, stream.settings)
        self._commit = SyncCommit(
            target.bucket,
            destination,
            self.scope,
            sync,
            attempt=new_attempt(target.entropy),
            clock=target.server_clock,
            registry_entry=registry_entry,
            owner=owner_of(stream, target.destination, asset),
            template=target.destination.template_of(stream),
            lineages=target.lineages,
            objects_of_a_list=target.objects_of_a_list,
        )
        self._fields = fields = FieldFilter(self._commit.with_generation(stream), target.destination.hash_key)
        if self._fields.hash_key_id is not None:
            self._commit.use_hash_key(self._fields.hash_key_id)
        self._publisher = Publisher(target.bucket, destination, self._commit, self.scope, target.entropy)
        self._writer = SyncWriter(target, fields.stream, self.scope, sync, self._commit, keys_distinct=keys_distinct)
        self._intake = Intake(
            target.destination, self._fields, self._writer, on_batch=on_batch, on_progress=on_progress
        )
        self._schedule = CheckpointSchedule(target.destination, stream, self.scope, target.clock())
        self._state: State | None = None
        self._origin: Lineage | None = None
        self._staged: Segment | None = None
        self._lock, self._ends, self._aborted = Lock(), False, False
        self._sync, self._discarded = sync, 0
        self._discards_new = contract_of(target.destination, stream).new_stream is Verdict.DISCARD

    @property
    def stream(self) -> Stream:
        """The stream as it lands. Its schema is inferred from the first batch if it declares none."""
        return self._writer.stream

    @property
    def hides_fields(self) -> bool:
        """Whether there are fields whose values must not be written or shown."""
        return self._fields.is_active

    @property
    def discards(self) -> bool:
        """Whether nothing of the stream lands, because it is new. The source starts over at its next sync."""
        return self._discards_new and self._commit.registry_entry.is_new

    @property
    def recorded(self) -> bool:
        """Whether this sync was already complete, so that nothing is landed again."""
        return self._commit.recorded is not None

    @property
    def resumed(self) -> bool:
        """Whether an earlier attempt at this sync has published checkpoints, after which this one continues."""
        return self._commit.resumed

    @property
    def registry_entry(self) -> RegistryEntry:
        """The entry in the registry of the stream."""
        return self._commit.registry_entry

    @property
    def last_state(self) -> ReachedState | None:
        """The state from which the source continues. None if it starts from the beginning."""
        return self._commit.last_state

    # ------------------------------------------------------------------ while the source is read

    def continue_from(self, origin: Lineage | None) -> None:
        """Notes the state of all streams from which the source continues. The states that it reaches descend from this
        one."""
        self._origin = origin

    def append(self, item: SourceItem | Batch) -> bool:
        """Receives the next item of the source. Returns True if a checkpoint has published everything so far."""
        self.mentioned = True
        if isinstance(item, State):
            return self.advance_state(item)
        if isinstance(item, BadRecord):
            self.reject(item)
        elif isinstance(item, SourceFile):
            self.copy_file(item)
        elif isinstance(item, StreamEstimate):
            self._intake.expect(item.rows)
        elif not isinstance(item, StreamStatus):
            self.append_batch(item.batch if isinstance(item, StreamBatch) else item)
        return False

    def append_batch(self, batch: Batch) -> None:
        """Stages the next records. Also raises what encoding or uploading an earlier batch raised."""
        self.mentioned = True
        if self.discards:
            self._discarded += batch.num_rows
        elif not self.recorded and batch.num_rows:
            self._intake.append(batch)

    def reject(self, bad: BadRecord) -> None:
        """Quarantines a line that is not a record, or raises RecordError (see `Intake.reject`)."""
        self.mentioned = True
        if self.discards:
            self._discarded += 1
        elif not self.recorded:
            self._intake.reject(bad)

    def copy_file(self, file: SourceFile) -> None:
        """Stages a copy of a file, which becomes visible together with the records. Raises as `FileCopies.append`."""
        self.mentioned = True
        if self.discards:
            self._discarded += 1
        elif not self.recorded:
            self._writer.segment.copy_file(file)

    def advance_state(self, state: State, *, checkpoint: bool = True) -> bool:
        """Notes the state that covers the records so far. The newest state is committed with them.

        Args:
            checkpoint: Whether records and state may be published immediately if a checkpoint is due.

        Returns:
            Whether a checkpoint was published. The method raises what `commit` raises; earlier checkpoints stay.
        """
        self.mentioned = True
        if self.discards:
            return False
        self._intake.flush()
        segment = self._writer.segment
        is_news = segment.read > 0 or segment.has_files or self._state is None or self._state.state != state.state
        self._state = state
        if self.recorded or not checkpoint or not is_news:
            return False
        if not self._schedule.is_due(self._target.clock(), segment.read_bytes):
            return False
        self._publish_checkpoint()
        self._schedule.restart(self._target.clock())
        return True

    # ------------------------------------------------------------------ the end

    def stage(self) -> None:
        """Uploads everything, and publishes nothing. `commit` does this too. If several landings are staged before the
        first is committed, little can fail between the commits."""
        if not self.recorded and not self.discards and self._staged is None:
            self._staged = self._finish_segment(complete=True)

    def commit(self) -> Receipt:
        """Publishes everything atomically. An error before the decision leaves the bucket unchanged."""
        self.stage()
        if self.discards:
            return receipt_of_discarded(self.scope, self._sync.id, self._discarded)
        if self._staged is None:
            return self._publisher.recorded_receipt()
        with self._lock:
            if self._aborted:
                raise CommitError(
                    f"{self.scope} was abandoned. Nothing of it is visible.", stream=str(self.scope.stream)
                )
            self._ends = True
        try:
            return self._publisher.publish_last(self._staged, on_decided=self._writer.segment.mark_decided)
        finally:
            self._ends = False

    def abort(self) -> None:
        """Abandons the sync: every upload is aborted, and nothing becomes visible. Does nothing after `commit`.

        Does nothing either while another thread is in `commit`, which may be deciding: a sweep aborts what it leaves.
        """
        with self._lock:
            if not self._ends:
                self._aborted = True
                self._writer.segment.abort()

    def __enter__(self) -> Landing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.abort()
        except StorageError as failure:
            if error is None:
                raise
            # The caller must see the original error.
            error.add_note(f"An upload of {self.scope} could not be aborted either ({failure}); `s3dest sweep` will.")

    # ------------------------------------------------------------------ steps

    def _publish_checkpoint(self) -> None:
        """Publishes the records so far with the state that they reach. The sync continues with a new segment."""
        segment = self._finish_segment(complete=False)
        self._commit.publish(segment, on_decided=self._writer.segment.mark_decided)
        self._writer.start_segment()
        self._commit.check_newest(segment)
        if self._on_checkpoint is not None:
            self._on_checkpoint(self._publisher.receipt([segment]))

    def _finish_segment(self, *, complete: bool) -> Segment:
        self._intake.flush()
        return self._writer.finish(complete=complete, mentioned=self.mentioned, state=self._state, origin=self._origin)


class CheckpointSchedule:
    """Decides when a checkpoint is due: `checkpoint_interval_s` after the last one, or after `checkpoint_mb` of
    records.

    Only appends to an unpartitioned stream have checkpoints: a partition has no state, and a sync that replaces objects
    or removes generations is published as a whole. There are also no checkpoints if the template allows only one key
    per sync, because a second object would have no key.
    """

    def __init__(self, destination: S3Destination, stream: Stream, scope: Scope, now: datetime) -> None:
        at_once = scope.partition is not None or replaces_scope(destination, stream, scope)
        at_once = at_once or may_remove(stream, scope)
        allowed = not at_once and destination.allows_checkpoints
        self._interval_s = destination.checkpoint_interval_s if allowed else 0
        self._bytes = destination.checkpoint_bytes if allowed else 0
        self._since = now

    def is_due(self, now: datetime, read_bytes: int) -> bool:
        """Whether a checkpoint is due after that many bytes of records since the last one."""
        return 0 < self._interval_s <= (now - self._since).total_seconds() or 0 < self._bytes <= read_bytes

    def restart(self, now: datetime) -> None:
        """Counts from now on, after a checkpoint."""
        self._since = now


def land(
    items: Iterable[SourceItem | Batch],
    target: Target,
    stream: Stream,
    sync: Sync,
    *,
    scope: Scope | None = None,
    on_batch: Callable[[Batch], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_checkpoint: Callable[[Receipt], None] | None = None,
) -> Receipt:
    """Lands all of `items`, or nothing. If a long append with states fails, its published checkpoints stay. If the sync
    is already complete, `items` is not read.

    Args:
        items: Batches, or the items of a source.
        target: The destination.
        stream: The stream.
        sync: The sync. Its id is the same for a retry.
        scope: The partition to land. Default: the unpartitioned stream.
        on_batch: Called with every batch as it lands, without the values of fields that do not.
        on_progress: Called after every batch.
        on_checkpoint: Called with the receipt of what a checkpoint published.

    Raises:
        OwnershipError: The stream has another owner.
        TemplateError: The stream lands under another template.
        SettingsError: The stream's settings of fields contradict its schema, or lack a key.
        SupersededError: Another sync of the scope was published in the meantime.

    Example:
        with open_target(destination, bucket, clock=lambda: datetime.now(UTC), entropy=os.urandom) as target:
            receipt = land(batches(records, emitted_at=lambda: 0), target, stream, sync)
    """
    with Landing(
        target, stream, sync, scope=scope, on_batch=on_batch, on_progress=on_progress, on_checkpoint=on_checkpoint
    ) as landing:
        if not landing.recorded:
            for item in items:
                landing.append(item)
        return landing.commit()
