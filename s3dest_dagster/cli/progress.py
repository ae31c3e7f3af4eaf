"""The progress of a sync on standard error: a live display on a terminal, elsewhere a line every few seconds.

Standard output is never touched. Progress costs nothing per record: a landing counts anyway, and time decides when the
counts are read. Must not know: what is landed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from s3dest_dagster.cli.output import Output, discard
from s3dest_dagster.ingest.receipt import Progress, Sample, StreamProgress
from s3dest_dagster.printable import amount, size
from s3dest_dagster.stream import StreamId

if TYPE_CHECKING:
    from rich.console import RenderableType

_INTERVAL_S = 5.0
_REFRESHES_PER_SECOND = 4
_MAX_STREAMS = 10


class ProgressDisplay(AbstractContextManager["ProgressDisplay"], Protocol):
    """Shows the progress that landings report. `end` may be called more than once."""

    def __call__(self, stream: StreamId, progress: Progress) -> None: ...

    def end(self) -> None: ...


def progress_display(output: Output, clock: Callable[[], float] = time.monotonic) -> ProgressDisplay:
    """The display that suits standard error. Leaving its block ends it."""
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        return LiveProgress(output, clock)
    return ProgressLines(output.say if output.verbose or not output.json else None, clock)


class ProgressLines:
    """Prints a line every five seconds at most, counted from the first progress on.

    Args:
        say: Prints a line; None prints nothing.
        clock: Gives seconds that only grow.
    """

    def __init__(self, say: Callable[[str], None] | None, clock: Callable[[], float]) -> None:
        self._say = say
        self._clock = clock
        self._printed_at: float | None = None
        self._progress = StreamProgress(clock, window_s=_INTERVAL_S)

    def __call__(self, stream: StreamId, progress: Progress) -> None:
        self._progress.update(stream, progress)
        now = self._clock()
        if self._printed_at is None:
            self._printed_at = now
        if self._say is not None and now - self._printed_at >= _INTERVAL_S:
            self._printed_at = now
            sample = self._progress.sample()
            self._say("; ".join([_total(sample), *_by_stream(sample)]))

    def end(self) -> None:
        self._say = None

    def __enter__(self) -> ProgressLines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()


class LiveProgress:
    """A few lines that a thread of their own redraws while the terminal scrolls above them; the last line stays.

    Messages of the command appear above the display.
    """

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
            get_renderable=self._render,
            refresh_per_second=_REFRESHES_PER_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __call__(self, stream: StreamId, progress: Progress) -> None:
        self._progress.update(stream, progress)

    def __enter__(self) -> LiveProgress:
        self._output.share_terminal(self._print, self._paused)
        with _ignoring_hangup():
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """Removes the display except for its last line, and gives the cursor back."""
        if not self._ended:
            self._ended = True
            with _ignoring_hangup():
                self._live.stop()
            self._output.share_terminal(None, None)

    def _print(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(text), soft_wrap=True)

    @contextmanager
    def _paused(self) -> Iterator[None]:
        """Removes the display while the block runs, so that a line of standard output has the terminal to itself."""
        self._live.transient = True
        with _ignoring_hangup():
            self._live.stop()
        self._live.transient = False
        try:
            yield
        finally:
            with _ignoring_hangup():
                self._live.start()

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        sample = self._progress.sample(whole=self._ended)
        total = Text(self._output.safe(_total(sample)))
        if self._ended:
            return total
        lines = [Text(f"  {self._output.safe(line)}", "dim") for line in _by_stream(sample)]
        self._spinner.update(text=total)
        return Group(self._spinner, *lines)


@contextmanager
def _ignoring_hangup() -> Iterator[None]:
    """Lets the sync go on without a display if the terminal has hung up."""
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
    """A phrase for each of the largest streams; none if there is only one stream."""
    if len(sample.streams) < 2:
        return []
    largest = sorted(sample.streams.items(), key=lambda item: -item[1].rows)[:_MAX_STREAMS]
    by_name = sorted(largest, key=lambda item: str(item[0]))
    phrases = [f"{stream}: {amount(count.rows, 'record')}, {size(count.bytes)}" for stream, count in by_name]
    left = len(sample.streams) - _MAX_STREAMS
    return [*phrases, f"and {amount(left, 'more stream')}"] if left > 0 else phrases
