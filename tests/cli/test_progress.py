"""The progress of a sync: a live display on a terminal, lines elsewhere, and never anything on standard output."""

import os
import signal
import sys

import pytest
from airbyte_messages import log, record, state
from terminals import plain, terminal

from s3dest_dagster.cli.output import Output
from s3dest_dagster.cli.progress import LiveProgress, ProgressLines, progress_display
from s3dest_dagster.ingest.receipt import Progress
from s3dest_dagster.stream import StreamId

HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"
"""The sequences that hide the cursor of a terminal and show it again."""


def test_lines_report_the_total_and_each_stream_every_few_seconds(capsys):
    now = [0.0]
    report = ProgressLines(Output().say, lambda: now[0])
    users, orders = StreamId("public", "users"), StreamId("public", "orders")
    for second, stream, rows in [(1, users, 10), (6, orders, 5), (7, users, 20), (12, users, 30)]:
        now[0] = second
        report(stream, Progress(rows=rows, objects=1, bytes=rows * 1000))
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("15 records read, 2 objects begun, 15.0 kB, 2 records/s, 2.5 kB/s, memory ")
    assert first.endswith(", 0:00:06; public.orders: 5 records, 5.0 kB; public.users: 10 records, 10.0 kB")
    assert second.startswith("35 records read, 2 objects begun, 35.0 kB, 3 records/s, 3.3 kB/s, memory ")
    assert second.endswith(", 0:00:12; public.orders: 5 records, 5.0 kB; public.users: 30 records, 30.0 kB")


@pytest.mark.parametrize(("count", "named", "left"), [(1, 0, ""), (3, 3, ""), (40, 10, "; and 30 more streams")])
def test_only_the_largest_of_many_streams_are_named_and_a_single_one_is_not_repeated(capsys, count, named, left):
    now = [0.0]
    report = ProgressLines(Output().say, lambda: now[0])
    for number in range(100, 100 + count):
        report(StreamId("shop", f"s{number}"), Progress(rows=number, objects=0, bytes=0))
    now[0] = 10.0
    report(StreamId("shop", f"s{number}"), Progress(rows=number, objects=0, bytes=0))
    (line,) = capsys.readouterr().err.splitlines()
    largest = range(100 + count - named, 100 + count)
    assert [part for part in line.split("; ")[1:] if "more" not in part] == [
        f"shop.s{number}: {number} records, 0 bytes" for number in largest
    ]
    assert line.endswith(left)


def test_programs_that_read_the_report_are_not_disturbed(capsys):
    quiet = Output()
    quiet.json = True
    moments = iter(range(0, 1000, 100))
    report = progress_display(quiet, lambda: next(moments))
    for _ in range(3):
        report(StreamId(None, "a"), Progress(rows=1, objects=1, bytes=1))
    assert capsys.readouterr().err == ""


def test_a_terminal_that_hangs_up_ends_only_the_display(monkeypatch):
    ours, theirs = os.openpty()
    with open(theirs, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setenv("TERM", "xterm")
        output = Output()
        with progress_display(output) as report:
            assert isinstance(report, LiveProgress)
            os.close(ours)
            with pytest.raises(OSError, match="Input/output error"):
                os.write(theirs, b"anybody there?")
            report(StreamId(None, "a"), Progress(rows=1, objects=1, bytes=1))
        output.say("nor this")


def test_a_terminal_shows_a_display_that_ends_cleanly_and_leaves_its_last_line(lake):
    messages = record("users", id=1) + record("orders", id=1) + state("users", 1)
    streams = ["--config", lake.config(), "--catalog", lake.catalog("users", "orders")]
    answer, shown = lake.on_terminal("write", *streams, stdin=messages, of="stderr", columns=160)
    assert (answer.returncode, answer.stdout) == (0, state("users", 1))
    assert shown.count(HIDDEN) == shown.count(SHOWN) == 1
    before, after = plain(shown.partition(SHOWN)[0]), shown.partition(SHOWN)[2]
    assert "2 records read, 2 objects begun, " in before.splitlines()[-1]
    assert [line.partition(":")[0] for line in after.splitlines()] == ["public.users", "public.orders"]


def test_messages_appear_above_the_display_and_an_error_below_it(lake):
    messages = log("looking") + record("users", id=1) + "not a record\n" + record("users", id=2)[:-9] + "\n"
    streams = ["--config", lake.config(), "--catalog", lake.catalog("users")]
    answer, shown = lake.on_terminal("write", *streams, stdin=messages, of="stderr")
    assert (answer.returncode, answer.stdout) == (1, "")
    display, _, below = shown.partition(SHOWN)
    lines = plain(display).splitlines()
    assert "INFO: looking" in lines
    assert "Error: " not in display
    assert below.startswith("Error: ")
    assert lake.data_keys() == []


def test_states_on_the_same_terminal_have_separate_lines(lake):
    """The terminal shows both streams of the command to a person, while checkpoints forward states."""
    config = lake.config(s3dest={"checkpoint_interval_s": 0, "checkpoint_mb": 0.000001, "max_attempts": 1})
    lines = "".join(record("users", id=number) + state("users", number) for number in range(3))
    with terminal(120) as (path, shown):
        catalog = lake.catalog("users", mode="append")
        process = lake.start("write", "--config", config, "--catalog", catalog, stdout=path, stderr=path)
        process.communicate(lines.encode(), timeout=60)
    assert process.returncode == 0
    written = plain(shown()).replace("\r", "\n").splitlines()
    assert [line for line in written if '"type"' in line] == [state("users", number).strip() for number in range(3)]


def test_ctrl_c_restores_the_cursor(lake):
    with terminal(100) as (path, shown):
        streams = ["--config", lake.config(), "--catalog", lake.catalog("users")]
        process = lake.start("write", *streams, stderr=path)
        process.stdin.write((record("users", id=1) + log("so far")).encode())
        process.stdin.flush()
        shown.wait_for("so far")
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, b"")
    assert shown().count(HIDDEN) == shown().count(SHOWN) == 1
    last_line = plain(shown().rpartition(SHOWN)[2])
    assert last_line == "Error: Stopped by SIGINT. Nothing of this sync was published.\n"
    assert lake.all_keys() == []
