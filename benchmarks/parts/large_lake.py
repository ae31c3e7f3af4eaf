"""What 100 TB a day takes: measures one object, part, shard, sync and run, and multiplies.

Everything that is not measured is an input, which the table names with its source.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import msgspec
import numpy as np
import pyarrow as pa

from benchmarks.contestant import measured_work
from benchmarks.landing import NOW, destination, format_settings, sync
from benchmarks.local_client import BUCKET, LocalClient
from benchmarks.parts import Measured, Options
from benchmarks.report import table
from benchmarks.users import SCHEMA, users
from s3dest_dagster import S3DestinationIOManager, stream_asset
from s3dest_dagster.batch import JsonBatch
from s3dest_dagster.ingest.target import open_target
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import JsonlFormat, TextCompression
from s3dest_dagster.shards import Order, ShardReceipt, begin, commit, stage
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Stream

TERABYTES = 100
SYNCS = (1, 24, 1000)
"""How many syncs share the day: one, one an hour, and a thousand partitions."""
THREADS = (8, 64)
LATENCY_S = 0.05
"""How long completing one upload is assumed to take."""
PUT_PRICE, STORAGE_PRICE = 0.005, 0.021
"""AWS's list prices of S3 Standard in us-east-1, in dollars: for 1,000 PUT, COPY, POST or LIST requests, and for a
GB for a month beyond the first 500 TB. From https://aws.amazon.com/s3/pricing/, November 2026."""
PUTS_PER_S = 3500
"""Requests a second that a partitioned prefix takes at least, as AWS's knowledge center says."""
_PART = 5 << 20
_FEW, _OBJECTS, _PARTS, _ROUNDS = 2, 20, 2, 3
_DAY_S, _MONTH_DAYS = 86_400, 30


@dataclass(frozen=True)
class _Unit:
    """What one more of something costs."""

    calls: Counter[str]
    receipt_bytes: float
    manifest_bytes: float
    """Of all manifests that the commit writes, also of those that it replaces or deletes later."""

    def __sub__(self, other: _Unit) -> _Unit:
        calls = Counter({name: count - other.calls[name] for name, count in self.calls.items()})
        return _Unit(calls, self.receipt_bytes - other.receipt_bytes, self.manifest_bytes - other.manifest_bytes)

    def each(self, number: int) -> _Unit:
        calls = Counter({name: round(count / number) for name, count in self.calls.items()})
        return _Unit(calls, self.receipt_bytes / number, self.manifest_bytes / number)


def large_lake(options: Options) -> Measured:
    """The units, and the day that they add up to."""
    options.say("large-lake: objects and parts")
    few, many, long = (_sharded(*sizes) for sizes in ((_FEW, 1), (_FEW + _OBJECTS, 1), (_FEW, 1 + _PARTS)))
    an_object, a_part = (many - few).each(_OBJECTS), (long - few).each(_FEW * _PARTS)
    fixed = few.calls.total() - _FEW * an_object.calls.total()
    options.say("large-lake: CPU")
    cpu = {name: _cpu_per_gb(name, options.records) for name in ("parquet", "jsonl")}
    options.say("large-lake: a run of Dagster")
    rows, run_bytes = _a_run()
    units = [
        [
            "one more object of one part",
            _calls(an_object),
            _bytes(an_object.receipt_bytes),
            _bytes(an_object.manifest_bytes),
        ],
        ["one more part of an object", _calls(a_part), _bytes(a_part.receipt_bytes), _bytes(a_part.manifest_bytes)],
        ["a sync and a shard of it, besides", f"{fixed:,}", "–", "–"],
    ]
    others = [
        *(
            [f"CPU for a GB of objects of {name}, staged from Arrow", f"{seconds:.1f} s"]
            for name, seconds in cpu.items()
        ),
        ["rows in Dagster's event log for a run that lands one partition", f"{rows:,}"],
        ["their size in SQLite", _bytes(run_bytes)],
    ]
    day = _Day(an_object, a_part, fixed, cpu, run_bytes)
    text = "\n".join(
        [
            table(["measured", "requests", "receipt of the shard", "manifests written"], units),
            table(["measured", "figure"], others),
            table(["100 TB a day", "figure"], day.whole()),
            table(
                ["of these, for", *(f"{syncs:,} sync{'s' if syncs > 1 else ''} a day" for syncs in SYNCS)], day.parted()
            ),
        ]
    )
    return Measured(text, {"ours": {name: version(name) for name in ("s3dest-dagster", "dagster", "pyarrow")}})


