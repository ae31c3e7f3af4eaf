"""A stream that gets another name keeps everything that it holds. Whatever call fails, all of it is under one name, or
anybody can finish the transfer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from failing_clients import EVERY_CRASH, HARDEST_WAYS, WAYS, FailingClient, failing_in_turn
from land_and_read import batch_of, data_keys, destination, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.batch import State, StreamBatch
from s3dest_dagster.commit.maintenance import recover, sweep
from s3dest_dagster.commit.registry import RegistryEntry
from s3dest_dagster.commit.registry_updates import registry_of
from s3dest_dagster.commit.retirement import ScopeContent, restore, retire, retired_scope
from s3dest_dagster.commit.scopes import scopes
from s3dest_dagster.commit.states import reached_state
from s3dest_dagster.commit.stream_transfer import NewName, move_stream, what_would_move
from s3dest_dagster.errors import CommitError, KeyCollisionError, OwnershipError, S3DestError, SupersededError
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.inspection.verify import last_sync, stray_keys, verify
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import JsonlFormat, ParquetFormat
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId, SyncMode

DAY = timedelta(days=1)
_names = count()


def new_name(owner: str | None = None) -> NewName:
    number = next(_names)
    return NewName(StreamId("shop", f"orders{number}x"), StreamId("shop", f"purchases{number}x"), owner)


def land_into(
    server: S3Server,
    settings: S3Destination,
    scope: Scope,
    first: int,
    last: int,
    *,
    mode: SyncMode = SyncMode.APPEND,
    sync_id: str = "",
    owner: str | None = None,
):
    """Lands records. An append of an unpartitioned stream has a state."""
    with target(server, replace(settings, owner=owner)) as opened:
        items = [StreamBatch(scope.stream, batch_of(users(first, last)))]
        if scope.partition is None and mode is SyncMode.APPEND:
            items.append(State(scope.stream, f'{{"cursor":{last}}}'.encode(), b"{}"))
        named = stream(scope.stream.name, mode, scope.stream.namespace)
        return land(items, opened, named, sync(sync_id or f"{scope} {first} {next(_names)}"), scope=scope)


def prepared(server: S3Server, settings: S3Destination, name: NewName, *partitions: str | None) -> None:
    """The stream with the records 1 to 3 in two syncs of each scope."""
    settings = replace(settings, on_rematerialize="append")
    for partition in partitions or (None,):
        for first, last in ((1, 2), (3, 3)):
            land_into(server, settings, Scope(name.source, partition), first, last)


def move(bucket: Bucket, settings: S3Destination, name: NewName) -> list[ScopeContent]:
    return move_stream(bucket, settings, name, datetime.now(UTC), os.urandom)


def seen(bucket: Bucket, settings: S3Destination, scope: Scope) -> tuple[list[int], str | None]:
    """The ids and the state that a reader of the manifests sees."""
    table = read_scope(bucket, settings.template, scope)
    state = reached_state(bucket, settings.template, scope)
    ids = [] if table is None or "id" not in table.column_names else sorted(table["id"].to_pylist())
    return ids, None if state is None else state.text


FULL, EMPTY = ([1, 2, 3], '{"cursor":3}'), ([], None)


@pytest.mark.parametrize("partition", [None, "2026-01-05"])
def test_everything_goes_to_the_new_name_and_comes_back(any_s3: S3Server, partition: str | None) -> None:
    settings, name = destination(any_s3.new_bucket()), new_name()
    prepared(any_s3, settings, name, partition)
    bucket, old, new = any_s3.open(settings), Scope(name.source, partition), Scope(name.target, partition)
    before, keys = seen(bucket, settings, old), data_keys(any_s3, settings.s3_bucket_name)
    shown = what_would_move(bucket, settings, name)
    assert [(each.scope, each.objects, each.rows) for each in shown] == [(old, 2, 3)]
    assert seen(bucket, settings, new) == EMPTY
    assert move(bucket, settings, name) == shown
    assert move(bucket, settings, name) == []
    assert (seen(bucket, settings, old), seen(bucket, settings, new)) == (EMPTY, before)
    assert data_keys(any_s3, settings.s3_bucket_name) == keys
    for scope in (old, new):
        assert verify(bucket, settings.template, scope, deep=True).problems == ()
        assert not stray_keys(bucket, settings.template, scope.stream).foreign
    assert move(bucket, settings, NewName(name.target, name.source))
    assert (seen(bucket, settings, old), seen(bucket, settings, new)) == (before, EMPTY)
    assert verify(bucket, settings.template, old).problems == ()


def test_the_new_name_goes_on_where_the_old_one_ended(moto_s3: S3Server) -> None:
    settings, name = destination(moto_s3.new_bucket()), new_name()
    prepared(moto_s3, settings, name)
    bucket, new = moto_s3.open(settings), Scope(name.target)
    columns = RegistryEntry(bucket, settings, name.source).columns_beside(None)
    move(bucket, settings, name)
    assert RegistryEntry(bucket, settings, name.target).columns_beside(None) == columns
    last = last_sync(bucket, settings.template, new)
    assert last is not None
    assert last.counts.landed == 1
    land_into(moto_s3, settings, new, 4, 4)
    assert seen(bucket, settings, new) == ([1, 2, 3, 4], '{"cursor":4}')
    receipt = land_into(moto_s3, settings, new, 9, 9, mode=SyncMode.FULL_REFRESH)
    assert len(receipt.removed) == 3
    assert seen(bucket, settings, new)[0] == [9]
    assert len(data_keys(moto_s3, settings.s3_bucket_name)) == 1
    assert verify(bucket, settings.template, new).problems == ()


def test_a_sync_that_landed_under_the_old_name_is_not_landed_again(moto_s3: S3Server) -> None:
    settings, name = destination(moto_s3.new_bucket()), new_name()
    for number in range(23):
        land_into(moto_s3, settings, Scope(name.source), number, number, sync_id=f"sync {number}")
    bucket = moto_s3.open(settings)
    move(bucket, settings, name)
    for number in (0, 2, 5, 22):
        receipt = land_into(moto_s3, settings, Scope(name.target), number, number, sync_id=f"sync {number}")
        assert receipt.repeated
    assert seen(bucket, settings, Scope(name.target))[0] == list(range(23))


@pytest.mark.parametrize("pattern", ["{sync_id}_{part_number}", "{part_number}", "x{format_extension}"])
def test_the_old_name_starts_anew_and_takes_no_object_away(moto_s3: S3Server, pattern: str) -> None:
    settings = destination(
        moto_s3.new_bucket(), s3_path_format="${NAMESPACE}/${STREAM_NAME}/", file_name_pattern=pattern
    )
    name = new_name()
    old, new = Scope(name.source), Scope(name.target)
    land_into(moto_s3, settings, old, 1, 3, mode=SyncMode.FULL_REFRESH, sync_id="same")
    bucket = moto_s3.open(settings)
    move(bucket, settings, name)
    # A third name has it now, so that the second one's registry has to be asked for it.
    third = StreamId("shop", f"third{next(_names)}")
    move(bucket, settings, NewName(name.target, third))
    with contextlib.suppress(KeyCollisionError):
        receipt = land_into(moto_s3, settings, old, 7, 8, mode=SyncMode.FULL_REFRESH, sync_id="same ")
        assert receipt.removed == ()
        assert seen(bucket, settings, old)[0] == [7, 8]
    assert seen(bucket, settings, Scope(third))[0] == [1, 2, 3]
    assert verify(bucket, settings.template, Scope(third), deep=True).problems == ()
    assert not stray_keys(bucket, settings.template, name.source).foreign
    land_into(moto_s3, settings, Scope(third), 4, 4, mode=SyncMode.FULL_REFRESH, sync_id="other")
    assert seen(bucket, settings, Scope(third))[0] == [4]
    assert seen(bucket, settings, old)[0] in ([7, 8], [])
    assert verify(bucket, settings.template, old, deep=True).problems == ()
    assert seen(bucket, settings, new) == EMPTY


def test_a_key_that_the_new_name_holds_is_not_landed_again(moto_s3: S3Server) -> None:
    settings = destination(
        moto_s3.new_bucket(), s3_path_format="${NAMESPACE}/${STREAM_NAME}/", file_name_pattern="x{format_extension}"
    )
    name = new_name()
    land_into(moto_s3, settings, Scope(name.source), 1, 3, mode=SyncMode.FULL_REFRESH)
    move(moto_s3.open(settings), settings, name)
    with pytest.raises(KeyCollisionError, match=name.target.name):
        land_into(moto_s3, settings, Scope(name.source), 7, 8, mode=SyncMode.FULL_REFRESH)


def test_the_owner_goes_along_or_is_given(moto_s3: S3Server) -> None:
    settings, name = destination(moto_s3.new_bucket()), new_name()
    land_into(moto_s3, settings, Scope(name.source), 1, 1, owner="shop/orders")
    bucket = moto_s3.open(settings)
    move(bucket, settings, name)
    registry = registry_of(bucket, settings, name.target)
    assert registry is not None
    assert registry.owner == "shop/orders"
    with pytest.raises(OwnershipError, match="belongs to 'shop/orders'"):
        land_into(moto_s3, settings, Scope(name.target), 2, 2, owner="other")
    back = NewName(name.target, name.source, "shop/purchases")
    move(bucket, settings, back)
    land_into(moto_s3, settings, Scope(name.source), 2, 2, owner="shop/purchases")
    land_into(moto_s3, settings, Scope(name.target), 3, 3, owner="whoever")
    with pytest.raises(OwnershipError, match="add --to whoever"):
        move(bucket, settings, name)


def test_a_name_that_holds_something_gets_nothing(moto_s3: S3Server) -> None:
    settings, name = destination(moto_s3.new_bucket()), new_name()
    prepared(moto_s3, settings, name)
    bucket = moto_s3.open(settings)
    land_into(moto_s3, settings, Scope(name.target, "2026-01-05"), 5, 5)
    with pytest.raises(CommitError, match="holds objects or a state already"):
        move(bucket, settings, name)
    retire(bucket, settings, Scope(name.target, "2026-01-05"), sync("retire-1"), attempt="1")
    move(bucket, settings, name)
    assert seen(bucket, settings, Scope(name.target)) == FULL
    restore(bucket, settings, Scope(name.target, "2026-01-05"))
    assert seen(bucket, settings, Scope(name.target, "2026-01-05"))[0] == [5]


def test_what_was_replaced_goes_along_and_is_deleted_when_its_grace_is_over(moto_s3: S3Server) -> None:
    settings, name = destination(moto_s3.new_bucket(), delete_grace_s=DAY.total_seconds()), new_name()
    for number in (1, 2):
        land_into(moto_s3, settings, Scope(name.source), number, number, mode=SyncMode.FULL_REFRESH)
    bucket = moto_s3.open(settings)
    move(bucket, settings, name)
    assert len(data_keys(moto_s3, settings.s3_bucket_name)) == 2
    later = datetime.now(UTC) + 2 * DAY
    assert sweep(bucket, settings, name.source, now=later).expired == 0
    assert sweep(bucket, settings, name.target, now=later).expired == 1
    assert seen(bucket, settings, Scope(name.target))[0] == [2]
    assert len(data_keys(moto_s3, settings.s3_bucket_name)) == 1


def test_what_is_retired_stays_with_the_old_name(moto_s3: S3Server) -> None:
    settings, name = destination(moto_s3.new_bucket()), new_name()
    prepared(moto_s3, settings, name, "2026-01-05", "2026-01-06")
    bucket, retired = moto_s3.open(settings), Scope(name.source, "2026-01-05")
    retire(bucket, settings, retired, sync("retire-2"), attempt="2")
    assert [each.scope.partition for each in move(bucket, settings, name)] == ["2026-01-06"]
    assert retired_scope(bucket, settings, retired) is not None
    restore(bucket, settings, retired)
    assert seen(bucket, settings, retired)[0] == [1, 2, 3]


# ---------------------------------------------------------------------- meanwhile


@contextlib.contextmanager
def landing_in(server: S3Server, settings: S3Destination, scope: Scope) -> Iterator[Landing]:
    with target(server, settings) as opened:
        named = stream(scope.stream.name, SyncMode.APPEND, scope.stream.namespace)
        with Landing(opened, named, sync(f"slow {next(_names)}"), scope=scope) as landing:
            landing.append(batch_of(users(9, 9)))
            yield landing


@pytest.mark.parametrize("partition", [None, "2026-01-09"])
def test_a_landing_that_runs_meanwhile_is_not_lost_silently(moto_s3: S3Server, partition: str | None) -> None:
    settings, name = destination(moto_s3.new_bucket()), new_name()
    prepared(moto_s3, settings, name)
    bucket = moto_s3.open(settings)
    with landing_in(moto_s3, settings, Scope(name.source, partition)) as landing:
        move(bucket, settings, name)
        told = "transfer-" if partition is None else f"was given to {name.target}"
        with pytest.raises(SupersededError, match=told):
            landing.commit()
    assert seen(bucket, settings, Scope(name.source, partition)) == EMPTY
    assert seen(bucket, settings, Scope(name.target)) == FULL
    assert len(data_keys(moto_s3, settings.s3_bucket_name)) == 2
    land_into(moto_s3, settings, Scope(name.source, partition), 5, 5)
    assert seen(bucket, settings, Scope(name.source, partition))[0] == [5]


class PausedBeforePut(FailingClient):
    """A client that calls a function before or after it first puts an object whose key ends with `end`."""

    def __init__(self, client: Any, end: str, act: Callable[[], object], *, after: bool = False) -> None:
        super().__init__(client)
        self._end, self._act, self._acts_after = end, act, after

    def _counted(self, name: str, method: Any) -> Any:
        counted = super()._counted(name, method)

        def call(**arguments: Any) -> Any:
            if name != "put_object" or not arguments["Key"].endswith(self._end):
                return counted(**arguments)
            self._end, act = "nothing ends so", self._act
            if not self._acts_after:
                act()
            answer = counted(**arguments)
            if self._acts_after:
                act()
            return answer

        return call


@pytest.mark.parametrize("format_", [JsonlFormat(), ParquetFormat()])
@pytest.mark.parametrize("after", [False, True])
def test_a_new_partition_that_is_decided_during_a_transfer_goes_along_or_fails(
    moto_s3: S3Server, after: bool, format_: Any
) -> None:
    """The whole transfer runs just before the landing's decision, or just after it."""
    settings, name = destination(moto_s3.new_bucket(), format=format_), new_name()
    prepared(moto_s3, settings, name, "2026-01-05")
    bucket = moto_s3.open(settings)
    old, new = Scope(name.source, "2026-01-09"), Scope(name.target, "2026-01-09")
    client = PausedBeforePut(
        moto_s3.client(), "2026-01-09/head.json", lambda: move(bucket, settings, name), after=after
    )
    with target(moto_s3, settings, Bucket(client, settings.s3_bucket_name)) as opened:
        named = stream(name.source.name, SyncMode.APPEND, name.source.namespace)
        with Landing(opened, named, sync("paused"), scope=old) as landing:
            landing.append(batch_of(users(9, 9)))
            with contextlib.nullcontext() if after else pytest.raises(SupersededError, match="was given to"):
                landing.commit()
    assert seen(bucket, settings, old) == EMPTY
    assert seen(bucket, settings, new)[0] == ([9] if after else [])
    assert len(data_keys(moto_s3, settings.s3_bucket_name)) == 2 + after
    assert not moto_s3.client().list_multipart_uploads(Bucket=settings.s3_bucket_name).get("Uploads")
    assert seen(bucket, settings, Scope(name.target, "2026-01-05"))[0] == [1, 2, 3]
    for scope in (old, new):
        assert verify(bucket, settings.template, scope, deep=True).problems == ()


