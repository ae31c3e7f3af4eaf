"""Moments without a zone, which are UTC or stay without a zone."""

from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.batch import ArrowBatch, Batch, JsonBatch
from s3dest_dagster.columns.inference import json_schema_of_arrow
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds.temporal import LOCAL_TIMESTAMP, TIMESTAMP, local_micros
from s3dest_dagster.formats import encoder
from s3dest_dagster.settings.formats import AvroFormat, FormatSettings, ParquetFormat, TypeRules
from s3dest_dagster.stream import Stream

KEEP = TypeRules(naive_moments="keep")
NAIVE = {"type": ["null", "string"], "format": "date-time", "airbyte_type": "timestamp_without_timezone"}
MOMENTS = ["2024-01-02T03:04:05.123456", "2024-01-02 03:04", None]


def content_of(settings: FormatSettings, schema: Any, batch: Batch, rules: TypeRules) -> BytesIO:
    made = encoder(settings, Stream(name="s", json_schema=schema), rules=rules)
    pieces: list[bytes] = []
    writer = made.open(pieces.append, b"m" * 16)
    writer.append(made.encode(batch, bytes(16 * batch.num_rows)))
    writer.close()
    return BytesIO(b"".join(pieces))


def json_batch(values: list[Any]) -> JsonBatch:
    raws = [b'{"f":%b}' % (b'"%b"' % value.encode() if value else b"null") for value in values]
    return JsonBatch(raws, np.full(len(raws), 7), sum(map(len, raws)))


def arrow_batch(values: list[Any], type_: pa.DataType) -> ArrowBatch:
    return ArrowBatch(pa.RecordBatch.from_arrays([pa.array(values, type_)], ["f"]), np.full(len(values), 7))


def test_parquet_keeps_a_naive_moment_without_a_zone() -> None:
    content = content_of(ParquetFormat(), {"properties": {"f": NAIVE}}, json_batch(MOMENTS), KEEP)
    table = pq.read_table(content)
    assert table.schema.field("f").type == pa.timestamp("us")
    assert table["f"].to_pylist() == [datetime(2024, 1, 2, 3, 4, 5, 123456), datetime(2024, 1, 2, 3, 4), None]
    assert "isAdjustedToUTC=false" in str(pq.ParquetFile(content).schema)


def test_avro_keeps_a_naive_moment_as_a_local_timestamp() -> None:
    rows = list(fastavro.reader(content_of(AvroFormat(), {"properties": {"f": NAIVE}}, json_batch(MOMENTS), KEEP)))
    assert [row["f"] for row in rows] == [datetime(2024, 1, 2, 3, 4, 5, 123456), datetime(2024, 1, 2, 3, 4), None]


def test_a_text_with_a_zone_is_no_naive_moment() -> None:
    zoned = json_batch(["2024-01-02T03:04:05Z"])
    row = pq.read_table(content_of(ParquetFormat(), {"properties": {"f": NAIVE}}, zoned, KEEP)).to_pylist()[0]
    assert row["f"] is None
    assert dict(row["_airbyte_additional_properties"]) == {"f": "2024-01-02T03:04:05Z"}


@pytest.mark.parametrize("definition", [NAIVE, {"$ref": "WellKnownTypes.json#/definitions/TimestampWithoutTimezone"}])
def test_the_setting_decides_about_every_declaration(definition: Any) -> None:
    kinds = [
        record_type({"properties": {"f": definition}}, "s", None, rules).fields[0].kind for rules in (KEEP, TypeRules())
    ]
    assert kinds == [LOCAL_TIMESTAMP, TIMESTAMP]
    zoned = {"type": "string", "format": "date-time"}
    assert record_type({"properties": {"f": zoned}}, "s", None, KEEP).fields[0].kind == TIMESTAMP


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_naive_arrow_timestamp_stays_naive(unit: str) -> None:
    batch = arrow_batch([datetime(2024, 1, 2, 3, 4)], pa.timestamp(unit))
    schema = json_schema_of_arrow(batch.data.schema)
    kept, utc = (
        pq.read_table(content_of(ParquetFormat(), schema, batch, rules))["f"].to_pylist()
        for rules in (KEEP, TypeRules())
    )
    assert (kept, utc) == ([datetime(2024, 1, 2, 3, 4)], [datetime(2024, 1, 2, 3, 4, tzinfo=UTC)])
    zoned = arrow_batch([datetime(2024, 1, 2, 3, 4)], pa.timestamp(unit, "Europe/Berlin"))
    read = pq.read_table(content_of(ParquetFormat(), json_schema_of_arrow(zoned.data.schema), zoned, KEEP))
    assert read.schema.field("f").type == pa.timestamp("us", "UTC")


@given(st.datetimes())
def test_every_naive_datetime_is_read_back(value: datetime) -> None:
    assert local_micros(value.isoformat()) == (value - datetime(1970, 1, 1)) // datetime.resolution
    raws = json_batch([value.isoformat(), value.isoformat(" ")])
    read = pq.read_table(content_of(ParquetFormat(), {"properties": {"f": NAIVE}}, raws, KEEP))
    assert read["f"].to_pylist() == [value, value]
