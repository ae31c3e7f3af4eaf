"""Abandoned uploads of a stream: found, aborted, counted.

A crash leaves multipart uploads behind that nobody sees and that S3 bills. It must not touch an upload that a head has
pending, nor one that is younger than the settings allow.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from s3dest_dagster.destination import S3Destination
from s3dest_dagster.keys import stream_root
from s3dest_dagster.landing.ledger import Ledger
from s3dest_dagster.landing.manifest import Head, from_json
from s3dest_dagster.landing.ownership import HEAD_NAME, scope_of
from s3dest_dagster.storage import Bucket, PendingUpload
from s3dest_dagster.stream import StreamId

INTERVAL = timedelta(days=1)
"""A landing sweeps its stream at most this often."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did: uploads aborted, and left alone because they are young or pending."""

    aborted: int
    kept: int


def sweep(
    bucket: Bucket, destination: S3Destination, stream: StreamId, *, now: datetime, keep: Collection[str] = ()
) -> Swept:
    """Aborts the stream's uploads older than `abandoned_upload_age_s` that no head has pending.

    The upload ids of `keep` are not touched whatever their age: a landing's own, which may have begun long ago, or by
    another clock.
    """
    uploads = list(_uploads_of(bucket, destination, stream))
    oldest = now - timedelta(seconds=destination.abandoned_upload_age_s)
    old = [each for each in uploads if each.initiated <= oldest]
    pending = _pending_uploads(bucket, destination, stream) if old else set()
    abandoned = [each for each in old if each.upload_id not in pending and each.upload_id not in keep]
    for each in abandoned:
        bucket.abort_upload(each.key, each.upload_id)
    return Swept(aborted=len(abandoned), kept=len(uploads) - len(abandoned))


def is_due(head: Head, now: datetime) -> bool:
    """Whether a landing should sweep: a day after the last time. A scope's first sync has nothing to sweep yet."""
    return head.swept_at is not None and now - head.swept_at >= INTERVAL


def swept(head: Head, now: datetime) -> Head:
    """The head with a sweep noted, or with the day's clock started."""
    return replace(head, swept_at=now) if head.swept_at is None or is_due(head, now) else head


def _uploads_of(bucket: Bucket, destination: S3Destination, stream: StreamId) -> list[PendingUpload]:
    template = destination.template
    matches = template.matcher(stream).fullmatch
    data = [each for each in bucket.list_uploads(template.listing_root(stream)) if matches(each.key)]
    return [*data, *bucket.list_uploads(stream_root(template, stream))]


def _pending_uploads(bucket: Bucket, destination: S3Destination, stream: StreamId) -> set[str]:
    """The upload ids of every decided and unpublished sync of the stream."""
    found: set[str] = set()
    for listed in bucket.list_objects(stream_root(destination.template, stream)):
        answer = bucket.get(listed.key) if listed.key.endswith(HEAD_NAME) else None
        if answer is None:
            continue
        head = from_json(Head, answer[0], listed.key)
        if head.pending is not None:
            ledger = Ledger(bucket, listed.key.removesuffix(HEAD_NAME) + "/", scope_of(head))
            found |= {each.upload_id for each in ledger.read_segment(head.pending).uploads}
    return found
