"""`s3dest write` of a long append: its published checkpoints stay, and their states are forwarded immediately."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from airbyte_messages import log, record, state, status

CHECKPOINTS = {"checkpoint_mb": 0.000_001, "max_attempts": 1, "encode_workers": 1}
"""Makes a checkpoint at every state that follows a record."""


def write(lake, messages: str, *options: str, streams: tuple[str, ...] = ("users",), **own):
    config = lake.config(s3dest={**CHECKPOINTS, **own})
    return lake.write(messages, "--config", config, *options, streams=streams, mode="append")


def one(stream: str, number: int) -> str:
    return record(stream, id=number) + state(stream, number)


def test_a_failing_source_leaves_its_checkpoints_and_a_retry_resumes_from_their_state(any_lake):
    failed = write(
        any_lake,
        one("users", 1) + one("users", 2) + record("users", id=3) + status("users", "INCOMPLETE"),
        "--sync-id",
        "x",
    )
    assert (failed.returncode, failed.stdout) == (1, state("users", 1) + state("users", 2)), failed.stderr
    assert "Checkpoints had published: public.users (2 rows)." in failed.stderr
    assert (any_lake.ids(), any_lake.uploads()) == ([1, 2], 0)
    reached = any_lake.run("state", "show", "--config", any_lake.config())
    assert json.loads(reached.stdout) == [json.loads(state("users", 2))["state"]]

    retried = write(any_lake, one("users", 3) + record("users", id=4), "--sync-id", "x")
    assert (retried.returncode, retried.stdout) == (0, state("users", 3))
    assert "public.users: resumes after an earlier attempt at this sync." in retried.stderr
    assert "public.users: 4 rows" in retried.stderr
    assert "3 checkpoints, 2 rows of them from earlier attempts" in retried.stderr
    assert any_lake.ids() == [1, 2, 3, 4]


def test_a_state_is_forwarded_while_the_source_is_still_running(lake):
    config = lake.config(s3dest=CHECKPOINTS)
    process = lake.start("write", "--config", config, "--catalog", lake.catalog("users", mode="append"))
    process.stdin.write(one("users", 1).encode())
    process.stdin.flush()
    assert process.stdout.readline().decode() == state("users", 1)
    assert lake.ids() == [1]
    stdout, _ = process.communicate(record("users", id=2).encode(), timeout=60)
    assert (process.returncode, stdout) == (0, b"")
    assert lake.ids() == [1, 2]


def test_interleaved_streams_have_separate_checkpoints(lake):
    messages = record("orders", id=7) + one("users", 1) + status("users", "COMPLETE") + status("orders", "INCOMPLETE")
    failed = write(lake, messages, streams=("users", "orders"))
    assert (failed.returncode, failed.stdout) == (1, state("users", 1))
    assert (lake.ids("users"), lake.ids("orders")) == ([1], [])


def test_a_full_refresh_next_to_an_append_is_published_only_at_the_end(lake):
    catalog = json.loads(Path(lake.catalog("users", "orders", mode="append")).read_text())
    catalog["streams"][1]["destination_sync_mode"] = "overwrite"
    options = ["--config", lake.config(s3dest=CHECKPOINTS), "--catalog", lake.file("mixed.json", catalog)]
    failed = lake.run("write", *options, stdin=one("users", 1) + one("orders", 7) + status("users", "STARTED"))
    assert (failed.returncode, failed.stdout) == (1, state("users", 1))
    assert (lake.ids("users"), lake.ids("orders")) == ([1], [])
    done = lake.run("write", *options, stdin=one("orders", 7))
    assert (done.returncode, done.stdout, lake.ids("orders")) == (0, state("orders", 7), [7])


@pytest.mark.parametrize("kind", ["GLOBAL", "LEGACY"])
def test_a_global_state_causes_no_checkpoint(lake, kind):
    everything = json.dumps({"type": "STATE", "state": {"type": kind, "global": {}, "data": {}}}) + "\n"
    failed = write(lake, record("users", id=1) + everything + status("users", "STARTED"))
    assert (failed.returncode, failed.stdout, lake.ids()) == (1, "", [])
    assert "Nothing of this sync was published." in failed.stderr


def test_a_bad_line_fails_the_sync_before_a_later_state_is_stored(lake):
    torn = record("users", id=2)[:-20] + "\n"
    failed = write(lake, one("users", 1) + torn + one("users", 3))
    assert (failed.returncode, failed.stdout, lake.ids()) == (1, state("users", 1), [1])


def test_the_json_report_alone_lists_checkpoints_for_programs(lake):
    answer = write(lake, one("users", 1) + one("users", 2), "--json")
    (report,) = map(json.loads, answer.stderr.splitlines())
    assert (report["rows"], report["checkpoints"], report["earlier_rows"]) == (2, 2, 0)
    assert answer.stdout == state("users", 1) + state("users", 2)


def test_a_fixed_clock_causes_no_timed_checkpoints(lake):
    by_time = {"checkpoint_mb": 0, "checkpoint_interval_s": 1e-9}
    answer = write(
        lake, one("users", 1) + log("on") + one("users", 2), "--json", "--now", "2026-01-05T10:30:00Z", **by_time
    )
    assert json.loads(answer.stderr.splitlines()[-1])["checkpoints"] == 0
    answer = write(lake, one("users", 3) + one("users", 4), "--json", **by_time)
    assert json.loads(answer.stderr)["checkpoints"] == 2
