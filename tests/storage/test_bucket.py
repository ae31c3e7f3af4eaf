"""The operations of a bucket, on moto and rclone."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import replace
from types import SimpleNamespace

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from odd_servers import odd_server
from recording_proxy import Forward, refusal
from servers import S3Server
from werkzeug.wrappers import Request, Response

from s3dest_dagster.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    CredentialsError,
    EndpointUnreachableError,
    PreconditionFailedError,
    UploadVanishedError,
)
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.storage import Bucket, PartPool, Upload, identity, open_bucket
from s3dest_dagster.storage.bucket import SERVER_FILE, _warn_without_conditions

MIB = 1 << 20


def keys_of(bucket: Bucket) -> list[str]:
    """The keys of a bucket, without that of the server file."""
    return [each.key for each in bucket.list_objects("") if each.key != SERVER_FILE]


def test_a_put_object_is_read_back_with_its_etag(any_s3: S3Server) -> None:
    bucket = open_bucket(any_s3.connection, any_s3.new_bucket())
    etag = bucket.put("a/b.txt", b"content")
    assert bucket.get("a/b.txt") == (b"content", etag)
    assert bucket.head("a/b.txt").size == 7


def test_a_missing_object_is_none(any_s3: S3Server) -> None:
    bucket = open_bucket(any_s3.connection, any_s3.new_bucket())
    assert bucket.get("missing") is None
    assert bucket.head("missing") is None


def test_a_listing_reads_all_pages(moto_s3: S3Server) -> None:
    bucket = open_bucket(moto_s3.connection, moto_s3.new_bucket())
    keys = [f"p/{number:04}" for number in range(1003)]
    moto_s3.fill(bucket.name, keys)
    page, truncated = bucket.first_page("p/")
    assert len(page) == 1000
    assert truncated
    assert [each.key for each in bucket.list_objects("p/")] == keys
    assert bucket.delete(keys) == 1003
    assert keys_of(bucket) == []


def test_a_second_creation_is_refused(any_s3: S3Server) -> None:
    bucket = open_bucket(any_s3.connection, any_s3.new_bucket())
    bucket.put("head", b"1", if_absent=True)
    with pytest.raises(PreconditionFailedError, match="head"):
        bucket.put("head", b"2", if_absent=True)
    assert bucket.get("head")[0] == b"1"


def test_a_put_over_another_version_is_refused(any_s3: S3Server) -> None:
    bucket = open_bucket(any_s3.connection, any_s3.new_bucket())
    first = bucket.put("head", b"1")
    second = bucket.put("head", b"2", if_match=first)
    with pytest.raises(PreconditionFailedError):
        bucket.put("head", b"3", if_match=first)
    bucket.put("head", b"4", if_match=second)
    assert bucket.get("head")[0] == b"4"


def test_only_a_server_that_honours_conditions_detects_concurrent_writers(
    moto_s3: S3Server, rclone_s3: S3Server
) -> None:
    for server, honours in ((moto_s3, True), (rclone_s3, False)):
        bucket = open_bucket(server.connection, server.new_bucket())
        assert bucket.abilities.detects_concurrent_writers is honours
        assert keys_of(bucket) == []


def test_a_server_that_ignores_conditions_causes_one_warning(
    rclone_s3: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    _warn_without_conditions.cache_clear()
    for _ in range(2):
        open_bucket(rclone_s3.connection, rclone_s3.new_bucket()).put("head", b"1", if_absent=True)
    warnings = [each.message for each in caplog.records if "ignores conditional puts" in each.message]
    assert len(warnings) == 1
    assert rclone_s3.endpoint in warnings[0]


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 5 * MIB + 1, 17 * MIB])
def test_an_upload_is_invisible_until_it_is_completed(any_s3: S3Server, size: int) -> None:
    bucket = open_bucket(any_s3.connection, any_s3.new_bucket())
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    with PartPool(2) as pool:
        upload = Upload(bucket, "x/object", pool, part_bytes=5 * MIB, metadata={})
        for start in range(0, size, 1_000_000):
            upload.write(content[start : start + 1_000_000])
        upload.finish()
        staged = upload.staged()
    assert keys_of(bucket) == []
    assert staged.size == size
    assert staged.crc32 == f"{zlib.crc32(content):08x}"
    bucket.complete_upload(staged.key, staged.upload_id, staged.etags)
    assert bucket.get("x/object")[0] == content


def test_an_aborted_upload_leaves_nothing(any_s3: S3Server) -> None:
    bucket = open_bucket(any_s3.connection, any_s3.new_bucket())
    with PartPool(2) as pool:
        upload = Upload(bucket, "x/object", pool, part_bytes=5 * MIB, metadata={})
        upload.write(bytes(11 * MIB))
        upload.parts[0].result()
        assert len(list(bucket.list_uploads(""))) == 1
        upload.abort()
    assert list(bucket.list_uploads("")) == []
    assert keys_of(bucket) == []


def test_an_empty_etag_in_the_answer_to_a_completion_is_accepted(moto_s3: S3Server) -> None:
    """Ceph 16 answers like this."""

    def without_etag(request: Request, forward: Forward) -> Response:
        answer = forward()
        if request.method == "POST" and "uploadId" in request.args:
            answer.set_data(re.sub(rb"<ETag>.*?</ETag>", b"<ETag></ETag>", answer.get_data()))
        return answer

    with odd_server(without_etag) as server:
        connection = replace(moto_s3.connection, endpoint=server.endpoint, max_attempts=1)
        bucket = open_bucket(connection, moto_s3.new_bucket())
        upload = bucket.create_upload("x", {})
        bucket.complete_upload("x", upload, [bucket.upload_part("x", upload, 1, b"1")])
        assert bucket.get("x")[0] == b"1"


def test_the_status_412_is_an_unmet_condition_whatever_its_code(moto_s3: S3Server) -> None:
    """OpenStack Swift's code is InvalidRequest."""

    def unmet(request: Request, forward: Forward) -> Response:
        is_conditional = "If-None-Match" in request.headers
        return refusal("InvalidRequest", "Invalid Request.", 412) if is_conditional else forward()

    with odd_server(unmet) as server:
        bucket = open_bucket(replace(moto_s3.connection, endpoint=server.endpoint), moto_s3.new_bucket())
        bucket.put("x", b"theirs")
        with pytest.raises(PreconditionFailedError):
            bucket.put("x", b"ours", if_absent=True)
        assert bucket.get("x")[0] == b"theirs"


