"""Parquet with LZO, which pyarrow cannot write: pages are compressed on their way from pyarrow to the object.

Page bodies have the framing of Hadoop's LZO codec, which parquet-mr and Spark also use: repeated {uncompressed size,
compressed size, LZO1X block}, with sizes as 32-bit big-endian numbers. Page headers and the footer are Thrift structs,
and are read and written without loss. Must not know: columns, rows.

Page headers and footer: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from s3dest_dagster.errors import MissingExtraError
from s3dest_dagster.formats.protocol import Content, Sink
from s3dest_dagster.formats.thrift import Struct, ThriftReader, get, put, thrift_bytes

_MAGIC = b"PAR1"
_FOOTER_TAIL = 8
_UNCOMPRESSED, _LZO = 0, 3
_FRAME_BYTES = 128 * 1024
"""The most bytes of one frame: less than the 256 KiB buffer of Hadoop's readers."""

_HEADER_COMPRESSED_SIZE = 3
_FILE_ROW_GROUPS = 4
_GROUP_COLUMNS, _GROUP_FILE_OFFSET, _GROUP_COMPRESSED_SIZE = 1, 5, 6
_CHUNK_FILE_OFFSET, _CHUNK_METADATA = 2, 3
_CODEC, _COMPRESSED_SIZE, _DATA_PAGE, _DICTIONARY_PAGE = 4, 7, 9, 11

Frame = Callable[[bytes], bytes]
"""Converts a page's body: compresses or decompresses it."""


def lzo_compressor() -> Frame:
    """A function that compresses a page's body. Raises MissingExtraError if the optional package is not installed."""
    compressor = _library().LZOCompressor()

    def compress(body: bytes) -> bytes:
        framed = bytearray()
        for start in range(0, len(body), _FRAME_BYTES):
            block = body[start : start + _FRAME_BYTES]
            packed = compressor.compress(block)
            framed += len(block).to_bytes(4, "big") + len(packed).to_bytes(4, "big") + packed
        return bytes(framed)

    return compress


def lzo_decompressor() -> Frame:
    """A function that decompresses a page's body. Raises MissingExtraError if the optional package is not installed."""
    decompress_block = _library().LZOCompressor.decompress

    def decompress(framed: bytes) -> bytes:
        body = bytearray()
        position = 0
        while position < len(framed):
            size = int.from_bytes(framed[position : position + 4], "big")
            packed_size = int.from_bytes(framed[position + 4 : position + 8], "big")
            position += 8
            body += decompress_block(framed[position : position + packed_size], size)
            position += packed_size
        return bytes(body)

    return decompress


def _library() -> Any:
    try:
        import lzallright
    except ImportError as error:
        raise MissingExtraError(
            "Parquet codec LZO needs the package lzallright. Install s3dest-dagster[lzo], or choose another "
            "compression_codec.",
            setting="compression_codec",
        ) from error
    return lzallright


def is_lzo(data: Content) -> bool:
    """Whether any column of a Parquet file is compressed with LZO."""
    return any(get(get(chunk, _CHUNK_METADATA), _CODEC) == _LZO for chunk in _chunks(_footer(data)))


def without_lzo(data: Content) -> bytes:
    """The same Parquet file without compression."""
    out = bytearray()
    rewriter = PageRewriter(out.extend, lzo_decompressor(), _UNCOMPRESSED)
    start = _footer_start(data)
    rewriter.write(data[:start])
    rewriter.end_pages()
    rewriter.write(data[start:])
    rewriter.close()
    return bytes(out)


class PageRewriter:
    """Receives a Parquet file piece by piece, and sends it to the sink with converted page bodies.

    It holds back at most one page. Call `end_pages` between the last page and the footer.
    """

    def __init__(self, sink: Sink, frame: Frame, codec: int = _LZO) -> None:
        self._sink = sink
        self._frame = frame
        self._codec = codec
        self._held = bytearray()
        self._read = self._written = 0
        self._moved: dict[int, int] = {}
        self._in_pages = True

    def write(self, data: bytes | memoryview) -> None:
        self._held += data
        if not self._read and len(self._held) >= len(_MAGIC):
            self._read = len(_MAGIC)
            del self._held[: self._read]
            self._send(_MAGIC)
        while self._in_pages and self._rewrite_page():
            pass

    def end_pages(self) -> None:
        """Marks the end of the pages: the footer follows."""
        assert not self._held, "a page is incomplete"
        self._moved[self._read] = self._written
        self._in_pages = False

    def close(self) -> None:
        """Sends the footer."""
        footer = ThriftReader(self._held).struct()
        self._move(footer)
        rewritten = thrift_bytes(footer)
        self._send(rewritten + len(rewritten).to_bytes(4, "little") + _MAGIC)

    def _rewrite_page(self) -> bool:
        """Sends the first page that is held back, if it is complete. Returns whether it was."""
        reader = ThriftReader(self._held)
        try:
            header = reader.struct()
        except IndexError:
            return False
        end = reader.position + get(header, _HEADER_COMPRESSED_SIZE)
        if len(self._held) < end:
            return False
        body = self._frame(bytes(self._held[reader.position : end]))
        del self._held[:end]
        self._moved[self._read] = self._written
        self._read += end
        put(header, _HEADER_COMPRESSED_SIZE, len(body))
        self._send(thrift_bytes(header) + body)
        return True

    def _send(self, data: bytes) -> None:
        self._sink(data)
        self._written += len(data)

    def _move(self, footer: Struct) -> None:
        """Sets codec, sizes and positions to those of the new file."""
        for group in get(footer, _FILE_ROW_GROUPS)[1]:
            size = sum(self._move_chunk(chunk) for chunk in get(group, _GROUP_COLUMNS)[1])
            for number, value in ((_GROUP_FILE_OFFSET, None), (_GROUP_COMPRESSED_SIZE, size)):
                if (old := get(group, number)) is not None:
                    put(group, number, self._moved[old] if value is None else value)

    def _move_chunk(self, chunk: Struct) -> int:
        """Sets codec, size and positions of a column chunk, and returns its new size."""
        metadata = get(chunk, _CHUNK_METADATA)
        data_page, dictionary_page = get(metadata, _DATA_PAGE), get(metadata, _DICTIONARY_PAGE)
        start = data_page if dictionary_page is None else dictionary_page
        size = self._moved[start + get(metadata, _COMPRESSED_SIZE)] - self._moved[start]
        put(metadata, _CODEC, self._codec)
        put(metadata, _COMPRESSED_SIZE, size)
        put(metadata, _DATA_PAGE, self._moved[data_page])
        if dictionary_page is not None:
            put(metadata, _DICTIONARY_PAGE, self._moved[dictionary_page])
        put(chunk, _CHUNK_FILE_OFFSET, 0)  # deprecated: the specification says to write 0
        return size


def _footer_start(data: Content) -> int:
    size = int.from_bytes(data[-_FOOTER_TAIL:-4], "little")
    return len(data) - _FOOTER_TAIL - size


def _footer(data: Content) -> Struct:
    return ThriftReader(data, _footer_start(data)).struct()


def _chunks(footer: Struct) -> list[Struct]:
    return [chunk for group in get(footer, _FILE_ROW_GROUPS)[1] for chunk in get(group, _GROUP_COLUMNS)[1]]
