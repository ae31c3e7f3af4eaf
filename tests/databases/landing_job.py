"""A process that lands a table of PostgreSQL, and that may kill itself in the middle.

    python landing_job.py append|shards

Environment variables give its bucket and `KILL_AFTER`, the number of rows after which it is killed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from server_variables import server_of_environment

from s3dest_dagster import (
    ParquetFormat,
    S3DestinationIOManager,
    SqlSource,
    sharded_stream_asset,
    stream_asset,
)
from s3dest_dagster.sources import DeferredRead


def mortal(items: Iterable[Any]) -> Iterator[Any]:
    """The items, until so many rows have passed."""
    left = int(os.environ.get("KILL_AFTER", "0")) or sys.maxsize
    for item in items:
        left -= getattr(item, "num_rows", 0)
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item


def appended() -> dg.AssetsDefinition:
    read = SqlSource(dg.EnvVar("SHOP_DATABASE"), table="big", cursor="id").incremental("big")

    @contextmanager
    def opened(state: bytes | None) -> Iterator[Iterator[Any]]:
        with read.open(state) as items:
            yield mortal(items)

    @stream_asset(sync_mode="append")
    def big():
        return DeferredRead(opened, is_incremental=True)

    return big


def sharded() -> dg.AssetsDefinition:
    source = SqlSource(dg.EnvVar("SHOP_DATABASE"), table="big", shard_by="id", shards=3)

    @sharded_stream_asset(shards=lambda context: source.shard_names(), json_schema=source.json_schema())
    def big(shard: str):
        return mortal(source.read(shard=shard))

    return big


def io_manager() -> S3DestinationIOManager:
    connection, bucket = server_of_environment()
    return S3DestinationIOManager(
        s3_bucket_name=bucket,
        s3=connection,
        format=ParquetFormat(),
        checkpoint_mb=float(os.environ.get("CHECKPOINT_MB", "2")),
    )


if __name__ == "__main__":
    asset = appended() if sys.argv[1] == "append" else sharded()
    sys.exit(0 if dg.materialize([asset], resources={"io_manager": io_manager()}, raise_on_error=False).success else 1)
