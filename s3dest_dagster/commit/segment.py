"""A segment: the objects that one sync, or one checkpoint of it, added to a scope. Written once and never changed.

Values only. Must not know: S3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Literal

from s3dest_dagster.batch import KnownState, Tally
from s3dest_dagster.commit.documents import FORMAT_VERSION, DocumentKind, ScopeLocation, StreamLocation, sync_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LandedObject:
    """The part of an object's entry that readers need."""

    key: str
    """Key of the object."""
    rows: int
    """Number of records in it. For a quarantine, the number of lines."""
    bytes: int
    """Size in bytes."""
    etag: str
    """ETag by S3's rule for multipart uploads. Empty if the rule does not apply. Servers may use another rule."""
    crc32: str = ""
    """CRC-32 of its bytes, in hexadecimal digits."""
    partition_values: Mapping[str, str | None] | None = None
    """The values of its directories by their names, null for a null. Null if the stream has no `partition_by`."""


@dataclass(frozen=True, slots=True)
class MultipartUpload:
    """Everything that is needed to complete a multipart upload."""

    id: str
    """Upload id."""
    part_etags: tuple[str, ...]
    """ETags of the parts, in order."""

    @property
    def object_etag(self) -> str:
        """The object's ETag by S3's rule: the MD5 of the parts' MD5s, and their number. "" if the rule does not apply.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
        """
        try:
            digests = bytes.fromhex("".join(self.part_etags))
        except ValueError:
            return ""
        return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(self.part_etags)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentObject(LandedObject):
    """An object of a segment: what readers need, why it was closed, and how it is published."""

    close_reason: str
    """Why it was closed: `size`, `memory`, `schema` or `end`."""
    short_row_groups: int = 0
    """Number of row groups that ended early because memory ran short."""
    upload: MultipartUpload | None = None
    """The upload that the publication completes. Readers do not need it. Null if there is nothing to complete."""

    @property
    def landed(self) -> LandedObject:
        """The object without the fields that only its own segment needs."""
        return LandedObject(**{each.name: getattr(self, each.name) for each in fields(LandedObject)})


@dataclass(frozen=True, slots=True, kw_only=True)
class LandedSync:
    """The part of a published sync that readers need."""

    segment: str
    """Name of the sync's own segment."""
    started_at: datetime
    """When the sync began."""
    objects: tuple[LandedObject, ...]
    """Its objects."""
    quarantine: LandedObject | None
    """The object with the lines that were not records, or null."""
    further_quarantines: tuple[LandedObject, ...] = ()
    """Further objects with such lines, if several workers landed the sync."""
    mark: str | None = None
    """The text in the metadata of its objects, if that is not the segment's name: several workers landed the sync."""

    @property
    def sync_id(self) -> str:
        return sync_of(self.segment)

    @property
    def quarantines(self) -> tuple[LandedObject, ...]:
        """All objects with lines that were not records."""
        return self.further_quarantines if self.quarantine is None else (self.quarantine, *self.further_quarantines)

    @property
    def object_mark(self) -> str:
        """The text in the metadata of its objects."""
        return self.mark or self.segment


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
    retired_with: str | None = None
    """Name of an older segment whose replaced objects are retained and deleted together with these, or null."""
    head: ReplacedHead | None = None
    """What the head listed before. Null unless the segment is a retirement, which can be undone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """The syncs and segments that a segment stands for besides its own sync, so that a head names few segments."""

    level: int = 0
    """The segment's level in the head's `segments`."""
    absorbs: tuple[LandedSync, ...] = ()
    """Earlier syncs that the segment itself lists, oldest first. They have the same format and schema."""
    compacts: tuple[str, ...] = ()
    """Names of older segments of lower levels that the head no longer names. They precede `absorbs`."""


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
    envelope: Literal["airbyte_0", "none"] = "airbyte_0"
    """The columns that every record has besides its own: `_airbyte_ab_id` and `_airbyte_emitted_at`, or none."""


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
    kind: Literal["sync", "retirement", "transfer"] = "sync"
    """Why it was written: by a sync, or to retire the scope or give its content away. The scope then holds nothing."""
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
    mark: str | None = None
    """The text in the metadata of its objects, if that is not the segment's name: several workers landed the sync."""
    counts: Counts
    """Counts of its records by outcome."""
    content_checksum: str | None = None
    """CRC-32 and Adler-32 of its records as the source provided them, and their number. Null if not recorded."""
    uploads_started_after: datetime | None = None
    """A time, by the server's clock, before its first upload began. Null if it does not matter."""
    replaced: Replacement | None = None
    """The objects that it replaced: once published, the scope holds only its own objects. Null if it only added
    objects."""
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

    @property
    def sync_id(self) -> str:
        return self.sync.id

    @property
    def replaces(self) -> bool:
        """Whether the scope holds only this segment's objects once it is published."""
        return self.replaced is not None

    @property
    def replaced_keys(self) -> tuple[str, ...]:
        """Keys of the objects that it replaces."""
        return self.replaced.keys if self.replaced is not None else ()

    @property
    def quarantines(self) -> tuple[SegmentObject, ...]:
        """All objects with lines that were not records."""
        return self.further_quarantines if self.quarantine is None else (self.quarantine, *self.further_quarantines)

    @property
    def all_objects(self) -> tuple[SegmentObject, ...]:
        """All objects that the publication completes: its objects and its quarantines."""
        return (*self.objects, *self.quarantines)

    @property
    def object_mark(self) -> str:
        """The text in the metadata of its objects."""
        return self.mark or self.name

    @property
    def upload_ids(self) -> set[str]:
        """The ids of the uploads that the publication completes."""
        return {each.upload.id for each in self.all_objects if each.upload is not None}

    @property
    def syncs(self) -> tuple[LandedSync, ...]:
        """The syncs that the segment itself lists, oldest first: the syncs that it absorbs, and its own."""
        own = LandedSync(
            segment=self.name,
            started_at=self.sync.started_at,
            objects=tuple(each.landed for each in self.objects),
            quarantine=self.quarantine.landed if self.quarantine is not None else None,
            further_quarantines=tuple(each.landed for each in self.further_quarantines),
            mark=self.mark,
        )
        return (*self.compaction.absorbs, own)

    @property
    def rows(self) -> int:
        return sum(each.rows for each in self.objects)


SEGMENTS = DocumentKind(Segment)


def live_keys(segments: Iterable[Segment]) -> set[str]:
    """The keys of all objects that these segments list."""
    return {each.key for segment in segments for sync in segment.syncs for each in sync.objects}
