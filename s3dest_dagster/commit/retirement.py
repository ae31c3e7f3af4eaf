"""Retires scopes: takes away all that a scope holds, by a commit of its own that can be undone for a while.

A retirement is a segment without objects that replaces everything, the scope's state included. It is decided and
published like a sync, so that it cannot overwrite one that runs at the same time. Must not know: why a scope is
retired.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from s3dest_dagster.commit.commit_log import CommitLog, SeenHead
from s3dest_dagster.commit.head import Head
from s3dest_dagster.commit.publication import Clock, begin
from s3dest_dagster.commit.segment import Segment
from s3dest_dagster.commit.segment_builder import StagedSync, build_segment
from s3dest_dagster.commit.sync_commit import commit
from s3dest_dagster.errors import CommitError, PreconditionFailedError
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Sync, SyncMode

_CLOCK_TICKS = timedelta(seconds=2)
"""Servers report whole seconds, so that their clock may seem to go back by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeContent:
    """What a scope holds."""

    scope: Scope
    """The scope, with its stream's name as it is in the bucket."""
    objects: int
    """Number of live objects."""
    rows: int
    """Their rows, as far as they are counted."""
    uncounted: int = 0
    """Those of the objects that were adopted without being read."""
    bytes: int
    """Their size in bytes."""
    has_state: bool
    """Whether it has a state from which a source continues."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to retire."""
        return not self.objects and not self.has_state


@dataclass(frozen=True, slots=True, kw_only=True)
class RetiredScope:
    """A scope that is retired and can be brought back."""

    content: ScopeContent
    """What was retired."""
    until: datetime
    """When its objects may be deleted."""


def content_of(bucket: Bucket, destination: S3Destination, scope: Scope) -> ScopeContent:
    """What a scope holds now. The scope has its stream's name as it is in the bucket."""
    commit_log = CommitLog.of(bucket, destination.template, scope)
    return content_in(commit_log, commit_log.read_head().head)


def content_in(commit_log: CommitLog, head: Head) -> ScopeContent:
    """What a scope with this head holds."""
    segments = commit_log.live_segments(head)
    absorbed = [item for segment in segments for sync in segment.compaction.absorbs for item in sync.objects]
    return ScopeContent(
        scope=commit_log.scope,
        objects=len(absorbed) + sum(each.object_count for each in segments),
        rows=sum(item.rows for item in absorbed) + sum(each.rows for each in segments),
        uncounted=sum(
            not item.is_counted for each in segments if each.is_adoption for item in commit_log.lists.objects(each)
        ),
        bytes=sum(item.bytes for item in absorbed) + sum(each.bytes for each in segments),
        has_state=head.state_segment is not None,
    )


def retire(
    bucket: Bucket, destination: S3Destination, scope: Scope, sync: Sync, *, attempt: str, clock: Clock | None = None
) -> ScopeContent:
    """Takes away all that a scope holds, its state included. Returns what that was; nothing is written if it is empty.

    The objects stay for `retire_grace_s`, and `restore` brings them back until then. A later sync starts anew. A sync
    that was decided is published first, and a concurrent sync cannot be decided any more.

    Args:
        scope: The scope, with its stream's name as it is in the bucket.
        sync: The id and the time of this commit.
        attempt: Random text that makes the segment's name unique.
        clock: Returns the time. Default: the server's clock.

    Raises:
        SupersededError: Another sync was decided first. The scope is as that sync left it.
    """
    commit_log = CommitLog.of(bucket, destination.template, scope)
    clock = clock or commit_log.bucket.server_time
    seen = begin(commit_log, clock)
    content = content_in(commit_log, seen.head)
    if not content.is_empty:
        commit(commit_log, seen, _segment(commit_log, destination, seen.head, sync, attempt), clock)
    return content


def restore(
    bucket: Bucket, destination: S3Destination, scope: Scope, *, clock: Clock | None = None
) -> ScopeContent | None:
    """Undoes the retirement of a scope: its objects and its state are as before. Returns what it holds again.

    None if the scope is not retired.

    Raises:
        CommitError: The scope has landed since, its objects may be deleted by now, or another writer was faster.
    """
    commit_log = CommitLog.of(bucket, destination.template, scope)
    clock = clock or commit_log.bucket.server_time
    seen = begin(commit_log, clock)
    segment = _retirement(commit_log, seen.head)
    if segment is None:
        return None
    head = seen.head
    has_landed = len(head.segments) != 1 or head.newest != segment.name or head.adoptions
    if has_landed or head.state_segment is not None:
        raise _refusal(commit_log, "it has landed since, or was given a state. Retire that first")
    until = next(each.delete_after for each in seen.head.retired if each.segment == segment.name)
    # Nobody deletes the objects before this time, whichever head he has read.
    if clock() >= until - _CLOCK_TICKS:
        raise _refusal(commit_log, "its retire_grace_s is over, so that its objects may be deleted")
    restored = _put(commit_log, seen.head.restored(segment), seen)
    if clock() >= until - _CLOCK_TICKS:
        _put(commit_log, seen.head, restored)
        raise _refusal(commit_log, "its retire_grace_s ended at this moment, so that its objects may be deleted")
    return content_in(commit_log, restored.head)


def retired_scope(bucket: Bucket, destination: S3Destination, scope: Scope) -> RetiredScope | None:
    """What `restore` would bring back. None if the scope is not retired, or its objects are deleted."""
    commit_log = CommitLog.of(bucket, destination.template, scope)
    head = commit_log.read_head().head
    segment = _retirement(commit_log, head)
    if segment is None:
        return None
    until = next(each.delete_after for each in head.retired if each.segment == segment.name)
    return RetiredScope(content=content_in(commit_log, head.restored(segment)), until=until)


# ---------------------------------------------------------------------- steps


def _segment(commit_log: CommitLog, destination: S3Destination, head: Head, sync: Sync, attempt: str) -> Segment:
    """The retirement: a full refresh without records, which keeps the connector's own objects and remembers the head.

    It is published with the grace period of retirements.
    """
    staged = StagedSync.without_records(commit_log.scope.stream, SyncMode.FULL_REFRESH, sync, attempt, head)
    settings = replace(
        destination,
        on_empty_refresh="publish",
        publish_order="add_first",
        delete_grace_s=destination.retire_grace_s,
    )
    segment = build_segment(staged, settings, settings.template, commit_log, head)
    assert segment.replaced is not None, "a full refresh replaces the scope"
    own = commit_log.lists.live_keys(commit_log.live_segments(head))
    replaced = replace(
        segment.replaced, keys=tuple(key for key in segment.replaced.keys if key in own), head=head.before()
    )
    return replace(segment, kind="retirement", replaced=replaced)


def _retirement(commit_log: CommitLog, head: Head) -> Segment | None:
    """The newest retirement whose objects are still kept. None if there is none."""
    kept: Iterable[str] = (each.segment for each in reversed(head.retired))
    segments = (commit_log.read_segment(name) for name in kept)
    return next((segment for segment in segments if segment.kind == "retirement"), None)


def _put(commit_log: CommitLog, head: Head, seen: SeenHead) -> SeenHead:
    try:
        return commit_log.put_head(head, seen)
    except PreconditionFailedError as error:
        now = commit_log.read_head()
        if now.head == head.succeeding(seen.head):  # the answer of an earlier try was lost
            return now
        raise _refusal(commit_log, "another process has changed the scope at the same moment. Try it again") from error


def _refusal(commit_log: CommitLog, why: str) -> CommitError:
    return CommitError(
        f"The retirement of {commit_log.scope} was not undone: {why}. `s3dest ls` shows what it holds.",
        **commit_log.error_location,
    )
