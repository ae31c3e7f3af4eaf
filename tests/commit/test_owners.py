"""A stream has one owner. Nobody else lands it, at whatever moment both begin."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from failing_clients import CountedClient
from land_and_read import batches_of, destination, ids_by_listing, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.commit.documents import registry_key
from s3dest_dagster.commit.registry_document import REGISTRIES
from s3dest_dagster.errors import OwnershipError
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.ingest.streams import landing_streams
from s3dest_dagster.inspection.plan import plan
from s3dest_dagster.keys import stream_root
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId

USERS = StreamId("public", "users")


def land_as(server: S3Server, settings: S3Destination, owner: str | None, number: int, bucket: Bucket | None = None):
    with target(server, replace(settings, owner=owner), bucket) as opened:
        return land(batches_of(users(number, number)), opened, stream(), sync(f"s{number}"))


def owner_in_bucket(server: S3Server, settings: S3Destination) -> str | None:
    root = stream_root(settings.template.literal_root, USERS)
    found = REGISTRIES.read(server.open(settings), root, registry_key(root))
    return found[0].owner if found is not None else None


def everything(server: S3Server, bucket: str) -> dict[str, str]:
    listed = server.client().list_objects_v2(Bucket=bucket).get("Contents", [])
    return {each["Key"]: each["ETag"] for each in listed}


@pytest.mark.parametrize(("first", "second"), [("crm/users", "shop/users"), ("crm/users", None)])
def test_another_owner_is_refused_before_anything_is_written(moto_s3: S3Server, first, second) -> None:
    settings = destination(moto_s3.new_bucket())
    land_as(moto_s3, settings, first, 1)
    before = everything(moto_s3, settings.s3_bucket_name)
    with pytest.raises(OwnershipError) as caught:
        land_as(moto_s3, settings, second, 2)
    told = str(caught.value)
    assert all(part in told for part in ("public.users", first, str(second or "no owner"), "Nothing was written"))
    assert all(cure in told for cure in ("another namespace", "s3dest transfer public.users --to"))
    assert (caught.value.owner, caught.value.other, caught.value.stream) == (first, second, "public.users")
    assert everything(moto_s3, settings.s3_bucket_name) == before
    assert not moto_s3.client().list_multipart_uploads(Bucket=settings.s3_bucket_name).get("Uploads")


def test_a_plan_refuses_another_owner(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    land_as(moto_s3, settings, "crm/users", 1)
    with target(moto_s3, replace(settings, owner="shop/users")) as opened, pytest.raises(OwnershipError):
        plan(opened, [stream()], sync("plan"))


def test_a_stream_without_an_owner_gets_the_first_one_that_lands_it(any_s3: S3Server) -> None:
    settings = destination(any_s3.new_bucket())
    land_as(any_s3, settings, None, 1)
    assert owner_in_bucket(any_s3, settings) is None
    land_as(any_s3, settings, "crm/users", 2)
    land_as(any_s3, settings, "crm/users", 3)
    assert owner_in_bucket(any_s3, settings) == "crm/users"
    with pytest.raises(OwnershipError):
        land_as(any_s3, settings, None, 4)
    assert ids_by_listing(any_s3, settings.s3_bucket_name, "data/public/users/") == [3]


@pytest.mark.parametrize("landed_before", [False, True])
def test_one_of_two_first_owners_wins_although_both_began(moto_s3: S3Server, landed_before: bool) -> None:
    """With `landed_before`, the stream has landed without an owner."""
    settings = destination(moto_s3.new_bucket())
    if landed_before:
        land_as(moto_s3, settings, None, 9)
    one, other = (replace(settings, owner=owner) for owner in ("crm/users", "shop/users"))
    with (
        target(moto_s3, one) as first,
        target(moto_s3, other) as second,
        Landing(first, stream(), sync("first")) as winner,
        Landing(second, stream(), sync("second")) as loser,
    ):
        for landing, number in ((winner, 1), (loser, 2)):
            for batch in batches_of(users(number, number)):
                landing.append(batch)
            landing.stage()
        winner.commit()
        with pytest.raises(OwnershipError, match="belongs to 'crm/users'"):
            loser.commit()
    assert ids_by_listing(moto_s3, settings.s3_bucket_name, "data/public/users/") == [1]
    assert owner_in_bucket(moto_s3, settings) == "crm/users"
    assert not moto_s3.client().list_multipart_uploads(Bucket=settings.s3_bucket_name).get("Uploads")


def test_an_owner_costs_no_request_once_it_is_known(moto_s3: S3Server) -> None:
    calls = {}
    for owner in (None, "crm/users"):
        settings = destination(moto_s3.new_bucket())
        land_as(moto_s3, settings, owner, 1)
        client = CountedClient(moto_s3.client())
        land_as(moto_s3, settings, owner, 2, Bucket(client, settings.s3_bucket_name))
        calls[owner] = sorted(client.calls)
    assert calls[None] == calls["crm/users"]


def test_a_lost_registry_gets_the_owner_of_the_newest_sync_back(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    land_as(moto_s3, settings, "crm/users", 1)
    root = stream_root(settings.template.literal_root, USERS)
    moto_s3.client().delete_object(Bucket=settings.s3_bucket_name, Key=registry_key(root))
    with pytest.raises(OwnershipError):
        land_as(moto_s3, settings, "shop/users", 2)
    land_as(moto_s3, settings, "crm/users", 3)
    assert owner_in_bucket(moto_s3, settings) == "crm/users"


def test_a_registry_of_a_version_without_owners_has_none(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    land_as(moto_s3, settings, "crm/users", 1)
    root = stream_root(settings.template.literal_root, USERS)
    bucket = moto_s3.open(settings)
    document = json.loads(bucket.get(registry_key(root))[0])
    del document["owner"]
    bucket.put(registry_key(root), json.dumps(document).encode())
    land_as(moto_s3, settings, "shop/users", 2)
    assert owner_in_bucket(moto_s3, settings) == "shop/users"


def test_the_key_of_an_asset_is_the_owner_unless_the_settings_name_one(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    with (
        target(moto_s3, settings) as opened,
        landing_streams(opened, [stream()], sync("first"), assets={USERS: "crm/users"}) as landings,
    ):
        list(landings.publish())
    assert owner_in_bucket(moto_s3, settings) == "crm/users"
    with target(moto_s3, replace(settings, owner="a team")) as opened, pytest.raises(OwnershipError, match="a team"):
        Landing(opened, stream(), sync("second"), asset="crm/users")


@pytest.mark.parametrize(("first", "second"), [(None, "2026-01-05"), ("2026-01-05", None)])
def test_the_first_landing_after_a_change_of_partitions_says_what_stays_visible(
    moto_s3: S3Server, caplog: pytest.LogCaptureFixture, first: str | None, second: str | None
) -> None:
    settings = destination(moto_s3.new_bucket())
    before, after = Scope(USERS, first), Scope(USERS, second)
    with target(moto_s3, settings) as opened:
        one = land(batches_of(users(1, 1)), opened, stream(), sync("one"), scope=before)
        planned = plan(opened, [stream()], sync("plan"), partition=second).streams[0].left_beside
        two = land(batches_of(users(2, 2)), opened, stream(), sync("two"), scope=after)
        three = land(batches_of(users(3, 3)), opened, stream(), sync("three"), scope=after)
    assert planned == two.left_beside == (before,)
    assert one.left_beside == three.left_beside == ()
    assert caplog.text.count("s3dest retire public.users") == 1
