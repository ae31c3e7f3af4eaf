"""Columns in memory as objects, by a landing or by the best library alone: `python -m benchmarks.arrow_landing TASK`.

The task has the `format` (jsonl, csv, avro or parquet), the number of `records`, and the `side`: "ours" or "alone". The
library alone writes the same columns after the same envelope, and compresses them with the same codec at the same
level: pyarrow writes Parquet and CSV, Polars writes JSON Lines. It does less: no commit, no checksums. Each side runs
on one thread, and drops the bytes.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq

from benchmarks.contestant import measured_work
from benchmarks.landing import NOW, destination, format_settings, sync
from benchmarks.local_client import local_bucket
from s3dest_dagster.columns.schemas import emitted_at_column, record_id_column, record_ids
from s3dest_dagster.formats.compression import gzip_stream
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.target import open_target
from s3dest_dagster.sources.python import arrow_batches
from s3dest_dagster.stream import Stream

_EMITTED_AT = 1_767_609_000_000
_BATCH_ROWS = 20_000
_FEW = 1_000
"""Records that warm a side up."""
_WORDS = np.array(
    ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"]
)
_STATUS = np.array(["open", "paid", "shipped", "returned"])
_PACKAGES = ("s3dest-dagster", "pyarrow", "polars", "numpy", "isal")


def main() -> None:
    os.environ["POLARS_MAX_THREADS"] = "1"
    pa.set_cpu_count(1)
    task = json.loads(sys.argv[1])
    write = {"ours": landed, "alone": written_alone}[task["side"]]
    rows = orders(task["records"])
    write(task["format"], rows.slice(0, _FEW))
    measured = measured_work(lambda: {"bytes": write(task["format"], rows)})
    print(json.dumps(measured | {"versions": {name: version(name) for name in _PACKAGES}}))


def orders(rows: int) -> pa.Table:
    """Rows as a database has them, the same every time: numbers, texts, moments with a zone and without, and nulls."""
    random, numbers = np.random.default_rng(1), np.arange(rows)
    words = [pa.array(_WORDS[random.integers(0, len(_WORDS), rows)]) for _ in range(5)]
    is_noted, is_shipped = pa.array(random.random(rows) < 0.9), pa.array(random.random(rows) < 0.7)
    created = 1_700_000_000_000_000 + random.integers(0, 10**14, rows)
    return pa.table(
        {
            "id": numbers,
            "customer_id": random.integers(1, 1 << 40, rows),
            "name": [f"Customer {number % 9_973}" for number in range(rows)],
            "email": [f"user{number}@example.com" for number in range(rows)],
            "status": _STATUS[random.integers(0, len(_STATUS), rows)],
            "amount": np.round(random.random(rows) * 1_000, 2),
            "created_at": pa.array(created).cast(pa.timestamp("us", "UTC")),
            "shipped_at": pc.if_else(is_shipped, pa.array(created + 10**10).cast(pa.timestamp("us")), None),
            "day": pa.array(random.integers(15_000, 20_000, rows).astype(np.int32)).cast(pa.date32()),
            "active": random.random(rows) < 0.5,
            "note": pc.if_else(is_noted, pc.binary_join_element_wise(*words, " "), None),
        }
    )


def landed(name: str, rows: pa.Table) -> int:
    """The bytes of a landing's objects."""
    with TemporaryDirectory(prefix="s3dest-bench-") as folder:
        bucket, settings = local_bucket(Path(folder), keep=False), destination(format_settings(name))
        with open_target(settings, bucket, clock=lambda: NOW, entropy=os.urandom) as target:
            batches = arrow_batches(rows, emitted_at=lambda: _EMITTED_AT)
            return land(batches, target, Stream(name="orders"), sync()).bytes


def written_alone(name: str, rows: pa.Table) -> int:
    """The bytes that a library alone writes."""
    if name == "parquet":
        return _parquet(_with_envelope(rows))
    encode = {"csv": _csv, "jsonl": _jsonl}[name]
    gzip, written = gzip_stream("balanced"), 0
    for text in encode(_with_envelope(rows)):
        written += len(gzip.compress(text))
    return written + len(gzip.flush())


def _with_envelope(rows: pa.Table) -> pa.Table:
    ids = record_id_column(record_ids(os.urandom(16 * len(rows))))
    emitted_at = emitted_at_column(np.full(len(rows), _EMITTED_AT))
    return rows.add_column(0, "_airbyte_ab_id", ids).add_column(1, "_airbyte_emitted_at", emitted_at)


def _parquet(rows: pa.Table) -> int:
    written = 0

    def count(data: bytes) -> int:
        nonlocal written
        written += len(data)
        return len(data)

    pq.write_table(rows, pa.PythonFile(_Sink(count), mode="w"), compression="snappy")
    return written


def _csv(rows: pa.Table) -> Iterator[pa.Buffer]:
    for number, batch in enumerate(rows.to_batches(_BATCH_ROWS)):
        text = pa.BufferOutputStream()
        pv.write_csv(batch, text, pv.WriteOptions(include_header=not number))
        yield text.getvalue()


def _jsonl(rows: pa.Table) -> Iterator[memoryview]:
    import polars  # after the number of its threads was set

    for batch in rows.to_batches(_BATCH_ROWS):
        text = io.BytesIO()
        polars.DataFrame(batch).write_ndjson(text)
        yield text.getbuffer()


class _Sink(io.RawIOBase):
    """A file that drops what is written to it."""

    def __init__(self, count: Callable[[bytes], int]) -> None:
        self.write = count  # type: ignore[method-assign,assignment]

    def writable(self) -> bool:
        return True


if __name__ == "__main__":
    main()
