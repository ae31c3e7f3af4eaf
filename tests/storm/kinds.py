"""The eleven kinds of streams in a storm: how each lands, where its records are stored, and how they are read without
the library."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import fastavro
import pyarrow.parquet as pq
from land_and_read import DIRECTORIES, PLAIN_JSONL, destination, stream

from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, JsonlFormat, ParquetFormat, TextCompression
from s3dest_dagster.stream import Scope, Stream, SyncMode

APPEND, REFRESH = SyncMode.APPEND, SyncMode.FULL_REFRESH
FOR_EVER_S = 1e9
DAYS = ("2026-01-05", "2026-01-06", "2026-01-07")
_PARTITIONED = {"s3_path_format": "${NAMESPACE}/${STREAM_NAME}/${PARTITION}/"}
_PLAIN_CSV = CsvFormat(compression=TextCompression.NONE)


@dataclass(frozen=True)
class Kind:
    """A stream, and how its syncs land. If `adds`, then they add to the scope. Otherwise each replaces its content.

    `abandoned_after_s` is short if a sweep may abort what a paused sync has staged. With `diagnostics`, some of its
    lines are not records.
    """

    name: str
    mode: SyncMode
    format: AvroFormat | CsvFormat | JsonlFormat | ParquetFormat
    settings: Mapping[str, Any] = field(default_factory=dict)
    days: tuple[str | None, ...] = (None,)
    adds: bool = False
    checkpoints: bool = False
    dirty: bool = False
    recurs: bool = False
    abandoned_after_s: float = 6

    @property
    def stream(self) -> Stream:
        return stream(self.name, self.mode, settings=self.destination("any", sweeps=False))

    @property
    def has_directories(self) -> bool:
        """Whether its records get directories by their names."""
        return bool(self.stream.settings.partition_by)

    @property
    def prefix(self) -> str:
        """The common beginning of all its data keys."""
        return f"data/public/{self.name}/"

    def scope(self, day: str | None) -> Scope:
        return Scope(self.stream.id, day)

    def destination(self, bucket: str, *, sweeps: bool) -> S3Destination:
        """With `sweeps`, the server reports when an upload began, so sweeps can distinguish recent uploads from old
        ones."""
        age = self.abandoned_after_s if sweeps else FOR_EVER_S
        size = {} if self.recurs else {"object_size_mb": 0.001}
        return destination(bucket, format=self.format, abandoned_upload_age_s=age, **size, **self.settings)


KINDS = (
    Kind("append", APPEND, AvroFormat(), adds=True),
    Kind("checkpoints", APPEND, PLAIN_JSONL, {"checkpoint_mb": 0.000_001}, adds=True, checkpoints=True),
    Kind("refresh", REFRESH, ParquetFormat()),
    Kind("purge_first", REFRESH, _PLAIN_CSV, {"publish_order": "purge_first"}, abandoned_after_s=4 * 3600),
    Kind("partitions", REFRESH, JsonlFormat(), _PARTITIONED, days=DAYS),
    Kind("days", APPEND, CsvFormat(), {**_PARTITIONED, "on_rematerialize": "append"}, days=DAYS, adds=True),
    Kind(
        "latest",
        REFRESH,
        ParquetFormat(),
        {"s3_path_format": "${NAMESPACE}/${STREAM_NAME}/", "file_name_pattern": "latest{format_extension}"},
        recurs=True,
    ),
    Kind("grace", REFRESH, AvroFormat(), {"delete_grace_s": 2}),
    Kind("dirty", APPEND, PLAIN_JSONL, {"on_bad_record": "quarantine"}, adds=True, dirty=True),
    Kind("directories", REFRESH, ParquetFormat(), DIRECTORIES),
    Kind("more_directories", APPEND, PLAIN_JSONL, DIRECTORIES, adds=True),
)
BY_NAME = {each.name: each for each in KINDS}


def ids_in(key: str, body: bytes) -> list[int]:
    """The ids of an object's records, read with libraries that are not ours."""
    if ".parquet" in key:
        return pq.read_table(io.BytesIO(body)).column("id").to_pylist()
    if ".avro" in key:
        return [row["id"] for row in fastavro.reader(io.BytesIO(body))]
    text = (gzip.decompress(body) if key.endswith(".gz") else body).decode()
    if ".csv" in key:
        return [json.loads(row["_airbyte_data"])["id"] for row in csv.DictReader(io.StringIO(text))]
    return [json.loads(line)["_airbyte_data"]["id"] for line in text.splitlines()]
