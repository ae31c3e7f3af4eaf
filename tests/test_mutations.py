"""Any malformed message, catalog, configuration or state leads to an error message or quarantine, and never to a
broken state."""

import io
import json
import os
from contextlib import suppress

import pytest
from airbyte_messages import log, record, state, status
from mutations import mutated

from s3dest_dagster.batch import BadRecord, KnownState, State
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.errors import S3DestError
from s3dest_dagster.keys import KeyTemplate
from s3dest_dagster.settings.connector_config import from_connector_config
from s3dest_dagster.sources.airbyte.catalog import read_catalog
from s3dest_dagster.sources.airbyte.session import read_messages
from s3dest_dagster.sources.airbyte.states import Reached, read_states, resumption
from s3dest_dagster.stream import StreamId

COUNT = 30 * int(os.environ.get("S3DEST_EXAMPLES", "12"))
USERS = StreamId("public", "users")
_SHARED = {"stream_descriptor": {"name": "users", "namespace": "public"}, "stream_state": {"a": 1}}
_TRACE = {"type": "ERROR", "error": {"message": "m", "stream_descriptor": {"name": "users"}, "stack_trace": "s"}}
_CHANGED = {"type": "CONNECTOR_CONFIG", "connectorConfig": {"config": {"token": "t"}}, "emitted_at": 1}
STATES = [
    json.loads(state("users", 1)),
    {"type": "STATE", "state": {"type": "GLOBAL", "global": {"shared_state": {}, "stream_states": [_SHARED]}}},
    {"type": "STATE", "state": {"type": "LEGACY", "data": {"users": {"a": 1}}}},
]
MESSAGES = [
    json.loads(record("users", id=1)),
    json.loads(status("users", "COMPLETE")),
    json.loads(log("hello")),
    {"type": "TRACE", "trace": _TRACE},
    {"type": "CONTROL", "control": _CHANGED},
    *STATES,
]
_PROPERTIES = {"id": {"type": ["null", "integer"]}, "a": {"oneOf": [{"$ref": "#/definitions/a"}, {"type": "string"}]}}
_SCHEMA = {
    "type": "object",
    "properties": _PROPERTIES,
    "definitions": {"a": {"type": "array", "items": {"type": "number"}}},
}
_DESCRIBED = {
    "name": "users",
    "namespace": "public",
    "json_schema": _SCHEMA,
    "supported_sync_modes": ["full_refresh", "incremental"],
    "default_cursor_field": ["id"],
}
_MODES = {
    "sync_mode": "incremental",
    "destination_sync_mode": "append",
    "cursor_field": ["id"],
    "primary_key": [["id"]],
}
CATALOG = {"streams": [{"stream": _DESCRIBED, **_MODES}]}
CONFIG = {
    "s3_bucket_name": "lake",
    "s3_bucket_path": "data",
    "s3_bucket_region": "eu-west-1",
    "s3_endpoint": "http://localhost:9000",
    "access_key_id": "a",
    "secret_access_key": "b",
    "s3_path_format": "${STREAM_NAME}/",
    "format": {"format_type": "Avro", "compression_codec": {"codec": "xz", "compression_level": 5}},
    "s3dest": {"object_size_mb": 5, "object_metadata": {"a": "b"}, "format": {}, "max_attempts": 3},
}


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message["type"])
def test_a_mutated_message_is_an_error_or_quarantined_and_its_state_is_readable(message):
    for seed in range(COUNT // 2):
        line = mutated(message, seed)
        items = _read(line + b"\n" + record("users", id=2).encode())
        for item in items:
            if isinstance(item, BadRecord):
                assert item.stream in (None, USERS)
            elif isinstance(item, State):
                _assert_usable(item.state)


def _read(lines: bytes) -> list:
    items = []
    with suppress(S3DestError):
        items += read_messages(io.BytesIO(lines), [USERS], log=lambda level, message: None)
    return items


def _assert_usable(text: bytes) -> None:
    """Checks that a committed state can be shown, set again and resumed from, for this stream and for others."""
    (given,) = read_states(text)
    assert json.loads(given.text, parse_int=str) == json.loads(text, parse_int=str)
    reached = Reached(text.decode(), (KnownState(1, "x", "segment"),))
    resumption({USERS: reached, StreamId(None, "other"): None}, lambda known: None)


@pytest.mark.parametrize("document", STATES, ids=lambda document: document["state"]["type"])
def test_a_mutated_state_that_is_set_is_refused_or_usable(document):
    for seed in range(COUNT):
        text = mutated(document, seed)
        try:
            given = read_states(text)
        except S3DestError:
            continue
        for each in given:
            _assert_usable(each.text.encode())


def test_a_mutated_catalog_is_an_error_or_has_streams(tmp_path):
    path = tmp_path / "catalog.json"
    for seed in range(2 * COUNT):
        path.write_bytes(mutated(CATALOG, seed))
        with suppress(S3DestError):
            catalog = read_catalog(path)
            streams = catalog.streams
            catalog.configure(streams)
            KeyTemplate("lake", "${NAMESPACE}/${STREAM_NAME}/").check_streams([each.id for each in streams])
            for each in streams:
                catalog.is_incremental(each)
                record_type(each.json_schema or {}, each.name, each.namespace)


def test_a_mutated_configuration_is_an_error_or_has_settings():
    for seed in range(2 * COUNT):
        try:
            config = json.loads(mutated(CONFIG, seed))
        except ValueError:
            continue
        with suppress(S3DestError):
            from_connector_config(config)


@pytest.mark.parametrize(
    "stream", ['["x"]', "5", "{}", "null", "true", "1e400", r'"\ud800"', r'"\u0000"', '{"name":"users"}'], ids=ascii
)
def test_a_record_with_an_invalid_stream_name_is_quarantined(stream):
    line = f'{{"type":"RECORD","record":{{"stream":{stream},"data":{{"a":NaN}},"emitted_at":1}}}}\n'
    if stream == r'"\u0000"':
        with pytest.raises(S3DestError, match="not in the catalog"):
            list(read_messages(io.BytesIO(line.encode()), [USERS]))
    else:
        (bad,) = read_messages(io.BytesIO(line.encode()), [USERS])
        assert bad.stream is None
