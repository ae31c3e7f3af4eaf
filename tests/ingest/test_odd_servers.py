"""A landing works on every kind of server. Each server is probed once, and the probe leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aws_identities import new_user
from land_and_read import batches_of, destination, ids_by_listing, open_uploads, stream, sync, users
from odd_servers import ODD_SERVERS, OddServer, empty, gives_no_tokens, odd_server
from recording_proxy import Forward, Rule
from servers import SEED_ACTIONS, S3Server
from werkzeug.wrappers import Request, Response

from s3dest_dagster.commit.maintenance import sweep
from s3dest_dagster.commit.scopes import scopes
from s3dest_dagster.errors import AccessDeniedError, PreconditionFailedError, StorageError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.target import Target, open_target
from s3dest_dagster.inspection.check import check
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket, RetryPolicy, ServerAbilities, open_bucket, open_client
from s3dest_dagster.storage.abilities import BatchDelete, Condition
from s3dest_dagster.stream import SyncMode

SERVER_FILE = "data/_s3dest/server.json"
LACKS: dict[str, dict[str, Any]] = {
    "no batches, 501": {"batch_delete": BatchDelete.NONE},
    "no batches, 400": {"batch_delete": BatchDelete.NONE},
    "no batches, 405 without a body": {"batch_delete": BatchDelete.NONE},
    "batches with Content-MD5": {"batch_delete": BatchDelete.MD5},
    "no single deletions": {"single_delete": False, "delete_if_match": Condition.NONE},
    "no checksums": {"checksum_headers": False, "batch_delete": BatchDelete.MD5},
    "locked objects": {"parts_without_md5": False},
    "conditions refused, 400": {"create_if_absent": False, "replace_if_match": Condition.NONE},
    "conditions refused, 405": {"create_if_absent": False, "replace_if_match": Condition.NONE},
    "conditions refused, 501 without a body": {"create_if_absent": False, "replace_if_match": Condition.NONE},
    "conditions refused, 304": {
        "create_if_absent": False,
        "replace_if_match": Condition.NONE,
        "complete_if_absent": False,
        "delete_if_match": Condition.NONE,
    },
    "conditions ignored": {
        "create_if_absent": False,
        "replace_if_match": Condition.NONE,
        "delete_if_match": Condition.NONE,
    },
    "ETags without quotes": {"replace_if_match": Condition.UNQUOTED, "delete_if_match": Condition.NONE},
    "no tokens": {"page_tokens": False},
    "no ETags of puts": {"etags_answered": False},
}
"""How the abilities of each kind of server differ from moto's."""
# Once a server has been probed, only its abilities matter: kinds with the same ones land in the same way.
LANDED = [kind for number, kind in enumerate(LACKS) if LACKS[kind] not in list(LACKS.values())[:number]]


@pytest.fixture(scope="module")
def moto_abilities(moto_s3: S3Server) -> ServerAbilities:
    return open_bucket(moto_s3.connection, moto_s3.new_bucket()).abilities


@contextmanager
def behind(rule: Rule, moto_s3: S3Server, **settings: Any) -> Iterator[tuple[OddServer, S3Destination, Target]]:
    """An odd server, with a target opened on it as at the first use in a process."""
    with odd_server(rule) as server:
        chosen = destination(moto_s3.new_bucket(), **settings)
        bucket = open_bucket(replace(moto_s3.connection, endpoint=server.endpoint, max_attempts=2), chosen)
        with open_target(chosen, bucket, clock=lambda: datetime.now(UTC), entropy=lambda n: bytes(range(n))) as opened:
            yield server, chosen, opened


def keys_beside_manifests(server: S3Server, bucket: str) -> list[str]:
    """The keys directly in the directory of the manifests: the server file and trial objects."""
    pages = server.client().list_objects_v2(Bucket=bucket, Prefix="data/_s3dest/", Delimiter="/")
    return [each["Key"] for each in pages.get("Contents", ())]