def test_neither_name_lands_while_a_transfer_is_unfinished(moto_s3: S3Server) -> None:
    settings, name = destination(moto_s3.new_bucket()), new_name()
    prepared(moto_s3, settings, name, "2026-01-05")
    bucket = moto_s3.open(settings)
    with landing_in(moto_s3, settings, Scope(name.source, "2026-01-09")) as landing:
        with pytest.raises(S3DestError):
            move(Bucket(DyingAtFirstSegment(moto_s3.client(), dead=True), settings.s3_bucket_name), settings, name)
        with pytest.raises(OwnershipError, match=r"transfer shop.orders.* --to-stream shop.purchases.* --yes"):
            landing.commit()
    for each in (name.source, name.target):
        with pytest.raises(OwnershipError, match="neither lands before that is finished"):
            land_into(moto_s3, settings, Scope(each, "2026-01-05"), 7, 7)
    with pytest.raises(OwnershipError, match="is being given"):
        move(bucket, settings, NewName(name.source, StreamId("shop", "third")))
    move(bucket, settings, name)
    land_into(moto_s3, settings, Scope(name.target, "2026-01-06"), 7, 7)
    assert seen(bucket, settings, Scope(name.target, "2026-01-05"))[0] == [1, 2, 3]


class DyingAtFirstSegment(FailingClient):
    """A client that is dead from its first put of a segment."""

    def _counted(self, name: str, method: Any) -> Any:
        counted = super()._counted(name, method)

        def call(**arguments: Any) -> Any:
            if "/segments/" in arguments.get("Key", "") and name == "put_object":
                self._at = len(self.calls) + 1
            return counted(**arguments)

        return call


