"""A job with a connector's stream and a function's, both in partitions, whose steps are processes that `killed_runs`
kills."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import dagster as dg
from process_pool import PRELOADED
from scripted_source import CONNECTOR

from s3dest_dagster import (
    AirbyteSource,
    JsonlFormat,
    S3Connection,
    S3DestinationIOManager,
    SyncMode,
    build_stream_assets,
    stream_asset,
)

STREAMS = {"pages", "users"}
ROWS = 400
"""The rows of each partition of each stream."""
TEXT = "x" * 10_000
"""Long, so that objects are closed, and their uploads are open, in the middle."""
DAILY = dg.DailyPartitionsDefinition("2026-01-01")
USERS = {"name": "users", "json_schema": {"type": "object", "properties": {"id": {"type": "integer"}}}}
FORKED = {"max_concurrent": 2, "start_method": {"forkserver": {"preload_modules": PRELOADED}}}


def killed_job(endpoint: str, key_id: str, secret: str, bucket: str, folder: str) -> dg.JobDefinition:
    """The job, as each process loads it again. In the middle of a stream, it waits for the file `go` in the folder."""
    go = Path(folder) / "go"

    @stream_asset(sync_mode=SyncMode.APPEND, partitions_def=DAILY)
    def pages():
        for number in range(ROWS):
            while number == ROWS // 2 and not go.exists():
                time.sleep(0.01)
            yield [{"id": number, "text": TEXT}]

    source = AirbyteSource(
        [sys.executable, "-S", str(CONNECTOR), f"{folder}/script.json"], {"day": "{{ partition_key }}"}
    )
    users = build_stream_assets(source, catalog={"streams": [USERS]}, partitions_def=DAILY, streams={"users": "append"})
    io = S3DestinationIOManager(
        s3_bucket_name=bucket,
        s3=S3Connection(endpoint=endpoint, access_key_id=key_id, secret_access_key=secret, region="us-east-1"),
        object_size_mb=0.05,
        format=JsonlFormat(compression="No Compression"),  # type: ignore[arg-type]
    )
    definitions = dg.Definitions(
        [pages, *users],
        jobs=[dg.define_asset_job("land", [pages, *users])],
        resources={"io_manager": io},
        executor=dg.multiprocess_executor.configured(FORKED),
    )
    return definitions.resolve_job_def("land")
