"""Days before 1582 and moments before 1900 in Parquet and Avro: every reader finds the original values."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import duckdb
import fastavro
import polars as pl
import pyarrow.parquet as pq
import pytest
from encoded import written
from historic_dates import BATCHES, DAYS, MOMENTS, STREAM

from s3dest_dagster.formats.parquet_lzo import without_lzo
from s3dest_dagster.settings.formats import AvroFormat, ParquetCodec, ParquetFormat

ROWS = list(zip(DAYS, MOMENTS, strict=True))


def _utc(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _assert_found(rows: list[dict[str, Any]]) -> None:
    found = [(row["day"], _utc(row["at"]), _utc(row["local"]), row["within"]["day"]) for row in rows]
    assert found == [(day, at, at, day) for day, at in ROWS]


@pytest.mark.parametrize("way", BATCHES)
def test_parquet_readers_find_ancient_dates(tmp_path: Path, way: str) -> None:
    path = tmp_path / "ancient.parquet"
    path.write_bytes(written(ParquetFormat(), STREAM, [BATCHES[way]()]))
    _assert_found(pq.read_table(path).to_pylist())
    _assert_found(pl.read_parquet(path).to_dicts())
    found = duckdb.sql("from read_parquet($path)", params={"path": str(path)})
    _assert_found(found.to_arrow_table().to_pylist())


@pytest.mark.parametrize("way", BATCHES)
def test_avro_readers_find_ancient_dates(way: str) -> None:
    _assert_found(list(fastavro.reader(io.BytesIO(written(AvroFormat(), STREAM, [BATCHES[way]()])))))


class TestFilesNameTheirCalendar:
    """The metadata is what Spark 3 looks for. Spark compares versions as texts, so "3.1.0" or later covers every
    type."""

    @staticmethod
    def _assert_calendar_entries(metadata: dict[str, str]) -> None:
        assert metadata["org.apache.spark.version"] >= "3.1.0"
        assert not {"org.apache.spark.legacyDateTime", "org.apache.spark.legacyINT96"} & metadata.keys()

    @pytest.mark.parametrize("codec", get_args(ParquetCodec))
    @pytest.mark.parametrize("rows", ["none", *BATCHES])
    def test_parquet(self, codec: ParquetCodec, rows: str) -> None:
        batches = [] if rows == "none" else [BATCHES[rows]()]
        data = written(ParquetFormat(compression_codec=codec), STREAM, batches)
        for each in (data, *([without_lzo(data)] if codec == "LZO" else [])):
            metadata = pq.read_metadata(io.BytesIO(each)).metadata
            self._assert_calendar_entries({name.decode(): value.decode() for name, value in metadata.items()})

    def test_avro(self) -> None:
        self._assert_calendar_entries(dict(fastavro.reader(io.BytesIO(written(AvroFormat(), STREAM, []))).metadata))
