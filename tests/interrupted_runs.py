"""Runs that land endlessly, for tests that interrupt them. Each is the only thing that its process does."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import dagster as dg
from server_variables import server_of_environment

from s3dest_dagster import AirbyteSource, S3Connection, S3DestinationIOManager, build_stream_assets, stream_asset

CONNECTOR = Path(__file__).with_name("scripted_connector.py")
USERS = {"name": "users", "json_schema": {"type": "object"}, "supported_sync_modes": ["full_refresh"]}


def land_endlessly(bucket: str, s3: S3Connection, begun: Path) -> None:
    """Lands pages of an asset, and touches `begun` once some have been uploaded."""
    _be_silent()

    @stream_asset
    def endless():
        # Texts that hardly shrink, so that each page fills an object.
        page = [{"id": number, "text": os.urandom(100).hex()} for number in range(10_000)]
        for _ in range(4):
            yield page
        begun.touch()
        while True:
            time.sleep(0.02)
            yield page[:1]

    io = S3DestinationIOManager(s3_bucket_name=bucket, s3=s3, part_size_mb=5, object_size_mb=1)
    dg.materialize([endless], resources={"io_manager": io})


def read_endlessly(bucket: str, s3: S3Connection, script: Path) -> None:
    """Lands what a connector with this script emits, which need not end."""
    _be_silent()
    source = AirbyteSource([sys.executable, str(CONNECTOR), str(script)], stop_grace_s=0.3)
    io = S3DestinationIOManager(s3_bucket_name=bucket, s3=s3, part_size_mb=5, object_size_mb=1, abort_grace_s=0.3)
    assets = build_stream_assets(source, catalog={"streams": [USERS]}, partitions_def=None)
    dg.materialize(assets, resources={"io_manager": io})


def _be_silent() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


# ---------------------------------------------------------------------- a job whose steps are processes of their own


@stream_asset(sync_mode="append")
def pages():
    """Lands endlessly, and touches the file BEGUN of the environment once pages have been uploaded."""
    page = [{"id": number, "text": f"{number:0100}"} for number in range(10_000)]
    for _ in range(20):
        yield page
    Path(os.environ["BEGUN"]).touch()
    while True:
        time.sleep(0.02)
        yield page[:1]


def pages_job() -> dg.JobDefinition:
    """The job, as each process loads it again."""
    s3, bucket = server_of_environment()
    io = S3DestinationIOManager(s3_bucket_name=bucket, s3=s3, part_size_mb=5, object_size_mb=1)
    definitions = dg.Definitions(
        [pages],
        jobs=[dg.define_asset_job("land", [pages])],
        resources={"io_manager": io},
        executor=dg.multiprocess_executor,
    )
    return definitions.resolve_job_def("land")


def land_in_processes(history: str, environment: dict[str, str]) -> None:
    """Runs the job. `history`: the directory of Dagster's instance."""
    _be_silent()
    os.environ.update(environment)
    with (
        dg.DagsterInstance.local_temp(history) as instance,
        dg.execute_job(dg.reconstructable(pages_job), instance) as result,
    ):
        sys.exit(not result.success)
