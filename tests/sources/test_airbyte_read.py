"""Reading a connector: its output, its failures, and its end. Each test runs a real process."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from scripted_source import ScriptedSource, is_known, is_running, is_soon_gone

from s3dest_dagster.batch import BadRecord, State, StreamBatch, StreamStatus
from s3dest_dagster.errors import SettingsError, SourceError
from s3dest_dagster.sources.airbyte.catalog import Catalog
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.stream import Stream, StreamId, SyncMode

USERS = Stream(name="users")
ORDERS = Stream(name="orders")


@pytest.fixture
def scripted(tmp_path):
    return ScriptedSource(tmp_path).stream("users").stream("orders")


def items_of(source: AirbyteSource, *streams: Stream, **options):
    with source.read(streams or [USERS], **options) as items:
        return list(items)


def failure_of(source: AirbyteSource, *streams: Stream, **options) -> str:
    with pytest.raises(SourceError) as caught:
        items_of(source, *streams, **options)
    return str(caught.value)


def data_of(items, stream: str = "users"):
    return [
        json.loads(bytes(raw))
        for item in items
        if isinstance(item, StreamBatch) and item.stream.name == stream
        for raw in item.batch.raws
    ]


# Output


def test_records_and_states_come_in_order(scripted):
    source = scripted.records("users", {"id": 1}).state("users", {"at": 1}).records("users", {"id": 2}).source()
    first, state, second = items_of(source)
    assert data_of([first]) == [{"id": 1}]
    assert json.loads(state.state) == {
        "type": "STREAM",
        "stream": {"stream_descriptor": {"name": "users"}, "stream_state": {"at": 1}},
    }
    assert data_of([second]) == [{"id": 2}]


def test_a_source_without_records_yields_nothing(scripted):
    assert items_of(scripted.log("INFO", "nothing new").source()) == []


def test_every_one_of_many_records_of_interleaved_streams_arrives_in_the_order_of_its_stream(scripted):
    for start in range(0, 20_000, 5_000):
        scripted.generated("users", 5_000, first=start, name="x" * 50).generated("orders", 5_000, first=start)
    items = items_of(scripted.source(), USERS, ORDERS)
    assert [record["id"] for record in data_of(items, "users")] == list(range(20_000))
    assert [record["id"] for record in data_of(items, "orders")] == list(range(20_000))


def test_a_bad_record_is_passed_on_with_its_reason_and_affects_no_other(scripted):
    source = scripted.records("users", {"id": 1}).records("users", [1, 2]).records("users", {"id": 2}).source()
    items = items_of(source)
    assert data_of(items) == [{"id": 1}, {"id": 2}]
    (bad,) = (item for item in items if isinstance(item, BadRecord))
    assert bad.stream == StreamId(None, "users")
    assert "not an object" in bad.reason


def test_logs_are_forwarded_at_their_level(scripted):
    heard = []
    for level in ("FATAL", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"):
        scripted.log(level, f"said {level}")
    items_of(scripted.source(), log=lambda *entry: heard.append(entry))
    forwarded = [entry for entry in heard if entry[1].startswith("said")]
    assert forwarded == [(level, f"said {level}") for level in ("FATAL", "ERROR", "WARN", "INFO", "DEBUG", "TRACE")]


def test_standard_error_is_forwarded(scripted):
    heard = []
    items_of(scripted.log("INFO", "done").stderr("a warning\n").source(), log=lambda *entry: heard.append(entry))
    assert ("INFO", "a warning") in heard


def test_much_standard_error_does_not_block_the_source_and_omissions_are_reported(scripted):
    heard = []
    source = scripted.stderr("x" * 200, times=20_000).records("users", {"id": 1}).source()
    items = items_of(source, log=lambda level, message: heard.append(message))
    assert data_of(items) == [{"id": 1}]
    left_out = sum(int(line.split()[0][1:]) for line in heard if "earlier lines" in line)
    assert heard.count("x" * 200) + left_out == 20_000


def test_the_log_and_state_of_a_slow_source_arrive_before_it_continues(scripted, tmp_path):
    """The connector waits for a file that the test creates only after it has seen the state. Otherwise the test
    would hang."""
    seen = tmp_path / "seen"
    source = scripted.records("users", {"id": 1}).state("users", {"at": 1}).waits_for(seen).source()
    with source.read([USERS]) as items:
        assert isinstance(next(items), StreamBatch)
        assert isinstance(next(items), State)
        seen.touch()
        assert list(items) == []


def test_an_unfinished_line_does_not_delay_the_finished_ones(scripted, tmp_path):
    seen = tmp_path / "seen"
    source = scripted.state("users", {"at": 1}).writes(b'{"type":"LOG",').waits_for(seen)
    source = source.writes(b'"log":{"message":"x"}}\n').source()
    with source.read([USERS]) as items:
        assert isinstance(next(items), State)
        seen.touch()
        assert list(items) == []


def test_a_slow_reader_slows_the_source_down(scripted, tmp_path):
    """Backpressure: the connector cannot have finished writing 50 MB while only the first item was read."""
    done = tmp_path / "done"
    source = scripted.generated("users", 50_000, text="x" * 1000).touches(done).source()
    with source.read([USERS]) as items:
        first = next(items).batch.num_rows
        assert not done.exists()
        assert first + sum(item.batch.num_rows for item in items) == 50_000
    assert done.exists()


# Failures


def test_the_error_of_the_source_comes_before_its_internal_message(scripted):
    heard = []
    source = scripted.error("The token is no longer valid", "401 from /users", stack_trace="Traceback: deep").exits(1)
    message = failure_of(source.source(), log=lambda *entry: heard.append(entry))
    assert message.index("The token is no longer valid") < message.index("401 from /users")
    assert "exit code 1" in message
    assert "Traceback" not in message
    assert ("DEBUG", "Traceback: deep") in heard


def test_an_error_fails_the_read_even_if_the_source_exits_with_0(scripted):
    assert "went wrong" in failure_of(scripted.records("users", {"id": 1}).error("it went wrong").source())


def test_records_after_an_error_are_still_yielded(scripted):
    source = scripted.error("users failed").records("orders", {"id": 1}).source()
    with source.read([USERS, ORDERS]) as items:
        assert data_of([next(items)], "orders") == [{"id": 1}]
        with pytest.raises(SourceError, match="users failed"):
            next(items)


def test_an_exit_code_is_reported_with_the_last_lines_of_standard_error(scripted):
    lines = "".join(f"line {n}\n" for n in range(50))
    message = failure_of(scripted.records("users", {"id": 1}).stderr(lines).exits(3).source())
    assert "exit code 3" in message
    assert "line 49" in message
    assert "line 30" in message
    assert "line 29" not in message


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_signal_is_reported_by_name(scripted, number):
    assert number.name in failure_of(scripted.records("users", {"id": 1}).dies(number).source())


def test_a_record_cut_off_by_a_crash_is_reported_as_the_crash(scripted):
    source = scripted.writes(b'{"type":"RECORD","record":{"stream":"users","data":{"i').dies(signal.SIGKILL).source()
    with source.read([USERS]) as items, pytest.raises(SourceError, match="SIGKILL"):
        next(items)


def test_a_state_cut_off_by_a_crash_is_reported_as_the_crash(scripted):
    assert "SIGKILL" in failure_of(scripted.writes(b'{"type":"STATE","state":{"da').dies(signal.SIGKILL).source())


@pytest.mark.parametrize(
    "line", [b'{"ty', b'{"type":"RECORD","record":{"stream":"users","data":{"i', b'{"type":"TRACE","trace":{']
)
def test_an_incomplete_last_line_fails_the_sync_even_if_the_source_exits_with_0(scripted, line):
    assert "last line is incomplete" in failure_of(scripted.records("users", {"id": 1}).writes(line).source())


def test_a_stream_without_complete_fails_if_the_source_reports_statuses(scripted):
    scripted.status("users", "STARTED").records("users", {"id": 1}).status("users", "COMPLETE").status(
        "orders", "STARTED"
    )
    message = failure_of(scripted.source(), USERS, ORDERS)
    assert "without reporting COMPLETE for: orders" in message


def test_complete_for_every_selected_stream_is_a_success(scripted):
    source = scripted.status("users", "STARTED").records("users", {"id": 1}).status("users", "COMPLETE").source()
    started, batch, complete = items_of(source)
    assert started == StreamStatus(StreamId(None, "users"), "STARTED")
    assert isinstance(batch, StreamBatch)
    assert complete == StreamStatus(StreamId(None, "users"), "COMPLETE")


def test_incomplete_is_an_error_that_names_the_stream(scripted):
    source = scripted.status("users", "COMPLETE").status("orders", "INCOMPLETE").source()
    message = failure_of(source, USERS, ORDERS)
    assert "INCOMPLETE): orders." in message


def test_a_source_need_not_report_statuses(scripted):
    assert len(items_of(scripted.records("users", {"id": 1}).source())) == 1


def test_records_of_a_stream_that_was_not_selected_fail_the_sync(scripted):
    with pytest.raises(SourceError, match="stream orders") as caught:
        items_of(scripted.records("orders", {"id": 1}).source(), USERS)
    assert caught.value.stream == "orders"


def test_a_program_that_is_no_connector_fails_with_its_output(scripted):
    assert "usage: something else" in failure_of(scripted.prints("usage: something else").source())


def test_a_program_without_output_fails(scripted):
    assert "without a single Airbyte message" in failure_of(scripted.source())


def test_a_line_that_never_ends_fails_and_names_the_setting(scripted):
    with pytest.raises(SourceError, match="max_line_mb = 1 MB") as caught:
        items_of(scripted.generated("users", 1, text="x" * (3 << 20)).source(max_line_mb=1))
    assert caught.value.setting == "max_line_mb"


def test_a_long_line_within_the_limit_is_read(scripted):
    (item,) = items_of(scripted.generated("users", 1, text="x" * (3 << 20)).source(max_line_mb=4))
    assert item.batch.nbytes > 3 << 20


def test_a_source_that_closes_its_output_and_keeps_running_is_ended(scripted, monkeypatch):
    monkeypatch.setattr("s3dest_dagster.sources.airbyte.session._EXIT_WAIT_S", 0.3)
    source = scripted.records("users", {"id": 1}).closes_stdout().sleeps(600).source()
    assert "did not end within" in failure_of(source)
    assert not is_known(scripted.calls("read")[0]["pid"])


# The end


def connector_pid(scripted: ScriptedSource) -> int:
    return scripted.calls("read")[-1]["pid"]


def test_leaving_early_ends_the_connector_with_sigterm(scripted, tmp_path):
    noted = tmp_path / "sigterm"
    source = scripted.notes_sigterm(noted).records("users", {"id": 1}).state("users", {}).sleeps(600).source()
    with source.read([USERS]) as items:
        next(items)
        assert is_running(connector_pid(scripted))
    assert noted.exists()
    assert not is_known(connector_pid(scripted))


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_ends_the_connector(scripted, interruption):
    source = scripted.records("users", {"id": 1}).state("users", {}).sleeps(600).source()

    def land(items) -> None:
        next(items)
        raise interruption

    with pytest.raises(interruption), source.read([USERS]) as items:
        land(items)
    assert not is_known(connector_pid(scripted))


def test_a_connector_that_ignores_sigterm_is_killed(scripted):
    source = scripted.ignores_sigterm().records("users", {"id": 1}).state("users", {}).sleeps(600)
    with source.source(stop_grace_s=0.2).read([USERS]) as items:
        next(items)
    assert not is_known(connector_pid(scripted))


def test_a_connector_that_is_blocked_while_writing_is_ended(scripted):
    with scripted.generated("users", 50_000, text="x" * 1000).source().read([USERS]) as items:
        next(items)
    assert not is_known(connector_pid(scripted))


def test_a_grandchild_is_ended_with_the_connector(scripted, tmp_path):
    pid_file = tmp_path / "pid"
    source = scripted.spawns_grandchild(pid_file).records("users", {"id": 1}).state("users", {}).sleeps(600)
    with source.source(stop_grace_s=0.2).read([USERS]) as items:
        next(items)
        grandchild = int(pid_file.read_text())
        assert is_running(grandchild)
    assert is_soon_gone(grandchild)


def test_a_grandchild_that_keeps_the_output_open_does_not_delay_the_end(scripted, tmp_path):
    pid_file = tmp_path / "pid"
    source = scripted.spawns_grandchild(pid_file).records("users", {"id": 1}).source()
    assert data_of(items_of(source)) == [{"id": 1}]
    assert is_soon_gone(int(pid_file.read_text()))


def test_no_file_descriptor_is_left_open(scripted):
    source = scripted.records("users", {"id": 1}).source()
    items_of(source)
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        items_of(source)
        with source.read([USERS]) as items:
            next(items)
    assert sorted(os.listdir("/proc/self/fd")) == before


# Arguments of the calls


def read_call(scripted: ScriptedSource) -> dict:
    return scripted.calls("read")[-1]


def test_config_catalog_and_state_are_private_files_that_do_not_outlive_the_read(scripted):
    source = scripted.log("INFO", "done").source({"password": "hunter22"})
    items_of(source, state=[b'{"type":"STREAM","stream":{"stream_descriptor":{"name":"users"}}}'])
    call = read_call(scripted)
    assert call["files"]["config"] == {"password": "hunter22"}
    assert call["modes"] == {"config": "0o600", "catalog": "0o600", "state": "0o600"}
    assert set(call["directory_modes"]) == {"0o700"}
    assert not any(Path(path).exists() or Path(path).parent.exists() for path in call["paths"])
    assert "hunter22" not in " ".join(call["argv"])


def test_the_files_are_created_in_the_configured_directory(scripted, tmp_path):
    items_of(scripted.log("INFO", "done").source(temporary_directory=str(tmp_path)))
    assert all(Path(path).is_relative_to(tmp_path) for path in read_call(scripted)["paths"])


def test_states_are_passed_as_a_list(scripted):
    states = [json.dumps({"type": "STREAM", "stream": {"stream_descriptor": {"name": n}}}).encode() for n in "ab"]
    items_of(scripted.log("INFO", "done").source(), state=states)
    assert read_call(scripted)["files"]["state"] == [json.loads(state) for state in states]


def test_a_legacy_state_is_passed_as_its_data(scripted):
    items_of(scripted.log("INFO", "done").source(), state=[b'{"data":{"since":"2024"}}'])
    assert read_call(scripted)["files"]["state"] == {"since": "2024"}


@pytest.mark.parametrize("state", [None, []])
def test_no_state_is_passed_without_a_state(scripted, state):
    items_of(scripted.log("INFO", "done").source(), state=state)
    assert "state" not in read_call(scripted)["files"]


def test_a_yielded_state_is_passed_to_the_next_read(scripted):
    source = scripted.state("users", {"at": 7}).source()
    (state,) = items_of(source)
    items_of(source, state=[state.state])
    (passed,) = read_call(scripted)["files"]["state"]
    assert passed["stream"]["stream_state"] == {"at": 7}


def test_the_config_contains_the_partition(scripted):
    source = scripted.log("INFO", "done").source({"start": "{{ partition_key }}T00:00:00Z"})
    items_of(source, config_values={"partition_key": "2024-01-31"})
    assert read_call(scripted)["files"]["config"] == {"start": "2024-01-31T00:00:00Z"}


def test_the_environment_reaches_the_connector(tmp_path):
    log = '{"type":"LOG","log":{"level":"INFO","message":"%s"}}'
    program = tmp_path / "source"
    program.write_text(f"#!/bin/sh\nprintf '{log}\\n' \"$GREETING\"\n")
    program.chmod(0o755)
    heard = []
    catalog = Catalog({"streams": [{"name": "users"}]})
    source = AirbyteSource(str(program), env={"GREETING": "hello"}, catalog=catalog)
    items_of(source, log=lambda *entry: heard.append(entry))
    assert heard == [("INFO", "hello")]


def test_a_known_catalog_makes_discovery_unnecessary(scripted):
    source = scripted.log("INFO", "done").source(catalog=Catalog(scripted.catalog))
    items_of(source)
    assert [call["verb"] for call in scripted.calls()] == ["read"]


def test_the_configured_catalog_selects_the_streams_with_their_modes(scripted):
    items_of(scripted.log("INFO", "done").source(), ORDERS)
    (entry,) = read_call(scripted)["files"]["catalog"]["streams"]
    assert (entry["stream"]["name"], entry["sync_mode"]) == ("orders", "full_refresh")


def test_an_append_stream_is_read_incrementally(tmp_path):
    scripted = ScriptedSource(tmp_path).stream("users", default_cursor_field=["updated"]).log("INFO", "done")
    items_of(scripted.source(), Stream(name="users", sync_mode=SyncMode.APPEND))
    (entry,) = read_call(scripted)["files"]["catalog"]["streams"]
    assert (entry["sync_mode"], entry["cursor_field"]) == ("incremental", ["updated"])


def test_a_stream_that_the_source_does_not_have_is_refused_before_the_read(scripted):
    with pytest.raises(SettingsError, match="Did you mean 'users'"):
        items_of(scripted.source(), Stream(name="user"))
    assert scripted.calls("read") == []


def test_an_empty_selection_is_refused(scripted):
    with pytest.raises(SettingsError, match="at least one"), scripted.source().read([]):
        pass


# Secrets


def test_secrets_stay_out_of_logs_and_errors(scripted):
    heard = []
    scripted.log("INFO", "using hunter22").stderr("with hunter22\n").prints("plain hunter22")
    scripted.error("hunter22 refused", "hunter22 again", stack_trace="hunter22").exits(1)
    message = failure_of(scripted.source({"password": "hunter22"}), log=lambda *entry: heard.append(entry))
    assert "hunter22" not in message
    assert "**** refused" in message
    assert "hunter22" not in str(heard)
    assert ("INFO", "using ****") in heard


def test_secrets_of_the_environment_stay_out_of_logs(scripted):
    heard = []
    source = scripted.log("INFO", "using abcd1234").source(env={"API_TOKEN": "abcd1234"})
    items_of(source, log=lambda *entry: heard.append(entry))
    assert ("INFO", "using ****") in heard


def test_a_source_shows_neither_config_nor_environment(scripted):
    shown = repr(scripted.source({"password": "hunter22"}, env={"API_TOKEN": "abcd1234"}))
    assert "hunter22" not in shown
    assert "abcd1234" not in shown


# Silence


def test_a_source_that_stalls_is_ended_with_a_sentence_that_names_the_setting(scripted):
    source = scripted.records("users", {"id": 1}).sleeps(600).source(stall_timeout_s=0.6)
    with pytest.raises(SourceError, match=r"stalls: it has written nothing for .* stall_timeout_s is 0\.6") as caught:
        items_of(source)
    assert caught.value.setting == "stall_timeout_s"
    assert not is_known(connector_pid(scripted))


def test_a_check_that_stalls_is_ended_too(scripted):
    with pytest.raises(SourceError, match="stalls"):
        scripted.on("check").sleeps(600).source(stall_timeout_s=0.6).check()


def test_standard_error_is_a_sign_of_life(scripted):
    """The source writes there for longer than it may be silent. Without these signs of life, its last message would
    never arrive."""
    for _ in range(8):
        scripted.stderr("waiting for the service\n").sleeps(0.5)
    assert data_of(items_of(scripted.records("users", {"id": 1}).source(stall_timeout_s=3))) == [{"id": 1}]


def test_the_time_that_the_reader_needs_is_not_silence(scripted):
    scripted.records("users", {"id": 1}).state("users", {}).records("users", {"id": 2})
    with scripted.source(stall_timeout_s=3).read([USERS]) as items:
        next(items)
        time.sleep(3.5)
        assert data_of(items) == [{"id": 2}]


def test_without_a_timeout_a_source_may_be_silent(scripted):
    source = scripted.sleeps(1.2).records("users", {"id": 1}).source(stall_timeout_s=None)
    assert data_of(items_of(source)) == [{"id": 1}]
    with pytest.raises(SettingsError, match="stall_timeout_s"):
        scripted.source(stall_timeout_s=0)
