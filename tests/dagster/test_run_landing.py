"""What the run's log tells of a landing while it goes on."""

from __future__ import annotations

import re

import dagster as dg

from s3dest_dagster import stream_asset
from s3dest_dagster.dagster import run_landing
from s3dest_dagster.dagster.run_landing import ProgressLines, resident_bytes
from s3dest_dagster.ingest.receipt import Progress
from s3dest_dagster.stream import StreamId

USERS, ORDERS = StreamId("crm", "users"), StreamId("crm", "orders")


def told(*at: tuple[float, StreamId, int], memory: int | None = 512_000_000) -> list[str]:
    """The lines of a landing that begins at 0 and stands, at each moment, at so many records of 1 kB."""
    moments = iter([0.0, *(moment for moment, _, _ in at)])
    lines: list[str] = []
    progress = ProgressLines("crm", lines.append, clock=lambda: next(moments), memory=lambda: memory)
    for _, stream, rows in at:
        progress.update(stream, Progress(rows=rows, objects=1, bytes=rows * 1000))
    return lines


def test_where_it_stands_is_told_every_few_seconds_at_most():
    lines = told((1.0, USERS, 1000), (4.9, USERS, 4900), (5.0, USERS, 5000), (6.0, USERS, 6000), (10.5, USERS, 27_000))
    assert lines == [
        "crm: 5,000 records, 1 object, 5.0 MB, 1,000 records/s, 1.0 MB/s, memory 512 MB",
        "crm: 27,000 records, 1 object, 27.0 MB, 4,000 records/s, 4.0 MB/s, memory 512 MB",
    ]


def test_streams_side_by_side_are_told_together():
    assert told((4.0, USERS, 1000), (5.0, ORDERS, 500)) == [
        "crm: 1,500 records, 2 objects, 1.5 MB, 300 records/s, 0.3 MB/s, memory 512 MB"
    ]


def test_memory_that_the_system_does_not_tell_is_left_out():
    (line,) = told((5.0, USERS, 5), memory=None)
    assert line.endswith("MB/s")


def test_memory_grows_with_what_the_process_holds():
    before = resident_bytes()
    held = bytearray(b"\xff" * 64_000_000)
    assert resident_bytes() - before > len(held) // 2


def test_a_sync_tells_where_it_stands_in_the_runs_log(lake, monkeypatch):
    monkeypatch.setattr(run_landing, "_EVERY_S", 1e-9)

    @stream_asset
    def people():
        yield [{"id": number, "text": "x" * 100} for number in range(20_000)]

    with dg.DagsterInstance.ephemeral() as instance:
        result = lake.materialize(people, instance=instance)
        lines = [each.user_message for each in instance.all_logs(result.run_id)]
    standing = [line for line in lines if re.match(r"people: [\d,]+ records, 1 object, .* memory [\d,]+ MB$", line)]
    assert len(standing) > 1
    (landed,) = [line for line in lines if " landed in " in line]
    size = int(result.get_asset_materialization_events()[0].materialization.metadata["bytes"].value)
    assert landed.startswith(f"people: 20,000 rows in 1 object, {size / 1e6:.1f} MB, landed in ")


def test_what_is_small_is_told_in_bytes(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        result = lake.materialize(stream_asset(name="people")(lambda: [{"id": 1}]), instance=instance)
        lines = [each.user_message for each in instance.all_logs(result.run_id)]
    size = len(lake.body(*lake.data_keys()))
    assert any(line.startswith(f"people: 1 row in 1 object, {size} bytes, landed in ") for line in lines)
