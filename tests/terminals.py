"""A terminal for tests: a real one to whoever writes to it, and everything that was written, for who asks."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def terminal(columns: int) -> Iterator[tuple[str, Callable[[], str]]]:
    """A terminal: its path, and after it what was written to it, escape sequences included, lines ended by "\n"."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    read = bytearray()

    def drain() -> None:
        with suppress(OSError):  # what a terminal says when nobody holds its other end any more
            while data := os.read(ours, 1 << 16):
                read.extend(data)

    reader = threading.Thread(target=drain)
    reader.start()
    try:
        yield os.ttyname(theirs), lambda: read.decode().replace("\r\n", "\n")
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)


def plain(shown: str) -> str:
    """The text without escape sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
