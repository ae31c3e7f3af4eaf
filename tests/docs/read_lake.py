"""The stream that the chapter "Read your lake" reads: orders of two days, as its first page shows them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from land_and_read import batch_of, sync
from servers import S3Server

from s3dest_dagster import JsonlFormat, ParquetFormat, S3Destination, Stream, land, open_target
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.inspection.reader_statements import reader_statements

ORDERS = [
    {"id": 1, "country": "DE", "total": 19.5, "placed_at": "2026-01-05T09:00:00Z"},
    {"id": 2, "country": "FR", "total": 7.25, "placed_at": "2026-01-05T10:30:00Z"},
    {"id": 3, "country": "DE", "total": 42.0, "placed_at": "2026-01-06T08:15:00Z"},
]
TOTALS = {"DE": 61.5, "FR": 7.25}
"""The totals by country."""
_SCHEMA = {
    "properties": {
        "id": {"type": "integer"},
        "country": {"type": "string"},
        "total": {"type": "number"},
        "placed_at": {"type": "string", "format": "date-time"},
    }
}
_BY_DAY = {"partition_by": [{"field": "placed_at", "as": "day", "name": "dt"}]}


def orders() -> Stream:
    return Stream(name="orders", namespace="shop", json_schema=_SCHEMA, settings=_BY_DAY)  # type: ignore[arg-type]


def lake(bucket: str) -> S3Destination:
    return S3Destination(
        s3_bucket_name=bucket,
        s3_bucket_path="lake",
        s3_path_format="${NAMESPACE}/${STREAM_NAME}/${FIELDS}/",
        format=ParquetFormat(),
    )


def land_lake(server: S3Server, bucket: str) -> None:
    """Lands the orders, and the same records as events in JSON Lines without directories."""
    events = Stream(name="events", namespace="shop", json_schema=_SCHEMA)
    as_lines = S3Destination(
        s3_bucket_name=bucket,
        s3_bucket_path="lake",
        s3_path_format="${NAMESPACE}/${STREAM_NAME}/",
        format=JsonlFormat(),
    )
    for settings, stream in ((lake(bucket), orders()), (as_lines, events)):
        opened = server.open(settings)
        with open_target(settings, opened, clock=lambda: datetime.now(UTC), entropy=os.urandom) as target:
            land([batch_of(ORDERS)], target, stream, sync("monday"))


def download(server: S3Server, bucket: str, folder: Path) -> None:
    """Copies every object of the bucket into the folder, the manifests included."""
    client = server.client()
    for each in client.list_objects_v2(Bucket=bucket)["Contents"]:
        path = folder / each["Key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read())


def athena_table() -> str:
    """The statement that `s3dest plan` prints for Athena."""
    settings, stream = lake("my-bucket"), orders()
    record = record_type(stream.json_schema, stream.name, stream.namespace)
    template = settings.template_of(stream)
    (table, *_) = reader_statements("s3://my-bucket/", template, stream.id, record, settings.format)
    return f"```sql\n{table.text}\n```\n"
