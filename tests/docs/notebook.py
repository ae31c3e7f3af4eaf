"""The example of the page about reading: a session at Python's prompt, with the answers of a run.

The lines that are typed run one after another against a real server, on which the streams of the page have landed.
"""

from __future__ import annotations

import io
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from land_and_read import START, batch_of, destination, sync, target
from servers import S3Server, rclone_server

from s3dest_dagster import ParquetFormat, Scope, Stream, land

BUCKET = "my-bucket"
ORDERS = Stream(
    name="orders",
    namespace="shop",
    json_schema={
        "type": "object",
        "properties": {"id": {"type": "integer"}, "country": {"type": "string"}, "total": {"type": "number"}},
    },
)
DAYS = {
    "2026-01-05": [(1, "DE", 19.5), (2, "FR", 7.25), (3, "DE", 42.0)],
    "2026-01-06": [(4, "IT", 12.0), (5, "FR", 30.75)],
}
TYPED = {
    "first": [
        "from s3dest_dagster import read",
        'orders = read("s3://my-bucket/lake", "shop.orders", columns=["id", "country", "total"])',
        "orders",
        "orders.polars()",
    ],
    "further": [
        'orders.duckdb().aggregate("country, sum(total) AS total", "country").order("country")',
        'read("s3://my-bucket/lake", "shop.orders", partitions=["2026-01-06"], columns=["id", "total"]).pandas()',
        'read("s3://my-bucket/lake", "shop.orders", filter=[("total", ">", 15)]).arrow().num_rows',
        "sum(batch.num_rows for batch in orders.batches())",
    ],
    "mistakes": [
        'read("s3://my-bucket/lake", "shop.order")',
        'read("s3://my-bucket", "shop.orders")',
        'read("s3://my-bucket/lake", "shop.orders", columns=["totel"])',
    ],
}


def block(part: str) -> str:
    """A part of the session, with its answers."""
    return f"```pycon\n{_session()[part]}```\n"


@cache
def _session() -> dict[str, str]:
    """The answers of all parts, which are typed one after another."""
    names: dict[str, object] = {}
    # Not moto, of which a process has only one.
    with TemporaryDirectory() as folder, rclone_server(Path(folder)) as server, _landed(server) as bucket:
        return {
            part: "".join(f">>> {line}\n{_answer(line, names, bucket)}" for line in typed)
            for part, typed in TYPED.items()
        }


def _answer(line: str, names: dict[str, object], bucket: str) -> str:
    printed = io.StringIO()
    with redirect_stdout(printed):
        try:
            exec(compile(line.replace(BUCKET, bucket), "<page>", "single"), names)
        except Exception as error:
            printed.write(traceback.format_exception_only(error)[-1])
    text = printed.getvalue().replace(bucket, BUCKET).rstrip("\n")
    return f"{text}\n" if text else ""


@contextmanager
def _landed(server: S3Server) -> Iterator[str]:
    """The bucket with the orders of two days. Its identity is in the environment."""
    place = destination(server.new_bucket(), s3_bucket_path="lake", format=ParquetFormat())
    with target(server, place) as opened:
        for number, (day, rows) in enumerate(DAYS.items()):
            records = [{"id": each[0], "country": each[1], "total": each[2]} for each in rows]
            now = START + timedelta(days=number)
            land([batch_of(records)], opened, ORDERS, sync(f"day-{number}", now), scope=Scope(ORDERS.id, day))
    identity = {
        "AWS_ENDPOINT_URL_S3": server.endpoint,
        "AWS_ACCESS_KEY_ID": server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
        "AWS_REGION": "us-east-1",
    }
    with mock.patch.dict(os.environ, identity):
        yield place.s3_bucket_name
