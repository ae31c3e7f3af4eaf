"""What tells one content from another: checksums over records as their source gave them, gathered batch by batch.

It must not know what is compared with what.
"""

from __future__ import annotations

from collections.abc import Callable
from io import RawIOBase
from typing import Any

import pyarrow as pa
import pyarrow.ipc
from isal.isal_zlib import adler32, crc32

from s3dest_dagster.batch import TARGET_BATCH_BYTES, ArrowBatch, Batch

_MOST_JOINED = 2 * TARGET_BATCH_BYTES


class ContentChecksum:
    """The same records in the same order give the same text, whenever they are landed: what landing adds to them (ids,
    times) does not count.

    JSON counts as it is spelled, however it is cut into batches; Arrow data batch by batch, as it lies in memory.
    Different records have the same text by accident once in many billions of cases; it is no defence against forgery.
    """

    def __init__(self) -> None:
        self._crc, self._adler = crc32(b""), adler32(b"")
        self._rows = 0

    def take(self, batch: Batch) -> None:
        """Counts the next records in."""
        if not batch.num_rows:
            return
        self._rows += batch.num_rows
        if isinstance(batch, ArrowBatch):
            with pa.ipc.new_stream(pa.PythonFile(_Sink(self._add), mode="w"), batch.data.schema) as stream:
                stream.write_batch(batch.data)
        else:
            # Joined it is fast; a batch that is one large record is not copied.
            for text in (b"\n".join(batch.raws),) if batch.nbytes <= _MOST_JOINED else batch.raws:
                self._add(text)
                self._add(b"\n")

    @property
    def text(self) -> str:
        """A CRC-32 and an Adler-32, in hexadecimal, and the number of records."""
        return f"{self._crc:08x}{self._adler:08x}-{self._rows}"

    def _add(self, data: Any) -> None:
        self._crc, self._adler = crc32(data, self._crc), adler32(data, self._adler)


class _Sink(RawIOBase):
    """A file that hands on what is written to it, so that no batch is copied as a whole."""

    def __init__(self, take: Callable[[Any], None]) -> None:
        self._take = take

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._take(data)
        return len(data)
