"""A proxy in front of real servers injects faults of networks and servers. Every request survives them or fails with
one message, and no object ever contains only half of what was sent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import chain, count
from typing import Any

import pytest
from fault_proxy import CALLS, Fault, FaultProxy
from servers import S3Server

from s3dest_dagster.errors import CredentialsError, EndpointUnreachableError, PreconditionFailedError, StorageError
from s3dest_dagster.storage import Bucket, PartPool, RetryPolicy, Upload, open_bucket, open_client
from s3dest_dagster.storage.abilities import with_abilities
from s3dest_dagster.storage.bucket import SERVER_FILE

BODY = bytes(range(256)) * 300
PART = bytes(reversed(range(256))) * 300
KNOWN = "known/"
"""The root under which the bucket stores the abilities of the server."""


def through(proxy: FaultProxy, name: str, *, read_timeout_s: float = 10, **retry_policy: Any) -> Bucket:
    """The bucket through the proxy, with a client that tries each request once and a retry policy without pauses.

    The abilities of the server are known, so no fault hits the probes.
    """
    behind = open_bucket(proxy.behind.connection, name).with_root(KNOWN)
    behind.put(f"{KNOWN}{SERVER_FILE}", with_abilities(None, proxy.server.endpoint, name, behind.abilities))
    client = open_client(proxy.connection(max_attempts=1, read_timeout_s=read_timeout_s))
    bucket = Bucket(client, name, RetryPolicy(pause=lambda seconds: None, **retry_policy)).with_root(KNOWN)
    assert bucket.abilities
    return bucket


def keys_in(keys: Iterable[str]) -> list[str]:
    return [key for key in keys if not key.startswith(KNOWN)]


def every_operation(bucket: Bucket) -> None:
    """Uses every operation of a bucket and checks the results."""
    bucket.put("plain", BODY)
    assert bucket.get("plain")[0] == BODY
    assert bucket.head("plain").size == len(BODY)
    upload = bucket.create_upload("large", {})
    etags = [bucket.upload_part("large", upload, 1, PART)]
    assert upload in {each.upload_id for each in bucket.list_uploads("")}
    bucket.complete_upload("large", upload, etags)
    given_up = bucket.create_upload("given-up", {})
    bucket.abort_upload("given-up", given_up)
    sizes = {each.key: each.size for each in bucket.list_objects("")}
    assert {key: sizes[key] for key in keys_in(sizes)} == {"plain": len(BODY), "large": len(PART)}
    assert bucket.delete(["plain", "missing"]) == 2


def assert_whole(server: S3Server, name: str) -> None:
    """Checks what the server holds after `every_operation`, without the proxy and the library."""
    client = server.client()
    assert keys_in(each["Key"] for each in client.list_objects_v2(Bucket=name)["Contents"]) == ["large"]
    assert client.get_object(Bucket=name, Key="large")["Body"].read() == PART
    assert "Uploads" not in client.list_multipart_uploads(Bucket=name)


NOTICED_BY_THE_COMMIT = {("CompleteMultipartUpload", Fault.LOST), ("CompleteMultipartUpload", Fault.CUT_ANSWER)}
"""rclone answers a second completion with NoSuchUpload; the commit checks whether the object exists."""
LEAVES_AN_UPLOAD = {("CreateMultipartUpload", each) for each in (Fault.LOST, Fault.CUT_BODY, Fault.CUT_ANSWER)}
"""The server has begun an upload whose id nobody knows."""
NEEDS_NOTHING_OF_ITS_ANSWER = {("AbortMultipartUpload", Fault.CUT_ANSWER)}
IMMEDIATE = [each for each in Fault if each is not Fault.HANG]


def met_by(fault: Fault, *but: set[tuple[str, Fault]]) -> list[str]:
    """The calls that this fault can hit without other consequences."""
    return [call for call in CALLS if (call, fault) not in set().union(NEEDS_NOTHING_OF_ITS_ANSWER, *but)]


@pytest.mark.parametrize("fault", IMMEDIATE)
def test_every_request_survives_a_single_fault(faulty_rclone: FaultProxy, fault: Fault) -> None:
    name = faulty_rclone.behind.new_bucket()
    bucket = through(faulty_rclone, name)
    for call in met_by(fault, NOTICED_BY_THE_COMMIT, LEAVES_AN_UPLOAD):
        faulty_rclone.next(call, fault)
    every_operation(bucket)
    assert faulty_rclone.waiting == 0
    assert_whole(faulty_rclone.behind, name)


@pytest.mark.parametrize("fault", [each for each in IMMEDIATE if each is not Fault.CUT_BODY])
def test_every_request_survives_a_burst_of_faults(faulty_moto: FaultProxy, fault: Fault) -> None:
    """Half a body is excluded, because moto takes it for a whole one, sometimes only after the next attempt."""
    name = faulty_moto.behind.new_bucket()
    bucket = through(faulty_moto, name)
    for call in met_by(fault, LEAVES_AN_UPLOAD):
        faulty_moto.next(call, fault, fault, fault)
    every_operation(bucket)
    assert faulty_moto.waiting == 0
    assert_whole(faulty_moto.behind, name)


def test_every_request_survives_a_burst_of_half_bodies(faulty_rclone: FaultProxy) -> None:
    name = faulty_rclone.behind.new_bucket()
    bucket = through(faulty_rclone, name)
    for call in met_by(Fault.CUT_BODY, NOTICED_BY_THE_COMMIT, LEAVES_AN_UPLOAD):
        faulty_rclone.next(call, *[Fault.CUT_BODY] * 3)
    every_operation(bucket)
    assert faulty_rclone.waiting == 0
    assert_whole(faulty_rclone.behind, name)


def test_every_request_survives_a_server_that_hangs(faulty_moto: FaultProxy) -> None:
    """This also holds on a slow machine, where a slow answer that looks like a hang is retried."""
    name = faulty_moto.behind.new_bucket()
    bucket = through(faulty_moto, name, read_timeout_s=0.5, max_attempts=50)
    for call in CALLS:
        faulty_moto.next(call, Fault.HANG)
    every_operation(bucket)
    assert faulty_moto.waiting == 0


def test_a_lost_answer_to_a_new_upload_leaves_one_for_the_sweep(faulty_moto: FaultProxy) -> None:
    name = faulty_moto.behind.new_bucket()
    bucket = through(faulty_moto, name)
    faulty_moto.next("CreateMultipartUpload", Fault.LOST)
    upload = bucket.create_upload("large", {})
    bucket.complete_upload("large", upload, [bucket.upload_part("large", upload, 1, PART)])
    assert len(list(bucket.list_uploads(""))) == 1
    assert bucket.get("large")[0] == PART


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.CUT_ANSWER, Fault.HANG])
def test_a_conditional_put_whose_answer_was_lost_is_recognized_as_our_own(
    faulty_moto: FaultProxy, fault: Fault
) -> None:
    bucket = through(faulty_moto, faulty_moto.behind.new_bucket(), read_timeout_s=0.5, max_attempts=50)
    faulty_moto.next("PutObject", fault)
    first = bucket.put("head", b"1", if_absent=True)
    faulty_moto.next("PutObject", fault)
    assert bucket.put("head", b"2", if_match=first) == bucket.head("head").etag
    faulty_moto.next("PutObject", fault)
    with pytest.raises(PreconditionFailedError):
        bucket.put("head", b"3", if_absent=True)
    assert bucket.get("head")[0] == b"2"


@pytest.mark.parametrize("fault", [Fault.CUT_BODY, Fault.RESET_IN_BODY])
def test_half_a_body_makes_no_object_and_no_part(faulty_rclone: FaultProxy, fault: Fault) -> None:
    """The server compares the body with its announced length. moto does not."""
    bucket = through(faulty_rclone, faulty_rclone.behind.new_bucket(), max_attempts=2)
    upload = bucket.create_upload("large", {})
    faulty_rclone.always(fault, "PutObject", "UploadPart")
    with pytest.raises(EndpointUnreachableError):
        bucket.put("plain", BODY)
    with pytest.raises(EndpointUnreachableError):
        bucket.upload_part("large", upload, 1, PART)
    with pytest.raises(StorageError):
        bucket.complete_upload("large", upload, [hashlib.md5(PART[: len(PART) // 2]).hexdigest()])
    assert keys_in(each.key for each in bucket.list_objects("")) == []


def test_half_an_answer_is_never_taken_for_an_object(faulty_moto: FaultProxy, faulty_rclone: FaultProxy) -> None:
    for proxy in (faulty_moto, faulty_rclone):
        bucket = through(proxy, proxy.behind.new_bucket(), max_attempts=2)
        bucket.put("plain", BODY)
        proxy.always(Fault.CUT_ANSWER, "GetObject", "ListObjectsV2")
        with pytest.raises(StorageError, match="plain"):
            bucket.get("plain")
        with pytest.raises(StorageError):
            list(bucket.list_objects(""))


# Number of attempts and total time


class Clock:
    """A clock that only pauses advance."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def retry_policy(self, **settings: Any) -> RetryPolicy:
        return RetryPolicy(clock=lambda: self.now, pause=self.pause, **settings)


