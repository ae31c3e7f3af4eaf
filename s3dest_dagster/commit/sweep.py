"""Abandoned uploads of a stream: found, aborted, counted; and replaced objects whose time is over, deleted.

A crash leaves multipart uploads behind that nobody sees and that S3 bills. It must not touch an upload that a head has
pending, nor one that is younger than the settings allow.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from s3dest_dagster.commit.ownership import possible_owners
from s3dest_dagster.commit.registry import used_templates
from s3dest_dagster.commit.retired import release_stream
from s3dest_dagster.keys import KeyTemplate, manifest_root, manifest_roots, stream_root
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import TRIALS, Bucket, PendingUpload
from s3dest_dagster.stream import StreamId

_OLDEST_TRIAL = timedelta(days=1)
"""How long what is there for trial is left alone: it is there for seconds, if nobody is stopped meanwhile."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did: uploads aborted, and left alone because they are young or pending; `released` counts scopes of
    which replaced objects were deleted whose `delete_grace_s` was over."""

    aborted: int
    kept: int
    released: int = 0


def sweep(
    bucket: Bucket,
    destination: S3Destination,
    stream: StreamId,
    *,
    now: datetime | None = None,
    keep: Collection[str] = (),
    release: bool = True,
) -> Swept:
    """Aborts the stream's uploads older than `abandoned_upload_age_s` that no head has pending, and deletes replaced
    objects of all of its scopes whose time is over. The time is the server's, where `now` is not given: one machine's
    clock must not end what another one has just begun. What was left of trials (of checks, and of finding out what the
    server can do) goes after a day.

    Without `release` no head is read for the latter, of which there are many where a stream has many partitions. The
    upload ids of `keep` are not touched whatever their age: a landing's own, which may have begun long ago, or by
    another clock.
    """
    bucket = bucket.with_root(manifest_root(destination.template.literal_root))
    # Uploads first, heads after them: an upload whose sync is decided meanwhile is found pending.
    uploads = _uploads_of(bucket, destination.template, stream)
    now = now or bucket.server_time()
    oldest = now - timedelta(seconds=destination.abandoned_upload_age_s)
    old = [each for each in uploads if each.initiated <= oldest]
    pending = _pending_uploads(bucket, old)
    abandoned = [each for each in old if each.upload_id not in pending and each.upload_id not in keep]
    for each in abandoned:
        bucket.abort_upload(each.key, each.upload_id)
    _sweep_trials(bucket, destination, now - _OLDEST_TRIAL)
    released = release_stream(bucket, destination.template, stream, now) if release else 0
    return Swept(aborted=len(abandoned), kept=len(uploads) - len(abandoned), released=released)


def _sweep_trials(bucket: Bucket, destination: S3Destination, oldest: datetime) -> None:
    """Deletes and aborts what a process has left that was killed while it tried something."""
    prefix = f"{manifest_root(destination.template.literal_root)}{TRIALS}"
    bucket.delete(each.key for each in bucket.list_objects(prefix) if each.modified <= oldest)
    for each in bucket.list_uploads(prefix):
        if each.initiated <= oldest:
            bucket.abort_upload(each.key, each.upload_id)


def _uploads_of(bucket: Bucket, template: KeyTemplate, stream: StreamId) -> list[PendingUpload]:
    """Those of the stream's data, under every template that it has used, and of its lines that were kept aside."""
    root = stream_root(template.literal_root, stream)
    found = list(bucket.list_uploads(root))
    for used in {template.tokens: template, **{each.tokens: each for each in used_templates(bucket, root)}}.values():
        matches = used.matcher(stream).fullmatch
        found += (each for each in bucket.list_uploads(used.listing_root(stream)) if matches(each.key))
    return list(dict.fromkeys(found))


def _pending_uploads(bucket: Bucket, uploads: Sequence[PendingUpload]) -> set[str]:
    """The ids of those uploads, and maybe others, that any scope has decided and not yet published."""
    keys = {each.key for each in uploads}
    found: set[str] = set()
    for owner in possible_owners(bucket, keys, {root for key in keys for root in manifest_roots(key)}):
        pending = owner.seen.head.pending
        if pending is not None:
            found |= {each.upload_id for each in owner.commit_log.read_segment(pending).uploads}
    return found
