"""Many small things: a sync of one record, a thousand partitions, a refresh over tens of thousands of objects."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np

from benchmarks.contestant import measured_work
from benchmarks.landing import NOW, destination, format_settings
from benchmarks.local_client import BUCKET, LocalClient
from benchmarks.parts import Measured, Options
from benchmarks.rclone import serving
from benchmarks.report import megabytes, table
from benchmarks.users import SCHEMA, users
from s3dest_dagster.batch import JsonBatch
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.ingest.target import Target, open_target
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, Sync, SyncMode

_FORMAT = "parquet"
_PATH_FORMAT = "${NAMESPACE}/${STREAM_NAME}/${YEAR}_${MONTH}_${DAY}_${EPOCH}_"
_MAX_CALLS = {SyncMode.APPEND: 10, SyncMode.FULL_REFRESH: 13}
_MAX_CPU_MS = 50
_PARTITION_RECORDS = 100
_GROUP = 100
_FEWER = 10
"""A refresh over this many times fewer objects shows what the number does to memory."""


def one_record(options: Options) -> Measured:
    """Calls and CPU of syncs of one record, by append and by refresh, after the server's first probe."""
    rows = []
    for mode, most in _MAX_CALLS.items():
        options.say(f"one record by {mode}")
        calls = _calls_of_one(mode)
        by_name = ", ".join(f"{count} {name}" for name, count in calls.items())
        cpu = _cpu_of_one(mode, options.rounds)
        rows.append(
            [mode.value, f"{calls.total()} (at most {most})", by_name, f"{cpu * 1000:.1f} ms (at most {_MAX_CPU_MS})"]
        )
    header = ["sync mode", "S3 calls", "of these", "CPU per sync, through rclone"]
    return Measured(table(header, rows), {"ours": _versions()})


def _calls_of_one(mode: SyncMode) -> Counter[str]:
    """The calls of the second sync of a stream."""
    with TemporaryDirectory(prefix="s3dest-bench-") as folder:
        client = LocalClient(Path(folder))
        with _opened(Bucket(client, BUCKET)) as target:
            _land_one(target, mode, 1)
            client.calls.clear()
            _land_one(target, mode, 2)
            return client.calls.copy()


def _cpu_of_one(mode: SyncMode, rounds: int) -> float:
    """Median CPU seconds of a sync of one record through a server, after a first one that warms everything up."""
    seconds = []
    with (
        TemporaryDirectory(prefix="s3dest-bench-") as folder,
        serving(Path(folder)) as bucket,
        _opened(bucket) as target,
    ):
        _land_one(target, mode, 0)
        for number in range(1, rounds + 1):
            began = time.process_time()
            _land_one(target, mode, number)
            seconds.append(time.process_time() - began)
    return median(seconds)


def partitions(options: Options) -> Measured:
    """CPU of the last partitions of a process against that of the first."""
    options.say(f"{options.partitions} partitions")
    batches = _batches(options.partitions, _PARTITION_RECORDS)
    seconds = []
    with (
        TemporaryDirectory(prefix="s3dest-bench-") as folder,
        _opened(Bucket(LocalClient(Path(folder)), BUCKET)) as target,
    ):
        stream = _stream(SyncMode.APPEND)
        for number, batch in enumerate(batches):
            began = time.process_time()
            land([batch], target, stream, _sync(number), scope=Scope(stream.id, f"partition-{number:05}"))
            seconds.append(time.process_time() - began)
    first, last = median(seconds[1 : 1 + _GROUP]), median(seconds[-_GROUP:])
    rows = [[f"{len(seconds):,}", f"{first * 1000:.2f} ms", f"{last * 1000:.2f} ms", f"{last / first:.2f}×"]]
    header = ["partitions", f"CPU of one, of the first {_GROUP}", f"of the last {_GROUP}", "last against first"]
    text = f"One process, {_PARTITION_RECORDS} records a partition, medians.\n\n{table(header, rows)}"
    return Measured(text, {"ours": _versions()})


def refresh(options: Options) -> Measured:
    """A full refresh that replaces many objects of the connector."""
    _refreshed(1)  # what libraries take once is not what objects take
    rows = []
    for objects in (options.objects // _FEWER, options.objects):
        options.say(f"refresh over {objects:,} objects")
        report = _refreshed(objects)
        calls: Counter[str] = report["calls"]
        rows.append(
            [
                f"{objects:,}",
                f"{report['removed']:,}",
                f"{calls['ListObjectsV2']}",
                f"{calls['DeleteObjects']}",
                f"{calls.total()}",
                megabytes(report["peak_mb"] - report["idle_mb"]),
                f"{report['cpu_s']:.2f} s",
            ]
        )
    header = ["objects before", "deleted", "listings", "deletions", "all S3 calls", "memory added", "CPU"]
    return Measured(table(header, rows), {"ours": _versions()})


def _refreshed(objects: int) -> dict[str, Any]:
    with TemporaryDirectory(prefix="s3dest-bench-") as folder:
        client = LocalClient(Path(folder))
        client.fill(f"users/2026_01_01_{1_767_225_600_000 + number}_0.parquet" for number in range(objects))
        with _opened(Bucket(client, BUCKET)) as target:

            def work() -> Mapping[str, object]:
                return {"removed": len(_land_one(target, SyncMode.FULL_REFRESH, 1).removed)}

            return measured_work(work) | {"calls": client.calls}


# ---------------------------------------------------------------------- what is landed


def _opened(bucket: Bucket) -> AbstractContextManager[Target]:
    settings = destination(format_settings(_FORMAT), s3_path_format=_PATH_FORMAT)
    return open_target(settings, bucket, clock=lambda: NOW, entropy=os.urandom)


def _land_one(target: Target, mode: SyncMode, number: int) -> Receipt:
    return land(one_record_batches(), target, _stream(mode), _sync(number))


def _stream(mode: SyncMode) -> Stream:
    return Stream(name="users", json_schema=SCHEMA, sync_mode=mode)


def _sync(number: int) -> Sync:
    return Sync(f"benchmark-{number}", NOW + timedelta(seconds=number), "0f0f0f0f-0000-4000-8000-000000000000")


@cache
def one_record_batches() -> list[JsonBatch]:
    """Made once, since making a user takes longer than landing it."""
    return list(_batches(1, 1))


def _batches(count: int, records: int) -> Iterator[JsonBatch]:
    """Batches of users."""
    source = users(count * records)
    while rows := list(islice(source, records)):
        raws = [msgspec.json.encode(each) for each in rows]
        yield JsonBatch(raws, np.full(len(raws), 1_795_748_970_993, np.int64), sum(map(len, raws)))


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("s3dest-dagster", "boto3", "pyarrow")}
