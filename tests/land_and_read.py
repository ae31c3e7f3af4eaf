"""Helpers for tests of landings: batches from dicts, and independent readers of landed data."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from s3dest_dagster.batch import JsonBatch
from s3dest_dagster.commit.object_lists import OBJECTS_OF_A_LIST
from s3dest_dagster.ingest.target import Target, open_target
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import JsonlFormat, TextCompression
from s3dest_dagster.storage import Bucket
from s3dest_dagster.storage.bucket import SERVER_FILE
from s3dest_dagster.stream import Stream, Sync, SyncMode

if TYPE_CHECKING:  # so that a process which only lands need not know a server
    from servers import S3Server

START = datetime(2026, 1, 5, 10, 30, tzinfo=UTC)
SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}, "name": {"type": "string"}}}
PLAIN_JSONL = JsonlFormat(compression=TextCompression.NONE)
DIRECTORIES: dict[str, Any] = {"s3_path_format": "${NAMESPACE}/${STREAM_NAME}/${FIELDS}/"}
"""Settings with which users land in a directory for every name."""
_seconds = count()


def batch_of(records: Iterable[dict[str, Any]], emitted_at: int = 1_767_609_000_000) -> JsonBatch:
    """One batch of these records."""
    raws = [json.dumps(each).encode() for each in records]
    return JsonBatch(raws, np.full(len(raws), emitted_at, np.int64), sum(map(len, raws)))


def batches_of(*groups: Iterable[dict[str, Any]]) -> Iterator[JsonBatch]:
    """A batch for each group."""
    yield from map(batch_of, groups)


def users(first: int, last: int) -> list[dict[str, Any]]:
    """Records with ids from `first` to `last`, both included."""
    return [{"id": number, "name": f"user {number}"} for number in range(first, last + 1)]


def users_of_two_names(first: int, last: int) -> list[dict[str, Any]]:
    """Records whose names come in turns."""
    return [{"id": number, "name": "even" if number % 2 == 0 else "odd"} for number in range(first, last + 1)]


def stream(
    name: str = "users",
    mode: SyncMode = SyncMode.FULL_REFRESH,
    namespace: str | None = "public",
    settings: S3Destination | None = None,
) -> Stream:
    """A stream of `users`. If these settings have a place for directories, it has one for every name."""
    by = {"partition_by": ["name"]} if settings is not None and settings.template.names_fields else {}
    return Stream(name=name, namespace=namespace, json_schema=SCHEMA, sync_mode=mode, settings=by)  # type: ignore[arg-type]


def destination(bucket: str, **settings: Any) -> S3Destination:
    """A destination with uncompressed JSON Lines under `data`, encoding on the caller's thread."""
    defaults: dict[str, Any] = {"s3_bucket_path": "data", "format": PLAIN_JSONL, "encode_workers": 1}
    return S3Destination(s3_bucket_name=bucket, **{**defaults, **settings})


def sync(sync_id: str, now: datetime | None = None) -> Sync:
    """A sync that begins one second after the previous one."""
    return Sync(
        id=sync_id, now=now or START + timedelta(seconds=next(_seconds)), uuid="0f0f0f0f-0000-4000-8000-000000000000"
    )


@contextmanager
def target(
    server: S3Server,
    settings: S3Destination,
    bucket: Bucket | None = None,
    objects_of_a_list: int = OBJECTS_OF_A_LIST,
) -> Iterator[Target]:
    """The destination, opened on a server with known abilities: clients that count calls, or fail at one, are for
    landings."""
    opened = server.open(settings)
    if not opened.get(f"{settings.template.manifest_root}{SERVER_FILE}"):
        server.store_abilities(settings)
    assert opened.abilities
    opened = bucket or opened
    opening = open_target(
        settings, opened, clock=lambda: datetime.now(UTC), entropy=os.urandom, objects_of_a_list=objects_of_a_list
    )
    with opening as made:
        yield made


def data_keys(server: S3Server, bucket: str) -> list[str]:
    """Keys of the objects that a reader of the data sees: all except the manifests."""
    pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
    return sorted(key for key in keys if "_s3dest" not in key.split("/"))


def ids_by_listing(server: S3Server, bucket: str, prefix: str = "") -> list[int]:
    """The ids of all records under a prefix, read without the library."""
    ids: list[int] = []
    for key in data_keys(server, bucket):
        if key.startswith(prefix):
            body = server.client().get_object(Bucket=bucket, Key=key)["Body"].read()
            if key.endswith(".parquet"):
                ids += pq.read_table(io.BytesIO(body)).column("id").to_pylist()
                continue
            text = gzip.decompress(body) if key.endswith(".gz") else body
            ids += [json.loads(line)["_airbyte_data"]["id"] for line in text.splitlines()]
    return sorted(ids)


def lists_without_use(server: S3Server, bucket: str) -> list[str]:
    """The keys of object lists to which no segment refers, and of all upload lists."""
    pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
    needed = set()
    for key in keys:
        if "/segments/" in key:
            segment = json.loads(server.client().get_object(Bucket=bucket, Key=key)["Body"].read())
            needed |= {f"{each['name']}.objects.json" for each in segment["object_lists"]}
    lists = (key for key in keys if "/~lists/" in key)
    return [key for key in lists if key.partition("/~lists/")[2].partition("/")[2] not in needed]


def open_uploads(server: S3Server, bucket: str) -> int:
    """Multipart uploads that are neither completed nor aborted."""
    return len(server.client().list_multipart_uploads(Bucket=bucket).get("Uploads", []))


def abort_all(server: S3Server, bucket: str, among: str = "", *, most: int | None = None) -> None:
    """Makes uploads vanish: those with `among` in their keys, or the first few of them."""
    admin = server.client()
    uploads = admin.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    for each in [each for each in uploads if among in each["Key"]][:most]:
        admin.abort_multipart_upload(Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"])
