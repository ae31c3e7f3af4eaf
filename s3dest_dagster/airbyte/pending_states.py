"""The states that have arrived and may not be handed back yet, each with the number of records that it covers.

Must not know: when the records of a state are published.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import IO

from s3dest_dagster.airbyte.messages import with_record_count
from s3dest_dagster.batch import BadRecord, SourceFile, SourceItem, State, StreamBatch
from s3dest_dagster.stream import StreamId

_MAX_BYTES = 16 << 20
"""The size of the states that are held in memory. If there are more, all are in a temporary file."""


class PendingStates:
    """Keeps every state in the order of arrival, in bounded memory. Use it in a `with`.

    A state of one stream covers the records of the stream since the stream's state before it. A state of all streams
    covers the records of all streams since their last state. So the numbers of all states add up to the records that
    were read before the last state.

    Args:
        first: The stream for which bad records count that do not name theirs, as it stores them.
        max_bytes: The size of the states that are held in memory.
    """

    def __init__(self, first: StreamId, *, max_bytes: int = _MAX_BYTES) -> None:
        self._first = first
        self._records: dict[StreamId, int] = {}
        self._file: IO[bytes] = SpooledTemporaryFile(max_size=max_bytes)  # noqa: SIM115
        self._entries: list[tuple[StreamId | None, int, int]] = []
        """The stream of each state, and where in the file it is and how long."""

    def receive(self, item: SourceItem) -> None:
        """Counts records, and keeps a state."""
        if isinstance(item, State):
            line = with_record_count(item.message, self._pop_records(item.stream))
            self._entries.append((item.stream, self._file.seek(0, 2), len(line)))
            self._file.write(line)
        elif isinstance(item, StreamBatch):
            self._count(item.stream, item.batch.num_rows)
        elif isinstance(item, SourceFile):
            self._count(item.stream, 1)
        elif isinstance(item, BadRecord):
            self._count(item.stream or self._first, 1)

    def pop(self, streams: Collection[StreamId | None]) -> Iterator[bytes]:
        """Yields the states of these streams, in the order of arrival, and forgets them.

        Args:
            streams: The streams. None stands for all streams together: for the states that name no stream.
        """
        entries, self._entries = self._entries, [each for each in self._entries if each[0] not in streams]
        for stream, position, length in entries:
            if stream in streams:
                self._file.seek(position)
                yield self._file.read(length)
        if not self._entries:
            self._file.seek(0)
            self._file.truncate()

    def _count(self, stream: StreamId, records: int) -> None:
        self._records[stream] = self._records.get(stream, 0) + records

    def _pop_records(self, stream: StreamId | None) -> int:
        """The records that a state covers, which no later state covers."""
        if stream is not None:
            return self._records.pop(stream, 0)
        records, self._records = sum(self._records.values()), {}
        return records

    def __enter__(self) -> PendingStates:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
