"""One stream landed by one process and by several: `python -m benchmarks.sharded_landing TASK`.

`{"write": records}` writes the files, by a process of its own, since the memory that this takes is not the landing's.

Any other task has the `format` (jsonl, csv, avro or parquet), the `source` (see `SOURCES`), the number of `records`,
and that of `processes`. Time begins when the source is asked for its first record: by then the processes are running
and have landed a few records. It ends when the objects are published and the processes have ended. The objects' bytes
are dropped.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
from s3dest_dagster.sources.airbyte.session import read_messages, read_record_lines
from s3dest_dagster.sources.files import FileSource
from s3dest_dagster.sources.python import arrow_batches
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Stream

SOURCES = ("messages", "JSON Lines files", "Parquet files", "Arrow columns")
TIMES_AS_COLUMNS = 4
"""Columns land several times as fast as messages, so that there are more records of them."""
_FILES = 8
_PACKAGES = ("s3dest-dagster", "msgspec", "pyarrow", "isal")


def main() -> None:
    task = json.loads(sys.argv[1])
    if "write" in task:
        write_files(task["write"])
        return
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
                self.parts = [FileSource(str(each)) for each in _line_files(Path(file.bare_task["messages"]))]
            return
        files = _column_files(records * TIMES_AS_COLUMNS, data)
        self.schema = pq.read_schema(files[0])
        if source == SOURCES[2]:
            self.parts = [FileSource(str(each)) for each in files]
        else:
            self._columns = pa.concat_tables(map(pq.read_table, files))

    def records(self, read: Any = read_record_lines) -> Iterator[Any]:
        """The records that the calling process reads."""
        if self._messages is not None:
            with self._messages.open("rb", buffering=0) as file:
                yield from self._timed(read(file.fileno(), [self.stream.id]))
        if self._columns is not None:
            yield from self._timed(arrow_batches(self._columns, emitted_at=lambda: 1_767_609_000_000))

    def readers(self) -> Iterator[Any]:
        """Functions that read the files."""
        return self._timed(each.read for each in self.parts)

    def all(self) -> Iterator[Any]:
        """All records, for a landing in one process."""
        return chain(self.records(read_messages), chain.from_iterable(read() for read in self.readers()))

    def _timed(self, items: Iterable[Any]) -> Iterator[Any]:
        self.began = self.began or time.perf_counter()
        yield from items


def write_files(records: int) -> None:
    """Writes what `Work` reads, as far as it does not exist yet."""
    for source in SOURCES:
        Work(source, records)


def _line_files(path: Path) -> list[Path]:
    """The lines of a file in several files."""
    parts = [path.with_name(f"{path.stem}-{number}.records.jsonl") for number in range(_FILES)]
    for number, part in enumerate(parts):
        if not part.exists():
            with path.open("rb") as file, _unfinished(part) as unfinished, unfinished.open("wb") as written:
                written.writelines(islice(file, number, None, _FILES))
    return parts


def _column_files(records: int, data: Path) -> list[Path]:
    """Orders in several files."""
    data.mkdir(parents=True, exist_ok=True)
    parts = [data / f"orders-{records}-{number}.parquet" for number in range(_FILES)]
    if not all(part.exists() for part in parts):
        table, rows = orders(records), -(-records // _FILES)
        for number, part in enumerate(parts):
            with _unfinished(part) as unfinished:
                pq.write_table(table.slice(number * rows, rows), unfinished)
    return parts


@contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """A path that becomes this one at the end, since others may read it at the same time."""
    unfinished = path.with_suffix(f".{os.getpid()}")
    yield unfinished
    unfinished.rename(path)


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
