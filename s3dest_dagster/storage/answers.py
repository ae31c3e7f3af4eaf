"""What a server answers about objects and uploads, as values.

Servers leave out what they have nothing to say about, and an answer may be cut short; the two are told apart here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ResponseStreamingError

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing shows it. `size` in bytes; `etag` without quotes."""

    key: str
    size: int
    etag: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """An object as HEAD shows it. `metadata` is empty on servers that do not keep it. An opaque ETag, one of an object
    that is encrypted with a key of KMS or of the customer, says nothing about the content."""

    size: int
    etag: str
    metadata: Mapping[str, str]
    has_opaque_etag: bool = False


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A multipart upload that is neither completed nor aborted. One whose begin the server does not tell is never
    old."""

    key: str
    upload_id: str
    initiated: datetime


def head_of(answer: Mapping[str, Any]) -> ObjectHead:
    """The answer to HEAD. Raises for one that is cut short, which is worth another try."""
    # Some servers give the names back in title case.
    metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
    if "ContentLength" not in answer:
        raise ResponseStreamingError(error="the head of the answer is cut short: it has no Content-Length")
    opaque = answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
    return ObjectHead(answer["ContentLength"], etag_of(answer), metadata, opaque)


def etag_of(answer: Mapping[str, Any]) -> str:
    """The ETag of an answer, which must be whole: Python takes a head whose end never came for one that is complete."""
    etag: str = answer.get("ETag", "")
    if not etag or (etag[0] == '"') != (etag[-1] == '"' and len(etag) > 1):
        raise ResponseStreamingError(error=f"the head of the answer is cut short: its ETag is {etag!r}")
    return bare(etag)


def with_head(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, if it has a head. Raises for one that ends behind its first line, which is worth another try."""
    if not answer.get("ResponseMetadata", {}).get("HTTPHeaders"):
        raise ResponseStreamingError(error="the answer is cut short: it has no head")
    return answer


def check_completed(answer: Mapping[str, Any]) -> None:
    """The answer must tell of an object: of one that is cut short in its head nothing is left. Its ETag may be empty,
    as Ceph 16 leaves it."""
    if not answer.keys() & {"Key", "ETag"}:
        raise ResponseStreamingError(error="the answer is cut short: it does not tell which object is complete")


def bare(etag: str) -> str:
    """An ETag without its quotes."""
    return etag.strip('"')


def listed(entry: Mapping[str, Any]) -> Listed:
    """An entry of a listing."""
    return Listed(entry["Key"], entry.get("Size", 0), bare(entry.get("ETag", "")), entry.get("LastModified", _NEVER))


def pending(entry: Mapping[str, Any]) -> PendingUpload:
    """An entry of a listing of uploads."""
    return PendingUpload(entry["Key"], entry["UploadId"], entry.get("Initiated", _NEVER))
