"""How work grows with objects of one commit, partitions, streams of one sync, and syncs of one scope."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from benchmarks.contestant import measured_work
from benchmarks.landing import NOW, destination, format_settings
from benchmarks.local_client import BUCKET, LocalClient
from benchmarks.parts import Measured, Options
from benchmarks.parts.small_syncs import one_record_batches
from benchmarks.report import megabytes, table
from benchmarks.users import SCHEMA
from s3dest_dagster.batch import ArrowBatch, StreamBatch
from s3dest_dagster.commit.documents import registry_copy_prefix, registry_key
from s3dest_dagster.commit.maintenance import recover, sweep
from s3dest_dagster.commit.registry import RegistryEntry
from s3dest_dagster.commit.scopes import found_streams
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.ingest.streams import landing_streams
from s3dest_dagster.ingest.target import Target, open_target
from s3dest_dagster.inspection.read import live_objects, snapshot
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.keys import scope_root, stream_root
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.field_paths import FieldPath
from s3dest_dagster.settings.partition_fields import PartitionField
from s3dest_dagster.settings.stream_settings import StreamSettings
from s3dest_dagster.storage import Bucket, each_in_parallel
from s3dest_dagster.stream import Scope, Stream, StreamId, Sync, SyncMode

_SETTINGS = destination(
    format_settings("jsonl"), s3_path_format="${NAMESPACE}/${STREAM_NAME}/${YEAR}_${MONTH}_${DAY}_${EPOCH}_"
)
_USERS = StreamId(None, "users")
_Work = Callable[[Target], object]


@dataclass(frozen=True)
class _Row:
    what: str
    number: int
    calls: int
    cpu_s: float
    added_mb: float


def growth(options: Options) -> Measured:
    """Calls, CPU and memory at each size, and the exponents between the smallest and the largest size."""
    rows: list[_Row] = []
    for number in options.sizes:
        options.say(f"growth: {number:,}")
        rows += [*_of_objects(number), *_of_partitions(number), *_of_streams(number), *_of_syncs(number)]
    header = ["what", "number", "S3 calls, or segments", "CPU", "memory added"]
    lines = [
        [row.what, f"{row.number:,}", f"{row.calls:,}", f"{row.cpu_s:.2f} s", megabytes(row.added_mb)] for row in rows
    ]
    exponents = [
        [what, _exponent(of, lambda row: row.calls), _exponent(of, lambda row: row.cpu_s)]
        for what, of in _by_name(rows).items()
    ]
    text = f"{table(header, lines)}\n{table(['what', 'exponent of calls', 'exponent of CPU'], exponents)}"
    return Measured(text, {"ours": {"s3dest-dagster": version("s3dest-dagster")}})


def _by_name(rows: list[_Row]) -> Mapping[str, list[_Row]]:
    found: dict[str, list[_Row]] = {}
    for row in rows:
        found.setdefault(row.what, []).append(row)
    return found


def _exponent(rows: list[_Row], value: Callable[[_Row], float]) -> str:
    """The e for which the value grows as the number to the power of e: 0 is constant, 1 is linear."""
    first, last = rows[0], rows[-1]
    if first.number == last.number or min(value(first), value(last)) <= 0:
        return "–"
    return f"{math.log(value(last) / value(first)) / math.log(last.number / first.number):.2f}"


def _measured(what: str, number: int, client: LocalClient, work: Callable[[], object]) -> _Row:
    def without_report() -> None:
        work()

    client.calls.clear()
    report = measured_work(without_report)
    return _Row(what, number, client.calls.total(), report["cpu_s"], report["peak_mb"] - report["idle_mb"])


# ---------------------------------------------------------------------- what grows


def _of_objects(number: int) -> list[_Row]:
    """One sync of as many objects as records, each in a directory of its own."""
    batch = ArrowBatch(
        pa.RecordBatch.from_pydict({"id": range(number), "place": [f"p{each:07}" for each in range(number)]}),
        np.zeros(number, np.int64),
    )
    rule = StreamSettings(partition_by=(PartitionField(FieldPath.parse("place"), "place"),))
    schema = {"type": "object", "properties": {"id": {"type": "integer"}, "place": {"type": "string"}}}
    stream = Stream(name="users", json_schema=schema, sync_mode=SyncMode.APPEND, settings=rule)
    settings = destination(
        format_settings("jsonl"), s3_path_format="${STREAM_NAME}/${FIELDS}/${EPOCH}_", max_partition_values=number + 1
    )
    with TemporaryDirectory(prefix="s3dest-bench-") as folder:
        client = LocalClient(Path(folder))
        with _opened(client, settings) as target, Landing(target, stream, _sync(0)) as landing:
            landing.append(batch)
            staged = _measured("objects of one commit: stage", number, client, landing.stage)
            return [staged, _measured("objects of one commit: commit", number, client, landing.commit)]


def _of_partitions(number: int) -> list[_Row]:
    with TemporaryDirectory(prefix="s3dest-bench-") as folder:
        client = LocalClient(Path(folder))
        with _opened(client) as target:
            for partition in range(number):
                _land_partition(target, partition)
            next_one = partial(_land_partition, target, number)
            rows = [_measured("landing the next partition", number, client, next_one)]
            rows += [
                _measured(f"partitions: {what}", number, client, partial(work, target))
                for what, work in _WORK_ON_PARTITIONS.items()
            ]
            return rows


def _land_partition(target: Target, partition: int) -> None:
    scope = Scope(_USERS, f"partition-{partition:06}")
    land([one_record_batches()[0]], target, _stream("users", SyncMode.APPEND), _sync(partition), scope=scope)


def _each_scope(target: Target, do: Callable[[Scope], object]) -> None:
    for found in found_streams(target.bucket, _SETTINGS.template):
        for _ in each_in_parallel(do, found.scopes):
            pass


def _losing_the_registry(target: Target) -> None:
    target.bucket.delete([registry_key(stream_root(_SETTINGS.template.literal_root, _USERS))])
    RegistryEntry(target.bucket, _SETTINGS, _USERS).check()


def _losing_the_copy_too(target: Target) -> None:
    root = stream_root(_SETTINGS.template.literal_root, _USERS)
    target.bucket.delete(each.key for each in target.bucket.list_objects(registry_copy_prefix(root)))
    RegistryEntry(target.bucket, _SETTINGS, _USERS).check()


_WORK_ON_PARTITIONS: Mapping[str, _Work] = {
    "ls": lambda target: _each_scope(target, partial(live_objects, target.bucket, _SETTINGS.template)),
    "verify": lambda target: _each_scope(target, partial(verify, target.bucket, _SETTINGS.template)),
    "recover": lambda target: _each_scope(
        target, partial(recover, target.bucket, _SETTINGS.template, clock=lambda: NOW)
    ),
    "sweep": lambda target: sweep(target.bucket, _SETTINGS, _USERS, now=NOW),
    "load (manifests)": lambda target: _each_scope(target, partial(snapshot, target.bucket, _SETTINGS.template)),
    "registry lost": _losing_the_registry,
    "registry and copy lost": _losing_the_copy_too,
}


def _of_streams(number: int) -> list[_Row]:
    """One sync of many streams, each with a record."""
    streams = [_stream(f"stream{each:06}", SyncMode.APPEND) for each in range(number)]
    with TemporaryDirectory(prefix="s3dest-bench-") as folder:
        client = LocalClient(Path(folder))
        with _opened(client) as target:

            def work() -> None:
                with landing_streams(target, streams, _sync(0)) as landings:
                    for stream in streams:
                        landings.append(StreamBatch(stream.id, one_record_batches()[0]))
                    list(landings.publish())

            return [_measured("streams of one sync", number, client, work)]


def _of_syncs(number: int) -> list[_Row]:
    """The next sync of a scope that many have replaced, and what is left of their segments."""
    with TemporaryDirectory(prefix="s3dest-bench-") as folder:
        client = LocalClient(Path(folder))
        with _opened(client) as target:
            stream = _stream("users", SyncMode.FULL_REFRESH)
            for each in range(number):
                land([one_record_batches()[0]], target, stream, _sync(each))
            next_one = partial(land, [one_record_batches()[0]], target, stream, _sync(number))
            rows = [_measured("the next sync of a scope", number, client, next_one)]
            for day, what in enumerate(("first", "second")):
                at = NOW + timedelta(days=2 * day)
                work = partial(sweep, target.bucket, _SETTINGS, _USERS, now=at)
                rows.append(_measured(f"syncs of a scope: {what} sweep", number, client, work))
            segments = f"{scope_root(_SETTINGS.template.literal_root, Scope(_USERS))}segments/"
            kept = sum(1 for _ in target.bucket.list_objects(segments))
            return [*rows, _Row("segments kept after the sweeps", number, kept, 0, 0)]


# ---------------------------------------------------------------------- what is landed


def _opened(client: LocalClient, settings: S3Destination = _SETTINGS) -> AbstractContextManager[Target]:
    return open_target(settings, Bucket(client, BUCKET), clock=lambda: NOW, entropy=os.urandom)


def _stream(name: str, mode: SyncMode) -> Stream:
    return Stream(name=name, json_schema=SCHEMA, sync_mode=mode)


def _sync(number: int) -> Sync:
    return Sync(f"growth-{number}", NOW + timedelta(seconds=number), "0f0f0f0f-0000-4000-8000-000000000000")
