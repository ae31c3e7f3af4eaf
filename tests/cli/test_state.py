"""`s3dest state` shows, sets and resets the states that sources resume from, and nothing beyond the request."""

from __future__ import annotations

import json

import pytest
from airbyte_messages import log, record, state

APPEND = {"mode": "append"}


def of(name: str, value: int, namespace: str | None = "public"):
    """The state object of a stream."""
    return json.loads(state(name, value, namespace))["state"]


def shared(value: int, kind: str = "GLOBAL"):
    return {"type": kind, "global": {"shared_state": {"at": value}, "stream_states": []}, "data": {"at": value}}


@pytest.fixture
def landed(lake):
    """Two append streams with states."""
    messages = record("users", id=1) + state("users", 1) + record("orders", id=2) + state("orders", 2)
    assert lake.write(messages, streams=("users", "orders"), **APPEND).returncode == 0
    return lake


def run(lake, *arguments: str, stdin: str = ""):
    return lake.run("state", arguments[0], "--config", lake.config(), *arguments[1:], stdin=stdin)


def shown(lake, *arguments: str):
    answer = run(lake, "show", *arguments)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


INVALID = [
    ("", "no JSON"),
    ("[]", "no state"),
    ("{", "no JSON"),
    ("[1]", "no Airbyte state"),
    ('{"type": "STREAM"}', "names no stream"),
    ('{"cursor": 5}', "neither a type nor data"),
    ('{"data": "opaque"}', "data is not an object"),
    (
        json.dumps({**of("users", 9), "stream": {**of("users", 9)["stream"], "stream_state": [9]}}),
        "not an object",
    ),
    ('{"type": "GLOBAL", "global": {"shared_state": 5}}', "shared_state is not an object"),
    (log("hello"), "no Airbyte state"),
    (state("users", 9) + "torn", "no JSON"),
]
"""Texts that are no states, each with a part of the message."""


def assert_refused(answer, code: int, *parts: str) -> None:
    (line,) = (line for line in answer.stderr.splitlines() if line.startswith("Error: "))
    assert (answer.returncode, answer.stdout) == (code, "")
    assert all(part in line for part in parts), line


def assert_nothing_changed(lake, answer, code: int, *parts: str) -> None:
    assert_refused(answer, code, *parts)
    assert shown(lake) == [of("orders", 2), of("users", 1)]


def test_show_prints_what_a_source_accepts_as_its_state(landed):
    assert shown(landed) == [of("orders", 2), of("users", 1)]
    assert shown(landed, "--catalog", landed.catalog("users")) == [of("users", 1)]


def test_numbers_are_shown_and_stored_as_the_source_wrote_them(lake):
    written = state("users", 0).replace('"cursor": 0', '"cursor": 1e400, "n": 0.10000000000000000001')
    lake.write(record("users", id=1) + written, **APPEND)
    answer = run(lake, "show")
    assert '"cursor": 1e400' in answer.stdout
    assert '"n": 0.10000000000000000001' in answer.stdout
    run(lake, "reset", "--all")
    assert run(lake, "set", "--state", "-", stdin=answer.stdout).returncode == 0
    assert run(lake, "show").stdout == answer.stdout


