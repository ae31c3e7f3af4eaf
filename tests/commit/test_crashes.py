"""If a sync fails at any S3 call, answered or not, then the scope holds either the old or the new records, never a
mixture."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import Any

import pytest
from failing_clients import (
    EVERY_CRASH,
    HARDEST_WAYS,
    USUAL_WAYS,
    WAYS,
    DyingAfterDeciding,
    FailingClient,
    failing_in_turn,
)
from land_and_read import (
    DIRECTORIES,
    abort_all,
    batch_of,
    destination,
    ids_by_listing,
    lists_without_use,
    open_uploads,
    stream,
    sync,
    target,
    users,
    users_of_two_names,
)
from servers import S3Server

from s3dest_dagster.batch import BadRecord, SourceFile, SourceItem, State, StreamBatch
from s3dest_dagster.commit.maintenance import recover, sweep
from s3dest_dagster.commit.object_lists import OBJECTS_OF_A_LIST
from s3dest_dagster.errors import S3DestError
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.keys import scope_root
from s3dest_dagster.settings.formats import ParquetFormat
from s3dest_dagster.storage import Bucket, open_bucket
from s3dest_dagster.stream import Scope, SyncMode

OLD = users(1, 3)
NEW = users(10, 29)
_streams = count()
_DAY = "2026-01-05"


@dataclass(frozen=True)
class Attacked:
    """A kind of sync, and what the scope holds when it is published: the old records, the new ones, or both."""

    mode: SyncMode = SyncMode.FULL_REFRESH
    partition: str | None = None
    records: tuple[dict[str, Any], ...] = tuple(NEW)
    bad: bool = False
    adds: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    keeps: bool = False
    """Whether a listing still shows the replaced objects until their grace period ends."""
    files: bool = False
    """Two files come with each sync."""
    objects_of_a_list: int = OBJECTS_OF_A_LIST
    """More objects than these are listed apart from the segment, the old ones as well as the new ones."""

    def scope(self, name: str) -> Scope:
        return Scope(stream(name).id, self.partition)

    def final(self) -> list[int]:
        old, new = [each["id"] for each in OLD], [each["id"] for each in self.records]
        return old + new if self.adds else new


REFRESH = Attacked()
APPEND = Attacked(mode=SyncMode.APPEND, adds=True)
KINDS = {
    "partition-replaced": Attacked(mode=SyncMode.APPEND, partition=_DAY),
    "partition-added": Attacked(
        mode=SyncMode.APPEND, partition=_DAY, adds=True, settings={"on_rematerialize": "append"}
    ),
    "emptied": Attacked(records=()),
    "empty-and-kept": Attacked(records=(), adds=True, settings={"on_empty_refresh": "keep"}),
    "purged-first": Attacked(settings={"publish_order": "purge_first"}),
    "kept-for-readers": Attacked(settings={"delete_grace_s": 3600}, keeps=True),
    "quarantined": Attacked(mode=SyncMode.APPEND, adds=True, bad=True, settings={"on_bad_record": "quarantine"}),
    "listed": Attacked(objects_of_a_list=1),
    "listed-and-kept": Attacked(settings={"delete_grace_s": 3600}, keeps=True, objects_of_a_list=1),
    "listed-added": Attacked(
        mode=SyncMode.APPEND, adds=True, bad=True, settings={"on_bad_record": "quarantine"}, objects_of_a_list=1
    ),
    "listed-purged-first": Attacked(settings={"publish_order": "purge_first"}, objects_of_a_list=1),
    "listed-partition": Attacked(mode=SyncMode.APPEND, partition=_DAY, objects_of_a_list=1),
    "in-place": Attacked(
        records=tuple(users(10, 12)),
        settings={"s3_path_format": "${NAMESPACE}/${STREAM_NAME}/", "file_name_pattern": "all{format_extension}"},
    ),
    "files": Attacked(files=True),
    "files-added": Attacked(mode=SyncMode.APPEND, adds=True, files=True),
    "directories": Attacked(records=tuple(users_of_two_names(10, 29)), settings=DIRECTORIES),
    "directories-added": Attacked(
        mode=SyncMode.APPEND,
        adds=True,
        records=tuple(users_of_two_names(10, 29)),
        settings={**DIRECTORIES, "format": ParquetFormat()},
    ),
}
RARER_KINDS = (
    "partition-added",
    "emptied",
    "empty-and-kept",
    "purged-first",
    "kept-for-readers",
    "in-place",
    "quarantined",
    "directories-added",
    "files-added",
    "listed-and-kept",
    "listed-purged-first",
    "listed-partition",
)


def _items(
    name: str,
    records: Iterable[dict[str, Any]],
    cursor: str,
    *,
    bad: bool = False,
    files: bool = False,
    size: int = 10,
) -> Iterator[SourceItem]:
    """Files, then records in batches of ten, then an invalid line, then the state that the records reach."""
    for number in range(2 * files):
        yield SourceFile(stream(name).id, __file__, f"{cursor}-{number}")
    for batch in batched(records, size):
        yield StreamBatch(stream(name).id, batch_of(batch))
    if bad:
        yield BadRecord(stream(name).id, b"{", "cut off")
    yield State(stream(name).id, f'{{"cursor":"{cursor}"}}'.encode(), b"{}")


def batched(records: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    rest = iter(records)
    while part := list(islice(rest, size)):
        yield part


def _land_new(server: S3Server, settings, name: str, client: FailingClient, kind: Attacked = REFRESH) -> None:
    """The sync under attack: two objects with ten records each, which their size closes."""
    bucket = Bucket(client, settings.s3_bucket_name)
    with target(server, settings, bucket, kind.objects_of_a_list) as opened:
        items = _items(name, kind.records, "new", bad=kind.bad, files=kind.files)
        land(items, opened, stream(name, kind.mode, settings=settings), sync(f"new {name}"), scope=kind.scope(name))


def _prepared(server: S3Server, settings, kind: Attacked = REFRESH) -> str:
    """A new stream with the old records in its scope."""
    name = f"users{next(_streams)}x"
    bucket = Bucket(server.client(), settings.s3_bucket_name)
    with target(server, settings, bucket, kind.objects_of_a_list) as opened:
        items = _items(name, OLD, "old", files=kind.files, size=1 if kind.objects_of_a_list == 1 else 10)
        land(items, opened, stream(name, kind.mode, settings=settings), sync(f"old {name}"), scope=kind.scope(name))
    return name


def _through_the_head(bucket: Bucket, settings, scope: Scope) -> list[int]:
    """The ids that a reader of the manifests sees."""
    table = read_scope(bucket, settings.template, scope)
    return [] if table is None else sorted(table["id"].to_pylist())


def _reached(bucket: Bucket, settings, scope: Scope) -> str:
    """The generation whose state the manifests record."""
    root = scope_root(settings.template.literal_root, scope)
    head = json.loads(bucket.get(f"{root}head.json")[0])
    segment = json.loads(bucket.get(f"{root}segments/{head['state_segment']}.json")[0])
    return json.loads(segment["state"]["text"])["cursor"]


def _files(server: S3Server, settings, name: str, kind: Attacked, reached: str) -> tuple[list[str], list[str]]:
    """The files that a listing shows, and those that belong to the generation that was reached."""
    expected = ["old", "new"] if kind.adds and reached == "new" else [reached]
    listed = server.client().list_objects_v2(Bucket=settings.s3_bucket_name).get("Contents", [])
    found = [key for each in listed if f"/{name}/" in (key := each["Key"]) and "/files/" in key]
    return sorted(key.rpartition("/")[2] for key in found), sorted(
        f"{each}-{number}" for each in expected * kind.files for number in range(2)
    )


def _attack(server: S3Server, settings, kind: Attacked, *, after: bool, dead: bool, step: int) -> None:
    old_ids = [each["id"] for each in OLD]
    generations = {"old": old_ids, "new": kind.final()}
    bucket = Bucket(server.client(), settings.s3_bucket_name)
    names = []
    for client in failing_in_turn(server.client(), after=after, dead=dead, step=step):
        name = _prepared(server, settings, kind)
        names.append(name)
        scope = kind.scope(name)
        with contextlib.suppress(S3DestError):
            _land_new(server, settings, name, client, kind)
        where = client.failed
        if not kind.settings.get("publish_order") and "file_name_pattern" not in kind.settings:
            assert _through_the_head(bucket, settings, scope) in generations.values(), where

        recovered = recover(bucket, settings.template, scope)
        assert recovered.ok, f"{where}: {recovered.message}"
        seen, reached = _through_the_head(bucket, settings, scope), _reached(bucket, settings, scope)
        assert seen == generations[reached], f"{where}: {seen} with the state of {reached}"
        assert _listed(server, settings, name) in ([seen, old_ids + seen] if kind.keeps else [seen]), where
        shown, expected = _files(server, settings, name, kind, reached)
        assert shown == expected, where

        _land_new(server, settings, name, FailingClient(server.client()), kind)
        assert recover(bucket, settings.template, scope, clock=lambda: datetime.now(UTC) + timedelta(days=1)).ok
        assert _through_the_head(bucket, settings, scope) == kind.final(), where
        assert _reached(bucket, settings, scope) == "new", where
        assert _listed(server, settings, name) == kind.final(), where
        shown, expected = _files(server, settings, name, kind, "new")
        assert shown == expected, where
    swept = replace(settings, abandoned_upload_age_s=0)
    for name in names:
        sweep(bucket, swept, stream(name).id, now=datetime.now(UTC) + timedelta(days=1))
    assert open_uploads(server, settings.s3_bucket_name) == 0
    assert lists_without_use(server, settings.s3_bucket_name) == []


def _listed(server: S3Server, settings, name: str) -> list[int]:
    """The ids of the stream's records from a listing, without quarantined lines."""
    return ids_by_listing(server, settings.s3_bucket_name, f"data/public/{name}/")


