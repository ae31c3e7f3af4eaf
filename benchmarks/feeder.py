"""A source's output without a source: `python -m benchmarks.feeder FILE BYTES STREAMS` writes messages to a pipe.

It repeats the file's messages until so many bytes are written, and spreads them over the streams in turn.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.messages import STREAM

_STDOUT = 1
_WRITE_BYTES = 1 << 20


def stream_names(streams: int) -> list[str]:
    """The names of the streams; a single stream keeps the name in the messages."""
    return [STREAM] if streams == 1 else [f"{STREAM}_{number:02}" for number in range(streams)]


def feed(messages: Path, nbytes: int, streams: int, descriptor: int = _STDOUT) -> None:
    """Writes whole lines until at least `nbytes` are written; returns early if nobody reads them."""
    names = [f'"stream":"{name}"'.encode() for name in stream_names(streams)]
    original = f'"stream":"{STREAM}"'.encode()
    lines = messages.read_bytes().splitlines(keepends=True)
    block = memoryview(
        b"".join(line.replace(original, names[number % streams], 1) for number, line in enumerate(lines))
    )
    del lines
    try:
        while nbytes > 0:
            for start in range(0, len(block), _WRITE_BYTES):
                _write_all(descriptor, block[start : start + _WRITE_BYTES])
            nbytes -= len(block)
    except BrokenPipeError:
        return


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    feed(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
