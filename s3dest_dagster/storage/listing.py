"""Listings over all of their pages, on servers with and without tokens that say where the next page begins.

It must not know what stands in a bucket.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from s3dest_dagster.errors import StorageError
from s3dest_dagster.storage.requests import Requests

_BEHIND_ALL = "\U0010ffff"
"""Behind every key of a directory that keys are made of: the last character there is."""
Page = dict[str, Any]


def first_page(requests: Requests, prefix: str, **options: Any) -> Page:
    """The first page of the objects under a prefix."""
    listing = partial(requests.send, "list_objects_v2", Prefix=prefix, **options)
    return requests.ask("s3:ListBucket", None, listing)


def pages(requests: Requests, prefix: str, **options: str) -> Iterator[Page]:
    """All pages. Where a server truncates one and gives no token, the next begins behind the last key of this one.

    Raises StorageError where neither leads on: the listing would never end.
    """
    going_on: dict[str, str] = {}
    before = ""
    while True:
        page = first_page(requests, prefix, **options, **going_on)
        last = _last_of(page)
        if "StartAfter" in going_on and last <= before:
            raise _endless(requests, prefix)
        yield page
        if not page.get("IsTruncated"):
            return
        going_on = _next_of(page, last, going_on)
        if not going_on:
            raise _endless(requests, prefix)
        before = last


def _next_of(page: Page, last: str, used: Mapping[str, str]) -> dict[str, str]:
    """How the next page is asked for; nothing where the page does not tell, or tells what it told before."""
    token = page.get("NextContinuationToken")
    if token:
        return {"ContinuationToken": token} if token != used.get("ContinuationToken") else {}
    # What stands in a directory comes behind its name, and would bring it up again.
    return {"StartAfter": f"{last}{_BEHIND_ALL}" if last.endswith("/") else last} if last else {}


def _last_of(page: Page) -> str:
    """The last key or directory of a page; "" for an empty one."""
    keys = [each["Key"] for each in page.get("Contents") or ()]
    directories = [each["Prefix"] for each in page.get("CommonPrefixes") or ()]
    return max((*keys[-1:], *directories[-1:]), default="")


def upload_pages(requests: Requests, prefix: str) -> Iterator[Page]:
    """All pages of the multipart uploads under a prefix; raises as `pages`."""
    markers: dict[str, str] = {}
    while True:
        listing = partial(requests.send, "list_multipart_uploads", Prefix=prefix, **markers)
        page = requests.ask("s3:ListBucketMultipartUploads", None, listing)
        yield page
        if not page.get("IsTruncated"):
            return
        uploads: Sequence[Mapping[str, str]] = page.get("Uploads") or ({},)
        key = page.get("NextKeyMarker") or uploads[-1].get("Key", "")
        upload_id = page.get("NextUploadIdMarker") or uploads[-1].get("UploadId", "")
        behind = {"KeyMarker": key, "UploadIdMarker": upload_id}
        if not key or behind == markers:
            raise _endless(requests, prefix)
        markers = behind


def _endless(requests: Requests, prefix: str) -> StorageError:
    return StorageError(
        f"The server at {requests.endpoint} cut the listing of s3://{requests.bucket}/{prefix} short and does not say "
        "where it goes on: it gives no token, and going on behind the last key leads nowhere. What stands there cannot "
        "be told, so nothing was done. Put the bucket on a server that lists more than one page."
    )
