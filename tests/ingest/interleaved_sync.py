"""Lands many interleaved streams in its own process, and reports how much memory this took.

Reads an order as JSON from standard input, and answers with JSON: `added_mb`, which is the peak memory of the
process above its idle memory (measured after a small landing, which triggers all late imports), and the contents of
the receipts.
"""

from __future__ import annotations

import json
import os
import random
import sys
import uuid
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster  # noqa: F401  # what an idle process of the orchestrator has loaded
import numpy as np

from s3dest_dagster.batch import JsonBatch, StreamBatch
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.ingest.streams import landing_streams
from s3dest_dagster.ingest.target import open_target
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.connector_config import from_connector_config
from s3dest_dagster.storage import Bucket, open_bucket
from s3dest_dagster.stream import Stream, StreamId, Sync

SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}, "text": {"type": "string"}}}
_BATCH_BYTES = 500_000
_SOME_MB = 2


def main() -> None:
    order = json.loads(sys.stdin.read())
    bucket = open_bucket(S3Connection(**order["connection"]), order["config"]["s3_bucket_name"])
    _landed(bucket, order | {"megabytes": _SOME_MB, "streams": 1})
    idle = _memory_mb("VmRSS")
    receipts = _landed(bucket, order)
    answer = {
        "added_mb": _memory_mb("VmHWM") - idle,
        "rows": sum(each.rows for each in receipts),
        "reasons": sorted({each.close_reason for receipt in receipts for each in receipt.objects}),
        "short_row_groups": sum(each.short_row_groups for receipt in receipts for each in receipt.objects),
        "ended_early": sum(each.ended_early for each in receipts),
    }
    print(json.dumps(answer))


def _landed(bucket: Bucket, order: dict[str, Any]) -> list[Receipt]:
    destination = from_connector_config(order["config"]).destination
    streams = [Stream(name=f"s{number}", json_schema=SCHEMA) for number in range(order["streams"])]
    sync = Sync(str(uuid.uuid4()), datetime.now(UTC), str(uuid.uuid4()))
    with (
        open_target(destination, bucket, clock=lambda: datetime.now(UTC), entropy=os.urandom) as target,
        landing_streams(target, streams, sync) as landings,
    ):
        for batch in _batches(order["streams"], order["megabytes"], order["record_bytes"]):
            landings.append(batch)
        landings.stage()
        return list(landings.publish())


def _batches(streams: int, megabytes: int, record_bytes: int) -> Iterator[StreamBatch]:
    """Yields batches of each stream in turn, with records that hardly compress."""
    noise = b64encode(random.Random(1).randbytes(1_000_000))
    rows = _BATCH_BYTES // record_bytes
    for number in range(megabytes * 1_000_000 // _BATCH_BYTES):
        first = number % 1_000
        places = range(first, first + rows)
        texts = [noise[7 * place : 7 * place + record_bytes] for place in places]
        raws = [b'{"id":%d,"text":"%b"}' % each for each in zip(places, texts, strict=True)]
        batch = JsonBatch(raws, np.zeros(rows, np.int64), sum(map(len, raws)))
        yield StreamBatch(StreamId(None, f"s{number % streams}"), batch)


def _memory_mb(name: str) -> float:
    """The memory of this process as the system reports it."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].removesuffix("kB")) / 1024


if __name__ == "__main__":
    main()
