"""A deletion that depends on an ETag deletes only the object with that ETag."""

from __future__ import annotations

from functools import partial

from failing_clients import OvertakenClient
from servers import S3Server

from s3dest_dagster.storage import Bucket, RetryPolicy, open_bucket
from s3dest_dagster.storage.bucket import SERVER_FILE


def keys_of(bucket: Bucket) -> list[str]:
    """The keys of a bucket, without that of the server file."""
    return [each.key for each in bucket.list_objects("") if each.key != SERVER_FILE]


def test_only_objects_with_the_given_etag_are_deleted(any_s3: S3Server) -> None:
    bucket = open_bucket(any_s3.connection, any_s3.new_bucket())
    seen = {key: bucket.put(key, key.encode()) for key in ("a", "b", "gone")}
    bucket.put("b", b"another writer's")
    bucket.delete(["gone"])
    for _ in range(2):
        bucket.delete_unchanged(seen)
        assert keys_of(bucket) == ["b"]


def test_a_deletion_without_keys_makes_no_request(moto_s3: S3Server) -> None:
    Bucket(None, "lake").delete_unchanged({})


def test_more_keys_than_one_request_takes_are_deleted(moto_s3: S3Server) -> None:
    bucket = open_bucket(moto_s3.connection, moto_s3.new_bucket())
    seen = {f"k/{number:02}": bucket.put(f"k/{number:02}", b"x") for number in range(70)}
    bucket.put("k/33", b"changed")
    bucket.delete_unchanged(seen)
    assert keys_of(bucket) == ["k/33"]


def test_a_retry_spares_an_object_that_was_put_after_the_first_attempt(any_s3: S3Server) -> None:
    """The first deletion succeeds but its answer is lost. Before the retry, another writer puts the key again."""
    name = any_s3.new_bucket()
    other = open_bucket(any_s3.connection, name)
    seen = {"a": other.put("a", b"old")}
    call = "delete_object" if other.abilities.deletes_if_unchanged else "delete_objects"
    client = OvertakenClient(any_s3.client(), call, partial(other.put, "a", b"new"), lost=True)
    Bucket(client, name, RetryPolicy(max_attempts=3, pause=lambda seconds: None)).delete_unchanged(seen)
    assert client.calls > 1
    assert other.get("a") is not None
