"""Two writers of one scope run concurrently. The tests enumerate the points at which one can overtake the other.

All are tried with S3DEST_EVERY_CRASH. Otherwise some tests try the odd ones, and others the even ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest
from failing_clients import EVERY_CRASH, FailingClient, OvertakenClient
from land_and_read import (
    DIRECTORIES,
    START,
    batch_of,
    destination,
    ids_by_listing,
    open_uploads,
    stream,
    sync,
    target,
    users,
    users_of_two_names,
)
from servers import S3Server

from s3dest_dagster.commit.maintenance import recover, sweep
from s3dest_dagster.errors import CommitError, S3DestError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.settings.formats import ParquetFormat
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, SyncMode

OLD, FIRST, SECOND = [1, 2], [10, 11], [20, 21]
PAIRS = [
    (SyncMode.FULL_REFRESH, False),
    (SyncMode.APPEND, True),
    (SyncMode.FULL_REFRESH, True),
    (SyncMode.APPEND, False),
]
"""Sync modes of two syncs, and whether both are attempts at the same sync."""
_streams = count()


def points(first: int = 1) -> Iterator[int]:
    """The numbers of the calls before which a sync is overtaken: the odd ones, or the even ones from 2."""
    return count(1) if EVERY_CRASH else count(first, 2)


def _land(
    server: S3Server, settings, name: str, mode: SyncMode, ids: list[int], sync_id: str, client=None, partition=None
) -> None:
    bucket = Bucket(client or server.client(), settings.s3_bucket_name)
    scope = Scope(stream(name).id, partition)
    with target(server, settings, bucket) as opened:
        made = users_of_two_names if settings.template.names_fields else users
        records = (batch_of(made(each, each)) for each in ids)
        land(records, opened, stream(name, mode, settings=settings), sync(sync_id), scope=scope)


def _crash(server: S3Server, settings, name: str, mode: SyncMode) -> None:
    """A sync of record 5 that is decided and dies before it is published."""
    dying = FailingClient(server.client(), at="complete_multipart_upload", dead=True)
    with pytest.raises(S3DestError, match="finishes it"):
        _land(server, settings, name, mode, [5], "crashed", dying)


def _overtaken_everywhere(server: S3Server, settings, mode: SyncMode, *, same_id: bool, crashed: bool) -> None:
    for at in points(1 if mode is SyncMode.FULL_REFRESH else 2):
        name = f"writers{next(_streams)}x"
        _land(server, settings, name, mode, OLD, "old")
        if crashed:
            _crash(server, settings, name, mode)
        overtake = partial(_land, server, settings, name, mode, SECOND, "first" if same_id else "second")
        client = OvertakenClient(server.client(), at, overtake)
        failed = False
        try:
            _land(server, settings, name, mode, FIRST, "first", client)
        except CommitError:
            failed = True
        _settled(server, settings, name, f"overtaken before call {at}, failed: {failed}")
        seen = _visible(server, settings, name)
        assert 5 not in seen or crashed
        if mode is SyncMode.FULL_REFRESH:
            assert seen in (FIRST, SECOND), f"call {at}: {seen}"
        else:
            added = set(seen) - {*OLD, 5}
            whole = [set(FIRST), set(SECOND), *([] if same_id else [{*FIRST, *SECOND}])]
            assert added in whole, f"call {at}: {seen}"
            assert failed or same_id or set(FIRST) <= added
        if at > client.calls:
            return


def _visible(server: S3Server, settings, name: str, partition: str | None = None) -> list[int]:
    bucket = Bucket(server.client(), settings.s3_bucket_name)
    table = read_scope(bucket, settings.template, Scope(stream(name).id, partition))
    return [] if table is None else sorted(table["id"].to_pylist())


def _settled(server: S3Server, settings, name: str, where: str, partition: str | None = None) -> None:
    """Checks that after recovery the listing and the manifest agree, and that no upload is left."""
    bucket, scope = Bucket(server.client(), settings.s3_bucket_name), Scope(stream(name).id, partition)
    recovered = recover(bucket, settings.template, scope)
    assert recovered.ok, f"{where}: {recovered.message}"
    listed = ids_by_listing(server, settings.s3_bucket_name, f"data/public/{name}/")
    assert listed == _visible(server, settings, name, partition), where
    assert open_uploads(server, settings.s3_bucket_name) == 0, where


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("mode", "form"), [(SyncMode.FULL_REFRESH, {}), (SyncMode.APPEND, {"format": ParquetFormat()})][: 1 + EVERY_CRASH]
)
def test_one_generation_of_all_directories_is_left(moto_s3: S3Server, mode: SyncMode, form: dict[str, Any]) -> None:
    settings = destination(moto_s3.new_bucket(), **DIRECTORIES, **form)
    _overtaken_everywhere(moto_s3, settings, mode, same_id=False, crashed=False)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("crashed", [False, True][: 1 + EVERY_CRASH], ids=["", "after-a-crash"][: 1 + EVERY_CRASH])
@pytest.mark.parametrize(("mode", "same_id"), PAIRS if EVERY_CRASH else PAIRS[:2])
def test_one_generation_is_left_whichever_writer_overtakes(
    moto_s3: S3Server, mode: SyncMode, same_id: bool, crashed: bool
) -> None:
    settings = destination(moto_s3.new_bucket(), object_size_mb=0.0002)
    _overtaken_everywhere(moto_s3, settings, mode, same_id=same_id, crashed=crashed)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("second", [SECOND, []][: 1 + EVERY_CRASH], ids=["replaced", "emptied"][: 1 + EVERY_CRASH])
def test_one_generation_is_left_whichever_writer_overtakes_in_a_partition(moto_s3: S3Server, second: list[int]) -> None:
    settings = destination(moto_s3.new_bucket(), object_size_mb=0.0002)
    day = "2026-01-05"
    for at in points(2):
        name = f"writers{next(_streams)}x"
        _land(moto_s3, settings, name, SyncMode.APPEND, OLD, "old", partition=day)
        overtake = partial(_land, moto_s3, settings, name, SyncMode.APPEND, second, "second", partition=day)
        client = OvertakenClient(moto_s3.client(), at, overtake)
        with suppress(CommitError):
            _land(moto_s3, settings, name, SyncMode.APPEND, FIRST, "first", client, partition=day)
        _settled(moto_s3, settings, name, f"overtaken before call {at}", day)
        assert _visible(moto_s3, settings, name, day) in (FIRST, second), f"call {at}"
        if at > client.calls:
            return


WAYS_TO_LEAVE: list[dict[str, Any]] = [{"delete_grace_s": 1}, {"publish_order": "purge_first"}][: 1 + EVERY_CRASH]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", list(SyncMode)[: 1 + EVERY_CRASH])
@pytest.mark.parametrize("way", WAYS_TO_LEAVE, ids=lambda each: "".join(each))
def test_recovery_at_any_point_of_a_sync_is_safe(moto_s3: S3Server, mode: SyncMode, way: dict[str, Any]) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for at in points():
        settings = destination(moto_s3.new_bucket(), object_size_mb=0.0002, **way)
        bucket = Bucket(moto_s3.client(), settings.s3_bucket_name)
        name = f"writers{next(_streams)}x"
        for number in OLD:
            _land(moto_s3, settings, name, mode, [number], f"old {number}")
        scope = Scope(stream(name).id)
        act = partial(recover, bucket, settings.template, scope, clock=lambda: tomorrow)
        client = OvertakenClient(moto_s3.client(), at, act)
        _land(moto_s3, settings, name, mode, FIRST, "first", client)
        assert _visible(moto_s3, settings, name) == (OLD + FIRST if mode is SyncMode.APPEND else FIRST), f"call {at}"
        assert recover(bucket, settings.template, scope, clock=lambda: tomorrow + timedelta(days=1)).ok
        _settled(moto_s3, settings, name, f"call {at}")
        if at > client.calls:
            return


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", list(SyncMode)[: 1 + EVERY_CRASH])
@pytest.mark.parametrize("order", ["purge_first", "add_first"][: 1 + EVERY_CRASH])
def test_a_sweep_of_every_upload_at_any_point_of_a_sync_is_safe(
    rclone_s3: S3Server, mode: SyncMode, order: str
) -> None:
    """Uploads count as abandoned immediately here. The sweep aborts those of the running sync, which fails and harms
    nothing."""
    settings = destination(rclone_s3.new_bucket(), object_size_mb=0.0002, abandoned_upload_age_s=0, publish_order=order)
    bucket = Bucket(rclone_s3.client(), settings.s3_bucket_name)
    failures = 0
    for at in points():
        name = f"writers{next(_streams)}x"
        _land(rclone_s3, settings, name, mode, OLD, "old")
        client = OvertakenClient(
            rclone_s3.client(),
            at,
            lambda name=name: sweep(bucket, settings, stream(name).id, now=datetime.now(UTC) + timedelta(days=1)),
        )
        new = OLD + FIRST if mode is SyncMode.APPEND else FIRST
        try:
            _land(rclone_s3, settings, name, mode, FIRST, "first", client)
        except S3DestError:
            failures += 1
            recover(bucket, settings.template, Scope(stream(name).id))
            assert _visible(rclone_s3, settings, name) == OLD, f"call {at}"
        else:
            assert _visible(rclone_s3, settings, name) == new, f"call {at}"
        _settled(rclone_s3, settings, name, f"call {at}")
        if at > client.calls:
            break
    assert 0 < failures < client.calls


def test_partitions_that_land_in_the_same_millisecond_do_not_affect_each_other(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    appended = stream(mode=SyncMode.APPEND)

    def land_one(opened: Target, number: int) -> str:
        scope = Scope(appended.id, f"hour-{number}")
        return land([batch_of(users(number, number))], opened, appended, sync("run", START), scope=scope).objects[0].key

    with target(moto_s3, settings) as opened, ThreadPoolExecutor(8) as threads:
        keys = list(threads.map(partial(land_one, opened), range(40)))
    assert len(set(keys)) == 40
    assert ids_by_listing(moto_s3, settings.s3_bucket_name) == list(range(40))
