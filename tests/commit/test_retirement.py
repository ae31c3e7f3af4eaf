"""A retired scope holds nothing, and everything again if the retirement is undone in time. Whatever call fails, it is
one or the other."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count

import pytest
from failing_clients import EVERY_CRASH, HARDEST_WAYS, USUAL_WAYS, WAYS, failing_in_turn
from land_and_read import START, batch_of, batches_of, destination, ids_by_listing, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.batch import State, StreamBatch
from s3dest_dagster.commit.maintenance import recover, sweep
from s3dest_dagster.commit.retirement import content_of, restore, retire, retired_scope
from s3dest_dagster.commit.states import reached_state
from s3dest_dagster.errors import CommitError, S3DestError, SupersededError
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.inspection.verify import stray_keys, verify
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId, SyncMode

DAY = timedelta(days=1)
_names = count()


def scope_of(name: str, partition: str | None = None) -> Scope:
    return Scope(StreamId("public", name), partition)


def prepared(server: S3Server, settings: S3Destination, partition: str | None = None) -> Scope:
    """A scope with the records 1 to 3 in two syncs, and a state if it has no partition."""
    name = f"users{next(_names)}x"
    scope = scope_of(name, partition)
    settings = replace(settings, on_rematerialize="append")
    with target(server, settings) as opened:
        for first, last in ((1, 2), (3, 3)):
            items = [
                StreamBatch(scope.stream, batch_of(users(first, last))),
                State(scope.stream, f'{{"cursor":{last}}}'.encode(), b"{}"),
            ]
            land(items, opened, stream(name, SyncMode.APPEND), sync(f"{name} {last}"), scope=scope)
    return scope


def retire_by(bucket: Bucket, settings: S3Destination, scope: Scope, at: datetime | None = None):
    attempt = os.urandom(4).hex()
    clock = None if at is None else lambda: at
    return retire(bucket, settings, scope, sync(f"retire-{attempt}"), attempt=attempt, clock=clock)


def seen(bucket: Bucket, settings: S3Destination, scope: Scope) -> tuple[list[int], str | None]:
    """The ids and the state that a reader of the manifests sees."""
    table = read_scope(bucket, settings.template, scope)
    state = reached_state(bucket, settings.template, scope)
    ids = [] if table is None or "id" not in table.column_names else sorted(table["id"].to_pylist())
    return ids, None if state is None else state.text


def listed(server: S3Server, settings: S3Destination, scope: Scope) -> list[int]:
    return ids_by_listing(server, settings.s3_bucket_name, f"data/public/{scope.stream.name}/")


@pytest.mark.parametrize("partition", [None, "2026-01-05"])
def test_a_retired_scope_holds_nothing_until_it_is_restored(any_s3: S3Server, partition: str | None) -> None:
    settings = destination(any_s3.new_bucket())
    scope, bucket = prepared(any_s3, settings, partition), any_s3.open(settings)
    before = seen(bucket, settings, scope)
    assert before == ([1, 2, 3], '{"cursor":3}')
    content = retire_by(bucket, settings, scope)
    assert (content.objects, content.rows, content.has_state) == (2, 3, True)
    assert content.bytes > 0
    assert seen(bucket, settings, scope) == ([], None)
    assert listed(any_s3, settings, scope) == [1, 2, 3]
    assert not stray_keys(bucket, settings.template, scope.stream).foreign
    assert retire_by(bucket, settings, scope).is_empty
    kept = retired_scope(bucket, settings, scope)
    assert kept is not None
    assert kept.content == content
    assert restore(bucket, settings, scope) == content
    assert seen(bucket, settings, scope) == before
    assert verify(bucket, settings.template, scope).problems == ()
    assert retired_scope(bucket, settings, scope) is restore(bucket, settings, scope) is None


def test_a_restored_scope_goes_on_as_if_nothing_had_happened(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    scope, bucket = prepared(moto_s3, settings), moto_s3.open(settings)
    retire_by(bucket, settings, scope)
    restore(bucket, settings, scope)
    with target(moto_s3, settings) as opened:
        land(batches_of(users(4, 4)), opened, stream(scope.stream.name, SyncMode.APPEND), sync("next"))
    assert seen(bucket, settings, scope) == ([1, 2, 3, 4], '{"cursor":3}')
    sweep(bucket, settings, scope.stream, now=datetime.now(START.tzinfo) + 30 * DAY)
    assert listed(moto_s3, settings, scope) == [1, 2, 3, 4]


def test_a_sweep_deletes_what_was_retired_once_its_grace_is_over(any_s3: S3Server) -> None:
    settings = destination(any_s3.new_bucket(), retire_grace_s=DAY.total_seconds())
    scope, bucket = prepared(any_s3, settings, "2026-01-05"), any_s3.open(settings)
    retire_by(bucket, settings, scope, START)
    sweep(bucket, settings, scope.stream, now=START + DAY / 2)
    assert listed(any_s3, settings, scope) == [1, 2, 3]
    with pytest.raises(CommitError, match="retire_grace_s is over"):
        restore(bucket, settings, scope, clock=lambda: START + DAY)
    sweep(bucket, settings, scope.stream, now=START + DAY)
    assert listed(any_s3, settings, scope) == []
    assert restore(bucket, settings, scope) is None
    assert seen(bucket, settings, scope) == ([], None)


def test_a_grace_that_ends_during_the_undoing_restores_nothing(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), retire_grace_s=DAY.total_seconds())
    scope, bucket = prepared(moto_s3, settings), moto_s3.open(settings)
    retire_by(bucket, settings, scope, START)
    moments = iter([START, START + DAY])
    with pytest.raises(CommitError, match="ended at this moment"):
        restore(bucket, settings, scope, clock=lambda: next(moments))
    assert seen(bucket, settings, scope) == ([], None)


def test_without_grace_a_retirement_deletes_at_once(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), retire_grace_s=0)
    scope, bucket = prepared(moto_s3, settings), moto_s3.open(settings)
    retire_by(bucket, settings, scope)
    assert listed(moto_s3, settings, scope) == []
    assert restore(bucket, settings, scope) is None


@pytest.mark.parametrize("mode", list(SyncMode))
def test_a_later_landing_starts_anew_and_the_retirement_stays(moto_s3: S3Server, mode: SyncMode) -> None:
    settings = destination(moto_s3.new_bucket(), publish_order="purge_first")
    scope, bucket = prepared(moto_s3, settings), moto_s3.open(settings)
    retire_by(bucket, settings, scope)
    with target(moto_s3, settings) as opened, Landing(opened, stream(scope.stream.name, mode), sync("anew")) as landing:
        assert landing.last_state is None
        landing.append(batch_of(users(9, 9)))
        receipt = landing.commit()
    assert receipt.removed == ()
    assert seen(bucket, settings, scope) == ([9], None)
    with pytest.raises(CommitError, match="landed since"):
        restore(bucket, settings, scope)
    sweep(bucket, settings, scope.stream, now=datetime.now(START.tzinfo) + 30 * DAY)
    assert listed(moto_s3, settings, scope) == [9]


def test_a_state_alone_can_be_retired_and_restored(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    scope, bucket = scope_of("empty"), moto_s3.open(settings)
    with target(moto_s3, settings) as opened:
        land([State(scope.stream, b'{"a":1}', b"{}")], opened, stream("empty", SyncMode.APPEND), sync("state"))
    assert retire_by(bucket, settings, scope).has_state
    assert seen(bucket, settings, scope) == ([], None)
    assert restore(bucket, settings, scope) is not None
    assert seen(bucket, settings, scope) == ([], '{"a":1}')


def test_a_landing_that_runs_meanwhile_is_not_lost_silently(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    scope, bucket = prepared(moto_s3, settings), moto_s3.open(settings)
    with (
        target(moto_s3, settings) as opened,
        Landing(opened, stream(scope.stream.name, SyncMode.APPEND), sync("slow")) as landing,
    ):
        landing.append(batch_of(users(9, 9)))
        retire_by(bucket, settings, scope)
        with pytest.raises(SupersededError, match="retire-"):
            landing.commit()
    assert seen(bucket, settings, scope) == ([], None)


def test_objects_of_the_connector_are_left_alone(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), retire_grace_s=0)
    scope, bucket = prepared(moto_s3, settings), moto_s3.open(settings)
    key = f"data/public/{scope.stream.name}/2020_01_01_1577836800000_0.jsonl"
    bucket.put(key, b"{}\n")
    retire_by(bucket, settings, scope)
    assert bucket.get(key) is not None


def attack(server: S3Server, settings: S3Destination, way: str, *, undo: bool) -> None:
    """Fails a retirement, or its undoing, at each of its calls."""
    after, dead = WAYS[way]
    bucket = server.open(settings)
    for client in failing_in_turn(server.client(), after=after, dead=dead):
        scope = prepared(server, settings)
        generations = [([1, 2, 3], '{"cursor":3}'), ([], None)]
        if undo:
            retire_by(bucket, settings, scope)
        failing = Bucket(client, settings.s3_bucket_name)
        with contextlib.suppress(S3DestError):
            restore(failing, settings, scope) if undo else retire_by(failing, settings, scope)
        where = client.failed
        assert recover(bucket, settings.template, scope).ok, where
        assert seen(bucket, settings, scope) in generations, where
        if not undo:
            retire_by(bucket, settings, scope)
            assert seen(bucket, settings, scope) == generations[1], where
        if settings.retire_grace_s:
            restore(bucket, settings, scope)
            assert seen(bucket, settings, scope) == generations[0], where
            assert verify(bucket, settings.template, scope).problems == (), where
        else:
            assert listed(server, settings, scope) == [], where


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", USUAL_WAYS)
@pytest.mark.parametrize("undo", [False, True], ids=["retired", "undone"])
def test_a_failure_at_any_call_leaves_all_or_nothing(moto_s3: S3Server, way: str, undo: bool) -> None:
    attack(moto_s3, destination(moto_s3.new_bucket()), way, undo=undo)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", HARDEST_WAYS)
def test_a_failure_at_any_call_leaves_all_or_nothing_without_grace(moto_s3: S3Server, way: str) -> None:
    attack(moto_s3, destination(moto_s3.new_bucket(), retire_grace_s=0), way, undo=False)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", HARDEST_WAYS)
@pytest.mark.parametrize("undo", [False, True][: 1 + EVERY_CRASH], ids=["retired", "undone"][: 1 + EVERY_CRASH])
def test_a_failure_at_any_call_leaves_all_or_nothing_without_conditional_puts(
    rclone_s3: S3Server, way: str, undo: bool
) -> None:
    attack(rclone_s3, destination(rclone_s3.new_bucket()), way, undo=undo)


def test_what_is_there_can_be_shown_before_it_is_retired(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    scope, bucket = prepared(moto_s3, settings), moto_s3.open(settings)
    shown = content_of(bucket, settings, scope)
    assert shown == retire_by(bucket, settings, scope)
