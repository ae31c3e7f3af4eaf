"""A stream has one template under a bucket path. Nothing is written under a different template until the settings
accept it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from failing_clients import CountedClient
from land_and_read import (
    START,
    batch_of,
    batches_of,
    data_keys,
    destination,
    ids_by_listing,
    stream,
    sync,
    target,
    users,
)
from servers import S3Server

from s3dest_dagster.batch import State
from s3dest_dagster.commit.documents import registry_key
from s3dest_dagster.commit.registry import RegistryEntry
from s3dest_dagster.commit.registry_document import REGISTRIES, SWEEP_INTERVAL
from s3dest_dagster.commit.registry_recreation import shown_stream
from s3dest_dagster.commit.registry_updates import transfer
from s3dest_dagster.commit.written_columns import columns_of_stream
from s3dest_dagster.errors import ManifestError, OwnershipError, TemplateError
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.ingest.streams import landing_streams
from s3dest_dagster.inspection.plan import plan
from s3dest_dagster.keys import KeyTemplate, stream_root
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.stream_settings import StreamSettings
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId, SyncMode

A = {"s3_bucket_path": "lake/${NAMESPACE}", "s3_path_format": "${STREAM_NAME}/a_${EPOCH}_"}
OTHERS: list[dict[str, Any]] = [
    {"s3_path_format": "${STREAM_NAME}/b_${EPOCH}_"},
    {"file_name_pattern": "{part_number}_b{format_extension}"},
    {"s3_bucket_path": "lake/b_${NAMESPACE}"},
]
USERS = StreamId("public", "users")


def landed(server: S3Server, settings: S3Destination, number: int, **landing: Any) -> None:
    mode = landing.pop("mode", SyncMode.FULL_REFRESH)
    with target(server, settings) as opened:
        land(batches_of(users(number, number)), opened, stream(mode=mode), sync(f"s{number}"), **landing)


def everything(server: S3Server, bucket: str) -> dict[str, str]:
    """Every object with its ETag, including manifests."""
    listed = server.client().list_objects_v2(Bucket=bucket).get("Contents", [])
    return {each["Key"]: each["ETag"] for each in listed}


def uploads(server: S3Server, bucket: str) -> int:
    return len(server.client().list_multipart_uploads(Bucket=bucket).get("Uploads", []))


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("partition", [None, "2026-01-05"])
def test_another_template_is_refused_before_anything_is_written(moto_s3: S3Server, other, partition) -> None:
    one = destination(moto_s3.new_bucket(), **A)
    landed(moto_s3, one, 1)
    before = everything(moto_s3, one.s3_bucket_name)
    with pytest.raises(TemplateError) as caught:
        landed(moto_s3, replace(one, **other), 2, scope=Scope(USERS, partition))
    (name,) = other
    told = str(caught.value)
    former = f"{name} {getattr(one, name)!r}" if getattr(one, name) else f"no {name}"
    assert all(part in told for part in ("public.users", former, f"{name} {other[name]!r}"))
    assert all(cure in told for cure in ("Nothing was written", "s3_bucket_path of its own", "on_template_change"))
    assert (caught.value.stream, caught.value.setting) == ("public.users", name)
    assert everything(moto_s3, one.s3_bucket_name) == before
    assert uploads(moto_s3, one.s3_bucket_name) == 0


@pytest.mark.parametrize("other", OTHERS)
def test_a_plan_refuses_another_template(moto_s3: S3Server, other) -> None:
    one = destination(moto_s3.new_bucket(), **A)
    landed(moto_s3, one, 1)
    with target(moto_s3, replace(one, **other)) as opened, pytest.raises(TemplateError, match=r"public\.users"):
        plan(opened, [stream("orders"), stream()], sync("plan"))


@pytest.mark.parametrize(
    "same",
    [
        {},
        {"s3_bucket_path": "/lake//${NAMESPACE}/"},
        {"file_name_pattern": "{part_number}{format_extension}"},
        {"file_name_pattern": " "},
    ],
)
def test_the_same_template_is_accepted_however_it_is_spelled(moto_s3: S3Server, same) -> None:
    one = destination(moto_s3.new_bucket(), **A)
    for number, settings in enumerate((one, replace(one, **same), one), start=1):
        landed(moto_s3, settings, number)
    assert ids_by_listing(moto_s3, one.s3_bucket_name) == [3]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{date}", "{date:yyyy_MM_dd}"),
        ("{timestamp}", "{timestamp:millis}"),
        ("{timestamp:micro}", "{timestamp:micros}"),
        ("{date:y-MM-E}", "{date:yyyy-LL-EEE}"),
        ("{date:yyyy'_'MM}", "{date:yyyy_MM}"),
    ],
)
def test_two_spellings_of_one_file_name_are_one_template(one: str, other: str) -> None:
    spelled = [KeyTemplate("lake", "${STREAM_NAME}/", f"{each}_{{part_number}}") for each in (one, other)]
    assert spelled[0].tokens == spelled[1].tokens
    for unlike in ("{date:yyyy_MM}", "{timestamp:micro}", "{date:yyyy_dd_MM}", "{date:d}", "{date:dd}", "{sync_id}"):
        assert (KeyTemplate("lake", "${STREAM_NAME}/", f"{unlike}_{{part_number}}").tokens == spelled[0].tokens) is (
            unlike in (one, other)
        )


def test_other_streams_and_other_paths_have_their_own_templates(moto_s3: S3Server) -> None:
    one = destination(moto_s3.new_bucket(), **A)
    landed(moto_s3, one, 1)
    landed(moto_s3, replace(one, s3_bucket_path="other/${NAMESPACE}", **OTHERS[0]), 2)
    with target(moto_s3, replace(one, **OTHERS[0])) as opened:
        land(batches_of(users(3, 3)), opened, stream("orders"), sync("s3"))
        land(batches_of(users(4, 4)), opened, stream(namespace="private"), sync("s4"))
    landed(moto_s3, replace(one, stream_prefix="raw_", **OTHERS[1]), 5)
    assert ids_by_listing(moto_s3, one.s3_bucket_name) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("mode", "left"), [(SyncMode.FULL_REFRESH, [3]), (SyncMode.APPEND, [1, 2, 3])])
def test_a_stream_with_a_new_template_keeps_its_manifests_and_refuses_the_former_template(
    any_s3: S3Server, mode, left
) -> None:
    one = destination(any_s3.new_bucket(), **A)
    other = replace(one, **OTHERS[0])
    landed(any_s3, one, 1, mode=mode)
    landed(any_s3, replace(other, on_template_change="accept"), 2, mode=mode)
    landed(any_s3, other, 3, mode=mode)
    assert ids_by_listing(any_s3, one.s3_bucket_name) == left
    with pytest.raises(TemplateError, match=r"lands .* '\$\{STREAM_NAME\}/b_.*, and not with .*/a_"):
        landed(any_s3, one, 4, mode=mode)
    landed(any_s3, replace(one, on_template_change="accept"), 5, mode=mode)
    landed(any_s3, one, 6, mode=mode)


@pytest.mark.parametrize("checkpoints", [False, True])
@pytest.mark.parametrize("mode", list(SyncMode))
def test_the_first_landing_under_another_template_says_what_becomes_of_the_objects_under_the_former(
    moto_s3: S3Server, caplog: pytest.LogCaptureFixture, mode: SyncMode, checkpoints: bool
) -> None:
    one = destination(moto_s3.new_bucket(), **A)
    landed(moto_s3, one, 1, mode=mode)
    other = replace(
        one,
        on_template_change="accept",
        checkpoint_interval_s=0,
        checkpoint_mb=1e-6 if checkpoints else 0,
        **OTHERS[0],
    )
    told = "s3_path_format '${STREAM_NAME}/a_${EPOCH}_'"
    with target(moto_s3, other) as opened:
        assert plan(opened, [stream(mode=mode)], sync("plan")).streams[0].former_template == told
        for number, former in ((2, told), (3, "")):
            caplog.clear()
            items = [batch_of(users(number, number)), State(USERS, b'{"at":1}', b"{}"), *batches_of(users(9, 9))]
            receipt = land(items, opened, stream(mode=mode), sync(f"s{number}"))
            assert receipt.checkpoints == (checkpoints and mode is SyncMode.APPEND)
            assert receipt.former_template == former
            what = "are replaced by this sync." if receipt.replaces else "stay live next to those of this sync"
            said = [each for each in caplog.messages if "lands under another template" in each]
            assert len(said) == bool(former)
            assert all(f"The objects of public.users under {told} {what}" in each for each in said)


def test_partitions_that_land_under_another_template_say_that_the_others_stay(
    moto_s3: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    one = destination(moto_s3.new_bucket(), **A)
    other = replace(one, on_template_change="accept", **OTHERS[0])
    for number, (settings, partition) in enumerate(((one, "a"), (one, "b"), (other, "a"))):
        with target(moto_s3, settings) as opened:
            scope = Scope(USERS, partition)
            land(batches_of(users(1, 1)), opened, stream(), sync(f"s{number}"), scope=scope)
    (said,) = [each for each in caplog.messages if "another template" in each]
    assert "public.users [a] under" in said
    assert said.endswith("replaced by this sync. Those of other partitions stay live until these land again.")


def test_the_registry_lists_every_template_once_with_the_current_one_last(moto_s3: S3Server) -> None:
    one = destination(moto_s3.new_bucket(), on_template_change="accept", **A)
    for number, other in enumerate(({}, OTHERS[0], OTHERS[1], {}), start=1):
        landed(moto_s3, replace(one, **other), number)
    key = registry_key(stream_root(one.template.literal_root, USERS))
    registry = REGISTRIES.decode(moto_s3.open(one).get(key)[0], key)
    last = (A["s3_bucket_path"], A["s3_path_format"], "")
    found = [(each.s3_bucket_path, each.s3_path_format, each.file_name_pattern) for each in registry.templates]
    assert len(set(found)) == len(found) == 3
    assert found[-1] == last


def test_one_of_two_simultaneous_first_syncs_is_refused_at_its_publication(moto_s3: S3Server) -> None:
    one = destination(moto_s3.new_bucket(), **A)
    with target(moto_s3, one) as opened, Landing(opened, stream(), sync("slow")) as slow:
        slow.append_batch(next(batches_of(users(1, 1))))
        landed(moto_s3, replace(one, **OTHERS[0]), 2)
        with pytest.raises(TemplateError, match=r"public\.users"):
            slow.commit()
    assert ids_by_listing(moto_s3, one.s3_bucket_name) == [2]
    assert uploads(moto_s3, one.s3_bucket_name) == 0


def test_no_stream_of_a_source_begins_if_one_is_refused(moto_s3: S3Server) -> None:
    """Beginning `orders` would finish what an earlier sync of it had decided. Only the registry entries are read."""
    one = destination(moto_s3.new_bucket(), **A)
    landed(moto_s3, one, 1)
    client = CountedClient(moto_s3.client())
    other, streams = replace(one, **OTHERS[0]), [stream("orders"), stream()]
    with (
        target(moto_s3, other, Bucket(client, one.s3_bucket_name)) as opened,
        pytest.raises(TemplateError, match=r"public\.users"),
        landing_streams(opened, streams, sync("both")),
    ):
        raise AssertionError("was begun")
    assert sorted(client.calls) == ["get_object", "get_object", "list_objects_v2"]


def test_landed_data_shows_the_template_if_the_registry_entry_is_missing(moto_s3: S3Server) -> None:
    one = destination(moto_s3.new_bucket(), **A)
    landed(moto_s3, one, 1, mode=SyncMode.APPEND, scope=Scope(USERS, "2026-01-05"))
    delete_registry_entry(moto_s3, one, USERS)
    with pytest.raises(TemplateError, match=r"lands .* '\$\{STREAM_NAME\}/a_.*, and not with .*/b_"):
        landed(moto_s3, replace(one, **OTHERS[0]), 2)
    landed(moto_s3, one, 3, mode=SyncMode.APPEND)
    assert ids_by_listing(moto_s3, one.s3_bucket_name) == [1, 3]


def test_a_stream_without_a_registry_entry_keeps_its_earlier_data_under_a_new_template(moto_s3: S3Server) -> None:
    """Another stream now uses its former keys, and the refresh of that stream deletes the connector's files."""
    one = destination(moto_s3.new_bucket(), s3_bucket_path="lake", s3_path_format="${STREAM_NAME}/")
    moved = replace(one, s3_path_format="${NAMESPACE}/${STREAM_NAME}/x_", on_template_change="accept")
    landed(moto_s3, one, 1, mode=SyncMode.APPEND)
    delete_registry_entry(moto_s3, one, USERS)
    landed(moto_s3, moved, 2, mode=SyncMode.APPEND)
    with target(moto_s3, one) as opened:
        land(batches_of(users(9, 9)), opened, stream(namespace="private"), sync("other"))
    assert ids_by_listing(moto_s3, one.s3_bucket_name) == [1, 2, 9]


