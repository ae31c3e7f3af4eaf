"""Lands the interleaved streams of one source side by side, each as a separate sync.

It must not know where the items come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from s3dest_dagster.batch import BadRecord, Batch, SourceItem, State, StreamStatus
from s3dest_dagster.columns.schema_differences import undiscardable_stream
from s3dest_dagster.commit.registry import RegistryEntry, check_names, owner_of
from s3dest_dagster.errors import S3DestError, StorageError
from s3dest_dagster.ingest.landing import Landing
from s3dest_dagster.ingest.receipt import Progress, Receipt
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.storage import in_parallel
from s3dest_dagster.stream import Scope, Stream, StreamId, Sync

OnFailure = Callable[[StreamId, S3DestError], None]
_AT_ONCE = 8
"""Streams that are published side by side."""


class StreamLandings:
    """Receives a source's items, and publishes every stream, even if it has no records. Created by `landing_streams`.

    There are two failure policies:

    - Without `on_failure`, a stream that fails ends all streams: its error is raised. Nothing of any stream is visible
      before all are staged, except published checkpoints. Of the streams after one that fails while it is published,
      only those are published that are under way. A state of all streams (GLOBAL, LEGACY) is not committed; `states`
      returns it once all streams are published.
    - With `on_failure`, only the stream that fails is abandoned. It is reported immediately, and its later items are
      dropped. A state of all streams is committed with each stream at the end, and not earlier, because another stream
      may not have published the records that it covers.

    A stream whose sync is already recorded is not landed again, and its state is the recorded one, whatever the source
    reports now. Each appended stream has its own checkpoints, at its own states.
    """

    def __init__(self, landings: Mapping[StreamId, Landing], on_failure: OnFailure | None = None) -> None:
        self._landings = dict(landings)
        self._on_failure = on_failure
        self._complete: set[StreamId] = set()
        self._states: dict[StreamId | None, State] = {}
        self._given: dict[StreamId, State] = {}
        self._receipts: dict[StreamId, Receipt] = {}

    # ------------------------------------------------------------------ while the source is read

    @property
    def unread(self) -> list[Landing]:
        """The landings that need records: those that have not failed and that no earlier attempt at the same sync
        completed."""
        return [landing for landing in self._landings.values() if not landing.recorded]

    @property
    def resumed(self) -> tuple[StreamId, ...]:
        """The streams whose checkpoints an earlier attempt at this sync has published."""
        return tuple(stream for stream, landing in self._landings.items() if landing.resumed)

    @property
    def new(self) -> tuple[StreamId, ...]:
        """The streams of which nothing has ever been published."""
        return tuple(stream for stream, landing in self._landings.items() if landing.registry_entry.is_new)

    @property
    def none_mentioned(self) -> bool:
        """Whether the source has not mentioned any stream."""
        return not any(landing.mentioned for landing in self._landings.values())

    def append(self, item: SourceItem) -> bytes | None:
        """Receives the next item.

        Returns:
            A STATE message that may be passed on now, because a checkpoint has published all records that it covers.

        Raises:
            KeyError: The item belongs to a stream that is not among these, and there is no `on_failure`.
        """
        if isinstance(item, State):
            if item.stream is None:
                self._refuse_state_of_discarded()
            # Moved to the end, so that the states are in the order of their arrival.
            self._states.pop(item.stream, None)
            self._states[item.stream] = item
        if item.stream is None:
            self._append_unassigned(item)
            return None
        if self._on_failure is not None and item.stream not in self._landings:
            return None
        is_published = False
        with self._giving_up(item.stream):
            is_published = self._landings[item.stream].append(item)
        if isinstance(item, StreamStatus) and item.status == "COMPLETE":
            self._complete.add(item.stream)
        if not isinstance(item, State) or not is_published:
            return None
        self._given[item.stream] = item
        return item.message

    def source_failed(self, error: S3DestError) -> None:
        """Abandons every stream that the source has not reported as COMPLETE, because of the error that ended the
        source."""
        for landing in self.unread:
            if landing.stream.id not in self._complete:
                self._give_up(landing.stream.id, error)

    # ------------------------------------------------------------------ the end

    def stage(self) -> None:
        """Uploads everything that is left of all streams. Nothing of it is visible yet. `publish` does this too."""
        shared = self._states.get(None) if self._on_failure is not None else None
        for stream, landing in list(self._landings.items()):
            with self._giving_up(stream):
                if shared is not None:
                    landing.advance_state(shared, checkpoint=False)
                landing.stage()

    def publish(self) -> Iterator[Receipt]:
        """Publishes the streams, eight side by side, and yields their receipts in the order of the streams. A stream
        that fails is skipped or, without `on_failure`, its error is raised. Nothing is under way during a yield."""
        self.stage()
        landings = list(self._landings.items())
        for first in range(0, len(landings), _AT_ONCE):
            group = landings[first : first + _AT_ONCE]
            results = dict(zip(group, in_parallel(self._publish_one, group), strict=True))
            yield from (result for result in results.values() if isinstance(result, Receipt))
            for (stream, _), result in results.items():
                if not isinstance(result, Receipt):
                    self._give_up(stream, result)

    @property
    def published(self) -> tuple[Scope, ...]:
        """The scopes that are published, in the order of the streams."""
        return tuple(self._receipts[stream].scope for stream in self._landings if stream in self._receipts)

    @property
    def landed(self) -> frozenset[StreamId]:
        """The streams whose records are published, so that their states may be passed on."""
        return frozenset(stream for stream, receipt in self._receipts.items() if receipt.discarded is None)

    @property
    def unpublished(self) -> tuple[StreamId, ...]:
        """The streams that are not published (yet)."""
        return tuple(stream for stream in self._landings if stream not in self._receipts)

    def states(self) -> list[bytes]:
        """The newest STATE message of each published stream, in the source's order, unless `append` already returned
        it.

        It includes a state of all streams if all streams are published, and none of them by an earlier run: the records
        that came with the state for such streams were not landed.
        """
        messages = (self._message(stream, state) for stream, state in self._states.items())
        return [message for message in messages if message is not None]

    def withheld(self) -> bool:
        """Whether a state of all streams cannot be passed on, because an earlier run landed some of the streams."""
        return None in self._states and any(receipt.repeated for receipt in self._receipts.values())

    # ------------------------------------------------------------------ steps

    def _publish_one(self, published: tuple[StreamId, Landing]) -> Receipt | S3DestError:
        """Publishes a stream, and notes its receipt. Runs on several threads."""
        stream, landing = published
        try:
            receipt = self._receipts[stream] = landing.commit()
        except S3DestError as error:
            return error
        return receipt

    def _refuse_state_of_discarded(self) -> None:
        """Fails all streams at a state of all streams, if one of them is discarded: the state would pass its
        records."""
        discarded = next((stream for stream, landing in self._landings.items() if landing.discards), None)
        if discarded is None:
            return
        error = undiscardable_stream(str(discarded), "its source has one state for all streams, which would pass it")
        for landing in self.unread:
            self._give_up(landing.stream.id, error)

    def _append_unassigned(self, item: State | BadRecord) -> None:
        """Receives a state of all streams, or a bad record that does not name its stream. The first stream that lands
        stores the bad record. If bad records must not be stored, all streams fail."""
        landings = list(self._landings.values())
        if isinstance(item, State):
            for landing in landings:
                landing.mentioned = True
            return
        if any(landing.hides_fields for landing in landings):
            item = item.without_text()
        try:
            for landing in (self.unread or landings)[:1]:
                landing.reject(item)
        except S3DestError as error:
            for landing in self.unread:
                self._give_up(landing.stream.id, error)

    def _message(self, stream: StreamId | None, state: State) -> bytes | None:
        """The message that may be passed on in place of the newest state that arrived."""
        if stream is None:
            return None if self.unpublished or self.withheld() else state.message
        receipt = self._receipts.get(stream)
        if receipt is None or receipt.discarded is not None or self._given.get(stream) is state:
            return None
        if not receipt.repeated:
            return state.message
        return state_message(receipt.state) if receipt.state is not None else None

    @contextmanager
    def _giving_up(self, stream: StreamId) -> Iterator[None]:
        """Handles an error of this stream according to the failure policy."""
        try:
            yield
        except S3DestError as error:
            self._give_up(stream, error)

    def _give_up(self, stream: StreamId, error: S3DestError) -> None:
        if self._on_failure is None:
            raise error
        # The first error is the important one. An upload that cannot be aborted now is swept later.
        with suppress(StorageError):
            self._landings.pop(stream).abort()
        self._on_failure(stream, error)


def state_message(state: str) -> bytes:
    """The STATE message that carries this state, as one line."""
    return b'{"type":"STATE","state":' + state.encode() + b"}"


@contextmanager
def landing_streams(
    target: Target,
    streams: Sequence[Stream],
    sync: Sync,
    *,
    scopes: Mapping[StreamId, Scope] | None = None,
    assets: Mapping[StreamId, str] | None = None,
    allow_empty: bool = True,
    on_batch: Callable[[StreamId, Batch], None] | None = None,
    on_progress: Callable[[StreamId, Progress], None] | None = None,
    on_checkpoint: Callable[[Receipt], None] | None = None,
    on_failure: OnFailure | None = None,
) -> Iterator[StreamLandings]:
    """Begins a landing of each stream, eight side by side. Leaving the context aborts everything that is not published.

    Args:
        scopes: What each stream lands: a partition, perhaps under another namespace than the source's. Default: the
            unpartitioned streams.
        assets: Keys of the assets that land the streams, see `Landing`.
        allow_empty, on_batch: See `Landing`.
        on_failure: The failure policy, see `StreamLandings`.

    Raises:
        OwnershipError: One of the streams has another owner.
        TemplateError: Two of the streams could have the same key, or one lands under another template.
    """
    destination = target.destination
    scopes = scopes or {stream.id: Scope(stream.id) for stream in streams}
    landed = [scopes[stream.id].prefixed(destination.stream_prefix).stream for stream in streams]
    owners = [owner_of(stream, destination, (assets or {}).get(stream.id)) for stream in streams]
    entries = check_names(target.bucket, destination, streams, landed, owners)

    def begun(stream: Stream, entry: RegistryEntry) -> Landing:
        return Landing(
            target,
            stream,
            sync,
            scope=scopes[stream.id],
            keys_distinct=True,
            registry_entry=entry,
            allow_empty=allow_empty,
            on_batch=partial(on_batch, stream.id) if on_batch else None,
            on_progress=partial(on_progress, stream.id) if on_progress else None,
            on_checkpoint=on_checkpoint,
        )

    # A landing stages nothing when it begins, so that there is nothing to abort if another one cannot begin.
    landings = in_parallel(lambda each: begun(*each), zip(streams, entries, strict=True))
    with ExitStack() as stack:
        for landing in landings:
            stack.enter_context(landing)
        yield StreamLandings({landing.stream.id: landing for landing in landings}, on_failure)