@dataclass(frozen=True)
class _Day:
    """100 TB, in objects and parts of the default sizes."""

    an_object: _Unit
    a_part: _Unit
    fixed: int
    cpu: dict[str, float]
    run_bytes: float

    @property
    def _sizes(self) -> tuple[float, float]:
        """Objects a day, and the parts of each."""
        settings = S3Destination(s3_bucket_name=BUCKET)
        object_bytes = settings.object_size_mb * 1e6
        return TERABYTES * 1e12 / object_bytes, object_bytes / (settings.part_size_mb * (1 << 20))

    def whole(self) -> list[list[str]]:
        objects, parts = self._sizes
        requests = objects * (self.an_object.calls.total() + (parts - 1) * self.a_part.calls.total())
        stored = TERABYTES * 1000 * STORAGE_PRICE
        return [
            ["objects", f"{objects:,.0f}"],
            ["parts", f"{objects * parts:,.0f}"],
            ["requests", f"{requests:,.0f}"],
            ["requests a second", f"{requests / _DAY_S:,.0f} of the {PUTS_PER_S:,} that one prefix takes at least"],
            ["price of the requests", f"${requests / 1000 * PUT_PRICE:,.0f}"],
            ["price of keeping the day for a month", f"${stored:,.0f}"],
            ["network", f"{TERABYTES * 1e12 * 8 / _DAY_S / 1e9:.1f} Gbit/s"],
            *(
                [f"cores that encode {name}", f"{TERABYTES * 1000 * seconds / _DAY_S:.1f}"]
                for name, seconds in self.cpu.items()
            ),
        ]

    def parted(self) -> list[list[str]]:
        objects, parts = self._sizes
        manifest = self.an_object.manifest_bytes + (parts - 1) * self.a_part.manifest_bytes
        receipt = self.an_object.receipt_bytes + (parts - 1) * self.a_part.receipt_bytes
        window = {threads: objects * LATENCY_S / threads for threads in THREADS}
        of = partial(_of, SYNCS)
        return [
            ["objects of a sync", *of(lambda syncs: f"{objects / syncs:,.0f}")],
            ["receipts of a sync", *of(lambda syncs: _bytes(objects / syncs * receipt))],
            ["manifests written by a commit", *of(lambda syncs: _bytes(objects / syncs * manifest))],
            *(
                [f"publishing a sync on {threads} threads", *of(lambda syncs, s=seconds: _time(s / syncs))]
                for threads, seconds in window.items()
            ),
            ["requests besides those of objects", *of(lambda syncs: f"{self.fixed * syncs:,}")],
            ["Dagster's event log in a month", *of(lambda syncs: _bytes(self.run_bytes * syncs * _MONTH_DAYS))],
        ]


def _of(numbers: tuple[int, ...], cell: Any) -> list[str]:
    return [cell(number) for number in numbers]


def _calls(unit: _Unit) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in unit.calls.items() if count) or "none"


def _bytes(number: float) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if number >= unit:
            return f"{number / unit:,.1f} {name}"
    return f"{number:.0f} B"


def _time(seconds: float) -> str:
    return f"{seconds / 60:,.0f} min" if seconds >= 120 else f"{seconds:,.1f} s"


# ---------------------------------------------------------------------- what is measured


class _LikeAws(LocalClient):
    """Upload ids and ETags are as long as those of AWS, and the bytes of manifests are counted."""

    manifest_bytes = 0

    def put_object(self, *, Key: str, Body: bytes, **others: Any) -> dict[str, Any]:
        self.manifest_bytes += len(Body) if "/_s3dest/" in f"/{Key}" else 0
        return super().put_object(Key=Key, Body=Body, **others)

    def create_multipart_upload(self, **asked: Any) -> dict[str, Any]:
        made = super().create_multipart_upload(**asked)
        longer = made["UploadId"].rjust(128, "u")
        (self._uploads / made["UploadId"]).rename(self._uploads / longer)
        return made | {"UploadId": longer}

    def upload_part(self, **asked: Any) -> dict[str, Any]:
        return super().upload_part(**asked) | {"ETag": f'"{asked["PartNumber"]:032x}"'}


