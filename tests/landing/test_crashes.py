"""A sync that fails at any single S3 call, answered or not, leaves old or new: never neither, never a mixture."""

from __future__ import annotations

import contextlib
from itertools import count
from typing import Any

import pytest
from faults import FailingClient
from landed import batch_of, destination, ids_by_listing, open_uploads, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.errors import S3DestError
from s3dest_dagster.landing import Landing, land, live_objects, recover
from s3dest_dagster.landing.read import read_scope
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, SyncMode

OLD = users(1, 3)
NEW = users(10, 39)
_streams = count()


def _land_new(server: S3Server, settings, name: str, mode: SyncMode, client: FailingClient) -> None:
    """The sync under attack: three objects, each closed by its size."""
    bucket = Bucket(client, settings.s3_bucket_name)
    with target(server, settings, bucket) as opened:
        land((batch_of(NEW[n : n + 10]) for n in range(0, 30, 10)), opened, stream(name, mode), sync(f"new {name}"))


def _visible_through_the_head(server: S3Server, settings, name: str) -> list[int]:
    bucket = server.open(settings)
    scope = Scope(stream(name).id)
    table = read_scope(bucket, settings.template, scope)
    return [] if table is None else sorted(table["id"].to_pylist())


def _prepared(server: S3Server, settings, mode: SyncMode) -> str:
    """A fresh stream that holds the old records in two objects."""
    name = f"users{next(_streams)}x"
    with target(server, settings) as opened:
        land((batch_of([each]) for each in OLD), opened, stream(name, mode), sync(f"old {name}"))
    return name


def _attack(server: S3Server, settings, mode: SyncMode, *, after: bool, dead: bool) -> None:
    old_ids, new_ids = [each["id"] for each in OLD], [each["id"] for each in NEW]
    final = new_ids if mode is SyncMode.FULL_REFRESH else old_ids + new_ids
    for at in count(1):
        name = _prepared(server, settings, mode)
        client = FailingClient(server.client(), at=at, after=after, dead=dead)
        with contextlib.suppress(S3DestError):
            _land_new(server, settings, name, mode, client)
        where = f"call {at} ({[*client.calls, '-'][min(at, len(client.calls)) - 1]})"
        seen = _visible_through_the_head(server, settings, name)
        assert seen in (old_ids, final), f"{where}: readers through the head see {seen}"

        recovered = recover(server.open(settings), settings.template, Scope(stream(name).id))
        assert recovered.ok, f"{where}: {recovered.message}"
        listed = ids_by_listing(server, settings.s3_bucket_name, f"data/public/{name}/")
        assert listed in (old_ids, final), f"{where}: after recovery a listing shows {listed}"
        assert listed == _visible_through_the_head(server, settings, name)

        _land_new(server, settings, name, mode, FailingClient(server.client()))
        assert ids_by_listing(server, settings.s3_bucket_name, f"data/public/{name}/") == final, where
        if at > len(client.calls):
            return


@pytest.mark.timeout(240)
@pytest.mark.parametrize("dead", [False, True], ids=["one-call", "from-then-on"])
@pytest.mark.parametrize("after", [False, True], ids=["refused", "answer-lost"])
@pytest.mark.parametrize("mode", list(SyncMode))
def test_every_call_may_fail(moto_s3: S3Server, mode: SyncMode, after: bool, dead: bool) -> None:
    settings = destination(moto_s3.new_bucket(), object_size_mb=0.0002)
    _attack(moto_s3, settings, mode, after=after, dead=dead)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", list(SyncMode))
def test_every_call_may_fail_on_a_server_without_conditions(rclone_s3: S3Server, mode: SyncMode) -> None:
    settings = destination(rclone_s3.new_bucket(), object_size_mb=0.0002)
    _attack(rclone_s3, settings, mode, after=True, dead=True)


def _publishing_calls(server: S3Server, **settings: str) -> list[str]:
    """The deletions and completions of a full refresh, in order."""
    made = destination(server.new_bucket(), object_size_mb=0.0002, **settings)
    name = _prepared(server, made, SyncMode.FULL_REFRESH)
    client = FailingClient(server.client())
    _land_new(server, made, name, SyncMode.FULL_REFRESH, client)
    after_probing = client.calls[client.calls.index("delete_objects") + 1 :]
    return [each for each in after_probing if each in ("delete_objects", "complete_multipart_upload")]


def test_the_old_objects_stay_until_the_new_ones_are_there(moto_s3: S3Server) -> None:
    assert _publishing_calls(moto_s3) == ["complete_multipart_upload"] * 3 + ["delete_objects"]


def test_the_old_objects_may_be_purged_first(moto_s3: S3Server) -> None:
    calls = _publishing_calls(moto_s3, publish_order="purge_first")
    assert calls == ["delete_objects"] + ["complete_multipart_upload"] * 3


