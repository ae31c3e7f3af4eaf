"""Compression with all its levels. The tables at the end list the codecs of every kind of format.

Equal bytes and settings give equal compressed bytes. Must not know: records.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import threading
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import cramjam
from isal import isal_zlib
from zlib_ng import zlib_ng

from s3dest_dagster.formats.parquet_lzo import Frame, lzo_compressor
from s3dest_dagster.settings.formats import AvroFormat, GzipEffort, TextCompression, TextFormat

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from typing_extensions import Buffer

    BlockCompressor = Callable[[Buffer], bytes]
    """Compresses one block. Several threads may call it at the same time."""

# ---------------------------------------------------------------------- text: one stream per object

_GZIP_WINDOW = 31  # zlib's number for a gzip header and trailer around deflate
_GZIP_EFFORTS = {"fast": (isal_zlib, 1), "balanced": (isal_zlib, 2), "small": (zlib_ng, 6)}
"""Library and level. isal compresses at the speed of memory; zlib-ng's 6 is as small as zlib's 6 in half the time."""


class ByteStream(Protocol):
    """A compressor that gets bytes and returns bytes. `flush` returns the bytes that are held back."""

    def compress(self, data: Buffer, /) -> bytes: ...

    def flush(self) -> bytes: ...


def gzip_stream(effort: GzipEffort) -> ByteStream:
    """One gzip member without a name and with time 0, so that equal content gives equal bytes."""
    library, level = _GZIP_EFFORTS[effort]
    stream: ByteStream = library.compressobj(level, zlib.DEFLATED, _GZIP_WINDOW)
    return stream


class TextCodec(NamedTuple):
    """A compression of whole text objects."""

    begin: Callable[[TextFormat], ByteStream]
    decompress: Callable[[bytes | memoryview], bytes]
    magic: bytes
    """The first bytes of the compressed content. No text begins with them."""


def decompress_text(content: bytes | memoryview) -> bytes:
    """The text of an object. Its first bytes show the compression, since settings may have changed, and some servers
    decompress the content that they deliver."""
    for codec in TEXT_CODECS.values():
        if content[: len(codec.magic)] == codec.magic:
            return codec.decompress(content)
    return bytes(content)


# ---------------------------------------------------------------------- Avro: every block separately

_RAW_DEFLATE_WINDOW = -15
_DEFLATE_LEVELS: dict[int, tuple[Any, int]] = {1: (isal_zlib, 1), 2: (isal_zlib, 2), 8: (zlib, 8), 9: (zlib_ng, 8)}
"""The levels for which zlib-ng's own level is not used. isal replaces zlib's low levels at a third of the cost.
zlib-ng's 9 makes larger blocks than its 8, and its 8 makes smaller blocks than zlib's 9, so its 8 is the best."""


class AvroCodec(NamedTuple):
    """A compression of the blocks of an Avro file."""

    name: str
    """The codec in the file's header."""
    compressor: Callable[[AvroFormat], BlockCompressor]


def avro_codec(settings: AvroFormat) -> tuple[str, BlockCompressor]:
    """The codec's name in Avro's header, and the function that compresses the body of one block."""
    codec = AVRO_CODECS[settings.codec]
    return codec.name, codec.compressor(settings)


def _deflate(body: Buffer, level: int) -> bytes:
    """Raw deflate (RFC 1951), as Avro's specification requires."""
    library, own_level = _DEFLATE_LEVELS.get(level, (zlib_ng, level))
    stream = library.compressobj(own_level, zlib.DEFLATED, _RAW_DEFLATE_WINDOW)
    return bytes(stream.compress(body) + stream.flush())


def _snappy(body: Buffer) -> bytes:
    """A raw snappy block and the big-endian CRC-32 of its content, as Avro's specification requires."""
    return bytes(cramjam.snappy.compress_raw(body)) + zlib.crc32(body).to_bytes(4, "big")


class _Zstandard:
    """One zstandard frame per block."""

    def __init__(self, level: int, checksum: bool) -> None:
        self._options: dict[int, int] = {
            zstd.CompressionParameter.compression_level: level,
            zstd.CompressionParameter.checksum_flag: int(checksum),
        }
        self._contexts = threading.local()

    def __call__(self, body: Buffer) -> bytes:
        # Every thread keeps its own context, since creating one costs more than compressing a block.
        context = getattr(self._contexts, "compressor", None)
        if context is None:
            context = self._contexts.compressor = zstd.ZstdCompressor(options=self._options)
        context.set_pledged_input_size(memoryview(body).nbytes)
        return bytes(context.compress(body, zstd.ZstdCompressor.FLUSH_FRAME))


# ---------------------------------------------------------------------- the tables

TEXT_CODECS: Mapping[TextCompression, TextCodec] = {
    TextCompression.GZIP: TextCodec(
        begin=lambda settings: gzip_stream(settings.gzip_effort), decompress=gzip.decompress, magic=b"\x1f\x8b"
    ),
}
"""Every compression of text. A value that is not a key here means no compression."""

AVRO_CODECS: Mapping[str, AvroCodec] = {
    "no compression": AvroCodec("null", lambda settings: bytes),
    "Deflate": AvroCodec("deflate", lambda settings: partial(_deflate, level=settings.compression_level or 0)),
    "bzip2": AvroCodec("bzip2", lambda settings: partial(bz2.compress, compresslevel=9)),
    "xz": AvroCodec("xz", lambda settings: partial(lzma.compress, preset=settings.compression_level or 0)),
    "zstandard": AvroCodec(
        "zstandard", lambda settings: _Zstandard(settings.compression_level or 0, settings.include_checksum)
    ),
    "snappy": AvroCodec("snappy", lambda settings: _snappy),
}
"""Every codec of `AvroFormat`."""


class ParquetCodec(NamedTuple):
    """A compression of the pages of a Parquet file."""

    name: str
    """pyarrow's name for the codec."""
    level: int | None = None
    """The level for pyarrow; None for its default."""
    page_compressor: Callable[[], Frame] | None = None
    """Makes a function that compresses the pages written by pyarrow; None if pyarrow compresses them itself."""


PARQUET_CODECS: Mapping[str, ParquetCodec] = {
    "UNCOMPRESSED": ParquetCodec("NONE"),
    "SNAPPY": ParquetCodec("SNAPPY"),
    # pyarrow's default is 9, which costs three times as much for files that are hardly smaller.
    "GZIP": ParquetCodec("GZIP", 6),
    # pyarrow cannot write LZO, so `parquet_lzo` compresses the pages that pyarrow has written.
    "LZO": ParquetCodec("NONE", page_compressor=lzo_compressor),
    "BROTLI": ParquetCodec("BROTLI"),
    "LZ4": ParquetCodec("LZ4_RAW"),
    "ZSTD": ParquetCodec("ZSTD"),
}
"""Every codec of `ParquetFormat`."""