@pytest.mark.parametrize("kind", LANDED)
def test_every_kind_of_server_lands_twice_in_each_mode(moto_s3: S3Server, kind: str) -> None:
    with behind(ODD_SERVERS[kind], moto_s3) as (_, settings, opened):
        name = settings.s3_bucket_name
        for number in (1, 2):
            land(batches_of(users(number, number)), opened, stream("added", SyncMode.APPEND), sync(f"a{number}"))
            land(batches_of(users(number, number + 2)), opened, stream("replaced"), sync(f"r{number}"))
        for scope in scopes(opened.bucket, settings.template):
            assert verify(opened.bucket, settings.template, scope).problems == ()
        sweep(opened.bucket, settings, stream("added").id)
        assert ids_by_listing(moto_s3, name, "data/public/added") == [1, 2]
        assert ids_by_listing(moto_s3, name, "data/public/replaced") == [2, 3, 4]
        assert keys_beside_manifests(moto_s3, name) == [SERVER_FILE]
        assert open_uploads(moto_s3, name) == 0


@pytest.mark.parametrize("kind", ODD_SERVERS)
def test_every_ability_is_found_and_the_check_explains_the_effect_of_each_missing_one(
    moto_s3: S3Server, moto_abilities: ServerAbilities, kind: str
) -> None:
    with behind(ODD_SERVERS[kind], moto_s3) as (_, settings, opened):
        assert opened.bucket.abilities == replace(moto_abilities, **LACKS[kind])
        assert keys_beside_manifests(moto_s3, settings.s3_bucket_name) == [SERVER_FILE]
        steps = check(opened, "token")
    assert all(each.ok for each in steps)
    lacking = [each for each in steps if not each.has]
    whole = {Condition.UNQUOTED, BatchDelete.MD5, True}
    assert len(lacking) >= sum(value not in whole for value in LACKS[kind].values())
    assert all(each.message for each in lacking)


def test_an_etag_without_quotes_detects_another_writer(moto_s3: S3Server) -> None:
    with behind(ODD_SERVERS["ETags without quotes"], moto_s3) as (_, _settings, opened):
        first = opened.bucket.put("data/head", b"1", if_absent=True)
        opened.bucket.put("data/head", b"2", if_match=first)
        with pytest.raises(PreconditionFailedError):
            opened.bucket.put("data/head", b"3", if_match=first)


# When a server lacks an ability


def answering(answers: list[Response]) -> Rule:
    """Answers conditional puts with these answers in order, and after that with moto's."""
    waiting = list(answers)

    def rule(request: Request, forward: Forward) -> Response:
        meant = request.method == "PUT" and "If-None-Match" in request.headers
        return waiting.pop(0) if meant and waiting else forward()

    return rule


def unprobed(server: OddServer, moto_s3: S3Server, name: str, **retry_policy: Any) -> Bucket:
    """A bucket that has not been probed, with a retry policy without pauses."""
    client = open_client(replace(moto_s3.connection, endpoint=server.endpoint, max_attempts=1))
    return Bucket(client, name, RetryPolicy(pause=lambda seconds: None, **retry_policy)).with_root("data/_s3dest/")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_request_to_a_busy_server_is_retried(moto_s3: S3Server, moto_abilities: ServerAbilities, status: int) -> None:
    with odd_server(answering([empty(status)] * 3)) as server:
        bucket = unprobed(server, moto_s3, moto_s3.new_bucket())
        assert bucket.abilities == moto_abilities


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_an_inconclusive_answer_is_an_error_and_is_not_stored(
    moto_s3: S3Server, moto_abilities: ServerAbilities, status: int
) -> None:
    with odd_server(answering([empty(status)] * 4)) as server:
        name = moto_s3.new_bucket()
        with pytest.raises(AccessDeniedError if status == 403 else StorageError):
            assert unprobed(server, moto_s3, name, max_attempts=1 if status == 403 else 4).abilities
        assert keys_beside_manifests(moto_s3, name) == []
        bucket = unprobed(server, moto_s3, name, max_attempts=9)
        assert status == 403 or bucket.abilities == moto_abilities


