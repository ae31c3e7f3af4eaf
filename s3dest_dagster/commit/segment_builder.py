"""The segment of a sync, from what was staged: what it replaces, what it removes, how its schema differs.

It reads the bucket and writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from importlib.metadata import version
from typing import Any

from s3dest_dagster.batch import State
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.schemas import paths
from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.compaction import compact
from s3dest_dagster.commit.manifest import (
    MAX_RETIRED,
    Counts,
    Head,
    ManifestObject,
    Retyped,
    SchemaChanges,
    Segment,
    live_keys,
)
from s3dest_dagster.commit.ownership import connector_keys
from s3dest_dagster.commit.retired import retired_keys
from s3dest_dagster.errors import CommitError
from s3dest_dagster.formats import Encoder
from s3dest_dagster.lineage import Descent, Lineage, descent
from s3dest_dagster.printable import amount
from s3dest_dagster.settings.destination import PublicationSettings, S3Destination
from s3dest_dagster.stream import Scope, Stream, StreamId, Sync, SyncMode


def schema_changes(before: Mapping[str, Any], now: Mapping[str, Any], stream: StreamId) -> SchemaChanges:
    """The differences of two JSON schemas of a stream, as differences of its columns; nested ones by dotted path."""
    old, new = _types(before, stream), _types(now, stream)
    return SchemaChanges(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        retyped=tuple(
            Retyped(name, old[name], kind) for name, kind in new.items() if name in old and old[name] != kind
        ),
    )


def _types(json_schema: Mapping[str, Any], stream: StreamId) -> dict[str, str]:
    return dict(paths(record_type(json_schema, stream.name, stream.namespace)))


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedSync:
    """Everything that a sync has sent and counted before it is decided, since its last checkpoint. `name` is that of
    its segment, `complete`, `continues`, `staged_since` and `content` are as there; `encoder` None: it had no
    record; `silent`: its source said nothing of it at all. `origin`: the state of all streams that the source went on
    from to reach `state`; None where nobody says."""

    name: str
    complete: bool
    continues: str | None
    stream: Stream
    sync: Sync
    objects: tuple[ManifestObject, ...]
    quarantine: ManifestObject | None
    next_part: int
    counts: Counts
    encoder: Encoder | None
    silent: bool = False
    state: State | None
    staged_since: datetime | None = None
    origin: Lineage | None = None
    content: str | None = None


def replaces_scope(settings: PublicationSettings, stream: Stream, scope: Scope) -> bool:
    """Whether a sync's objects take the place of what its scope holds."""
    again = scope.partition is not None and settings.on_rematerialize == "replace"
    return again or stream.sync_mode is SyncMode.FULL_REFRESH


def build_segment(staged: StagedSync, destination: S3Destination, commit_log: CommitLog, head: Head) -> Segment:
    """The segment of a staged sync. `head` is the one that the sync began with, or that its last checkpoint left.

    Raises CommitError for a full refresh without a record where the settings say that it fails.
    """
    segment = _receipt(staged, destination, commit_log, head)
    newest = head.newest if not segment.replaces and segment.uploads else None
    return compact(segment, head, commit_log.read_segment(newest) if newest is not None else None)


