"""Where landings stand while they go on: what each stream has, their sum and its rates, the memory of the process.

Nothing is counted here that the landings do not count anyway. It must not know who is told.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from s3dest_dagster.ingest.receipt import Progress
from s3dest_dagster.stream import StreamId

_STATM = Path("/proc/self/statm")


def resident_bytes() -> int | None:
    """Memory that this process holds now; None where the system does not tell it so."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class Sample:
    """What a look at landings showed: each stream's progress, the sum, rates a second, `memory` in bytes (None where
    nobody knows), and the seconds since the begin."""

    streams: Mapping[StreamId, Progress]
    total: Progress
    rows_per_s: float
    bytes_per_s: float
    memory: int | None
    seconds: float


class StreamProgress:
    """Takes the progress of landings that go on side by side, which costs next to nothing, and is read now and then.

    Rates are those of the last `window_s` seconds. One thread may take while another reads.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        memory: Callable[[], int | None] = resident_bytes,
        window_s: float = 5.0,
    ) -> None:
        self._clock = clock
        self._memory = memory
        self._window_s = window_s
        self._progress: dict[StreamId, Progress] = {}
        self._begin = clock()
        self._marks = deque([(self._begin, 0, 0)])

    def take(self, stream: StreamId, progress: Progress) -> None:
        """Notes where a stream stands."""
        self._progress[stream] = progress

    def read(self, *, whole: bool = False) -> Sample:
        """Where everything stands now; with the rates of the `whole` time since the begin, if that is asked."""
        streams = self._progress.copy()
        of_all = streams.values()
        total = Progress(
            rows=sum(each.rows for each in of_all),
            objects=sum(each.objects for each in of_all),
            bytes=sum(each.bytes for each in of_all),
        )
        now = self._clock()
        while len(self._marks) > 1 and self._marks[1][0] <= now - self._window_s:
            self._marks.popleft()
        then, rows, size = (self._begin, 0, 0) if whole else self._marks[0]
        self._marks.append((now, total.rows, total.bytes))
        seconds = now - then or 1.0
        return Sample(
            streams,
            total,
            rows_per_s=(total.rows - rows) / seconds,
            bytes_per_s=(total.bytes - size) / seconds,
            memory=self._memory(),
            seconds=now - self._begin,
        )
