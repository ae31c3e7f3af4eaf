"""If a driver or a worker fails at any S3 call, answered or not, then the scope holds the old records or the new ones,
and the next attempt leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest
from failing_clients import EVERY_CRASH, HARDEST_WAYS, WAYS, FailingClient, OvertakenClient, failing_in_turn
from land_and_read import (
    batch_of,
    destination,
    ids_by_listing,
    lists_without_use,
    open_uploads,
    stream,
    sync,
    target,
    users,
)
from servers import S3Server

from s3dest_dagster.batch import BadRecord
from s3dest_dagster.commit.maintenance import recover
from s3dest_dagster.commit.object_lists import OBJECTS_OF_A_LIST
from s3dest_dagster.errors import CommitError, S3DestError, StorageError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.shards import Order, ShardReceipt, begin, commit, stage
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Generation, Scope, Stream, SyncMode

OLD, NEW = [1, 2, 3], [*range(10, 30), *range(40, 45)]
_streams = count()


@dataclass(frozen=True)
class Attacked:
    """A kind of sync."""

    mode: SyncMode = SyncMode.FULL_REFRESH
    partition: str | None = None
    adds: bool = False
    bad: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    objects_of_a_list: int = OBJECTS_OF_A_LIST
    """More objects than these are listed apart from receipts and segments."""
    minimum: int | None = None
    """The old records are of generation 13, the new ones of 14, and generations below this one leave."""

    def scope(self, name: str) -> Scope:
        return Scope(stream(name).id, self.partition)

    def stream(self, name: str, generation: int) -> Stream:
        if self.minimum is None:
            return stream(name, self.mode)
        number = Generation(generation, self.minimum if generation == 14 else 0)
        return replace(stream(name, self.mode), generation=number)

    @property
    def final(self) -> list[int]:
        return OLD + NEW if self.adds else NEW


KINDS = {
    "refresh": Attacked(),
    "append": Attacked(mode=SyncMode.APPEND, adds=True),
    "partition": Attacked(mode=SyncMode.APPEND, partition="2026-01-05"),
    "quarantined": Attacked(bad=True, settings={"on_bad_record": "quarantine"}),
    "listed": Attacked(bad=True, settings={"on_bad_record": "quarantine"}, objects_of_a_list=1),
    "listed-by-the-driver": Attacked(mode=SyncMode.APPEND, adds=True, objects_of_a_list=2),
    "listed-partition": Attacked(mode=SyncMode.APPEND, partition="2026-01-05", objects_of_a_list=1),
    "kept-for-readers": Attacked(settings={"delete_grace_s": 3600}),
    "generation": Attacked(mode=SyncMode.APPEND, minimum=14),
    "generation-that-adds": Attacked(adds=True, minimum=13),
}
USUAL_KINDS = tuple(KINDS) if EVERY_CRASH else ("refresh", "listed", "generation")
STEP = 1 if EVERY_CRASH else 5
"""The usual run fails only every fifth call."""


def _prepared(server: S3Server, settings: S3Destination, kind: Attacked) -> str:
    """A new stream with the old records in its scope."""
    name = f"users{next(_streams)}"
    with target(server, settings, objects_of_a_list=kind.objects_of_a_list) as opened:
        land([batch_of(users(1, 3))], opened, kind.stream(name, 13), sync(f"old {name}"), scope=kind.scope(name))
    return name


def _begin(server: S3Server, settings: S3Destination, name: str, kind: Attacked, bucket: Bucket) -> Order:
    with target(server, settings, bucket, kind.objects_of_a_list) as opened:
        return begin(opened, kind.stream(name, 14), sync(f"new {name}"), kind.scope(name))


def _staged(order: Order, bucket: Bucket, kind: Attacked) -> list[ShardReceipt]:
    """Two shards, one of which has two objects."""
    items: list[Any] = [batch_of(users(10, 19)), batch_of(users(20, 29))]
    if kind.bad:
        items.append(BadRecord(None, b"{", "cut off"))
    return [stage(order, items, shard=0, s3=bucket), stage(order, [batch_of(users(40, 44))], shard=1, s3=bucket)]


def _whole(server: S3Server, settings: S3Destination, name: str, kind: Attacked, bucket: Bucket) -> None:
    order = _begin(server, settings, name, kind, bucket)
    commit(order, _staged(order, bucket, kind), shards=2, s3=bucket)


def _clients(server: S3Server, settings: S3Destination, way: str) -> Iterator[tuple[FailingClient, Bucket]]:
    after, dead = WAYS[way]
    for client in failing_in_turn(server.client(), after=after, dead=dead, step=STEP):
        yield client, Bucket(client, settings.s3_bucket_name)


def _check_old_or_new(server: S3Server, settings: S3Destination, name: str, kind: Attacked, where: str) -> None:
    bucket = Bucket(server.client(), settings.s3_bucket_name)
    recovered = recover(bucket, settings.template, kind.scope(name))
    assert recovered.ok, f"{where}: {recovered.message}"
    assert _seen(bucket, settings, kind.scope(name)) in (OLD, kind.final), where


def _seen(bucket: Bucket, settings: S3Destination, scope: Scope) -> list[int]:
    rows = read_scope(bucket, settings.template, scope).to_pylist()
    return sorted(json.loads(row["_airbyte_data"])["id"] if "_airbyte_data" in row else row["id"] for row in rows)


def _check_final(server: S3Server, settings: S3Destination, name: str, kind: Attacked, where: str) -> None:
    bucket = Bucket(server.client(), settings.s3_bucket_name)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert recover(bucket, settings.template, kind.scope(name), clock=lambda: tomorrow).ok, where
    assert _seen(bucket, settings, kind.scope(name)) == kind.final, where
    assert ids_by_listing(server, settings.s3_bucket_name, f"data/public/{name}/") == kind.final, where
    assert open_uploads(server, settings.s3_bucket_name) == 0, where
    assert lists_without_use(server, settings.s3_bucket_name) == [], where


@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", HARDEST_WAYS)
@pytest.mark.parametrize("kind", USUAL_KINDS)
def test_an_order_that_fails_at_any_call_leaves_old_or_new_and_its_retry_leaves_nothing_else(
    moto_s3: S3Server, kind: str, way: str
) -> None:
    """The retry begins anew under the same sync id. Its commit aborts what the first attempt has left."""
    attacked = KINDS[kind]
    settings = destination(moto_s3.new_bucket(), object_size_mb=0.0002, **attacked.settings)
    healthy = Bucket(moto_s3.client(), settings.s3_bucket_name)
    for client, bucket in _clients(moto_s3, settings, way):
        name = _prepared(moto_s3, settings, attacked)
        with contextlib.suppress(S3DestError):
            _whole(moto_s3, settings, name, attacked, bucket)
        _check_old_or_new(moto_s3, settings, name, attacked, client.failed)
        _whole(moto_s3, settings, name, attacked, healthy)
        _check_final(moto_s3, settings, name, attacked, client.failed)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", HARDEST_WAYS)
@pytest.mark.parametrize("kind", USUAL_KINDS)
def test_a_second_driver_commits_what_the_first_has_left_at_any_call(moto_s3: S3Server, kind: str, way: str) -> None:
    """The staged shards are still there: nothing was aborted blindly."""
    attacked = KINDS[kind]
    settings = destination(moto_s3.new_bucket(), object_size_mb=0.0002, **attacked.settings)
    healthy = Bucket(moto_s3.client(), settings.s3_bucket_name)
    after, dead = WAYS[way]
    unfailing = FailingClient(moto_s3.client())
    for at in count(0, STEP):
        name = _prepared(moto_s3, settings, attacked)
        order = _begin(moto_s3, settings, name, attacked, healthy)
        receipts = _staged(order, healthy, attacked)
        client = FailingClient(moto_s3.client(), at=at, after=after, dead=dead) if at else unfailing
        try:
            commit(order, receipts, shards=2, s3=Bucket(client, settings.s3_bucket_name))
        except (StorageError, CommitError):
            assert at, "the client that never fails"
        _check_old_or_new(moto_s3, settings, name, attacked, client.failed)
        assert commit(order, receipts, shards=2, s3=healthy).rows == len(NEW)
        _check_final(moto_s3, settings, name, attacked, client.failed)
        if at + STEP > len(unfailing.calls):
            return


@pytest.mark.timeout(600)
@pytest.mark.parametrize("lost", [False, True][: 1 + EVERY_CRASH])
@pytest.mark.parametrize("objects_of_a_list", [OBJECTS_OF_A_LIST, 1])
def test_two_drivers_of_one_order_publish_it_once_whenever_one_overtakes_the_other(
    moto_s3: S3Server, lost: bool, objects_of_a_list: int
) -> None:
    """Both have a receipt of each shard, but of different attempts."""
    settings = destination(moto_s3.new_bucket(), object_size_mb=0.0002)
    kind = Attacked(SyncMode.APPEND, adds=True, objects_of_a_list=objects_of_a_list)
    healthy = Bucket(moto_s3.client(), settings.s3_bucket_name)
    calls = 1
    at = 0
    while at < calls:
        at += STEP
        name = _prepared(moto_s3, settings, kind)
        order = _begin(moto_s3, settings, name, kind, healthy)
        one, two = _staged(order, healthy, kind), _staged(order, healthy, kind)
        other = partial(commit, order, two, shards=2, s3=healthy)
        client = OvertakenClient(moto_s3.client(), at, other, lost=lost)
        try:
            receipt = commit(order, one, shards=2, s3=Bucket(client, settings.s3_bucket_name))
        except (StorageError, CommitError):
            assert lost, "only an answer that is lost makes the commit fail"
            receipt = commit(order, one, shards=2, s3=healthy)
        calls = max(calls, client.calls)
        assert receipt.rows == len(NEW), at
        _check_final(moto_s3, settings, name, kind, f"call {at}: {client.names}")
