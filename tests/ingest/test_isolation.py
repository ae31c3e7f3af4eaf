"""Streams landed side by side, each for itself: whatever call fails, the others land, and a retry completes all."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import count

import pytest
from failing_clients import EVERY_CRASH, FailingClient
from landed import batch_of, data_keys, destination, ids_by_listing, open_uploads, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.batch import BadRecord, SourceItem, State, StreamBatch, StreamStatus
from s3dest_dagster.errors import S3DestError, SourceError
from s3dest_dagster.ingest.isolation import IsolatedLandings
from s3dest_dagster.ingest.streams import side_by_side, state_message
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId, SyncMode

USERS, ORDERS = StreamId("public", "users"), StreamId("public", "orders")
BOTH = [stream("users", SyncMode.APPEND), stream("orders", SyncMode.APPEND)]
SCOPES = {each.id: Scope(each.id) for each in BOTH}
COMPLETE = {each: StreamStatus(each, "COMPLETE") for each in SCOPES}


def batch(of: StreamId, number: int) -> StreamBatch:
    return StreamBatch(of, batch_of(users(number, number)))


def land_all(
    opened: Target, items: Iterable[SourceItem], sync_id: str = "a", fails: S3DestError | None = None
) -> tuple[set[StreamId], dict[StreamId, S3DestError]]:
    """The streams that landed, and those that failed."""
    failed: dict[StreamId, S3DestError] = {}
    with side_by_side(opened, BOTH, SCOPES, sync(sync_id)) as landings:
        isolated = IsolatedLandings(landings, failed.__setitem__)
        for item in items:
            isolated.append(item)
        if fails is not None:
            isolated.source_failed(fails)
        return {of for of, _ in isolated.publish()}, failed


@pytest.mark.parametrize("after", [True, False][: 1 + EVERY_CRASH], ids=["answer-lost", "refused"][: 1 + EVERY_CRASH])
def test_whatever_call_fails_each_stream_lands_or_is_told(moto_s3: S3Server, after: bool) -> None:
    """A call that fails when both are begun fails the whole sync; later ones concern one stream. The retry ends it."""
    items = [batch(USERS, 1), batch(ORDERS, 2), batch(USERS, 3)]
    prefixes = {USERS: ("data/public/users/", [1, 3]), ORDERS: ("data/public/orders/", [2])}
    spared = 0
    for at in count(1):
        settings = destination(moto_s3.new_bucket())
        client = FailingClient(moto_s3.client(), at=at, after=after)
        landed: set[StreamId] = set()
        with target(moto_s3, settings, Bucket(client, settings.s3_bucket_name)) as opened, suppress(S3DestError):
            landed, failed = land_all(opened, items)
            assert landed | failed.keys() == {USERS, ORDERS}, at
            spared += len(landed) == 1
        for each in landed:
            prefix, ids = prefixes[each]
            assert ids_by_listing(moto_s3, settings.s3_bucket_name, prefix) == ids, at
        with target(moto_s3, settings) as opened:
            assert land_all(opened, items) == ({USERS, ORDERS}, {}), at
        assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [1, 2, 3], at
        if at > len(client.calls):
            break
    assert spared > 0


def test_a_source_that_fails_fails_the_streams_that_it_has_not_completed(moto_s3: S3Server) -> None:
    settings, error = destination(moto_s3.new_bucket()), SourceError("It broke.")
    with target(moto_s3, settings) as opened:
        items = [batch(USERS, 1), COMPLETE[USERS], batch(ORDERS, 2), StreamStatus(ORDERS, "RUNNING")]
        assert land_all(opened, items, fails=error) == ({USERS}, {ORDERS: error})
    assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [1]
    assert open_uploads(moto_s3, settings.s3_bucket_name) == 0


def test_a_source_that_fails_without_a_word_fails_all(moto_s3: S3Server) -> None:
    settings, error = destination(moto_s3.new_bucket()), SourceError("It broke.")
    with target(moto_s3, settings) as opened:
        assert land_all(opened, [batch(USERS, 1)], fails=error) == (set(), {USERS: error, ORDERS: error})
    assert data_keys(moto_s3, settings.s3_bucket_name) == []


def test_later_items_of_a_failed_stream_are_let_go(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    items = [batch(USERS, 1), BadRecord(USERS, b"{", "it is torn"), batch(USERS, 2), COMPLETE[USERS], batch(ORDERS, 3)]
    with target(moto_s3, settings) as opened:
        landed, failed = land_all(opened, items)
    assert (landed, list(failed), str(failed[USERS]).count("it is torn")) == ({ORDERS}, [USERS], 1)
    assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [3]


def test_a_state_of_all_streams_is_committed_with_each_of_them(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    state = State(None, b'{"lsn": 1}', state_message('{"lsn": 1}'))
    with target(moto_s3, settings) as opened:
        land_all(opened, [batch(USERS, 1), state])
        with side_by_side(opened, BOTH, SCOPES, sync("b")) as landings:
            assert [each.last_state.text for each in landings.values()] == ['{"lsn": 1}'] * 2


def test_streams_that_an_earlier_attempt_has_landed_want_nothing(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    with target(moto_s3, settings) as opened:
        land_all(opened, [batch(USERS, 1), COMPLETE[USERS]], fails=SourceError("It broke."))
        with side_by_side(opened, BOTH, SCOPES, sync("a")) as landings:
            isolated = IsolatedLandings(landings, lambda *failed: None)
            assert [each.stream.id for each in isolated.unread] == [ORDERS]
