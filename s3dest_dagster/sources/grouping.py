"""Records of interleaved streams, grouped into batches per stream within one bound of memory.

It knows raw records and their streams; it must not know where they come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from s3dest_dagster.batch import TARGET_BATCH_BYTES, JsonBatch, StreamBatch
from s3dest_dagster.stream import StreamId

_ENOUGH_BYTES = TARGET_BATCH_BYTES // 2
_OVERHEAD_BYTES = 100
"""What a small record costs beside its text: a bytes object, a number and their places in two lists."""


@dataclass(slots=True)
class _Pending:
    """Records of one stream that wait; the first `owned` of them are copies that keep no block alive."""

    raws: list[bytes] = field(default_factory=list)
    emitted_at: list[int] = field(default_factory=list)
    nbytes: int = 0
    owned: int = 0

    @property
    def weight(self) -> int:
        return self.nbytes + _OVERHEAD_BYTES * len(self.raws)


class Grouping:
    """Holds less than `buffer_bytes` of records between blocks, whatever the number of streams.

    Within a stream the order is kept. A batch has 0.5 MB or more, unless a state, the end or the bound asks for less.
    """

    def __init__(self, buffer_bytes: int) -> None:
        self._buffer_bytes = buffer_bytes
        self._pending: dict[StreamId, _Pending] = {}

    def add(self, stream: StreamId, raws: list[bytes], emitted_at: list[int]) -> None:
        """Take records, as views of the current block; `settle` must follow before the next block."""
        pending = self._pending.setdefault(stream, _Pending())
        pending.raws += raws
        pending.emitted_at += emitted_at
        pending.nbytes += sum(map(len, raws))

    def settle(self) -> Iterator[StreamBatch]:
        """Give out what is enough for a batch; copy the rest, so that the block can go; keep the bound."""
        for stream in [stream for stream, pending in self._pending.items() if pending.nbytes >= _ENOUGH_BYTES]:
            yield self._taken(stream)
        for pending in self._pending.values():
            pending.raws[pending.owned :] = map(bytes, pending.raws[pending.owned :])
            pending.owned = len(pending.raws)
        held = sum(pending.weight for pending in self._pending.values())
        while held > self._buffer_bytes:
            largest = max(self._pending, key=lambda stream: self._pending[stream].weight)
            held -= self._pending[largest].weight
            yield self._taken(largest)

    def flush(self, stream: StreamId | None = None) -> Iterator[StreamBatch]:
        """Give out all records of the stream, or of all streams."""
        for each in list(self._pending) if stream is None else [stream]:
            if each in self._pending:
                yield self._taken(each)

    def _taken(self, stream: StreamId) -> StreamBatch:
        pending = self._pending.pop(stream)
        emitted_at = np.array(pending.emitted_at, np.int64)
        return StreamBatch(stream, JsonBatch(pending.raws, emitted_at, pending.nbytes))
