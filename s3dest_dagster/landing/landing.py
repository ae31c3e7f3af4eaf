"""One stream into one bucket: batches in, objects staged, everything published at once or nothing.

A `Landing` is pushed (`write`), so that the interleaved streams of one source can be landed side by side; `land` pulls
the items of one stream through. Neither holds the stream. It must not know where records come from.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any

from s3dest_dagster.batch import (
    ArrowBatch,
    BadRecord,
    Batch,
    JsonBatch,
    SourceItem,
    State,
    StreamBatch,
    StreamStatus,
    Tally,
)
from s3dest_dagster.errors import CommitError, StorageError, SupersededError
from s3dest_dagster.formats import Encoded, Encoder, encoder
from s3dest_dagster.keys import scope_root
from s3dest_dagster.landing.composing import StagedSync, compose, replaces_scope
from s3dest_dagster.landing.leaving import delete_due
from s3dest_dagster.landing.ledger import Ledger, SeenHead
from s3dest_dagster.landing.manifest import (
    Counts,
    Segment,
    quarantine_key,
    segment_key,
    segment_name,
)
from s3dest_dagster.landing.naming import names_of
from s3dest_dagster.landing.quarantine import Quarantine
from s3dest_dagster.landing.receipt import Progress, Receipt, receipt_of
from s3dest_dagster.landing.register import enter
from s3dest_dagster.landing.staging import ObjectStager
from s3dest_dagster.landing.sweep import sweep
from s3dest_dagster.landing.sync import Sync
from s3dest_dagster.landing.target import Target
from s3dest_dagster.schema import json_schema_of_arrow, json_schema_of_records
from s3dest_dagster.stream import Scope, Stream, StreamId

_logger = logging.getLogger("s3dest_dagster.landing")
_ID_BYTES = 16
_ATTEMPT_BYTES = 4


class Landing:
    """One sync of one scope. Use it in a `with`: leaving without `commit` aborts, and nothing becomes visible.

    Making it reads the scope's head, finishes a sync that was decided and not published, and finds out whether this
    sync's id is complete already (`recorded`); then nothing is landed again and `commit` gives the recorded receipt.
    `compared`: the streams that share the destination are known to make different keys; otherwise a stream whose name
    does not stand in its keys gets a tag in them. Safe for one thread at a time.
    """

    def __init__(
        self,
        target: Target,
        stream: Stream,
        sync: Sync,
        *,
        scope: Scope | None = None,
        compared: bool = False,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.stream = stream
        self.sync = sync
        self.scope = scope or Scope(stream.id)
        self._target = target
        self._compared = compared
        self._on_progress = on_progress
        self._landed = landed_scope(target.destination.stream_prefix, self.scope)
        root = scope_root(target.destination.template, self._landed)
        self._ledger = Ledger(target.bucket, root, self._landed)
        self._seen = self._ledger.begin(target.clock)
        self._recorded = self._seen.head.segment_of(sync.id)
        self._name = segment_name(sync.id, target.entropy(_ATTEMPT_BYTES).hex())
        self._quarantine = Quarantine(target, self.scope, quarantine_key(root, self._name), self._name)
        self._encoder: Encoder | None = None
        self._stager: ObjectStager | None = None
        self._encoding: deque[Future[Encoded]] = deque()
        self._read = 0
        self._landed_rows = 0
        self._tally = Tally()
        self._state: State | None = None
        self._staged: Segment | None = None
        self._settled = self.recorded

    # ------------------------------------------------------------------ what a source pushes

    def write(self, batch: Batch) -> None:
        """Takes the next records. Raises what encoding or uploading an earlier batch met, too."""
        if self.recorded or not batch.num_rows:
            return
        encode = self._encoder_for(batch).encode
        self._read += batch.num_rows
        entropy = self._target.entropy(_ID_BYTES * batch.num_rows)
        if self._target.encoders is None:
            self._stage(encode(batch, entropy))
            return
        self._encoding.append(self._target.encoders.submit(encode, batch, entropy))
        while len(self._encoding) > self._target.destination.encode_workers:
            self._stage(self._encoding.popleft().result())

    def reject(self, bad: BadRecord) -> None:
        """Takes a line that is no record: keeps it aside, or raises RecordError, as the settings say."""
        if not self.recorded:
            self._quarantine.take(bad)
            self._read += 1

    def reached(self, state: State) -> None:
        """Takes the state that covers the records written so far; the newest is committed with them."""
        self._state = state

    def take(self, item: SourceItem | Batch) -> None:
        """Takes the next item of a source that gives this stream alone: records, a bad record, a state or a status."""
        if isinstance(item, StreamBatch):
            self.write(item.batch)
        elif isinstance(item, State):
            self.reached(item)
        elif isinstance(item, BadRecord):
            self.reject(item)
        elif not isinstance(item, StreamStatus):
            self.write(item)

    # ------------------------------------------------------------------ the end

    def stage(self) -> None:
        """Sends everything, and publishes nothing. `commit` does it too; before the first of several landings is
        committed, staging all of them leaves little that can fail in between."""
        if not self.recorded and self._staged is None:
            self._staged = compose(self._finish(), self._target.destination, self._ledger, self._seen.head)

    def commit(self) -> Receipt:
        """Publishes everything at once. What it raises before the decision leaves the bucket as it was."""
        self.stage()
        if self._recorded is not None:
            return self._receipt(self._ledger.read_segment(self._recorded), repeated=True)
        segment = self._staged
        assert segment is not None, "stage() makes the segment of a sync that is not recorded"
        aborted = self._enter(self._target.clock(), segment)
        left = delete_due(self._ledger, self._seen, self._target.clock())
        self._publish(self._decide(replace(self._seen, head=left), segment), segment)
        return self._receipt(segment, repeated=False, swept=aborted)

    def abort(self) -> None:
        """Gives the sync up: every upload is dropped, nothing becomes visible. Harmless after `commit`."""
        if self._settled:
            return
        self._settled = True
        for each in self._encoding:
            each.cancel()
        self._encoding.clear()
        with ExitStack() as both:
            both.callback(self._quarantine.abort)
            if self._stager is not None:
                both.callback(self._stager.abort)

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
    def last_state(self) -> str | None:
        """The state that the scope's last sync reached, as the source gave it."""
        return self.last_reached[0]

    @property
    def last_reached(self) -> tuple[str | None, datetime | None]:
        """`last_state`, and when the sync began that reached it."""
        holder = self._seen.head.state
        if holder is None:
            return None, None
        segment = self._ledger.read_segment(holder)
        return segment.state, segment.started_at

    # ------------------------------------------------------------------ steps

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
            self._settled = True
            raise
        self._settled = True
        return decided

    def _publish(self, decided: SeenHead, segment: Segment) -> None:
        try:
            self._ledger.publish(decided, segment, self._target.clock)
        except StorageError as error:
            raise CommitError(
                f"Sync {segment.sync_id} of {self.scope} is decided, and publishing it was interrupted: {error} "
                "Nothing is lost: the next sync, or `s3dest recover`, finishes it.",
                stream=str(self.scope.stream),
                partition=self.scope.partition,
                key=error.key,
            ) from error

    def _encoder_for(self, batch: Batch) -> Encoder:
        if self._encoder is None:
            if self.stream.json_schema is None:
                self.stream = replace(self.stream, json_schema=_schema_of(batch))
            destination = self._target.destination
            self._encoder = encoder(destination.format, self.stream, on_mismatch=destination.on_type_mismatch)
        return self._encoder

    def _stage(self, encoded: Encoded) -> None:
        if self._stager is None:
            assert self._encoder is not None
            names = names_of(
                self._target,
                self._landed,
                self.sync,
                self._seen.head,
                extension=self._encoder.extension,
                replaces=replaces_scope(self._target.destination, self.stream, self.scope),
                compared=self._compared,
            )
            self._stager = ObjectStager(self._target, self._encoder, names, self._name)
        self._stager.take(encoded)
        self._landed_rows += encoded.rows
        self._tally += encoded.tally
        if self._on_progress is not None:
            self._on_progress(Progress(rows=self._read, objects=self._stager.objects, bytes=self._stager.bytes))

    def _finish(self) -> StagedSync:
        """Everything sent, and the counts proven."""
        while self._encoding:
            self._stage(self._encoding.popleft().result())
        objects = self._stager.finish() if self._stager is not None else ()
        landed, kept = sum(each.rows for each in objects), self._quarantine.rows
        if landed != self._landed_rows or self._read != landed + kept:
            raise CommitError(
                f"The counts of {self.scope} do not add up: {self._read} records read, {landed} landed, {kept} "
                "quarantined. Nothing was published; please report this with the run's log.",
                stream=str(self.scope.stream),
                partition=self.scope.partition,
            )
        return StagedSync(
            name=self._name,
            stream=self.stream,
            sync=self.sync,
            objects=objects,
            quarantine=self._quarantine.finish(),
            next_part=self._stager.next_part if self._stager is not None else self._seen.head.next_part,
            counts=Counts(read=self._read, landed=landed, quarantined=kept, tally=self._tally),
            encoder=self._encoder,
            state=self._state,
        )

    def _enter(self, now: datetime, segment: Segment) -> int:
        """Enters the stream's register, and sweeps the stream when that is due; how many uploads were aborted then."""
        target, stream = self._target, self._landed.stream
        if not enter(target.bucket, target.destination.template, stream, now):
            return 0
        own, grace = [each.upload_id for each in segment.uploads], target.destination.delete_grace_s > 0
        try:
            return sweep(target.bucket, target.destination, stream, now=now, keep=own, release=grace).aborted
        except StorageError as error:
            _logger.warning("%s: abandoned uploads could not be swept: %s", self.scope, error)
            return 0

    def _receipt(self, segment: Segment, *, repeated: bool, swept: int = 0) -> Receipt:
        manifest = self._target.bucket.uri(segment_key(self._ledger.root, segment.name))
        return receipt_of(segment, self.scope, manifest, repeated=repeated, swept=swept)


def land(
    items: Iterable[SourceItem | Batch],
    target: Target,
    stream: Stream,
    sync: Sync,
    *,
    scope: Scope | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Receipt:
    """Lands everything that `items` gives, or nothing. A sync that is recorded already does not touch `items`."""
    with Landing(target, stream, sync, scope=scope, on_progress=on_progress) as landing:
        if not landing.recorded:
            for item in items:
                landing.take(item)
        return landing.commit()


def landed_scope(prefix: str, scope: Scope) -> Scope:
    """The scope under the name that its stream has in the bucket: with the stream name prefix."""
    return replace(scope, stream=StreamId(scope.stream.namespace, prefix + scope.stream.name))


def _schema_of(batch: Batch) -> Mapping[str, Any]:
    """The JSON schema of a stream that declares none, from its first batch."""
    if isinstance(batch, ArrowBatch):
        return json_schema_of_arrow(batch.data.schema)
    assert isinstance(batch, JsonBatch)
    return json_schema_of_records(batch.raws)
