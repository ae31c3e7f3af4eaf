"""Segments that nothing names are deleted, a day after a sweep has found them, and nothing that anybody needs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from failing_clients import CountedClient, FailingClient, failing_in_turn
from land_and_read import batch_of, destination, ids_by_listing, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.batch import State
from s3dest_dagster.commit import head
from s3dest_dagster.commit.collection import collect_segments, needed_segments
from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.documents import registry_key, segment_key
from s3dest_dagster.commit.maintenance import sweep
from s3dest_dagster.commit.registry_document import REGISTRIES, StreamTransfer
from s3dest_dagster.commit.retirement import restore, retire
from s3dest_dagster.commit.state_lineages import StateLineages
from s3dest_dagster.commit.states import reached_state
from s3dest_dagster.errors import S3DestError, SettingsError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.read import read_tables, snapshot
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.keys import stream_root
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, SyncMode

SCOPE = Scope(stream().id)
NOW = datetime.now(UTC)
GRACE = timedelta(days=1)
LATER = NOW + GRACE + timedelta(hours=1)


@pytest.fixture(autouse=True)
def _heads_forget_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that remembers 20 syncs would need as many for each test."""
    monkeypatch.setattr(head, "REMEMBERED_SYNCS", 3)


class Lake:
    """A scope with more syncs than its head remembers."""

    def __init__(self, server: S3Server, mode: SyncMode, syncs: int = 7, *, states: bool = False) -> None:
        self.server = server
        self.settings = destination(server.new_bucket())
        self.bucket = server.open(self.settings)
        with target(server, self.settings) as opened:
            for number in range(syncs):
                items: list[Any] = [batch_of(users(number, number))]
                state = b'{"type":"STREAM","stream":{"stream_descriptor":{"name":"users"},"stream_state":{"at":%d}}}'
                items += [State(stream().id, state % number, b"{}")] if states else []
                land(items, opened, stream(mode=mode), sync(f"sync {number}"))

    def collect(self, at: datetime, bucket: Bucket | None = None) -> int:
        template = self.settings.template
        commit_log = CommitLog.of(bucket or self.bucket, template, SCOPE)
        lineages = StateLineages(commit_log.bucket, template.manifest_root)
        return collect_segments(commit_log, commit_log.read_head(), at, GRACE, lineages)

    @property
    def segments(self) -> set[str]:
        return {each.key for each in self.bucket.list_objects("data/_s3dest/public/users/~/segments/")}

    def check(self, ids: list[int]) -> None:
        """A reader sees these records, and all that the head needs is there."""
        assert ids_by_listing(self.server, self.settings.s3_bucket_name) == ids
        assert sum(each.num_rows for each in read_tables(self.bucket, self.settings.template, SCOPE)) == len(ids)
        assert verify(self.bucket, self.settings.template, SCOPE, deep=True).problems == ()
        commit_log = CommitLog.of(self.bucket, self.settings.template, SCOPE)
        needed = needed_segments(commit_log, commit_log.read_head().head)
        assert {segment_key(commit_log.root, name) for name in needed} <= self.segments


def test_a_segment_is_deleted_a_day_after_a_sweep_has_found_it_unused(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, SyncMode.FULL_REFRESH)
    before = lake.segments
    assert sweep(lake.bucket, lake.settings, stream().id, now=NOW).collected == 0
    assert lake.collect(NOW + timedelta(hours=20)) == 0
    assert lake.segments == before
    assert sweep(lake.bucket, lake.settings, stream().id, now=LATER).collected == 4
    assert len(before) - len(lake.segments) == 4
    lake.check([6])
    with target(moto_s3, lake.settings) as opened:
        again = land([batch_of(users(99, 99))], opened, stream(), replace(sync("x"), id="sync 1"))
    assert (again.repeated, again.collected) == (True, True)
    lake.check([6])


def test_what_segments_absorb_and_compact_is_read_after_they_are_collected(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, SyncMode.APPEND, syncs=22)
    lake.collect(NOW)
    assert lake.collect(LATER) > 10
    lake.check(list(range(22)))
    with target(moto_s3, lake.settings) as opened:
        land([batch_of(users(22, 22))], opened, stream(mode=SyncMode.APPEND), sync("one more"))
    lake.check(list(range(23)))


def test_a_sweep_reports_each_scope_that_it_has_looked_through(moto_s3: S3Server) -> None:
    lake, done = Lake(moto_s3, SyncMode.APPEND, 1), list[str]()
    with target(moto_s3, lake.settings) as opened:
        for partition in "ab":
            scope = Scope(SCOPE.stream, partition)
            land([batch_of(users(1, 1))], opened, stream(mode=SyncMode.APPEND), sync(partition), scope=scope)
    sweep(lake.bucket, lake.settings, SCOPE.stream, now=NOW, on_scope=lambda: done.append("scope"))
    assert len(done) == 3


