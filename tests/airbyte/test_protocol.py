"""Each verb answers with the messages that the protocol has for it, and nothing else is on standard output."""

import json

import pytest
from airbyte_messages import log, record, state, status
from jsonschema import Draft7Validator

from .conftest import configured


def only(messages: list[dict], kind: str) -> dict:
    """The one message of this kind."""
    (found,) = [each for each in messages if each["type"] == kind]
    return found


@pytest.mark.parametrize("arguments", [("spec",), ("spec", "--config", "no-such-file")], ids=["bare", "with a config"])
def test_spec_is_one_valid_specification(connector, arguments):
    result = connector.call(*arguments)
    assert (result.code, len(result.messages)) == (0, 1)
    specification = only(result.messages, "SPEC")["spec"]
    Draft7Validator.check_schema(specification["connectionSpecification"])
    assert specification["documentationUrl"].startswith("https://")
    assert specification["supported_destination_sync_modes"] == ["overwrite", "append"]


@pytest.mark.parametrize("form", ["--config {}", "--config={}"])
def test_check_answers_with_one_status_and_leaves_nothing_behind(connector, form):
    result = connector.call("check", *form.format(connector.config()).split())
    assert (result.code, result.messages) == (
        0,
        [{"type": "CONNECTION_STATUS", "connectionStatus": {"status": "SUCCEEDED"}}],
    )
    assert connector.data_keys() == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"s3_bucket_name": "no-such-bucket-anywhere"}, "no-such-bucket-anywhere"),
        ({"format": {"format_type": "XML"}}, "XML"),
        ({"s3_bucket_path": None}, "s3_bucket_path"),
        ({"s3_endpoint": "http://127.0.0.1:1"}, "127.0.0.1:1"),
    ],
    ids=["bucket", "format", "missing key", "endpoint"],
)
def test_a_wrong_configuration_is_a_failed_status_and_the_call_succeeds(connector, changes, word):
    result = connector.call("check", "--config", connector.config(**changes))
    answer = only(result.messages, "CONNECTION_STATUS")["connectionStatus"]
    assert (result.code, answer["status"]) == (0, "FAILED")
    assert word in answer["message"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("discover", "--config", "x"), "verb of sources"),
        (("read", "--config", "x", "--catalog", "y"), "verb of sources"),
        (("check",), "--config"),
        (("write", "--config", "x"), "--catalog"),
        (("upsert",), "no verb"),
        ((), "no verb"),
        (("check", "--configuration", "x"), "--configuration"),
    ],
    ids=lambda each: " ".join(each) or "nothing" if isinstance(each, tuple) else "",
)
def test_a_wrong_call_is_an_error_message_that_names_the_right_one(connector, arguments, word):
    result = connector.call(*arguments) if arguments else connector.call("")
    (error,) = result.errors
    assert (result.code, error["failure_type"], len(result.messages)) == (2, "config_error", 1)
    assert word in error["message"]
    assert "destination-s3dest spec" in error["message"]
    assert error["message"].endswith(" Help: docs/troubleshooting.md#wrongcallerror")


def test_a_wrong_configuration_of_a_write_is_a_config_error(connector):
    result = connector.sync(record("users", id=1), format={"format_type": "XML"})
    (error,) = result.errors
    assert (result.code, error["failure_type"]) == (1, "config_error")
    assert "XML" in error["message"]


def test_a_failure_of_the_source_is_a_system_error_and_nothing_is_visible(connector):
    messages = record("users", id=1) + state("users", 1) + status("users", "INCOMPLETE")
    result = connector.sync(messages)
    (error,) = result.errors
    assert (result.code, error["failure_type"], result.states) == (1, "system_error", [])
    assert "INCOMPLETE" in error["message"]
    assert connector.data_keys() == []


def test_an_error_names_its_stream(connector):
    messages = record("users", id=1) + record("orders", id=1)
    connector.sync(messages, configured("users", "overwrite"), configured("orders", "overwrite"))
    result = connector.sync(record("users", id=2), configured("users", "overwrite"), configured("orders", "overwrite"))
    (error,) = result.errors
    assert error["stream_descriptor"] == {"name": "orders", "namespace": "public"}
    assert connector.ids("orders") == [1]


def test_all_options_of_write_are_taken_in_any_order_and_form(connector):
    catalog = connector.file("catalog.json", {"streams": [configured("users")]})
    states = connector.file("states.json", "[]")
    arguments = [f"--state={states}", f"--catalog={catalog}", "write", "--config", connector.config(), "--debug"]
    connector.prepare()
    result = connector.call(*arguments, stdin=record("users", id=1))
    assert result.code == 0, result.errors
    assert connector.ids() == [1]


def test_the_streams_end_with_their_statuses(connector):
    result = connector.sync(record("users", id=1) + record("orders", id=2), "users", "orders")
    assert result.statuses == {"users": "COMPLETE", "orders": "COMPLETE"}


def test_what_was_landed_is_logged(connector):
    result = connector.sync(record("users", id=1))
    assert any("public.users: 1 row, 1 object" in text for text in result.logs)


def test_log_lines_of_the_source_go_to_standard_error(connector):
    result = connector.sync("".join(log(f"line {number}") for number in range(2000)) + record("users", id=1))
    assert result.code == 0
    assert not any("line 1999" in text for text in result.logs)
    assert "INFO: line 1999" in result.stderr


def test_unknown_types_and_members_are_ignored(connector):
    more = '{"type": "FUTURE", "future": {"a": 1}}\n{"type": "DESTINATION_CATALOG", "destinationCatalog": {}}\n'
    message = json.loads(record("users", id=1))
    message["record"]["future"] = message["future"] = {"deep": [1]}
    result = connector.sync(more + json.dumps(message) + "\n")
    assert result.code == 0, result.errors
    assert connector.ids() == [1]


def test_secrets_are_in_no_message(connector):
    key = connector.server.secret_access_key
    connector.call("check", "--config", connector.config(s3_bucket_name=key))
    result = connector.sync(record("users", id=1), s3_bucket_path=key)
    assert key not in json.dumps(result.messages)


@pytest.mark.parametrize("mode", ["append_dedup", "overwrite_dedup"])
def test_deduplication_is_refused_with_the_cure(connector, mode):
    result = connector.sync(record("users", id=1), configured("users", mode))
    (error,) = result.errors
    assert error["failure_type"] == "config_error"
    assert '"dedup": "append"' in error["message"]
    assert connector.data_keys() == []


@pytest.mark.parametrize(("mode", "expected"), [("append_dedup", [1, 1]), ("overwrite_dedup", [1])])
def test_deduplication_lands_all_records_with_a_warning_if_the_setting_says_so(connector, mode, expected):
    settings = {"max_attempts": 1, "encode_workers": 1, "dedup": "append"}
    for _ in range(2):
        result = connector.sync(record("users", id=1), configured("users", mode), s3dest=settings)
        assert result.code == 0, result.errors
        assert any("duplicates are not removed from users" in text for text in result.logs)
    assert connector.ids() == expected
