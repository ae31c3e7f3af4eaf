"""Streams are landed together under both failure policies.

All or nothing: all streams are staged before the first is published, and states follow the publication. Independent:
whatever call fails, the other streams land, and a retry completes all.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import pytest
from failing_clients import EVERY_CRASH, HARDEST_WAYS, WAYS, FailingClient, failing_in_turn
from land_and_read import batch_of, data_keys, destination, ids_by_listing, open_uploads, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.batch import BadRecord, SourceItem, State, StreamBatch, StreamStatus
from s3dest_dagster.errors import (
    CommitError,
    RecordError,
    S3DestError,
    SourceError,
    SupersededError,
    TemplateError,
)
from s3dest_dagster.ingest.landing import Landing
from s3dest_dagster.ingest.streams import StreamLandings, landing_streams, state_message
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import StreamId, SyncMode

USERS, ORDERS = StreamId("public", "users"), StreamId("public", "orders")
BOTH = [stream("users", SyncMode.APPEND), stream("orders", SyncMode.APPEND)]
COMPLETE = {each.id: StreamStatus(each.id, "COMPLETE") for each in BOTH}


def batch(of: StreamId, number: int) -> StreamBatch:
    return StreamBatch(of, batch_of(users(number, number)))


def state(of: StreamId | None, number: int) -> State:
    text = json.dumps({"stream": of and of.name, "cursor": number}).encode()
    return State(of, text, state_message(text.decode()))


def land_all(opened: Target, items: Iterable[SourceItem], sync_id: str, done: list[StreamLandings]) -> None:
    """Lands the items of both streams. `done` receives the results, even after a failure."""
    with landing_streams(opened, BOTH, sync(sync_id)) as landings:
        done.append(landings)
        for item in items:
            landings.append(item)
        landings.stage()
        for _ in landings.publish():
            pass


def test_interleaved_streams_land_in_separate_locations(any_s3: S3Server) -> None:
    settings = destination(any_s3.new_bucket())
    items = [batch(USERS, 1), batch(ORDERS, 7), StreamStatus(USERS, "COMPLETE"), batch(ORDERS, 8), batch(USERS, 2)]
    with target(any_s3, settings) as opened:
        land_all(opened, items, "a", [])
    assert ids_by_listing(any_s3, settings.s3_bucket_name, "data/public/users/") == [1, 2]
    assert ids_by_listing(any_s3, settings.s3_bucket_name, "data/public/orders/") == [7, 8]


def test_nothing_is_visible_when_all_streams_are_staged(any_s3: S3Server) -> None:
    settings = destination(any_s3.new_bucket())
    with target(any_s3, settings) as opened, landing_streams(opened, BOTH, sync("a")) as landings:
        landings.append(batch(USERS, 1))
        landings.append(batch(ORDERS, 1))
        landings.stage()
        assert (data_keys(any_s3, settings.s3_bucket_name), landings.unpublished) == ([], (USERS, ORDERS))
    assert open_uploads(any_s3, settings.s3_bucket_name) == 0


@pytest.mark.parametrize("way", HARDEST_WAYS)
def test_a_failure_at_any_call_leaves_no_state_ahead_of_its_records(moto_s3: S3Server, way: str) -> None:
    """Whatever call fails, each state that is returned has its records in the bucket, and the retry completes both
    streams."""
    after, dead = WAYS[way]
    for client in failing_in_turn(moto_s3.client(), after=after, dead=dead, step=2):
        settings = destination(moto_s3.new_bucket())
        bucket, done = settings.s3_bucket_name, []
        items = [batch(USERS, 1), state(USERS, 1), batch(ORDERS, 2), state(ORDERS, 2)]
        with target(moto_s3, settings, Bucket(client, bucket)) as opened, contextlib.suppress(S3DestError):
            land_all(opened, items, "a", done)
        for each, prefix, ids in ((USERS, "users", [1]), (ORDERS, "orders", [2])):
            told = done and state(each, ids[0]).message in done[0].states()
            assert not told or ids_by_listing(moto_s3, bucket, f"data/public/{prefix}/") == ids, client.failed
        with target(moto_s3, settings) as opened:
            land_all(opened, items, "a", done)
        assert ids_by_listing(moto_s3, bucket) == [1, 2], client.failed
        assert [json.loads(each) for each in done[-1].states()] == [
            json.loads(state(USERS, 1).message),
            json.loads(state(ORDERS, 2).message),
        ]


def test_only_the_newest_states_are_returned_in_the_order_of_the_source(moto_s3: S3Server) -> None:
    settings, done = destination(moto_s3.new_bucket()), []
    items = [state(USERS, 1), state(None, 1), state(ORDERS, 1), state(USERS, 2), state(None, 2)]
    with target(moto_s3, settings) as opened:
        land_all(opened, items, "a", done)
    assert done[0].states() == [state(ORDERS, 1).message, state(USERS, 2).message, state(None, 2).message]


def test_a_recorded_stream_returns_its_landed_state_and_withholds_a_global_one(moto_s3: S3Server) -> None:
    settings, done = destination(moto_s3.new_bucket()), []
    with target(moto_s3, settings) as opened:
        land_all(opened, [batch(USERS, 1), state(USERS, 1)], "a", done)
        land_all(opened, [batch(USERS, 2), state(USERS, 2), state(None, 2)], "a", done)
    assert [json.loads(each) for each in done[-1].states()] == [json.loads(state(USERS, 1).message)]
    assert (done[0].withheld(), done[1].withheld()) == (False, True)
    assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [1]


def test_a_bad_line_without_a_stream_is_quarantined_with_a_stream_that_lands(moto_s3: S3Server) -> None:
    """The first stream is recorded already and receives nothing more. The second keeps the line."""
    settings = destination(moto_s3.new_bucket(), on_bad_record="quarantine")
    with target(moto_s3, settings) as opened:
        with landing_streams(opened, BOTH[:1], sync("a")) as landings:
            list(landings.publish())
        with landing_streams(opened, BOTH, sync("a")) as landings:
            landings.append(BadRecord(None, b"{", "it is torn"))
            users_receipt, orders_receipt = landings.publish()
    assert (users_receipt.repeated, users_receipt.counts.quarantined) == (True, 0)
    assert (orders_receipt.repeated, orders_receipt.counts.quarantined) == (False, 1)


def test_a_bad_line_fails_all_streams_by_default(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    items = [batch(USERS, 1), BadRecord(ORDERS, b"{", "it is torn")]
    with target(moto_s3, settings) as opened, pytest.raises(RecordError, match=r"public\.orders.*it is torn"):
        land_all(opened, items, "a", [])
    assert data_keys(moto_s3, settings.s3_bucket_name) == []


def test_streams_that_could_share_a_key_are_refused_before_any_request(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), s3_path_format="${NAMESPACE}/${EPOCH}_")
    client = FailingClient(moto_s3.client())
    with target(moto_s3, settings, Bucket(client, settings.s3_bucket_name)) as opened:
        with pytest.raises(TemplateError), landing_streams(opened, BOTH, sync("a")):
            pass
        assert client.calls == []


def test_the_first_error_is_raised_if_the_abort_fails_too(moto_s3: S3Server) -> None:
    calls = len(_fail_after_staging(moto_s3, FailingClient(moto_s3.client())).calls) - len(["abort_multipart_upload"])
    with pytest.raises(ZeroDivisionError) as caught:
        _fail_after_staging(moto_s3, FailingClient(moto_s3.client(), at=calls + 1, dead=True), strict=True)
    assert "s3dest sweep" in caught.value.__notes__[0]


def _fail_after_staging(server: S3Server, client: FailingClient, *, strict: bool = False) -> FailingClient:
    """Stages one stream, and then raises an error of the caller."""
    settings = destination(server.new_bucket())
    forgiven = () if strict else (ZeroDivisionError,)
    with (
        contextlib.suppress(*forgiven),
        target(server, settings, Bucket(client, settings.s3_bucket_name)) as opened,
        landing_streams(opened, BOTH, sync("a")) as landings,
    ):
        landings.append(batch(USERS, 1))
        landings.stage()
        raise ZeroDivisionError
    return client


# ---------------------------------------------------------------------- independent streams: with `on_failure`


def land_each(
    opened: Target, items: Iterable[SourceItem], sync_id: str = "a", fails: S3DestError | None = None
) -> tuple[set[StreamId], dict[StreamId, S3DestError]]:
    """The streams that landed, and those that failed."""
    failed: dict[StreamId, S3DestError] = {}
    with landing_streams(opened, BOTH, sync(sync_id), on_failure=failed.__setitem__) as landings:
        for item in items:
            landings.append(item)
        if fails is not None:
            landings.source_failed(fails)
        return {receipt.scope.stream for receipt in landings.publish()}, failed


@pytest.mark.parametrize("after", [True, False][: 1 + EVERY_CRASH], ids=["answer-lost", "refused"][: 1 + EVERY_CRASH])
def test_whatever_call_fails_each_stream_lands_or_is_reported(moto_s3: S3Server, after: bool) -> None:
    """If a call fails while both streams begin, then the whole sync fails. Later calls affect one stream. The retry
    completes the sync."""
    items = [batch(USERS, 1), batch(ORDERS, 2), batch(USERS, 3)]
    prefixes = {USERS: ("data/public/users/", [1, 3]), ORDERS: ("data/public/orders/", [2])}
    spared = 0
    for client in failing_in_turn(moto_s3.client(), after=after, dead=False):
        settings = destination(moto_s3.new_bucket())
        landed: set[StreamId] = set()
        with (
            target(moto_s3, settings, Bucket(client, settings.s3_bucket_name)) as opened,
            contextlib.suppress(S3DestError),
        ):
            landed, failed = land_each(opened, items)
            assert landed | failed.keys() == {USERS, ORDERS}, client.failed
            spared += len(landed) == 1
        for each in landed:
            prefix, ids = prefixes[each]
            assert ids_by_listing(moto_s3, settings.s3_bucket_name, prefix) == ids, client.failed
        with target(moto_s3, settings) as opened:
            assert land_each(opened, items) == ({USERS, ORDERS}, {}), client.failed
        assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [1, 2, 3], client.failed
    assert spared > 0


def test_a_failing_source_fails_only_the_incomplete_streams(moto_s3: S3Server) -> None:
    settings, error = destination(moto_s3.new_bucket()), SourceError("It broke.")
    with target(moto_s3, settings) as opened:
        items = [batch(USERS, 1), COMPLETE[USERS], batch(ORDERS, 2), StreamStatus(ORDERS, "RUNNING")]
        assert land_each(opened, items, fails=error) == ({USERS}, {ORDERS: error})
    assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [1]
    assert open_uploads(moto_s3, settings.s3_bucket_name) == 0


def test_a_source_that_fails_before_any_stream_is_complete_fails_all_streams(moto_s3: S3Server) -> None:
    settings, error = destination(moto_s3.new_bucket()), SourceError("It broke.")
    with target(moto_s3, settings) as opened:
        assert land_each(opened, [batch(USERS, 1)], fails=error) == (set(), {USERS: error, ORDERS: error})
    assert data_keys(moto_s3, settings.s3_bucket_name) == []


def test_later_items_of_a_failed_stream_are_dropped(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    items = [batch(USERS, 1), BadRecord(USERS, b"{", "it is torn"), batch(USERS, 2), COMPLETE[USERS], batch(ORDERS, 3)]
    with target(moto_s3, settings) as opened:
        landed, failed = land_each(opened, items)
    assert (landed, list(failed), str(failed[USERS]).count("it is torn")) == ({ORDERS}, [USERS], 1)
    assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [3]


def test_a_global_state_is_committed_with_each_stream(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    shared = State(None, b'{"lsn": 1}', state_message('{"lsn": 1}'))
    with target(moto_s3, settings) as opened:
        land_each(opened, [batch(USERS, 1), shared])
        with landing_streams(opened, BOTH, sync("b")) as landings:
            assert [each.last_state.text for each in landings.unread] == ['{"lsn": 1}'] * 2


def test_streams_that_an_earlier_attempt_landed_are_complete(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    with target(moto_s3, settings) as opened:
        land_each(opened, [batch(USERS, 1), COMPLETE[USERS]], fails=SourceError("It broke."))
        with landing_streams(opened, BOTH, sync("a"), on_failure=lambda *failed: None) as landings:
            assert [each.stream.id for each in landings.unread] == [ORDERS]


# ---------------------------------------------------------------------- side by side


class Meeting:
    """A client in which the first calls of a method for certain keys wait for each other, or for a test."""

    def __init__(self, client: Any, method: str, ending: str, calls: int = 2) -> None:
        self._client, self._method, self._ending = client, method, ending
        self._left = calls
        self.barrier = Barrier(2, timeout=20)
        self.met = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return partial(self._call, method) if name == self._method else method

    def _call(self, method: Any, **arguments: Any) -> Any:
        if arguments["Key"].endswith(self._ending) and self._left > 0:
            self._left -= 1
            self.barrier.wait()
            self.met = True
        return method(**arguments)


@pytest.mark.parametrize(
    ("method", "ending"), [("get_object", "head.json"), ("complete_multipart_upload", ".jsonl")], ids=["begin", "end"]
)
def test_streams_begin_and_end_side_by_side(moto_s3: S3Server, method: str, ending: str) -> None:
    settings = destination(moto_s3.new_bucket())
    with target(moto_s3, settings) as opened:
        land_all(opened, [batch(USERS, 0), batch(ORDERS, 0)], "a", [])
    client = Meeting(moto_s3.client(), method, ending)
    with (
        target(moto_s3, settings, Bucket(client, settings.s3_bucket_name)) as opened,
        landing_streams(opened, BOTH, sync("b")) as landings,
    ):
        for item in [batch(ORDERS, 2), state(ORDERS, 2), batch(USERS, 1), state(USERS, 1)]:
            landings.append(item)
        receipts = list(landings.publish())
    assert client.met
    assert [receipt.scope.stream for receipt in receipts] == [USERS, ORDERS]
    assert landings.states() == [state(ORDERS, 2).message, state(USERS, 1).message]
    assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [0, 0, 1, 2]


def test_a_stream_that_fails_hides_no_other_stream_that_is_published_beside_it(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    with target(moto_s3, settings) as opened, landing_streams(opened, BOTH, sync("a")) as landings:
        for item in [batch(USERS, 1), state(USERS, 1), batch(ORDERS, 2), state(ORDERS, 2)]:
            landings.append(item)
        landings.stage()
        with landing_streams(opened, BOTH[:1], sync("b")) as others:
            others.append(batch(USERS, 5))
            list(others.publish())
        published = landings.publish()
        assert next(published).scope.stream == ORDERS
        with pytest.raises(SupersededError):
            next(published)
        assert landings.unpublished == (USERS,)
        assert landings.states() == [state(ORDERS, 2).message]
    assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [2, 5]


def test_a_landing_is_not_aborted_while_another_thread_decides_it(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    client = Meeting(moto_s3.client(), "put_object", "head.json", calls=1)
    with (
        target(moto_s3, settings, Bucket(client, settings.s3_bucket_name)) as opened,
        Landing(opened, BOTH[0], sync("a")) as landing,
        ThreadPoolExecutor(1) as other,
    ):
        landing.append(batch(USERS, 1))
        committed = other.submit(landing.commit)
        while not client.barrier.n_waiting:
            time.sleep(0.001)
        landing.abort()
        client.barrier.wait()
        assert committed.result().rows == 1
    assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [1]


def test_a_landing_that_was_aborted_cannot_be_decided(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    with target(moto_s3, settings) as opened, Landing(opened, BOTH[0], sync("a")) as landing:
        landing.append(batch(USERS, 1))
        landing.stage()
        landing.abort()
        with pytest.raises(CommitError, match="abandoned"):
            landing.commit()
    assert data_keys(moto_s3, settings.s3_bucket_name) == []
