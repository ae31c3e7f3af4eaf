"""The bucket is compared with its manifests: missing, changed or damaged objects are named, and nothing else."""

from __future__ import annotations

import json

import pytest
from land_and_read import batch_of, data_keys, destination, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.batch import BadRecord
from s3dest_dagster.commit.landed_objects import MultipartUpload
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.inspection.verify import stray_keys, verify
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, JsonlFormat, ParquetFormat
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, SyncMode

SCOPE = Scope(stream().id)


def landed(server: S3Server, **settings) -> S3Destination:
    """A stream of three objects and four rows."""
    made = destination(server.new_bucket(), object_size_mb=0.0001, **settings)
    with target(server, made) as opened:
        land(map(batch_of, (users(1, 1), users(2, 3), users(4, 4))), opened, stream(), sync("first"))
    return made


def problems(server: S3Server, settings: S3Destination, *, deep: bool = False) -> list[str]:
    return list(verify(server.open(settings), settings.template, SCOPE, deep=deep).problems)


def rewrite(server: S3Server, settings: S3Destination, key: str, body: bytes, *, parts: bool, **header: str) -> None:
    """Replaces the content of an object, with one put or with a multipart upload."""
    s3, place = server.client(), {"Bucket": settings.s3_bucket_name, "Key": key}
    if not parts:
        s3.put_object(**place, Body=body, **header)
        return
    upload = {**place, "UploadId": s3.create_multipart_upload(**place)["UploadId"]}
    etag = s3.upload_part(**upload, PartNumber=1, Body=body)["ETag"]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})


def body_of(server: S3Server, settings: S3Destination, key: str) -> bytes:
    return server.client().get_object(Bucket=settings.s3_bucket_name, Key=key)["Body"].read()


def test_landed_objects_have_no_problems(any_s3: S3Server) -> None:
    settings = landed(any_s3)
    for deep in (False, True):
        verified = verify(any_s3.open(settings), settings.template, SCOPE, deep=deep)
        assert (verified.objects, verified.rows, verified.problems) == (3, 4, ())
        # rclone uses the MD5 of the content as the ETag of a multipart upload.
        assert verified.uncompared == (3 if any_s3.root else 0)


@pytest.mark.parametrize("parts", [False, True])
def test_different_content_of_the_same_size_is_detected_by_its_etag(moto_s3: S3Server, parts: bool) -> None:
    settings = landed(moto_s3)
    key = data_keys(moto_s3, settings.s3_bucket_name)[1]
    rewrite(moto_s3, settings, key, body_of(moto_s3, settings, key).replace(b"user 2", b"user 7"), parts=parts)
    (problem,) = problems(moto_s3, settings)
    assert key in problem
    assert ("has other content" if parts else "was written anew") in problem


def test_an_object_of_another_sync_is_detected_by_its_metadata(moto_s3: S3Server) -> None:
    settings = landed(moto_s3)
    key = data_keys(moto_s3, settings.s3_bucket_name)[0]
    body = body_of(moto_s3, settings, key)
    moto_s3.client().put_object(Bucket=settings.s3_bucket_name, Key=key, Body=body, Metadata={"s3dest-sync": "other.1"})
    (problem,) = problems(moto_s3, settings)
    assert "it says that it is of segment other.1" in problem


def test_etags_of_encrypted_objects_are_not_compared(moto_s3: S3Server) -> None:
    settings = landed(moto_s3)
    key = data_keys(moto_s3, settings.s3_bucket_name)[0]
    body = body_of(moto_s3, settings, key)
    rewrite(moto_s3, settings, key, body, parts=False, ServerSideEncryption="aws:kms")
    verified = verify(moto_s3.open(settings), settings.template, SCOPE, deep=True)
    assert (verified.problems, verified.uncompared) == ((), 1)


FORMATS = [
    JsonlFormat(),
    CsvFormat(),
    AvroFormat(codec="Deflate"),
    ParquetFormat(compression_codec="SNAPPY"),
]


