"""A sweep aborts what nobody waits for, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from landed import START, batches_of, destination, ids_by_listing, open_uploads, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.landing import land
from s3dest_dagster.stream import SyncMode


def test_a_landing_never_sweeps_its_own_uploads(any_s3: S3Server) -> None:
    """Even when its sync began longer ago than uploads may wait: here, by a clock that is far ahead."""
    settings = destination(any_s3.new_bucket(), abandoned_upload_age_s=0)
    appended = stream(mode=SyncMode.APPEND)
    with target(any_s3, settings) as opened:
        for day in (36_500, 36_502):
            ahead = replace(opened, clock=lambda day=day: START + timedelta(days=day))
            land(batches_of(users(day, day)), ahead, appended, sync(f"day {day}"))
    assert ids_by_listing(any_s3, settings.s3_bucket_name) == [36_500, 36_502]
    assert open_uploads(any_s3, settings.s3_bucket_name) == 0


def test_a_landing_sweeps_what_an_earlier_one_left(any_s3: S3Server) -> None:
    settings = destination(any_s3.new_bucket(), abandoned_upload_age_s=0)
    appended = stream(mode=SyncMode.APPEND)
    with target(any_s3, settings) as opened:
        land(batches_of(users(1, 1)), opened, appended, sync("first"))
        key = "data/public/users/2020_01_01_1577836800000_0.jsonl"
        any_s3.client().create_multipart_upload(Bucket=settings.s3_bucket_name, Key=key)
        ahead = replace(opened, clock=lambda: START + timedelta(days=36_500))
        assert land(batches_of(users(2, 2)), ahead, appended, sync("second")).swept == 1
    assert ids_by_listing(any_s3, settings.s3_bucket_name) == [1, 2]
    assert open_uploads(any_s3, settings.s3_bucket_name) == 0
