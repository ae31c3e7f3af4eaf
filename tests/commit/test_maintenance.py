"""A sweep aborts abandoned uploads, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from failing_clients import CountedClient, DyingAfterDeciding, FailingClient, OvertakenClient
from land_and_read import (
    START,
    batch_of,
    batches_of,
    destination,
    ids_by_listing,
    open_uploads,
    stream,
    sync,
    target,
    users,
)
from servers import S3Server

from s3dest_dagster.batch import BadRecord
from s3dest_dagster.commit.maintenance import recover, sweep
from s3dest_dagster.errors import CommitError
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId, SyncMode


def test_a_landing_never_sweeps_its_own_uploads(any_s3: S3Server) -> None:
    """This holds even if its sync began longer ago than the maximum age of uploads. The clock here is far ahead."""
    settings = destination(any_s3.new_bucket(), abandoned_upload_age_s=0)
    appended = stream(mode=SyncMode.APPEND)
    with target(any_s3, settings) as opened:
        for day in (36_500, 36_502):
            ahead = replace(opened, server_clock=lambda day=day: START + timedelta(days=day))
            land(batches_of(users(day, day)), ahead, appended, sync(f"day {day}"))
    assert ids_by_listing(any_s3, settings.s3_bucket_name) == [36_500, 36_502]
    assert open_uploads(any_s3, settings.s3_bucket_name) == 0


def test_a_landing_sweeps_the_uploads_of_an_earlier_landing(any_s3: S3Server) -> None:
    settings = destination(any_s3.new_bucket(), abandoned_upload_age_s=0)
    appended = stream(mode=SyncMode.APPEND)
    with target(any_s3, settings) as opened:
        land(batches_of(users(1, 1)), opened, appended, sync("first"))
        key = "data/public/users/2020_01_01_1577836800000_0.jsonl"
        any_s3.client().create_multipart_upload(Bucket=settings.s3_bucket_name, Key=key)
        ahead = replace(opened, server_clock=lambda: START + timedelta(days=36_500))
        assert land(batches_of(users(2, 2)), ahead, appended, sync("second")).swept == 1
    assert ids_by_listing(any_s3, settings.s3_bucket_name) == [1, 2]
    assert open_uploads(any_s3, settings.s3_bucket_name) == 0


def test_a_stream_is_swept_once_a_day_however_many_partitions_it_has(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    client = CountedClient(moto_s3.client())
    sweeps = []
    with target(moto_s3, settings, Bucket(client, settings.s3_bucket_name)) as opened:
        for hours in (0, 1, 23, 24, 25, 47, 49):
            now = START + timedelta(hours=hours)
            client.calls.clear()
            scope = Scope(StreamId("public", "users"), f"after {hours} hours")
            at = replace(opened, server_clock=lambda now=now: now)
            land(batches_of(users(1, 1)), at, stream(), sync("s"), scope=scope)
            sweeps += [hours] if "list_multipart_uploads" in client.calls else []
    assert sweeps == [24, 49]


@pytest.mark.parametrize("path", ["${STREAM_NAME}/${EPOCH}_", "${STREAM_NAME}/${YEAR}/"])
def test_uploads_of_a_killed_sync_under_a_former_template_are_swept(any_s3: S3Server, path: str) -> None:
    name = any_s3.new_bucket()
    former = destination(name, s3_path_format=path, abandoned_upload_age_s=0)
    settings = replace(former, s3_path_format="new/${STREAM_NAME}/${EPOCH}_", on_template_change="accept")
    with target(any_s3, former) as opened:
        land(batches_of(users(1, 1)), opened, stream(), sync("a"))
        killed = Landing(opened, stream(), sync("killed"))
        killed.append_batch(batch_of(users(2, 2)))
        killed.stage()
    with target(any_s3, settings) as opened:
        land(batches_of(users(3, 3)), opened, stream(), sync("b"))
    assert sweep(any_s3.open(settings), settings, stream().id, now=_soon()).aborted == 1
    assert open_uploads(any_s3, name) == 0


@pytest.mark.parametrize("order", ["add_first", "purge_first"])
def test_a_sweep_that_lists_before_a_decision_and_aborts_after_it_loses_no_old_data(
    rclone_s3: S3Server, order: str
) -> None:
    settings = destination(rclone_s3.new_bucket(), publish_order=order, abandoned_upload_age_s=0)
    name = settings.s3_bucket_name
    dying = Bucket(DyingAfterDeciding(rclone_s3.client(), at="complete_multipart_upload"), name)
    with target(rclone_s3, settings) as opened:
        land(batches_of(users(1, 5)), opened, stream(), sync("s1"))
    with target(rclone_s3, settings, dying) as opened, Landing(opened, stream(), sync("s2")) as landing:
        landing.append_batch(batch_of(users(6, 9)))
        landing.stage()

        def decide() -> None:
            with pytest.raises(CommitError, match="finishes it"):
                landing.commit()

        overtaken = Bucket(OvertakenClient(rclone_s3.client(), "abort_multipart_upload", decide), name)
        assert sweep(overtaken, settings, stream().id, now=_soon()).aborted == 1
    assert "rolled back" in recover(rclone_s3.open(settings), settings.template, Scope(stream().id)).message
    assert ids_by_listing(rclone_s3, name) == [1, 2, 3, 4, 5]


def _soon() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=5)


def _decided(server: S3Server, settings, name: str) -> None:
    """A sync that was decided and died before any of it was published."""
    items = [batch_of(users(1, 1)), BadRecord(StreamId("public", name), b"x", "no JSON")]
    dying = FailingClient(server.client(), at="complete_multipart_upload", dead=True)
    scope = Scope(StreamId("public", name), "2026-01-05")
    with (
        target(server, settings, Bucket(dying, settings.s3_bucket_name)) as opened,
        pytest.raises(CommitError, match="finishes it"),
    ):
        land(items, opened, stream(name), sync("s"), scope=scope)


@pytest.mark.parametrize(
    ("path", "decided", "swept"),
    [
        ("${STREAM_NAME}/${EPOCH}_", "users", "users"),
        ("${EPOCH}_", "users", "orders"),
    ],
)
def test_a_sweep_spares_the_pending_uploads_of_every_head(
    any_s3: S3Server, path: str, decided: str, swept: str
) -> None:
    """The pending uploads are the stream's own, those of its quarantined lines, and those of a stream with similar
    keys."""
    name = any_s3.new_bucket()
    settings = destination(name, s3_path_format=path, abandoned_upload_age_s=0, on_bad_record="quarantine")
    _decided(any_s3, settings, decided)
    for key in (f"data/{decided}/1577836800000_0.jsonl", "data/1577836800000_0.jsonl"):
        any_s3.client().create_multipart_upload(Bucket=name, Key=key)
    bucket = any_s3.open(settings)
    done = sweep(bucket, settings, StreamId("public", swept), now=datetime.now(UTC) + timedelta(seconds=5))
    assert done.aborted == 1
    assert recover(bucket, settings.template, Scope(StreamId("public", decided), "2026-01-05")).ok
    assert ids_by_listing(any_s3, name) == [1]
