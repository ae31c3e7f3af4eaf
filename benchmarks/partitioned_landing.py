"""A landing of generated messages by a field's values: `python -m benchmarks.partitioned_landing TASK`.

The task has the `format`, the number of `records` and of `values`, their `order` ("random", "sorted" or "turns"), and
whether the stream is `partitioned` by them; `memory_mb`, if it is not the default. The records are about 190 bytes
long, and the objects are dropped when they are made.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.contestant import measured_work
from benchmarks.landing import NOW, destination, format_settings, sync
from benchmarks.local_client import local_bucket
from s3dest_dagster.batch import StreamBatch
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.target import open_target
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import JsonlFormat, TextCompression
from s3dest_dagster.sources.airbyte.session import read_messages
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Stream

SCHEMA = {
    "properties": {
        "id": {"type": "integer"},
        "value": {"type": "string"},
        "created_at": {"type": "string", "format": "date-time"},
        "name": {"type": "string"},
        "amount": {"type": "number"},
        "active": {"type": "boolean"},
        "note": {"type": "string"},
    }
}
_MESSAGE = b'{"type":"RECORD","record":{"stream":"events","emitted_at":1767609000000,"data":%b}}\n'
_NOTES = 64
_WORKERS = 2


def main() -> None:
    task = json.loads(sys.argv[1])
    by = [{"field": "value", "name": "directory"}] if task["partitioned"] else []
    stream = Stream(name="events", json_schema=SCHEMA, settings={"partition_by": by})  # type: ignore[arg-type]
    settings = destination(
        JsonlFormat(compression=TextCompression.NONE) if task["format"] == "lines" else format_settings(task["format"]),
        s3_path_format="${STREAM_NAME}/${FIELDS}/",
        encode_workers=_WORKERS,
        max_partition_values=max(task["values"], 1_000),
        memory_mb=task.get("memory_mb", 512),
    )
    with TemporaryDirectory(prefix="s3dest-bench-") as folder:
        path = Path(folder) / "messages.jsonl"
        with path.open("wb") as file:
            file.writelines(_messages(task))
        bucket = local_bucket(Path(folder), keep=False)
        print(json.dumps(measured_work(lambda: _land(settings, bucket, stream, path))))


def _land(settings: S3Destination, bucket: Bucket, stream: Stream, path: Path) -> Mapping[str, Any]:
    with (
        path.open("rb", buffering=0) as file,
        open_target(settings, bucket, clock=lambda: NOW, entropy=os.urandom) as target,
    ):
        batches = (each for each in read_messages(file.fileno(), [stream.id]) if isinstance(each, StreamBatch))
        receipt = land(batches, target, stream, sync())
    summary = receipt.partitions
    return {
        "records": receipt.rows,
        "bytes": receipt.bytes,
        "objects": len(receipt.objects),
        "ended_early": receipt.ended_early,
        "median": summary.median if summary is not None else 0,
    }


def _messages(task: Mapping[str, Any]) -> Iterator[bytes]:
    """The lines of a source, the same every time."""
    records, values, order, random = task["records"], task["values"], task["order"], Random(1)
    for number in range(records):
        value = number * values // records if order == "sorted" else number % values
        yield _MESSAGE % _record(number, random.randrange(values) if order == "random" else value)


def _record(number: int, value: int) -> bytes:
    day, hour, flag = number % 28 + 1, number % 24, (b"true", b"false")[number % 2]
    return (
        b'{"id":%d,"value":"value %d","created_at":"2026-01-%02dT%02d:30:00Z","name":"customer %d","amount":%d.5,'
        b'"active":%s,"note":"%s"}'
    ) % (number, value, day, hour, number % 9973, number % 997, flag, _note(number % _NOTES))


@cache
def _note(number: int) -> bytes:
    return bytes(Random(number).choices(b"abcdefghijklmnopqrstuvwxyz ", k=48))


if __name__ == "__main__":
    main()
