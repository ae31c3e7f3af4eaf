"""Every state comes back once, in order, with the records that it covers, after these are published."""

import json

import pytest
from airbyte_messages import record, state
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.airbyte.messages import with_record_count
from s3dest_dagster.airbyte.pending_states import PendingStates
from s3dest_dagster.batch import BadRecord, JsonBatch, State, StreamBatch
from s3dest_dagster.stream import StreamId


def counts(states: list[dict]) -> list[int]:
    return [each["destinationStats"]["recordCount"] for each in states]


def shared(value: int) -> str:
    """A state of all streams, with one part that all share."""
    parts = [
        {"stream_descriptor": {"name": name, "namespace": "public"}, "stream_state": {"at": value}}
        for name in ("users", "orders")
    ]
    content = {"type": "GLOBAL", "global": {"shared_state": {"lsn": value}, "stream_states": parts}}
    return json.dumps({"type": "STATE", "state": content}) + "\n"


def test_every_state_of_a_stream_comes_back_in_order_with_its_count(connector):
    messages = (
        state("users", 0)
        + "".join(record("users", id=number) for number in (1, 2))
        + record("orders", id=7)
        + state("users", 2)
        + record("users", id=3)
        + state("users", 3)
        + state("users", 3)
        + state("orders", 7)
    )
    for _ in range(2):
        result = connector.sync(messages, "users", "orders")
        names = [each["stream"]["stream_descriptor"]["name"] for each in result.states]
        cursors = [each["stream"]["stream_state"]["cursor"] for each in result.states]
        assert list(zip(names, cursors, strict=True)) == [
            ("users", 0), ("users", 2), ("users", 3), ("users", 3), ("orders", 7)
        ]  # fmt: skip
        assert counts(result.states) == [0, 2, 1, 0, 1]
    assert connector.ids() == [1, 1, 2, 2, 3, 3]


def test_states_of_all_streams_come_back_after_all_of_them(connector):
    messages = record("users", id=1) + shared(1) + record("orders", id=2) + record("users", id=3) + shared(2)
    result = connector.sync(messages, "users", "orders")
    assert [each["global"]["shared_state"]["lsn"] for each in result.states] == [1, 2]
    assert counts(result.states) == [1, 2]


def test_a_legacy_state_comes_back(connector):
    result = connector.sync(record("users", id=1) + '{"type":"STATE","state":{"data":{"date":"2022-02-14"}}}\n')
    assert result.states == [{"data": {"date": "2022-02-14"}, "destinationStats": {"recordCount": 1}}]


def test_the_counts_and_members_of_the_source_come_back_verbatim():
    line = (
        b'{"type":"STATE", "later": {"a": [1.0, 1e400]}, "state":{"type":"STREAM","stream":{"stream_descriptor":'
        b'{"name":"users"},"stream_state":{"x":12345678901234567890.10}},"sourceStats":{"recordCount":2.0},'
        b'"destinationStats":{"recordCount":99},"id":7}}'
    )
    found = with_record_count(line, 2)
    for part in (
        b'{"a": [1.0, 1e400]}',
        b'{"x":12345678901234567890.10}',
        b'"sourceStats":{"recordCount":2.0}',
        b'"id":7',
    ):
        assert part in found
    assert found.count(b"destinationStats") == 1
    assert b'"destinationStats":{"recordCount":2}' in found


def test_a_bad_record_counts_as_the_record_that_it_was(connector):
    bad = '{"type": "RECORD", "record": {"stream": "users", "namespace": "public", "data": [1], "emitted_at": 1}}\n'
    settings = {"max_attempts": 1, "encode_workers": 1, "on_bad_record": "quarantine"}
    result = connector.sync(record("users", id=1) + bad + state("users", 2), s3dest=settings)
    assert result.code == 0, result.errors
    assert counts(result.states) == [2]


