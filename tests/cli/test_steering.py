"""No text from a source, a stream name or a bucket can control the terminal of the user."""

import json
import re

import pytest
from airbyte_messages import EMITTED_AT, log

NAME = "us\x1b]0;title\x07\u202eers\nError: all is lost [red]\x7f\x9b2J"
SHOWN = r"us\x1b]0;title\x07\u202eers\nError: all is lost [red]\x7f\x9b2J"
HOSTILE = "hi\x1b[2J\x1b]52;c;cm0gLXJm\x07\r\nERROR: forged\x9b"
STEERING = ["\x1b]0;", "\x1b]52;", "\x1b[2J", "\x07", "\x7f", "\x9b", "\u202e", "\x1b[31mprinted"]
FORGED = re.compile(r"^(?:Error: all is lost|ERROR: forged)", re.MULTILINE)


@pytest.fixture
def catalog(lake) -> str:
    described = {"name": NAME, "json_schema": {"properties": {"i\x1bd": {"type": "integer"}}}}
    modes = {"sync_mode": "full_refresh", "destination_sync_mode": "append"}
    return lake.file("hostile.json", {"streams": [{"stream": described, **modes}]})


def messages(*, name: str = NAME) -> str:
    record = {"type": "RECORD", "record": {"stream": name, "data": {"id": 1}, "emitted_at": EMITTED_AT}}
    descriptor = {"name": name}
    state = {"type": "STREAM", "stream": {"stream_descriptor": descriptor, "stream_state": {"a": "\u202e\x7f"}}}
    raw_state = json.dumps({"type": "STATE", "state": state}, ensure_ascii=False)
    return f"{log(HOSTILE)}\x1b[31mprinted\n{json.dumps(record)}\n{raw_state}\n"


def assert_harmless(*texts: str) -> None:
    for text in texts:
        assert [each for each in STEERING if each in text] == []
        assert not FORGED.search(text)


@pytest.mark.parametrize("of", ["stdout", "stderr"])
def test_a_sync_and_its_inspection_send_no_control_sequences_to_a_terminal(lake, catalog, of):
    config = ("--config", lake.config())
    calls = [
        (("write", *config, "--catalog", catalog), messages()),
        (("plan", *config, "--catalog", catalog), ""),
        *(((*verb, *config), "") for verb in (("ls",), ("verify",), ("recover",), ("sweep",), ("state", "show"))),
        (("state", "reset", *config, "--all"), ""),
    ]
    for arguments, stdin in calls:
        answer, shown = lake.on_terminal(*arguments, stdin=stdin, of=of)
        assert answer.returncode == 0, (arguments, answer, shown)
        assert_harmless(answer.stderr, shown, *(() if arguments[0] == "write" else (answer.stdout,)))


def test_a_name_is_shown_with_its_escapes(lake, catalog):
    lake.run("write", "--config", lake.config(), "--catalog", catalog, stdin=messages())
    answer = lake.run("verify", "--config", lake.config())
    assert SHOWN in answer.stdout


def test_an_error_with_a_stream_name_cannot_imitate_another_error(lake, catalog):
    arguments = ("write", "--config", lake.config(), "--catalog", catalog)
    answer = lake.run(*arguments, stdin=messages(name=f"{NAME}2"))
    assert answer.returncode == 1
    assert_harmless(answer.stderr)


@pytest.mark.parametrize("option", ["--config", "--catalog"])
def test_a_call_with_a_hostile_path_sends_no_control_sequences(lake, option):
    answer = lake.run("plan", option, HOSTILE)
    assert answer.returncode == 2
    assert_harmless(answer.stderr)


def test_json_stays_json(lake, catalog):
    config = ("--config", lake.config())
    lake.run("write", *config, "--catalog", catalog, stdin=messages())
    for arguments in (("ls",), ("verify",), ("plan", "--catalog", catalog), ("state", "show")):
        answer = lake.run(*arguments, *config, *(() if arguments[0] == "state" else ("--json",)))
        assert_harmless(answer.stdout)
        assert json.dumps(NAME)[1:-1].replace("\x7f", r"\u007f") in answer.stdout
        json.loads(answer.stdout)


def test_a_state_is_forwarded_unchanged_to_programs(lake, catalog):
    answer = lake.run("write", "--config", lake.config(), "--catalog", catalog, stdin=messages())
    assert answer.stdout.splitlines()[-1] == messages().splitlines()[-1]