def _vanished(server: S3Server, settings, *, uploads: int | None = None) -> str:
    """A fresh stream whose refresh was decided and died, and of whose uploads some (or all) have vanished since."""
    name = _prepared(server, settings, SyncMode.FULL_REFRESH)
    dying = FailingClient(server.client(), at="complete_multipart_upload", dead=True)
    with pytest.raises(S3DestError, match="finishes it"):
        _land_new(server, settings, name, SyncMode.FULL_REFRESH, dying)
    admin = server.client()
    for upload in admin.list_multipart_uploads(Bucket=settings.s3_bucket_name)["Uploads"][:uploads]:
        admin.abort_multipart_upload(Bucket=settings.s3_bucket_name, Key=upload["Key"], UploadId=upload["UploadId"])
    return name


def test_an_upload_that_vanished_turns_the_decision_back(rclone_s3: S3Server) -> None:
    settings = destination(rclone_s3.new_bucket(), object_size_mb=0.0002)
    name = _vanished(rclone_s3, settings, uploads=1)
    recovered = recover(rclone_s3.open(settings), settings.template, Scope(stream(name).id))
    assert not recovered.ok
    assert "turned back" in recovered.message
    assert ids_by_listing(rclone_s3, settings.s3_bucket_name, f"data/public/{name}/") == [1, 2, 3]
    assert len(live_objects(rclone_s3.open(settings), settings.template, Scope(stream(name).id))) == 2


def test_an_upload_that_vanished_after_the_purge_empties_the_scope_and_says_so(rclone_s3: S3Server) -> None:
    settings = destination(rclone_s3.new_bucket(), object_size_mb=0.0002, publish_order="purge_first")
    name = _vanished(rclone_s3, settings, uploads=1)
    recovered = recover(rclone_s3.open(settings), settings.template, Scope(stream(name).id))
    assert "is lost" in recovered.message
    assert ids_by_listing(rclone_s3, settings.s3_bucket_name, f"data/public/{name}/") == []
    assert _visible_through_the_head(rclone_s3, settings, name) == []
    _land_new(rclone_s3, settings, name, SyncMode.FULL_REFRESH, FailingClient(rclone_s3.client()))
    assert len(ids_by_listing(rclone_s3, settings.s3_bucket_name, f"data/public/{name}/")) == len(NEW)


def test_an_interrupted_decision_aborts_nothing_that_may_be_decided(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), object_size_mb=0.0002, publish_order="purge_first")
    name = _prepared(moto_s3, settings, SyncMode.FULL_REFRESH)
    with pytest.raises(KeyboardInterrupt):
        _land_new(moto_s3, settings, name, SyncMode.FULL_REFRESH, InterruptedAfterDeciding(moto_s3.client()))
    assert recover(moto_s3.open(settings), settings.template, Scope(stream(name).id)).ok
    assert len(ids_by_listing(moto_s3, settings.s3_bucket_name, f"data/public/{name}/")) == len(NEW)


def test_a_sync_does_not_fail_for_one_before_it_that_was_turned_back(rclone_s3: S3Server) -> None:
    settings = destination(rclone_s3.new_bucket(), object_size_mb=0.0002)
    name = _vanished(rclone_s3, settings)
    with target(rclone_s3, settings) as opened:
        land([batch_of(users(70, 71))], opened, stream(name, SyncMode.FULL_REFRESH), sync("another"))
    assert ids_by_listing(rclone_s3, settings.s3_bucket_name, f"data/public/{name}/") == [70, 71]


def test_an_abort_that_fails_does_not_keep_the_others_from_being_tried(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), object_size_mb=0.0002)
    name = _prepared(moto_s3, settings, SyncMode.FULL_REFRESH)
    probe = FailingClient(moto_s3.client())
    bucket = Bucket(probe, settings.s3_bucket_name)
    with target(moto_s3, settings, bucket) as opened:
        landing = Landing(opened, stream(name), sync("given up"))
        for start in range(0, 50, 10):
            landing.write(batch_of(users(start, start + 9)))
        probe._at = len(probe.calls) + 1
        with pytest.raises(S3DestError):
            landing.abort()
    assert open_uploads(moto_s3, settings.s3_bucket_name) == 1


class InterruptedAfterDeciding(FailingClient):
    """A client whose user presses Ctrl-C while the head is being put, after the server has taken it."""

    def _counted(self, name: str, method: Any) -> Any:
        def call(**arguments: Any) -> Any:
            answer = method(**arguments)
            if name == "put_object" and b'"pending": "' in arguments["Body"]:
                raise KeyboardInterrupt
            return answer

        return call


def test_a_failure_before_the_decision_aborts_every_upload(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), object_size_mb=0.0002)
    name = _prepared(moto_s3, settings, SyncMode.FULL_REFRESH)
    probe = FailingClient(moto_s3.client())
    _land_new(moto_s3, settings, name, SyncMode.FULL_REFRESH, probe)
    for at in [number for number, call in enumerate(probe.calls, 1) if call == "upload_part"]:
        name = _prepared(moto_s3, settings, SyncMode.FULL_REFRESH)
        with pytest.raises(S3DestError):
            _land_new(moto_s3, settings, name, SyncMode.FULL_REFRESH, FailingClient(moto_s3.client(), at=at))
        assert open_uploads(moto_s3, settings.s3_bucket_name) == 0
