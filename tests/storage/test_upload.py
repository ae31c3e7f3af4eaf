"""Uploads begin on the threads that send their parts: side by side, and without an upload that nobody aborts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from threading import Barrier, BrokenBarrierError, Event, Lock
from typing import Any

import pytest
from failing_clients import FailingClient
from land_and_read import batch_of, data_keys, destination, sync, target
from recording_proxy import Forward, recording_proxy
from servers import S3Server
from werkzeug.wrappers import Request, Response

from s3dest_dagster.errors import StorageError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.storage import Bucket, PartPool, RetryPolicy, Upload
from s3dest_dagster.stream import Stream

ONCE = RetryPolicy(max_attempts=1)


class WatchedClient:
    """An S3 client that calls a function before a method, and notes the methods that have returned."""

    def __init__(self, client: Any, **before: Callable[[], object]) -> None:
        self._client, self.before = client, before
        self.done: dict[str, Event] = {"abort_multipart_upload": Event()}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(**arguments: Any) -> Any:
            self.before.get(name, lambda: None)()
            try:
                return method(**arguments)
            finally:
                self.done.setdefault(name, Event()).set()

        return call

    @property
    def meta(self) -> Any:
        return self._client.meta


def opened(client: FailingClient, name: str) -> Bucket:
    """The bucket, whose server has been probed. The client's calls begin anew."""
    bucket = Bucket(client, name, ONCE)
    assert bucket.abilities
    client.calls.clear()
    return bucket


def uploads_of(server: S3Server, name: str) -> list[str]:
    """The keys of the uploads at the server."""
    return [each["Key"] for each in server.client().list_multipart_uploads(Bucket=name).get("Uploads", ())]


def test_the_uploads_of_many_directories_begin_side_by_side(moto_s3: S3Server) -> None:
    """The proxy lets an upload begin once as many are waiting as there are threads."""
    threads, directories = 4, 40
    meeting, lock, waiting, most = Barrier(threads), Lock(), 0, 0

    def rule(request: Request, forward: Forward) -> Response:
        nonlocal waiting, most
        if request.method != "POST" or "uploads" not in request.args or "/events/" not in request.path:
            return forward()
        with lock:
            waiting += 1
            most = max(most, waiting)
        with suppress(BrokenBarrierError):
            meeting.wait(60)
        with lock:
            waiting -= 1
        return forward()

    with recording_proxy(rule) as proxy:
        name = moto_s3.new_bucket()
        made = destination(name, s3_path_format="${STREAM_NAME}/${FIELDS}/", upload_threads=threads, memory_mb=512)
        behind = replace(moto_s3, endpoint=proxy.endpoint)
        events = Stream(name="events", settings={"partition_by": ["value"]})  # type: ignore[arg-type]
        with target(behind, made) as opened:
            records = [{"id": number, "value": f"v{number}"} for number in range(directories)]
            assert land([batch_of(records)], opened, events, sync("s1")).rows == directories
    assert most == threads
    assert len(data_keys(moto_s3, name)) == directories


def test_an_upload_that_is_aborted_while_it_begins_is_aborted_at_the_server(moto_s3: S3Server) -> None:
    name, cancelled, asked = moto_s3.new_bucket(), Event(), Event()

    def wait_for_the_abort() -> None:
        asked.set()
        assert cancelled.wait(60)

    client = WatchedClient(moto_s3.client(), create_multipart_upload=wait_for_the_abort)
    with PartPool(1, abort_grace_s=600) as pool:
        upload = Upload(Bucket(client, name, ONCE), "a", pool, part_bytes=1, metadata={}, cancelled=cancelled)
        upload.write(b"x")
        assert asked.wait(60)
        upload.abort()
    assert client.done["create_multipart_upload"].is_set()
    assert uploads_of(moto_s3, name) == []


def test_an_upload_that_begins_after_the_grace_period_is_told_and_still_aborted(moto_s3: S3Server) -> None:
    name, go, asked = moto_s3.new_bucket(), Event(), Event()

    def hang() -> None:
        asked.set()
        assert go.wait(60)

    client = WatchedClient(moto_s3.client(), create_multipart_upload=hang)
    with PartPool(1, abort_grace_s=0) as pool:
        upload = Upload(Bucket(client, name, ONCE), "a", pool, part_bytes=1, metadata={})
        upload.write(b"x")
        assert asked.wait(60)
        with pytest.raises(StorageError, match="did not answer for 1 of 1 upload"):
            upload.abort()
        go.set()
        assert client.done["abort_multipart_upload"].wait(60)
    assert uploads_of(moto_s3, name) == []


def test_uploads_that_wait_for_a_thread_do_not_begin_after_an_abort(moto_s3: S3Server) -> None:
    name, cancelled, asked = moto_s3.new_bucket(), Event(), Event()

    def wait_for_the_abort() -> None:
        asked.set()
        assert cancelled.wait(60)

    watched = WatchedClient(moto_s3.client())
    client = FailingClient(watched)
    bucket = opened(client, name)
    watched.before["create_multipart_upload"] = wait_for_the_abort
    with PartPool(1, abort_grace_s=600) as pool:
        made = [Upload(bucket, key, pool, part_bytes=1, metadata={}, cancelled=cancelled) for key in "abc"]
        for each in made:
            each.write(b"x")
        assert asked.wait(60)
        pool.abort(made)
    assert client.calls.count("create_multipart_upload") == 1
    assert uploads_of(moto_s3, name) == []


def test_all_parts_belong_to_one_upload(moto_s3: S3Server) -> None:
    """Several threads want to send parts before the upload has begun."""
    name, all_parts_wait = moto_s3.new_bucket(), Event()
    watched, part = WatchedClient(moto_s3.client()), 5 << 20
    client = FailingClient(watched)
    bucket = opened(client, name)
    watched.before["create_multipart_upload"] = lambda: all_parts_wait.wait(60)
    with PartPool(3) as pool:
        upload = Upload(bucket, "a", pool, part_bytes=part, metadata={})
        upload.write(b"1" * part + b"2" * part + b"3")
        upload.finish()
        all_parts_wait.set()
        staged = upload.staged()
    bucket.complete_upload(staged.key, staged.upload_id, staged.etags)
    assert client.calls.count("create_multipart_upload") == 1
    assert moto_s3.client().get_object(Bucket=name, Key="a")["Body"].read() == b"1" * part + b"2" * part + b"3"


def test_an_upload_that_cannot_begin_is_an_error_that_names_its_key(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    client = FailingClient(moto_s3.client(), at="create_multipart_upload")
    with PartPool(1) as pool:
        upload = Upload(Bucket(client, name, ONCE), "a", pool, part_bytes=1, metadata={})
        upload.write(b"x")
        upload.finish()
        with pytest.raises(StorageError) as caught:
            upload.staged()
        assert caught.value.key == "a"
        upload.abort()
    assert "upload_part" not in client.calls