def test_a_damaged_registry_entry_is_reported_with_its_remedy(moto_s3: S3Server) -> None:
    one = destination(moto_s3.new_bucket(), **A)
    landed(moto_s3, one, 1)
    key = registry_key(stream_root(one.template.literal_root, USERS))
    moto_s3.open(one).put(key, b"{")
    with pytest.raises(ManifestError, match=r"~stream\.json is damaged .* Delete it"):
        landed(moto_s3, one, 2)
    delete_registry_entry(moto_s3, one, USERS)
    landed(moto_s3, one, 3)
    assert ids_by_listing(moto_s3, one.s3_bucket_name) == [3]


def delete_registry_entry(server: S3Server, settings: S3Destination, stream: StreamId) -> None:
    server.open(settings).delete([registry_key(stream_root(settings.template.literal_root, stream))])


def test_a_template_that_only_an_older_library_allowed_counts_as_different(moto_s3: S3Server) -> None:
    one = destination(moto_s3.new_bucket(), **A)
    landed(moto_s3, one, 1)
    bucket, key = moto_s3.open(one), registry_key(stream_root(one.template.literal_root, USERS))
    text = bucket.get(key)[0].replace(b"a_${EPOCH}_", b"a_${FORTNIGHT}_")
    bucket.put(key, text)
    with pytest.raises(TemplateError, match="FORTNIGHT"):
        landed(moto_s3, one, 2)
    assert data_keys(moto_s3, one.s3_bucket_name)
    RegistryEntry(bucket, replace(one, on_template_change="accept"), USERS).enter(START)
    landed(moto_s3, one, 3)


