"""Parquet with LZO: the pages are rewritten, and everything else equals the uncompressed file."""

from __future__ import annotations

import builtins
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from encoded import MARKER, batch_of, entropy_of, stream_of, user, written
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.errors import MissingExtraError
from s3dest_dagster.formats import encoder
from s3dest_dagster.formats.parquet_lzo import (
    is_lzo,
    lzo_compressor,
    lzo_decompressor,
    without_lzo,
)
from s3dest_dagster.formats.thrift import ThriftReader, thrift_bytes
from s3dest_dagster.settings.formats import ParquetFormat

LZO = ParquetFormat(compression_codec="LZO", block_size_mb=1)
PLAIN = ParquetFormat(block_size_mb=1)
STREAM = stream_of()


def _batches(count=3, rows=3000):
    return [batch_of(map(user, range(start, start + rows))) for start in range(0, count * rows, rows)]


def test_the_footer_says_lzo_and_the_sizes_add_up():
    data = written(LZO, STREAM, _batches())
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    chunks = [
        metadata.row_group(g).column(c) for g in range(metadata.num_row_groups) for c in range(metadata.num_columns)
    ]
    assert metadata.num_row_groups > 1
    assert {chunk.compression for chunk in chunks} == {"LZO"}
    position = 4
    for chunk in chunks:
        assert (chunk.dictionary_page_offset or chunk.data_page_offset) == position
        position += chunk.total_compressed_size
    assert sum(chunk.total_compressed_size for chunk in chunks) < 0.8 * sum(c.total_uncompressed_size for c in chunks)


def test_the_decompressed_file_equals_the_uncompressed_one():
    batches = _batches()
    data = without_lzo(written(LZO, STREAM, batches))
    expected = pq.read_table(io.BytesIO(written(PLAIN, STREAM, batches)))
    assert pq.read_table(io.BytesIO(data)).equals(expected)
    assert not is_lzo(data)


def test_an_lzo_file_without_rows_is_valid():
    data = written(LZO, STREAM, [])
    assert pq.ParquetFile(io.BytesIO(data)).metadata.num_rows == 0


def test_pages_are_returned_as_soon_as_their_row_group_is_written():
    formatted = encoder(LZO, STREAM)
    out = bytearray()
    writer = formatted.open(out.extend, MARKER)
    (batch,) = _batches(1)
    writer.append(formatted.encode(batch, entropy_of(batch)))
    writer.flush_rows()
    assert len(out) > 10_000
    assert len(writer._rewriter._held) == 0


def test_blocks_have_the_frames_of_hadoop():
    body = bytes(range(256)) * 1024  # two blocks of 128 KiB
    framed = lzo_compressor()(body)
    first = int.from_bytes(framed[4:8], "big")
    assert int.from_bytes(framed[:4], "big") == 128 * 1024
    assert int.from_bytes(framed[8 + first : 12 + first], "big") == 128 * 1024
    assert lzo_decompressor()(framed) == body


@given(st.binary(max_size=2000))
def test_any_body_is_restored(body):
    assert lzo_decompressor()(lzo_compressor()(body)) == body


def test_the_encoder_names_a_missing_package(monkeypatch):
    real = builtins.__import__

    def without_lzallright(name, *args, **kwargs):
        if name == "lzallright":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_lzallright)
    with pytest.raises(MissingExtraError, match=r"Install s3dest-dagster\[lzo\]"):
        encoder(LZO, STREAM)
    encoder(PLAIN, STREAM)


def test_a_footer_goes_through_the_thrift_protocol_unchanged():
    out = io.BytesIO()
    pq.write_table(pa.table({f"c{n}": [n, None] for n in range(40)}), out, compression="snappy")
    data = out.getvalue()
    size = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - size : -8]
    assert thrift_bytes(ThriftReader(footer).struct()) == footer
