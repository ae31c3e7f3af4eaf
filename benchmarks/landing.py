"""Our side: a whole landing of a message file, from its bytes to published objects.

Reading the messages, encoding, checksums, staging, the commit and its manifests all count; only the network is left
out, or is a server of its own. It must not know what it is compared with.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

from benchmarks.local_client import BUCKET, local_bucket
from benchmarks.messages import STREAM
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.ingest.target import Entropy, open_target
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    Flattening,
    FormatSettings,
    GzipEffort,
    JsonlFormat,
    ParquetFormat,
)
from s3dest_dagster.sources.airbyte.session import read_messages
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Stream, Sync

NOW = datetime(2026, 11, 27, 4, 0, tzinfo=UTC)
_UUID = "0f0f0f0f-0000-4000-8000-000000000000"


def format_settings(name: str, *, gzip_effort: GzipEffort = "balanced", deflate_level: int = 1) -> FormatSettings:
    """A format by the name that it has in the tables: jsonl, csv, avro, avro-null or parquet."""
    if name == "jsonl":
        return JsonlFormat(gzip_effort=gzip_effort)
    if name == "csv":
        return CsvFormat(flattening=Flattening.ROOT, gzip_effort=gzip_effort)
    if name == "avro":
        return AvroFormat(codec="Deflate", compression_level=deflate_level)
    if name == "avro-null":
        return AvroFormat()
    if name == "parquet":
        return ParquetFormat(compression_codec="SNAPPY")
    raise KeyError(name)


def destination(settings: FormatSettings, **others: Any) -> S3Destination:
    """A destination on this machine, by default with one worker."""
    return S3Destination(**{"s3_bucket_name": BUCKET, "format": settings, "encode_workers": 1, **others})


def users_stream(schema: Mapping[str, Any]) -> Stream:
    """The stream of the messages."""
    return Stream(name=STREAM, json_schema=schema)


def sync(number: int = 1) -> Sync:
    """A sync; each number is a sync of its own."""
    return Sync(f"benchmark-{number}", NOW, _UUID)


def seeded_entropy() -> Entropy:
    """Random bytes that are the same every time, so that two landings make the same objects.

    The n-th answer of a length is the same, whatever was asked for between: with workers more batches are on their way
    when an object begins.
    """
    sources: defaultdict[int, Random] = defaultdict(lambda: Random(1))
    return lambda nbytes: sources[nbytes].randbytes(nbytes)


def land_messages(
    source: int | BinaryIO,
    schema: Mapping[str, Any],
    settings: S3Destination,
    bucket: Bucket,
    *,
    entropy: Entropy = os.urandom,
) -> Receipt:
    """Lands the messages of a descriptor or a binary file, as a full refresh."""
    stream = users_stream(schema)
    with open_target(settings, bucket, clock=lambda: NOW, entropy=entropy) as target:
        return land(read_messages(source, [stream.id]), target, stream, sync())


def land_file(messages: Path, output: Path, schema: Mapping[str, Any], settings: S3Destination) -> Receipt:
    """Lands a message file into a folder."""
    with messages.open("rb", buffering=0) as file:
        return land_messages(file.fileno(), schema, settings, local_bucket(output))


def land_file_seeded(messages: Path, output: Path, schema: Mapping[str, Any], settings: S3Destination) -> Receipt:
    """The same with random bytes that repeat and batches that no clock decides: equal files give equal objects.

    A descriptor's block ends when it is full or its first line has waited; a file that is only read has full blocks.
    """
    with messages.open("rb") as file:
        source = cast(BinaryIO, SimpleNamespace(read=file.read))
        return land_messages(source, schema, settings, local_bucket(output), entropy=seeded_entropy())
