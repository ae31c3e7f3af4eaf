"""Replaced objects that are kept for a while for readers of before (`delete_grace_s`), and leave when it is over.

What leaves stands in the segments that replaced it; the head says which and when. It must not delete what is live.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from s3dest_dagster.commit.commit_log import CommitLog, SeenHead
from s3dest_dagster.commit.manifest import Head, RetiredObjects, Segment, live_keys
from s3dest_dagster.commit.scopes import scopes_of_stream
from s3dest_dagster.errors import PreconditionFailedError
from s3dest_dagster.keys import KeyTemplate, stream_root
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import StreamId


def retired_keys(commit_log: CommitLog, retired: Iterable[RetiredObjects]) -> set[str]:
    """The keys of objects that were replaced and are kept."""
    return {key for segment in _replacing(commit_log, retired) for key in segment.removes}


def _replacing(commit_log: CommitLog, retired: Iterable[RetiredObjects]) -> list[Segment]:
    """The segments of which the removed objects are kept."""
    found: list[Segment] = []
    for each in retired:
        name: str | None = each.segment
        while name is not None:
            found.append(commit_log.read_segment(name))
            name = found[-1].retires_with
    return found


def expire_retired(commit_log: CommitLog, seen: SeenHead, now: datetime) -> Head:
    """Deletes the scope's replaced objects whose time is over. Returns the head without them, which is not put yet.

    What has become live again stays. When another writer has moved the head on, nothing is deleted: he saw to it. One
    who moves it on while objects are deleted here lands under other keys, or loses none of them: see `delete_replaced`.
    """
    due = [each for each in seen.head.retired if each.until <= now]
    if not due:
        return seen.head
    replacing, live = _replacing(commit_log, due), live_keys(commit_log.live_segments(seen.head))
    if commit_log.read_head().etag != seen.etag:
        return seen.head
    commit_log.delete_replaced(replacing, but=live)
    return replace(seen.head, retired=tuple(each for each in seen.head.retired if each not in due))


def release(commit_log: CommitLog, seen: SeenHead, now: datetime) -> bool:
    """Deletes what is due and notes it in the head; whether there was anything. A scope that is being published is left
    to its next sync."""
    if seen.head.pending is not None or (head := expire_retired(commit_log, seen, now)) == seen.head:
        return False
    try:
        commit_log.put_head(head, seen)
    except PreconditionFailedError:
        # A landing was quicker; it, or the next, finds the objects gone and notes it.
        return False
    return True


def release_stream(bucket: Bucket, template: KeyTemplate, stream: StreamId, now: datetime) -> int:
    """Deletes what is due of every scope of a stream; of how many there was something."""
    found = scopes_of_stream(bucket, stream_root(template.literal_root, stream))
    return sum(release(each.commit_log, each.seen, now) for each in found if each.seen.head.retired)
