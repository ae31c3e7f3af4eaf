"""One call lands a stream by several processes of this machine, and lands all of it or nothing."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from airbyte_messages import status
from land_and_read import (
    PLAIN_JSONL,
    SCHEMA,
    batch_of,
    destination,
    ids_by_listing,
    open_uploads,
    stream,
    sync,
    target,
    users,
)
from process_pool import PROCESSES
from servers import S3Server

from s3dest_dagster.batch import ArrowBatch, JsonBatch, State, StreamBatch, StreamStatus
from s3dest_dagster.errors import CommitError, SettingsError, SourceError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.record_changes import Change
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, ParquetFormat, TextCompression
from s3dest_dagster.shards import land_in_processes
from s3dest_dagster.sources.airbyte.record_lines import RecordLines
from s3dest_dagster.sources.airbyte.session import read_messages, read_record_lines
from s3dest_dagster.sources.files import FileSource
from s3dest_dagster.storage import Bucket, open_bucket
from s3dest_dagster.stream import Scope, Stream

pytestmark = pytest.mark.timeout(300)
FORMATS = {
    "JSONL": PLAIN_JSONL,
    "CSV": CsvFormat(flattening="Root level flattening", compression=TextCompression.NONE),  # type: ignore[arg-type]
    "Avro": AvroFormat(),
    "Parquet": ParquetFormat(),
}
WAIT_S = 60
assert PROCESSES.get_start_method() == "forkserver", "the processes begin as forks that have everything imported"


class Lake:
    """A bucket of its own, where five old records are visible."""

    def __init__(self, server: S3Server, **settings: Any) -> None:
        self.server = server
        self.settings = destination(server.new_bucket(), **settings)
        with target(server, self.settings) as opened:
            land([batch_of(users(1, 5))], opened, stream(), sync("old"))

    def land(self, records: Any = (), *, of: Stream | None = None, sync_id: str = "new", **more: Any) -> Receipt:
        with target(self.server, self.settings) as opened:
            given = {"s3": self.server.connection, **more}
            return land_in_processes(opened, of or stream(), sync(sync_id), records, **given)

    def check_old(self) -> None:
        """Nothing of a failed sync is left."""
        assert ids_by_listing(self.server, self.settings.s3_bucket_name) == [1, 2, 3, 4, 5]
        assert open_uploads(self.server, self.settings.s3_bucket_name) == 0

    @property
    def ids(self) -> list[int]:
        scope = Scope(stream().id)
        opened = self.server.open(self.settings)
        assert verify(opened, self.settings.template, scope, deep=True).problems == ()
        table = read_scope(opened, self.settings.template, scope)
        assert table is not None
        return sorted(int(each) for each in table.column("id").to_pylist())


def open_bucket_of(connection: S3Connection, settings: S3Destination) -> Bucket:
    return open_bucket(connection, settings)


def fail_after(number: int) -> Iterator[list[dict[str, Any]]]:
    """A part that fails after so many records."""
    yield users(1, number)
    raise ValueError("lost its database")


def fail_with_a_connection() -> None:
    """A part whose error cannot be pickled."""

    class Lost(Exception):
        def __init__(self, connection: Any, host: str) -> None:
            super().__init__(f"no answer from {host}")

    raise Lost(object(), "db-7")


def kill_after_an_upload(connection: S3Connection, bucket: str) -> Iterator[Any]:
    """A part whose process is killed as soon as one of its objects waits for the commit."""
    yield batch_of(users(11, 20))
    yield batch_of(users(21, 30))
    opened, deadline = open_bucket(connection, bucket), time.monotonic() + WAIT_S
    while not list(opened.list_uploads("")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)


class ReadByBoth(StreamBatch):
    """An item whose process goes on as soon as another process has received such an item, too."""

    def __init__(self, item: StreamBatch, folder: Path) -> None:
        super().__init__(item.stream, item.batch)
        object.__setattr__(self, "folder", folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return received_by_both, (self.folder, self.stream, self.batch)


def received_by_both(folder: Path, *item: Any) -> StreamBatch:
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + WAIT_S
    while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    return StreamBatch(*item)


# ---------------------------------------------------------------------- what lands


@pytest.mark.parametrize("name", FORMATS)
def test_batches_columns_and_parts_land_once_in_every_format(moto_s3: S3Server, tmp_path: Path, name: str) -> None:
    lake = Lake(moto_s3, format=FORMATS[name])
    file = tmp_path / "users.jsonl"
    file.write_text("".join(f"{json.dumps(each)}\n" for each in users(11, 40)))
    table = pa.Table.from_pylist(users(41, 60))
    columns = [ArrowBatch(each, np.full(10, 1_767_609_000_000)) for each in table.to_batches(10)]
    receipt = lake.land(
        [batch_of(users(61, 70)), *columns, batch_of(users(71, 75))],
        parts=[FileSource(str(file)).read, partial(users, 76, 80)],
    )
    assert lake.ids == list(range(11, 81))
    assert receipt.rows == receipt.counts.read == 70
    assert open_uploads(moto_s3, lake.settings.s3_bucket_name) == 0


def test_dicts_and_tables_are_read_by_the_process_that_calls(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3)
    assert lake.land(iter(users(1, 7)), processes=1).rows == 7
    assert lake.land(pa.Table.from_pylist(users(11, 18)), sync_id="newer", processes=3).rows == 8
    assert lake.ids == list(range(11, 19))


def test_messages_are_divided_and_their_bad_lines_are_kept(moto_s3: S3Server, tmp_path: Path) -> None:
    lake = Lake(moto_s3, on_bad_record="quarantine")
    lines = [
        _message({"record": {"stream": "users", "namespace": "public", "data": each, "emitted_at": 1}})
        for each in users(1, 20_000)
    ]
    lines.append(status("users", "COMPLETE").strip().encode())
    lines.insert(9_000, b'{"type":"RECORD","record":{"stream":"users","namespace":"public","data":{"id":}}}')
    items = read_messages(io.BytesIO(b"\n".join(lines) + b"\n"), [stream().id])
    receipt = lake.land(ReadByBoth(each, tmp_path) if isinstance(each, StreamBatch) else each for each in items)
    assert (receipt.rows, receipt.counts.read, receipt.counts.quarantined) == (20_000, 20_001, 1)
    assert len(receipt.objects) == 2
    assert lake.ids == list(range(1, 20_001))


def test_processes_decode_messages_and_keep_bad_lines(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, on_bad_record="quarantine")
    for sync_id in ("first", "again"):
        record = {"stream": "users", "namespace": "public", "emitted_at": 1}
        lines = [_message({"record": record | {"data": each}}) for each in users(1, 9_000)]
        lines.insert(4_000, lines[0][:-3])
        lines.insert(5_000, b'{"type": "LOG", "log": {"level": "INFO", "message": "page 2"}}')
        lines.append(status("users", "COMPLETE").strip().encode())
        items = list(read_record_lines(io.BytesIO(b"\n".join(lines) + b"\n"), [stream().id]))
        assert [type(each) for each in items if not isinstance(each, StreamStatus)] == [RecordLines] * len(items[:-1])
        receipt = lake.land(iter(items), sync_id=sync_id)
        assert (receipt.rows, receipt.counts.read, receipt.counts.quarantined) == (9_000, 9_001, 1)
        assert lake.ids == list(range(1, 9_001))


def _message(body: dict[str, Any]) -> bytes:
    return json.dumps({"type": "RECORD", **body}).encode()


def test_a_hash_is_the_same_as_in_one_process(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, hash_key="0123456789abcdef0123456789abcdef")
    hashed = Stream(name="people", json_schema=SCHEMA, settings={"fields": {"hash": ["name"]}})  # type: ignore[arg-type]
    lake.land(parts=[partial(users, 1, 1)], of=hashed)
    names = _names(lake)
    with target(moto_s3, lake.settings) as opened:
        land([batch_of(users(1, 1))], opened, hashed, sync("newer"))
    assert names == _names(lake) != ["user 1"]


def _names(lake: Lake) -> list[str]:
    opened = lake.server.open(lake.settings)
    table = read_scope(opened, lake.settings.template, Scope(Stream(name="people").id))
    assert table is not None
    return [str(each) for each in table.column("name").to_pylist()]


def test_a_function_can_open_the_bucket(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3)
    opening = partial(open_bucket_of, moto_s3.connection, lake.settings)
    lake.land(users(1, 3), s3=opening, processes=1)
    assert lake.ids == [1, 2, 3]


def test_a_complete_sync_is_not_read_again(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3)
    first = lake.land(users(1, 3), processes=1)
    again = lake.land(iter(lambda: pytest.fail("it was read"), None))
    assert again.repeated
    assert again.rows == first.rows


# ---------------------------------------------------------------------- what fails


def test_a_killed_process_fails_the_sync_and_leaves_nothing(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, object_size_mb=0.0002)
    name = lake.settings.s3_bucket_name
    parts = [partial(kill_after_an_upload, moto_s3.connection, name), *(partial(users, 31, 40) for _ in range(50))]
    with pytest.raises(CommitError, match=r"was killed by signal 9\. Nothing was published"):
        lake.land(parts=parts)
    lake.check_old()
    assert lake.land(parts=[partial(users, 31, 40)]).rows == 10


def test_an_error_of_a_part_is_raised_as_it_is(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, object_size_mb=0.0002)
    with pytest.raises(ValueError, match="lost its database") as failure:
        lake.land([batch_of(users(31, 40))] * 20, parts=[partial(fail_after, 10)])
    assert "in fail_after" in failure.value.__notes__[0]
    lake.check_old()


def test_an_error_that_no_pipe_carries_keeps_its_text(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3)
    with pytest.raises(SourceError, match="Lost: no answer from db-7"):
        lake.land(parts=[fail_with_a_connection])
    lake.check_old()


def test_an_error_of_this_library_keeps_its_place(moto_s3: S3Server, tmp_path: Path) -> None:
    lake = Lake(moto_s3)
    missing = tmp_path / "missing.jsonl"
    with pytest.raises(SourceError, match="No file matches"):
        lake.land(parts=[FileSource(str(missing)).read])
    lake.check_old()


def test_a_source_that_fails_in_the_middle_leaves_nothing(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, object_size_mb=0.0002)

    def batches() -> Iterator[JsonBatch]:
        yield from (batch_of(users(10 * number, 10 * number + 9)) for number in range(20))
        raise ConnectionError("lost its database")

    with pytest.raises(ConnectionError, match="lost its database"):
        lake.land(batches())
    lake.check_old()


def test_states_are_refused(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3)
    with pytest.raises(SettingsError, match="have a state"):
        lake.land([batch_of(users(11, 20)), State(None, b"{}", b"{}")])
    lake.check_old()


def test_at_least_one_process_is_needed(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3)
    with pytest.raises(SettingsError, match="processes is 0"):
        lake.land(users(1, 2), processes=0)


# ---------------------------------------------------------------------- batches on their way


def test_a_batch_of_texts_is_the_same_after_a_pickle() -> None:
    types = frozenset({(("id",), "decimal")})
    for records in ([], users(1, 1), users(1, 1000)):
        batch = batch_of(records)
        changes = {0: (Change("id", "NULLED", "x"),)}
        batch = JsonBatch(list(map(memoryview, batch.raws)), batch.emitted_at, batch.nbytes, types, changes)  # type: ignore[arg-type]
        found = pickle.loads(pickle.dumps(batch))
        assert found.raws == [bytes(each) for each in batch.raws]
        assert (found.emitted_at == batch.emitted_at).all()
        assert (found.nbytes, found.types, found.changes) == (batch.nbytes, types, changes)


def test_a_slice_of_columns_is_pickled_without_the_rows_around_it() -> None:
    words = pa.array(["alpha", "beta", None] * 10_000).dictionary_encode()
    whole = pa.record_batch({"id": range(30_000), "word": words, "list": [[1, 2]] * 30_000})
    batch = ArrowBatch(whole.slice(15_000, 10), np.arange(10), {3: (Change("id", "NULLED", "x"),)})
    pickled = pickle.dumps(batch)
    assert len(pickled) < 10_000
    assert pickle.loads(pickled).data.equals(batch.data, check_metadata=True)
    assert (pickle.loads(pickled).emitted_at == batch.emitted_at).all()
    assert pickle.loads(pickled).changes == batch.changes
