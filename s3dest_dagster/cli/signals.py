"""Ctrl-C, SIGTERM and SIGHUP as an exception that unwinds, and that waits a while when something is being published.

It must not know what is interrupted.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE_S = 20.0
"""Less than the thirty seconds after which most orchestrators kill."""


class Interrupted(BaseException):
    """The process was asked to stop. Not an Exception, so that nobody takes it for a failure of a step."""

    def __init__(self, signal_number: int) -> None:
        self.exit_code = 128 + signal_number
        super().__init__(f"Stopped by {signal.Signals(signal_number).name}.")


class Interruption:
    """Raises Interrupted in the main thread when SIGINT, SIGTERM or SIGHUP comes. Made by `interruptible`."""

    def __init__(self, grace_s: float = _GRACE_S) -> None:
        self._grace_s = grace_s
        self._waits = False
        self._came: int | None = None
        self._reminder: threading.Timer | None = None

    def arrived(self, signal_number: int, frame: FrameType | None) -> None:
        """Takes a signal. A second one does not wait any more, and comes by itself when the grace is over."""
        if self._waits and self._came is None:
            self._came = signal_number
            self._reminder = threading.Timer(self._grace_s, os.kill, (os.getpid(), signal_number))
            self._reminder.daemon = True
            self._reminder.start()
            return
        raise Interrupted(signal_number)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Lets the block finish before a signal that comes meanwhile is raised, unless it takes too long."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
            if self._reminder is not None:
                self._reminder.cancel()
        if self._came is not None:
            raise Interrupted(self._came)


@contextmanager
def interruptible(grace_s: float = _GRACE_S) -> Iterator[Interruption]:
    """While it lasts, SIGINT, SIGTERM and SIGHUP raise Interrupted; not SIGHUP where it is ignored, as under `nohup`.
    `grace_s` is what a deferred block still gets."""
    interruption = Interruption(grace_s)
    stops = [each for each in _STOPS if signal.getsignal(each) is not signal.SIG_IGN or each is not signal.SIGHUP]
    before = {each: signal.signal(each, interruption.arrived) for each in stops}
    try:
        yield interruption
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
