"""Compression of whole text objects (GZIP) and of Avro's blocks, with every level honoured. It must not know records.

Everything here is deterministic: the same bytes and settings give the same compressed bytes.
"""

from __future__ import annotations

import bz2
import lzma
import sys
import threading
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import cramjam
from isal import isal_zlib
from zlib_ng import zlib_ng

from s3dest_dagster.settings.formats import AvroFormat, GzipEffort

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from typing_extensions import Buffer

    BlockCompressor = Callable[[Buffer], bytes]
    """One block's bytes compressed. May be called from several threads at once."""

_GZIP_WINDOW = 31
_RAW_DEFLATE_WINDOW = -15
_GZIP_EFFORTS = {"fast": (isal_zlib, 1), "balanced": (isal_zlib, 2), "small": (zlib_ng, 6)}
"""Library and level: isal's levels compress at memory speed, zlib-ng's 6 as tightly as zlib's 6 in half its time."""
_DEFLATE_LEVELS: dict[int, tuple[Any, int]] = {1: (isal_zlib, 1), 2: (isal_zlib, 2), 8: (zlib, 8), 9: (zlib_ng, 8)}
"""Where a level is not zlib-ng's own: isal gives zlib's low levels at a third of the cost; zlib-ng's 9 gives larger
blocks than its 8, which is tighter than zlib's 9 and so stands for the best."""


class ByteStream(Protocol):
    """Bytes in, bytes out; what is held back comes at the end."""

    def compress(self, data: Buffer, /) -> bytes: ...

    def flush(self) -> bytes: ...


def gzip_stream(effort: GzipEffort) -> ByteStream:
    """One gzip member without a name and with time 0, so that equal content gives equal bytes."""
    library, level = _GZIP_EFFORTS[effort]
    stream: ByteStream = library.compressobj(level, zlib.DEFLATED, _GZIP_WINDOW)
    return stream


class PlainStream:
    """No compression: bytes come out as they go in."""

    def compress(self, data: Buffer, /) -> bytes:
        return bytes(data)

    def flush(self) -> bytes:
        return b""


def avro_codec(settings: AvroFormat) -> tuple[str, BlockCompressor]:
    """The codec's name in Avro's header, and the function that compresses one block's body."""
    level = settings.compression_level or 0
    if settings.codec == "Deflate":
        return "deflate", lambda body: _deflate(body, level)
    if settings.codec == "bzip2":
        return "bzip2", lambda body: bz2.compress(body, 9)
    if settings.codec == "xz":
        return "xz", lambda body: lzma.compress(body, preset=level)
    if settings.codec == "zstandard":
        return "zstandard", _Zstandard(level, settings.include_checksum)
    if settings.codec == "snappy":
        return "snappy", _snappy
    return "null", bytes


def _deflate(body: Buffer, level: int) -> bytes:
    """Raw deflate (RFC 1951), as Avro asks."""
    library, own_level = _DEFLATE_LEVELS.get(level, (zlib_ng, level))
    stream = library.compressobj(own_level, zlib.DEFLATED, _RAW_DEFLATE_WINDOW)
    return bytes(stream.compress(body) + stream.flush())


def _snappy(body: Buffer) -> bytes:
    """A raw snappy block and the big-endian CRC-32 of what it holds, as Avro asks."""
    return bytes(cramjam.snappy.compress_raw(body)) + zlib.crc32(body).to_bytes(4, "big")


class _Zstandard:
    """One zstandard frame per block. Each thread keeps its own context: making one costs more than a block."""

    def __init__(self, level: int, checksum: bool) -> None:
        self._options: dict[int, int] = {
            zstd.CompressionParameter.compression_level: level,
            zstd.CompressionParameter.checksum_flag: int(checksum),
        }
        self._contexts = threading.local()

    def __call__(self, body: Buffer) -> bytes:
        context = getattr(self._contexts, "compressor", None)
        if context is None:
            context = self._contexts.compressor = zstd.ZstdCompressor(options=self._options)
        context.set_pledged_input_size(memoryview(body).nbytes)
        return bytes(context.compress(body, zstd.ZstdCompressor.FLUSH_FRAME))
