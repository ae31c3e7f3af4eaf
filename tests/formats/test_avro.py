"""Avro container files, checked against the specification and with independent readers."""

from __future__ import annotations

import datetime as dt
import io
import json

import fastavro
import pytest
from encoded import EMITTED_AT, MARKER, batch_of, entropy_of, stream_of, user, written

from s3dest_dagster.batch import Tally
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.schemas import avro_schema
from s3dest_dagster.errors import RecordError
from s3dest_dagster.formats import encoder
from s3dest_dagster.settings.formats import AvroFormat

STREAM = stream_of()
LEVELS = {"Deflate": range(10), "xz": (0, 6, 9), "zstandard": (-5, 3, 22)}
ALL_CODECS = [
    AvroFormat(codec=codec, compression_level=level)
    for codec in ("no compression", "Deflate", "bzip2", "xz", "zstandard", "snappy")
    for level in LEVELS.get(codec, (None,))
]


def _described(chosen: AvroFormat) -> str:
    return f"{chosen.codec} {chosen.compression_level}"


@pytest.mark.parametrize("chosen", [*ALL_CODECS, AvroFormat(codec="zstandard", include_checksum=True)], ids=_described)
def test_fastavro_reads_every_codec_and_level(chosen):
    batches = [batch_of(map(user, range(200))), batch_of(map(user, range(200, 230)))]
    data = written(chosen, STREAM, batches)
    rows = list(fastavro.reader(io.BytesIO(data)))
    assert [row["id"] for row in rows] == list(range(230))
    assert rows == list(fastavro.reader(io.BytesIO(written(AvroFormat(), STREAM, batches))))


def test_values_have_their_logical_types():
    (row,) = fastavro.reader(io.BytesIO(written(AvroFormat(), STREAM, [batch_of([user(1)])])))
    assert row["_airbyte_emitted_at"] == dt.datetime.fromtimestamp(EMITTED_AT / 1000, dt.UTC)
    assert row["born"] == dt.date(1911, 2, 3)
    assert row["seen"] == dt.datetime(2024, 1, 2, 12, 0, 0, 123456, dt.UTC)
    assert row["wakes"] == dt.time(6, 30)
    assert row["tags"] == ["a"]
    assert row["home"]["_airbyte_additional_properties"] == {"door": "1"}
    assert row["_airbyte_additional_properties"] == {"beyond": '{"deep":[1.5,null]}'}


def test_a_text_that_is_no_date_stays_in_its_own_field():
    (row,) = fastavro.reader(io.BytesIO(written(AvroFormat(), STREAM, [batch_of([user(0)])])))
    assert row["born"] == "long ago"


def test_the_header_holds_schema_codec_and_calendar_and_nothing_else():
    reader = fastavro.reader(io.BytesIO(written(AvroFormat(codec="Deflate"), STREAM, [])))
    assert list(reader.metadata) == ["avro.schema", "avro.codec", "org.apache.spark.version"]
    assert reader.metadata["avro.codec"] == "deflate"
    expected = avro_schema(record_type(STREAM.json_schema, STREAM.name, None))
    assert json.loads(reader.metadata["avro.schema"]) == expected
    assert encoder(AvroFormat(), STREAM).schema_text == reader.metadata["avro.schema"]


def test_header_and_every_block_end_with_the_marker():
    data = written(AvroFormat(), STREAM, [batch_of(map(user, range(3000)))])
    count = sum(1 for _ in fastavro.block_reader(io.BytesIO(data)))
    assert count > 3
    assert data.count(MARKER) == count + 1
    assert data.endswith(MARKER)


def test_blocks_end_near_64_000_bytes():
    data = written(AvroFormat(), STREAM, [batch_of(map(user, range(3000)))])
    sizes = [len(block.bytes_.getvalue()) for block in fastavro.block_reader(io.BytesIO(data))]
    assert all(64_000 <= size < 65_000 for size in sizes[:-1])


def test_changed_values_are_counted():
    batch = batch_of([{"id": "12"}, {"id": "x"}, {"id": 1, "new": 2}])
    tally = encoder(AvroFormat(), STREAM).encode(batch, entropy_of(batch)).tally
    assert tally == Tally(coerced={"id": 1}, overflowed={"id": 1}, undeclared={"new": 1})


def test_misfits_fail_on_request():
    batch = batch_of([{"id": 1}, {"id": "x"}])
    with pytest.raises(RecordError, match="id"):
        encoder(AvroFormat(), STREAM, on_mismatch="fail").encode(batch, entropy_of(batch))
