"""What the landed data shows of a stream whose registry is lost: owner, template and columns.

All scopes are read, many side by side, and little is kept of each: a stream may have a hundred thousand. The result is
exact as far as live objects show it. What no live object has is forgotten: former columns and templates, and the key of
hashed fields. Must not know: what a landing does with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from s3dest_dagster.columns.merged_columns import WrittenColumns
from s3dest_dagster.commit.registry_document import UsedTemplate
from s3dest_dagster.commit.scopes import scope_at
from s3dest_dagster.commit.segment import Segment
from s3dest_dagster.commit.written_columns import all_written_columns
from s3dest_dagster.storage import Bucket, each_in_parallel

_Position = tuple[datetime, int]
"""When a sync began, and a number that tells syncs of the same moment apart."""


@dataclass(frozen=True, slots=True)
class ShownStream:
    """What the live segments of a stream show."""

    owner: str | None
    """The owner of the newest one."""
    template: UsedTemplate
    """The template of the newest one that has landed objects."""
    versions: tuple[WrittenColumns, ...]
    """The columns of the objects, oldest first. Those of many segments are listed at their first and last use."""


@dataclass(frozen=True, slots=True)
class _ShownSegment:
    started_at: datetime
    owner: str | None
    template: UsedTemplate
    has_objects: bool
    versions: tuple[WrittenColumns, ...]


def shown_stream(bucket: Bucket, root: str) -> tuple[ShownStream | None, bool]:
    """Reads all scopes of the stream with this root.

    Returns what they show, or None if no segment is live, and whether the stream has any scope.
    """
    found = each_in_parallel(partial(_shown_scope, bucket), bucket.list_directories(root))
    scopes = [segments for segments in found if segments is not None]
    return _summed_up(segment for segments in scopes for segment in segments), bool(scopes)


def _shown_scope(bucket: Bucket, root: str) -> list[_ShownSegment] | None:
    """The live segments of a scope, and the decided one. None if it has no head."""
    found = scope_at(bucket, root)
    return [_shown_segment(each) for each in found.segments()] if found is not None else None


def _shown_segment(segment: Segment) -> _ShownSegment:
    return _ShownSegment(
        started_at=segment.sync.started_at,
        owner=segment.owner,
        template=UsedTemplate.of_settings(segment.settings),
        has_objects=segment.has_records,
        versions=tuple(all_written_columns(segment)),
    )


def _summed_up(segments: Iterable[_ShownSegment]) -> ShownStream | None:
    first: dict[WrittenColumns, _Position] = {}
    last: dict[WrittenColumns, _Position] = {}
    newest: _ShownSegment | None = None
    newest_with_objects: _ShownSegment | None = None
    numbers = 0
    for segment in segments:
        if newest is None or segment.started_at >= newest.started_at:
            newest = segment
        if segment.has_objects and (
            newest_with_objects is None or segment.started_at >= newest_with_objects.started_at
        ):
            newest_with_objects = segment
        for written in segment.versions:
            numbers += 1
            at = (segment.started_at, numbers)
            first[written] = min(first.get(written, at), at)
            last[written] = max(last.get(written, at), at)
    if newest is None:
        return None
    return ShownStream(newest.owner, (newest_with_objects or newest).template, tuple(_in_order(first, last)))


def _in_order(*uses: dict[WrittenColumns, _Position]) -> Iterator[WrittenColumns]:
    """The columns by position, each once for each position."""
    positions = {(at, written) for positions in uses for written, at in positions.items()}
    yield from (written for _, written in sorted(positions, key=lambda each: each[0]))
