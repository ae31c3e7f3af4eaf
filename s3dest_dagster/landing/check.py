"""Whether a sync could land here: the requests that a landing makes, tried one after another on objects of its own.

Each step says what failed and which IAM action or setting mends it. It leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from s3dest_dagster.errors import StorageError
from s3dest_dagster.keys import manifest_root
from s3dest_dagster.landing.target import Target
from s3dest_dagster.storage import WITHOUT_CONDITIONS, Bucket

_CONTENT = b"s3dest check"


@dataclass(frozen=True, slots=True)
class CheckStep:
    """One step of a check. `message` is a sentence when it failed, or when it is worth knowing."""

    name: str
    action: str
    ok: bool
    message: str = ""


def check(target: Target, token: str) -> list[CheckStep]:
    """Tries everything that a sync needs. `token` makes the keys of the trial objects unique.

    Stops where going on would only repeat the same failure; the last step then tells what is wrong.
    """
    return list(_steps(target, token))


def _steps(target: Target, token: str) -> Iterator[CheckStep]:
    bucket, template = target.bucket, target.destination.template
    root = manifest_root(template)
    small, large = f"{root}check/{token}", f"{root}check/{token}-multipart"
    listing = _try("list objects", "s3:ListBucket", lambda: bucket.first_page(root))
    yield listing
    if not listing.ok:
        return
    wrote = _try("write an object", "s3:PutObject", lambda: bucket.put(small, _CONTENT))
    yield wrote
    if not wrote.ok:
        return
    yield _try("read it back", "s3:GetObject", lambda: _read_back(bucket, small))
    yield _try("complete a multipart upload", "s3:PutObject", lambda: _multipart(bucket, large))
    yield _try("abort a multipart upload", "s3:AbortMultipartUpload", lambda: _aborted(bucket, large))
    yield _try("list multipart uploads", "s3:ListBucketMultipartUploads", lambda: list(bucket.list_uploads(root)))
    yield _conditions(bucket, small)
    yield _try("delete objects", "s3:DeleteObject", lambda: bucket.delete([small, large]))


def _try(name: str, action: str, do: Callable[[], object]) -> CheckStep:
    try:
        do()
    except StorageError as error:
        return CheckStep(name, error.action or action, False, error.message)
    return CheckStep(name, action, True)


def _read_back(bucket: Bucket, key: str) -> None:
    found = bucket.get(key)
    if found is None or found[0] != _CONTENT:
        raise StorageError(f"{bucket.uri(key)} does not hold what was just written to it.", key=key)


def _multipart(bucket: Bucket, key: str) -> None:
    upload_id = bucket.create_upload(key, {})
    etag = bucket.upload_part(key, upload_id, 1, _CONTENT)
    bucket.complete_upload(key, upload_id, [etag])


def _aborted(bucket: Bucket, key: str) -> None:
    bucket.abort_upload(key, bucket.create_upload(key, {}))


def _conditions(bucket: Bucket, key: str) -> CheckStep:
    name = "put under a condition"
    step = _try(name, "s3:PutObject", lambda: bucket.has_conditional_puts(key))
    if step.ok and not bucket.has_conditional_puts(key):
        return CheckStep(name, "s3:PutObject", True, WITHOUT_CONDITIONS)
    return step
