"""A landing of standard input in a process that has Dagster imported: `python -m benchmarks.fed_landing TASK`.

The objects are dropped when they are made, since the inputs are too large for a disk.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import s3dest_dagster.dagster.io_manager  # noqa: F401 - what a run of Dagster has in memory before any record
from benchmarks.contestant import measured_work
from benchmarks.feeder import stream_names
from benchmarks.landing import NOW, destination, format_settings, sync
from benchmarks.local_client import local_bucket
from s3dest_dagster.ingest.streams import landing_streams
from s3dest_dagster.ingest.target import open_target
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.sources.airbyte.session import read_messages
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Stream

_STDIN = 0


def main() -> None:
    task = json.loads(sys.argv[1])
    settings = destination(format_settings(task["format"]), encode_workers=task["workers"])
    streams = [Stream(name=name, json_schema=task["schema"]) for name in stream_names(task["streams"])]
    with TemporaryDirectory(prefix="s3dest-bench-") as folder:
        bucket = local_bucket(Path(folder), keep=False)
        print(json.dumps(measured_work(lambda: _land(settings, bucket, streams))))


def _land(settings: S3Destination, bucket: Bucket, streams: list[Stream]) -> Mapping[str, Any]:
    with (
        open_target(settings, bucket, clock=lambda: NOW, entropy=os.urandom) as target,
        landing_streams(target, streams, sync()) as landings,
    ):
        for item in read_messages(_STDIN, [each.id for each in streams]):
            landings.append(item)
        landings.stage()
        receipts = list(landings.publish())
    objects = [each for receipt in receipts for each in receipt.objects]
    return {
        "records": sum(each.rows for each in receipts),
        "bytes": sum(each.bytes for each in objects),
        "objects": len(objects),
        "ended_early": sum(receipt.ended_early for receipt in receipts),
    }


if __name__ == "__main__":
    main()
