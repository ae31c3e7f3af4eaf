"""Replaced objects stay for readers of the old generation for `delete_grace_s`. The first process that comes later
deletes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from land_and_read import START, batches_of, destination, ids_by_listing, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.commit.documents import head_key
from s3dest_dagster.commit.head import HEADS, MAX_RETIRED, Head
from s3dest_dagster.commit.maintenance import recover, sweep
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.keys import scope_root
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.stream import Scope, StreamId, SyncMode

HOUR = timedelta(hours=1)
USERS = Scope(StreamId("public", "users"))


def lake(server: S3Server, **settings: Any) -> S3Destination:
    return destination(server.new_bucket(), delete_grace_s=HOUR.total_seconds(), **settings)


def land_at(server: S3Server, settings: S3Destination, moment: datetime, number: int, **options: Any) -> None:
    """Runs a full refresh with one record, at this moment by all clocks."""
    with target(server, settings) as opened:
        name = options.pop("stream", stream())
        at = replace(opened, clock=lambda: moment, server_clock=lambda: moment)
        land(batches_of(users(number, number)), at, name, sync(f"s{number}", moment), **options)


def listed(server: S3Server, settings: S3Destination) -> list[int]:
    return ids_by_listing(server, settings.s3_bucket_name)


def visible(server: S3Server, settings: S3Destination) -> list[int]:
    table = read_scope(server.open(settings), settings.template, USERS)
    return [] if table is None else sorted(table["id"].to_pylist())


def head_of(server: S3Server, settings: S3Destination) -> Head:
    key = head_key(scope_root(settings.template.literal_root, USERS))
    return HEADS.decode(server.open(settings).get(key)[0], key)


def test_a_listing_shows_both_generations_and_the_manifest_the_new_one(any_s3: S3Server) -> None:
    settings = lake(any_s3)
    land_at(any_s3, settings, START, 1)
    land_at(any_s3, settings, START + HOUR, 2)
    assert listed(any_s3, settings) == [1, 2]
    assert visible(any_s3, settings) == [2]


def test_the_next_sync_deletes_only_expired_objects(moto_s3: S3Server) -> None:
    settings = lake(moto_s3)
    for number, minutes in enumerate((0, 10, 40, 75), 1):
        land_at(moto_s3, settings, START + timedelta(minutes=minutes), number)
    assert listed(moto_s3, settings) == [2, 3, 4]
    appended = stream(mode=SyncMode.APPEND)
    land_at(moto_s3, settings, START + timedelta(minutes=300), 5, stream=appended)
    assert listed(moto_s3, settings) == [4, 5]
    assert head_of(moto_s3, settings).retired == ()


def by_recovery(server: S3Server, settings: S3Destination, moment: datetime) -> None:
    assert recover(server.open(settings), settings.template, USERS, clock=lambda: moment).ok


def by_sweep(server: S3Server, settings: S3Destination, moment: datetime) -> None:
    sweep(server.open(settings), settings, USERS.stream, now=moment)


@pytest.mark.parametrize("act", [by_recovery, by_sweep])
def test_recover_and_sweep_delete_expired_objects(any_s3: S3Server, act: Callable[..., None]) -> None:
    settings = lake(any_s3)
    land_at(any_s3, settings, START, 1)
    land_at(any_s3, settings, START, 2)
    act(any_s3, settings, START + HOUR - timedelta(seconds=1))
    assert listed(any_s3, settings) == [1, 2]
    act(any_s3, settings, START + HOUR)
    assert listed(any_s3, settings) == visible(any_s3, settings) == [2]
    assert head_of(any_s3, settings).retired == ()


def test_the_grace_period_begins_with_the_publication_whoever_publishes(moto_s3: S3Server) -> None:
    settings = lake(moto_s3)
    land_at(moto_s3, settings, START, 1)
    key = head_key(scope_root(settings.template.literal_root, USERS))
    before = moto_s3.open(settings).get(key)[0]
    land_at(moto_s3, settings, START, 2)
    decided = replace(HEADS.decode(before, key), pending_segment=head_of(moto_s3, settings).newest)
    moto_s3.open(settings).put(key, HEADS.encode(decided))
    by_recovery(moto_s3, settings, START + 5 * HOUR)
    by_recovery(moto_s3, settings, START + 5.9 * HOUR)
    assert listed(moto_s3, settings) == [1, 2]
    by_recovery(moto_s3, settings, START + 6 * HOUR)
    assert listed(moto_s3, settings) == [2]


def test_a_key_that_is_live_again_is_not_deleted(moto_s3: S3Server) -> None:
    """Two file names alternate, both without a part number. The third sync writes the key that the second replaced."""
    moves = {"s3_path_format": "${STREAM_NAME}/", "on_template_change": "accept"}
    one = lake(moto_s3, file_name_pattern="a{format_extension}", **moves)
    other = replace(one, file_name_pattern="b{format_extension}")
    for number, settings in enumerate((one, other, one), 1):
        land_at(moto_s3, settings, START, number)
    by_recovery(moto_s3, one, START + 2 * HOUR)
    assert listed(moto_s3, one) == visible(moto_s3, one) == [3]


def test_a_head_stays_small_and_all_objects_are_deleted_if_more_are_replaced_than_it_lists(moto_s3: S3Server) -> None:
    settings = lake(moto_s3)
    number = MAX_RETIRED + 6
    for each in range(number):
        land_at(moto_s3, settings, START + timedelta(minutes=each), each)
    assert len(head_of(moto_s3, settings).retired) == MAX_RETIRED
    assert len(listed(moto_s3, settings)) == number
    by_recovery(moto_s3, settings, START + 2 * HOUR)
    assert listed(moto_s3, settings) == [number - 1]


def test_a_refresh_does_not_mistake_retired_objects_for_connector_files(moto_s3: S3Server) -> None:
    settings = lake(moto_s3)
    for number in (1, 2, 3):
        land_at(moto_s3, settings, START + timedelta(minutes=number), number)
    land_at(moto_s3, replace(settings, delete_grace_s=0), START + timedelta(minutes=4), 4)
    assert listed(moto_s3, settings) == [1, 2, 4]


def test_deletions_during_a_sync_do_not_stop_it(moto_s3: S3Server) -> None:
    settings = lake(moto_s3)
    land_at(moto_s3, settings, START, 1)
    land_at(moto_s3, settings, START, 2)
    with target(moto_s3, settings) as opened, Landing(opened, stream(), sync("s3")) as landing:
        landing.append_batch(next(batches_of(users(3, 3))))
        by_sweep(moto_s3, settings, START + 2 * HOUR)
        landing.commit()
    assert visible(moto_s3, settings) == [3]
    assert listed(moto_s3, settings) == [2, 3]


def test_purging_first_and_a_grace_period_exclude_each_other():
    with pytest.raises(SettingsError, match="purge_first") as raised:
        S3Destination(s3_bucket_name="lake", publish_order="purge_first", delete_grace_s=1)
    assert raised.value.setting == "delete_grace_s"
