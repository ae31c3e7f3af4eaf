"""Airbyte messages from a byte stream."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import threading
from collections import defaultdict

import pytest
from airbyte_messages import record_line, state_line
from hypothesis import given, settings
from hypothesis import strategies as st

from s3dest_dagster.batch import BadRecord, SourceFile, State, StreamBatch, StreamStatus
from s3dest_dagster.errors import SourceError
from s3dest_dagster.sources.airbyte.messages import MessageReader
from s3dest_dagster.sources.airbyte.session import read_messages
from s3dest_dagster.sources.airbyte.source_report import SourceReport
from s3dest_dagster.stream import StreamId

USERS = StreamId(None, "users")
ORDERS = StreamId("shop", "orders")
STREAMS = [USERS, ORDERS]


def read(*lines: str | bytes, streams=STREAMS, log=None, end: bytes = b"\n", **options) -> list:
    data = b"\n".join(line.encode() if isinstance(line, str) else line for line in lines) + end
    return list(read_messages(io.BytesIO(data), streams, log=log or (lambda level, message: None), **options))


def raws(items, stream=USERS) -> list[bytes]:
    return [
        bytes(raw)
        for item in items
        if isinstance(item, StreamBatch) and item.stream == stream
        for raw in item.batch.raws
    ]


def bad(items) -> list[BadRecord]:
    return [item for item in items if isinstance(item, BadRecord)]


def user(data: str, emitted_at: str = "5") -> str:
    return f'{{"type":"RECORD","record":{{"stream":"users","data":{data},"emitted_at":{emitted_at}}}}}'


def status(stream: str, value: str) -> str:
    body = {"stream_descriptor": {"name": stream}, "status": value}
    return json.dumps({"type": "TRACE", "trace": {"type": "STREAM_STATUS", "stream_status": body}})


# Records


def test_a_record_keeps_the_text_that_the_source_wrote():
    text = '{"a" : 1.10,  "b":"\\u00e9é","a":12345678901234567890123}'
    assert raws(read(user(text))) == [text.encode()]


def test_a_record_keeps_its_time():
    (item,) = read(user("{}", "1700000000001"), user("{}", "-5"))
    assert item.batch.emitted_at.tolist() == [1700000000001, -5]
    assert str(item.batch.emitted_at.dtype) == "int64"


@pytest.mark.parametrize("namespace", [None, ""])
def test_an_empty_namespace_is_none(namespace):
    (item,) = read(record_line("users", {}, namespace=namespace))
    assert item.stream == USERS


def test_streams_of_the_same_name_are_distinguished_by_namespace():
    streams = [StreamId("a", "t"), StreamId("b", "t")]
    items = read(record_line("t", {"n": 1}, namespace="a"), record_line("t", {"n": 2}, namespace="b"), streams=streams)
    assert raws(items, streams[0]) == [b'{"n": 1}']
    assert raws(items, streams[1]) == [b'{"n": 2}']


def test_members_of_the_envelope_can_have_any_order_and_be_null_or_unknown():
    line = (
        '{"state":null,"log":null,"record":{"emitted_at":5,"new":[1],"data":{"a":1},"stream":"users"},"type":"RECORD"}'
    )
    assert raws(read(line)) == [b'{"a":1}']


@pytest.mark.parametrize("gap", ["\n", "\n\n\n", "\r\n", "\n  \t\n"])
def test_blank_lines_and_carriage_returns_are_ignored(gap):
    items = read(gap.join([user('{"a":1}'), user('{"a":2}')]))
    assert raws(items) == [b'{"a":1}', b'{"a":2}']
    assert bad(items) == []


def test_a_carriage_return_inside_the_json_is_removed():
    assert raws(read(user('{"a":\r1,"b":"x y"}'))) == [b'{"a":1,"b":"x y"}']


def test_the_last_line_needs_no_line_break():
    assert raws(read(user('{"a":1}'), end=b"")) == [b'{"a":1}']


@pytest.mark.parametrize("line", [b'{"ty', b"{", b'{"type":"LOG","log":{"message":"\xc3'])
def test_an_incomplete_last_line_is_an_error_after_all_earlier_items(line):
    items = read_messages(
        io.BytesIO(state_line("users", {"n": 1}).encode() + b"\n" + line), STREAMS, log=lambda *_: None
    )
    assert isinstance(next(items), State)
    with pytest.raises(SourceError, match="last line is incomplete"):
        next(items)


@pytest.mark.parametrize("line", [b'{"ty\n', b'{"ty\n \t', b"bye", b'{"level":"info"}', b" \r"])
def test_a_complete_printed_line_is_not_an_incomplete_one(line):
    assert raws(read(user("{}"), line, end=b"")) == [b"{}"]


def test_a_complete_bad_record_without_a_line_break_is_still_a_bad_record():
    (found,) = bad(read(user("[1]"), end=b""))
    assert "not an object" in found.reason


def test_empty_input_yields_no_item():
    assert read(end=b"") == []


def test_records_of_an_unknown_stream_are_an_error_that_names_it():
    with pytest.raises(SourceError, match=r"stream shop\.customers.*it has: shop\.orders, users") as caught:
        read(record_line("customers", {}, namespace="shop"))
    assert caught.value.stream == "shop.customers"


# Bad lines

BAD_RECORDS = [
    (user("[1]"), "not an object"),
    (user('"x"'), "not an object"),
    (user("null"), "not an object"),
    (user('{"a":NaN}'), "NaN at byte 56 is no JSON number"),
    (user('{"a":-Infinity}'), "-Infinity at byte 56 is no JSON number"),
    (user('{"a":"\\ud800"}'), "half of a surrogate pair (\\ud800)"),
    (user('{"a":"\\ud800x"}'), "half of a surrogate pair (\\ud800)"),
    (user('{"a":"\\udc00\\ud800 and more"}'), "half of a surrogate pair (\\udc00)"),
    (user('{"a":"\\\\\\ud83d\\ude00\\uDBFF\\\\udc00"}'), "half of a surrogate pair (\\uDBFF)"),
    (user('{"a":1,}'), "trailing comma"),
    (user('{"a":"' + "\t" + '"}'), "invalid character"),
    (user('{"a":01}'), "invalid number"),
    (user("[" * 5000 + "]" * 5000), "nested too deeply"),
    (user("{}", "1.5"), "emitted_at"),
    (user("{}", '"now"'), "emitted_at"),
    (user("{}", str(2**63)), "emitted_at"),
    (user("{}", "1700000000000000"), "<= 253402300799999"),
    ('{"type":"RECORD","record":{"stream":"users","data":{}}}', "emitted_at"),
    ('{"type":"RECORD","record":{"stream":"users","emitted_at":5}}', "data"),
    ('{"type":"RECORD","record":{"data":{},"emitted_at":5}}', "stream"),
    ('{"type":"RECORD"}', "no record"),
    ('{"type":"RECORD","record":null}', "no record"),
    (user('{"a":1}')[:-10], "truncated"),
    ('{"record":{"stream":"users"', "truncated"),
    ('{"type": "RECO', "truncated"),
    ("printed by a thread: " + user('{"a":1}'), "malformed"),
    (user('{"a":1}') + user('{"a":2}')[:30], "trailing"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_RECORDS, ids=lambda value: value[:60])
def test_a_bad_record_is_reported_separately_with_its_line_and_reason(line, reason):
    items = read(user('{"n":1}'), line, user('{"n":2}'))
    assert raws(items) == [b'{"n":1}', b'{"n":2}']
    (found,) = bad(items)
    assert found.raw == line.encode()
    assert found.line_number == 2
    assert reason in found.reason


def test_invalid_utf8_is_a_bad_record_of_its_line_only():
    wrong = user('{"a":"x"}').encode().replace(b'"x"', b'"\xff"')
    items = read(user('{"a":"é"}'), wrong, user('{"a":"ü"}'))
    assert raws(items) == ['{"a":"é"}'.encode(), '{"a":"ü"}'.encode()]
    assert [(item.raw, item.stream, item.reason) for item in bad(items)] == [(wrong, USERS, "it is not valid UTF-8")]


@pytest.mark.parametrize("encoded", [b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80", b"\xe2\x82"])
def test_every_kind_of_invalid_utf8_is_found_among_other_text(encoded):
    wrong = user('{"a":"é x"}').encode().replace(b"x", encoded)
    assert len(bad(read(user('{"a":"é"}'), wrong))) == 1


@pytest.mark.parametrize("line", [user('{"a":NaN}'), user('{"a":"\\ud800 x"}'), user("[1]"), user("{}", "1.5")])
def test_a_bad_record_has_its_stream_if_it_is_known(line):
    assert bad(read(line))[0].stream == USERS


def test_a_bad_record_comes_before_the_status_that_ends_its_stream():
    """A reader that trusts COMPLETE must have seen everything of the stream by then."""
    line = user("[1]")
    found, status_message = read(line, status("users", "COMPLETE"), streams=[USERS])
    assert (found.raw, status_message.status) == (line.encode(), "COMPLETE")


def test_a_bad_record_of_an_unknown_stream_is_an_error():
    with pytest.raises(SourceError, match="stream others"):
        read(record_line("others", [1]))


def test_two_complete_messages_on_one_line_are_both_read():
    assert raws(read(user('{"a":1}') + user('{"a":2}'))) == [b'{"a":1}', b'{"a":2}']


def test_a_record_over_several_lines_is_returned_without_line_breaks():
    items = read(user('{"a":\n1}') + user('{"a":2}'), "", user('{"a":3}'))
    assert b'{"a":3}' in raws(items)
    assert all(b"\n" not in raw for raw in raws(items))
    assert bad(items)


BAD_STATES = [
    '{"type":"STATE","state":{"data":{}',
    '{"type":"STATE"}',
    '{"type":"STATE","state":null}',
    '{"type":"STATE","state":[1]}',
    '{"type":"STATE","state":{"type":"STREAM"}}',
    '{"type":"STATE","state":{"type":"NEW"}}',
    'text before {"type": "STATE","state":{"data":{}}}',
]


@pytest.mark.parametrize("line", BAD_STATES)
def test_a_bad_state_is_an_error(line):
    with pytest.raises(SourceError, match="STATE"):
        read(line)


# Changes


def changed(number: int, meta: object, stream: str = "users", data: str = "{}") -> str:
    """A record whose source says something of it."""
    return (
        f'{{"type":"RECORD","record":{{"stream":"{stream}","emitted_at":{number},"data":{data},'
        f'"meta":{json.dumps(meta)}}}}}'
    )


def changes_by_record(items) -> dict[int, list[str]]:
    """The fields that were changed, by the time of the record."""
    batches = [item.batch for item in items if isinstance(item, StreamBatch)]
    return {
        int(batch.emitted_at[row]): [each.field for each in changes]
        for batch in batches
        for row, changes in batch.changes.items()
    }


def change(field: str) -> dict[str, str]:
    return {"field": field, "change": "NULLED", "reason": "SOURCE_RETRIEVAL_ERROR"}


@pytest.mark.parametrize("at_once", [1, 7, 200])
def test_what_a_source_has_changed_stays_with_its_record_in_blocks_of_any_size(at_once):
    """Records of two streams wait for their batches over several blocks."""
    streams = [USERS, StreamId(None, "others")]
    lines = [
        changed(number, {"changes": [change(f"f{number}")] * (number % 3)}, streams[number % 2].name)
        for number in range(200)
    ]
    reader = MessageReader(streams, SourceReport(lambda *_: None, streams))
    items: list = []
    for start in range(0, len(lines), at_once):
        items += reader.read("".join(f"{line}\n" for line in lines[start : start + at_once]).encode())
    items += reader.flush()
    assert changes_by_record(items) == {number: [f"f{number}"] * (number % 3) for number in range(200) if number % 3}


@pytest.mark.parametrize(
    "meta", [None, {}, {"changes": None}, {"changes": []}, {"changes": "all"}, {"changes": [{"field": 1}]}, [], "x"]
)
def test_a_meta_without_changes_is_no_reason_to_refuse_a_record(meta):
    items = read(changed(1, meta))
    assert raws(items) == [b"{}"]
    assert changes_by_record(items) == {}


def test_a_record_with_a_number_that_is_not_finite_keeps_what_its_source_says():
    (found,) = bad(read(changed(1, {"changes": [change("a")]}, data='{"x":NaN}')))
    assert found.finite is not None
    assert ([each.field for each in found.finite.changes], found.finite.fields) == (["a"], ("x",))


# States


def test_a_state_is_returned_as_it_was_written():
    line = '  {"type": "STATE",  "state":{"type":"STREAM", "stream":{"stream_descriptor":{"name":"users"}}},"more":1 } '
    (state,) = read(line)
    assert state.message == line.strip().encode()
    assert state.state == b'{"type":"STREAM", "stream":{"stream_descriptor":{"name":"users"}}}'
    assert state.stream == USERS


def test_a_state_among_equal_texts_is_returned_with_its_own_line():
    body = '{"data": {"a": 1}}'
    record = user('{"state": ' + body + "}")
    items = read(record, '{"type":"STATE","id":1,"state":' + body + "}", '{"type":"STATE","id":2,"state":' + body + "}")
    states = [json.loads(item.message)["id"] for item in items if isinstance(item, State)]
    assert states == [1, 2]


def test_a_state_next_to_a_bad_line_is_returned_as_it_was_written():
    line = state_line("users", {"at": 1})
    states = [item for item in read(user("[1]"), line, "plain text") if isinstance(item, State)]
    assert [state.message for state in states] == [line.encode()]


@pytest.mark.parametrize(
    ("state", "stream"),
    [
        ('{"data":{"a":1}}', None),
        ('{"type":"LEGACY","data":{"a":1}}', None),
        ('{"type":"GLOBAL","global":{"stream_states":[]}}', None),
        ('{"type":"STREAM","stream":{"stream_descriptor":{"name":"orders","namespace":"shop"}}}', ORDERS),
        ('{"type":"STREAM","stream":{"stream_descriptor":{"name":"users","namespace":""}}}', USERS),
    ],
)
def test_a_state_knows_its_stream(state, stream):
    (item,) = read(f'{{"type":"STATE","state":{state}}}')
    assert (item.stream, item.state) == (stream, state.encode())


def test_a_stream_state_comes_after_the_records_of_its_stream():
    order = record_line("orders", {"n": 1}, namespace="shop")
    first, second, third = read(order, user('{"n":1}'), state_line("users", {}))
    assert (first.stream, type(second), third.stream) == (USERS, State, ORDERS)


@pytest.mark.parametrize("state", ['{"data":{}}', '{"type":"GLOBAL","global":{}}'])
def test_a_global_state_comes_after_all_records(state):
    order = record_line("orders", {"n": 1}, namespace="shop")
    *batches, last = read(order, user('{"n":1}'), f'{{"type":"STATE","state":{state}}}')
    assert {batch.stream for batch in batches} == set(STREAMS)
    assert isinstance(last, State)


def test_a_state_of_a_stream_that_is_not_selected_is_left_out_with_a_warning():
    heard = []
    assert read(state_line("others", {}), log=lambda *entry: heard.append(entry)) == []
    assert heard[0][0] == "WARN"
    assert "others" in heard[0][1]


# Statuses, logs, errors


def test_a_status_that_ends_a_stream_comes_after_its_records():
    started, batch, complete = read(
        status("users", "STARTED"), user("{}"), status("users", "COMPLETE"), streams=[USERS]
    )
    assert (started, complete) == (StreamStatus(USERS, "STARTED"), StreamStatus(USERS, "COMPLETE"))
    assert isinstance(batch, StreamBatch)


def test_an_incomplete_stream_fails_at_the_end_after_all_items():
    data = "\n".join([status("users", "COMPLETE"), record_line("orders", {}, namespace="shop")])
    items = read_messages(io.BytesIO(data.encode()), STREAMS, log=lambda *_: None)
    assert isinstance(next(items), StreamStatus)
    assert isinstance(next(items), StreamBatch)
    with pytest.raises(SourceError, match=r"without reporting COMPLETE for: shop\.orders\."):
        next(items)


def test_statuses_of_streams_that_were_not_selected_are_ignored():
    assert read(status("others", "INCOMPLETE"), user("{}"))[0].stream == USERS


def test_the_first_of_several_errors_is_reported_and_the_others_are_counted():
    def error(text):
        return json.dumps({"type": "TRACE", "trace": {"type": "ERROR", "error": {"message": text}}})

    with pytest.raises(SourceError, match=r"The source reported: first\. \(1 more in the log\.\)"):
        read(error("first"), error("second"), error("first"))
    with pytest.raises(SourceError, match=r"The source reported: record 0\. \(many more in the log\.\)"):
        read(*(error(f"record {number}") for number in range(1000)))


def test_an_error_names_its_stream():
    error = {"message": "broken", "stream_descriptor": {"name": "users"}}
    with pytest.raises(SourceError, match="stream users: broken"):
        read(json.dumps({"type": "TRACE", "trace": {"type": "ERROR", "error": error}}))


def test_an_unknown_log_level_is_information():
    heard = []
    read('{"type":"LOG","log":{"level":"NOTICE","message":"m"}}', log=lambda *entry: heard.append(entry))
    assert heard == [("INFO", "m")]


def test_the_stack_trace_of_a_log_has_the_debug_level():
    heard = []
    read('{"type":"LOG","log":{"level":"WARN","message":"m","stack_trace":"s"}}', log=lambda *e: heard.append(e))
    assert heard == [("WARN", "m"), ("DEBUG", "s")]


@pytest.mark.parametrize("line", ['{"type":"LOG"}', '{"type":"LOG","log":{"level":1}}', '{"type":"TRACE","trace":[]}'])
def test_a_malformed_message_causes_a_warning(line):
    heard = []
    assert len(read(line, user("{}"), log=lambda *entry: heard.append(entry))) == 1
    assert [level for level, _ in heard] == ["WARN"]


def test_a_changed_configuration_without_a_store_causes_a_warning_without_its_content():
    heard = []
    control = {"type": "CONNECTOR_CONFIG", "connectorConfig": {"config": {"token": "s3cret"}}}
    read(json.dumps({"type": "CONTROL", "control": control}), log=lambda *entry: heard.append(entry))
    assert [level for level, _ in heard] == ["WARN"]
    assert "(token)" in heard[0][1]
    assert "s3cret" not in str(heard)


@pytest.mark.parametrize(
    "line",
    [
        '{"type":"SPEC","spec":{}}',
        '{"type":"CATALOG","catalog":{"streams":[]}}',
        '{"type":"CONNECTION_STATUS","connectionStatus":{"status":"SUCCEEDED"}}',
        '{"type":"TRACE","trace":{"type":"ESTIMATE","emitted_at":1,"estimate":{"name":"users","type":"STREAM"}}}',
        '{"type":"TRACE","trace":{"type":"ANALYTICS","emitted_at":1,"analytics":{"type":"x"}}}',
        '{"type":"SOMETHING_NEW","something":{}}',
    ],
)
def test_messages_without_meaning_for_a_destination_are_ignored(line):
    assert len(read(line, user("{}"))) == 1


def test_lines_that_are_no_messages_are_logged():
    heard = []
    items = read("Picked up JAVA_TOOL_OPTIONS", user("{}"), '{"level":"info"}', log=lambda *entry: heard.append(entry))
    assert heard == [("INFO", "Picked up JAVA_TOOL_OPTIONS"), ("INFO", '{"level":"info"}')]
    assert len(items) == 1


def test_a_printed_line_that_is_not_utf8_is_logged_nevertheless():
    heard = []
    read(b"caf\xe9", user("{}"), log=lambda *entry: heard.append(entry))
    assert heard == [("INFO", "caf\ufffd")]


def test_input_without_any_message_fails_and_is_shown():
    with pytest.raises(SourceError, match=r"no Airbyte messages: usage: x \| second"):
        read("usage: x", "second")


def test_printed_lines_do_not_fail_a_source_that_completed_without_records():
    assert len(read("hello", status("users", "COMPLETE"), streams=[USERS])) == 1


# Batches


def test_one_stream_is_yielded_in_batches_of_about_a_megabyte():
    items = read(*[user('{"text":"' + "x" * 1000 + '"}')] * 10_000)
    assert sum(item.batch.num_rows for item in items) == 10_000
    assert all((1 << 19) <= item.batch.nbytes <= 3 << 19 for item in items[:-1])
    assert all(item.batch.nbytes == sum(map(len, item.batch.raws)) for item in items)


def test_interleaved_streams_are_also_yielded_in_batches_of_about_a_megabyte():
    order = record_line("orders", {"text": "y" * 1000}, namespace="shop")
    items = read(*[user('{"text":"' + "x" * 1000 + '"}'), order] * 5_000)
    assert len(items) <= 22
    assert all(item.batch.num_rows == len(item.batch.emitted_at) for item in items)
    assert sum(item.batch.num_rows for item in items) == 10_000


def test_many_streams_stay_within_the_bound():
    """300 streams of 100 KB each make 30 MB. With room for 8 MB, batches must be yielded on the way."""
    streams = [StreamId(None, f"s{n}") for n in range(300)]
    reader = MessageReader(streams, SourceReport(lambda *_: None, streams), buffer_mb=8)
    yielded = received = 0
    for _ in range(100):
        block = "".join(record_line(stream.name, {"t": "x" * 1000}) + "\n" for stream in streams).encode()
        received += 300 * 1009
        yielded += sum(item.batch.nbytes for item in reader.read(block))
        assert received - yielded <= 8 << 20
    assert yielded + sum(item.batch.nbytes for item in reader.flush()) == received


def test_waiting_records_do_not_keep_their_blocks_in_memory():
    reader = MessageReader(STREAMS, SourceReport(lambda *_: None, STREAMS))
    small = record_line("orders", {}, namespace="shop") + "\n"
    block = (small + user('{"text":"' + "x" * (1 << 20) + '"}') + "\n").encode()
    before = sys.getrefcount(block)
    assert [item.stream for item in reader.read(block)] == [USERS]
    assert sys.getrefcount(block) == before
    assert raws(reader.flush(), ORDERS) == [b"{}"]


# Properties

lines = st.one_of(
    st.builds(lambda s, n: ("record", s, n), st.sampled_from(STREAMS), st.integers(0, 999)),
    st.builds(lambda s, n: ("state", s, n), st.sampled_from(STREAMS), st.integers(0, 999)),
    st.builds(lambda n: ("global", None, n), st.integers(0, 999)),
    st.builds(lambda n: ("bad", None, n), st.integers(0, 999)),
    st.just(("text", None, 0)),
    st.just(("blank", None, 0)),
)


def written(kind, stream, number) -> str:
    if kind == "record":
        return record_line(stream.name, {"n": number, "é": "ü" * (number % 7)}, namespace=stream.namespace)
    if kind == "state":
        return state_line(stream.name, {"n": number}, namespace=stream.namespace)
    if kind == "global":
        return json.dumps({"type": "STATE", "state": {"type": "GLOBAL", "global": {}, "n": number}})
    return {"bad": f'{{"type":"RECORD","record":{{"n":{number}', "text": "some text", "blank": "  "}[kind]


class Trickle(io.BytesIO):
    """Returns its bytes in pieces with the given sizes, repeatedly."""

    sizes: list[int]
    turn = 0

    def read1(self, size=-1):
        self.turn += 1
        return super().read1(self.sizes[self.turn % len(self.sizes)])


@settings(max_examples=2 * settings().max_examples)
@given(st.lists(lines, max_size=60), st.lists(st.integers(1, 300), min_size=1, max_size=5))
def test_nothing_is_lost_and_every_state_follows_its_records_for_pieces_of_any_size(script, sizes):
    source = Trickle("".join(written(*line) + "\n" for line in script).encode())
    source.sizes = sizes
    got = defaultdict(list)
    states, bads = [], []
    state_at = []
    for item in read_messages(source, STREAMS, log=lambda *_: None) if any_delivery(script) else []:
        if isinstance(item, StreamBatch):
            got[item.stream] += [json.loads(bytes(raw))["n"] for raw in item.batch.raws]
        elif isinstance(item, State):
            states.append(json.loads(item.message))
            state_at.append({stream: len(got[stream]) for stream in STREAMS} | {"bad": len(bads)})
        else:
            bads.append(item.raw.decode())
    wanted = defaultdict(list)
    covered = []
    for kind, stream, number in script:
        if kind in ("record", "bad"):
            wanted[stream or "bad"].append(number)
        elif kind in ("state", "global"):
            covered.append(
                {each: len(wanted[each]) for each in (*STREAMS, "bad") if stream in (None, each) or each == "bad"}
            )
    assert {stream: got[stream] for stream in STREAMS} == {stream: wanted[stream] for stream in STREAMS}
    assert states == [json.loads(written(*line)) for line in script if line[0] in ("state", "global")]
    assert bads == [written(*line) for line in script if line[0] == "bad"]
    for have, need in zip(state_at, covered, strict=True):
        assert all(have[stream] >= count for stream, count in need.items())


def test_a_bad_record_comes_before_the_state_that_covers_it():
    first, second = read(user("[1]"), state_line("users", {"at": 1}))
    assert (type(first), type(second)) == (BadRecord, State)


def any_delivery(script) -> bool:
    return any(kind in ("record", "state", "global", "bad") for kind, _, _ in script)


# Descriptors


def test_a_descriptor_is_read_to_its_end():
    reader, writer = os.pipe()
    feeding = threading.Thread(target=lambda: (os.write(writer, (user('{"a":1}') + "\n").encode()), os.close(writer)))
    feeding.start()
    assert raws(read_messages(reader, STREAMS, log=lambda *_: None)) == [b'{"a":1}']
    feeding.join()
    os.close(reader)


def test_an_opened_file_is_read_to_its_end(tmp_path):
    path = tmp_path / "messages"
    path.write_text("".join(user(f'{{"n":{n}}}') + "\n" for n in range(50_000)))
    with path.open("rb") as file:
        assert len(raws(read_messages(file, STREAMS, log=lambda *_: None))) == 50_000


def test_a_compressed_file_is_decompressed(tmp_path):
    path = tmp_path / "messages.gz"
    with gzip.open(path, "wt") as file:
        file.write(user('{"a":1}') + "\n")
    with gzip.open(path, "rb") as file:
        assert raws(read_messages(file, STREAMS, log=lambda *_: None)) == [b'{"a":1}']


def test_a_line_beyond_the_limit_is_an_error_that_names_the_setting():
    with pytest.raises(SourceError, match="max_line_mb = 1 MB") as caught:
        read(user('{"a":"' + "x" * (2 << 20) + '"}'), max_line_mb=1)
    assert caught.value.setting == "max_line_mb"


def test_a_line_of_a_hundred_megabytes_is_read():
    (item,) = read(user('{"a":"' + "é" * (50 << 20) + '"}'))
    assert item.batch.nbytes == (100 << 20) + 8


# ---------------------------------------------------------------------- files beside records


@pytest.mark.parametrize(
    "member",
    [
        {
            "file_reference": {
                "staging_file_url": "/tmp/1",
                "source_file_relative_path": "2026/cat.jpg",
                "file_size_bytes": 5,
            }
        },
        {"file": {"file_url": "/tmp/1", "file_relative_path": "2026/cat.jpg", "bytes": 5}},
    ],
)
def test_a_record_with_a_file_is_a_file_and_no_row(member) -> None:
    line = json.loads(record_line("users", {"id": 1}))
    line["record"] |= member
    items = read(record_line("users", {"id": 0}), json.dumps(line), record_line("users", {"id": 2}))
    assert SourceFile(StreamId(None, "users"), "/tmp/1", "2026/cat.jpg", 5) in items
    assert raws(items) == [b'{"id": 0}', b'{"id": 2}']


@pytest.mark.parametrize("value", [5, "text", {"staging_file_url": 5}, {}])
def test_a_file_that_is_not_described_is_no_row(value) -> None:
    line = json.loads(record_line("users", {"id": 1}))
    line["record"]["file_reference"] = value
    assert read(json.dumps(line)) == [SourceFile(StreamId(None, "users"), "", "")]


def test_members_that_say_there_is_no_file_are_ignored() -> None:
    line = json.loads(record_line("users", {"file": {"name": "a column"}}))
    line["record"] |= {"file_reference": None, "file": None}
    assert raws(read(json.dumps(line))) == [b'{"file": {"name": "a column"}}']