def _attacked(server: S3Server, kind: Attacked, way: str, *, step: int = 1) -> None:
    after, dead = WAYS[way]
    settings = destination(server.new_bucket(), object_size_mb=0.0002, **kind.settings)
    _attack(server, settings, kind, after=after, dead=dead, step=step)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", USUAL_WAYS)
@pytest.mark.parametrize("kind", [REFRESH, APPEND], ids=["refresh", "append"])
def test_a_failure_at_any_call_leaves_old_or_new(moto_s3: S3Server, kind: Attacked, way: str) -> None:
    _attacked(moto_s3, kind, way)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", HARDEST_WAYS)
@pytest.mark.parametrize("kind", [each for each in KINDS if EVERY_CRASH or each not in RARER_KINDS])
def test_a_failure_at_any_call_leaves_old_or_new_in_every_kind_of_sync(moto_s3: S3Server, kind: str, way: str) -> None:
    _attacked(moto_s3, KINDS[kind], way, step=2)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", HARDEST_WAYS)
@pytest.mark.parametrize("kind", [REFRESH, APPEND][: 1 + EVERY_CRASH], ids=["refresh", "append"][: 1 + EVERY_CRASH])
def test_a_failure_at_any_call_leaves_old_or_new_without_conditional_puts(
    rclone_s3: S3Server, kind: Attacked, way: str
) -> None:
    _attacked(rclone_s3, kind, way)


