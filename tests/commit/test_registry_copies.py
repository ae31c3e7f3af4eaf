"""A lost registry is restored from its copy, exactly and with a few requests, whatever failed before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from failing_clients import WAYS, CountedClient, FailingClient, OvertakenClient, failing_in_turn
from land_and_read import START, batch_of, data_keys, destination, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.commit.documents import registry_copy_prefix, registry_key
from s3dest_dagster.commit.registry import RegistryEntry
from s3dest_dagster.commit.registry_copies import newest_copy
from s3dest_dagster.commit.registry_document import REGISTRIES, StreamRegistry, UsedTemplate
from s3dest_dagster.commit.registry_updates import transfer, update_registry
from s3dest_dagster.commit.written_columns import columns_of_stream
from s3dest_dagster.errors import ManifestError, OwnershipError, S3DestError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.keys import stream_root
from s3dest_dagster.settings.formats import ParquetFormat
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, StreamId, SyncMode

USERS = StreamId("public", "users")
ROOT = stream_root("data", USERS)
TEXT = {"type": "string"}


class Lake:
    """A stream with partitions, and columns of which some have no live object any more."""

    def __init__(self, server: S3Server, partitions: int = 2) -> None:
        self.server = server
        self.settings = destination(server.new_bucket(), format=ParquetFormat(), owner="team")
        self.bucket = server.open(self.settings)
        with target(server, self.settings) as opened:
            for number in range(partitions):
                scope = Scope(USERS, f"p{number:02}")
                land([batch_of(users(number, number))], opened, self.stream(), sync(f"s{number}"), scope=scope)

    def stream(self, *names: str) -> Stream:
        schema = {"type": "object", "properties": {"id": {"type": "integer"}, **dict.fromkeys(names, TEXT)}}
        return replace(stream(mode=SyncMode.APPEND), json_schema=schema)

    def land(self, *names: str, bucket: Bucket | None = None, sync_id: str = "again") -> None:
        records = [{"id": 1, **dict.fromkeys(names, "x")}]
        with target(self.server, self.settings, bucket) as opened:
            land([batch_of(records)], opened, self.stream(*names), sync(sync_id), scope=Scope(USERS, "p00"))

    def registry(self) -> StreamRegistry:
        found = self.bucket.get(registry_key(ROOT))
        assert found is not None
        return REGISTRIES.decode(found[0], "")

    def copies(self) -> list[str]:
        listed = (each.key for each in self.bucket.list_objects(registry_copy_prefix(ROOT)))
        return [key for key in listed if key != registry_key(ROOT)]

    def lose(self) -> StreamRegistry:
        """Deletes the registry. Returns it."""
        before = self.registry()
        self.bucket.delete([registry_key(ROOT)])
        return before

    def restored(self) -> StreamRegistry:
        """The registry once the next landing of the stream has restored it."""
        entry = RegistryEntry(self.bucket, self.settings, USERS, "team")
        entry.check()
        entry.enter(START)
        return self.registry()


def without_sweep(registry: StreamRegistry) -> StreamRegistry:
    return replace(registry, uploads_swept_at=None, version=0)


def test_the_requests_for_a_lost_registry_do_not_grow_with_the_partitions(moto_s3: S3Server) -> None:
    calls = []
    for partitions in (2, 50):
        lake = Lake(moto_s3, partitions)
        client = CountedClient(moto_s3.client())
        before = lake.lose()
        RegistryEntry(Bucket(client, lake.bucket.name), lake.settings, USERS, "team").check()
        calls.append(client.calls)
        assert without_sweep(lake.restored()) == without_sweep(before)
    assert calls == [["get_object", "list_objects_v2", "list_objects_v2", "get_object"]] * 2


def test_a_restored_registry_knows_columns_that_no_object_has_and_the_owner(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3)
    lake.land("gone", sync_id="s0 again")
    lake.land()
    transfer(lake.bucket, lake.settings, USERS, "others")
    before = lake.lose()
    with pytest.raises(OwnershipError, match="others"):
        lake.land(sync_id="refused")
    lake.settings = replace(lake.settings, owner="others")
    lake.land("gone!", sync_id="next")
    old, new = columns_of_stream(before.columns), columns_of_stream(lake.registry().columns)
    assert {(each.source, each.id) for each in old.fields} < {(each.source, each.id) for each in new.fields}
    assert not lake.registry().recreated


def test_there_is_one_copy_and_a_sweep_alone_puts_none(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3)
    for names in ((), ("a",), ("a", "b")):
        lake.land(*names, sync_id=f"with {names}")
        assert len(lake.copies()) == 1
    before = lake.copies()
    update_registry(lake.bucket, ROOT, lambda: _read(lake), lambda each: replace(each, uploads_swept_at=START))
    assert (lake.copies(), lake.registry().uploads_swept_at) == (before, START)


def _read(lake: Lake, bucket: Bucket | None = None) -> tuple[StreamRegistry, str] | None:
    return REGISTRIES.read(bucket or lake.bucket, ROOT, registry_key(ROOT))


CHANGES: dict[str, Callable[[StreamRegistry], StreamRegistry]] = {
    "columns": lambda registry: replace(registry, retyped=(*registry.retyped, len(registry.retyped))),
    "owner": lambda registry: replace(registry, owner=f"{registry.owner}+"),
    "template": lambda registry: replace(
        registry, templates=(*registry.templates, UsedTemplate("data", f"{len(registry.templates)}", "x"))
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_forgotten_or_guessed_whatever_call_of_a_change_failed(
    moto_s3: S3Server, change: str, way: str
) -> None:
    lake = Lake(moto_s3, 1)
    after, dead = WAYS[way]
    for client in failing_in_turn(moto_s3.client(), after=after, dead=dead):
        failing = Bucket(client, lake.bucket.name)
        with contextlib.suppress(S3DestError):
            update_registry(failing, ROOT, lambda failing=failing: _read(lake, failing), CHANGES[change])
        before = lake.registry()
        found = newest_copy(lake.bucket, ROOT)
        if found is not None:  # otherwise all scopes are read
            assert set(before.retyped) <= set(found.retyped), client.failed
            assert replace(without_sweep(found), retyped=()) == replace(without_sweep(before), retyped=())


def test_a_landing_that_dies_at_any_call_leaves_a_registry_that_can_be_restored(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, 1)
    for number, client in enumerate(failing_in_turn(moto_s3.client(), after=True, dead=True)):
        with contextlib.suppress(S3DestError):
            lake.land(f"column {number}", bucket=Bucket(client, lake.bucket.name), sync_id=f"dying {number}")
        before = lake.lose()
        now = lake.restored()
        known = {(each.source, each.id, each.name) for each in columns_of_stream(now.columns).fields}
        live = {(each.source, each.id, each.name) for each in columns_of_stream(before.columns).fields}
        assert live <= known, client.failed
        assert (now.owner, now.templates) == (before.owner, before.templates)


def test_of_two_changes_at_once_the_copy_is_that_of_the_last(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, 1)

    def other() -> None:
        update_registry(lake.bucket, ROOT, lambda: _read(lake), CHANGES["owner"])

    client = OvertakenClient(moto_s3.client(), "put_object", other, key="~stream.json")
    overtaken = Bucket(client, lake.bucket.name)
    update_registry(overtaken, ROOT, lambda: _read(lake, overtaken), CHANGES["columns"])
    before = lake.lose()
    assert (before.owner, before.retyped, len(lake.copies())) == ("team+", (0,), 1)
    found = newest_copy(lake.bucket, ROOT)
    assert found is not None
    assert without_sweep(found) == without_sweep(before)


def test_an_older_copy_that_came_back_is_not_used(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, 1)
    older = {key: lake.bucket.get(key)[0] for key in lake.copies()}
    for names in (("a",), ("a", "b")):
        lake.land(*names, sync_id=f"with {names}")
    for key, data in older.items():
        lake.bucket.put(key, data)
    before = lake.lose()
    assert len(lake.copies()) == 2
    assert without_sweep(lake.restored()) == without_sweep(before)


def test_an_altered_copy_is_not_used_and_all_scopes_are_read(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, 2)
    (key,) = lake.copies()
    data = lake.bucket.get(key)[0]
    lake.bucket.put(key, data.replace(b'"team"', b'"thief"'))
    before = lake.lose()
    now = lake.restored()
    assert (now.owner, now.recreated) == ("team", True)
    assert now.templates == before.templates
    assert now.version > before.version  # so that copies of the lost one are never used again
    lake.lose()
    assert without_sweep(lake.restored()) == without_sweep(now)


def test_the_copy_of_another_lake_is_refused(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, 1)
    lake.lose()
    other = replace(lake.settings, s3_bucket_path="elsewhere")
    for each in list(lake.bucket.list_objects("data/_s3dest/public/")):
        lake.bucket.put(f"elsewhere{each.key.removeprefix('data')}", lake.bucket.get(each.key)[0])
    with pytest.raises(ManifestError, match="was copied or moved"):
        RegistryEntry(moto_s3.open(other), other, USERS, "team").check()
    assert data_keys(moto_s3, lake.bucket.name)


def test_the_first_landing_of_a_stream_puts_one_copy_and_a_later_one_none(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, 0)
    puts = []
    for number in range(2):
        client = FailingClient(moto_s3.client())
        lake.land(bucket=Bucket(client, lake.bucket.name), sync_id=f"s{number}")
        puts.append((client.calls.count("put_object"), client.calls.count("delete_objects")))
    assert puts[0][0] - puts[1][0] == 3  # the columns; then the template, and its copy
    assert puts[0][1] == 0
