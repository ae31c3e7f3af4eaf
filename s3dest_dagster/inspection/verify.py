"""Compares the bucket with the manifests: whether everything exists, and is what was landed.

It reads and changes nothing. It must not know who asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from isal.isal_zlib import crc32

from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.key_owners import unowned_objects
from s3dest_dagster.commit.landed_objects import LandedObject
from s3dest_dagster.commit.object_lists import ObjectLists
from s3dest_dagster.commit.segment import Counts, SchemaChanges, Segment
from s3dest_dagster.commit.written_columns import written_columns
from s3dest_dagster.errors import CommitError
from s3dest_dagster.formats import read_table
from s3dest_dagster.inspection.read import format_of
from s3dest_dagster.keys import KeyTemplate, keys_of_connector
from s3dest_dagster.printable import amount
from s3dest_dagster.settings.connection import is_aws
from s3dest_dagster.settings.destination import SYNC_METADATA
from s3dest_dagster.storage import Bucket, crc32_text, each_in_parallel
from s3dest_dagster.stream import Scope, StreamId

_OF_PARTS = re.compile(r"[0-9a-f]{32}-\d+")
_RANGE_BYTES = 8 << 20
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of comparing a scope with its bucket."""

    scope: Scope
    objects: int
    """Objects that the manifest lists."""
    rows: int
    """Rows of these objects, by the manifest."""
    problems: tuple[str, ...]
    """A sentence for each difference."""
    uncompared: int = 0
    """Objects whose content could not be compared, because their server has its own ETag rule or encrypts them."""
    uncounted: int = 0
    """Objects that were adopted without being read, so that `rows` lacks their records."""


@dataclass(frozen=True, slots=True)
class LastSync:
    """A scope's last sync, including its checkpoints."""

    scope: Scope
    counts: Counts
    problem: str
    """A sentence if the counts do not add up, otherwise empty."""
    started_at: datetime
    schema_changes: SchemaChanges | None
    """How its columns differ from those of the previous sync. None if they do not differ."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """An object of the manifest."""

    item: LandedObject
    name: str
    """The text that must be in the object's metadata: the name of its segment, or the mark of its sync."""
    segment: Segment | None
    """The segment that says how to read it. None for quarantined lines."""


@dataclass(frozen=True, slots=True)
class _Comparison:
    """The result of comparing an object with its entry, without reading it."""

    problem: str = ""
    etag: str = "same"
    """`same`; `opaque` if it cannot be compared; `unlike` if it differs, which the server's own rule may explain."""


def verify(bucket: Bucket, template: KeyTemplate, scope: Scope, *, deep: bool = False) -> Verified:
    """Compares every live object with the scope's manifest: its presence, size and ETag. Also compares the counts of
    every live segment with each other. If another sync is published in the meantime, it starts again.

    Args:
        bucket: The bucket.
        template: The template of the keys, as `destination.template`.
        scope: The scope, with its stream's name as it is in the bucket.
        deep: Whether to also read every object, one after another. Its bytes must have the checksum with which they
            were landed, and the format's reader must find as many rows as the manifest says.

    Raises:
        CommitError: Other syncs were published during every attempt.

    Example:
        assert verify(bucket, destination.template, Scope(stream.id), deep=True).problems == ()
    """
    commit_log = CommitLog.of(bucket, template, scope)
    for _ in range(_ATTEMPTS):
        seen = commit_log.read_head()
        verified = _verified(commit_log, commit_log.visible_segments(seen.head), deep=deep)
        if not verified.problems or commit_log.read_head().etag == seen.etag:
            return verified
    raise CommitError(
        f"{scope} could not be verified: other syncs were published meanwhile, {_ATTEMPTS} times. Try it again.",
        stream=str(scope.stream),
        partition=scope.partition,
    )


def last_sync(bucket: Bucket, template: KeyTemplate, scope: Scope) -> LastSync | None:
    """The last sync of a scope. None if no sync was published."""
    commit_log = CommitLog.of(bucket, template, scope)
    syncs = commit_log.read_head().head.recent_syncs
    if not syncs:
        return None
    segments = commit_log.segments_of_sync(syncs[-1].segment)
    return LastSync(
        scope,
        sum((each.counts for each in segments), Counts()),
        next(filter(None, map(_count_problem, segments)), ""),
        segments[-1].sync.started_at,
        next((each.schema.changes for each in reversed(segments) if each.schema.changes), None),
    )


@dataclass(frozen=True, slots=True)
class StrayKeys:
    """The keys of objects that look like a stream's but are in no manifest."""

    foreign: frozenset[str] = frozenset()
    """Those that match the stream's template: objects of the connector, or foreign ones."""
    unrecognised: frozenset[str] = frozenset()
    """Those that only the connector makes, such as `….jsonl.gz-1`. A full refresh leaves them."""


def stray_keys(bucket: Bucket, template: KeyTemplate, stream: StreamId) -> StrayKeys:
    """The keys of objects that look like a stream's but are in no manifest.

    There are none if the template does not name the stream. Lists everything under the stream's prefix.
    """
    if not template.names_stream:
        return StrayKeys()
    exact, wide = template.matcher(stream), keys_of_connector(template, stream)
    found = set[str]()
    for prefix in wide.prefixes:
        found |= unowned_objects(bucket, prefix, lambda key: bool(exact.fullmatch(key)) or wide.matches(key)).keys()
    foreign = frozenset(key for key in found if exact.fullmatch(key))
    return StrayKeys(foreign, frozenset(found) - foreign)