def _publishing_calls(server: S3Server, **settings: str) -> list[str]:
    """The deletions and completions of a full refresh, in order."""
    made = destination(server.new_bucket(), object_size_mb=0.0002, **settings)
    name = _prepared(server, made)
    client = FailingClient(server.client())
    _land_new(server, made, name, client)
    return [each for each in client.calls if each in ("delete_objects", "complete_multipart_upload")]


def test_the_old_objects_stay_until_the_new_ones_exist(moto_s3: S3Server) -> None:
    assert _publishing_calls(moto_s3) == ["complete_multipart_upload"] * 2 + ["delete_objects"]


def test_the_settings_can_purge_the_old_objects_first(moto_s3: S3Server) -> None:
    calls = _publishing_calls(moto_s3, publish_order="purge_first")
    assert calls == ["delete_objects"] + ["complete_multipart_upload"] * 2


def test_nothing_is_purged_first_if_every_upload_counts_as_abandoned(moto_s3: S3Server) -> None:
    calls = _publishing_calls(moto_s3, publish_order="purge_first", abandoned_upload_age_s=0)
    assert calls == ["complete_multipart_upload"] * 2 + ["delete_objects"]


@pytest.mark.parametrize(
    ("hours_of_seven_days_left", "purges_first"), [(2, True), (0.9, False), (-24, False), (None, False)]
)
def test_recovery_purges_first_only_while_no_sweep_can_have_aborted_an_upload(
    rclone_s3: S3Server, caplog: pytest.LogCaptureFixture, hours_of_seven_days_left: float | None, purges_first: bool
) -> None:
    """A sync that died after its decision, and whose uploads have since almost reached the age of abandoned uploads."""
    settings = destination(rclone_s3.new_bucket(), object_size_mb=0.0002, publish_order="purge_first")
    name = _prepared(rclone_s3, settings)
    scope, bucket = Scope(stream(name).id), rclone_s3.open(settings)
    _die(rclone_s3, settings, name, at="delete_objects")
    hours = hours_of_seven_days_left
    since = None if hours is None else datetime.now(UTC) - timedelta(days=7) + timedelta(hours=hours)
    _rewrite_pending(bucket, settings, scope, uploads_started_after=None if since is None else since.isoformat())
    client = FailingClient(rclone_s3.client())
    assert recover(Bucket(client, bucket.name), settings.template, scope).ok
    publishing = [each for each in client.calls if each in ("delete_objects", "complete_multipart_upload")]
    assert (publishing[0] == "delete_objects") is purges_first
    assert ("as with publish_order 'add_first'" in caplog.text) is not purges_first
    assert _listed(rclone_s3, settings, name) == _through_the_head(bucket, settings, scope) == REFRESH.final()


