"""The servers that other tests rely on behave as their fixtures promise."""

import pytest
from botocore.exceptions import ClientError


def test_a_fresh_bucket_is_empty_and_accepts_objects(any_s3):
    bucket, s3 = any_s3.new_bucket(), any_s3.client()
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="a/b", Body=b"1")
    assert s3.get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"1"
    assert bucket != any_s3.new_bucket()


def test_multipart_uploads_are_invisible_before_they_are_completed(any_s3):
    bucket, s3 = any_s3.new_bucket(), any_s3.client()
    upload = s3.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    etag = s3.upload_part(Bucket=bucket, Key="m", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    assert [each["Key"] for each in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == ["m"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    s3.complete_multipart_upload(Bucket=bucket, Key="m", UploadId=upload, MultipartUpload=parts)
    assert [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["m"]


def test_unknown_keys_are_refused(any_s3):
    bucket = any_s3.new_bucket()
    stranger = any_s3.client(aws_access_key_id="stranger", aws_secret_access_key="secret")
    with pytest.raises(ClientError):
        stranger.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("list_buckets", {}),
        ("create_bucket", {"Bucket": "lake-new"}),
        ("put_object", {"Bucket": "other", "Key": "x", "Body": b""}),
        ("get_object_tagging", {"Key": "x"}),
        ("list_object_versions", {}),
        ("get_bucket_versioning", {}),
        ("list_parts", {"Key": "m", "UploadId": "u"}),
    ],
)
def test_permissions_beyond_the_documentation_are_denied(moto_s3, call, arguments):
    arguments = arguments if call in ("list_buckets",) else {"Bucket": moto_s3.new_bucket(), **arguments}
    with pytest.raises(ClientError) as caught:
        getattr(moto_s3.client(), call)(**arguments)
    assert caught.value.response["Error"]["Code"] == "AccessDenied"


def test_rclone_keeps_objects_as_files(rclone_s3):
    bucket = rclone_s3.new_bucket()
    rclone_s3.client().put_object(Bucket=bucket, Key="a/b.txt", Body=b"1")
    assert (rclone_s3.root / bucket / "a" / "b.txt").read_bytes() == b"1"