def test_a_refusal_after_a_successful_probe_is_an_error_that_names_the_remedy(moto_s3: S3Server) -> None:
    switched: list[bool] = []

    def rule(request: Request, forward: Forward) -> Response:
        meant = request.method == "PUT" and "If-None-Match" in request.headers and switched
        return empty(501) if meant else forward()

    with odd_server(rule) as server:
        bucket = unprobed(server, moto_s3, moto_s3.new_bucket())
        assert bucket.abilities.create_if_absent
        switched.append(True)
        with pytest.raises(StorageError, match=r"took conditional puts\. .*s3dest check --again"):
            bucket.put("data/head", b"1", if_absent=True)
        assert not bucket.probe_again().create_if_absent
        assert bucket.put("data/head", b"1", if_absent=True)


def test_a_machine_that_sleeps_during_the_probe_stores_nothing(moto_s3: S3Server) -> None:
    """By the server's clock, two days pass in the meantime, so a sweep may have deleted the trial object."""
    begun = datetime.now(UTC)

    def rule(request: Request, forward: Forward) -> Response:
        moment = begun + timedelta(days=2) if "uploads" in request.args or moved else begun
        moved.extend([True] if moment != begun else [])
        return dated(moment)(request, forward)

    moved: list[bool] = []
    with odd_server(rule) as server:
        name = moto_s3.new_bucket()
        with pytest.raises(StorageError, match="slept meanwhile"):
            assert unprobed(server, moto_s3, name).abilities
        assert keys_beside_manifests(moto_s3, name) == []


# What is stored


def test_a_later_process_reads_what_the_first_one_stored(moto_s3: S3Server) -> None:
    with odd_server(ODD_SERVERS["conditions ignored"]) as server:
        name = moto_s3.new_bucket()
        found = unprobed(server, moto_s3, name).abilities
        server.seen.clear()
        second = unprobed(server, moto_s3, name)
        assert [second.abilities for _ in range(3)] == [found] * 3
        assert [(each.method, each.path) for each in server.seen] == [("GET", f"/{name}/{SERVER_FILE}")]


def test_the_abilities_of_another_server_are_ignored(moto_s3: S3Server, moto_abilities: ServerAbilities) -> None:
    """This happens after a copy of the whole lake. The entry of the other server stays."""
    name = moto_s3.new_bucket()
    with odd_server(ODD_SERVERS["conditions ignored"]) as server:
        assert not unprobed(server, moto_s3, name).abilities.detects_concurrent_writers
    assert open_bucket(moto_s3.connection, name).with_root("data/_s3dest/").abilities == moto_abilities
    kept = json.loads(moto_s3.client().get_object(Bucket=name, Key=SERVER_FILE)["Body"].read())
    assert [each["endpoint"] for each in kept["servers"]] == [server.endpoint, moto_s3.endpoint]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"servers": [{"endpoint": 1}]}'])
def test_an_unreadable_server_file_is_rewritten(
    moto_s3: S3Server, moto_abilities: ServerAbilities, content: bytes
) -> None:
    name = moto_s3.new_bucket()
    moto_s3.client().put_object(Bucket=name, Key=SERVER_FILE, Body=content)
    assert open_bucket(moto_s3.connection, name).with_root("data/_s3dest/").abilities == moto_abilities
    assert json.loads(moto_s3.client().get_object(Bucket=name, Key=SERVER_FILE)["Body"].read())["servers"]


# What is left behind


def test_without_the_right_to_delete_nothing_is_written(moto_s3: S3Server) -> None:
    _, keys = new_user(moto_s3, [each for each in SEED_ACTIONS if each != "s3:DeleteObject"])
    settings = destination(moto_s3.new_bucket())
    bucket = open_bucket(replace(moto_s3.connection, **keys), settings)
    for number in range(2):
        with (
            pytest.raises(AccessDeniedError, match="s3:DeleteObject"),
            open_target(settings, bucket, clock=lambda: datetime.now(UTC), entropy=bytes) as opened,
        ):
            land(batches_of(users(1, 1)), opened, stream(mode=SyncMode.APPEND), sync(f"s{number}"))
        assert "Contents" not in moto_s3.client().list_objects_v2(Bucket=settings.s3_bucket_name)
        assert open_uploads(moto_s3, settings.s3_bucket_name) == 0


