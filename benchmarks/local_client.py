"""A folder behind the methods of boto3's S3 client that a bucket calls, for measurements without a network.

It knows conditional puts and multipart uploads, tells the time, and counts `calls` by their names. With `keep=False`
parts are dropped as they come, for inputs that are larger than a disk should take. Other processes may upload into the
folder, each with a client of its own. One process completes the uploads, and knows the objects.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import formatdate
from itertools import count, takewhile
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError

from s3dest_dagster.storage import Bucket

BUCKET = "lake"
_PAGE = 1000
_LAST = "\U0010ffff"
"""Sorts after every key that continues."""


def local_bucket(folder: Path, *, keep: bool = True) -> Bucket:
    """A bucket whose objects are files of this folder."""
    return Bucket(LocalClient(folder, keep=keep), BUCKET)


class LocalClient:
    """Objects are files under `objects`; the parts of uploads are files under `uploads`."""

    def __init__(self, folder: Path, *, keep: bool = True) -> None:
        # It has what AWS has, so that nothing is tried out on it. No request goes there.
        self.meta = SimpleNamespace(
            endpoint_url="https://s3.us-east-1.amazonaws.com", partition="aws", region_name="us-east-1"
        )
        self._objects = folder / "objects"
        self._uploads = folder / "uploads"
        self._keep = keep
        self.calls: Counter[str] = Counter()
        self._etags: dict[str, str] = {}
        self._keys: list[str] = []
        self._numbers = count(1)
        self._lock = Lock()
        self._uploads.mkdir(parents=True, exist_ok=True)

    def fill(self, keys: Iterable[str]) -> None:
        """Makes empty objects, without a call."""
        for key in keys:
            self._made(key, b"")

    # ------------------------------------------------------------------ whole objects

    def put_object(
        self, *, Bucket: str, Key: str, Body: bytes, IfNoneMatch: str | None = None, IfMatch: str | None = None
    ) -> dict[str, Any]:
        self.calls["PutObject"] += 1
        with self._lock:
            known = self._etags.get(Key)
            if (IfNoneMatch and known) or (IfMatch and IfMatch != known):
                raise _refused("PreconditionFailed", 412)
            return self._made(Key, Body)

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        self.calls["GetObject"] += 1
        if Key not in self._etags:
            raise _refused("NoSuchKey", 404)
        return _answer(Body=self._path(Key).open("rb"), ETag=self._etags[Key])

    def delete_objects(self, *, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:
        self.calls["DeleteObjects"] += 1
        for each in Delete["Objects"]:
            if self._etags.pop(each["Key"], None):
                del self._keys[bisect_left(self._keys, each["Key"])]
                self._path(each["Key"]).unlink()
        return _answer()

    def list_objects_v2(
        self, *, Bucket: str, Prefix: str, ContinuationToken: str = "", Delimiter: str = ""
    ) -> dict[str, Any]:
        self.calls["ListObjectsV2"] += 1
        if Delimiter:
            return self._directories(Prefix, ContinuationToken)
        start = bisect_right(self._keys, ContinuationToken) if ContinuationToken else bisect_left(self._keys, Prefix)
        keys = list(takewhile(lambda key: key.startswith(Prefix), self._keys[start : start + _PAGE + 1]))
        page = keys[:_PAGE]
        modified = datetime.now(UTC)
        contents = [
            {"Key": key, "Size": self._path(key).stat().st_size, "ETag": self._etags[key], "LastModified": modified}
            for key in page
        ]
        more = len(keys) > len(page)
        return _answer(Contents=contents, IsTruncated=more, NextContinuationToken=page[-1] if more else "")

    def _directories(self, prefix: str, token: str) -> dict[str, Any]:
        """A page of the directories right under the prefix; the objects there are left out."""
        found: list[str] = []
        position = bisect_left(self._keys, token + _LAST if token else prefix)
        while position < len(self._keys) and self._keys[position].startswith(prefix) and len(found) <= _PAGE:
            name, slash, _ = self._keys[position].removeprefix(prefix).partition("/")
            if slash:
                found.append(f"{prefix}{name}/")
            position = bisect_left(self._keys, f"{prefix}{name}/{_LAST}") if slash else position + 1
        page, more = found[:_PAGE], len(found) > _PAGE
        prefixes = [{"Prefix": each} for each in page]
        return _answer(CommonPrefixes=prefixes, IsTruncated=more, NextContinuationToken=page[-1] if more else "")

    # ------------------------------------------------------------------ multipart uploads

    def create_multipart_upload(self, *, Bucket: str, Key: str, Metadata: dict[str, str]) -> dict[str, Any]:
        self.calls["CreateMultipartUpload"] += 1
        upload = f"{os.getpid():x}.{next(self._numbers)}"
        (self._uploads / upload).mkdir()
        return _answer(UploadId=upload)

    def upload_part(self, *, Bucket: str, Key: str, UploadId: str, PartNumber: int, Body: bytes) -> dict[str, Any]:
        self.calls["UploadPart"] += 1
        if self._keep:
            (self._uploads / UploadId / f"{PartNumber:05}").write_bytes(Body)
        return _answer(ETag=f'"{PartNumber}"')

    def complete_multipart_upload(
        self, *, Bucket: str, Key: str, UploadId: str, MultipartUpload: dict[str, Any]
    ) -> dict[str, Any]:
        self.calls["CompleteMultipartUpload"] += 1
        path = self._path(Key)
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = sorted((self._uploads / UploadId).iterdir())
        if parts:
            parts[0].rename(path)  # the sink must cost little: most objects are one part
        with path.open("ab") as file:
            for part in parts[1:]:
                file.write(part.read_bytes())
                part.unlink()
        with self._lock:
            return self._known(Key, f"{UploadId}-1")

    def abort_multipart_upload(self, *, Bucket: str, Key: str, UploadId: str) -> dict[str, Any]:
        self.calls["AbortMultipartUpload"] += 1
        for part in (self._uploads / UploadId).iterdir():
            part.unlink()
        return _answer()

    def list_multipart_uploads(self, *, Bucket: str, Prefix: str) -> dict[str, Any]:
        self.calls["ListMultipartUploads"] += 1
        return _answer(Uploads=[], IsTruncated=False)

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        self.calls["HeadObject"] += 1
        if Key not in self._etags:
            raise _refused("404", 404)
        return _answer(ContentLength=self._path(Key).stat().st_size, ETag=self._etags[Key], Metadata={})

    def _made(self, key: str, body: bytes) -> dict[str, Any]:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        return self._known(key, hashlib.md5(body, usedforsecurity=False).hexdigest())

    def _known(self, key: str, etag: str) -> dict[str, Any]:
        if key not in self._etags:
            insort(self._keys, key)
        self._etags[key] = f'"{etag}"'
        return _answer(ETag=self._etags[key])

    def _path(self, key: str) -> Path:
        return self._objects / key


def _answer(**fields: Any) -> dict[str, Any]:
    """An answer, with the server's time as every server sends it."""
    return {**fields, "ResponseMetadata": {"HTTPHeaders": {"date": formatdate(usegmt=True)}}}


def _refused(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "local")
