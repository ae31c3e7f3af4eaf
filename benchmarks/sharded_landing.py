"""One stream landed by one process and by several: `python -m benchmarks.sharded_landing TASK`.

The task has the `format` (jsonl, csv, avro or parquet), the `source` (see `SOURCES`), the number of `records`, and that
of `processes`. Time begins when the source is asked for its first record: by then the processes are running and have
landed a few records. It ends when the objects are published and the processes have ended. The objects' bytes are
dropped.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from importlib.metadata import version
from itertools import chain, islice
from multiprocessing.util import Finalize
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.arrow_landing import orders
from benchmarks.contestant import measured_work, peak_mb
from benchmarks.landing import NOW, destination, format_settings, sync
from benchmarks.local_client import local_bucket
from benchmarks.messages import DATA, FEW, STREAM, USERS, message_file
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.target import Target, open_target
from s3dest_dagster.shards import land_in_processes
from s3dest_dagster.sources.airbyte.session import read_messages
from s3dest_dagster.sources.files import FileSource
from s3dest_dagster.sources.python import arrow_batches
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Stream

SOURCES = ("messages", "JSON Lines files", "Parquet files", "Arrow columns")
_FILES = 8
_PACKAGES = ("s3dest-dagster", "msgspec", "pyarrow", "isal")


def main() -> None:
    task = json.loads(sys.argv[1])
    measure(task["format"], Work(task["source"], FEW), 1)
    # One process comes last, so that what it leaves in memory does not count for the process that reads.
    several, one = (
        measure(task["format"], Work(task["source"], task["records"]), number) for number in (task["processes"], 1)
    )
    print(json.dumps(several | {"one": one, "versions": {name: version(name) for name in _PACKAGES}}))


class Work:
    """The records of a landing, from a source of this kind: users, or the orders of the Arrow part."""

    def __init__(self, source: str, records: int, data: Path = DATA) -> None:
        self.source = source
        self.data = data
        self.began = 0.0
        """When the first record was asked for."""
        self.parts: list[FileSource] = []
        self._messages: Path | None = None
        self._columns: pa.Table | None = None
        self.schema: pa.Schema | None = None
        self.stream = Stream(name="orders")
        if source in SOURCES[:2]:
            file = message_file(USERS, records, data)
            self.stream = Stream(name=STREAM, json_schema=file.schema)
            if source == SOURCES[0]:
                self._messages = file.path
            else:
                self.parts = _divided_lines(Path(file.bare_task["messages"]))
            return
        table = orders(records)
        self.schema = table.schema
        if source == SOURCES[2]:
            self.parts = _divided_table(table, data)
        else:
            self._columns = table

    def records(self) -> Iterator[Any]:
        """The records that the calling process reads."""
        if self._messages is not None:
            with self._messages.open("rb", buffering=0) as file:
                yield from self._timed(read_messages(file.fileno(), [self.stream.id]))
        if self._columns is not None:
            yield from self._timed(arrow_batches(self._columns, emitted_at=lambda: 1_767_609_000_000))

    def readers(self) -> Iterator[Any]:
        """Functions that read the files."""
        return self._timed(each.read for each in self.parts)

    def all(self) -> Iterator[Any]:
        """All records, for a landing in one process."""
        return chain(self.records(), chain.from_iterable(read() for read in self.readers()))

    def _timed(self, items: Iterable[Any]) -> Iterator[Any]:
        self.began = self.began or time.perf_counter()
        yield from items


def _divided_lines(path: Path) -> list[FileSource]:
    """The lines of a file in several files, which are written if they do not exist yet."""
    with path.open("rb") as file:
        lines = file.readlines()
    sources = []
    for number in range(_FILES):
        part = path.with_name(f"{path.stem}-{number}.records.jsonl")
        if not part.exists():
            part.write_bytes(b"".join(islice(lines, number, None, _FILES)))
        sources.append(FileSource(str(part)))
    return sources


def _divided_table(table: pa.Table, data: Path) -> list[FileSource]:
    rows = -(-len(table) // _FILES)
    data.mkdir(parents=True, exist_ok=True)
    sources = []
    for number in range(_FILES):
        part = data / f"orders-{len(table)}-{number}.parquet"
        # Others may read it at the same time.
        unfinished = part.with_suffix(f".{os.getpid()}")
        pq.write_table(table.slice(number * rows, rows), unfinished)
        unfinished.rename(part)
        sources.append(FileSource(str(part)))
    return sources


def measure(name: str, work: Work, processes: int) -> dict[str, Any]:
    """Lands the work in this format, with one process in the usual way. `processes` has the highest
    memory and the CPU of each process that stages a shard."""
    settings = destination(format_settings(name))
    with TemporaryDirectory(prefix="s3dest-bench-") as folder:
        bucket = local_bucket(Path(folder), keep=False)

        def land_all() -> dict[str, Any]:
            with open_target(settings, bucket, clock=lambda: NOW, entropy=os.urandom) as target:
                rows = _land(name, target, work, processes, Path(folder))
                return {"records": rows, "bytes": 0, "wall_s": time.perf_counter() - work.began}

        measured = measured_work(land_all)
        return {**measured, "processes": [json.loads(each.read_text()) for each in Path(folder).glob("process-*")]}


def _land(name: str, target: Target, work: Work, processes: int, folder: Path) -> int:
    if processes == 1:
        return land(work.all(), target, work.stream, sync()).rows
    return land_in_processes(
        target,
        work.stream,
        sync(),
        work.records(),
        parts=work.readers(),
        processes=processes,
        schema=work.schema,
        s3=partial(_bucket_of_process, folder, name, work.source, work.data),
    ).rows


def _bucket_of_process(folder: Path, name: str, source: str, data: Path) -> Bucket:
    """The bucket, in a process that has landed a few records, and that writes its memory and CPU into a file when it
    ends."""
    measure(name, Work(source, FEW, data), 1)
    began = time.process_time()

    def report() -> None:
        figures = {"peak_mb": peak_mb(), "cpu_s": time.process_time() - began}
        (folder / f"process-{os.getpid()}").write_text(json.dumps(figures))

    Finalize(None, report, exitpriority=1)
    return local_bucket(folder, keep=False)


if __name__ == "__main__":
    main()
