"""A stream with directories by field is verified, retired, renamed and given away like any other stream."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from land_and_read import DIRECTORIES, batch_of, data_keys, destination, stream, sync, target, users_of_two_names
from servers import S3Server

from s3dest_dagster.commit.maintenance import sweep
from s3dest_dagster.commit.registry_updates import transfer
from s3dest_dagster.commit.retirement import restore, retire
from s3dest_dagster.commit.stream_transfer import NewName, move_stream
from s3dest_dagster.errors import OwnershipError, TemplateError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.ingest.streams import landing_streams
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.inspection.verify import stray_keys, verify
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.stream import Scope, Stream, StreamId, SyncMode

USERS = Scope(StreamId("public", "users"))


def landed(
    server: S3Server,
    settings: S3Destination,
    first: int,
    last: int,
    *,
    mode: SyncMode = SyncMode.FULL_REFRESH,
    name: str = "users",
) -> Receipt:
    of = stream(name, mode, settings=settings)
    with target(server, settings) as opened:
        return land([batch_of(users_of_two_names(first, last))], opened, of, sync(f"{first}-{last}"))


def ids(server: S3Server, settings: S3Destination, scope: Scope = USERS) -> list[int]:
    table = read_scope(server.open(settings), settings.template, scope)
    return [] if table is None or "id" not in table.column_names else sorted(table["id"].to_pylist())


@pytest.fixture
def settings(moto_s3: S3Server) -> S3Destination:
    return destination(moto_s3.new_bucket(), **DIRECTORIES)


def test_verify_finds_a_missing_and_a_changed_object_in_a_directory(moto_s3: S3Server, settings: S3Destination) -> None:
    odd, even = sorted((each.key for each in landed(moto_s3, settings, 1, 4).objects), key=lambda key: "even" in key)
    bucket, client = moto_s3.open(settings), moto_s3.client()
    assert verify(bucket, settings.template, USERS, deep=True).problems == ()
    client.delete_object(Bucket=settings.s3_bucket_name, Key=odd)
    client.put_object(Bucket=settings.s3_bucket_name, Key=even, Body=b"{}\n")
    problems = " ".join(map(str, verify(bucket, settings.template, USERS, deep=True).problems))
    assert odd in problems
    assert even in problems


def test_an_object_of_others_in_a_directory_is_found(moto_s3: S3Server, settings: S3Destination) -> None:
    landed(moto_s3, settings, 1, 4)
    keys = ["data/public/users/name=odd/99.jsonl", "data/public/users/name=odd/notes.txt"]
    for key in keys:
        moto_s3.client().put_object(Bucket=settings.s3_bucket_name, Key=key, Body=b"{}\n")
    assert stray_keys(moto_s3.open(settings), settings.template, USERS.stream).foreign == {keys[0]}


def test_retired_directories_come_back_whole_or_are_deleted(moto_s3: S3Server, settings: S3Destination) -> None:
    landed(moto_s3, settings, 1, 4)
    bucket = moto_s3.open(settings)
    content = retire(bucket, settings, USERS, sync("retire"), attempt=os.urandom(4).hex())
    assert (content.objects, ids(moto_s3, settings)) == (2, [])
    assert restore(bucket, settings, USERS) == content
    assert ids(moto_s3, settings) == [1, 2, 3, 4]
    retire(bucket, settings, USERS, sync("retire"), attempt=os.urandom(4).hex())
    sweep(bucket, settings, USERS.stream, now=datetime.now(UTC) + timedelta(days=60))
    assert data_keys(moto_s3, settings.s3_bucket_name) == []


def test_a_stream_with_directories_gets_another_name_and_goes_on(moto_s3: S3Server, settings: S3Destination) -> None:
    landed(moto_s3, settings, 1, 4, mode=SyncMode.APPEND)
    people = StreamId("public", "people")
    move_stream(moto_s3.open(settings), settings, NewName(USERS.stream, people, None), datetime.now(UTC), os.urandom)
    assert ids(moto_s3, settings, Scope(people)) == [1, 2, 3, 4]
    landed(moto_s3, settings, 5, 6, mode=SyncMode.APPEND, name="people")
    assert ids(moto_s3, settings, Scope(people)) == [1, 2, 3, 4, 5, 6]
    assert verify(moto_s3.open(settings), settings.template, Scope(people), deep=True).problems == ()
    assert any("/people/name=even/" in key for key in data_keys(moto_s3, settings.s3_bucket_name))


def test_a_stream_with_directories_gets_another_owner(moto_s3: S3Server, settings: S3Destination) -> None:
    landed(moto_s3, replace(settings, owner="one"), 1, 4)
    transfer(moto_s3.open(settings), settings, USERS.stream, "other")
    with pytest.raises(OwnershipError):
        landed(moto_s3, replace(settings, owner="one"), 5, 6)
    landed(moto_s3, replace(settings, owner="other"), 5, 6)
    assert ids(moto_s3, settings) == [5, 6]


def test_a_refresh_takes_over_the_connectors_objects_in_its_directories_and_no_others(
    moto_s3: S3Server, settings: S3Destination
) -> None:
    own = ["data/public/users/name=odd/99.jsonl", "data/public/users/name=old/7.jsonl"]
    others = ["data/public/users/0.jsonl", "data/public/others/name=odd/0.jsonl"]
    for key in (*own, *others):
        moto_s3.client().put_object(Bucket=settings.s3_bucket_name, Key=key, Body=b"{}\n")
    receipt = landed(moto_s3, settings, 1, 4)
    assert set(receipt.removed) == set(own)
    assert set(others) <= set(data_keys(moto_s3, settings.s3_bucket_name))


def test_streams_whose_directories_could_have_the_same_keys_are_refused(moto_s3: S3Server) -> None:
    made = destination(moto_s3.new_bucket(), s3_path_format="${STREAM_NAME}/${FIELDS}/", fields_style="plain")
    inner = Stream(name="users/a", json_schema={"properties": {"id": {"type": "integer"}}})
    with target(moto_s3, made) as opened:
        pair = [replace(stream("users"), settings=stream("users", settings=made).settings), inner]
        with pytest.raises(TemplateError, match="users"), landing_streams(opened, pair, sync("s1")):
            raise AssertionError("the streams were accepted")