def _die(server: S3Server, settings, name: str, *, at: str) -> None:
    """A sync of the new records that is decided, and then dies at its first call with this name."""
    bucket = Bucket(DyingAfterDeciding(server.client(), at), settings.s3_bucket_name)
    with target(server, settings, bucket) as opened, pytest.raises(S3DestError, match="finishes it"):
        land(_items(name, NEW, "new"), opened, stream(name), sync(f"new {name}"), scope=Scope(stream(name).id))


def _rewrite_pending(bucket: Bucket, settings, scope: Scope, **changes: Any) -> None:
    """Changes fields of the pending segment of the scope."""
    root = scope_root(settings.template.literal_root, scope)
    pending = json.loads(bucket.get(f"{root}head.json")[0])["pending_segment"]
    key = f"{root}segments/{pending}.json"
    bucket.put(key, json.dumps(json.loads(bucket.get(key)[0]) | changes).encode())


def _vanished(server: S3Server, settings, *, uploads: int | None = None) -> str:
    """A new stream whose refresh was decided and then died. Some (or all) of its uploads have vanished since."""
    name = _prepared(server, settings)
    dying = FailingClient(server.client(), at="complete_multipart_upload", dead=True)
    with pytest.raises(S3DestError, match="finishes it"):
        _land_new(server, settings, name, dying)
    abort_all(server, settings.s3_bucket_name, most=uploads)
    return name


def test_a_vanished_upload_rolls_the_decision_back(any_s3: S3Server) -> None:
    """This also holds if the server answers the completion with 500, as moto and Ceph do."""
    settings = destination(any_s3.new_bucket(), object_size_mb=0.0002)
    name = _vanished(any_s3, settings, uploads=1)
    opened = open_bucket(replace(any_s3.connection, max_attempts=1), settings)
    recovered = recover(opened, settings.template, Scope(stream(name).id))
    assert not recovered.ok
    assert "rolled back" in recovered.message
    assert ids_by_listing(any_s3, settings.s3_bucket_name, f"data/public/{name}/") == [1, 2, 3]
    assert _through_the_head(opened, settings, Scope(stream(name).id)) == [1, 2, 3]


def test_a_server_that_fails_to_complete_an_upload_rolls_no_decision_back(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), object_size_mb=0.0002)
    name = _prepared(moto_s3, settings)
    dying = FailingClient(moto_s3.client(), at="complete_multipart_upload", dead=True)
    with pytest.raises(S3DestError, match="finishes it"):
        _land_new(moto_s3, settings, name, dying)
    failing = FailingClient(moto_s3.client(), at="complete_multipart_upload")
    bucket = Bucket(failing, settings.s3_bucket_name)
    assert "rolled back" not in recover(bucket, settings.template, Scope(stream(name).id)).message
    assert recover(moto_s3.open(settings), settings.template, Scope(stream(name).id)).ok


