"""Reads, sets and clears the state from which a scope's next sync continues.

Setting a state commits a segment without records like any other segment, so a concurrent sync is never silently
overwritten. Must not know: what a state means.
"""

from __future__ import annotations

from dataclasses import replace

from s3dest_dagster.batch import KnownState, compact_json, state_id
from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.head import Head, ReachedState
from s3dest_dagster.commit.publication import Clock, begin
from s3dest_dagster.commit.segment import SEGMENTS, Segment
from s3dest_dagster.commit.segment_builder import StagedSync, build_segment
from s3dest_dagster.commit.sync_commit import commit
from s3dest_dagster.errors import CommitError, ManifestError, StorageError, SupersededError
from s3dest_dagster.keys import KeyTemplate
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Sync, SyncMode


def reached_state(bucket: Bucket, template: KeyTemplate, scope: Scope) -> ReachedState | None:
    """The source's state that the scope's published records reach. None if the source provided none."""
    commit_log = CommitLog.of(bucket, template, scope)
    return commit_log.reached_state(commit_log.read_head().head)


def text_of(bucket: Bucket, known: KnownState) -> str | None:
    """The text of a state that a lineage names. None if no segment holds it any longer."""
    try:
        found = bucket.get(known.segment_key)
        state = SEGMENTS.decode(found[0], known.segment_key).state if found is not None else None
    except ManifestError:
        return None
    return state.text if state is not None and state_id(state.text) == known.id else None


def change_state(
    bucket: Bucket,
    destination: S3Destination,
    scope: Scope,
    state: str | None,
    sync: Sync,
    *,
    attempt: str,
    clock: Clock | None = None,
) -> ReachedState | None:
    """Sets the state from which the scope's next sync continues. Returns the previous state.

    A sync that was decided is published first. Nothing is written if the scope already has this state. A concurrent
    sync that did not begin with this state cannot be decided any more.

    Args:
        bucket: The bucket.
        destination: The settings that the stream lands with.
        scope: The scope, with its stream's name as it is in the bucket. It need not have landed.
        state: The state. None clears it.
        sync: The id and the time of this commit.
        attempt: Random text that makes the segment's name unique.
        clock: Returns the time. Default: the server's clock.

    Raises:
        SupersededError: Another sync, which the error names, was decided first. The state is as that sync left it.
    """
    commit_log = CommitLog.of(bucket, destination.template, scope)
    clock = clock or commit_log.bucket.server_time
    seen = begin(commit_log, clock)
    before = commit_log.reached_state(seen.head)
    if _compact(state) == _compact(before.text if before is not None else None):
        return before
    try:
        commit(commit_log, seen, _segment(commit_log, destination, seen.head, state, sync, attempt), clock)
    except SupersededError:
        raise
    except (CommitError, StorageError) as error:
        error.add_note(f"Whether the state of {scope} was changed is not known: `s3dest state show` tells.")
        raise
    return before


def _compact(state: str | None) -> str | None:
    """The JSON without whitespace. Numbers keep their spelling."""
    return compact_json(state) if state is not None else None


def _segment(
    commit_log: CommitLog, destination: S3Destination, head: Head, state: str | None, sync: Sync, attempt: str
) -> Segment:
    staged = StagedSync.without_records(commit_log.scope.stream, SyncMode.APPEND, sync, attempt, head, state)
    return replace(
        build_segment(staged, destination, destination.template, commit_log, head), clears_state=state is None
    )
