"""Spark reads the directories that fields name, with their columns declared as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from land_and_read import batch_of, data_keys, destination, sync, target
from servers import S3Server

from s3dest_dagster.ingest.landing import land
from s3dest_dagster.settings.formats import JsonlFormat, ParquetFormat
from s3dest_dagster.stream import Stream

pytestmark = [pytest.mark.readers, pytest.mark.timeout(600)]

SCHEMA = {
    "properties": {
        "id": {"type": "integer"},
        "at": {"type": "string", "format": "date-time"},
        "region": {"type": ["null", "string"]},
    }
}
REGIONS = [
    "a'b",
    'a"b',
    "a/b",
    "a\\b",
    "50%",
    "%2F",
    "a=b",
    "a+b&c d",
    "ü 中 \u00a0 é é",
    "01234",
    "1",
    "1.0",
    "true",
    "2026-01-05",
    " x ",
    "a\tb\r\nc",
    ".",
    "..",
    "_hidden",
    "{x}[y]^?*:#",
    "Eu",
    "eu",
    None,
    "",
]
"""Values that go wrong in paths."""
DAYS = ["1969-12-31T23:30:00Z", "2026-01-05T23:30:00-05:00", "9999-12-31T23:59:59Z", None]


@pytest.mark.parametrize("form", [ParquetFormat(), JsonlFormat(flattening="Root level flattening")], ids=type)
def test_spark_reads_directories_as_texts(spark: Any, moto_s3: S3Server, tmp_path: Path, form: Any) -> None:
    name = moto_s3.new_bucket()
    records = [{"id": n, "region": region, "at": DAYS[n % 4]} for n, region in enumerate(REGIONS)]
    by = [{"field": "at", "as": "day", "name": "dt"}, "region"]
    orders = Stream(name="orders", json_schema=SCHEMA, settings={"partition_by": by})  # type: ignore[arg-type]
    made = destination(name, s3_path_format="${STREAM_NAME}/${FIELDS}/", format=form)
    with target(moto_s3, made) as opened:
        land([batch_of(records)], opened, orders, sync("s1"))
    for key in data_keys(moto_s3, name):
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(moto_s3.client().get_object(Bucket=name, Key=key)["Body"].read())
    reader = spark.read.schema("id bigint, dt string, region string")
    root = str(tmp_path / "data/orders")
    frame = reader.parquet(root) if isinstance(form, ParquetFormat) else reader.json(root)
    days = ["1969-12-31", "2026-01-06", "9999-12-31", None]
    expected = [(n, days[n % 4], region or None) for n, region in enumerate(REGIONS)]
    assert [(row.id, row.dt, row.region) for row in frame.orderBy("id").collect()] == expected
    # A condition reads the directories of that value alone.
    for number in (4, 5, 9, 12):
        found = frame.where(frame.region == REGIONS[number]).collect()
        assert [row.id for row in found] == [number]
    assert [row.id for row in frame.where("region is null").orderBy("id").collect()] == [22, 23]
