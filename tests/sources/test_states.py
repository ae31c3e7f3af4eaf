"""What a source goes on from: no stream misses a record, whatever the others have reached."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources.states import Reached, Resumption, resumption
from s3dest_dagster.stream import StreamId

USERS, ORDERS, VISITS = StreamId("crm", "users"), StreamId("crm", "orders"), StreamId(None, "visits")
START = datetime(2026, 1, 5, tzinfo=UTC)


def own(stream: StreamId, at: int) -> dict[str, Any]:
    return {"type": "STREAM", "stream": {"stream_descriptor": {"name": stream.name}, "stream_state": {"at": at}}}


def shared(lsn: int, *streams: StreamId, **more: Any) -> dict[str, Any]:
    described = [
        {"stream_descriptor": {"name": each.name} | ({"namespace": each.namespace} if each.namespace else {})}
        for each in streams
    ]
    return {"type": "GLOBAL", "global": {"shared_state": {"lsn": lsn}, "stream_states": described}, **more}


def going_on(**reached: tuple[dict[str, Any] | str, int] | None) -> Resumption:
    """From each stream's state and the day on which it was reached."""
    streams = {"users": USERS, "orders": ORDERS, "visits": VISITS}
    return resumption({streams[name]: found and made(*found) for name, found in reached.items()})


def made(state: dict[str, Any] | str, day: int) -> Reached:
    return Reached(state if isinstance(state, str) else json.dumps(state), START + timedelta(days=day))


def decoded(found: Resumption) -> list[Any]:
    return [json.loads(each) for each in found.states]


def test_states_of_single_streams_are_given_back_as_they_are():
    text = '{"type" : "STREAM", "stream": {"stream_descriptor": {"name": "users"}, "stream_state": {"at": 1.10}}}'
    found = going_on(users=(text, 1), orders=(own(ORDERS, 7), 2), visits=None)
    assert found == Resumption((text.encode(), json.dumps(own(ORDERS, 7)).encode()))


def test_nothing_reached_is_nothing_to_go_on_from():
    assert going_on(users=None, orders=None) == Resumption(())


def test_a_state_of_all_streams_is_given_once():
    state = shared(3, USERS, ORDERS)
    found = going_on(users=(state, 1), orders=(state, 1))
    assert (decoded(found), found.again) == ([state], ())


def test_of_different_states_of_all_streams_the_oldest_is_given():
    old, new = shared(1, USERS, ORDERS), shared(2, USERS, ORDERS)
    found = going_on(users=(new, 2), orders=(old, 1))
    assert (decoded(found), found.again) == ([old], (USERS,))


def test_a_stream_without_a_state_begins_anew():
    found = going_on(users=(shared(3, USERS, ORDERS, VISITS, id=7), 1), orders=None, visits=None)
    assert decoded(found) == [shared(3, USERS, id=7)]


def test_a_stream_whose_state_was_its_own_begins_anew_under_one_of_all():
    found = going_on(users=(shared(3, USERS, ORDERS), 1), orders=(own(ORDERS, 7), 2))
    assert decoded(found) == [shared(3, USERS)]


def test_what_is_not_left_out_keeps_its_text():
    entry = (
        '{"stream_descriptor":{"name":"users","namespace":"crm"},"stream_state":{"at":1.10,"n":123456789012345678901}}'
    )
    other = '{"stream_descriptor":{"name":"orders","namespace":"crm"}}'
    text = f'{{"type":"GLOBAL","global":{{"shared_state":{{"lsn":1e400}},"stream_states":[{other},{entry}]}}}}'
    (state,) = going_on(users=(text, 1), orders=None).states
    assert state.decode() == text.replace(f"{other},", "")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"data": {"users": {"at": 1}, "orders": {"at": 7}}}, {"data": {"users": {"at": 1}}}),
        ({"data": {"cursor": 5}}, {"data": {"cursor": 5}}),
        ({"type": "LEGACY", "data": "opaque"}, {"type": "LEGACY", "data": "opaque"}),
    ],
    ids=["by stream", "of no stream", "opaque"],
)
def test_a_legacy_state_is_divided_where_it_names_streams(state, expected):
    assert decoded(going_on(users=(state, 1), orders=None)) == [expected]


def test_what_is_no_state_is_refused():
    with pytest.raises(SettingsError, match="no Airbyte state"):
        going_on(users=("{", 1))
