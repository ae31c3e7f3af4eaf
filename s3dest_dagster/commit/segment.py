"""A segment: the objects that one sync, or one checkpoint of it, added to a scope. Written once and never changed.

Values only. Must not know: S3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from s3dest_dagster.batch import KnownState, Tally
from s3dest_dagster.commit.documents import (
    FORMAT_VERSION,
    VERSION_WITH_FILES,
    VERSION_WITH_GENERATIONS,
    VERSION_WITH_LISTS,
    DocumentKind,
    ScopeLocation,
    StreamLocation,
)
from s3dest_dagster.commit.landed_objects import LandedSync, ListedObjects, SegmentObject


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPart:
    """The sync that a segment belongs to, and the part of it that the segment holds."""

    id: str
    """Id of the sync."""
    mode: str
    """Sync mode: `full_refresh` or `append`."""
    started_at: datetime
    """When the sync began."""
    complete: bool = True
    """False: the segment is a checkpoint, and the sync continued after it."""
    previous_checkpoint: str | None = None
    """Name of the segment with the sync's previous checkpoint, or null."""
    generation_id: int | None = None
    """The generation of the sync. Null if it has none, which counts as 0."""
    minimum_generation_id: int | None = None
    """The generation below which live syncs left when this one was published. Null if the mode decided."""
    source_sync_id: int | None = None
    """The id that the platform gave to the sync. It may be the same for several syncs. Null if it gave none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Counts of a sync's records by outcome. `read` always equals `landed` + `quarantined`."""

    read: int = 0
    """Records read, including lines that were not records."""
    landed: int = 0
    """Records landed."""
    quarantined: int = 0
    """Lines written to the quarantine."""
    tally: Tally = field(default_factory=Tally)
    """Counts of values that were changed to fit, by field."""

    def add_up(self, rows: int, quarantined_rows: int) -> bool:
        """Whether every record that was read is landed or quarantined, and stored: as many rows are in the objects, and
        in the quarantine, as these counts say."""
        stored = (rows, quarantined_rows) == (self.landed, self.quarantined)
        return stored and self.read == self.landed + self.quarantined

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            read=self.read + other.read,
            landed=self.landed + other.landed,
            quarantined=self.quarantined + other.quarantined,
            tally=self.tally + other.tally,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacedHead:
    """The fields of a head that a retirement empties."""

    segments: tuple[tuple[str, ...], ...]
    """Names of the segments that were live, level by level."""
    adoptions: tuple[str, ...] = ()
    """Names of the live segments with adopted objects."""
    state_segment: str | None
    """Name of the segment with the newest state, or null."""
    schema_segment: str | None
    """Name of the segment with the newest schema, or null."""
    schema_fingerprint: str | None
    """SHA-256 of the newest schema, or null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """The objects that left the scope because a segment replaced everything."""

    keys: tuple[str, ...] = ()
    """Keys of the objects that were replaced, or will be."""
    etags: Mapping[str, str] = field(default_factory=dict)
    """ETags by key, for keys that a later sync may use again. Such an object is deleted only if it has this ETag."""
    object_lists: tuple[ListedObjects, ...] = ()
    """Object lists of replaced segments, all of whose objects were replaced, too. None of their keys is in `keys`, and
    none can be used again. The segment then has format version 2."""
    retired_with: str | None = None
    """Name of an older segment whose replaced objects are retained and deleted together with these, or null."""
    head: ReplacedHead | None = None
    """What the head listed before. Null unless the segment is a retirement, which can be undone."""
    is_partial: bool = False
    """Whether other objects of the scope stayed, since only older generations were replaced. The segment then has
    format version 3."""

    @property
    def object_count(self) -> int:
        """The number of the objects."""
        return len(self.keys) + sum(each.objects for each in self.object_lists)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """The syncs and segments that a segment stands for besides its own sync, so that a head names few segments."""

    level: int = 0
    """The segment's level in the head's `segments`."""
    absorbs: tuple[LandedSync, ...] = ()
    """Earlier syncs that the segment itself lists, oldest first. They have the same format and schema."""
    compacts: tuple[str, ...] = ()
    """Names of older segments of lower levels that the head no longer names. They precede `absorbs`."""
    lowest_generation: int = 0
    """Of all older segments, those of a generation below this are no longer live. Above 0, the segment has format
    version 3."""


@dataclass(frozen=True, slots=True)
class Retyped:
    """A column whose type has changed, with the types in words."""

    name: str
    """Name of the column. A dotted path if it is nested."""
    before: str
    """Its old type."""
    now: str
    """Its new type."""


@dataclass(frozen=True, slots=True)
class SchemaChanges:
    """How a sync's columns differ from those of the scope's previous sync."""

    added: tuple[str, ...] = ()
    """New columns."""
    removed: tuple[str, ...] = ()
    """Removed columns."""
    retyped: tuple[Retyped, ...] = ()
    """Columns whose type has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierColumns:
    """The columns of the objects that were closed before the columns of their sync changed."""

    columns: str
    """The columns, as in `SegmentSchema`."""
    keys: tuple[str, ...]
    """Keys of the objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSchema:
    """The schema of a segment's records."""

    columns: str | None = None
    """The columns with which the objects were written, as JSON text: for each field of the source, its id, its type,
    and its column's name. Null if there were no records."""
    earlier: tuple[EarlierColumns, ...] = ()
    """The columns of those objects that were written with fewer ones or narrower types."""

    fingerprint: str | None = None
    """SHA-256 of `avro_schema`. Null if there were no records."""
    avro_schema: str | None = None
    """Avro schema of the records, as text. Null if there were no records."""
    json_schema: str | None = None
    """JSON schema of the stream, as text. Null if the stream has none and there were no records."""
    changes: SchemaChanges | None = None
    """How the columns differ from those of the previous sync. Null if they do not differ."""
    envelope: Literal["airbyte_0", "airbyte_1", "none"] = "airbyte_0"
    """The columns that every record has besides its own, named after the connector's eras: `_airbyte_ab_id` and
    `_airbyte_emitted_at`; or `_airbyte_raw_id`, `_airbyte_extracted_at`, `_airbyte_meta` and
    `_airbyte_generation_id`; or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentState:
    """The state of the source that the records up to a segment reach, and its ancestors."""

    text: str
    """The state, as text."""
    read_count: int = 0
    """For a state of all streams: the number of reads that led to it. 0 if it was set by hand, or if this is not
    known."""
    ancestors: tuple[KnownState, ...] = ()
    """For a state of all streams: some of the states that it descends from, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The objects that one sync, or one checkpoint of it, added to a scope."""

    format_version: int = FORMAT_VERSION
    """Version of this format. A reader refuses a newer one."""
    location: ScopeLocation
    """The scope that the segment belongs to, and the segment's location. A reader refuses it anywhere else."""
    kind: Literal["sync", "retirement", "transfer", "adoption"] = "sync"
    """Why it was written: by a sync; to retire the scope or give its content away, so that it then holds nothing; or to
    adopt objects that were there already."""
    owner: str | None = None
    """The owner of the stream when the segment landed, or null."""
    name: str
    """Its name: the sync's id, percent-encoded, a dot, and random text that each attempt generates."""
    sync: SyncPart
    """The sync that it belongs to."""
    objects: tuple[SegmentObject, ...]
    """The objects that it landed."""
    quarantine: SegmentObject | None
    """The object with the lines that were not records, or null."""
    further_quarantines: tuple[SegmentObject, ...] = ()
    """Further objects with such lines, if several workers landed the sync."""
    object_lists: tuple[ListedObjects, ...] = ()
    """Lists of further objects, in order, if it has very many. The segment then has format version 2."""
    mark: str | None = None
    """The text in the metadata of its objects, if that is not the segment's name: several workers landed the sync."""
    counts: Counts
    """Counts of its records by outcome."""
    total_rows: int | None = None
    """The records that the scope holds once the segment is published. Null if it is not known."""
    content_checksum: str | None = None
    """CRC-32 and Adler-32 of its records as the source provided them, and their number. Null if not recorded."""
    uploads_started_after: datetime | None = None
    """A time, by the server's clock, before its first upload began. Null if it does not matter."""
    replaced: Replacement | None = None
    """The objects that it replaced: once published, the scope holds only its own objects, unless the replacement is
    partial. Null if it only added objects."""
    compaction: Compaction = Compaction()
    """The syncs and segments that it stands for besides its own sync."""
    next_part_number: int
    """The lowest part number that is unused after it."""
    schema: SegmentSchema
    """The schema of its records."""
    state: SegmentState | None
    """The state of the source that its records reach. Null if the source provided none."""
    clears_state: bool = False
    """Whether it removes the scope's state."""
    given_to: StreamLocation | None = None
    """The stream that gets everything that the scope holds. Null unless the segment is a transfer."""
    format: Mapping[str, str | int | bool | None]
    """Type and settings of the format of its objects."""
    settings: Mapping[str, str | int | float | bool | None]
    """Settings of the destination, and the stream's `partition_by` as JSON text if it has one."""
    library_version: str
    """Version of the library that wrote it."""

    def in_its_version(self) -> Segment:
        """The segment with the lowest format version whose readers understand it."""
        return replace(self, format_version=self._needed_version)

    @property
    def _needed_version(self) -> int:
        if self.has_files:
            return VERSION_WITH_FILES
        if self.compaction.lowest_generation or (self.replaced is not None and self.replaced.is_partial):
            return VERSION_WITH_GENERATIONS
        if self.object_lists or (self.replaced is not None and self.replaced.object_lists):
            return VERSION_WITH_LISTS
        return FORMAT_VERSION

    @property
    def sync_id(self) -> str:
        return self.sync.id

    @property
    def replaces(self) -> bool:
        """Whether the scope holds only this segment's objects once it is published."""
        return self.replaced is not None and not self.replaced.is_partial

    @property
    def replaced_count(self) -> int:
        """The number of the objects that it replaces."""
        return self.replaced.object_count if self.replaced is not None else 0

    @property
    def object_count(self) -> int:
        """The number of its objects, without quarantines."""
        return len(self.objects) + sum(each.objects for each in self.object_lists)

    @property
    def has_files(self) -> bool:
        """Whether some of the objects that it lists are copies of files."""
        absorbed = (item for sync in self.compaction.absorbs for item in sync.objects)
        return any(each.files for each in self.object_lists) or any(
            each.file is not None for each in (*self.objects, *absorbed)
        )

    @property
    def has_records(self) -> bool:
        """Whether some of its own objects have records."""
        return any(each.objects > each.files for each in self.object_lists) or any(
            each.file is None for each in self.objects
        )

    @property
    def is_adoption(self) -> bool:
        """Whether its objects were not landed by the library, so that giving it up must not delete them."""
        return self.kind == "adoption"

    @property
    def rows(self) -> int:
        """The records of its objects, as far as they are counted."""
        return sum(each.rows for each in self.objects) + sum(each.rows for each in self.object_lists)

    @property
    def rows_with_absorbed(self) -> int:
        """The records of its objects and of the syncs that it absorbs."""
        return self.rows + sum(item.rows for sync in self.compaction.absorbs for item in sync.objects)

    @property
    def bytes(self) -> int:
        """The size of its objects."""
        return sum(each.bytes for each in self.objects) + sum(each.bytes for each in self.object_lists)

    @property
    def quarantines(self) -> tuple[SegmentObject, ...]:
        """The objects with lines that were not records that the segment itself holds."""
        return self.further_quarantines if self.quarantine is None else (self.quarantine, *self.further_quarantines)

    @property
    def quarantined_rows(self) -> int:
        """The lines that were not records."""
        held = sum(each.rows for each in self.quarantines)
        return held + sum(each.quarantined_rows for each in self.object_lists)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that the publication completes: neither objects nor quarantines."""
        return not (self.objects or self.quarantines or self.object_lists)

    @property
    def object_mark(self) -> str:
        """The text in the metadata of its objects."""
        return self.mark or self.name

    @property
    def own_sync(self) -> LandedSync:
        """Its own sync, with those objects that the segment itself holds."""
        return LandedSync(
            segment=self.name,
            started_at=self.sync.started_at,
            objects=tuple(each.landed for each in self.objects),
            quarantine=self.quarantine.landed if self.quarantine is not None else None,
            further_quarantines=tuple(each.landed for each in self.further_quarantines),
            mark=self.mark,
            generation_id=self.sync.generation_id,
        )


SEGMENTS = DocumentKind(Segment)


def holds_objects(segments: Iterable[Segment]) -> bool:
    """Whether these segments list any object."""
    return any(segment.object_count or any(sync.objects for sync in segment.compaction.absorbs) for segment in segments)
