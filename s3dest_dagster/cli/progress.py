"""How far a sync is, on standard error: a display that moves on a terminal, a line every few seconds elsewhere.

Standard output is never touched. It costs nothing for a record: landings count anyway, and time decides when somebody
looks. It must not know what is landed.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from s3dest_dagster.cli.output import Output
from s3dest_dagster.cli.standard_streams import discard
from s3dest_dagster.ingest.memory_budget import resident_bytes
from s3dest_dagster.ingest.receipt import Progress
from s3dest_dagster.printable import amount, size
from s3dest_dagster.stream import StreamId

if TYPE_CHECKING:
    from rich.console import RenderableType

_EVERY_S = 5.0
_TIMES_A_SECOND = 4
_SHOWN_STREAMS = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """The progress of all streams at one moment."""

    streams: Mapping[StreamId, Progress]
    """The progress of each stream."""
    total: Progress
    """The sum over all streams."""
    rows_per_s: float
    """Records read per second."""
    bytes_per_s: float
    """Bytes written per second."""
    memory: int | None
    """Memory of the process in bytes; None if the system does not report it."""
    seconds: float
    """Seconds since the sync began."""


class StreamProgress:
    """Collects the progress of streams that land side by side, and computes their sum and rates when asked.

    Updating costs next to nothing. One thread may update while another samples.

    Args:
        window_s: Rates are those of the last `window_s` seconds.
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

    def update(self, stream: StreamId, progress: Progress) -> None:
        """Notes the newest progress of a stream."""
        self._progress[stream] = progress

    def sample(self, *, whole: bool = False) -> Sample:
        """The progress now. With `whole`, the rates are averages since the beginning."""
        streams = self._progress.copy()
        of_all = streams.values()
        total = Progress(
            rows=sum(progress.rows for progress in of_all),
            objects=sum(progress.objects for progress in of_all),
            bytes=sum(progress.bytes for progress in of_all),
        )
        now = self._clock()
        while len(self._marks) > 1 and self._marks[1][0] <= now - self._window_s:
            self._marks.popleft()
        then, rows, nbytes = (self._begin, 0, 0) if whole else self._marks[0]
        self._marks.append((now, total.rows, total.bytes))
        seconds = now - then or 1.0
        return Sample(
            streams,
            total,
            rows_per_s=(total.rows - rows) / seconds,
            bytes_per_s=(total.bytes - nbytes) / seconds,
            memory=self._memory(),
            seconds=now - self._begin,
        )


class Following(AbstractContextManager["Following"], Protocol):
    """Something that is told of the progress of streams. `end` is harmless when it has ended."""

    def __call__(self, stream: StreamId, progress: Progress) -> None: ...

    def end(self) -> None: ...


def following(output: Output, clock: Callable[[], float] = time.monotonic) -> Following:
    """What shows the progress of a sync to whom the output is for; leaving it ends it."""
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        return LiveProgress(output, clock)
    return ProgressLines(output.say if output.verbose or not output.json else None, clock)


class ProgressLines:
    """A line every five seconds at most, from the first progress on. `say` None: nobody is told."""

    def __init__(self, say: Callable[[str], None] | None, clock: Callable[[], float]) -> None:
        self._say = say
        self._clock = clock
        self._last: float | None = None
        self._progress = StreamProgress(clock, window_s=_EVERY_S)

    def __call__(self, stream: StreamId, progress: Progress) -> None:
        self._progress.update(stream, progress)
        now = self._clock()
        if self._last is None:
            self._last = now
        if self._say is not None and now - self._last >= _EVERY_S:
            self._last = now
            sample = self._progress.sample()
            self._say("; ".join([_total(sample), *_by_stream(sample)]))

    def end(self) -> None:
        self._say = None

    def __enter__(self) -> ProgressLines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()


class LiveProgress:
    """A few lines that are written anew, by a thread of their own, while the terminal scrolls above them. Its last line
    stays. What the command says meanwhile stands above it."""

    def __init__(self, output: Output, clock: Callable[[], float]) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        self._output = output
        self._progress = StreamProgress(clock)
        self._ended = False
        self._spinner = Spinner("dots")
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(
            console=self._console,
            get_renderable=self._shown,
            refresh_per_second=_TIMES_A_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __call__(self, stream: StreamId, progress: Progress) -> None:
        self._progress.update(stream, progress)

    def __enter__(self) -> LiveProgress:
        self._output.share_terminal(self._say, self._aside)
        with _as_long_as_it_is_there():
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """Takes the display away, but for its last line; the cursor is back."""
        if not self._ended:
            self._ended = True
            with _as_long_as_it_is_there():
                self._live.stop()
            self._output.share_terminal(None, None)

    def _say(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(text), soft_wrap=True)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """While it lasts, the display is not there, so that another program's line has the terminal for itself."""
        self._live.transient = True
        with _as_long_as_it_is_there():
            self._live.stop()
        self._live.transient = False
        try:
            yield
        finally:
            with _as_long_as_it_is_there():
                self._live.start()

    def _shown(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        sample = self._progress.sample(whole=self._ended)
        total = Text(self._output.shown(_total(sample)))
        if self._ended:
            return total
        lines = [Text(f"  {self._output.shown(each)}", "dim") for each in _by_stream(sample)]
        self._spinner.update(text=total)
        return Group(self._spinner, *lines)


@contextmanager
def _as_long_as_it_is_there() -> Iterator[None]:
    """A terminal that has hung up shows nothing more; the sync goes on without it."""
    try:
        yield
    except OSError:
        discard(sys.stderr.fileno())


def _total(sample: Sample) -> str:
    total = sample.total
    parts = [
        f"{amount(total.rows, 'record')} read",
        f"{amount(total.objects, 'object')} begun",
        size(total.bytes),
        f"{sample.rows_per_s:,.0f} records/s",
        f"{size(sample.bytes_per_s)}/s",
    ]
    if sample.memory is not None:
        parts.append(f"memory {size(sample.memory)}")
    return ", ".join([*parts, f"{timedelta(seconds=int(sample.seconds))}"])


def _by_stream(sample: Sample) -> list[str]:
    """A phrase for each of several streams, the largest ones; none for one alone."""
    if len(sample.streams) < 2:
        return []
    largest = sorted(sample.streams.items(), key=lambda each: -each[1].rows)[:_SHOWN_STREAMS]
    by_name = sorted(largest, key=lambda each: str(each[0]))
    told = [f"{stream}: {amount(each.rows, 'record')}, {size(each.bytes)}" for stream, each in by_name]
    left = len(sample.streams) - _SHOWN_STREAMS
    return [*told, f"and {amount(left, 'more stream')}"] if left > 0 else told