def refused(proxy: FaultProxy, retry_policy: RetryPolicy) -> str:
    proxy.always(Fault.BUSY)
    client = open_client(proxy.connection(max_attempts=1))
    with pytest.raises(StorageError) as caught:
        Bucket(client, "lake-1", retry_policy).put("some/key", BODY)
    return caught.value.message


def test_pauses_grow_to_twenty_seconds_and_are_random_over_their_length(faulty_moto: FaultProxy) -> None:
    longest, none = Clock(), Clock()
    refused(faulty_moto, longest.retry_policy(max_attempts=8, chance=lambda: 1.0))
    assert longest.pauses == [1, 2, 4, 8, 16, 20, 20]
    refused(faulty_moto, none.retry_policy(max_attempts=8, chance=lambda: 0.0))
    assert none.pauses == [0] * 7


def test_the_error_names_object_action_attempts_and_duration(faulty_moto: FaultProxy) -> None:
    message = refused(faulty_moto, Clock().retry_policy(max_attempts=3, chance=lambda: 0.5))
    assert message == (
        "S3 failed on s3://lake-1/some/key (s3:PutObject): SlowDown: on purpose. "
        "It was tried 3 times in 1.5 s; max_attempts and retry_deadline_s say how long."
    )


def test_no_attempt_begins_after_the_deadline(faulty_moto: FaultProxy) -> None:
    clock = Clock()
    message = refused(faulty_moto, clock.retry_policy(max_attempts=100, deadline_s=10, chance=lambda: 1.0))
    assert clock.pauses == [1, 2, 4, 3]
    assert "tried 5 times in 10.0 s" in message
    assert faulty_moto.calls.count("PutObject") == 5


