"""Finishes what an interrupted sync has decided.

It must not change what a scope holds in any other way.
"""

from __future__ import annotations

from dataclasses import dataclass

from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.documents import sync_of
from s3dest_dagster.commit.publication import Clock, finish
from s3dest_dagster.commit.sweep import release_scope
from s3dest_dagster.errors import CommitError, StorageError
from s3dest_dagster.keys import KeyTemplate, manifest_root, scope_root
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of a scope's decided sync."""

    scope: Scope
    sync_id: str | None
    """The sync that was decided and not published; None if there was none."""
    ok: bool
    """False if it was rolled back, or could not be finished."""
    message: str = ""
    """Why, if not `ok`."""


def recover(bucket: Bucket, template: KeyTemplate, scope: Scope, *, clock: Clock | None = None) -> Recovered:
    """Finishes the scope's decided sync, or rolls it back if its uploads have vanished. Then deletes the replaced
    objects whose `delete_grace_s` is over.

    Args:
        scope: The scope, with its stream's name as it is in the bucket.
        clock: Gives the current time with a time zone. Default: the server's clock.
    """
    clock = clock or bucket.with_root(manifest_root(template.literal_root)).server_time
    commit_log = CommitLog(bucket, scope_root(template.literal_root, scope), scope)
    pending = None
    try:
        seen = commit_log.read_head()
        pending = sync_of(seen.head.pending_segment) if seen.head.pending_segment is not None else None
        release_scope(commit_log, finish(commit_log, seen, clock), clock())
    except (CommitError, StorageError) as error:
        return Recovered(scope, pending, False, error.message)
    return Recovered(scope, pending, True)
