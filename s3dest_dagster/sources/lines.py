"""Blocks of whole lines from a byte stream, in bounded memory and without holding a slow writer's lines back.

It knows files and descriptors; it must not know what stands in the lines.
"""

from __future__ import annotations

import io
import os
import re
import select
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np

from s3dest_dagster.errors import SourceError

BLOCK_BYTES = 1 << 20
"""Blocks are nearly this large: the fixed cost per block vanishes, and a block still fits the processor's cache."""

MAX_LINE_MB = 128

STALL_TIMEOUT_S = 86_400.0
"""How long a source may be silent: some wait for hours until a service lets them ask again."""

PATIENCE_S = 0.5
"""A complete line is handed on at the latest this long after it arrived."""

_READ_BYTES = 1 << 18


def read_blocks(
    source: int | BinaryIO,
    *,
    max_line_mb: int = MAX_LINE_MB,
    idle: Callable[[float], bool] = lambda silent_s: False,
) -> Iterator[bytes]:
    """Yield the input as blocks of whole lines, about 1 MB each, or less when the writer is slow.

    A descriptor or an unread file or pipe is polled: a block is given out when it is full, or `PATIENCE_S` after its
    first line came, and `idle` is called whenever that long nothing came, with the seconds for which nothing has come
    while we waited; its answer True ends the input. Any other binary file is read as it comes. The last block may lack
    the final line break. At most one block and one line are held.

    Raises SourceError, naming `max_line_mb`, at a longer line.
    """
    lines: list[memoryview] = []
    rest: list[memoryview] = []
    held = rest_bytes = 0
    for chunk in _chunks(source, idle):
        if (cut := chunk.rfind(b"\n") + 1) > 0:
            view = memoryview(chunk)
            held += rest_bytes + cut
            lines += [*rest, view[:cut]]
            rest, rest_bytes = [view[cut:]], len(chunk) - cut
        elif chunk:
            rest.append(memoryview(chunk))
            rest_bytes += len(chunk)
            _refuse_longer(rest_bytes, max_line_mb)
        if lines and (held > BLOCK_BYTES - _READ_BYTES or not chunk):
            yield _joined(lines)
            held = 0
    lines += rest
    rest.clear()
    if lines:
        yield _joined(lines)


def _joined(parts: list[memoryview]) -> bytes:
    """The parts as one text; they are let go, so that a long line is held once."""
    block = b"".join(parts)
    parts.clear()
    return block


def line_breaks(block: bytes) -> int:
    """How many line breaks there are; numpy counts several times as fast as `bytes.count`."""
    characters = np.frombuffer(block, np.uint8)
    starts = range(0, len(block), BLOCK_BYTES)
    return sum(int(np.count_nonzero(characters[start : start + BLOCK_BYTES] == ord("\n"))) for start in starts)


def _refuse_longer(line_bytes: int, max_line_mb: int) -> None:
    if line_bytes > max_line_mb << 20:
        raise SourceError(
            f"The source wrote a line of more than max_line_mb = {max_line_mb} MB without a line break. "
            "Raise max_line_mb if its records are that large.",
            setting="max_line_mb",
        )


def _chunks(source: int | BinaryIO, idle: Callable[[float], bool]) -> Iterator[bytes]:
    """What is read, as it comes; b"" says: hand on what is there, the writer pauses."""
    if isinstance(source, int):
        return _polled(source, idle)
    if isinstance(source, io.FileIO) or (isinstance(source, io.BufferedReader) and isinstance(source.raw, io.FileIO)):
        return _polled(source.fileno(), idle)
    return _plain(source)


def _plain(source: BinaryIO) -> Iterator[bytes]:
    read = getattr(source, "read1", source.read)
    while chunk := read(_READ_BYTES):
        yield chunk


def _polled(descriptor: int, idle: Callable[[float], bool]) -> Iterator[bytes]:
    """Chunks of a descriptor, with a pause (b"") at least every `PATIENCE_S`."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP)
    heard_at = time.monotonic()
    pause_at = heard_at + PATIENCE_S
    while True:
        if poll.poll(max(0.0, pause_at - time.monotonic()) * 1000):
            if not (chunk := os.read(descriptor, _READ_BYTES)):
                return
            yield chunk
            heard_at = time.monotonic()
            came = True
        else:
            came, silent_s = False, time.monotonic() - heard_at
        if time.monotonic() >= pause_at:
            yield b""
            pause_at = time.monotonic() + PATIENCE_S
        if not came and idle(silent_s):
            return


def refuse_silence(silent_s: float, stall_timeout_s: float | None) -> None:
    """Returns unless the source has been silent for too long; then SourceError, naming `stall_timeout_s`."""
    if stall_timeout_s is not None and silent_s >= stall_timeout_s:
        raise SourceError(
            f"The source stalls: it has written nothing for {silent_s:.0f} s, and stall_timeout_s is "
            f"{stall_timeout_s:g}. Raise it if the source may be silent for so long, or find out what it waits for.",
            setting="stall_timeout_s",
        )


_PLACE = re.compile(r"\(byte (\d+)\)")
_PAIR = rb"u[dD][89abAB]..\\u[dD][c-fC-F].."
_ESCAPE = re.compile(rb"\\(?:%b|(?P<half>u[dD][89a-fA-F]..)(?!\\?\Z)|.)" % _PAIR, re.DOTALL)
_NO_NUMBER = re.compile(rb"-?(?:NaN|Infinity)")


def why_no_json(line: bytes, error: Exception) -> str:
    """The reason for which a decoder refused the line; told better where the decoder's own words mislead."""
    if isinstance(error, RecursionError):
        return "its values are nested too deeply"
    if (half := next((each for each in _ESCAPE.finditer(line) if each["half"]), None)) is not None:
        escape = half[0].decode("ascii", "replace")
        return f"the text at byte {half.start()} has half of a surrogate pair ({escape}), which UTF-8 cannot hold"
    place = int(named[1]) if (named := _PLACE.search(str(error))) else 0
    for start in (place - 1, place):
        if word := _NO_NUMBER.match(line, max(start, 0)):
            return f"{word[0].decode()} at byte {start} is no JSON number"
    return str(error)
