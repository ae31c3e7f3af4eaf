"""A landing over bad networks and broken servers either succeeds or raises one clear error, and the bucket is never
wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fault_proxy import Fault, FaultProxy
from land_and_read import (
    DIRECTORIES,
    batch_of,
    destination,
    ids_by_listing,
    open_uploads,
    stream,
    sync,
    target,
    users,
    users_of_two_names,
)
from servers import S3Server

from s3dest_dagster.commit.maintenance import recover
from s3dest_dagster.errors import S3DestError
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import ParquetFormat
from s3dest_dagster.storage import Bucket, RetryPolicy, open_client
from s3dest_dagster.stream import Scope

OLD, NEW = users(1, 3), users(10, 39)
OLD_IDS, NEW_IDS = ([each["id"] for each in records] for records in (OLD, NEW))
SCOPE = Scope(stream().id)
LANDING_CALLS = (
    "PutObject",
    "GetObject",
    "ListObjectsV2",
    "CreateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "DeleteObjects",
)
CHANGES = [each for each in LANDING_CALLS if not each.startswith(("Get", "List"))]
ALWAYS = [
    *((call, Fault.BUSY) for call in LANDING_CALLS),
    # A read whose answer is lost has not acted either.
    *((call, Fault.LOST) for call in CHANGES),
]
IMMEDIATE = [each for each in Fault if each is not Fault.HANG]


def prepared(server: S3Server, **settings: Any) -> S3Destination:
    """A bucket whose stream holds the old records in two objects."""
    made = destination(server.new_bucket(), object_size_mb=0.0002, **settings)
    with target(server, made) as opened:
        land((batch_of([each]) for each in OLD), opened, stream(settings=made), sync("old"))
    return made


def through(proxy: FaultProxy, settings: S3Destination, *, attempts: int, read_timeout_s: float = 10) -> Bucket:
    """The bucket through the proxy, with retries that do not pause."""
    client = open_client(proxy.connection(max_attempts=1, read_timeout_s=read_timeout_s))
    retry_policy = RetryPolicy(max_attempts=attempts, pause=lambda seconds: None)
    return Bucket(client, settings.s3_bucket_name, retry_policy)


def land_new(proxy: FaultProxy, settings: S3Destination, bucket: Bucket) -> None:
    """A full refresh of three objects."""
    with target(proxy.behind, settings, bucket) as opened:
        new = users_of_two_names(10, 39) if settings.template.names_fields else NEW
        land((batch_of(new[n : n + 10]) for n in range(0, 30, 10)), opened, stream(settings=settings), sync("new"))


def ids(proxy: FaultProxy, settings: S3Destination) -> list[int]:
    return ids_by_listing(proxy.behind, settings.s3_bucket_name)


@pytest.mark.parametrize("fault", [each for each in IMMEDIATE if each is not Fault.CUT_BODY])
def test_a_landing_survives_bursts_of_faults_on_every_call(faulty_moto: FaultProxy, fault: Fault) -> None:
    """Half a body is left out: moto takes it for a whole one, and sometimes only after the second try."""
    assert_survived(faulty_moto, fault)


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.CUT_ANSWER, Fault.CUT_BODY])
def test_a_landing_survives_bursts_of_faults_without_conditional_puts(faulty_rclone: FaultProxy, fault: Fault) -> None:
    """If the server has acted, then its answer to a second request matters."""
    assert_survived(faulty_rclone, fault)


@pytest.mark.parametrize(("fault", "form"), [(Fault.BUSY, {}), (Fault.LOST, {"format": ParquetFormat()})])
def test_a_landing_in_directories_survives_bursts_of_faults(
    faulty_moto: FaultProxy, fault: Fault, form: dict[str, Any]
) -> None:
    assert_survived(faulty_moto, fault, **DIRECTORIES, **form)


def assert_survived(proxied: FaultProxy, fault: Fault, **own: Any) -> None:
    """Makes two faults on every call, and checks that the new records arrive nevertheless."""
    settings = prepared(proxied.behind, **own)
    for call in LANDING_CALLS:
        proxied.next(call, fault, fault)
    land_new(proxied, settings, through(proxied, settings, attempts=8))
    assert ids(proxied, settings) == NEW_IDS
    verified = verify(proxied.behind.open(settings), settings.template, SCOPE)
    assert (verified.rows, verified.problems) == (len(NEW), ())


@pytest.mark.parametrize(("call", "fault"), ALWAYS)
def test_a_call_that_always_fails_causes_one_clear_error_or_none(
    faulty_moto: FaultProxy, call: str, fault: Fault
) -> None:
    """A busy server has not acted, so the sync fails. A server whose answers are lost may have acted."""
    settings = prepared(faulty_moto.behind)
    faulty_moto.always(fault, call)
    failed = failure(lambda: land_new(faulty_moto, settings, through(faulty_moto, settings, attempts=2)))
    if fault is Fault.BUSY or failed:
        assert settings.s3_bucket_name in failed
        assert "It was tried 2 times in" in failed
    faulty_moto.clear()
    assert recover(faulty_moto.behind.open(settings), settings.template, SCOPE).ok
    assert ids(faulty_moto, settings) in (OLD_IDS, NEW_IDS)
    assert verify(faulty_moto.behind.open(settings), settings.template, SCOPE).problems == ()

    land_new(faulty_moto, settings, faulty_moto.behind.open(settings))
    assert ids(faulty_moto, settings) == NEW_IDS


def failure(do: Callable[[], None]) -> str:
    """The message of the failure, or `None` on success."""
    try:
        do()
    except S3DestError as error:
        return error.message
    return ""


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.RESET, Fault.LOST])
def test_a_failed_sync_aborts_its_uploads_through_the_same_bad_network(faulty_moto: FaultProxy, fault: Fault) -> None:
    settings = prepared(faulty_moto.behind)
    faulty_moto.always(Fault.BUSY, "UploadPart")
    faulty_moto.next("AbortMultipartUpload", fault, fault)
    with pytest.raises(S3DestError):
        land_new(faulty_moto, settings, through(faulty_moto, settings, attempts=4))
    assert faulty_moto.waiting == 0
    assert open_uploads(faulty_moto.behind, settings.s3_bucket_name) == 0


# A server that hangs


def interrupted(opened: Target, trouble: Callable[[], None]) -> KeyboardInterrupt:
    """Runs a landing with active uploads, which Ctrl-C stops once there is trouble."""
    with pytest.raises(KeyboardInterrupt) as caught, Landing(opened, stream(), sync("new")) as landing:  # noqa: PT012
        landing.append_batch(batch_of(users(1, 10)))
        trouble()
        landing.append_batch(batch_of(users(11, 20)))
        raise KeyboardInterrupt
    return caught.value


def test_giving_up_does_not_wait_for_a_server_that_hangs(faulty_moto: FaultProxy) -> None:
    """Reads time out only after ten minutes, so waiting for one would exceed the time limit of a test."""
    settings = prepared(faulty_moto.behind, abort_grace_s=0.2)
    bucket = through(faulty_moto, settings, attempts=8, read_timeout_s=600)
    with target(faulty_moto.behind, settings, bucket) as opened:
        stopped = interrupted(opened, lambda: faulty_moto.always(Fault.HANG, "UploadPart", "AbortMultipartUpload"))
    (note,) = stopped.__notes__
    assert "could not be aborted" in note
    assert "abort_grace_s = 0.2" in note
    assert ids(faulty_moto, settings) == OLD_IDS


def test_a_part_that_pauses_before_its_next_try_is_not_waited_for(faulty_moto: FaultProxy) -> None:
    """The part would be retried for hours. The uploads are aborted nevertheless, within the grace period."""
    settings = prepared(faulty_moto.behind, abort_grace_s=100)
    retry_policy = RetryPolicy(chance=lambda: 1.0, max_attempts=10_000, deadline_s=9000)
    bucket = Bucket(open_client(faulty_moto.connection(max_attempts=1)), settings.s3_bucket_name, retry_policy)
    with target(faulty_moto.behind, settings, bucket) as opened:
        interrupted(opened, lambda: faulty_moto.always(Fault.BUSY, "UploadPart"))
    assert open_uploads(faulty_moto.behind, settings.s3_bucket_name) == 0
