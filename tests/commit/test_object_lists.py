"""A sync of very many objects lists them in documents of bounded size, and everything that goes through objects finds
them there."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from failing_clients import FailingClient
from land_and_read import (
    START,
    batch_of,
    data_keys,
    destination,
    ids_by_listing,
    lists_without_use,
    open_uploads,
    stream,
    sync,
    target,
    users,
)
from servers import S3Server

from s3dest_dagster.commit.maintenance import recover, sweep
from s3dest_dagster.commit.retirement import content_of, restore, retire
from s3dest_dagster.commit.stream_transfer import NewName, move_stream
from s3dest_dagster.commit.unused_lists import sweep_lists
from s3dest_dagster.errors import ManifestError, S3DestError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.inspection.read import live_objects, read_scope
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.keys import scope_root, stream_root
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId, Sync, SyncMode

USERS = Scope(stream().id)
NEXT_WEEK = timedelta(days=8)


class Lake:
    """A bucket whose syncs list two objects in a document."""

    def __init__(self, server: S3Server, **settings: Any) -> None:
        self.server = server
        self.settings = destination(server.new_bucket(), object_size_mb=0.0002, **settings)

    @property
    def bucket(self) -> Bucket:
        return self.server.open(self.settings)

    def land(self, ids: range, *, mode: SyncMode = SyncMode.FULL_REFRESH, client: Any = None, **more: Any) -> Receipt:
        """Lands these users, two in an object."""
        bucket = Bucket(client, self.settings.s3_bucket_name) if client is not None else None
        with target(self.server, self.settings, bucket, objects_of_a_list=2) as opened:
            batches = [batch_of(users(first, first + 1)) for first in ids[::2]]
            return land(batches, opened, stream(mode=mode), more.pop("sync", None) or sync(f"from {ids[0]}"), **more)

    def read(self, scope: Scope = USERS) -> list[int]:
        table = read_scope(self.bucket, self.settings.template, scope)
        return [] if table is None else sorted(table["id"].to_pylist())

    def listed(self) -> list[int]:
        return ids_by_listing(self.server, self.settings.s3_bucket_name)

    def document(self, name: str, scope: Scope = USERS) -> dict[str, Any]:
        root = scope_root(self.settings.template.literal_root, scope)
        found = self.bucket.get(f"{root}{name}")
        assert found is not None
        return json.loads(found[0])

    def newest(self, scope: Scope = USERS) -> dict[str, Any]:
        """The newest segment."""
        return self.document(f"segments/{self.document('head.json', scope)['segments'][0][-1]}.json", scope)

    def lists(self) -> list[str]:
        """The keys of all lists."""
        listed = self.bucket.list_objects(f"{self.settings.template.manifest_root}public/users/~lists/")
        return [each.key for each in listed]

    def sweep(self, now: datetime) -> None:
        sweep(self.bucket, self.settings, stream().id, now=now)


@pytest.fixture
def lake(moto_s3: S3Server) -> Lake:
    return Lake(moto_s3)


def test_a_sync_with_few_objects_has_one_document_of_the_first_version(lake: Lake) -> None:
    lake.land(range(1, 5))
    segment = lake.newest()
    assert (segment["format_version"], len(segment["objects"]), segment["object_lists"]) == (1, 2, [])
    assert lake.lists() == []


def test_a_sync_with_many_objects_lists_them_apart_and_forgets_their_uploads_once_it_is_published(lake: Lake) -> None:
    receipt = lake.land(range(1, 11))
    segment = lake.newest()
    assert (segment["format_version"], segment["objects"]) == (2, [])
    assert [each["objects"] for each in segment["object_lists"]] == [2, 2, 1]
    assert len(lake.lists()) == 3
    for key in lake.lists():
        listed = json.loads(lake.bucket.get(key)[0])
        assert all(each["upload"] is None for each in listed["objects"])
    assert [each.key for each in receipt.objects] == data_keys(lake.server, lake.settings.s3_bucket_name)
    assert receipt.rows == 10


def test_a_reader_that_does_not_know_lists_refuses_their_segments(lake: Lake) -> None:
    """It knows version 1, and would find no objects."""
    lake.land(range(1, 11))
    assert lake.document("head.json")["format_version"] == 1
    assert lake.newest()["format_version"] == 2


def test_readers_find_the_objects_in_the_lists(lake: Lake) -> None:
    lake.land(range(1, 11))
    verified = verify(lake.bucket, lake.settings.template, USERS, deep=True)
    assert (verified.objects, verified.rows, verified.problems) == (5, 10, ())
    assert lake.read() == list(range(1, 11))
    content = content_of(lake.bucket, lake.settings, USERS)
    assert (content.objects, content.rows) == (5, 10)
    assert content.bytes == sum(each.item.bytes for each in live_objects(lake.bucket, lake.settings.template, USERS))


def test_a_refresh_replaces_lists_without_listing_their_keys(lake: Lake) -> None:
    lake.land(range(1, 11))
    receipt = lake.land(range(20, 22))
    replaced = lake.newest()["replaced"]
    assert (replaced["keys"], [each["objects"] for each in replaced["object_lists"]]) == ([], [2, 2, 1])
    assert len(receipt.removed) == 5
    assert lake.listed() == lake.read() == [20, 21]


def test_keys_that_a_sync_may_use_again_are_listed_by_key(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, s3_path_format="${NAMESPACE}/${STREAM_NAME}/", file_name_pattern="{part_number}-{sync_id}")
    for label in (1, 20, 40):
        lake.land(range(label, label + 10), sync=replace(sync(f"from {label}"), label="same"))
    replaced = lake.newest()["replaced"]
    assert (len(replaced["keys"]), replaced["object_lists"]) == (5, [])
    assert lake.listed() == lake.read() == list(range(40, 50))


def test_objects_in_lists_are_kept_for_readers_and_deleted_later(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, delete_grace_s=3600)
    lake.land(range(1, 11))
    lake.land(range(20, 22))
    assert lake.listed() == [*range(1, 11), 20, 21]
    assert recover(lake.bucket, lake.settings.template, USERS, clock=lambda: datetime.now(UTC) + timedelta(hours=2)).ok
    assert lake.listed() == lake.read() == [20, 21]


def test_an_append_stays_next_to_a_sync_with_lists(lake: Lake) -> None:
    lake.land(range(1, 11), mode=SyncMode.APPEND)
    for first in (20, 30, 40):
        lake.land(range(first, first + 2), mode=SyncMode.APPEND)
    lake.land(range(50, 60), mode=SyncMode.APPEND)
    assert lake.read() == [*range(1, 11), 20, 21, 30, 31, 40, 41, *range(50, 60)]


def test_a_scope_with_lists_can_be_retired_and_brought_back(lake: Lake) -> None:
    lake.land(range(1, 11))
    one = Sync("retire", START, "0f0f0f0f-0000-4000-8000-000000000000")
    retire(lake.bucket, lake.settings, USERS, one, attempt="1")
    assert lake.read() == []
    restore(lake.bucket, lake.settings, USERS)
    assert lake.read() == list(range(1, 11))


def test_a_stream_with_lists_gets_another_name(lake: Lake) -> None:
    lake.land(range(1, 11))
    people = StreamId("public", "people")
    move_stream(lake.bucket, lake.settings, NewName(stream().id, people), datetime.now(UTC), os.urandom)
    assert lake.read(Scope(people)) == list(range(1, 11))
    assert verify(lake.bucket, lake.settings.template, Scope(people), deep=True).problems == ()


def test_a_repeated_sync_returns_the_same_receipt(lake: Lake) -> None:
    again = sync("the same")
    first = lake.land(range(1, 11), sync=again)
    second = lake.land(range(1, 11), sync=again)
    assert second.repeated
    assert [each.key for each in second.objects] == [each.key for each in first.objects]


class _DyingAt(FailingClient):
    """A client that is dead from the put of a document whose key contains a text, which it still puts."""

    def __init__(self, client: Any, text: str) -> None:
        super().__init__(client, dead=True)
        self._text = text

    def _counted(self, name: str, method: Any) -> Any:
        counted = super()._counted(name, method)

        def call(**arguments: Any) -> Any:
            if name == "put_object" and self._text in arguments["Key"]:
                self._at = len(self.calls) + 1
            return counted(**arguments)

        return call


@pytest.fixture
def undecided(lake: Lake) -> Lake:
    """A sync that died before its decision, after it had put its lists."""
    lake.land(range(1, 11))
    with pytest.raises(S3DestError):
        lake.land(range(20, 30), client=_DyingAt(lake.server.client(), "/segments/"))
    return lake


def test_lists_of_a_sync_that_was_never_decided_are_swept_like_its_uploads(undecided: Lake) -> None:
    """Young ones stay: their writer may be about to decide."""
    before = undecided.lists()
    assert len(before) > 3
    undecided.sweep(datetime.now(UTC))
    assert undecided.lists() == before
    undecided.sweep(datetime.now(UTC) + NEXT_WEEK)
    assert len(undecided.lists()) == 3
    assert undecided.read() == list(range(1, 11))
    assert open_uploads(undecided.server, undecided.settings.s3_bucket_name) == 0


def test_lists_of_an_attempt_that_failed_are_swept_at_once_when_another_attempt_is_published(undecided: Lake) -> None:
    undecided.land(range(20, 30))
    undecided.sweep(datetime.now(UTC))
    assert lists_without_use(undecided.server, undecided.settings.s3_bucket_name) == []
    assert undecided.read() == list(range(20, 30))


def test_a_scope_that_cannot_be_read_keeps_no_other_from_being_swept(
    undecided: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = Scope(stream().id, "damaged")
    undecided.land(range(30, 40), scope=damaged)
    head = f"{scope_root(undecided.settings.template.literal_root, damaged)}head.json"
    undecided.bucket.put(head, b"{")
    root = stream_root(undecided.settings.template.literal_root, stream().id)
    assert sweep_lists(undecided.bucket, root, datetime.now(UTC) + NEXT_WEEK) > 0
    assert len(undecided.lists()) == 6
    assert "damaged" in caplog.text


def _decided(lake: Lake) -> None:
    """A sync that was decided and has completed nothing."""
    lake.land(range(1, 11))
    with pytest.raises(S3DestError, match="finishes it"):
        lake.land(range(20, 30), client=FailingClient(lake.server.client(), at="complete_multipart_upload", dead=True))


def test_a_sweep_spares_the_lists_of_a_decided_sync(lake: Lake) -> None:
    _decided(lake)
    lake.sweep(datetime.now(UTC) + NEXT_WEEK)
    assert recover(lake.bucket, lake.settings.template, USERS).ok
    assert lake.listed() == lake.read() == list(range(20, 30))


@pytest.mark.parametrize("end", [".objects.json", ".uploads.json"])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_decision_whose_lists_were_swept_before_it_is_rolled_back(lake: Lake, end: str, position: int) -> None:
    _decided(lake)
    pending = lake.document("head.json")["pending_segment"]
    name = lake.document(f"segments/{pending}.json")["object_lists"][position]["name"]
    lake.bucket.delete([f"{lake.settings.template.manifest_root}public/users/~lists/~/{name}{end}"])
    recovered = recover(lake.bucket, lake.settings.template, USERS)
    assert "rolled back" in recovered.message
    assert lake.listed() == lake.read() == list(range(1, 11))


def test_the_error_for_a_missing_list_names_it(lake: Lake) -> None:
    lake.land(range(1, 11))
    lake.bucket.delete(lake.lists()[1:2])
    with pytest.raises(ManifestError, match=r"~lists/.*\.objects\.json is missing"):
        lake.read()


def test_lists_of_segments_that_were_deleted_are_deleted(lake: Lake) -> None:
    lake.land(range(1, 11))
    for number in range(24):
        lake.land(range(100 + number, 102 + number))
    now = datetime.now(UTC)
    lake.sweep(now)
    assert len(lake.lists()) == 3
    for days in (2, 3):
        lake.sweep(now + timedelta(days=days))
    assert lake.lists() == []
    assert lake.read() == [123, 124]


class _Together(FailingClient):
    """A client that completes an upload only together with others."""

    def __init__(self, client: Any, number: int) -> None:
        super().__init__(client)
        self._barrier = Barrier(number, timeout=60)

    def _counted(self, name: str, method: Any) -> Any:
        def call(**arguments: Any) -> Any:
            if name == "complete_multipart_upload":
                self._barrier.wait()
            return method(**arguments)

        return call


def test_as_many_objects_become_visible_at_a_time_as_the_settings_say(moto_s3: S3Server) -> None:
    """All ten wait for each other."""
    lake = Lake(moto_s3, publish_threads=10)
    lake.land(range(1, 21), client=_Together(moto_s3.client(), 10))
    assert lake.listed() == list(range(1, 21))