def test_completing_an_unknown_upload_reports_that_it_vanished(rclone_s3: S3Server) -> None:
    bucket = open_bucket(rclone_s3.connection, rclone_s3.new_bucket())
    with pytest.raises(UploadVanishedError):
        bucket.complete_upload("x", "unknown", ["etag"])
    bucket.abort_upload("x", "unknown")


def test_errors_are_sentences_that_name_the_remedy(moto_s3: S3Server) -> None:
    missing = open_bucket(moto_s3.connection, "lake-missing")
    with pytest.raises(BucketNotFoundError, match="'lake-missing' does not exist"):
        missing.first_page("")
    moto_s3.client(**moto_s3.admin).create_bucket(Bucket="foreign")
    with pytest.raises(AccessDeniedError, match="s3:PutObject") as denied:
        open_bucket(moto_s3.connection, "foreign").put("x", b"")
    assert '"Resource": "arn:aws:s3:::foreign/*"' in denied.value.message
    assert denied.value.action == "s3:PutObject"


def test_a_wrong_secret_is_named_and_not_shown(moto_s3: S3Server) -> None:
    connection = S3Connection(
        endpoint=moto_s3.endpoint, access_key_id=moto_s3.access_key_id, secret_access_key="not-the-secret"
    )
    with pytest.raises(CredentialsError, match="secret access key does not belong") as refused:
        open_bucket(connection, "lake-1").first_page("")
    assert "not-the-secret" not in str(refused.value)


def test_an_endpoint_that_does_not_answer_is_named() -> None:
    connection = S3Connection(endpoint="http://127.0.0.1:1", access_key_id="a", secret_access_key="b", max_attempts=1)
    with pytest.raises(EndpointUnreachableError, match=r"127\.0\.0\.1:1"):
        open_bucket(connection, "lake").first_page("")


def test_identity_names_its_source(moto_s3: S3Server) -> None:
    assert identity(moto_s3.connection).source == "access keys of the settings"


def test_a_missing_identity_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(CredentialsError, match="No identity"):
        identity(S3Connection(region="us-east-1"))


@pytest.mark.parametrize(
    ("region", "endpoint", "partition"),
    [
        ("eu-west-1", "", "aws"),
        ("cn-north-1", "", "aws-cn"),
        ("us-gov-west-1", "", "aws-us-gov"),
        ("cn-north-1", "http://127.0.0.1:9", "aws"),
    ],
)
def test_a_denial_names_the_resource_in_its_part_of_aws(region: str, endpoint: str, partition: str) -> None:
    """The denial replaces a request to the server."""
    keys = {"access_key_id": "AKIA", "secret_access_key": "none"}
    bucket = open_bucket(S3Connection(region=region, endpoint=endpoint, max_attempts=1, **keys), f"lake-{region}")
    body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"

    def denied(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        return AWSResponse(request.url, 403, {}, SimpleNamespace(stream=lambda: iter([body])))

    bucket.client.meta.events.register("before-send.s3", denied, unique_id="denied")
    try:
        with pytest.raises(AccessDeniedError) as caught:
            bucket.get("a.txt")
    finally:
        bucket.client.meta.events.unregister("before-send.s3", unique_id="denied")
    statement = json.loads(str(caught.value)[str(caught.value).index("{") :])
    assert statement["Resource"] == f"arn:{partition}:s3:::lake-{region}/*"
