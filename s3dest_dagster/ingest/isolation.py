"""Streams of one source landed side by side, each for itself: one that fails is given up, and the others go on.

It must not know where the items come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from s3dest_dagster.batch import BadRecord, SourceItem, State, StreamStatus
from s3dest_dagster.errors import S3DestError, StorageError
from s3dest_dagster.ingest.landing import Landing
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.stream import StreamId


class IsolatedLandings:
    """Takes a source's items, and publishes every stream that has not failed, also those without a record.

    A stream that fails is told to `on_failure` at once. A state of all streams is committed with each of them at the
    end and not before: one of them may not have published the records that it covers.
    """

    def __init__(
        self, landings: Mapping[StreamId, Landing], on_failure: Callable[[StreamId, S3DestError], None]
    ) -> None:
        self._left = dict(landings)
        self._on_failure = on_failure
        self._complete: set[StreamId] = set()
        self._shared: State | None = None

    @property
    def unread(self) -> list[Landing]:
        """The landings that want records: neither failed, nor complete since an earlier attempt at the same sync."""
        return [each for each in self._left.values() if not each.recorded]

    def append(self, item: SourceItem) -> None:
        """Takes the next item. What a landing raises then is the failure of its stream, whose later items are let go.

        A line that is no record and does not tell its stream concerns all of them.
        """
        if isinstance(item, StreamStatus):
            self._note(item)
        elif isinstance(item, State) and item.stream is None:
            self._shared = item
        elif isinstance(item, BadRecord) and item.stream is None:
            self._keep(item)
        elif item.stream in self._left:
            with self._isolated(item.stream):
                self._left[item.stream].append(item)

    def source_failed(self, error: S3DestError) -> None:
        """Takes the error that the source ended by: a failure of all streams that it has not reported as COMPLETE."""
        for landing in self.unread:
            if landing.stream.id not in self._complete:
                self._give_up(landing.stream.id, error)

    def publish(self) -> Iterator[tuple[StreamId, Receipt]]:
        """Publishes one stream after the other, at every step one; those that fail are passed over."""
        for stream, landing in list(self._left.items()):
            with self._isolated(stream):
                if self._shared is not None:
                    landing.advance_state(self._shared, checkpoint=False)
                landing.stage()
        for stream, landing in list(self._left.items()):
            receipt = None
            with self._isolated(stream):
                receipt = landing.commit()
            if receipt is not None:
                yield stream, receipt

    def _note(self, status: StreamStatus) -> None:
        if status.stream in self._left:
            self._left[status.stream].hear_of()
        if status.status == "COMPLETE":
            self._complete.add(status.stream)

    def _keep(self, bad: BadRecord) -> None:
        try:
            for landing in self.unread[:1]:
                landing.reject(bad)
        except S3DestError as error:
            for landing in self.unread:
                self._give_up(landing.stream.id, error)

    @contextmanager
    def _isolated(self, stream: StreamId) -> Iterator[None]:
        try:
            yield
        except S3DestError as error:
            self._give_up(stream, error)

    def _give_up(self, stream: StreamId, error: S3DestError) -> None:
        # What went wrong is what is told; an upload that cannot be aborted now is swept later.
        with suppress(StorageError):
            self._left.pop(stream).abort()
        self._on_failure(stream, error)
