"""A table of PostgreSQL as objects, by `SqlSource` and a landing: `python -m benchmarks.sql_landing TASK`, as JSON.

The task has the `uri` of the database, the `table`, a `few` table that warms the process up, and the `format` (jsonl,
csv, avro or parquet). The objects are files of a folder.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq

from benchmarks.contestant import measured_work
from benchmarks.landing import NOW, destination, format_settings, sync
from benchmarks.local_client import local_bucket
from s3dest_dagster import SqlSource
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.target import open_target
from s3dest_dagster.stream import Stream

_PACKAGES = ("s3dest-dagster", "adbc-driver-postgresql", "pyarrow")


def main() -> None:
    task = json.loads(sys.argv[1])
    with TemporaryDirectory(prefix="s3dest-bench-") as warm, TemporaryDirectory(prefix="s3dest-bench-") as folder:
        landed(task, task["few"], Path(warm))
        measured = measured_work(lambda: landed(task, task["table"], Path(folder)))
        group = {"row_group_mb": largest_row_group_mb(Path(folder))}
    print(json.dumps(measured | group | {"versions": {name: version(name) for name in _PACKAGES}}))


def landed(task: Mapping[str, Any], table: str, folder: Path) -> Mapping[str, int]:
    """Lands the table. Returns the rows, and the bytes of the objects."""
    settings = destination(format_settings(task["format"]))
    with open_target(settings, local_bucket(folder), clock=lambda: NOW, entropy=os.urandom) as target:
        receipt = land(SqlSource(task["uri"], table=table).read(), target, Stream(name=table), sync())
    return {"rows": receipt.rows, "bytes": receipt.bytes}


def largest_row_group_mb(folder: Path) -> float:
    """The memory of the largest row group of the objects as Arrow columns, which a landing holds; 0 without Parquet."""
    files = [pq.ParquetFile(path) for path in folder.rglob("*.parquet")]
    groups = (file.read_row_group(number).nbytes for file in files for number in range(file.num_row_groups))
    return max(groups, default=0) / 2**20


if __name__ == "__main__":
    main()
