"""Limits what a sync takes from its source, to try it out: so many records of each stream, or so many seconds.

What is left out never counts as landed: a state that comes after a record that was left out is left out, too. Must not
know: where items come from or go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace

from s3dest_dagster.batch import ArrowBatch, BadRecord, Batch, JsonBatch, SourceItem, State, StreamBatch
from s3dest_dagster.printable import amount
from s3dest_dagster.record_changes import selected_changes
from s3dest_dagster.stream import StreamId


class ReadLimit:
    """Passes on the items of a source until a limit is reached.

    Args:
        records: The most records of each stream, with its bad records; None: any number.
        seconds: The seconds after which nothing is taken any more; None: any time. They count from now on, and are
            looked at when an item comes.
        clock: Returns seconds.
    """

    def __init__(self, records: int | None, seconds: float | None, clock: Callable[[], float]) -> None:
        self._records = records
        self._seconds = seconds
        self._clock = clock
        self._started = clock()
        self._counts = Counter[StreamId | None]()
        self._cut: dict[StreamId | None, str] = {}
        self._timed_out: str | None = None

    def reached(self, stream: StreamId) -> str | None:
        """The limit that has kept records of the stream from landing, as a text. None if none has."""
        return self._timed_out or self._cut.get(stream)

    def is_over(self, streams: Collection[StreamId]) -> bool:
        """Whether nothing more of these streams is taken."""
        return self._timed_out is not None or all(stream in self._cut for stream in streams)

    def limited(self, items: Iterable[SourceItem | Batch], stream: StreamId) -> Iterator[SourceItem | Batch]:
        """Yields the items of a single stream until a limit is reached."""
        for item in items:
            part = self.apply(item, stream)
            if part is not None:
                yield part
            if self.is_over([stream]):
                return

    def apply(self, item: SourceItem | Batch, stream: StreamId | None) -> SourceItem | Batch | None:
        """The item, or the part of it that is within the limits. None if nothing of it is.

        Args:
            stream: The stream of the item. None if the item belongs to all.
        """
        if self._seconds is not None and self._clock() - self._started >= self._seconds:
            self._timed_out = f"time_limit_s: {self._seconds:g} s"
            return None
        if stream in self._cut or (stream is None and isinstance(item, State) and self._cut):
            return None
        if self._records is None or not isinstance(item, JsonBatch | ArrowBatch | StreamBatch | BadRecord):
            return item
        return self._first_records(item, stream, self._records)

    def _first_records(
        self, item: Batch | StreamBatch | BadRecord, stream: StreamId | None, limit: int
    ) -> Batch | StreamBatch | BadRecord | None:
        """The records of the item that are within the limit of its stream."""
        batch = item.batch if isinstance(item, StreamBatch) else item
        count = 1 if isinstance(batch, BadRecord) else batch.num_rows
        left = limit - self._counts[stream]
        if count <= left:
            self._counts[stream] += count
            return item
        self._counts[stream] = limit
        self._cut[stream] = f"record_limit: {amount(limit, 'record')}"
        if not left or isinstance(batch, BadRecord):
            return None
        first = _first_rows(batch, left)
        return replace(item, batch=first) if isinstance(item, StreamBatch) else first


def _first_rows(batch: Batch, count: int) -> Batch:
    """The first records of a batch."""
    emitted_at, changes = batch.emitted_at[:count], selected_changes(batch.changes, range(count))
    if isinstance(batch, ArrowBatch):
        return ArrowBatch(batch.data.slice(0, count), emitted_at, changes)
    raws = batch.raws[:count]
    return replace(batch, raws=raws, emitted_at=emitted_at, nbytes=sum(map(len, raws)), changes=changes)
