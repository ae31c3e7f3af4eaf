"""Work on scopes that have landed: finish interrupted syncs, tell the states that they reached.

It must not change what a scope holds, but for finishing what was decided.
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
    """What became of a scope's decided sync: `sync_id` None when there was none; `message` when it was rolled back."""

    scope: Scope
    sync_id: str | None
    ok: bool
    message: str = ""


def recover(bucket: Bucket, template: KeyTemplate, scope: Scope, *, clock: Clock | None = None) -> Recovered:
    """Finishes the scope's decided sync, or rolls it back if its uploads have vanished; then deletes the replaced
    objects whose time is over, by the server's clock where none is given."""
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
