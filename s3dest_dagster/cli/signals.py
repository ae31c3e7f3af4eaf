"""SIGINT (Ctrl-C), SIGTERM and SIGHUP as an exception that unwinds the verb.

A publication that is under way delays the exception, for at most twenty seconds. Must not know: what is interrupted.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Most orchestrators send SIGKILL thirty seconds after SIGTERM.
_GRACE_S = 20.0


class Interrupted(BaseException):
    """The process was asked to stop.

    It is no Exception, so that no `except Exception` mistakes it for the failure of a step.
    """

    def __init__(self, signal_number: int) -> None:
        self.exit_code = 128 + signal_number
        super().__init__(f"Stopped by {signal.Signals(signal_number).name}.")


class Interruption:
    """Raises Interrupted in the main thread when a signal arrives. `interruptible` makes it."""

    def __init__(self, grace_s: float = _GRACE_S) -> None:
        self._grace_s = grace_s
        self._deferring = False
        self._pending: int | None = None
        self._timer: threading.Timer | None = None

    def on_signal(self, signal_number: int, frame: FrameType | None) -> None:
        """Raises Interrupted, or notes the first signal that arrives in a `deferred` block.

        A second signal is never deferred. When the grace is over, the process sends one to itself.
        """
        if self._deferring and self._pending is None:
            self._pending = signal_number
            self._timer = threading.Timer(self._grace_s, os.kill, (os.getpid(), signal_number))
            self._timer.daemon = True
            self._timer.start()
            return
        raise Interrupted(signal_number)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Lets the block finish before a signal is raised, unless the block takes longer than the grace."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
            if self._timer is not None:
                self._timer.cancel()
        if self._pending is not None:
            raise Interrupted(self._pending)


@contextmanager
def interruptible(grace_s: float = _GRACE_S) -> Iterator[Interruption]:
    """Makes SIGINT, SIGTERM and SIGHUP raise Interrupted while the block runs.

    SIGHUP stays ignored where it is ignored, as under `nohup`.

    Args:
        grace_s: How long a `deferred` block may go on after a signal, in seconds.
    """
    interruption = Interruption(grace_s)
    ignored_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    caught = [number for number in _SIGNALS if not (number is signal.SIGHUP and ignored_hangup)]
    previous = {number: signal.signal(number, interruption.on_signal) for number in caught}
    try:
        yield interruption
    finally:
        for number, action in previous.items():
            signal.signal(number, action)


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """Takes Ctrl-C for the regular end of the block. Other signals go on."""
    try:
        yield
    except Interrupted as error:
        if error.exit_code != 128 + signal.SIGINT:
            raise
