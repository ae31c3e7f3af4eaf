"""Cleans up after syncs: interrupted publications, abandoned uploads, retired objects.

`recover` finishes an interrupted sync that was decided. `sweep` aborts uploads that are invisible but billed by S3, and
deletes retired objects whose `delete_grace_s` is over. Must not touch: an upload that a head has pending, an upload
that is younger than the settings allow, or a live object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from s3dest_dagster.commit.collection import collect_segments, may_collect
from s3dest_dagster.commit.commit_log import CommitLog, SeenHead
from s3dest_dagster.commit.documents import STEP_VALUES, quarantine_part, sync_of
from s3dest_dagster.commit.head import Head
from s3dest_dagster.commit.key_owners import possible_owners, used_templates
from s3dest_dagster.commit.publication import Clock, finish
from s3dest_dagster.commit.scopes import scope_at, scopes_of_stream
from s3dest_dagster.commit.state_lineages import StateLineages
from s3dest_dagster.commit.unused_lists import sweep_lists
from s3dest_dagster.errors import (
    BucketNotFoundError,
    CommitError,
    CredentialsError,
    EndpointUnreachableError,
    PreconditionFailedError,
    StorageError,
)
from s3dest_dagster.keys import KeyTemplate, manifest_roots, mark_of, part_id, stream_root, sync_mark
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import TRIALS, Bucket, PendingUpload, each_in_parallel
from s3dest_dagster.stream import Scope, StreamId

_OLDEST_TRIAL = timedelta(days=1)
"""How long trial objects and uploads are left alone. They exist for seconds unless their process is stopped."""


@dataclass(frozen=True, slots=True)
class Swept:
    """The result of a sweep."""

    aborted: int
    """Uploads aborted."""
    kept: int
    """Uploads left alone because they are young or pending."""
    expired: int = 0
    """Scopes whose retired objects were deleted because their `delete_grace_s` was over."""
    collected: int = 0
    """Segments deleted that nothing has needed for `segment_grace_s`."""
    problems: tuple[str, ...] = ()
    """A sentence for each scope whose retired objects could not be deleted. The other scopes were swept."""


# ---------------------------------------------------------------------- abandoned uploads


def sweep(
    bucket: Bucket,
    destination: S3Destination,
    stream: StreamId,
    *,
    now: datetime | None = None,
    keep: Collection[str] = (),
    expire: bool = True,
    lineages: StateLineages | None = None,
    on_scope: Callable[[], None] = lambda: None,
) -> Swept:
    """Aborts the stream's abandoned uploads, and deletes expired retired objects and unused segments of all its scopes.

    An upload is abandoned if it is older than `abandoned_upload_age_s` and no head has it pending, or if its key has
    the mark of a sync that is complete: a worker that came too late has left it. Leftovers of trials (checks, and
    probes of the server's abilities) are deleted after a day.

    Args:
        bucket: The bucket.
        destination: The settings that the stream lands with.
        stream: The stream, with its name as it is in the bucket.
        now: The time. Default: the server's time, since one machine's clock must not end what another machine has just
            begun.
        keep: Ids of uploads that are left alone regardless of their age: those of a landing that is running.
        expire: Whether to delete retired objects, and segments that nothing names any more. This reads a head for each
            partition of the stream.
        lineages: The states of all streams, for sweeps of several streams. Default: they are read if they are needed.
        on_scope: Called after each scope whose retired objects and unused segments were looked for.

    Example:
        print(sweep(bucket, destination, stream.id).aborted)
    """
    bucket = bucket.with_root(destination.template.manifest_root)
    # Uploads are listed before the heads are read, so an upload whose sync is decided in between is found pending.
    uploads = _uploads_of(bucket, destination.template, stream)
    now = now or bucket.server_time()
    oldest = now - timedelta(seconds=destination.abandoned_upload_age_s)
    old = [upload for upload in uploads if upload.initiated <= oldest]
    pending = _pending_uploads(bucket, old)
    abandoned = [upload for upload in old if upload.upload_id not in pending and upload.upload_id not in keep]
    abandoned += _too_late(bucket, destination.template, stream, [each for each in uploads if each not in old])
    for upload in abandoned:
        bucket.abort_upload(upload.key, upload.upload_id)
    _sweep_trials(bucket, destination, now)
    kept = len(uploads) - len(abandoned)
    sweep_lists(bucket, stream_root(destination.template.literal_root, stream), oldest)
    if not expire:
        return Swept(len(abandoned), kept)
    expired, collected, problems = expire_stream(bucket, destination, stream, now, lineages, on_scope)
    return Swept(len(abandoned), kept, expired, collected, problems)


def _too_late(
    bucket: Bucket, template: KeyTemplate, stream: StreamId, uploads: Sequence[PendingUpload]
) -> list[PendingUpload]:
    """The uploads that workers have left of syncs that are complete. Reads the stream's heads if there may be some."""
    matchers = [each.matcher(stream) for each in _templates(bucket, template, stream)] if uploads else []
    marked = {upload: mark for upload in uploads if (mark := _mark(upload.key, matchers)) is not None}
    if not marked:
        return []
    complete = {
        sync_mark(found.scope, sync.id)
        for found in scopes_of_stream(bucket, stream_root(template.literal_root, stream))
        for sync in found.seen.head.recent_syncs
        if sync.complete
    }
    return [upload for upload, mark in marked.items() if mark in complete]


def _mark(key: str, matchers: Sequence[re.Pattern[str]]) -> str | None:
    """The mark in the key of an upload. None if no worker of a sharded sync made it."""
    parts = (quarantine_part(key), *(part_id(matcher, key) for matcher in matchers))
    return next((mark for part in parts if (mark := mark_of(part)) is not None), None)


def _sweep_trials(bucket: Bucket, destination: S3Destination, now: datetime) -> None:
    """Deletes and aborts the leftovers of processes that were killed during a trial, and what the steps of syncs that
    are long over have left for each other."""
    root = destination.template.manifest_root
    prefix, steps = f"{root}{TRIALS}", f"{root}{STEP_VALUES}"
    oldest, oldest_step = now - _OLDEST_TRIAL, now - timedelta(seconds=destination.abandoned_upload_age_s)
    bucket.delete(
        found.key
        for found in bucket.list_objects(prefix)
        if found.modified <= (oldest_step if found.key.startswith(steps) else oldest)
    )
    for upload in bucket.list_uploads(prefix):
        if upload.initiated <= oldest:
            bucket.abort_upload(upload.key, upload.upload_id)


def _uploads_of(bucket: Bucket, template: KeyTemplate, stream: StreamId) -> list[PendingUpload]:
    """The uploads of the stream's data under every template that it has used, and of its quarantined lines."""
    uploads = list(bucket.list_uploads(stream_root(template.literal_root, stream)))
    for each in _templates(bucket, template, stream):
        matches = each.matcher(stream).fullmatch
        uploads += (upload for upload in bucket.list_uploads(each.listing_root(stream)) if matches(upload.key))
    return list(dict.fromkeys(uploads))


def _templates(bucket: Bucket, template: KeyTemplate, stream: StreamId) -> list[KeyTemplate]:
    """All templates that the stream has used, and this one."""
    used = used_templates(bucket, stream_root(template.literal_root, stream))
    return list({each.tokens: each for each in (template, *used)}.values())


def _pending_uploads(bucket: Bucket, uploads: Sequence[PendingUpload]) -> set[str]:
    """The ids of the uploads that any scope has decided but not yet published. May include uploads that are not
    given."""
    keys = {upload.key for upload in uploads}
    ids: set[str] = set()
    for owner in possible_owners(bucket, keys, {root for key in keys for root in manifest_roots(key)}):
        pending = owner.seen.head.pending_segment
        if pending is not None:
            ids |= owner.commit_log.lists.upload_ids(owner.commit_log.read_segment(pending))
    return ids


# ---------------------------------------------------------------------- retired objects


def expire_retired(commit_log: CommitLog, seen: SeenHead, now: datetime) -> Head:
    """Deletes the scope's expired retired objects. Returns the head without them, which is not put yet.

    Objects that have become live again stay. If another writer has put a newer head, nothing is deleted, because that
    writer has done it. If another writer puts a head during the deletion, it lands under other keys or loses none of
    its objects (see `delete_replaced`).
    """
    due = [retired for retired in seen.head.retired if retired.delete_after <= now]
    if not due:
        return seen.head
    segments = commit_log.retired_segments(due)
    live = commit_log.lists.live_keys(commit_log.live_segments(seen.head))
    if commit_log.read_head().etag != seen.etag:
        return seen.head
    commit_log.delete_replaced(segments, keep=live)
    return replace(seen.head, retired=tuple(each for each in seen.head.retired if each not in due))


def expire_scope(commit_log: CommitLog, seen: SeenHead, now: datetime) -> bool:
    """Does what `expire_retired` does, and puts the head. Returns whether there was anything to delete.

    If a sync of the scope is being published, its next sync does this instead.
    """
    if seen.head.pending_segment is not None or (head := expire_retired(commit_log, seen, now)) == seen.head:
        return False
    try:
        commit_log.put_head(head, seen)
    except PreconditionFailedError:
        # A landing was faster. It, or the next landing, finds the objects gone and puts the head.
        return False
    return True


def expire_stream(
    bucket: Bucket,
    destination: S3Destination,
    stream: StreamId,
    now: datetime,
    lineages: StateLineages | None = None,
    on_scope: Callable[[], None] = lambda: None,
) -> tuple[int, int, tuple[str, ...]]:
    """Calls `expire_scope` and `collect_segments` for every scope of a stream, several side by side.

    Returns how many scopes had retired objects to delete, how many segments were deleted, and a sentence for each scope
    where that failed.
    """

    def expire(root: str) -> tuple[bool, int] | str:
        try:
            found = scope_at(bucket, root)
            if found is None:
                return False, 0
            if expire_scope(found.commit_log, found.seen, now):
                return True, 0
            return False, collect_segments(found.commit_log, found.seen, now, grace, states) if collects else 0
        except (CredentialsError, BucketNotFoundError, EndpointUnreachableError):
            raise  # it concerns every scope
        except (CommitError, StorageError) as error:
            return error.message

    template = destination.template
    root = stream_root(template.literal_root, stream)
    grace, states = (
        timedelta(seconds=destination.segment_grace_s),
        lineages or StateLineages(bucket, template.manifest_root),
    )
    collects = may_collect(bucket, root)
    results = list[tuple[bool, int] | str]()
    for result in each_in_parallel(expire, bucket.list_directories(root)):
        results.append(result)
        on_scope()
    done = [each for each in results if not isinstance(each, str)]
    problems = tuple(each for each in results if isinstance(each, str))
    return sum(expired for expired, _ in done), sum(collected for _, collected in done), problems


@dataclass(frozen=True, slots=True)
class Recovered:
    """The outcome of a scope's decided sync."""

    scope: Scope
    sync_id: str | None
    """The sync that was decided but not published. None if there was none."""
    ok: bool
    """False if the sync was rolled back, or could not be finished."""
    message: str = ""
    """The reason if not `ok`."""


def recover(bucket: Bucket, template: KeyTemplate, scope: Scope, *, clock: Clock | None = None) -> Recovered:
    """Finishes the scope's decided sync, or rolls it back if its uploads have vanished. Then deletes the replaced
    objects whose `delete_grace_s` is over.

    Args:
        bucket: The bucket.
        template: The template of the keys, as `destination.template`.
        scope: The scope, with its stream's name as it is in the bucket.
        clock: Returns the current time with a time zone. Default: the server's clock.

    Example:
        recovered = recover(bucket, destination.template, Scope(stream.id))
    """
    commit_log = CommitLog.of(bucket, template, scope)
    clock = clock or commit_log.bucket.server_time
    pending = None
    try:
        seen = commit_log.read_head()
        pending = sync_of(seen.head.pending_segment) if seen.head.pending_segment is not None else None
        expire_scope(commit_log, finish(commit_log, seen, clock), clock())
    except (CommitError, StorageError) as error:
        return Recovered(scope, pending, False, error.message)
    return Recovered(scope, pending, True)
