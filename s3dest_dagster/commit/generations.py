"""Generations: which of a scope's syncs leave when another one is published.

The rule: a sync names its own generation and the minimum. When it is published, every live sync whose generation is
below the minimum leaves. So a minimum of 0 appends, a sync of a live generation adds to it, and a repeated sync of a
generation keeps what its first attempt has published. A sync without a generation counts as one of generation 0, and
treats what is there as its sync mode says.

Programs that know no generations write the same ids as a platform's first sync. What the bucket holds tells the two
apart (`with_certain_generation`).
Must not know: S3, how objects are deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from s3dest_dagster.commit.landed_objects import SegmentObject
from s3dest_dagster.commit.segment import Counts, Segment
from s3dest_dagster.stream import Generation, Scope, Stream

GENERATION_METADATA = "ab-generation-id"
"""The name, in an object's metadata, of its generation. The connector uses it, too."""
ObjectsOf = Callable[[Segment], Iterator[SegmentObject]]
"""Yields the objects of a segment, those of its lists included."""


def with_certain_generation(stream: Stream, newest: Callable[[], Segment | None]) -> Stream:
    """The stream with its generation, or without it if nothing shows that its ids are more than a program's constant.

    Ambiguous ids count if the newest sync has a generation, and neither its generation nor the platform's id of it is
    above theirs: only a platform numbers syncs, and it never goes back.

    Args:
        stream: The stream of a catalog.
        newest: Reads the newest live segment of its scope. None if there is none.
    """
    generation = stream.generation
    if generation is None or not generation.is_ambiguous:
        return stream
    segment = newest()
    is_certain = segment is not None and _may_precede(segment, generation)
    return replace(stream, generation=replace(generation, is_ambiguous=False) if is_certain else None)


def _may_precede(segment: Segment, generation: Generation) -> bool:
    """Whether the platform that landed the segment may give this generation to a later sync."""
    landed = segment.sync.generation_id
    if landed is None or landed > generation.id:
        return False
    return (segment.sync.source_sync_id or 0) <= (generation.sync_id or 0)


def minimum_of(stream: Stream, scope: Scope) -> int | None:
    """The generation below which the scope's live syncs leave, or None if the sync mode decides.

    The sync mode decides without a generation, and for partitions, since these are landed again as a whole.
    """
    if stream.generation is None or scope.partition is not None:
        return None
    return stream.generation.minimum


def may_remove(stream: Stream, scope: Scope) -> bool:
    """Whether live syncs may leave because of the rule. Then the sync is published only at its end, as a whole."""
    return bool(minimum_of(stream, scope))


def generation_of(segment: Segment) -> int:
    """The generation of a segment's objects, and of all that it absorbs. Adopted objects have each their own."""
    return segment.sync.generation_id or 0


def generation_in(metadata: Mapping[str, str]) -> int:
    """The generation of an object that no sync of ours has landed, by its metadata. 0 if they name none."""
    text = metadata.get(GENERATION_METADATA, "")
    return int(text) if text.isdecimal() else 0


def staying(segments: Iterable[Segment], minimum: int, objects_of: ObjectsOf) -> list[Segment]:
    """The live segments that stay when a sync with this minimum is published: of an adoption, with the objects that
    stay."""
    parts = (_from(each, minimum, objects_of) for each in segments)
    return [each for each in parts if each is not None]


def live(segments: Sequence[Segment], objects_of: ObjectsOf) -> list[Segment]:
    """The segments that are live, out of those that a head names, oldest first: of an adoption, with its live objects.

    A segment whose older generations have left says so, because the head still names those among others. Adoptions
    come first, whenever they were made, so the times say which segments are later.
    """
    found: list[Segment] = []
    lowest = 0
    for segment in reversed(segments):
        part = _from(segment, _lowest_after(segment, segments) if segment.is_adoption else lowest, objects_of)
        if part is not None:
            found.append(part)
        lowest = max(lowest, segment.compaction.lowest_generation)
    return found[::-1]


def _lowest_after(adoption: Segment, segments: Iterable[Segment]) -> int:
    """The lowest generation that later segments have left."""
    made_at = adoption.sync.started_at
    return max((each.compaction.lowest_generation for each in segments if each.sync.started_at > made_at), default=0)


def _from(segment: Segment, minimum: int, objects_of: ObjectsOf) -> Segment | None:
    """The part of a segment whose generation is not below the minimum. None if there is none."""
    if not minimum:
        return segment
    if not segment.is_adoption:
        return segment if generation_of(segment) >= minimum else None
    objects = tuple(each for each in objects_of(segment) if (each.generation_id or 0) >= minimum)
    rows = sum(each.rows for each in objects)
    counts = Counts(read=rows, landed=rows)
    return replace(segment, objects=objects, object_lists=(), counts=counts) if objects else None


def metadata_of(stream: Stream) -> dict[str, str]:
    """The metadata that the stream's objects have because of its generation."""
    return {GENERATION_METADATA: str(stream.generation.id)} if stream.generation is not None else {}
