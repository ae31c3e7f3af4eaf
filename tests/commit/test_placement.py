"""A manifest records where it belongs. Landing, reading and verification refuse it anywhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from land_and_read import batch_of, data_keys, destination, ids_by_listing, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.commit.documents import head_key, registry_key
from s3dest_dagster.commit.maintenance import recover, sweep
from s3dest_dagster.commit.scopes import found_streams
from s3dest_dagster.errors import ManifestError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.plan import plan
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.keys import manifest_root, scope_root, stream_root
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, SyncMode

ONE, TWO = Scope(stream("one").id), Scope(stream("two").id)


def landed(server: S3Server, settings: S3Destination, number: int, name: str = "users", **scope: str) -> None:
    with target(server, settings) as opened:
        whole = Scope(stream(name).id, **scope)
        land([batch_of(users(number, number))], opened, stream(name), sync(f"s{number}"), scope=whole)


def copied(bucket: Bucket, one: str, other: str) -> None:
    """Copies everything under a prefix to another prefix."""
    for each in list(bucket.list_objects(one)):
        bucket.put(f"{other}{each.key.removeprefix(one)}", bucket.get(each.key)[0])


def everything(bucket: Bucket) -> dict[str, str]:
    return {each.key: each.etag for each in bucket.list_objects("")}


# ---------------------------------------------------------------------- a copied lake


@pytest.fixture
def lakes(moto_s3: S3Server) -> tuple[S3Destination, S3Destination]:
    """A lake, and a copy of it with all its contents."""
    original = destination(moto_s3.new_bucket(), s3_bucket_path="lake")
    copy = destination(original.s3_bucket_name, s3_bucket_path="lake2", on_template_change="accept")
    landed(moto_s3, original, 1)
    copied(moto_s3.open(original), "lake/", "lake2/")
    return original, copy


def _land_in(server: S3Server, settings: S3Destination) -> None:
    landed(server, settings, 2)


def _land_without_registry(server: S3Server, settings: S3Destination) -> None:
    server.open(settings).delete([registry_key(stream_root(settings.template.literal_root, stream().id))])
    landed(server, settings, 2)


def _plan(server: S3Server, settings: S3Destination) -> None:
    with target(server, settings) as opened:
        plan(opened, [stream()], sync("plan"))


def _read(server: S3Server, settings: S3Destination) -> None:
    read_scope(server.open(settings), settings.template, Scope(stream().id))


def _verify(server: S3Server, settings: S3Destination) -> None:
    verify(server.open(settings), settings.template, Scope(stream().id))


@pytest.mark.parametrize("act", [_land_in, _land_without_registry, _plan, _read, _verify])
def test_a_copied_lake_is_refused_and_the_original_untouched(
    moto_s3: S3Server, lakes: tuple[S3Destination, S3Destination], act: Callable[[S3Server, S3Destination], None]
) -> None:
    original, copy = lakes
    bucket = moto_s3.open(original)
    before = {key: etag for key, etag in everything(bucket).items() if not key.endswith("~stream.json")}
    with pytest.raises(ManifestError, match="copied or moved") as caught:
        act(moto_s3, copy)
    assert "Nothing was written or deleted" in str(caught.value)
    assert {key: etag for key, etag in everything(bucket).items() if not key.endswith("~stream.json")} == before
    assert verify(bucket, original.template, Scope(stream().id)).problems == ()


def test_the_advice_for_a_copied_lake_makes_it_usable_and_leaves_the_original_unchanged(
    moto_s3: S3Server, lakes: tuple[S3Destination, S3Destination]
) -> None:
    original, copy = lakes
    bucket = moto_s3.open(copy)
    with pytest.raises(ManifestError) as caught:
        landed(moto_s3, copy, 2)
    manifests = manifest_root(copy.template.literal_root)
    assert f"under {bucket.uri(manifests)}, and nothing else" in str(caught.value)
    bucket.delete([each.key for each in bucket.list_objects(manifests)])
    landed(moto_s3, copy, 2)
    assert ids_by_listing(moto_s3, copy.s3_bucket_name, "lake2/") == [2]
    assert ids_by_listing(moto_s3, copy.s3_bucket_name, "lake/") == [1]
    landed(moto_s3, original, 3)
    assert ids_by_listing(moto_s3, copy.s3_bucket_name) == [2, 3]


def test_recovery_and_listing_report_a_copied_lake(
    moto_s3: S3Server, lakes: tuple[S3Destination, S3Destination]
) -> None:
    _, copy = lakes
    bucket = moto_s3.open(copy)
    recovered = recover(bucket, copy.template, Scope(stream().id))
    assert not recovered.ok
    assert "copied or moved" in recovered.message
    (found,) = found_streams(bucket, copy.template)
    assert [each.error.key for each in found.damaged] == [
        head_key(scope_root(copy.template.literal_root, Scope(stream().id)))
    ]


# ---------------------------------------------------------------------- manifests of other owners


def _copied_kind(server: S3Server, kind: str) -> tuple[S3Destination, str]:
    """Two streams, where a manifest of the second replaces that of the first, and the key of that manifest."""
    settings = destination(server.new_bucket())
    landed(server, settings, 1, "one")
    landed(server, settings, 2, "two")
    bucket = server.open(settings)
    mine, others = (
        next(
            each.key
            for each in bucket.list_objects(stream_root(settings.template.literal_root, scope.stream))
            if kind in each.key
        )
        for scope in (ONE, TWO)
    )
    bucket.put(mine, bucket.get(others)[0])
    return settings, mine


@pytest.mark.parametrize("kind", ["head.json", "segments/", "~stream.json"])
def test_a_manifest_of_another_stream_is_refused_and_none_of_its_objects_is_deleted(
    moto_s3: S3Server, kind: str
) -> None:
    settings, key = _copied_kind(moto_s3, kind)
    bucket = moto_s3.open(settings)
    before = everything(bucket)
    with pytest.raises(ManifestError, match=r"public\.two") as caught:
        landed(moto_s3, settings, 3, "one")
    assert caught.value.key == key
    assert everything(bucket) == before
    assert verify(bucket, settings.template, TWO).problems == ()
    if kind == "~stream.json":
        bucket.delete([key])
        landed(moto_s3, settings, 3, "one")
        assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [2, 3]


@pytest.mark.parametrize("kind", ["head.json", "segments/"])
def test_reading_and_verification_refuse_a_manifest_of_another_stream(moto_s3: S3Server, kind: str) -> None:
    settings, key = _copied_kind(moto_s3, kind)
    bucket = moto_s3.open(settings)
    for act in (verify, read_scope):
        with pytest.raises(ManifestError, match=r"public\.two") as caught:
            act(bucket, settings.template, ONE)
        assert caught.value.key == key


def test_manifests_of_another_partition_or_another_sync_are_refused(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    for number, day in enumerate(("2026-01-05", "2026-01-06", "2026-01-05")):
        landed(moto_s3, settings, number, partition=day)
    bucket = moto_s3.open(settings)
    fifth, sixth = (Scope(stream().id, day) for day in ("2026-01-05", "2026-01-06"))
    segments = [each.key for each in bucket.list_objects("data/_s3dest/") if "/segments/" in each.key]
    others, former, live = segments[2], segments[0], segments[1]
    assert (json.loads(bucket.get(live)[0])["sync"]["id"], json.loads(bucket.get(others)[0])["sync"]["id"]) == (
        "s2",
        "s1",
    )
    for wrong, told in ((others, "2026-01-06"), (former, "segment s0")):
        kept = bucket.get(live)[0]
        bucket.put(live, bucket.get(wrong)[0])
        with pytest.raises(ManifestError, match=told):
            read_scope(bucket, settings.template, fifth)
        bucket.put(live, kept)
    assert read_scope(bucket, settings.template, sixth).num_rows == 1


@pytest.mark.parametrize("others", ["other/public/users/notes.jsonl", "data/public/orders/0.jsonl"])
def test_objects_elsewhere_that_a_changed_manifest_lists_are_never_deleted(moto_s3: S3Server, others: str) -> None:
    settings = destination(moto_s3.new_bucket())
    landed(moto_s3, settings, 1)
    bucket = moto_s3.open(settings)
    moto_s3.fill(settings.s3_bucket_name, [others])
    (segment,) = [each.key for each in bucket.list_objects("data/_s3dest/") if "/segments/" in each.key]
    (mine,) = [key for key in data_keys(moto_s3, settings.s3_bucket_name) if key != others]
    kept = bucket.get(segment)[0]
    bucket.put(segment, kept.replace(mine.encode(), others.encode()))
    with pytest.raises(ManifestError, match=f"{others}, where the stream does not land"):
        landed(moto_s3, settings, 2)
    assert data_keys(moto_s3, settings.s3_bucket_name) == sorted([mine, others])
    bucket.put(segment, kept)
    landed(moto_s3, settings, 3)
    assert others in data_keys(moto_s3, settings.s3_bucket_name)


def test_a_copied_lake_does_not_affect_sweep_and_refresh_of_another_stream(
    moto_s3: S3Server, lakes: tuple[S3Destination, S3Destination]
) -> None:
    original, _ = lakes
    with target(moto_s3, original) as opened:
        land([batch_of(users(4, 4))], opened, stream(mode=SyncMode.APPEND), sync("s4"))
        sweep(opened.bucket, original, stream().id, now=sync("sweep").now)
    assert ids_by_listing(moto_s3, original.s3_bucket_name, "lake/") == [1, 4]


def test_a_head_that_cannot_be_read_does_not_keep_a_sweep_from_the_other_scopes(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), delete_grace_s=60)
    for number in range(2):
        for partition in "abc":
            landed(moto_s3, settings, number, partition=partition)
    bucket = moto_s3.open(settings)
    assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [0, 0, 0, 1, 1, 1]
    broken = head_key(scope_root("data", Scope(stream().id, "a")))
    bucket.put(broken, b"{")
    swept = sweep(bucket, settings, stream().id, now=bucket.server_time() + timedelta(minutes=2))
    assert swept.expired == 2
    (problem,) = swept.problems
    assert broken in problem
    assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [0, 1, 1, 1]
