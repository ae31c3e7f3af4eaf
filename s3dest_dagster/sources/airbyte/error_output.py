"""A connector's standard error: read on a thread, in bounded memory.

Must not know: the process, the log.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Sequence
from typing import IO

_MAX_NEW_LINES = 1000
_MAX_LAST_LINES = 20
_MAX_LINE_CHARACTERS = 4000
_READ_BYTES = 1 << 16
_POLL_INTERVAL_MS = 20
_MAX_READS_AFTER_STOP = 64
"""More reads than a full pipe needs. The limit exists because a stray process may keep writing forever."""


class ErrorOutput:
    """Reads standard error on a thread, so that the connector never blocks on it. Keeps a bounded number of lines.

    The caller fetches the lines (`new_lines`), so the log is only ever called on the caller's thread.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._new: deque[str] = deque()
        self._last: deque[str] = deque(maxlen=_MAX_LAST_LINES)
        self._dropped = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="connector-stderr", daemon=True)
        self._thread.start()

    def new_lines(self) -> list[str]:
        """The lines that arrived since the last call. If there were too many, the first one says how many are left
        out."""
        with self._lock:
            lines, dropped = list(self._new), self._dropped
            self._new.clear()
            self._dropped = 0
        return [f"({dropped} earlier lines of standard error are not shown)", *lines] if dropped else lines

    def last_lines(self) -> list[str]:
        """The last 20 lines."""
        with self._lock:
            return list(self._last)

    def stop(self) -> None:
        """Reads the rest of the pipe and ends the thread, even if a stray process holds the pipe open."""
        self._stopped.set()
        self._thread.join()
        self._stream.close()

    def _run(self) -> None:
        descriptor = self._stream.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN | select.POLLHUP)
        rest = b""
        reads_left = _MAX_READS_AFTER_STOP
        while reads_left:
            reads_left -= self._stopped.is_set()
            if poll.poll(_POLL_INTERVAL_MS):
                if not (chunk := os.read(descriptor, _READ_BYTES)):
                    break
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > _MAX_LINE_CHARACTERS:
                    lines, rest = [*lines, rest], b""
                self._add(lines)
            elif self._stopped.is_set():
                break
        self._add([rest])

    def _add(self, lines: Sequence[bytes]) -> None:
        texts = [line[:_MAX_LINE_CHARACTERS].decode("utf-8", "replace").rstrip() for line in lines]
        with self._lock:
            for text in filter(None, texts):
                self._last.append(text)
                self._new.append(text)
            while len(self._new) > _MAX_NEW_LINES:
                self._new.popleft()
                self._dropped += 1