@pytest.mark.parametrize("settings", FORMATS, ids=lambda each: type(each).__name__)
def test_a_flipped_bit_is_detected_in_every_format(rclone_s3: S3Server, settings) -> None:
    """The damage is on disk, behind the server's back, where neither size nor ETag nor metadata reveal it."""
    made = landed(rclone_s3, format=settings)
    assert problems(rclone_s3, made, deep=True) == []
    path = rclone_s3.root / made.s3_bucket_name / data_keys(rclone_s3, made.s3_bucket_name)[-1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (problem,) = problems(rclone_s3, made, deep=True)
    assert problem.endswith(f"{path.name} is damaged: its bytes do not have the checksum with which they were landed")


def test_the_reader_of_the_format_counts_the_rows(moto_s3: S3Server) -> None:
    """An object without a checksum, as in old manifests. One line is missing, and another is invalid."""
    settings = landed(moto_s3)
    bucket = moto_s3.open(settings)
    (segment,) = [each.key for each in bucket.list_objects("data/_s3dest/") if "/segments/" in each.key]
    manifest = json.loads(bucket.get(segment)[0])
    first, second, third = sorted(data_keys(moto_s3, settings.s3_bucket_name))
    bodies = {key: body_of(moto_s3, settings, key) for key in (first, second, third)}
    bodies[second] = bodies[second].splitlines(keepends=True)[0]
    bodies[third] = bodies[third][:-10] + b"\n"
    for item in manifest["objects"]:
        body = bodies[item["key"]]
        rewrite(moto_s3, settings, item["key"], body, parts=True)
        item |= {
            "bytes": len(body),
            "etag": MultipartUpload("", (bucket.put("data/etag", body),)).object_etag,
            "crc32": "",
        }
    bucket.put(segment, json.dumps(manifest).encode())
    short, broken = problems(moto_s3, settings, deep=True)
    assert short.endswith(f"{second} has 1 row; its manifest says 2")
    assert f"{third} cannot be read" in broken


def test_quarantined_lines_are_compared_too(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket(), on_bad_record="quarantine")
    with target(moto_s3, settings) as opened, Landing(opened, stream(), sync("first")) as landing:
        landing.append_batch(batch_of(users(1, 2)))
        landing.reject(BadRecord(stream().id, b"{", "it is broken"))
        landing.commit()
    assert problems(moto_s3, settings, deep=True) == []
    bucket = moto_s3.open(settings)
    bucket.delete([each.key for each in bucket.list_objects("data/_s3dest/") if "/quarantine/" in each.key])
    (problem,) = problems(moto_s3, settings)
    assert "/quarantine/" in problem
    assert problem.endswith("is missing")


def test_inconsistent_counts_are_a_problem(moto_s3: S3Server) -> None:
    settings = landed(moto_s3)
    bucket = moto_s3.open(settings)
    (key,) = [each.key for each in bucket.list_objects("data/_s3dest/") if "/segments/" in each.key]
    manifest = json.loads(bucket.get(key)[0])
    manifest["counts"]["read"] += 1
    bucket.put(key, json.dumps(manifest).encode())
    (problem,) = problems(moto_s3, settings)
    assert problem.startswith("the counts of sync first do not add up: 5 records read, 4 landed, 0 quarantined")


class RefreshingClient:
    """A client that refreshes the scope once while it is being verified."""

    def __init__(self, client, refresh) -> None:
        self._client = client
        self._refresh = refresh
        self.meta = client.meta

    def __getattr__(self, name: str):
        return getattr(self._client, name)

    def head_object(self, **arguments):
        refresh, self._refresh = self._refresh, lambda: None
        refresh()
        return self._client.head_object(**arguments)


def test_a_concurrent_refresh_is_no_problem(moto_s3: S3Server) -> None:
    settings = landed(moto_s3)

    def refresh() -> None:
        with target(moto_s3, settings) as opened:
            land([batch_of(users(5, 9))], opened, stream(), sync("second"))

    bucket = Bucket(RefreshingClient(moto_s3.client(), refresh), settings.s3_bucket_name)
    verified = verify(bucket, settings.template, SCOPE)
    assert (verified.objects, verified.rows, verified.problems) == (1, 5, ())


def test_matching_objects_that_no_scope_owns_are_foreign(moto_s3: S3Server) -> None:
    settings = landed(moto_s3)
    with target(moto_s3, settings) as opened:
        land([batch_of(users(1, 1))], opened, stream("userships", SyncMode.APPEND), sync("other"))
    bucket = moto_s3.open(settings)
    for name in ("2020_01_01_1577836800000_0.csv", "notes.csv", "archive/2020_01_01_1577836800000_0.csv"):
        bucket.put(f"data/public/users/{name}", b"x")
    foreign = stray_keys(bucket, settings.template, stream().id).foreign
    assert foreign == {"data/public/users/2020_01_01_1577836800000_0.csv"}