def test_a_permanent_failure_is_not_retried(faulty_moto: FaultProxy) -> None:
    clock = Clock()
    connection = faulty_moto.connection(secret_access_key="wrong", max_attempts=1)
    with pytest.raises(CredentialsError):
        Bucket(open_client(connection), "lake-1", clock.retry_policy()).get("key")
    assert clock.pauses == []


@pytest.mark.parametrize(
    ("settings", "tries"),
    [({"max_attempts": 1}, 1), ({"max_attempts": 2}, 2), ({"max_attempts": 9, "retry_deadline_s": 1e-9}, 1)],
)
def test_the_settings_limit_attempts_and_duration(
    faulty_moto: FaultProxy, settings: dict[str, Any], tries: int
) -> None:
    faulty_moto.always(Fault.BUSY)
    with pytest.raises(StorageError, match="SlowDown"):
        open_bucket(faulty_moto.connection(**settings), "lake-1").put("key", BODY)
    assert faulty_moto.calls.count("PutObject") == tries


# Aborting


def begun(bucket: Bucket, pool: PartPool, key: str) -> Upload:
    """An upload with a part on the server."""
    upload = Upload(bucket, key, pool, part_bytes=1, metadata={})
    upload.write(b"x")
    upload.parts[0].result()
    return upload


def test_uploads_that_are_aborted_one_after_another_share_one_grace_period(faulty_moto: FaultProxy) -> None:
    """The grace period is ten minutes, and the clock advances by seven minutes each time it is read. Real waiting
    would time out."""
    bucket = through(faulty_moto, faulty_moto.behind.new_bucket(), read_timeout_s=600, max_attempts=1)
    looks = count(0, 400)
    with PartPool(2, abort_grace_s=600, clock=lambda: next(looks)) as pool:
        uploads = [begun(bucket, pool, key) for key in "abc"]
        faulty_moto.always(Fault.HANG, "AbortMultipartUpload")
        for each in uploads:
            with pytest.raises(StorageError, match="abort_grace_s = 600 was over") as caught:
                each.abort()
            assert caught.value.setting == "abort_grace_s"


def test_sending_a_part_renews_the_grace_period(faulty_moto: FaultProxy) -> None:
    bucket = through(faulty_moto, faulty_moto.behind.new_bucket(), read_timeout_s=600, max_attempts=1)
    looks = chain([0, 0, 999], count(1000, 0.001))
    with PartPool(2, abort_grace_s=600, clock=lambda: next(looks)) as pool:
        faulty_moto.next("AbortMultipartUpload", Fault.HANG)
        with pytest.raises(StorageError):
            begun(bucket, pool, "a").abort()
        begun(bucket, pool, "b").abort()
    assert [each.key for each in bucket.list_uploads("")] == ["a"]


def test_one_upload_that_cannot_be_aborted_does_not_block_the_others(faulty_moto: FaultProxy) -> None:
    bucket = through(faulty_moto, faulty_moto.behind.new_bucket(), max_attempts=1)
    with PartPool(2) as pool:
        uploads = [begun(bucket, pool, key) for key in "abc"]
        faulty_moto.next("AbortMultipartUpload", Fault.BUSY)
        with pytest.raises(StorageError, match="SlowDown"):
            pool.abort(uploads)
    assert len(list(bucket.list_uploads(""))) == 1
