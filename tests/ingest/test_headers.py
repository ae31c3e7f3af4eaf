"""Headers of objects: each setting applies to the landed objects, and encryption applies to everything that is
written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from land_and_read import batches_of, destination, ids_by_listing, open_uploads, stream, sync, target, users
from recording_proxy import Forward, RecordingProxy, recording_proxy, refusal
from servers import S3Server
from werkzeug.wrappers import Request, Response

from s3dest_dagster.batch import BadRecord
from s3dest_dagster.commit.maintenance import recover
from s3dest_dagster.commit.scopes import scopes
from s3dest_dagster.errors import AccessDeniedError
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.inspection.check import check
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import open_bucket
from s3dest_dagster.stream import Scope

KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd"


def land_some(server: S3Server, settings: S3Destination) -> None:
    """A sync with records and an invalid line."""
    with target(server, settings) as opened, Landing(opened, stream(), sync("first")) as landing:
        for batch in batches_of(users(1, 3)):
            landing.append_batch(batch)
        landing.reject(BadRecord(stream().id, b"no record", "it is none"))
        landing.commit()


def headers(server: S3Server, bucket: str, *, data: bool) -> list[dict[str, Any]]:
    """The headers that HEAD shows for the data objects, or for all others."""
    s3 = server.client()
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    return [s3.head_object(Bucket=bucket, Key=key) for key in keys if ("_s3dest/" not in key) == data]


def grants(server: S3Server, bucket: str, *, data: bool) -> set[tuple[str, str]]:
    """The grants in addition to the owner's: group and permission, of the data objects or of all others."""
    s3 = server.client(**server.admin)
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    # moto cannot show the ACL of multipart uploads without one, and the quarantine is such an upload.
    asked = [key for key in keys if ("_s3dest/" not in key) == data and "/quarantine/" not in key]
    found = [s3.get_object_acl(Bucket=bucket, Key=key) for key in asked]
    return {(each["Grantee"].get("URI", "owner"), each["Permission"]) for acl in found for each in acl["Grants"]}


@pytest.fixture
def settings(moto_s3: S3Server):
    """Makes destinations with these headers, each in its own bucket."""
    return lambda **given: destination(moto_s3.new_bucket(), on_bad_record="quarantine", **given)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"server_side_encryption": "AES256"}, {"ServerSideEncryption": "AES256"}),
        ({"server_side_encryption": "aws:kms"}, {"ServerSideEncryption": "aws:kms"}),
        (
            {"server_side_encryption": "aws:kms", "kms_key_id": KEY},
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KEY},
        ),
        ({"server_side_encryption": "aws:kms:dsse"}, {"ServerSideEncryption": "aws:kms:dsse"}),
        ({"storage_class": "STANDARD_IA"}, {"StorageClass": "STANDARD_IA"}),
    ],
)
def test_the_header_is_on_the_landed_object(
    moto_s3: S3Server, settings, given: dict[str, str], shown: dict[str, str]
) -> None:
    made = settings(**given)
    land_some(moto_s3, made)
    (head,) = headers(moto_s3, made.s3_bucket_name, data=True)
    assert {name: head.get(name) for name in shown} == shown
    assert ids_by_listing(moto_s3, made.s3_bucket_name) == [1, 2, 3]


def test_user_metadata_is_added_to_the_metadata_of_the_sync(moto_s3: S3Server, settings) -> None:
    made = settings(object_metadata={"Team": "data", "cost-center": "42"})
    land_some(moto_s3, made)
    (head,) = headers(moto_s3, made.s3_bucket_name, data=True)
    own = head["Metadata"].pop("s3dest-sync")
    assert own.startswith("first.")
    assert head["Metadata"] == {"team": "data", "cost-center": "42"}
    assert all("team" not in each["Metadata"] for each in headers(moto_s3, made.s3_bucket_name, data=False))
    with target(moto_s3, made) as opened:
        assert not verify(opened.bucket, made.template, Scope(stream().id)).problems


def test_an_acl_is_given_to_data_and_not_to_manifests(moto_s3: S3Server, settings) -> None:
    made = settings(acl="public-read")
    land_some(moto_s3, made)
    everybody = ("http://acs.amazonaws.com/groups/global/AllUsers", "READ")
    assert everybody in grants(moto_s3, made.s3_bucket_name, data=True)
    assert everybody not in grants(moto_s3, made.s3_bucket_name, data=False)


@pytest.fixture
def seen(moto_s3: S3Server) -> Iterator[RecordingProxy]:
    """A recording proxy, because moto does not show every header on the object."""
    with recording_proxy() as opened:
        yield opened


def created(seen: RecordingProxy) -> dict[bool, list[Request]]:
    """The requests that created an object or began an upload: of data (True), or of everything else."""
    makes = [
        each
        for each in seen.seen
        if (each.method == "PUT" and "partNumber" not in each.args)
        or (each.method == "POST" and "uploads" in each.args)
    ]
    return {data: [each for each in makes if ("_s3dest/" not in each.path) == data] for data in (True, False)}