def test_an_upload_that_vanished_after_the_purge_empties_the_scope_and_is_reported(rclone_s3: S3Server) -> None:
    settings = destination(rclone_s3.new_bucket(), object_size_mb=0.0002, publish_order="purge_first")
    name = _vanished(rclone_s3, settings, uploads=1)
    recovered = recover(rclone_s3.open(settings), settings.template, Scope(stream(name).id))
    assert "is lost" in recovered.message
    assert ids_by_listing(rclone_s3, settings.s3_bucket_name, f"data/public/{name}/") == []
    assert _through_the_head(rclone_s3.open(settings), settings, Scope(stream(name).id)) == []
    _land_new(rclone_s3, settings, name, FailingClient(rclone_s3.client()))
    assert len(ids_by_listing(rclone_s3, settings.s3_bucket_name, f"data/public/{name}/")) == len(NEW)


def test_data_purged_by_an_interrupted_publication_is_reported_as_lost_even_if_recovery_comes_late(
    rclone_s3: S3Server,
) -> None:
    """This also holds if the uploads are then too old to purge first."""
    settings = destination(rclone_s3.new_bucket(), object_size_mb=0.0002, publish_order="purge_first")
    name = _vanished(rclone_s3, settings, uploads=1)
    scope, bucket = Scope(stream(name).id), rclone_s3.open(settings)
    _rewrite_pending(bucket, settings, scope, uploads_started_after="2020-01-01T00:00:00Z")
    assert "is lost" in recover(bucket, settings.template, scope).message
    assert _listed(rclone_s3, settings, name) == _through_the_head(bucket, settings, scope) == []


@pytest.mark.parametrize("vanished", [True, False])
def test_an_older_object_of_the_same_key_and_size_is_not_mistaken_for_the_vanished_one(
    rclone_s3: S3Server, vanished: bool
) -> None:
    """The server keeps no metadata. If the object arrived and only the answer was lost, then the object is
    recognized as ours."""
    settings = destination(rclone_s3.new_bucket(), **KINDS["in-place"].settings)
    name = f"users{next(_streams)}x"
    old, new = ([batch_of(users(first, first + 2))] for first in (10, 20))
    with target(rclone_s3, settings) as opened:
        land(old, opened, stream(name), sync("old"))
    scope = Scope(stream(name).id)
    lost = FailingClient(rclone_s3.client(), at="complete_multipart_upload", dead=True, after=not vanished)
    opened = target(rclone_s3, settings, Bucket(lost, settings.s3_bucket_name))
    with opened as made, pytest.raises(S3DestError, match="finishes it"):
        land(new, made, stream(name), sync("new"))
    if vanished:
        abort_all(rclone_s3, settings.s3_bucket_name)
    bucket = Bucket(ForgetfulClient(rclone_s3.client()), settings.s3_bucket_name)
    assert recover(bucket, settings.template, scope).ok is not vanished
    assert _through_the_head(bucket, settings, scope) == ([10, 11, 12] if vanished else [20, 21, 22])


class ForgetfulClient(FailingClient):
    """A client of a server that keeps no metadata of objects."""

    def _counted(self, name: str, method: Any) -> Any:
        return lambda **arguments: {**method(**arguments), "Metadata": {}}


def test_an_interrupted_decision_aborts_no_upload_that_may_be_decided(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), object_size_mb=0.0002, publish_order="purge_first")
    name = _prepared(moto_s3, settings)
    with pytest.raises(KeyboardInterrupt):
        _land_new(moto_s3, settings, name, InterruptedAfterDeciding(moto_s3.client()))
    assert recover(moto_s3.open(settings), settings.template, Scope(stream(name).id)).ok
    assert len(ids_by_listing(moto_s3, settings.s3_bucket_name, f"data/public/{name}/")) == len(NEW)


def test_a_rollback_spares_the_object_whose_key_the_sync_would_have_used(rclone_s3: S3Server) -> None:
    """All syncs share one key, and the quarantined lines have vanished. The object must be neither created nor
    deleted."""
    kind = replace(KINDS["in-place"], bad=True, settings=KINDS["in-place"].settings | {"on_bad_record": "quarantine"})
    settings = destination(rclone_s3.new_bucket(), **kind.settings)
    name = _prepared(rclone_s3, settings, kind)
    dying = FailingClient(rclone_s3.client(), at="complete_multipart_upload", dead=True)
    with pytest.raises(S3DestError, match="finishes it"):
        _land_new(rclone_s3, settings, name, dying, kind)
    abort_all(rclone_s3, settings.s3_bucket_name, "quarantine")
    recovered = recover(rclone_s3.open(settings), settings.template, kind.scope(name))
    assert "rolled back" in recovered.message
    assert _listed(rclone_s3, settings, name) == [1, 2, 3]
    assert _through_the_head(rclone_s3.open(settings), settings, kind.scope(name)) == [1, 2, 3]


