"""The other calls of a connector (spec, check, discover), and the settings of a source."""

from __future__ import annotations

import signal

import pytest
from scripted_source import ScriptedSource, is_known

from s3dest_dagster.errors import SettingsError, SourceError
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.stream import StreamId


@pytest.fixture
def scripted(tmp_path):
    return ScriptedSource(tmp_path).stream("users", namespace="public").stream("orders")


def check_answer(scripted: ScriptedSource, status: str, message: str | None = None) -> ScriptedSource:
    answer = {"status": status, "message": message}
    return scripted.on("check").message({"type": "CONNECTION_STATUS", "connectionStatus": answer})


def test_spec_returns_the_specification_and_needs_no_config(scripted):
    assert scripted.source().spec() == {"connectionSpecification": {"type": "object"}}
    assert scripted.calls("spec")[0]["files"] == {}


def test_check_returns_when_the_connector_succeeds(scripted):
    scripted.source({"host": "h"}).check()
    assert scripted.calls("check")[0]["files"] == {"config": {"host": "h"}}


@pytest.mark.parametrize("code", [0, 1])
def test_a_failed_check_reports_the_reason_of_the_connector_whatever_its_exit_code(scripted, code):
    source = check_answer(scripted, "FAILED", "no such host").exits(code).source()
    with pytest.raises(SourceError, match=r"cannot connect: no such host$"):
        source.check()


def test_a_failed_check_without_a_reason_is_reported_as_such(scripted):
    with pytest.raises(SourceError, match="gave no reason"):
        check_answer(scripted, "FAILED").source().check()


def test_a_failed_check_shows_no_secret(scripted):
    source = check_answer(scripted, "FAILED", "hunter22 is wrong").source({"password": "hunter22"})
    with pytest.raises(SourceError, match=r"\*\*\*\* is wrong"):
        source.check()


def test_a_check_that_reports_an_error_fails_with_it(scripted):
    with pytest.raises(SourceError, match="it broke"):
        scripted.on("check").error("it broke").exits(1).source().check()


def test_a_check_that_crashes_fails_with_the_exit_code(scripted):
    source = scripted.on("check").stderr("cannot import x\n").dies(signal.SIGKILL).source()
    with pytest.raises(SourceError, match=r"SIGKILL(?s:.*)cannot import x"):
        source.check()


def test_a_check_without_an_answer_fails(scripted):
    with pytest.raises(SourceError, match="without a CONNECTION_STATUS message"):
        scripted.on("check").log("INFO", "hello").source().check()


def test_logs_of_a_check_are_forwarded(scripted):
    heard = []
    source = check_answer(scripted, "SUCCEEDED").log("WARN", "slow").source()
    source.check(log=lambda *entry: heard.append(entry))
    assert heard == [("WARN", "slow")]


def test_discover_returns_the_catalog_unchanged(scripted):
    catalog = scripted.source().discover()
    assert catalog.raw == scripted.catalog
    assert [stream.id for stream in catalog.streams] == [StreamId("public", "users"), StreamId(None, "orders")]


def test_discover_finds_the_catalog_among_other_lines(scripted):
    scripted.on("discover").prints("starting up").message({"type": "CATALOG", "catalog": scripted.catalog}).log(
        "INFO", "x"
    )
    assert scripted.source().discover().raw == scripted.catalog


def test_a_catalog_of_many_megabytes_is_read(tmp_path):
    wide = {f"field_{n}": {"type": "string", "description": "x" * 1000} for n in range(3000)}
    scripted = ScriptedSource(tmp_path).stream("wide", properties=wide)
    assert scripted.source().discover().raw == scripted.catalog


def test_discover_without_a_catalog_fails_with_the_output(scripted):
    with pytest.raises(SourceError, match="usage: x"):
        scripted.on("discover").prints("usage: x").source().discover()


def test_a_malformed_message_fails(scripted):
    with pytest.raises(SourceError, match="CATALOG message cannot be read"):
        scripted.on("discover").message({"type": "CATALOG", "catalog": [1]}).source().discover()


@pytest.mark.parametrize("verb", ["check", "discover"])
def test_check_and_discover_accept_the_values_of_a_partition(scripted, verb):
    source = scripted.source({"start": "{{ partition_key }}"})
    getattr(source, verb)(config_values={"partition_key": "eu"})
    assert scripted.calls(verb)[0]["files"] == {"config": {"start": "eu"}}


@pytest.mark.parametrize("verb", ["spec", "check", "discover"])
def test_no_process_is_left_behind(scripted, verb):
    getattr(scripted.source(), verb)()
    assert not is_known(scripted.calls(verb)[0]["pid"])


# Settings


def test_a_command_can_be_a_text_with_quotes(scripted):
    command = " ".join(f"'{part}'" for part in scripted.source().command)
    AirbyteSource(command, {}).check()
    assert len(scripted.calls("check")) == 1


@pytest.mark.parametrize("command", ["", "   ", []])
def test_an_empty_command_is_refused(command):
    with pytest.raises(SettingsError, match="command is empty"):
        AirbyteSource(command)


def test_a_command_with_an_open_quote_is_refused():
    with pytest.raises(SettingsError, match="quotation"):
        AirbyteSource("source 'x")


def test_a_command_that_does_not_exist_is_refused_by_its_name():
    with pytest.raises(SettingsError, match="'source-that-is-nowhere' cannot be started") as caught:
        AirbyteSource("source-that-is-nowhere").check()
    assert caught.value.setting == "command"


def test_a_config_that_is_not_json_is_refused_without_its_values():
    with pytest.raises(SettingsError, match="config cannot be written as JSON") as caught:
        AirbyteSource("source", {"password": "hunter22", "x": object()}).check()
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("setting", ["max_line_mb", "buffer_mb", "stop_grace_s"])
def test_limits_must_be_above_zero(setting):
    with pytest.raises(SettingsError, match=setting):
        AirbyteSource("source", **{setting: 0})


def test_an_invalid_state_is_refused(scripted):
    source = scripted.source()
    with (
        pytest.raises(SettingsError, match="no Airbyte state"),
        source.read(source.discover().streams, state=[b"nope"]),
    ):
        pass
