"""How one segment comes to stand for many, so that heads stay small and readers ask for few.

A new segment takes the place of the youngest one and carries what that told of its syncs, until a segment is full;
then it stands beside it. Segments that stand side by side are folded into the next: named by it instead of by the head,
level by level. All of it is known from the head and its youngest segment. Values in, values out.
"""

from __future__ import annotations

from dataclasses import replace

from s3dest_dagster.commit.manifest import Head, Segment

FULL_SEGMENT = 16
"""Objects that a segment tells of before a new one no longer takes its place."""
FULL_LEVEL = 4
"""Segments of one level that a head names side by side before the next folds them."""


def compact(segment: Segment, head: Head, newest: Segment | None) -> Segment:
    """The segment of a sync, made to stand where it belongs; as it is when nothing came before it, or stays.

    `newest` is the youngest live segment of the head, None where there is none.
    """
    if newest is None or segment.replaces or not segment.uploads:
        return segment
    if _leaves_room(newest) and _reads_alike(newest, segment):
        absorbs = tuple(each for each in newest.syncs if each.objects or each.quarantine)
        if absorbs:
            return replace(segment, absorbs=absorbs, compacts=newest.compacts, level=newest.level)
    level = _level_with_room(head)
    compacts = tuple(name for names in reversed(head.segments[:level]) for name in names)
    return replace(segment, compacts=compacts, level=level)


def _leaves_room(segment: Segment) -> bool:
    return sum(len(each.objects) for each in segment.syncs) < FULL_SEGMENT


def _reads_alike(one: Segment, other: Segment) -> bool:
    """Whether the objects of both are read by one format and schema."""
    return one.format == other.format and one.json_schema == other.json_schema


def _level_with_room(head: Head) -> int:
    levels = (number for number, names in enumerate(head.segments) if len(names) < FULL_LEVEL)
    return next(levels, len(head.segments))
