"""Ctrl-C and SIGTERM as an exception that unwinds, and that waits while something is published.

It must not know what is interrupted.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """The process was asked to stop. Not an Exception, so that nobody takes it for a failure of a step."""

    def __init__(self, signal_number: int) -> None:
        self.exit_code = 128 + signal_number
        super().__init__(f"Stopped by {signal.Signals(signal_number).name}.")


class Interruption:
    """Raises Interrupted in the main thread when SIGINT or SIGTERM comes. Made by `interruptible`."""

    def __init__(self) -> None:
        self._waits = False
        self._came: int | None = None

    def arrived(self, signal_number: int, frame: FrameType | None) -> None:
        """Takes a signal. A second one does not wait any more."""
        if self._waits and self._came is None:
            self._came = signal_number
            return
        raise Interrupted(signal_number)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Lets the block finish before a signal that comes meanwhile is raised."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
        if self._came is not None:
            raise Interrupted(self._came)


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """While it lasts, SIGINT and SIGTERM raise Interrupted."""
    interruption = Interruption()
    before = {each: signal.signal(each, interruption.arrived) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