class TestSet:
    def test_the_output_of_show_can_be_set_and_the_previous_state_is_reported(self, landed):
        kept = landed.file("kept.json", run(landed, "show").stdout)
        later = record("users", id=3) + state("users", 3)
        assert landed.write(later, **APPEND).returncode == 0
        answer = run(landed, "set", "--state", kept)
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.splitlines() == [
            "public.orders: it has this state already",
            f"public.users: state set; before: {json.dumps(of('users', 3), separators=(',', ':'))}",
        ]
        assert shown(landed) == [of("orders", 2), of("users", 1)]
        assert landed.ids() == [1, 3]

    def test_forwarded_states_can_be_set_and_the_last_of_a_stream_counts(self, landed):
        messages = state("users", 5) + state("orders", 6) + state("users", 7)
        assert run(landed, "set", "--state", "-", stdin=messages).returncode == 0
        assert shown(landed) == [of("orders", 6), of("users", 7)]

    def test_a_stream_that_has_not_landed_begins_with_the_state(self, lake):
        """A bucket, together with the state of its sources, is taken over."""
        answer = run(lake, "set", "--state", "-", stdin=json.dumps(of("users", 5)))
        assert answer.stdout == "public.users: state set; before: none\n"
        assert lake.write(record("users", id=6), **APPEND).returncode == 0
        assert (shown(lake), lake.ids()) == ([of("users", 5)], [6])

    def test_only_the_name_in_the_bucket_has_the_stream_prefix(self, lake):
        config = lake.config(s3dest={"stream_prefix": "raw_", "max_attempts": 1})
        options = ["--config", config, "--state", "-"]
        answer = lake.run("state", "set", *options, stdin=json.dumps(of("users", 5)))
        assert answer.stdout == "public.raw_users: state set; before: none\n"
        reset = lake.run("state", "reset", "--config", config, "--stream", "public.users")
        assert reset.stdout.startswith("public.raw_users: state forgotten")

    def test_the_answer_for_programs_is_json(self, landed):
        answer = run(landed, "set", "--state", "-", "--json", stdin=json.dumps([of("users", 9), of("orders", 2)]))
        assert json.loads(answer.stdout) == [
            {
                "stream": "users",
                "namespace": "public",
                "changed": True,
                "before": of("users", 1),
                "state": of("users", 9),
            },
            {
                "stream": "orders",
                "namespace": "public",
                "changed": False,
                "before": of("orders", 2),
                "state": of("orders", 2),
            },
        ]

    @pytest.mark.parametrize("kind", ["GLOBAL", "LEGACY"])
    def test_a_global_state_applies_to_the_named_streams(self, landed, kind):
        text = json.dumps(shared(7, kind))
        refused = run(landed, "set", "--state", "-", stdin=text)
        assert_nothing_changed(landed, refused, 2, "GLOBAL, LEGACY", "--catalog", "--stream")
        assert run(landed, "set", "--state", "-", "--stream", "public.users", stdin=text).returncode == 0
        assert shown(landed) == [of("orders", 2), shared(7, kind)]
        both = landed.catalog("users", "orders", mode="append")
        assert run(landed, "set", "--state", "-", "--catalog", both, stdin=text).returncode == 0
        assert shown(landed) == [shared(7, kind)]

    def test_a_stream_that_was_not_selected_is_refused_before_any_change(self, landed):
        text = json.dumps([of("users", 9), of("orders", 9)])
        for narrowed in (["--stream", "public.users"], ["--catalog", landed.catalog("users")]):
            answer = run(landed, "set", "--state", "-", *narrowed, stdin=text)
            assert_nothing_changed(landed, answer, 2, "public.orders")

    def test_an_invalid_state_is_reported_with_its_file(self, landed):
        for text, part in INVALID:
            answer = run(landed, "set", "--state", landed.file("state.json", text))
            assert_refused(answer, 2, part, "state.json")
        assert shown(landed) == [of("orders", 2), of("users", 1)]

    def test_a_missing_file_is_reported(self, landed):
        assert_nothing_changed(landed, run(landed, "set", "--state", "missing.json"), 2, "missing.json")


class TestReset:
    def test_the_state_of_a_named_stream_is_reset_and_reported(self, landed):
        answer = run(landed, "reset", "--stream", "public.users")
        assert answer.returncode == 0, answer.stderr
        previous = answer.stdout.removeprefix("public.users: state forgotten; before: ")
        assert json.loads(previous) == of("users", 1)
        assert shown(landed) == [of("orders", 2)]
        assert landed.ids() == [1]
        assert run(landed, "reset", "--stream", "public.users").stdout == "public.users: it has no state to forget\n"

    def test_a_catalog_names_the_streams(self, landed):
        assert run(landed, "reset", "--catalog", landed.catalog("orders")).returncode == 0
        assert shown(landed) == [of("users", 1)]

    def test_all_states_are_reset_only_on_explicit_request(self, landed):
        assert_nothing_changed(landed, run(landed, "reset"), 2, "--stream", "--catalog", "--all")
        assert_nothing_changed(landed, run(landed, "reset", "--all", "--stream", "public.users"), 2, "--all")
        answer = run(landed, "reset", "--all", "--json")
        assert [(each["stream"], each["state"]) for each in json.loads(answer.stdout)] == [
            ("orders", None),
            ("users", None),
        ]
        assert shown(landed) == []

    def test_an_unknown_name_is_reported_before_any_change(self, landed):
        answer = run(landed, "reset", "--stream", "public.users", "--stream", "public.user")
        assert_nothing_changed(landed, answer, 2, "'public.user'", "public.orders, public.users")


BROKEN = [
    '{"type":"GLOBAL"}',
    '{"type":"GLOBAL","global":["x"]}',
    '{"type":"GLOBAL","global":{"stream_states":{}}}',
    '{"type":"GLOBAL","global":{"stream_states":[{"stream_descriptor":"users"}]}}',
    '{"type":"GLOBAL","global":{"stream_states":[{"stream_descriptor":{"name":["users"]}}]}}',
    '{"type":"STREAM"}',
    '{"type":"STREAM","stream":{"stream_descriptor":{"name":5}}}',
    '{"type":"STREAM","stream":{"stream_descriptor":{"name":"users","namespace":{}}}}',
    '{"type":"LEGACY"}',
    '{"type":"LEGACY","data":null}',
    '{"type":["STREAM"]}',
    "{}",
    "[]",
    '"x"',
    "null",
    "1e999",
]


def test_a_broken_state_is_never_committed(landed):
    for broken in BROKEN:
        line = f'{{"type":"STATE","state":{broken}}}\n'
        answer = landed.write(record("users", id=3) + line, streams=("users", "orders"), **APPEND)
        assert answer.returncode == 1, broken
        assert "STATE message that cannot be read" in answer.stderr, broken
    assert shown(landed) == [of("orders", 2), of("users", 1)]
    assert landed.write(record("users", id=4) + state("users", 4), **APPEND).returncode == 0
    assert shown(landed) == [of("orders", 2), of("users", 4)]
    assert landed.ids("users") == [1, 4]
