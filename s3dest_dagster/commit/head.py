"""The head of a scope: the one small document that changes, and how each step of the commit changes it.

Values only. Must not know: S3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from s3dest_dagster.batch import Lineage
from s3dest_dagster.commit.documents import FORMAT_VERSION, DocumentKind, ScopeLocation
from s3dest_dagster.commit.segment import Segment

MAX_RETIRED = 16
"""Generations of retired objects that a head lists one by one. Newer ones are deleted together with the last."""
REMEMBERED_SYNCS = 20
"""Syncs that a head remembers, so that a retry finds what it has already done. Older ones have marks."""


@dataclass(frozen=True, slots=True)
class PublishedSync:
    """A published sync, as the head remembers it."""

    id: str
    """Id of the sync."""
    complete: bool
    """False: a checkpoint was published, after which the sync went on or broke off."""
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
    """Name of the segment that replaced them, and of the end of a chain of segments by `retired_with`."""
    delete_after: datetime
    """When they may be deleted."""


@dataclass(frozen=True, slots=True)
class ReachedState:
    """The state of a source that a scope's published records reach."""

    text: str
    """The state as the source gave it."""
    at: datetime
    """When the sync began that reached it."""
    complete: bool
    """False: the scope's last sync broke off after a checkpoint, so that the next read goes on in the middle of it."""
    lineage: Lineage
    """The states that it descends from, itself last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The one document of a scope that changes."""

    format_version: int = FORMAT_VERSION
    """Version of this format. A reader refuses a newer one."""
    location: ScopeLocation
    """The scope that the head belongs to, and where it stands. A reader refuses it anywhere else."""
    sequence_number: int = 0
    """Grows with every put of the head: no head equals an earlier one, so a delayed put never meets its condition."""
    segments: tuple[tuple[str, ...], ...] = ()
    """Names of the live segments, level by level. Each segment is older than all of the levels before its own."""
    next_part_number: int = 0
    """The lowest part number that was never used."""
    latest_sync_start: datetime | None = None
    """When the latest of its syncs began. A sync that does not begin after it could make the same keys again."""
    recent_syncs: tuple[PublishedSync, ...] = ()
    """The last 20 syncs, oldest first; older ones have marks."""
    pending_segment: str | None = None
    """Name of the segment that is decided and not yet published; all other fields are still as before it."""
    state_segment: str | None = None
    """Name of the segment with the newest state."""
    latest_schema: LatestSchema | None = None
    """The newest schema."""
    retired: tuple[RetiredObjects, ...] = ()
    """Replaced objects that are kept for a while, oldest first."""

    # ------------------------------------------------------------------ what it says

    def find_sync(self, sync_id: str) -> PublishedSync | None:
        """What the head remembers of a sync; None if it does not remember it."""
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
        """The name of the newest live segment."""
        return next((level[-1] for level in self.segments if level), None)

    @property
    def oldest_first(self) -> tuple[str, ...]:
        """The names of the live segments that the head itself names."""
        return tuple(name for level in reversed(self.segments) for name in level)

    def ends_with(self, segment: Segment) -> bool:
        """Whether this very segment is the newest of the scope, and no other is pending."""
        syncs = self.recent_syncs
        return self.pending_segment is None and bool(syncs) and syncs[-1].segment == segment.name

    # ------------------------------------------------------------------ how the commit changes it

    def succeeding(self, earlier: Head) -> Head:
        """This head, numbered as the one that takes the earlier one's place."""
        return replace(self, sequence_number=earlier.sequence_number + 1)

    def decided(self, segment: Segment) -> Head:
        """This head once the segment is decided."""
        return replace(self, pending_segment=segment.name)

    def published(self, segment: Segment, keep_until: datetime | None = None) -> Head:
        """This head once the segment is published.

        Args:
            segment: The pending segment.
            keep_until: Until when replaced objects are kept; None if they are deleted already.
        """
        syncs = (
            *(each for each in self.recent_syncs if each.id != segment.sync_id),
            PublishedSync(segment.sync_id, complete=segment.sync.complete, segment=segment.name),
        )
        fingerprint = segment.schema.fingerprint
        return replace(
            self._without_pending(segment),
            segments=self._segments_with(segment),
            recent_syncs=syncs[-REMEMBERED_SYNCS:],
            state_segment=self._state_with(segment),
            latest_schema=LatestSchema(fingerprint, segment.name) if fingerprint else self.latest_schema,
            retired=self._retired_with(segment, keep_until) if keep_until is not None else self.retired,
        )

    def rolled_back(self, segment: Segment, *, emptied: bool) -> Head:
        """This head once the pending segment is given up.

        Args:
            segment: The pending segment.
            emptied: Whether what the scope held before is deleted already.
        """
        head = self._without_pending(segment)
        return replace(head, segments=(), state_segment=None) if emptied else head

    def _without_pending(self, segment: Segment) -> Head:
        """Part numbers of a segment are never used again, whatever became of it."""
        started_at = segment.sync.started_at
        return replace(
            self,
            pending_segment=None,
            next_part_number=max(self.next_part_number, segment.next_part_number),
            latest_sync_start=max(started_at, self.latest_sync_start or started_at),
        )

    def _state_with(self, segment: Segment) -> str | None:
        if segment.state is not None:
            return segment.name
        return None if segment.replaces or segment.clears_state else self.state_segment

    def _segments_with(self, segment: Segment) -> tuple[tuple[str, ...], ...]:
        """A segment without objects is not listed unless it is the first: readers do not need it."""
        if segment.replaces:
            return ((segment.name,),)
        if self.segments and not segment.all_objects:
            return self.segments
        level, absorbs = segment.compaction.level, segment.compaction.absorbs
        same_level = self.segments[level] if level < len(self.segments) else ()
        others = same_level[:-1] if absorbs else same_level
        return (*((),) * level, (*others, segment.name), *self.segments[level + 1 :])

    def _retired_with(self, segment: Segment, until: datetime) -> tuple[RetiredObjects, ...]:
        if segment.replaced is None or not segment.replaced.keys:
            return self.retired
        joins_last = self.retired and self.retired[-1].segment == segment.replaced.retired_with
        return (*(self.retired[:-1] if joins_last else self.retired), RetiredObjects(segment.name, until))


HEADS = DocumentKind(Head)
