"""A plan of a new stream says where the stream may have landed before: under another name or bucket path."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from land_and_read import batches_of, destination, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.commit.stream_transfer import NewName, move_stream
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.plan import plan
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.stream import StreamId


def land_in(server: S3Server, settings: S3Destination, name: str = "users", owner: str | None = None) -> None:
    with target(server, replace(settings, owner=owner)) as opened:
        land(batches_of(users(1, 1)), opened, stream(name), sync(f"{settings.s3_bucket_path} {name}"))


def elsewhere(
    server: S3Server, settings: S3Destination, name: str = "users", owner: str | None = None
) -> list[tuple[str, str]]:
    with target(server, replace(settings, owner=owner)) as opened:
        (planned,) = plan(opened, [stream(name)], sync("plan")).streams
    return sorted((each.bucket_path, each.stream) for each in planned.left_elsewhere)


def test_the_same_stream_is_found_above_and_beside_its_bucket_path(moto_s3: S3Server) -> None:
    bucket = moto_s3.new_bucket()
    for path in ("lake", "lake/v1", "lake/v2/deep", "other"):
        land_in(moto_s3, destination(bucket, s3_bucket_path=path))
    new = destination(bucket, s3_bucket_path="lake/v3")
    assert elsewhere(moto_s3, new) == [("lake", "users"), ("lake/v1", "users")]
    assert elsewhere(moto_s3, new, "orders") == []
    land_in(moto_s3, new)
    assert elsewhere(moto_s3, new) == []


def test_another_stream_of_the_same_owner_is_found(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    land_in(moto_s3, settings, "users", "shop/users")
    land_in(moto_s3, settings, "orders", "shop/orders")
    assert elsewhere(moto_s3, settings, "people", "shop/users") == [("data", "users")]
    assert elsewhere(moto_s3, settings, "people") == []
    name = NewName(StreamId("public", "users"), StreamId("public", "people"))
    move_stream(moto_s3.open(settings), settings, name, datetime.now(UTC), os.urandom)
    assert elsewhere(moto_s3, settings, "users", "shop/users") == [("data", "people")]
    assert elsewhere(moto_s3, settings, "people", "shop/users") == []


def test_the_first_landing_of_a_name_whose_content_was_given_away_says_so(
    moto_s3: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    settings = destination(moto_s3.new_bucket())
    land_in(moto_s3, settings)
    name = NewName(StreamId("public", "users"), StreamId("public", "people"))
    move_stream(moto_s3.open(settings), settings, name, datetime.now(UTC), os.urandom)
    for number, told in enumerate((True, False)):
        caplog.clear()
        with target(moto_s3, settings) as opened:
            land(batches_of(users(1, 1)), opened, stream(), sync(f"again {number}"))
        assert ("public.users begins anew: what it held was given to public.people." in caplog.messages) is told
