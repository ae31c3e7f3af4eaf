"""Deletes segments that nothing names any more, so that what is kept of a scope does not grow with its syncs for ever.

Which segments a head needs is said here. Of all others, those are deleted whose sync is published and forgotten by the
head, that an earlier sweep has found unused `segment_grace_s` ago or longer, and from whose state no other descends:
a reader of an older head has read its segments by then. Must not know: S3's client, when a sweep is due.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from s3dest_dagster.batch import is_of_one_stream
from s3dest_dagster.commit.commit_log import CommitLog, SeenHead
from s3dest_dagster.commit.documents import (
    FORMAT_VERSION,
    DocumentKind,
    ScopeLocation,
    registry_key,
    segment_key,
    sync_mark_key,
    sync_of,
)
from s3dest_dagster.commit.head import Head
from s3dest_dagster.commit.registry_document import REGISTRIES
from s3dest_dagster.commit.segment import Segment
from s3dest_dagster.commit.state_lineages import StateLineages
from s3dest_dagster.errors import PreconditionFailedError
from s3dest_dagster.storage import Bucket, in_parallel

_SUFFIX = ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusedSegments:
    """The segments of a scope that sweeps have found unused. It is only a note: without it, the time begins anew."""

    format_version: int = FORMAT_VERSION
    """Version of this format. A reader refuses a newer one."""
    location: ScopeLocation
    """The scope that the note belongs to, and the note's location. A reader refuses it anywhere else."""
    since: Mapping[str, datetime] = field(default_factory=dict)
    """When each segment was first found unused, by its name."""


UNUSED_SEGMENTS = DocumentKind(UnusedSegments, cure="Delete it: the next sweep writes it anew.")


def unused_key(root: str) -> str:
    """Key of the note on a scope's unused segments."""
    return f"{root}unused.json"


def needed_segments(commit_log: CommitLog, head: Head) -> dict[str, Segment]:
    """All segments that a head needs, by name: for readers, for the next sync, for a repeated sync, and to undo a
    retirement."""
    needed = {each.name: each for each in commit_log.named_segments(head)}
    retired = commit_log.retired_segments(head.retired)
    needed |= {each.name: each for each in retired}
    named = [head.pending_segment, head.state_segment]
    named.append(head.latest_schema.segment if head.latest_schema is not None else None)
    for before in (each.replaced.head for each in retired if each.replaced is not None):
        if before is not None:
            restored = Head(location=head.location, segments=before.segments, adoptions=before.adoptions)
            needed |= {each.name: each for each in commit_log.named_segments(restored)}
            named += [before.state_segment, before.schema_segment]
    wanted = {name for name in named if name is not None and name not in needed}
    needed |= {each.name: each for each in in_parallel(commit_log.read_segment, wanted)}
    syncs = [each.segment for each in head.recent_syncs if each.segment not in needed or not each.complete]
    for chain in in_parallel(commit_log.remaining_segments_of_sync, syncs):
        needed |= {each.name: each for each in chain}
    return needed


def may_collect(bucket: Bucket, root: str) -> bool:
    """Whether no transfer puts segments under the names of those that the stream with this root has, or had.

    False while a transfer lasts, after the stream has given its content to another name, which may give it back, and if
    its registry is lost, so that this is not known.
    """
    found = REGISTRIES.read(bucket, root, registry_key(root))
    return found is not None and not (found[0].recreated or found[0].transfer or found[0].given_to)


def collect_segments(
    commit_log: CommitLog, seen: SeenHead, now: datetime, grace: timedelta, lineages: StateLineages
) -> int:
    """Deletes the scope's segments that have been unused for this long. Returns their number.

    A scope that is being published, or that had few syncs, has nothing to collect, and costs no request. Two kinds of
    segments stay: one whose sync is not known to be published, since its writer may be about to decide it, and one
    with a state of all streams of a source, as long as another state descends from it.

    Call it only if `may_collect`.

    Args:
        commit_log: The scope's commit log.
        seen: The scope's head.
        now: The server's time.
        grace: How long a segment stays after it was found unused.
        lineages: The states of all streams. They are read only if an unused segment has a state that streams share.
    """
    head, root, bucket = seen.head, commit_log.root, commit_log.bucket
    if head.pending_segment is not None or not head.may_have_forgotten:
        return 0
    # The marks are listed before the segments: a sync that is forgotten in between is collected later.
    marks = {each.key for each in bucket.list_objects(f"{root}syncs/")}
    prefix = segment_key(root, "").removesuffix(_SUFFIX)
    listed = (each.key.removeprefix(prefix).removesuffix(_SUFFIX) for each in bucket.list_objects(prefix))
    forgotten = {name for name in listed if sync_mark_key(root, sync_of(name)) in marks}
    unused = forgotten.difference(needed_segments(commit_log, head)) if forgotten else set()
    note = UNUSED_SEGMENTS.read(bucket, root, unused_key(root))
    since = note[0].since if note is not None else {}
    due = [name for name in sorted(unused) if name in since and since[name] + grace <= now]
    collected = _without_descendants(commit_log, due, lineages, now)
    if commit_log.read_head().etag != seen.etag:
        return 0
    bucket.delete(segment_key(root, name) for name in collected)
    _keep_note(commit_log, note, {name: since.get(name, now) for name in sorted(unused.difference(collected))})
    return len(collected)


def _without_descendants(
    commit_log: CommitLog, names: Sequence[str], lineages: StateLineages, now: datetime
) -> list[str]:
    """Those of these segments from whose state no other state descends."""
    found = [each for each in in_parallel(commit_log.find_segment, names) if each is not None]
    shared = {each.name for each in found if each.state is not None and not is_of_one_stream(each.state.text)}
    ancestors = lineages.segment_keys(now) if shared else frozenset()
    if ancestors is None:
        return [each.name for each in found if each.name not in shared]
    return [each.name for each in found if segment_key(commit_log.root, each.name) not in ancestors]


def _keep_note(commit_log: CommitLog, before: tuple[UnusedSegments, str] | None, since: Mapping[str, datetime]) -> None:
    """Puts the note, unless it stays the same or another sweep is faster."""
    if dict(before[0].since if before is not None else {}) == dict(since):
        return
    note = UNUSED_SEGMENTS.encode(UnusedSegments(location=commit_log.location, since=since))
    etag = before[1] if before is not None else None
    try:
        commit_log.bucket.put(unused_key(commit_log.root), note, if_absent=etag is None, if_match=etag)
    except PreconditionFailedError:
        return
