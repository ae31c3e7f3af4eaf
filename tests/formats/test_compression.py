"""GZIP and Avro's codecs: every setting changes the bytes, and independent decoders read them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import cramjam
import pytest

from s3dest_dagster.formats.compression import avro_codec, gzip_stream
from s3dest_dagster.settings.formats import AvroFormat

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = b"".join(
    b'{"id":%d,"name":"Ann %d","town":"Ulm","score":%d}\n' % (n, n * 7919 % 1000, n * n) for n in range(1500)
)


def _gzipped(effort, *pieces):
    stream = gzip_stream(effort)
    return b"".join(map(stream.compress, pieces)) + stream.flush()


@pytest.mark.parametrize("effort", ["fast", "balanced", "small"])
def test_gzip_is_one_member_without_name_and_time(effort):
    data = _gzipped(effort, TEXT, b"", TEXT)
    decoder = zlib.decompressobj(31)
    assert decoder.decompress(data) == TEXT * 2
    assert decoder.eof
    assert decoder.unused_data == b""
    assert data[3] == 0  # no flags, so neither name nor comment
    assert data[4:8] == bytes(4)


def test_more_effort_gives_smaller_objects():
    sizes = [len(_gzipped(effort, TEXT * 5)) for effort in ("fast", "balanced", "small")]
    assert sizes[0] > sizes[1] > sizes[2]


def test_small_effort_compresses_like_the_usual_level():
    assert len(_gzipped("small", TEXT * 5)) <= 1.02 * len(gzip.compress(TEXT * 5, 6))


def test_an_empty_gzip_object_is_valid():
    assert gzip.decompress(_gzipped("balanced")) == b""


def _inflated(data):
    return zlib.decompress(data, -15)


DECODERS = {
    "no compression": ("null", bytes),
    "Deflate": ("deflate", _inflated),
    "bzip2": ("bzip2", bz2.decompress),
    "xz": ("xz", lzma.decompress),
    "zstandard": ("zstandard", zstd.decompress),
    "snappy": ("snappy", lambda data: bytes(cramjam.snappy.decompress_raw(data[:-4]))),
}


@pytest.mark.parametrize("codec", DECODERS)
def test_a_block_is_decoded_by_the_named_codec(codec):
    name, decode = DECODERS[codec]
    written_name, compress = avro_codec(AvroFormat(codec=codec))
    assert written_name == name
    assert decode(compress(memoryview(TEXT))) == TEXT
    assert decode(compress(b"")) == b""


def test_snappy_blocks_end_with_the_checksum_of_their_content():
    _, compress = avro_codec(AvroFormat(codec="snappy"))
    assert compress(TEXT)[-4:] == zlib.crc32(TEXT).to_bytes(4, "big")


def test_every_deflate_level_produces_different_bytes_and_0_stores():
    blocks = [avro_codec(AvroFormat(codec="Deflate", compression_level=level))[1](TEXT) for level in range(10)]
    assert len(set(blocks)) == 10
    assert all(_inflated(block) == TEXT for block in blocks)
    assert len(blocks[0]) > len(TEXT)
    sizes = list(map(len, blocks))
    assert sizes[9] < sizes[6] < sizes[1] < sizes[0]


def test_deflate_defaults_to_level_0():
    assert avro_codec(AvroFormat(codec="Deflate"))[1](TEXT) == avro_codec(
        AvroFormat(codec="Deflate", compression_level=0)
    )[1](TEXT)


def test_every_xz_level_produces_different_bytes():
    blocks = [avro_codec(AvroFormat(codec="xz", compression_level=level))[1](TEXT) for level in range(10)]
    assert len(set(blocks)) == 10
    assert all(lzma.decompress(block) == TEXT for block in blocks)


def test_zstandard_levels_reach_the_encoder():
    blocks = {
        level: avro_codec(AvroFormat(codec="zstandard", compression_level=level))[1](TEXT)
        for level in (-5, -1, 1, 3, 9, 19)
    }
    assert len(set(blocks.values())) == len(blocks)
    assert len(blocks[-5]) > len(blocks[3]) > len(blocks[19])
    assert avro_codec(AvroFormat(codec="zstandard"))[1](TEXT) == blocks[3]


@pytest.mark.parametrize("checksum", [True, False])
def test_zstandard_checksum_sets_the_frames_flag(checksum):
    _, compress = avro_codec(AvroFormat(codec="zstandard", include_checksum=checksum))
    frame = compress(TEXT)
    assert bool(frame[4] & 0b100) is checksum
    assert zstd.get_frame_info(frame).decompressed_size == len(TEXT)


def test_a_damaged_zstandard_block_with_checksum_is_detected():
    _, compress = avro_codec(AvroFormat(codec="zstandard", include_checksum=True))
    frame = bytearray(compress(TEXT))
    frame[-1] ^= 1
    with pytest.raises(zstd.ZstdError):
        zstd.decompress(bytes(frame))


@pytest.mark.parametrize("codec", DECODERS)
def test_many_threads_compress_to_the_same_bytes_as_one(codec):
    _, compress = avro_codec(AvroFormat(codec=codec))
    blocks = [TEXT[start:] for start in range(0, 6000, 500)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(compress, blocks)) == list(map(compress, blocks))
