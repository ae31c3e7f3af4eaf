"""Odd messages in one input: everything that is a record lands, in every format, and every state comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airbyte_messages import log, state_line

from .conftest import FORMATS, VERSIONS, rows_of, without_count

SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": ["null", "object"],
    "additionalProperties": True,
    "properties": {
        "day": {"type": "string", "format": "date"},
        "at": {"type": "string", "format": "date-time"},
        "number": {"type": "number"},
        "integer": {"type": "integer"},
        "either": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        "anything": {},
        "none": {"type": []},
        "fixed": {"const": 5},
        "_airbyte_ab_id": {"type": "string"},
        "Day": {"type": "boolean"},
        "": {"type": "string"},
    },
}
ODD_RECORDS = [
    "{}",
    '{"day":"2020-02-30","at":"2021-01-23T25:00:00Z"}',
    '{"day":"-0044-03-15","at":"10000-01-01T00:00:00+99:00"}',
    '{"day":"","at":"23:59:60Z"}',
    '{"number":1e400,"integer":9223372036854775808}',
    f'{{"number":0.{"0" * 400}1,"integer":-1{"0" * 400}}}',
    '{"number":-0.0,"integer":1.0}',
    '{"number":"NaN","integer":true}',
    '{"day":"2021-01-23","day":"2021-01-24","day":null}',
    f'{{"anything":{"[" * 400}1{"]" * 400}}}',
    '{"anything":' * 400 + "1" + "}" * 400,
    '{"either":{"not":"either"},"none":1,"fixed":6}',
    '{"_airbyte_ab_id":"mine","_airbyte_data":{"a":1},"Day":"x","":"nameless"}',
    '{"\\u0000":"\\u0000","\u202e":"\U0001f4a5","e\\u0301":"\\ud834\\udd1e","\u00e9":"\u2028"}',
    '{"a long name":[null,[],{},"",[[]]]}'.replace("name", "name" * 100),
]
IGNORED = [
    '{"type":"LATER","later":{"a":[1]}}',
    '{"type":"TRACE","trace":{"type":"LATER","emitted_at":1}}',
    '{"type":"TRACE","trace":{"type":"ANALYTICS","emitted_at":1,"analytics":{"type":"a","value":"b"}}}',
    '{"type":"CONTROL","control":{"type":"LATER","emitted_at":1}}',
    '{"type":"DESTINATION_CATALOG"}',
    '{"type":null}',
    "plain text of the source",
    "[]",
    "null",
    "",
    state_line("nobody", {"of": "another catalog"}),
]
STATES: list[dict[str, Any]] = [
    {"type": "STREAM", "stream": {"stream_descriptor": {"name": "odd"}, "stream_state": None}, "later": [1]},
    {"data": {"legacy": 1}},
    {"type": "LEGACY", "data": {}},
    {
        "type": "GLOBAL",
        "global": {
            "shared_state": {"lsn": 12345678901234567890},
            "stream_states": [{"stream_descriptor": {"name": "nobody"}, "stream_state": {}}],
        },
        "sourceStats": {"recordCount": 3.0},
    },
]


def odd_record(number: int, namespace: str | None) -> str:
    """One of the odd records, with members that are not of the protocol, or null. An empty namespace is none."""
    named = {None: "", "": ',"namespace":""'}.get(namespace, f',"namespace":{json.dumps(namespace)}')
    data = ODD_RECORDS[number % len(ODD_RECORDS)]
    changes = '"meta":{"changes":[{"field":"x","change":"NULLED","reason":"SOURCE_SERIALIZATION_ERROR"}]}'
    content = f'"stream":"odd","later":[{{"a":null}}],"data":{data},"emitted_at":{number},{changes}{named}'
    return f'{{"type":"RECORD","state":null,"later":1,"record":{{{content}}}}}'


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", FORMATS)
def test_odd_messages_land_and_their_states_come_back(connector, kind, version):
    """The states come before, between and after the records, and the same name is in several namespaces."""
    namespaces = [None, "", "one", "two"]
    records = [odd_record(number, each) for each in namespaces for number in range(len(ODD_RECORDS))]
    states = [json.dumps({"type": "STATE", "state": each}) for each in STATES]
    half = len(records) // 2
    lines = [*states, *records[:half], *IGNORED, *states, *records[half:], log("later").strip(), *states]
    catalog = [
        {
            "stream": {"name": "odd", "json_schema": SCHEMA, **named, "later": {}},
            "sync_mode": "full_refresh",
            "destination_sync_mode": "append",
            "later": 1,
        }
        for named in ({}, {"namespace": "one"}, {"namespace": "two"})
    ]
    own = {"max_attempts": 1, "encode_workers": 1, **VERSIONS[version]}
    result = connector.sync("\n".join(lines) + "\n", *catalog, format=FORMATS[kind], s3dest=own)
    assert result.code == 0, result.errors
    returned = [without_count(each) for each in result.states]
    for names_stream in (True, False):  # the order is that of arrival, for each stream and for all streams together
        expected = [each for each in STATES if ("stream" in each) == names_stream] * 3
        assert [each for each in returned if ("stream" in each) == names_stream] == expected
    assert sum(each["destinationStats"]["recordCount"] for each in result.states) == len(records)
    assert sum(rows_of(kind, connector.read(key)) for key in connector.data_keys()) == len(records)
