"""A terminal for tests: a real terminal for the writing process, and everything that was written for the test."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Shown:
    """The text written to a terminal so far, including escape sequences, with line feeds as line ends."""

    def __init__(self) -> None:
        self._read = bytearray()
        self._more = threading.Condition()

    def __call__(self) -> str:
        return self._read.decode(errors="replace").replace("\r\n", "\n")

    def add(self, data: bytes) -> None:
        with self._more:
            self._read.extend(data)
            self._more.notify_all()

    def wait_for(self, text: str) -> None:
        """Waits until the text has been written."""
        with self._more:
            assert self._more.wait_for(lambda: text in self(), timeout=100), f"{text!r} did not come: {self()}"


@contextmanager
def terminal(columns: int) -> Iterator[tuple[str, Shown]]:
    """Yields the path of a terminal and the text written to it, which is complete after the block."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    shown = Shown()

    def drain() -> None:
        with suppress(OSError):  # what a terminal says when nobody holds its other end any more
            while data := os.read(ours, 1 << 16):
                shown.add(data)

    reader = threading.Thread(target=drain)
    reader.start()
    try:
        yield os.ttyname(theirs), shown
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)


def plain(shown: str) -> str:
    """The text without escape sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