def _sharded(objects: int, parts: int) -> _Unit:
    """A sync of one shard, whose objects have so many parts each."""
    size = 0.001 if parts == 1 else (parts - 0.5) * _PART / 1e6
    text = JsonlFormat(compression=TextCompression.NONE)
    settings = destination(text, object_size_mb=size, part_size_mb=_PART >> 20)
    with TemporaryDirectory(prefix="s3dest-bench-") as folder:
        client = _LikeAws(Path(folder))
        bucket = Bucket(client, BUCKET)
        order = _order(settings, bucket)
        client.calls.clear()
        client.manifest_bytes = 0
        receipt = stage(order, _batches(objects, parts), shard=0, s3=bucket)
        assert len(receipt.objects) == objects, len(receipt.objects)
        commit(order, [receipt], shards=1, s3=bucket)
        return _Unit(Counter(client.calls), len(receipt.to_json()), client.manifest_bytes)


def _order(settings: S3Destination, bucket: Bucket) -> Order:
    stream = Stream(name="users", json_schema={"type": "object", "properties": {"text": {"type": "string"}}})
    with open_target(settings, bucket, clock=lambda: NOW, entropy=os.urandom) as target:
        return begin(target, stream, sync())


def _batches(objects: int, parts: int) -> Any:
    """Batches each of which fills an object."""
    raw = msgspec.json.encode({"text": "x" * (1100 if parts == 1 else int((parts - 0.4) * _PART))})
    for _ in range(objects):
        yield JsonBatch([raw], np.zeros(1, np.int64), len(raw))


def _cpu_per_gb(name: str, records: int) -> float:
    """CPU seconds for a GB of objects: users, staged from Arrow. The least of some rounds."""
    rows = pa.Table.from_pylist(list(users(records)))
    return min(_cpu_of_round(name, rows) for _ in range(_ROUNDS))


def _cpu_of_round(name: str, rows: pa.Table) -> float:
    with TemporaryDirectory(prefix="s3dest-bench-") as folder:
        bucket = Bucket(_LikeAws(Path(folder)), BUCKET)
        with open_target(destination(format_settings(name)), bucket, clock=lambda: NOW, entropy=os.urandom) as target:
            order = begin(target, Stream(name="users", json_schema=SCHEMA), sync())
        receipts: list[ShardReceipt] = []
        measured = measured_work(lambda: receipts.append(stage(order, rows, shard=0, s3=bucket)))
        return float(measured["cpu_s"]) / (sum(each.bytes for each in receipts[0].objects) / 1e9)


def _a_run() -> tuple[int, int]:
    """Rows and bytes that a run adds to Dagster's event log."""

    @stream_asset(partitions_def=dg.StaticPartitionsDefinition(["a"]))
    def events() -> Any:
        return [{"id": 1}]

    with TemporaryDirectory(prefix="s3dest-bench-") as folder, dg.DagsterInstance.local_temp(folder) as instance:
        client = _LikeAws(Path(folder) / "s3")
        io = S3DestinationIOManager(s3_bucket_name=BUCKET, s3=_Resource(client))
        quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
        given: dict[str, Any] = {"instance": instance, "resources": {"io_manager": io}, "run_config": quiet}
        result = dg.materialize([events], partition_key="a", **given)
        found = [_sizes(path) for path in Path(folder).rglob(f"{result.run_id}.db")]
    assert found, "a run has a database of its own"
    return found[0]


def _sizes(path: Path) -> tuple[int, int]:
    with closing(sqlite3.connect(path)) as database:
        (found,) = database.execute("SELECT count(*), sum(length(event)) FROM event_logs").fetchall()
        return int(found[0]), int(found[1])


class _Resource:
    def __init__(self, client: LocalClient) -> None:
        self._client = client

    def get_client(self) -> LocalClient:
        return self._client