def test_a_landing_at_the_moment_of_the_last_sweep_does_not_sweep_again(moto_s3: S3Server) -> None:
    """Servers tell the time in whole seconds, so that two landings can have the same one."""
    settings = destination(moto_s3.new_bucket(), **A)
    bucket = Bucket(moto_s3.client(), settings.s3_bucket_name)
    for at, other, sweeps in ((START, {}, False), (START, OTHERS[0], False), (START + SWEEP_INTERVAL, {}, True)):
        entry = RegistryEntry(bucket, replace(settings, **other, on_template_change="accept"), USERS)
        assert entry.enter(at) is sweeps


def test_a_lost_registry_keeps_of_many_partitions_their_columns_once_and_the_owner_of_the_newest(
    moto_s3: S3Server,
) -> None:
    settings = destination(moto_s3.new_bucket())
    with target(moto_s3, settings) as opened:
        for number in range(24):
            named = f"column {number // 12}"
            schema = {"type": "object", "properties": {"id": {"type": "integer"}, named: {"type": "string"}}}
            own = StreamSettings(owner=f"team {number // 12}")
            landing = replace(stream(mode=SyncMode.APPEND), json_schema=schema, settings=own)
            if number == 12:
                transfer(opened.bucket, settings, USERS, "team 1")
            scope = Scope(USERS, f"p{number:02}")
            land([batch_of([{"id": number, named: "x"}])], opened, landing, sync(f"s{number}"), scope=scope)
    bucket, root = moto_s3.open(settings), stream_root("data", USERS)
    before = REGISTRIES.decode(bucket.get(registry_key(root))[0], "")
    bucket.delete(each.key for each in bucket.list_objects(f"{root}~stream."))
    shown, has_scopes = shown_stream(bucket.with_root(settings.template.manifest_root), root)
    assert (shown.owner, has_scopes, len(shown.versions)) == ("team 1", True, 4)
    entry = RegistryEntry(bucket, settings, USERS, "team 1")
    entry.check()
    names = {field.source: (field.id, field.name) for field in entry.columns_beside(None).fields}
    assert names == {field.source: (field.id, field.name) for field in columns_of_stream(before.columns).fields}
    with target(moto_s3, settings) as opened, pytest.raises(OwnershipError, match="team 1"):
        land([batch_of(users(1, 1))], opened, stream(mode=SyncMode.APPEND), sync("foreign"))