@pytest.mark.parametrize(
    ("given", "header", "of_manifests"),
    [
        ({"acl": "bucket-owner-full-control"}, "x-amz-acl", True),
        ({"acl": "bucket-owner-read"}, "x-amz-acl", True),
        ({"acl": "authenticated-read"}, "x-amz-acl", False),
        ({"server_side_encryption": "aws:kms:dsse"}, "x-amz-server-side-encryption", True),
        (
            {"kms_key_id": KEY, "server_side_encryption": "aws:kms"},
            "x-amz-server-side-encryption-aws-kms-key-id",
            True,
        ),
        ({"storage_class": "GLACIER_IR"}, "x-amz-storage-class", False),
        ({"object_metadata": {"team": "data"}}, "x-amz-meta-team", False),
    ],
)
def test_headers_are_sent_with_data_and_some_also_with_manifests(
    moto_s3: S3Server, settings, seen: RecordingProxy, given: dict[str, Any], header: str, of_manifests: bool
) -> None:
    made = settings(**given)
    connection = moto_s3.connection.__class__(**{**_plain(moto_s3), "endpoint": seen.endpoint})
    with target(moto_s3, made, open_bucket(connection, made)) as opened:
        check(opened, "token")
        with Landing(opened, stream(), sync("first")) as landing:
            for batch in batches_of(users(1, 3)):
                landing.append_batch(batch)
            landing.reject(BadRecord(stream().id, b"no record", "it is none"))
            landing.commit()
    value = next(iter(given.values()))
    requests = created(seen)
    assert [each.headers.get(header) for each in requests[True]] == [value if isinstance(value, str) else value["team"]]
    written = [each for each in requests[False] if "/~check-" not in each.path]
    assert len(written) > 3
    assert {each.headers.get(header) for each in written} == {value if of_manifests else None}
    # The check also tries the header.
    assert any(header in each.headers for each in requests[False] if "/~check-" in each.path)


def _plain(server: S3Server) -> dict[str, str]:
    return {"access_key_id": server.access_key_id, "secret_access_key": server.secret_access_key}


class TestBucketsThatDenyWhatIsNotEncrypted:
    """A bucket policy denies objects without encryption. The library writes nothing without the header, including
    the probes."""

    @pytest.fixture
    def strict(self, moto_s3: S3Server) -> Iterator[RecordingProxy]:
        def rule(request: Request, forward: Forward) -> Response:
            makes = (request.method == "PUT" and "partNumber" not in request.args) or "uploads" in request.args
            encrypted = "x-amz-server-side-encryption" in request.headers
            return (
                refusal("AccessDenied", "Access Denied")
                if makes and not encrypted and request.method != "GET"
                else forward()
            )

        with recording_proxy(rule) as opened:
            yield opened

    def test_every_command_works(self, moto_s3: S3Server, settings, strict: RecordingProxy) -> None:
        made = settings(server_side_encryption="AES256")
        bucket = open_bucket(moto_s3.connection.__class__(**{**_plain(moto_s3), "endpoint": strict.endpoint}), made)
        with target(moto_s3, made, bucket) as opened:
            assert all(each.ok for each in check(opened, "token"))
            land(batches_of(users(1, 1)), opened, stream(), sync("first"))
            land(batches_of(users(2, 2)), opened, stream(), sync("second"))
        for scope in scopes(bucket, made.template):
            recover(bucket, made.template, scope)
        assert ids_by_listing(moto_s3, made.s3_bucket_name) == [2]

    def test_a_missing_setting_is_reported(self, moto_s3: S3Server, settings, strict: RecordingProxy) -> None:
        made = settings()
        bucket = open_bucket(moto_s3.connection.__class__(**{**_plain(moto_s3), "endpoint": strict.endpoint}), made)
        with pytest.raises(AccessDeniedError), target(moto_s3, made, bucket) as opened:
            land(batches_of(users(1, 1)), opened, stream(), sync("first"))
        assert open_uploads(moto_s3, made.s3_bucket_name) == 0


def test_no_etag_is_mistaken_for_a_checksum(moto_s3: S3Server, settings) -> None:
    """S3's ETags of encrypted objects are not MD5 sums. No ETag is one here, neither of parts nor of objects or
    listings, and everything still works."""
    made = settings(server_side_encryption="aws:kms", object_size_mb=0.0001)
    bucket = open_bucket(
        moto_s3.connection.__class__(**{**_plain(moto_s3), "endpoint": moto_s3.endpoint, "read_timeout_s": 61}), made
    )
    events = bucket.client.meta.events
    events.register("after-call.s3", _scramble_answer)
    events.register("provide-client-params.s3", _unscramble_request)
    with target(moto_s3, made, bucket) as opened:
        for name in ("first", "second", "third"):
            land(batches_of(users(1, 1), users(2, 2)), opened, stream(), sync(name))
    scope = Scope(stream().id)
    assert not verify(bucket, made.template, scope).problems
    assert ids_by_listing(moto_s3, made.s3_bucket_name) == [1, 2]


_DIGITS = str.maketrans("0123456789abcdef", "fedcba9876543210")


def _scrambled(value: Any) -> Any:
    """The value with every ETag in it replaced, or restored."""
    if isinstance(value, list):
        return [_scrambled(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: inner.translate(_DIGITS) if name in ("ETag", "IfMatch") else _scrambled(inner)
        for name, inner in value.items()
    }


def _scramble_answer(parsed: dict[str, Any], **_: Any) -> None:
    parsed |= _scrambled(parsed)


def _unscramble_request(params: dict[str, Any], **_: Any) -> dict[str, Any]:
    return _scrambled(params)