# ---------------------------------------------------------------------- failures


def attack(server: S3Server, settings: S3Destination, way: str, partitions: tuple[str | None, ...]) -> None:
    """Fails a transfer at its calls."""
    after, dead = WAYS[way]
    bucket = server.open(settings)
    for client in failing_in_turn(server.client(), after=after, dead=dead, step=4):
        name = new_name()
        prepared(server, settings, name, *partitions)
        olds = [Scope(name.source, each) for each in partitions]
        news = [Scope(name.target, each) for each in partitions]
        full = [([1, 2, 3], '{"cursor":3}' if each is None else None) for each in partitions]
        with contextlib.suppress(S3DestError):
            move(Bucket(client, settings.s3_bucket_name), settings, name)
        where = client.failed
        for old, new, content in zip(olds, news, full, strict=True):
            # A reader of either name sees all or nothing, and one of them sees all.
            views = [seen(bucket, settings, old), seen(bucket, settings, new)]
            assert content in views, where
            assert all(view in (content, EMPTY) for view in views), where
        for scope in scopes(bucket, settings.template, {name.source}):
            assert recover(bucket, settings.template, scope).ok, where
        for old, new, content in zip(olds, news, full, strict=True):
            views = [seen(bucket, settings, old), seen(bucket, settings, new)]
            assert sorted(views, key=str) == sorted([content, EMPTY], key=str), where
        move(bucket, settings, name)
        assert [seen(bucket, settings, each) for each in olds] == [EMPTY] * len(olds), where
        assert [seen(bucket, settings, each) for each in news] == full, where
        for each in news:
            assert verify(bucket, settings.template, each).problems == (), where
        land_into(server, settings, Scope(name.target), 4, 4)
        land_into(server, settings, Scope(name.source), 5, 5)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", HARDEST_WAYS)
@pytest.mark.parametrize("partitions", [(None,), (None, "2026-01-05", "2026-01-06")][: 1 + EVERY_CRASH], ids=len)
def test_a_failure_at_any_call_leaves_all_under_one_name(
    moto_s3: S3Server, way: str, partitions: tuple[str | None, ...]
) -> None:
    attack(moto_s3, destination(moto_s3.new_bucket()), way, partitions)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", HARDEST_WAYS if EVERY_CRASH else ())
def test_a_failure_at_any_call_leaves_all_under_one_name_without_conditional_puts(
    rclone_s3: S3Server, way: str
) -> None:
    attack(rclone_s3, destination(rclone_s3.new_bucket()), way, (None,))
