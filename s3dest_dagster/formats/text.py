"""What CSV and JSON Lines share: an object of lines, compressed as one stream, and lines spliced from given bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from s3dest_dagster.destination import CsvFormat, JsonlFormat, TextCompression
from s3dest_dagster.formats.compression import PlainStream, gzip_stream
from s3dest_dagster.formats.contract import Encoded, Sink

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Buffer


class TextObject:
    """One object of lines. `head` stands at its beginning, also when no line follows."""

    buffered = 0

    def __init__(self, sink: Sink, settings: CsvFormat | JsonlFormat, head: bytes = b"") -> None:
        self._sink = sink
        gzipped = settings.compression is TextCompression.GZIP
        self._stream = gzip_stream(settings.gzip_effort) if gzipped else PlainStream()
        self._send(self._stream.compress(head))

    def write(self, encoded: Encoded) -> None:
        assert isinstance(encoded.payload, bytes)
        self._send(self._stream.compress(encoded.payload))

    def flush_rows(self) -> None:
        """Lines are never held back."""

    def close(self) -> None:
        self._send(self._stream.flush())

    def _send(self, data: bytes) -> None:
        if data:
            self._sink(data)


def decimal_texts(numbers: NDArray[np.int64]) -> pa.Array:
    """Integers as binary column of decimal digits."""
    return pa.array(numbers, pa.int64()).cast(pa.string()).cast(pa.binary())


def spliced(heads: Sequence[bytes], bodies: Sequence[Buffer], tail: bytes) -> bytes:
    """head, body and tail of each line, line after line."""
    parts: list[Buffer] = [tail] * (3 * len(heads))
    parts[0::3] = heads
    parts[1::3] = bodies
    return b"".join(parts)
