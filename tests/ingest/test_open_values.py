"""Objects without properties and moments without a zone: what the settings make of them, over two syncs."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import duckdb
import fastavro
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from land_and_read import data_keys, destination, sync, target
from servers import S3Server

from s3dest_dagster.batch import JsonBatch
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.settings.connector_config import from_connector_config
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import AvroFormat, FormatSettings, ParquetFormat
from s3dest_dagster.stream import Scope, Stream, StreamId, SyncMode

TYPED = pytest.mark.parametrize("format", [AvroFormat(), ParquetFormat()], ids=["avro", "parquet"])
NAIVE = {"type": "string", "format": "date-time", "airbyte_type": "timestamp_without_timezone"}
SCHEMA = {"properties": {"open": {"type": ["null", "object"]}, "at": NAIVE}}
OBJECTS = ['{"a":1}', '{"a":"1"}', '{"a":null,"b":1.10}']
MOMENT = datetime(2024, 1, 2, 3, 4)


def landed_twice(server: S3Server, settings: S3Destination) -> tuple[pa.Table, list[bytes]]:
    """The stream after two syncs, as the library reads it, and its objects."""
    stream = Stream(name="events", json_schema=SCHEMA, sync_mode=SyncMode.APPEND)
    raws = [f'{{"open":{each},"at":"2024-01-02T03:04:00"}}'.encode() for each in OBJECTS]
    for number in range(2):
        batch = JsonBatch(raws, np.full(len(raws), 7), sum(map(len, raws)))
        with target(server, settings) as opened:
            receipt = land([batch], opened, stream, sync(f"s{number}"))
        assert not receipt.counts.tally.undeclared or settings.open_objects == "map"
    table = read_scope(server.open(settings), settings.template, Scope(StreamId(None, "events")))
    client = server.client()
    keys = data_keys(server, settings.s3_bucket_name)
    return table, [client.get_object(Bucket=settings.s3_bucket_name, Key=key)["Body"].read() for key in keys]


def values(format: FormatSettings, contents: list[bytes], name: str) -> list[Any]:
    rows: list[Any] = []
    for content in contents:
        is_avro = isinstance(format, AvroFormat)
        rows += fastavro.reader(BytesIO(content)) if is_avro else pq.read_table(BytesIO(content)).to_pylist()
    return [row[name] for row in rows]


@TYPED
def test_an_open_object_is_its_text_by_default(moto_s3: S3Server, format: FormatSettings) -> None:
    table, contents = landed_twice(moto_s3, destination(moto_s3.new_bucket(), format=format))
    assert table["open"].to_pylist() == OBJECTS * 2
    assert values(format, contents, "open") == OBJECTS * 2


@TYPED
def test_an_open_object_can_be_the_connectors_map(moto_s3: S3Server, format: FormatSettings) -> None:
    settings = destination(moto_s3.new_bucket(), format=format, open_objects="map")
    table, contents = landed_twice(moto_s3, settings)
    maps = [{"a": "1"}, {"a": "1"}, {"b": "1.10"}]
    inner = "_airbyte_additional_properties"
    assert [dict(each[inner]) for each in table["open"].to_pylist()] == maps * 2
    assert [dict(each[inner]) for each in values(format, contents, "open")] == maps * 2


def test_duckdb_and_polars_read_the_json(moto_s3: S3Server, tmp_path: Any) -> None:
    _, contents = landed_twice(moto_s3, destination(moto_s3.new_bucket(), format=ParquetFormat()))
    file = tmp_path / "one.parquet"
    file.write_bytes(contents[0])
    read = duckdb.sql(f"SELECT open->>'$.a', typeof(\"at\") FROM '{file}'").fetchall()
    assert [each for each, _ in read] == ["1", "1", None]
    assert pl.read_parquet(file)["open"].str.json_path_match("$.a").to_list() == ["1", "1", None]


@pytest.mark.parametrize(("own", "expected"), [({}, "map"), ({"open_objects": "text"}, "text")])
def test_a_connectors_config_means_the_map(own: dict[str, Any], expected: str) -> None:
    config = {
        "s3_bucket_name": "b",
        "s3_bucket_path": "p",
        "s3_bucket_region": "eu-west-1",
        "format": {"format_type": "Parquet"},
        "s3dest": own,
    }
    assert from_connector_config(config).destination.open_objects == expected
    assert S3Destination(s3_bucket_name="b").open_objects == "text"


@TYPED
@pytest.mark.parametrize(("setting", "moment"), [("keep", MOMENT), ("utc", MOMENT.replace(tzinfo=UTC))])
def test_naive_moments(moto_s3: S3Server, format: FormatSettings, setting: str, moment: datetime) -> None:
    settings = destination(moto_s3.new_bucket(), format=format, naive_moments=setting)
    table, contents = landed_twice(moto_s3, settings)
    assert table["at"].to_pylist() == [moment] * 6
    assert values(format, contents, "at") == [moment] * 6