def test_a_scope_with_few_syncs_keeps_all_segments_at_no_request(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, SyncMode.APPEND, 2)
    client = CountedClient(moto_s3.client())
    bucket = Bucket(client, lake.settings.s3_bucket_name)
    commit_log = CommitLog.of(bucket, lake.settings.template, SCOPE)
    seen = commit_log.read_head()
    client.calls.clear()
    lineages = StateLineages(bucket, lake.settings.template.manifest_root)
    assert collect_segments(commit_log, seen, LATER, GRACE, lineages) == 0
    assert client.calls == []


def test_segments_with_states_of_one_stream_are_deleted_except_the_newest(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, SyncMode.APPEND, 12, states=True)
    before = len(lake.segments)
    lake.collect(NOW)
    assert lake.collect(LATER) > before // 2
    lake.check(list(range(12)))
    reached = reached_state(lake.bucket, lake.settings.template, SCOPE)
    assert reached is not None
    assert reached.text.endswith('{"at":11}}}')
    with target(moto_s3, lake.settings) as opened:
        land([batch_of(users(12, 12))], opened, stream(mode=SyncMode.APPEND), sync("one more"))
    lake.check(list(range(13)))


def test_the_grace_is_a_setting_of_an_hour_at_least(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, SyncMode.FULL_REFRESH)
    with pytest.raises(SettingsError, match="segment_grace_s"):
        replace(lake.settings, segment_grace_s=60)
    short = replace(lake.settings, segment_grace_s=3600)
    assert sweep(lake.bucket, short, stream().id, now=NOW).collected == 0
    assert sweep(lake.bucket, lake.settings, stream().id, now=NOW + timedelta(hours=1)).collected == 0
    assert sweep(lake.bucket, short, stream().id, now=NOW + timedelta(hours=1)).collected == 4
    lake.check([6])


def test_a_segment_that_may_still_be_decided_stays(moto_s3: S3Server) -> None:
    """Its writer is paused between the put of the segment and that of the head."""
    lake = Lake(moto_s3, SyncMode.FULL_REFRESH, 5)
    commit_log = CommitLog.of(lake.bucket, lake.settings.template, SCOPE)
    newest = commit_log.read_segment(commit_log.read_head().head.newest or "")
    commit_log.put_segment(replace(newest, name="paused.0a0b0c0d"))
    lake.collect(NOW)
    assert lake.collect(LATER) > 0
    assert segment_key(commit_log.root, "paused.0a0b0c0d") in lake.segments


def test_a_reader_that_has_read_an_older_head_still_finds_its_segments(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, SyncMode.FULL_REFRESH)
    lake.collect(NOW)
    older = snapshot(lake.bucket, lake.settings.template, SCOPE)
    with target(moto_s3, lake.settings) as opened:
        for number in range(50, 55):
            land([batch_of(users(number, number))], opened, stream(), sync(f"sync {number}"))
    lake.collect(LATER)
    names = [each.name for each in older.segments]
    assert all(segment_key(older.commit_log.root, name) in lake.segments for name in names)


def test_a_retirement_can_be_undone_after_a_collection(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, SyncMode.APPEND, 6)
    settings = replace(lake.settings, retire_grace_s=10**7)
    retire(lake.bucket, settings, SCOPE, sync("retire"), attempt="0a0b0c0d")
    lake.collect(NOW)
    lake.collect(LATER)
    assert restore(lake.bucket, settings, SCOPE) is not None
    lake.check(list(range(6)))


def _clients(server: S3Server) -> Iterator[FailingClient]:
    yield from failing_in_turn(server.client(), after=True, dead=True)


def test_a_collection_that_fails_at_any_call_harms_nothing(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, SyncMode.APPEND, 6)
    for client in _clients(moto_s3):
        with contextlib.suppress(S3DestError):
            lake.collect(NOW, Bucket(client, lake.settings.s3_bucket_name))
    for client in _clients(moto_s3):
        with contextlib.suppress(S3DestError):
            lake.collect(LATER, Bucket(client, lake.settings.s3_bucket_name))
        lake.check(list(range(6)))


@pytest.mark.parametrize("change", ["recreated", "given_to", "transfer"])
def test_a_stream_whose_segments_a_transfer_may_bring_back_keeps_them(moto_s3: S3Server, change: str) -> None:
    lake = Lake(moto_s3, SyncMode.FULL_REFRESH)
    key = registry_key(stream_root("data", SCOPE.stream))
    registry = REGISTRIES.decode(lake.bucket.get(key)[0], key)
    place = registry.location
    changes = {"recreated": True, "given_to": (place,), "transfer": StreamTransfer(source=place, target=place)}
    before = lake.segments
    for change_now in ({change: changes[change]}, {}):
        lake.bucket.put(key, REGISTRIES.encode(replace(registry, **change_now)))
        for at in (NOW, LATER):
            sweep(lake.bucket, lake.settings, SCOPE.stream, now=at)
        assert (lake.segments == before) == bool(change_now)
