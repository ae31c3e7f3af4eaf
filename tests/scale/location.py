"""The code location of the test: the executor of deploy/, and a stream of thirty partitions that lands slowly.

Each step reports its progress as files, so that the test can kill its worker after objects are closed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import dagster as dg
from definitions import executor
from scale.partitions import BATCHES, PARTITIONS, ROWS, ids

from s3dest_dagster import JsonlFormat, S3DestinationIOManager, stream_asset

PAUSE_S = 0.15
MOTO_AGE_S = 20 * 365 * 86400
"""moto dates all uploads to 2010. A shorter age would let a landing abort the uploads of another that runs."""


@stream_asset(namespace="plant", partitions_def=dg.StaticPartitionsDefinition(PARTITIONS), pool="plant")
def measurements(context: dg.AssetExecutionContext):
    rows = ids(context.partition_key)
    for batch in range(BATCHES):
        yield [{"id": rows[batch * ROWS + row], "text": "x" * 10_000} for row in range(ROWS)]
        (Path(os.environ["PROGRESS"]) / f"{context.partition_key}-{batch:02}-{os.getpid()}-{time.time_ns()}").touch()
        time.sleep(PAUSE_S)


lake = S3DestinationIOManager(
    s3_bucket_name=dg.EnvVar("S3_BUCKET"),
    s3_bucket_path="lake",
    object_size_mb=0.5,
    abandoned_upload_age_s=MOTO_AGE_S,
    format=JsonlFormat(compression="No Compression"),  # type: ignore[arg-type]
)
defs = dg.Definitions(assets=[measurements], resources={"io_manager": lake}, executor=executor())
