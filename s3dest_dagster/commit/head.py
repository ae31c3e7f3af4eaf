"""The head of a scope: the only document that changes, and how each step of the commit changes it.

Values only. Must not know: S3.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from s3dest_dagster.batch import Lineage
from s3dest_dagster.commit.documents import FORMAT_VERSION, VERSION_WITH_ADOPTIONS, DocumentKind, ScopeLocation
from s3dest_dagster.commit.segment import ReplacedHead, Segment

MAX_RETIRED = 16
"""Generations of retired objects that a head lists one by one. Newer ones are deleted together with the last."""
REMEMBERED_SYNCS = 20
"""Syncs that a head remembers, so that a retry finds what was already done. Older syncs have marks."""


@dataclass(frozen=True, slots=True)
class PublishedSync:
    """A published sync, as the head remembers it."""

    id: str
    """Id of the sync."""
    complete: bool
    """False: a checkpoint was published, after which the sync continued or broke off."""
    segment: str
    """Name of its last segment."""


@dataclass(frozen=True, slots=True)
class LatestSchema:
    """The newest schema of a scope."""

    fingerprint: str
    """SHA-256 of the schema."""
    segment: str
    """Name of the segment that holds it."""


@dataclass(frozen=True, slots=True)
class RetiredObjects:
    """Replaced objects that are kept for a while for readers of the previous version."""

    segment: str
    """Name of the segment that replaced them. It is the last of a chain of segments that `retired_with` links."""
    delete_after: datetime
    """When they may be deleted."""


@dataclass(frozen=True, slots=True)
class ReachedState:
    """The state of the source that a scope's published records reach."""

    text: str
    """The state as the source provided it."""
    at: datetime
    """When the sync that reached it began."""
    complete: bool
    """False: the scope's last sync broke off after a checkpoint, and the next read continues in the middle of it."""
    lineage: Lineage
    """The states that it descends from, with itself as the last entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The only document of a scope that changes."""

    format_version: int = FORMAT_VERSION
    """Version of this format. A reader refuses a newer one."""
    location: ScopeLocation
    """The scope that the head belongs to, and the head's location. A reader refuses it anywhere else."""
    sequence_number: int = 0
    """Grows with every put of the head. No head equals an earlier one, so the condition of a delayed put is never
    met."""
    segments: tuple[tuple[str, ...], ...] = ()
    """Names of the live segments, level by level. A segment is older than all segments of the levels before its own."""
    adoptions: tuple[str, ...] = ()
    """Names of the live segments with adopted objects, oldest first. They are older than all others, and nothing is
    merged with them."""
    next_part_number: int = 0
    """The lowest part number that was never used."""
    latest_sync_start: datetime | None = None
    """When the latest of its syncs began. A sync that does not begin after this time could use the same keys again."""
    recent_syncs: tuple[PublishedSync, ...] = ()
    """The last 20 syncs, oldest first. Older syncs have marks."""
    pending_segment: str | None = None
    """Name of the segment that is decided but not yet published. No other field includes it yet."""
    state_segment: str | None = None
    """Name of the segment with the newest state."""
    latest_schema: LatestSchema | None = None
    """The newest schema."""
    retired: tuple[RetiredObjects, ...] = ()
    """Replaced objects that are kept for a while, oldest first."""

    # ------------------------------------------------------------------ what it contains

    def find_sync(self, sync_id: str) -> PublishedSync | None:
        """The head's entry for a sync. None if the head does not remember the sync."""
        return next((each for each in self.recent_syncs if each.id == sync_id), None)

    @property
    def may_have_forgotten(self) -> bool:
        """Whether a sync that the head does not remember may have a mark."""
        return len(self.recent_syncs) >= REMEMBERED_SYNCS

    def forgotten_in(self, later: Head) -> tuple[PublishedSync, ...]:
        """The syncs that this head remembers and a later one does not."""
        return tuple(each for each in self.recent_syncs if later.find_sync(each.id) is None)

    @property
    def newest(self) -> str | None:
        """The name of the newest live segment, apart from adoptions."""
        return next((level[-1] for level in self.segments if level), None)

    @property
    def oldest_first(self) -> tuple[str, ...]:
        """The names of the live segments that the head itself names."""
        return (*self.adoptions, *(name for level in reversed(self.segments) for name in level))

    def ends_with(self, segment: Segment) -> bool:
        """Whether this segment is the newest of the scope, and no other segment is pending."""
        syncs = self.recent_syncs
        return self.pending_segment is None and bool(syncs) and syncs[-1].segment == segment.name

    def without_retired(self) -> Head:
        """This head without its retired objects and its number. It is equal for two heads if nobody has landed in
        between."""
        return replace(self, sequence_number=0, retired=())

    @property
    def content_digest(self) -> str:
        """A digest of what has landed: equal digests mean that nobody has landed in between."""
        return hashlib.sha256(msgspec.json.encode(self.without_retired())).hexdigest()[:32]

    # ------------------------------------------------------------------ how the commit changes it

    def succeeding(self, earlier: Head) -> Head:
        """This head, with the sequence number that follows the earlier head's, and the version that its fields need."""
        version = VERSION_WITH_ADOPTIONS if self.adoptions else FORMAT_VERSION
        return replace(self, format_version=version, sequence_number=earlier.sequence_number + 1)

    def decided(self, segment: Segment) -> Head:
        """This head once the segment is decided."""
        return replace(self, pending_segment=segment.name)

    def published(self, segment: Segment, keep_until: datetime | None = None) -> Head:
        """This head once the segment is published.

        Args:
            segment: The pending segment.
            keep_until: The time until which replaced objects are kept. None if they are already deleted.
        """
        if segment.is_adoption:
            return self._with_adoption(segment)
        fingerprint = segment.schema.fingerprint
        return replace(
            self._without_pending(segment),
            segments=self._segments_with(segment),
            adoptions=() if segment.replaces else self.adoptions,
            recent_syncs=self._syncs_with(segment)[-REMEMBERED_SYNCS:],
            state_segment=self._state_with(segment),
            latest_schema=LatestSchema(fingerprint, segment.name) if fingerprint else self._schema_with(segment),
            retired=self._retired_with(segment, keep_until) if keep_until is not None else self.retired,
        )

    def _with_adoption(self, segment: Segment) -> Head:
        """This head once the adoption is published. The last sync stays the last one, with its schema and its state."""
        adoption = PublishedSync(segment.sync_id, complete=True, segment=segment.name)
        syncs = (*self.recent_syncs[:-1], adoption, *self.recent_syncs[-1:])
        return replace(
            self._without_pending(segment),
            adoptions=(*self.adoptions, segment.name),
            recent_syncs=syncs[-REMEMBERED_SYNCS:],
        )

    def without_adoptions(self) -> Head:
        """This head once everything that was adopted is forgotten."""
        return replace(self, adoptions=())

    def before(self) -> ReplacedHead:
        """The fields of this head that a retirement empties."""
        schema = self.latest_schema
        return ReplacedHead(
            segments=self.segments,
            adoptions=self.adoptions,
            state_segment=self.state_segment,
            schema_segment=schema.segment if schema is not None else None,
            schema_fingerprint=schema.fingerprint if schema is not None else None,
        )

    def restored(self, segment: Segment) -> Head:
        """This head once a retirement is undone, whose objects are still kept. Nothing may have landed since."""
        replaced = segment.replaced
        before = replaced.head if replaced is not None else None
        assert replaced is not None, "a retirement replaces everything"
        assert before is not None, "a retirement records what it replaces"
        kept = list[RetiredObjects]()
        for each in self.retired:
            if each.segment != segment.name:
                kept.append(each)
            elif replaced.retired_with is not None:
                kept.append(RetiredObjects(replaced.retired_with, each.delete_after))
        schema = None
        if before.schema_segment is not None and before.schema_fingerprint is not None:
            schema = LatestSchema(before.schema_fingerprint, before.schema_segment)
        return replace(
            self,
            segments=before.segments,
            adoptions=before.adoptions,
            state_segment=before.state_segment,
            latest_schema=schema,
            retired=tuple(kept),
        )

    def given_away(self, segment: Segment) -> Head:
        """This head once another stream has everything that it named."""
        return replace(
            self._without_pending(segment),
            segments=(),
            adoptions=(),
            recent_syncs=self._syncs_with(segment)[-REMEMBERED_SYNCS:],
            state_segment=None,
            latest_schema=None,
            retired=(),
        )

    def received(self, given: Head, segment: Segment) -> Head:
        """This head of an empty scope once it has everything that another stream's head names.

        Args:
            given: The other head.
            segment: The transfer. The head remembers it, so that nobody repeats it, but not as the last sync.
        """
        given_ids = {each.id for each in given.recent_syncs}
        own = tuple(each for each in self.recent_syncs if each.id not in given_ids)
        transfer = PublishedSync(segment.sync_id, complete=True, segment=segment.name)
        syncs = (*own, *given.recent_syncs[:-1], transfer, *given.recent_syncs[-1:])
        starts = [each for each in (self.latest_sync_start, given.latest_sync_start) if each is not None]
        return replace(
            self,
            segments=given.segments,
            adoptions=given.adoptions,
            next_part_number=max(self.next_part_number, given.next_part_number),
            latest_sync_start=max(starts, default=None),
            recent_syncs=syncs[-REMEMBERED_SYNCS:],
            state_segment=given.state_segment,
            latest_schema=given.latest_schema,
            retired=tuple(sorted((*self.retired, *given.retired), key=lambda each: each.delete_after)),
        )

    def rolled_back(self, segment: Segment, *, emptied: bool) -> Head:
        """This head once the pending segment is abandoned.

        Args:
            segment: The pending segment.
            emptied: Whether the scope's previous objects are already deleted.
        """
        head = self._without_pending(segment)
        return replace(head, segments=(), adoptions=(), state_segment=None) if emptied else head

    def _without_pending(self, segment: Segment) -> Head:
        """This head without the pending segment. Its part numbers are never used again, even if it was rolled back."""
        started_at = segment.sync.started_at
        return replace(
            self,
            pending_segment=None,
            next_part_number=max(self.next_part_number, segment.next_part_number),
            latest_sync_start=max(started_at, self.latest_sync_start or started_at),
        )

    def _syncs_with(self, segment: Segment) -> tuple[PublishedSync, ...]:
        return (
            *(each for each in self.recent_syncs if each.id != segment.sync_id),
            PublishedSync(segment.sync_id, complete=segment.sync.complete, segment=segment.name),
        )

    def _state_with(self, segment: Segment) -> str | None:
        if segment.state is not None:
            return segment.name
        return None if segment.replaces or segment.clears_state else self.state_segment

    def _schema_with(self, segment: Segment) -> LatestSchema | None:
        return self.latest_schema if segment.kind == "sync" else None

    def _segments_with(self, segment: Segment) -> tuple[tuple[str, ...], ...]:
        """The levels with this segment. A segment without objects is listed only if it is the first: readers do not
        need it."""
        if segment.replaces:
            return ((segment.name,),)
        if self.segments and segment.is_empty and segment.replaced is None:
            return self.segments
        level, absorbs = segment.compaction.level, segment.compaction.absorbs
        same_level = self.segments[level] if level < len(self.segments) else ()
        others = same_level[:-1] if absorbs else same_level
        return (*((),) * level, (*others, segment.name), *self.segments[level + 1 :])

    def _retired_with(self, segment: Segment, until: datetime) -> tuple[RetiredObjects, ...]:
        if segment.replaced is None or (not segment.replaced_count and segment.kind == "sync"):
            return self.retired
        joins_last = self.retired and self.retired[-1].segment == segment.replaced.retired_with
        return (*(self.retired[:-1] if joins_last else self.retired), RetiredObjects(segment.name, until))


HEADS = DocumentKind(Head)