def _verified(commit_log: CommitLog, segments: Sequence[Segment], *, deep: bool) -> Verified:
    bucket, scope = commit_log.bucket, commit_log.scope
    problems = [problem for segment in segments if (problem := _count_problem(segment))]
    unlike: list[_Entry] = []
    objects = rows = uncompared = uncounted = 0
    follows_the_rule = is_aws(bucket.endpoint)
    compared = each_in_parallel(lambda entry: (entry, _compare(bucket, entry)), _entries(commit_log.lists, segments))
    for entry, comparison in compared:
        if entry.segment is not None:
            objects, rows = objects + 1, rows + entry.item.rows
            uncounted += not entry.item.is_counted
        if not comparison.problem and comparison.etag == "unlike":
            unlike.append(entry)
            continue
        follows_the_rule |= not comparison.problem and comparison.etag == "same"
        if problem := comparison.problem or (_read_problem(bucket, entry) if deep else ""):
            problems.append(problem)
        elif comparison.etag != "same":
            uncompared += 1
    # If a server follows S3's rule for the ETag of one object, it does so for all. An object with another ETag was
    # rewritten.
    for entry in unlike:
        if follows_the_rule:
            uri = bucket.uri(entry.item.key)
            problems.append(f"{uri} was written anew: its ETag is not that of the upload that landed it")
        elif deep and (problem := _read_problem(bucket, entry)):
            problems.append(problem)
        else:
            uncompared += 1
    return Verified(scope, objects, rows, tuple(problems), uncompared, uncounted)


def _entries(lists: ObjectLists, segments: Sequence[Segment]) -> Iterator[_Entry]:
    for segment, sync, item in lists.landed(segments):
        yield _Entry(item, sync.object_mark, segment)
    for sync, item in lists.landed_quarantines(segments):
        yield _Entry(item, sync.object_mark, None)


def _compare(bucket: Bucket, entry: _Entry) -> _Comparison:
    item, uri = entry.item, bucket.uri(entry.item.key)
    found = bucket.head(item.key)
    if found is None:
        return _Comparison(f"{uri} is missing")
    if found.size != item.bytes:
        return _Comparison(f"{uri} has {amount(found.size, 'byte')}; its manifest says {item.bytes:,}")
    if (segment := found.metadata.get(SYNC_METADATA, entry.name)) != entry.name:
        return _Comparison(
            f"{uri} was written anew: it says that it is of segment {segment}, and its manifest {entry.name}"
        )
    if found.etag == item.etag:
        return _Comparison()
    if not item.etag or found.has_opaque_etag:
        return _Comparison(etag="opaque")
    if _OF_PARTS.fullmatch(found.etag):
        return _Comparison(f"{uri} has other content: its ETag is {found.etag}, and by its manifest {item.etag}")
    return _Comparison(etag="unlike")


def _count_problem(segment: Segment) -> str:
    counts, kept = segment.counts, segment.quarantined_rows
    if counts.add_up(segment.rows, kept):
        return ""
    return (
        f"the counts of sync {segment.sync_id} do not add up: {amount(counts.read, 'record')} read, "
        f"{counts.landed:,} landed, {counts.quarantined:,} quarantined; its objects have "
        f"{amount(segment.rows, 'row')}, and its quarantine {kept:,}"
    )


def _read_problem(bucket: Bucket, entry: _Entry) -> str:
    """What is wrong with an object's content. Empty if nothing is wrong."""
    item, uri = entry.item, bucket.uri(entry.item.key)
    damaged = f"{uri} is damaged: its bytes do not have the checksum with which they were landed"
    if item.file is not None:
        return "" if _checksum(bucket, item) == item.crc32 else damaged
    found = bucket.get(item.key)
    if found is None:
        return f"{uri} is missing"
    content = found[0]
    if item.crc32 and crc32_text(crc32(content)) != item.crc32:
        return damaged
    try:
        rows = _rows(entry, content)
    # Every reader raises its own errors.
    except Exception as error:
        return f"{uri} cannot be read: {type(error).__name__}: {error}"
    if item.is_counted and rows != item.rows:
        return f"{uri} has {amount(rows, 'row')}; its manifest says {item.rows:,}"
    return ""


def _checksum(bucket: Bucket, item: LandedObject) -> str:
    """The CRC-32 of an object that may be larger than memory."""
    checksum = crc32(b"")
    for start in range(0, item.bytes, _RANGE_BYTES):
        checksum = crc32(bucket.get_range(item.key, start, min(start + _RANGE_BYTES, item.bytes)), checksum)
    return crc32_text(checksum)


def _rows(entry: _Entry, content: bytes) -> int:
    if entry.segment is None:
        return content.count(b"\n")
    written = written_columns(entry.segment, entry.item.key)
    assert written is not None, "a segment with objects has columns"
    return len(read_table(format_of(entry.segment), written.record, content))