def test_a_sweep_deletes_old_trial_objects_and_spares_recent_ones(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    client, key = moto_s3.client(), "data/_s3dest/~probe-0123"
    client.put_object(Bucket=settings.s3_bucket_name, Key=key, Body=b"probe")
    client.create_multipart_upload(Bucket=settings.s3_bucket_name, Key=key)
    bucket, moment = moto_s3.open(settings), datetime.now(UTC)
    sweep(bucket, settings, stream().id, now=moment + timedelta(hours=23))
    assert key in keys_beside_manifests(moto_s3, settings.s3_bucket_name)
    sweep(bucket, settings, stream().id, now=moment + timedelta(hours=25))
    assert key not in keys_beside_manifests(moto_s3, settings.s3_bucket_name)
    assert open_uploads(moto_s3, settings.s3_bucket_name) == 0


# Listings


def test_a_listing_continues_without_a_token(moto_s3: S3Server) -> None:
    keys = [f"p/{number // 2:04}/{number % 2}" for number in range(2_206)]
    with odd_server(gives_no_tokens) as server:
        name = moto_s3.new_bucket()
        moto_s3.fill(name, keys)
        bucket = unprobed(server, moto_s3, name)
        assert [each.key for each in bucket.list_objects("p/")] == keys
        assert list(bucket.list_directories("p/")) == [f"p/{number:04}/" for number in range(1_103)]


def test_a_listing_that_never_continues_is_an_error(moto_s3: S3Server) -> None:
    first: list[bytes] = []

    def rule(request: Request, forward: Forward) -> Response:
        answer = gives_no_tokens(request, forward)
        if request.args.get("prefix") == "p/":
            first.append(answer.get_data())
            answer.set_data(first[0])
        return answer

    with odd_server(rule) as server:
        name = moto_s3.new_bucket()
        moto_s3.fill(name, [f"p/{number:04}" for number in range(1_003)])
        with pytest.raises(StorageError, match="does not say where it continues"):
            list(unprobed(server, moto_s3, name).list_objects("p/"))


# Clocks


def dated(moment: datetime) -> Rule:
    """A server whose clock always shows this moment."""

    def rule(_: Request, forward: Forward) -> Response:
        answer = forward()
        answer.headers["Date"] = format_datetime(moment, usegmt=True)
        return answer

    return rule


@pytest.mark.parametrize(("hours", "aborted"), [(1, 0), (24 * 30, 1)])
def test_the_servers_clock_determines_the_age_of_an_upload(moto_s3: S3Server, hours: int, aborted: int) -> None:
    """moto dates every upload to 2010-11-10, which is long ago by this machine's clock."""
    began = datetime(2010, 11, 10, 20, 48, 33, tzinfo=UTC)
    with behind(dated(began + timedelta(hours=hours)), moto_s3) as (_, settings, opened):
        key = "data/public/users/2020_01_01_1577836800000_0.jsonl"
        moto_s3.client().create_multipart_upload(Bucket=settings.s3_bucket_name, Key=key)
        assert sweep(opened.bucket, settings, stream().id).aborted == aborted


def test_a_machine_with_a_fast_clock_does_not_abort_a_running_sync(rclone_s3: S3Server) -> None:
    settings = destination(rclone_s3.new_bucket())
    ahead = lambda: datetime.now(UTC) + timedelta(days=10)  # noqa: E731
    bucket = rclone_s3.open(settings)
    with open_target(settings, bucket, clock=ahead, entropy=lambda n: bytes(n)) as opened:
        land(batches_of(users(1, 1)), opened, stream(mode=SyncMode.APPEND), sync("first"))
        running = bucket.create_upload("data/public/users/2020_01_01_1577836800000_0.jsonl", {})
        assert sweep(bucket, settings, stream().id).aborted == 0
        assert running in {each.upload_id for each in bucket.list_uploads("data/")}
