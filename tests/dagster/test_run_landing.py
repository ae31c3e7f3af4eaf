"""What the log of a run reports about a landing while it is running."""

from __future__ import annotations

import re

import dagster as dg

from s3dest_dagster import stream_asset
from s3dest_dagster.dagster import run_landing
from s3dest_dagster.dagster.run_landing import ProgressLines
from s3dest_dagster.ingest.receipt import Progress
from s3dest_dagster.ingest.target import resident_bytes
from s3dest_dagster.stream import StreamId

USERS, ORDERS = StreamId("crm", "users"), StreamId("crm", "orders")


def logged_lines(*at: tuple[float, StreamId, int], memory: int | None = 512_000_000) -> list[str]:
    """The lines of a landing that begins at 0 and has, at each moment, this many records of 1 kB."""
    now = [0.0]
    lines: list[str] = []
    progress = ProgressLines("crm", lines.append, clock=lambda: now[0], memory=lambda: memory)
    for now[0], stream, rows in at:
        progress.update(stream, Progress(rows=rows, objects=1, bytes=rows * 1000))
    return lines


def test_the_progress_is_reported_at_most_every_few_seconds():
    lines = logged_lines(
        (1.0, USERS, 1000), (4.9, USERS, 4900), (5.0, USERS, 5000), (6.0, USERS, 6000), (10.5, USERS, 27_000)
    )
    assert lines == [
        "crm: 5,000 records, 1 object, 5.0 MB, 1,000 records/s, 1.0 MB/s, memory 512 MB",
        "crm: 27,000 records, 1 object, 27.0 MB, 4,000 records/s, 4.0 MB/s, memory 512 MB",
    ]


def test_concurrent_streams_are_reported_together():
    assert logged_lines((4.0, USERS, 1000), (5.0, ORDERS, 500)) == [
        "crm: 1,500 records, 2 objects, 1.5 MB, 300 records/s, 0.3 MB/s, memory 512 MB"
    ]


def test_memory_is_left_out_if_the_system_does_not_report_it():
    (line,) = logged_lines((5.0, USERS, 5), memory=None)
    assert line.endswith("MB/s")


def test_the_reported_memory_grows_with_that_of_the_process():
    before = resident_bytes()
    held = bytearray(b"\xff" * 64_000_000)
    assert resident_bytes() - before > len(held) // 2


def test_a_sync_reports_its_progress_in_the_log_of_the_run(lake, monkeypatch):
    monkeypatch.setattr(run_landing, "_EVERY_S", 1e-9)

    @stream_asset
    def people():
        yield [{"id": number, "text": "x" * 100} for number in range(20_000)]

    with dg.DagsterInstance.ephemeral() as instance:
        result = lake.materialize(people, instance=instance)
        lines = [each.user_message for each in instance.all_logs(result.run_id)]
    progress = [line for line in lines if re.match(r"people: [\d,]+ records, 1 object, .* memory [\d,]+ MB$", line)]
    assert len(progress) > 1
    (landed,) = [line for line in lines if " landed in " in line]
    size = int(result.get_asset_materialization_events()[0].materialization.metadata["bytes"].value)
    assert landed.startswith(f"people: 20,000 rows in 1 object, {size / 1e6:.1f} MB, landed in ")


def test_small_sizes_are_reported_in_bytes(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        result = lake.materialize(stream_asset(name="people")(lambda: [{"id": 1}]), instance=instance)
        lines = [each.user_message for each in instance.all_logs(result.run_id)]
    size = len(lake.body(*lake.data_keys()))
    assert any(line.startswith(f"people: 1 row in 1 object, {size} bytes, landed in ") for line in lines)


def test_the_progress_says_how_many_records_the_source_expects():
    now, lines = [0.0], []
    progress = ProgressLines("crm", lines.append, clock=lambda: now[0], memory=lambda: None)
    now[0] = 5.0
    progress.update(USERS, Progress(rows=1000, expected_rows=5000))
    now[0] = 10.0
    progress.update(ORDERS, Progress(rows=1))
    assert [line.split(",  ")[0].split(", 0 ")[0] for line in lines] == [
        "crm: 1,000 records of about 5,000",
        "crm: 1,001 records",
    ]
