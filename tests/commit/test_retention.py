"""Partitions that are older than `expire_partitions_after` are retired: by a landing at most once a day, and by a
sweep."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from failing_clients import HARDEST_WAYS, WAYS, failing_in_turn
from land_and_read import START, batches_of, destination, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.commit.maintenance import recover
from s3dest_dagster.commit.retention import expire_partitions, expired_partitions, partition_day
from s3dest_dagster.commit.scopes import scopes
from s3dest_dagster.errors import S3DestError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.plan import plan
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.stream_settings import StreamSettings
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId

DAY = timedelta(days=1)
USERS = StreamId("public", "users")


@pytest.mark.parametrize(
    ("key", "day"),
    [
        ("2026-01-05", (2026, 1, 5)),
        ("2026-01-05-13:00", (2026, 1, 5)),
        ("2026-01", (2026, 1, 31)),
        ("eu|2024-02", (2024, 2, 29)),
        ("2026-01-05-13:00+0100", (2026, 1, 5)),
        ("2026-01-05|eu", (2026, 1, 5)),
        ("2026-01-05|2026-01-06", None),
        ("eu", None),
        ("2026-13-01", None),
        ("2026-13", None),
        ("0000-01", None),
        ("2026-W03", None),
        ("20260105", None),
        ("order-2026-01-05", None),
    ],
)
def test_the_key_of_a_partition_says_its_day(key, day) -> None:
    assert partition_day(key) == (None if day is None else datetime(*day, tzinfo=UTC))


def land_at(server: S3Server, settings: S3Destination, moment: datetime, partition: str, number: int) -> None:
    with target(server, settings) as opened:
        at = replace(opened, clock=lambda: moment, server_clock=lambda: moment)
        scope = Scope(USERS, partition)
        land(batches_of(users(number, number)), at, stream(), sync(f"{partition} {number}", moment), scope=scope)


def held(bucket: Bucket, settings: S3Destination) -> set[str | None]:
    """The partitions that hold records."""
    found = scopes(bucket, settings.template, {USERS})
    tables = {scope.partition: read_scope(bucket, settings.template, scope) for scope in found}
    return {partition for partition, table in tables.items() if table is not None and len(table)}


def test_a_landing_retires_expired_partitions_at_most_once_a_day(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), expire_partitions_after=30)
    bucket = moto_s3.open(settings)
    for number, partition in enumerate(("2025-12-01", "2025-12-20", "eu")):
        land_at(moto_s3, settings, START, partition, number)
    assert held(bucket, settings) == {"2025-12-01", "2025-12-20", "eu"}
    land_at(moto_s3, settings, START + DAY / 2, "2026-01-05", 3)
    assert "2025-12-01" in held(bucket, settings)
    land_at(moto_s3, settings, START + DAY, "2026-01-06", 4)
    assert held(bucket, settings) == {"2025-12-20", "eu", "2026-01-05", "2026-01-06"}


@pytest.mark.parametrize(("of_stream", "of_destination"), [(30, 0), (30, 3000), (0, 30), (None, 30)])
def test_the_days_of_a_stream_come_before_those_of_the_destination(
    moto_s3: S3Server, of_stream: int | None, of_destination: int
) -> None:
    settings = destination(moto_s3.new_bucket(), expire_partitions_after=of_destination)
    bucket = moto_s3.open(settings)
    named = replace(stream(), settings=StreamSettings(expire_partitions_after=of_stream))
    with target(moto_s3, settings) as opened:
        for at, partition in ((START, "2025-12-01"), (START + DAY, "2026-01-06")):
            moment = lambda at=at: at  # noqa: E731
            fixed = replace(opened, clock=moment, server_clock=moment)
            expires = plan(fixed, [named], sync("plan", at), partition=partition).streams[0].expires
            scope = Scope(USERS, partition)
            receipt = land(batches_of(users(1, 1)), fixed, named, sync(partition, at), scope=scope)
    kept = of_stream == 0
    assert receipt.expired == expires == (() if kept else ("2025-12-01",))
    assert held(bucket, settings) == ({"2025-12-01", "2026-01-06"} if kept else {"2026-01-06"})


def test_a_landing_does_not_retire_the_partition_that_it_lands(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), expire_partitions_after=30)
    bucket = moto_s3.open(settings)
    for number, (at, partition) in enumerate(((START, "2025-01-01"), (START + DAY, "2025-01-02"))):
        land_at(moto_s3, settings, at, partition, number)
    assert held(bucket, settings) == {"2025-01-02"}
    land_at(moto_s3, settings, START + 2 * DAY, "2026-01-06", 3)
    assert held(bucket, settings) == {"2026-01-06"}


def test_a_month_that_is_not_over_stays(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), expire_partitions_after=10)
    month = datetime(2026, 1, 25, tzinfo=UTC)
    land_at(moto_s3, settings, month, "2026-01", 1)
    bucket = moto_s3.open(settings)
    for now, held_then in ((month, {"2026-01"}), (month + 17 * DAY, set())):
        expire_partitions(bucket, settings, USERS, now, os.urandom)
        assert held(bucket, settings) == held_then


def test_nothing_expires_by_default(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    land_at(moto_s3, settings, START, "1999-01-01", 1)
    assert expire_partitions(moto_s3.open(settings), settings, USERS, START, os.urandom) == []


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", HARDEST_WAYS)
def test_a_failure_at_any_call_leaves_each_partition_as_a_whole(moto_s3: S3Server, way: str) -> None:
    after, dead = WAYS[way]
    for client in failing_in_turn(moto_s3.client(), after=after, dead=dead, step=2):
        settings = destination(moto_s3.new_bucket(), expire_partitions_after=30)
        bucket = moto_s3.open(settings)
        for number, partition in enumerate(("2025-01-01", "2025-01-02", "2026-01-05")):
            land_at(moto_s3, settings, START, partition, number)
        with contextlib.suppress(S3DestError):
            expire_partitions(Bucket(client, settings.s3_bucket_name), settings, USERS, START, os.urandom)
        for scope in scopes(bucket, settings.template, {USERS}):
            assert recover(bucket, settings.template, scope).ok
        assert held(bucket, settings) >= {"2026-01-05"}
        expire_partitions(bucket, settings, USERS, START, os.urandom)
        assert held(bucket, settings) == {"2026-01-05"}, client.failed
        assert list(expired_partitions(bucket, settings, USERS, START)) == []
