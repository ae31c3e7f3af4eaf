"""What CSV and JSON Lines share: an object of lines, compressed as one stream, and lines spliced from given bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from s3dest_dagster.formats.compression import PlainStream, gzip_stream
from s3dest_dagster.formats.protocol import Aside, Encoded, Sink, at_once
from s3dest_dagster.settings.formats import CsvFormat, JsonlFormat, TextCompression

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Buffer


class TextObject:
    """One object of lines. `head` stands at its beginning, also when no line follows.

    A batch is compressed aside, while the next one is made, and reaches the sink with that one or at the end; without
    compression it does at once.
    """

    buffered = 0

    def __init__(
        self, sink: Sink, settings: CsvFormat | JsonlFormat, head: bytes = b"", *, aside: Aside = at_once
    ) -> None:
        self._sink = sink
        self._is_plain = settings.compression is TextCompression.NONE
        self._stream = PlainStream() if self._is_plain else gzip_stream(settings.gzip_effort)
        self._begin = aside
        self._outcome: Callable[[], bytes] | None = None
        self.aside = 0
        self._send(self._stream.compress(head))

    def write(self, encoded: Encoded) -> None:
        assert isinstance(encoded.payload, bytes)
        if self._is_plain:
            self._send(encoded.payload)
            return
        self._settle()
        self._outcome = self._begin(partial(self._stream.compress, encoded.payload))
        self.aside = len(encoded.payload)

    def flush_rows(self) -> None:
        """Lines are never held back."""

    def close(self) -> None:
        self._settle()
        self._send(self._stream.flush())

    def _settle(self) -> None:
        """Sends what was compressed aside."""
        if self._outcome is not None:
            outcome, self._outcome, self.aside = self._outcome, None, 0
            self._send(outcome())

    def _send(self, data: bytes) -> None:
        if data:
            self._sink(data)


_FOUR_DIGITS = (
    (np.arange(10_000)[:, None] // [1000, 100, 10, 1] % 10 + ord("0")).astype(np.uint8).view(np.uint32).ravel()
)
_MILLIS_DIGITS = 13
"""The milliseconds of the years 2002 to 2285 have as many."""


def decimal_texts(numbers: NDArray[np.int64]) -> pa.Array | NDArray[np.uint8]:
    """Integers as decimal digits: a matrix where all of them are milliseconds of our time, else a binary column."""
    if len(numbers) and numbers.min() >= 10 ** (_MILLIS_DIGITS - 1) and numbers.max() < 10**_MILLIS_DIGITS:
        return _digits(numbers)[:, -_MILLIS_DIGITS:]
    return pa.array(numbers, pa.int64()).cast(pa.string()).cast(pa.binary())


def _digits(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Integers from 0 to 10¹⁶ - 1 as 16 digits each."""
    texts = np.empty((len(numbers), 4), np.uint32)
    for place in (3, 2, 1, 0):
        rest = numbers // 10_000
        texts[:, place] = _FOUR_DIGITS.take(numbers - rest * 10_000)
        numbers = rest
    return texts.view(np.uint8)


def spliced(heads: Sequence[bytes], bodies: Sequence[Buffer], tail: bytes) -> bytes:
    """head, body and tail of each line, line after line."""
    parts: list[Buffer] = [tail] * (3 * len(heads))
    parts[0::3] = heads
    parts[1::3] = bodies
    return b"".join(parts)
