"""Which syncs and segments a new segment stands for, so that heads stay small however many syncs a scope has had.

Values only. Must not know: S3.
"""

from __future__ import annotations

from dataclasses import replace

from s3dest_dagster.commit.head import Head
from s3dest_dagster.commit.segment import Compaction, Segment

FULL_SEGMENT = 16
"""Objects that a segment lists before the next segment is placed next to it instead of absorbing it."""
FULL_LEVEL = 4
"""Segments of one level that a head names before the next segment compacts them."""


def compaction(segment: Segment, head: Head, newest: Segment) -> Compaction:
    """Determines which syncs and segments a segment stands for, so that heads stay small and readers read few segments.

    It absorbs the newest segment (it lists that segment's syncs and replaces it) until a segment is full. Then it is
    placed next to the newest segment. When a level is full, the next segment compacts the level's segments: it names
    them instead of the head. All of this follows from the head and its newest segment. A segment absorbs only syncs of
    its own generation, so that generations leave by whole segments.

    Args:
        segment: A segment that adds objects to a scope.
        head: The head before it.
        newest: The head's newest segment.
    """
    minimum = (segment.sync.minimum_generation_id or 0) if segment.replaced is not None else 0
    syncs = (*newest.compaction.absorbs, newest.own_sync)
    has_room = not newest.object_lists and sum(len(sync.objects) for sync in syncs) < FULL_SEGMENT
    if has_room and _same_columns(newest, segment) and newest.sync.generation_id == segment.sync.generation_id:
        absorbs = tuple(sync for sync in syncs if sync.objects or sync.quarantines)
        if absorbs:
            lowest = max(newest.compaction.lowest_generation, minimum)
            return replace(newest.compaction, absorbs=absorbs, lowest_generation=lowest)
    levels = (level for level, names in enumerate(head.segments) if len(names) < FULL_LEVEL)
    level = next(levels, len(head.segments))
    compacts = tuple(name for names in reversed(head.segments[:level]) for name in names)
    return Compaction(level=level, compacts=compacts, lowest_generation=minimum)


def _same_columns(one: Segment, other: Segment) -> bool:
    """Whether all objects of both have the same format, columns and envelope."""
    if one.format != other.format or one.schema.earlier or other.schema.earlier:
        return False
    if one.schema.envelope != other.schema.envelope:
        return False
    if one.schema.columns is None or other.schema.columns is None:
        return one.schema.json_schema == other.schema.json_schema
    return one.schema.columns == other.schema.columns
