"""The states that a source resumes from: no stream misses a record, whatever position the others have reached."""

from __future__ import annotations

import json
from typing import Any

import pytest

from s3dest_dagster.batch import KnownState, state_id
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources.airbyte.states import Reached, Resumption, resumption
from s3dest_dagster.stream import StreamId

USERS, ORDERS, VISITS = StreamId("crm", "users"), StreamId("crm", "orders"), StreamId(None, "visits")


def own(stream: StreamId, at: int) -> dict[str, Any]:
    return {"type": "STREAM", "stream": {"stream_descriptor": {"name": stream.name}, "stream_state": {"at": at}}}


def shared(lsn: int, *streams: StreamId, **more: Any) -> dict[str, Any]:
    described = [
        {"stream_descriptor": {"name": each.name} | ({"namespace": each.namespace} if each.namespace else {})}
        for each in streams
    ]
    return {"type": "GLOBAL", "global": {"shared_state": {"lsn": lsn}, "stream_states": described}, **more}


def resumed(in_full: tuple[StreamId, ...] = (), **reached: tuple[dict[str, Any] | str, ...] | None) -> Resumption:
    """Resumes from each stream's states, the oldest first. Each of them can be read from where it was stored."""
    streams = {"users": USERS, "orders": ORDERS, "visits": VISITS}
    texts = {id_of(each): text(each) for line in reached.values() for each in line or () if each is not BY_HAND}
    return resumption(
        {streams[name]: line and made(*line) for name, line in reached.items()},
        lambda known: texts[known.id],
        in_full=in_full,
    )


BY_HAND = object()


def made(*line: dict[str, Any] | str | object) -> Reached:
    """The last state of the line, which reads reach one after another. The first starts from the beginning, or was
    set by hand."""
    first = 0 if line[0] is BY_HAND else 1
    states = [each for each in line if each is not BY_HAND]
    known = tuple(KnownState(id_of(each), number, "a segment") for number, each in enumerate(states, first))
    return Reached(text(states[-1]), known)


def text(state: Any) -> str:
    return state if isinstance(state, str) else json.dumps(state)


def id_of(state: Any) -> str:
    return state_id(text(state))


def decoded(found: Resumption) -> list[Any]:
    return [json.loads(each) for each in found.states]


def test_states_of_single_streams_are_returned_unchanged():
    spaced = '{"type" : "STREAM", "stream": {"stream_descriptor": {"name": "users"}, "stream_state": {"at": 1.10}}}'
    found = resumed(users=(spaced,), orders=(own(ORDERS, 7),), visits=None)
    assert found == Resumption((spaced.encode(), json.dumps(own(ORDERS, 7)).encode()))


def test_without_states_there_is_nothing_to_resume_from():
    assert resumed(users=None, orders=None) == Resumption(())


def test_a_global_state_is_returned_once():
    state = shared(3, USERS, ORDERS)
    found = resumed(users=(state,), orders=(state,))
    assert (decoded(found), found.warning) == ([state], None)


def test_the_global_state_that_all_streams_have_passed_is_returned():
    old, new = shared(1, USERS, ORDERS), shared(2, USERS, ORDERS)
    found = resumed(users=(old, new), orders=(old,))
    assert decoded(found) == [old]
    assert "some records of crm.users may come again" in found.warning
    assert [each.id for each in found.lineage] == [id_of(old)]


def test_the_common_ancestor_of_diverging_states_is_returned():
    old, left, right = shared(1, USERS, ORDERS), shared(4, USERS), shared(8, USERS, ORDERS)
    found = resumed(users=(old, left), orders=(old, right))
    assert decoded(found) == [old]
    assert "some records of crm.orders, crm.users may come again" in found.warning


def test_without_a_common_state_all_streams_start_over():
    found = resumed(users=(shared(4, USERS),), orders=(shared(8, ORDERS),))
    assert (found.states, found.lineage) == ((), ())
    assert "crm.orders, crm.users" in found.warning
    assert "state set --catalog" in found.warning


def test_all_streams_resume_from_a_state_set_by_hand_for_all():
    state = shared(3, USERS, ORDERS)
    found = resumed(users=(BY_HAND, state), orders=(BY_HAND, state))
    assert (decoded(found), found.warning) == ([state], None)


def test_one_stream_resumes_from_a_state_set_by_hand_and_the_others_start_over():
    set_now, before = shared(3, USERS, ORDERS), shared(8, USERS, ORDERS)
    found = resumed(users=(BY_HAND, set_now), orders=(before,))
    assert decoded(found) == [shared(3, USERS)]
    assert "begins anew for crm.orders" in found.warning


def test_a_state_set_by_hand_that_the_others_have_passed_is_an_ordinary_state():
    known, further = shared(3, USERS, ORDERS), shared(8, USERS, ORDERS)
    assert decoded(resumed(users=(BY_HAND, known), orders=(known, further))) == [known]


def test_different_states_set_by_hand_are_ignored():
    found = resumed(users=(BY_HAND, shared(3, USERS)), orders=(BY_HAND, shared(8, ORDERS)))
    assert found.states == ()


def test_a_stream_without_a_state_starts_over():
    found = resumed(users=(shared(3, USERS, ORDERS, VISITS, id=7),), orders=None, visits=None)
    assert decoded(found) == [shared(3, USERS, id=7)]


def test_a_stream_with_its_own_state_starts_over_under_a_global_state():
    found = resumed(users=(shared(3, USERS, ORDERS),), orders=(own(ORDERS, 7),))
    assert decoded(found) == [shared(3, USERS)]


def test_all_streams_start_over_with_a_new_stream_if_the_state_is_not_divided_by_stream():
    found = resumed(users=(shared(3),), orders=None)
    assert found.states == ()
    assert "crm.orders has not reached it: the records of crm.users come again" in found.warning
    empty = {"stream_descriptor": {"name": "users", "namespace": "crm"}, "stream_state": {}}
    state = {"type": "GLOBAL", "global": {"shared_state": {"lsn": 3}, "stream_states": [empty]}}
    assert resumed(users=(state,), orders=None).states == ()


def test_a_stream_that_is_read_in_full_does_not_delay_the_others():
    found = resumed(users=(shared(3),), orders=None, in_full=(ORDERS,))
    assert (decoded(found), found.warning) == ([shared(3)], None)


def test_the_remaining_state_keeps_its_text():
    entry = (
        '{"stream_descriptor":{"name":"users","namespace":"crm"},"stream_state":{"at":1.10,"n":123456789012345678901}}'
    )
    other = '{"stream_descriptor":{"name":"orders","namespace":"crm"}}'
    whole = f'{{"type":"GLOBAL","global":{{"shared_state":{{"lsn":1e400}},"stream_states":[{other},{entry}]}}}}'
    (state,) = resumed(users=(whole,), orders=None).states
    assert state.decode() == whole.replace(f"{other},", "")


def test_a_legacy_state_is_divided_if_it_names_streams():
    state = {"data": {"users": {"at": 1}, "orders": {"at": 7}}}
    assert decoded(resumed(users=(state,), orders=None)) == [{"data": {"users": {"at": 1}}}]


@pytest.mark.parametrize("state", [{"data": {"cursor": 5}}, {"type": "LEGACY", "data": "opaque"}])
def test_a_legacy_state_without_stream_names_is_no_state_for_a_new_stream(state):
    assert resumed(users=(state,), orders=None).states == ()
    assert decoded(resumed(users=(state,), orders=(state,))) == [state]


def test_an_invalid_state_is_refused():
    with pytest.raises(SettingsError, match="no Airbyte state"):
        resumed(users=("{",))
