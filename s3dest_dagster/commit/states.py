"""The state that a scope's next sync goes on from, set or forgotten by hand: a segment without records, committed like
any other, so that no sync that runs meanwhile is overwritten without a word.

It must not know what a state means.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import msgspec

from s3dest_dagster.batch import State
from s3dest_dagster.commit.commit_log import Clock, CommitLog
from s3dest_dagster.commit.manifest import Counts, Head, ReachedState, Segment, from_json
from s3dest_dagster.commit.manifest_keys import segment_name
from s3dest_dagster.commit.segment_builder import StagedSync, build_segment
from s3dest_dagster.errors import ManifestError, StorageError, SupersededError
from s3dest_dagster.keys import KeyTemplate, scope_root
from s3dest_dagster.lineage import KnownState, state_id
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, Sync, SyncMode


def reached_state(bucket: Bucket, template: KeyTemplate, scope: Scope) -> ReachedState | None:
    """The source's state that the scope's published records reach; None when it gave none."""
    commit_log = CommitLog(bucket, scope_root(template.literal_root, scope), scope)
    return commit_log.reached_state(commit_log.read_head().head)


def text_of(bucket: Bucket, known: KnownState) -> str | None:
    """The text of a state that a lineage names; None where no segment holds it any more."""
    try:
        found = bucket.get(known.segment)
        text = from_json(Segment, found[0], known.segment).state if found is not None else None
    except ManifestError:
        return None
    return text if text is not None and state_id(text) == known.id else None


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
    """Makes `state` (None: none) what the scope's next sync goes on from, and gives what it was before.

    `scope` with its stream's name as it stands in the bucket; it need not have landed. A sync that was decided is
    published first. Nothing is written where the scope has that state already. A sync that runs meanwhile and did not
    begin with this state loses its decision; where it wins, SupersededError names it and the state is as it left it.
    """
    commit_log = CommitLog(bucket, scope_root(destination.template.literal_root, scope), scope)
    clock = clock or commit_log.bucket.server_time
    seen = commit_log.begin(clock)
    before = commit_log.reached_state(seen.head)
    if _compact(state) == _compact(before.text if before is not None else None):
        return before
    segment = _segment(commit_log, destination, seen.head, state, sync, attempt)
    try:
        commit_log.publish(commit_log.decide(seen, segment), segment, clock)
    except SupersededError:
        with suppress(StorageError):
            commit_log.abandon(segment)
        raise
    except StorageError as error:
        error.add_note(f"Whether the state of {scope} was changed is not known: `s3dest state show` tells.")
        raise
    return before


def _compact(state: str | None) -> str | None:
    """The JSON without blanks, every number as it was written."""
    return msgspec.json.format(state, indent=-1) if state is not None else None


def _segment(
    commit_log: CommitLog, destination: S3Destination, head: Head, state: str | None, sync: Sync, attempt: str
) -> Segment:
    scope = commit_log.scope
    staged = StagedSync(
        name=segment_name(sync.id, attempt),
        complete=True,
        continues=None,
        stream=Stream(name=scope.stream.name, namespace=scope.stream.namespace, sync_mode=SyncMode.APPEND),
        sync=sync,
        objects=(),
        quarantine=None,
        next_part=head.next_part,
        counts=Counts(),
        encoder=None,
        state=State(scope.stream, state.encode(), b"") if state is not None else None,
    )
    return replace(build_segment(staged, destination, commit_log, head), forgets_state=state is None)
