"""One stream into one bucket: batches in, objects staged, everything published at once or nothing.

A `Landing` is pushed (`append`), so that the interleaved streams of one source can be landed side by side; `land` pulls
the items of one stream through. Neither holds the stream. It must not know where records come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any

from s3dest_dagster.batch import ArrowBatch, BadRecord, Batch, JsonBatch, SourceItem, State, StreamBatch, StreamStatus
from s3dest_dagster.columns.inference import json_schema_of_arrow, json_schema_of_records
from s3dest_dagster.commit.commit_log import CommitLog, SeenHead
from s3dest_dagster.commit.manifest import ReachedState, Segment, SyncEntry
from s3dest_dagster.commit.manifest_keys import attempt_of, quarantine_key, segment_key, segment_name, sync_mark_key
from s3dest_dagster.commit.ownership import refuse_held_keys
from s3dest_dagster.commit.registry import RegistryEntry
from s3dest_dagster.commit.retired import expire_retired
from s3dest_dagster.commit.segment_builder import StagedSync, build_segment, replaces_scope
from s3dest_dagster.commit.sweep import sweep
from s3dest_dagster.errors import CommitError, StorageError, SupersededError
from s3dest_dagster.formats import Encoder, encoder
from s3dest_dagster.ingest.checkpoints import pace_of
from s3dest_dagster.ingest.key_allocator import KeyAllocator, key_allocator_of
from s3dest_dagster.ingest.object_writer import ObjectStager
from s3dest_dagster.ingest.quarantine import Quarantine
from s3dest_dagster.ingest.receipt import Progress, Receipt, receipt_of, receipt_of_mark
from s3dest_dagster.ingest.segment_writer import SegmentWriter
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.keys import scope_root
from s3dest_dagster.lineage import Lineage
from s3dest_dagster.printable import logger
from s3dest_dagster.stream import Scope, Stream, StreamId, Sync

_logger = logger("ingest")
_ATTEMPT_BYTES = 4


class Landing:
    """One sync of one scope. Use it in a `with`: leaving without `commit` aborts, and nothing becomes visible but what
    checkpoints have published.

    Making it refuses a stream that lands under another template, reads the scope's head, finishes a sync that was
    decided and not published, and finds out whether this sync's id is complete already (`recorded`); then nothing is
    landed again and `commit` gives the recorded receipt.
    An append of an unpartitioned stream is published with its state at intervals, as the settings say; `on_checkpoint`
    gets the receipt of what was. `compared`: the streams that share the destination are known to make different keys;
    otherwise a stream whose name does not stand in its keys gets a tag in them. `registration`: of the stream, checked;
    made when it is left out. `allow_empty`: to hear nothing is to hear that there is no record; otherwise a sync that
    would delete something for nothing fails, unless anything was said of the stream. Safe for one thread at a time.
    """

    def __init__(
        self,
        target: Target,
        stream: Stream,
        sync: Sync,
        *,
        scope: Scope | None = None,
        compared: bool = False,
        registration: RegistryEntry | None = None,
        allow_empty: bool = True,
        on_progress: Callable[[Progress], None] | None = None,
        on_checkpoint: Callable[[Receipt], None] | None = None,
    ) -> None:
        self.stream = stream
        self.sync = sync
        self.scope = scope or Scope(stream.id)
        self.scope.check_unicode()
        self._target = target
        self._compared = compared
        self._on_progress = on_progress
        self._on_checkpoint = on_checkpoint
        self._landed = self.scope.prefixed(target.destination.stream_prefix)
        self._registration = registration or _checked(target, self._landed.stream)
        root = scope_root(target.destination.template.literal_root, self._landed)
        self._ledger = CommitLog(target.bucket, root, self._landed, self._registration.own)
        self._seen = self._ledger.begin(target.server_clock)
        known = self._ledger.entry_of(self._seen.head, sync.id)
        self._recorded = known if known is not None and known.complete else None
        checkpoint = known.segment if known is not None and not known.complete else None
        self._segments = self._ledger.segments_left_of_sync(checkpoint) if checkpoint is not None else []
        self._attempt = target.entropy(_ATTEMPT_BYTES).hex()
        self._drafts = 0
        self._draft = self._new_draft()
        self._encoder: Encoder | None = None
        self._names: KeyAllocator | None = None
        self._pace = pace_of(target.destination, stream, self.scope, target.clock())
        self._progress = Progress(rows=0, objects=0, bytes=0)
        self._swept = 0
        self.heard_of = allow_empty
        self._state: State | None = None
        self._origin: Lineage | None = None
        self._staged: Segment | None = None

    # ------------------------------------------------------------------ what a source pushes

    def continue_from(self, origin: Lineage | None) -> None:
        """Says which state of all streams the source goes on from: what it reaches descends from it."""
        self._origin = origin

    def hear_of(self) -> None:
        """Notes that the source has said something of the stream, be it that there is no record."""
        self.heard_of = True

    def append_batch(self, batch: Batch) -> None:
        """Takes the next records. Raises what encoding or uploading an earlier batch met, too."""
        self.hear_of()
        if self.recorded or not batch.num_rows:
            return
        self._draft.write(batch, self._encoder_for(batch))
        if self._on_progress is not None:
            self._on_progress(self._progress_so_far())

    def reject(self, bad: BadRecord) -> None:
        """Takes a line that is no record: keeps it aside, or raises RecordError, as the settings say."""
        self.hear_of()
        if not self.recorded:
            self._draft.reject(bad)

    def advance_state(self, state: State, *, checkpoint: bool = True) -> bool:
        """Takes the state that covers the records written so far; the newest is committed with them.

        That may be now, by a `checkpoint`: then True. What it raises is as for `commit`; earlier checkpoints stay.
        """
        self.hear_of()
        news = self._draft.read > 0 or self._state is None or self._state.state != state.state
        self._state = state
        pace = self._pace if checkpoint else None
        if self.recorded or pace is None or not news or not pace.is_due(self._target.clock(), self._draft.read_bytes):
            return False
        self._checkpoint()
        pace.restart(self._target.clock())
        return True

    def append(self, item: SourceItem | Batch) -> None:
        """Takes the next item of a source that gives this stream alone: records, a bad record, a state or a status."""
        if isinstance(item, StreamBatch):
            self.append_batch(item.batch)
        elif isinstance(item, State):
            self.advance_state(item)
        elif isinstance(item, BadRecord):
            self.reject(item)
        elif isinstance(item, StreamStatus):
            self.hear_of()
        else:
            self.append_batch(item)

    # ------------------------------------------------------------------ the end

    def stage(self) -> None:
        """Sends everything, and publishes nothing. `commit` does it too; before the first of several landings is
        committed, staging all of them leaves little that can fail in between."""
        if not self.recorded and self._staged is None:
            self._staged = self._compose(complete=True)

    def commit(self) -> Receipt:
        """Publishes everything at once. What it raises before the decision leaves the bucket as it was."""
        self.stage()
        if self._recorded is not None:
            return self._receipt_again(self._recorded)
        assert self._staged is not None, "stage() makes the segment of a sync that is not recorded"
        self._settle(self._staged)
        return self._receipt(self._segments, swept=self._swept)

    def abort(self) -> None:
        """Gives the sync up: every upload is dropped, nothing becomes visible. Harmless after `commit`."""
        self._draft.abort()

    def __enter__(self) -> Landing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.abort()
        except StorageError as failure:
            if error is None:
                raise
            # What went wrong first is what the caller must see.
            error.add_note(f"An upload of {self.scope} could not be aborted either ({failure}); `s3dest sweep` will.")

    @property
    def recorded(self) -> bool:
        """Whether this sync was complete before: then nothing is landed again."""
        return self._recorded is not None

    @property
    def resumed(self) -> bool:
        """Whether an earlier attempt at this sync has published checkpoints, after which this one goes on."""
        return any(attempt_of(each.name) != self._attempt for each in self._segments)

    @property
    def last_state(self) -> ReachedState | None:
        """The state from which a source goes on; None where it begins anew."""
        return self._ledger.reached_state(self._seen.head)

    # ------------------------------------------------------------------ steps

    def _checkpoint(self) -> None:
        """Publishes what was read so far with the state that it reaches; the sync goes on with a new segment."""
        segment = self._compose(complete=False)
        self._settle(segment)
        self._progress = self._progress_so_far()
        self._draft = self._new_draft()
        self._ledger.check_newest(self._seen, segment)
        if self._on_checkpoint is not None:
            self._on_checkpoint(self._receipt([segment]))

    def _compose(self, *, complete: bool) -> Segment:
        """The segment of the draft, everything of it sent."""
        objects, quarantine, counts = self._draft.finish()
        staged = StagedSync(
            name=self._draft.name,
            complete=complete,
            continues=self._segments[-1].name if self._segments else None,
            stream=self.stream,
            sync=self.sync,
            objects=objects,
            quarantine=quarantine,
            next_part=self._names.next_part if self._names is not None else self._seen.head.next_part,
            counts=counts,
            encoder=self._encoder,
            silent=not self.heard_of,
            state=self._state,
            staged_since=self._draft.since,
            origin=self._origin,
            content=self._draft.content,
        )
        return build_segment(staged, self._target.destination, self._ledger, self._seen.head)

    def _settle(self, segment: Segment) -> None:
        """Decides and publishes."""
        keys = [each.key for each in segment.objects]
        refuse_held_keys(self._target.bucket, self._target.destination.template, self._landed, keys)
        self._swept += self._enter(self._target.server_clock(), segment)
        left = expire_retired(self._ledger, self._seen, self._target.server_clock())
        self._seen = self._publish(self._decide(replace(self._seen, head=left), segment), segment)
        self._segments.append(segment)

    def _decide(self, seen: SeenHead, segment: Segment) -> SeenHead:
        try:
            decided = self._ledger.decide(seen, segment)
        except SupersededError:
            with suppress(StorageError):
                self._ledger.abandon(segment)
            raise
        except StorageError:
            raise
        except BaseException:
            # Undecided, or interrupted: the decision may have been taken, and then nothing of it may be aborted.
            self._draft.settle()
            raise
        self._draft.settle()
        return decided

    def _publish(self, decided: SeenHead, segment: Segment) -> SeenHead:
        try:
            return self._ledger.publish(decided, segment, self._target.server_clock)
        except StorageError as error:
            raise CommitError(
                f"Sync {segment.sync_id} of {self.scope} is decided, and publishing it was interrupted: {error} "
                "Nothing is lost: the next sync, or `s3dest recover`, finishes it.",
                stream=str(self.scope.stream),
                partition=self.scope.partition,
                key=error.key,
                action=error.action,
            ) from error

    def _encoder_for(self, batch: Batch) -> Encoder:
        if self._encoder is None:
            if self.stream.json_schema is None:
                self.stream = replace(self.stream, json_schema=_schema_of(batch))
            destination = self._target.destination
            self._encoder = encoder(
                destination.format,
                self.stream,
                on_mismatch=destination.on_type_mismatch,
                unknown_types=destination.unknown_types,
            )
        return self._encoder

    def _new_draft(self) -> SegmentWriter:
        """The next segment, under a name that no other has."""
        name = segment_name(self.sync.id, self._attempt, self._drafts)
        self._drafts += 1
        quarantine = Quarantine(self._target, self.scope, quarantine_key(self._ledger.root, name), name)
        return SegmentWriter(name, self._target, self.scope, quarantine, self._new_stager)

    def _new_stager(self, segment: str) -> ObjectStager:
        assert self._encoder is not None, "a batch that was encoded has its encoder"
        if self._names is None:
            self._names = key_allocator_of(
                self._target,
                self._landed,
                self.sync,
                self._seen.head,
                extension=self._encoder.extension,
                replaces=replaces_scope(self._target.destination, self.stream, self.scope),
                compared=self._compared,
            )
        return ObjectStager(self._target, self._encoder, self._names, segment)

    def _progress_so_far(self) -> Progress:
        before, segment_writer = self._progress, self._draft
        return Progress(
            rows=before.rows + segment_writer.read,
            objects=before.objects + segment_writer.objects,
            bytes=before.bytes + segment_writer.bytes,
        )

    def _enter(self, now: datetime, segment: Segment) -> int:
        """Enters the stream's register, and sweeps the stream when that is due; how many uploads were aborted then."""
        target, stream = self._target, self._landed.stream
        if not self._registration.enter(now):
            return 0
        own, grace = [each.upload_id for each in segment.uploads], target.destination.delete_grace_s > 0
        try:
            return sweep(target.bucket, target.destination, stream, now=now, keep=own, release=grace).aborted
        except StorageError as error:
            _logger.warning("%s: abandoned uploads could not be swept: %s", self.scope, error)
            return 0

    def _receipt_again(self, recorded: SyncEntry) -> Receipt:
        """The receipt of a sync that was complete before: what its segments tell, or its mark where they are gone."""
        segments = self._ledger.segments_left_of_sync(recorded.segment)
        if segments:
            return self._receipt(segments, repeated=True)
        mark = self._target.bucket.uri(sync_mark_key(self._ledger.root, recorded.id))
        return receipt_of_mark(recorded, self.scope, mark)

    def _receipt(self, segments: Sequence[Segment], *, repeated: bool = False, swept: int = 0) -> Receipt:
        manifest = self._target.bucket.uri(segment_key(self._ledger.root, segments[-1].name))
        return receipt_of(segments, self.scope, manifest, repeated=repeated, swept=swept)


def land(
    items: Iterable[SourceItem | Batch],
    target: Target,
    stream: Stream,
    sync: Sync,
    *,
    scope: Scope | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_checkpoint: Callable[[Receipt], None] | None = None,
) -> Receipt:
    """Lands everything that `items` gives, or nothing; of a long append that has states, what its checkpoints published
    stays (see `S3Destination`). A sync that is recorded already does not touch `items`."""
    with Landing(target, stream, sync, scope=scope, on_progress=on_progress, on_checkpoint=on_checkpoint) as landing:
        if not landing.recorded:
            for item in items:
                landing.append(item)
        return landing.commit()


def _checked(target: Target, stream: StreamId) -> RegistryEntry:
    registration = RegistryEntry(target.bucket, target.destination, stream)
    registration.check()
    return registration


def _schema_of(batch: Batch) -> Mapping[str, Any]:
    """The JSON schema of a stream that declares none, from its first batch."""
    if isinstance(batch, ArrowBatch):
        return json_schema_of_arrow(batch.data.schema)
    assert isinstance(batch, JsonBatch)
    return json_schema_of_records(batch.raws)