def test_the_part_numbers_of_a_rolled_back_sync_are_not_reused(rclone_s3: S3Server) -> None:
    """A process that publishes or deletes the objects of that sync late must not affect those of a newer sync."""
    settings = destination(
        rclone_s3.new_bucket(), object_size_mb=0.0002, s3_path_format="${NAMESPACE}/${STREAM_NAME}/part_"
    )
    name = _vanished(rclone_s3, settings, uploads=1)
    recover(rclone_s3.open(settings), settings.template, Scope(stream(name).id))
    with target(rclone_s3, settings) as opened:
        receipt = land([batch_of(users(70, 71))], opened, stream(name), sync("another"))
    assert [each.key for each in receipt.objects] == [f"data/public/{name}/part_3.jsonl"]


def test_the_error_for_a_decision_without_its_segment_names_the_remedy(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), object_size_mb=0.0002)
    name = _prepared(moto_s3, settings)
    dying = FailingClient(moto_s3.client(), at="complete_multipart_upload", dead=True)
    with pytest.raises(S3DestError, match="finishes it"):
        _land_new(moto_s3, settings, name, dying)
    bucket, scope = moto_s3.open(settings), Scope(stream(name).id)
    root = scope_root(settings.template.literal_root, scope)
    pending = json.loads(bucket.get(f"{root}head.json")[0])["pending_segment"]
    bucket.delete([f"{root}segments/{pending}.json"])
    recovered = recover(bucket, settings.template, scope)
    assert not recovered.ok
    assert f"delete s3://{bucket.name}/{root}head.json too" in recovered.message
    bucket.delete([f"{root}head.json"])
    _land_new(moto_s3, settings, name, FailingClient(moto_s3.client()))
    assert _listed(moto_s3, settings, name) == _through_the_head(bucket, settings, scope) == REFRESH.final()


def test_a_sync_succeeds_although_the_sync_before_it_was_rolled_back(rclone_s3: S3Server) -> None:
    settings = destination(rclone_s3.new_bucket(), object_size_mb=0.0002)
    name = _vanished(rclone_s3, settings)
    with target(rclone_s3, settings) as opened:
        land([batch_of(users(70, 71))], opened, stream(name, SyncMode.FULL_REFRESH), sync("another"))
    assert ids_by_listing(rclone_s3, settings.s3_bucket_name, f"data/public/{name}/") == [70, 71]


def test_a_failed_abort_does_not_prevent_the_other_aborts(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), object_size_mb=0.0002)
    name = _prepared(moto_s3, settings)
    probe = FailingClient(moto_s3.client())
    bucket = Bucket(probe, settings.s3_bucket_name)
    with target(moto_s3, settings, bucket) as opened:
        landing = Landing(opened, stream(name), sync("given up"))
        for start in range(0, 50, 10):
            landing.append_batch(batch_of(users(start, start + 9)))
        while open_uploads(moto_s3, settings.s3_bucket_name) < 3:
            time.sleep(0.01)  # threads begin them
        probe._at = "abort_multipart_upload"
        with pytest.raises(S3DestError):
            landing.abort()
    assert open_uploads(moto_s3, settings.s3_bucket_name) == 1


class InterruptedAfterDeciding(FailingClient):
    """A client whose user presses Ctrl-C during the put of the head, after the server has stored it."""

    def _counted(self, name: str, method: Any) -> Any:
        def call(**arguments: Any) -> Any:
            answer = method(**arguments)
            if name == "put_object" and b'"pending_segment": "' in arguments["Body"]:
                raise KeyboardInterrupt
            return answer

        return call


def test_a_failure_before_the_decision_aborts_every_upload(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), object_size_mb=0.0002)
    name = _prepared(moto_s3, settings)
    probe = FailingClient(moto_s3.client())
    _land_new(moto_s3, settings, name, probe)
    for at in [number for number, call in enumerate(probe.calls, 1) if call == "upload_part"]:
        name = _prepared(moto_s3, settings)
        with pytest.raises(S3DestError):
            _land_new(moto_s3, settings, name, FailingClient(moto_s3.client(), at=at))
        assert open_uploads(moto_s3, settings.s3_bucket_name) == 0