def _receipt(staged: StagedSync, destination: S3Destination, commit_log: CommitLog, head: Head) -> Segment:
    """The segment as far as it tells of its own sync."""
    scope, encoder, schema = commit_log.scope, staged.encoder, staged.stream.json_schema
    state = staged.state.state.decode() if staged.state is not None else None
    stands = descent(state, staged.origin) if state is not None else Descent()
    keeps_old = not staged.objects and _keeps_old(destination, staged.stream, scope)
    replaces = replaces_scope(destination, staged.stream, scope) and not keeps_old
    retired = _leaving(staged, destination, commit_log, head) if replaces else []
    if staged.silent and retired:
        raise _nothing_said(staged, scope, len(retired))
    recurring = set(destination.template.recurring(scope.stream, retired))
    unchanged = commit_log.etags_of(recurring)
    return Segment(
        name=staged.name,
        sync_id=staged.sync.id,
        complete=staged.complete,
        continues=staged.continues,
        path=commit_log.path,
        stream=scope.stream.name,
        namespace=scope.stream.namespace,
        partition=scope.partition,
        sync_mode=staged.stream.sync_mode.value,
        replaces=replaces,
        started_at=staged.sync.now,
        staged_since=staged.staged_since,
        objects=staged.objects,
        quarantine=staged.quarantine,
        removes=tuple(key for key in retired if key in unchanged or key not in recurring),
        removes_unchanged=unchanged,
        retires_with=_leaves_with(destination, head) if replaces else None,
        next_part=staged.next_part,
        counts=staged.counts,
        schema=encoder.schema_text if encoder else None,
        fingerprint=encoder.fingerprint if encoder else None,
        json_schema=json.dumps(schema) if schema is not None else None,
        schema_changes=_changes(staged, commit_log, head),
        format={"format_type": type(destination.format).__name__.removesuffix("Format"), **_plain(destination.format)},
        # The user metadata stands on each object.
        settings=_plain(destination, without=("format", "object_metadata")),
        state=state,
        state_number=stands.number,
        state_ancestors=stands.ancestors,
        library_version=version("s3dest-dagster"),
        content=staged.content,
    )


def _keeps_old(settings: PublicationSettings, stream: Stream, scope: Scope) -> bool:
    """What a full refresh without a record does to what the scope holds."""
    policy = settings.on_empty_refresh
    if stream.sync_mode is not SyncMode.FULL_REFRESH or policy == "publish":
        return False
    if policy == "fail":
        raise CommitError(
            f"The full refresh of {scope} read no record, and on_empty_refresh is 'fail'. What the scope held is "
            "untouched.",
            stream=str(scope.stream),
            partition=scope.partition,
            setting="on_empty_refresh",
        )
    return True


def _nothing_said(staged: StagedSync, scope: Scope, objects: int) -> CommitError:
    return CommitError(
        f"The source said nothing of {scope}: no record, no state, no status. This sync would delete "
        f"{amount(objects, 'object')}; what the scope holds is untouched. Look whether the source reads the stream. If "
        "it is empty there, say so: by --allow-empty of `s3dest write`, or by allow_empty of AirbyteSource.",
        stream=str(staged.stream.id),
        partition=scope.partition,
        setting="allow_empty",
    )


def _leaving(staged: StagedSync, destination: S3Destination, commit_log: CommitLog, head: Head) -> list[str]:
    """The keys that leave: the scope's own, and the connector's when an unpartitioned stream is refreshed."""
    old = live_keys(commit_log.live_segments(head))
    commit_log.check_own(old)
    if commit_log.scope.partition is None:
        old |= connector_keys(
            commit_log.bucket, destination.template, commit_log.scope, old | retired_keys(commit_log, head.retired)
        )
    return sorted(old - {each.key for each in staged.objects})


def _leaves_with(settings: PublicationSettings, head: Head) -> str | None:
    """The segment whose removed objects wait together with this one's: none, while the head can keep them apart."""
    together = settings.delete_grace_s and len(head.retired) >= MAX_RETIRED
    return head.retired[-1].segment if together else None


def _changes(staged: StagedSync, commit_log: CommitLog, head: Head) -> SchemaChanges | None:
    """How the columns differ from those of the scope's last sync that had records; None when they do not."""
    if staged.encoder is None or head.schema is None or head.schema.fingerprint == staged.encoder.fingerprint:
        return None
    before = commit_log.read_segment(head.schema.segment).json_schema
    assert before is not None, "a segment with a fingerprint has a schema"
    return schema_changes(json.loads(before), staged.stream.json_schema or {}, commit_log.scope.stream)


def _plain(settings: Any, without: Iterable[str] = ()) -> dict[str, Any]:
    """Settings as JSON values."""
    return {
        name: value.value if isinstance(value, Enum) else value
        for name, value in asdict(settings).items()
        if name not in without
    }