def test_checkpoints_hand_back_all_states_before_them_at_once(connector):
    """The states before a checkpoint are not kept back until the end."""
    settings = {"max_attempts": 1, "encode_workers": 1, "checkpoint_mb": 1, "checkpoint_interval_s": 0}
    text = "x" * 1000
    messages = "".join(
        "".join(record("users", id=number, name=text) for _ in range(300)) + state("users", number)
        for number in range(1, 10)
    )
    failing = messages + '{"type": "RECORD", "record": {"stream": "nobody", "data": {}, "emitted_at": 1}}\n'
    result = connector.sync(failing, s3dest=settings)
    assert result.code == 1
    cursors = [each["stream"]["stream_state"]["cursor"] for each in result.states]
    assert cursors == list(range(1, len(cursors) + 1))
    assert 0 < len(cursors) < 9
    assert len(connector.ids()) == sum(counts(result.states)) == 300 * len(cursors)
    assert "Checkpoints had published" in result.errors[0]["message"]


def test_states_of_published_streams_come_back_although_a_later_stream_fails(connector):
    """The registry admits another owner's stream until its turn comes."""
    messages = record("users", id=1) + state("users", 1) + record("orders", id=1) + state("orders", 1)
    mine = {"max_attempts": 1, "encode_workers": 1, "streams": {"orders": {"owner": "somebody"}}}
    connector.sync(record("orders", id=0), "orders", s3dest=mine)
    result = connector.sync(messages, "users", "orders")
    assert (result.code, result.states) == (1, [])
    assert result.errors[0]["failure_type"] == "config_error"
    assert connector.ids("users") == []


USERS, ORDERS = StreamId("public", "users"), StreamId("public", "orders")
items = st.lists(
    st.one_of(
        st.tuples(st.just("records"), st.sampled_from([USERS, ORDERS]), st.integers(1, 5)),
        st.tuples(st.just("bad"), st.sampled_from([USERS, ORDERS, None]), st.just(1)),
        st.tuples(st.just("state"), st.sampled_from([USERS, ORDERS, None]), st.just(0)),
        st.tuples(st.just("pop"), st.sampled_from([USERS, ORDERS, None]), st.just(0)),
    ),
    max_size=30,
)


@given(items, st.sampled_from([1, 1 << 20]))
def test_states_come_back_once_in_order_and_their_counts_add_up(drawn, max_bytes):
    """Popping in between changes neither, and pops no other states."""
    sent, received, gone, read = [], [], set(), 0
    with PendingStates(USERS, max_bytes=max_bytes) as pending:
        for number, (kind, stream, records) in enumerate([*drawn, ("state", None, 0)]):
            if kind == "records":
                pending.receive(StreamBatch(stream, JsonBatch([b"{}"] * records, None, 2 * records)))
            elif kind == "bad":
                pending.receive(BadRecord(stream, b"x", "it is bad", 1))
            elif kind == "state":
                sent.append((stream, number))
                text = b'{"data":{"number":%d}}' % number
                pending.receive(State(stream, text, b'{"type":"STATE","state":%b}' % text))
            else:
                lines = list(pending.pop({stream}))
                numbers = [json.loads(each)["state"]["data"]["number"] for each in lines]
                assert numbers == [number for name, number in sent if name == stream and number not in gone]
                gone |= set(numbers)
                received += lines
            read += records
        received += pending.pop({USERS, ORDERS, None})
        assert list(pending.pop({USERS, ORDERS, None})) == []
    states = [json.loads(each)["state"] for each in received]
    numbers = [each["data"]["number"] for each in states]
    assert sorted(numbers) == [number for _, number in sent]
    for stream in (USERS, ORDERS, None):
        of_stream = [number for name, number in sent if name == stream]
        assert [number for number in numbers if number in of_stream] == of_stream
    assert sum(counts(states)) == read


@pytest.mark.parametrize("records", [0, 1, 10**12])
def test_a_count_is_a_plain_number(records):
    found = json.loads(with_record_count(b'{"type":"STATE","state":{"data":{}}}', records))
    assert found["state"]["destinationStats"] == {"recordCount": records}
