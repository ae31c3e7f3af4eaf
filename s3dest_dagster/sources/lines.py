"""Reads lines of text from a byte stream in blocks of whole lines, and explains why a line is not valid JSON.

Reading uses bounded memory, and never holds back the lines of a slow writer. Must not know: what the lines mean.
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
"""The approximate size of a block: large enough that the fixed cost per block hardly matters, small enough for the CPU
cache."""

MAX_LINE_MB = 128

STALL_TIMEOUT_S = 86_400.0
"""How long a source may be silent. Some sources wait for hours until a service accepts requests again."""

MAX_DELAY_S = 0.5
"""A complete line is passed on no later than this after it arrived."""

_READ_BYTES = 1 << 18


def read_blocks(
    source: int | BinaryIO,
    *,
    max_line_mb: int = MAX_LINE_MB,
    on_idle: Callable[[float], bool] = lambda silent_s: False,
) -> Iterator[bytes]:
    """Yields the input as blocks of whole lines, of about 1 MB each, or less if the writer is slow.

    A descriptor, or a file or pipe from which nothing has been read, is polled: a block is yielded when it is full, or
    `MAX_DELAY_S` after its first line arrived. Any other binary file is read as its data arrives. Only the last block
    may lack its final line break. At most one block and one line are held in memory.

    Args:
        source: A descriptor or a binary file.
        max_line_mb: The longest line, in MB.
        on_idle: Called whenever a polled input has had no data for `MAX_DELAY_S`, with the seconds since the last data.
            If it returns True, the input is treated as ended.

    Raises:
        SourceError: for a line that is longer. The error names `max_line_mb`.
    """
    lines: list[memoryview] = []
    rest: list[memoryview] = []
    block_bytes = rest_bytes = 0
    for chunk in _chunks(source, on_idle):
        if (cut := chunk.rfind(b"\n") + 1) > 0:
            view = memoryview(chunk)
            block_bytes += rest_bytes + cut
            lines += [*rest, view[:cut]]
            rest, rest_bytes = [view[cut:]], len(chunk) - cut
        elif chunk:
            rest.append(memoryview(chunk))
            rest_bytes += len(chunk)
            _check_line_length(rest_bytes, max_line_mb)
        if lines and (block_bytes > BLOCK_BYTES - _READ_BYTES or not chunk):
            yield _join(lines)
            block_bytes = 0
    lines += rest
    rest.clear()
    if lines:
        yield _join(lines)


def _join(parts: list[memoryview]) -> bytes:
    """Joins the parts, and empties the list, so that a long line is in memory only once."""
    block = b"".join(parts)
    parts.clear()
    return block


def count_line_breaks(block: bytes) -> int:
    """Counts line breaks. numpy is several times as fast as `bytes.count`."""
    characters = np.frombuffer(block, np.uint8)
    starts = range(0, len(block), BLOCK_BYTES)
    return sum(int(np.count_nonzero(characters[start : start + BLOCK_BYTES] == ord("\n"))) for start in starts)


def _check_line_length(line_bytes: int, max_line_mb: int) -> None:
    if line_bytes > max_line_mb << 20:
        raise SourceError(
            f"The source wrote a line of more than max_line_mb = {max_line_mb} MB without a line break. "
            "Raise max_line_mb if its records are that large.",
            setting="max_line_mb",
        )


def _chunks(source: int | BinaryIO, on_idle: Callable[[float], bool]) -> Iterator[bytes]:
    """Yields the bytes as they arrive. An empty chunk means that the writer pauses."""
    if isinstance(source, int):
        return _poll_chunks(source, on_idle)
    if isinstance(source, io.FileIO) or (isinstance(source, io.BufferedReader) and isinstance(source.raw, io.FileIO)):
        return _poll_chunks(source.fileno(), on_idle)
    return _read_chunks(source)


def _read_chunks(source: BinaryIO) -> Iterator[bytes]:
    read = getattr(source, "read1", source.read)
    while chunk := read(_READ_BYTES):
        yield chunk


def _poll_chunks(descriptor: int, on_idle: Callable[[float], bool]) -> Iterator[bytes]:
    """Yields chunks from a descriptor, with an empty one at least every `MAX_DELAY_S`."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP)
    received_at = time.monotonic()
    pause_at = received_at + MAX_DELAY_S
    while True:
        is_ready = bool(poll.poll(max(0.0, pause_at - time.monotonic()) * 1000))
        silent_s = time.monotonic() - received_at
        if is_ready:
            if not (chunk := os.read(descriptor, _READ_BYTES)):
                return
            yield chunk
            received_at = time.monotonic()
        if time.monotonic() >= pause_at:
            yield b""
            pause_at = time.monotonic() + MAX_DELAY_S
        if not is_ready and on_idle(silent_s):
            return


def check_stall(silent_s: float, stall_timeout_s: float | None) -> None:
    """Raise SourceError, naming `stall_timeout_s`, if the source has been silent for that long."""
    if stall_timeout_s is not None and silent_s >= stall_timeout_s:
        raise SourceError(
            f"The source stalls: it has written nothing for {silent_s:.0f} s, and stall_timeout_s is "
            f"{stall_timeout_s:g}. Raise it if the source may be silent for so long, or find out what it waits for.",
            setting="stall_timeout_s",
        )


_POSITION = re.compile(r"\(byte (\d+)\)")
_SURROGATE_PAIR = rb"u[dD][89abAB]..\\u[dD][c-fC-F].."
_ESCAPE = re.compile(rb"\\(?:%b|(?P<half>u[dD][89a-fA-F]..)(?!\\?\Z)|.)" % _SURROGATE_PAIR, re.DOTALL)
_NOT_A_NUMBER = re.compile(rb"-?(?:NaN|Infinity)")


def describe_json_error(line: bytes, error: Exception) -> str:
    """Explains why a decoder refused the line: the decoder's own text, or a better one if that would mislead."""
    if isinstance(error, RecursionError):
        return "its values are nested too deeply"
    if (half := next((match for match in _ESCAPE.finditer(line) if match["half"]), None)) is not None:
        escape = half[0].decode("ascii", "replace")
        return f"the text at byte {half.start()} has half of a surrogate pair ({escape}), which UTF-8 cannot hold"
    position = int(match[1]) if (match := _POSITION.search(str(error))) else 0
    for start in (position - 1, position):
        if word := _NOT_A_NUMBER.match(line, max(start, 0)):
            return f"{word[0].decode()} at byte {start} is no JSON number"
    return str(error)
