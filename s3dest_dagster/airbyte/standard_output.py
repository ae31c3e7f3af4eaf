"""Standard output as a client reads it: late, or never.

Some clients read nothing before they have written everything, so a thread writes, and what waits is kept in memory up
to a limit. Must not know: messages.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque

from s3dest_dagster.cli.output import OutputClosedError

MAX_WAITING_BYTES = 64 << 20
TIMEOUT_S = 3600.0
"""How long a client may leave everything unread while the connector can do nothing else."""
_STDOUT = 1


class StandardOutput:
    """Writes lines in order, without waiting for the client as long as few bytes wait.

    Use it from one thread.

    Args:
        descriptor: Where the lines go.
        max_waiting_bytes: If more bytes wait, `write` waits for the client.
        timeout_s: Seconds for which the client may take nothing while `write` or `close` waits for it.
    """

    def __init__(
        self,
        descriptor: int = _STDOUT,
        *,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._descriptor = descriptor
        self._max_waiting_bytes = max_waiting_bytes
        self._timeout_s = timeout_s
        self._lines = deque[bytes]()
        self._waiting_bytes = 0
        self._written_bytes = 0
        self._failure: OSError | None = None
        self._changed = threading.Condition()
        # A daemon, so that a client that never reads cannot keep the process alive.
        self._thread = threading.Thread(target=self._run, name="standard output", daemon=True)
        self._started = False

    def write(self, line: bytes) -> None:
        """Writes a line, now or later.

        Raises:
            OutputClosedError: An earlier line could not be written, or the client takes nothing.
        """
        with self._changed:
            self._lines.append(line + b"\n")
            self._waiting_bytes += len(line) + 1
            self._changed.notify_all()
        if not self._started:
            self._started = True
            self._thread.start()
        self._wait_until_below(self._max_waiting_bytes)

    def close(self) -> None:
        """Waits until the client has taken everything. Raises as `write` does."""
        self._wait_until_below(0)

    def _wait_until_below(self, most: int) -> None:
        since, seen = time.monotonic(), -1
        with self._changed:
            while self._failure is None and self._waiting_bytes > most:
                if seen != self._written_bytes:
                    since, seen = time.monotonic(), self._written_bytes
                if time.monotonic() - since >= self._timeout_s:
                    raise OutputClosedError(
                        f"Nobody reads standard output: for {self._timeout_s:g} s, nothing was taken from it."
                    )
                self._changed.wait(min(1.0, self._timeout_s))
            failure = self._failure
        if isinstance(failure, BrokenPipeError):
            raise OutputClosedError("Standard output was closed before everything was written to it.")
        if failure is not None:
            raise OutputClosedError(f"Standard output cannot be written to: {failure.strerror}.")

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._lines:
                    self._changed.wait()
                line = memoryview(self._lines.popleft())
            try:
                while line:
                    written = os.write(self._descriptor, line)
                    line = line[written:]
                    self._count_written(written)
            except OSError as error:
                with self._changed:
                    self._failure = error
                    self._changed.notify_all()
                return

    def _count_written(self, written: int) -> None:
        with self._changed:
            self._waiting_bytes -= written
            self._written_bytes += written
            self._changed.notify_all()
