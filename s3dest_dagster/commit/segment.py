"""A segment: what one sync, or one checkpoint of it, added to a scope. It is written once and never changed.

Values only. Must not know: S3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from s3dest_dagster.batch import KnownState, Tally
from s3dest_dagster.commit.documents import FORMAT_VERSION, DocumentKind, ScopeLocation, sync_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LandedObject:
    """An object as readers need it."""

    key: str
    """Key of the object."""
    rows: int
    """Number of records in it; for a quarantine, of lines."""
    bytes: int
    """Size in bytes."""
    etag: str
    """ETag by S3's rule for multipart uploads. Empty if the rule does not apply; servers may have another rule."""
    crc32: str = ""
    """CRC-32 of its bytes, in hexadecimal."""


@dataclass(frozen=True, slots=True)
class MultipartUpload:
    """All that is needed to complete a multipart upload."""

    id: str
    """Upload id."""
    part_etags: tuple[str, ...]
    """ETags of the parts, in order."""

    @property
    def object_etag(self) -> str:
        """The ETag of the object by S3's rule: the MD5 of the parts' MD5s, and their number. "" if it does not apply.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
        """
        try:
            digests = bytes.fromhex("".join(self.part_etags))
        except ValueError:
            return ""
        return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(self.part_etags)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentObject(LandedObject):
    """An object of a segment: as readers need it, how it was closed, and how it is published."""

    close_reason: str
    """Why it was closed: `size`, `memory` or `end`."""
    short_row_groups: int = 0
    """Number of row groups that ended early because memory was short."""
    upload: MultipartUpload | None = None
    """The upload that publishing completes. Readers do not need it. Null: there is nothing to complete."""

    @property
    def landed(self) -> LandedObject:
        """The object without what only its own segment needs."""
        return LandedObject(key=self.key, rows=self.rows, bytes=self.bytes, etag=self.etag, crc32=self.crc32)


@dataclass(frozen=True, slots=True, kw_only=True)
class LandedSync:
    """A published sync as readers need it."""

    segment: str
    """Name of the sync's own segment."""
    started_at: datetime
    """When the sync began."""
    objects: tuple[LandedObject, ...]
    """Its objects."""
    quarantine: LandedObject | None
    """The object with the lines that were no records, or null."""

    @property
    def sync_id(self) -> str:
        return sync_of(self.segment)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPart:
    """The sync that a segment belongs to, and which part of it the segment holds."""

    id: str
    """Id of the sync."""
    mode: str
    """Sync mode: `full_refresh` or `append`."""
    started_at: datetime
    """When the sync began."""
    complete: bool = True
    """False: the segment is a checkpoint, and the sync went on after it."""
    previous_checkpoint: str | None = None
    """Name of the segment with the sync's checkpoint before this one, or null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of the records of a sync. `read` = `landed` + `quarantined`, always."""

    read: int = 0
    """Records read, including lines that were no records."""
    landed: int = 0
    """Records landed."""
    quarantined: int = 0
    """Lines put into the quarantine."""
    tally: Tally = field(default_factory=Tally)
    """Values that were changed to fit, by field."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            read=self.read + other.read,
            landed=self.landed + other.landed,
            quarantined=self.quarantined + other.quarantined,
            tally=self.tally + other.tally,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """What left the scope for the objects of a segment that replaced everything."""

    keys: tuple[str, ...] = ()
    """Keys of the objects that left, or will leave."""
    etags: Mapping[str, str] = field(default_factory=dict)
    """ETags by key, for keys that a later sync may use again: such an object is deleted only if it has this ETag."""
    retired_with: str | None = None
    """Name of an older segment whose replaced objects are kept, and deleted, together with these; or null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """What a segment stands for besides its own sync, so that a head names few segments."""

    level: int = 0
    """The level of the head's `segments` at which the segment stands."""
    absorbs: tuple[LandedSync, ...] = ()
    """Earlier syncs that the segment lists itself, oldest first. They have its format and schema."""
    compacts: tuple[str, ...] = ()
    """Names of older segments, of lower levels, that the head no longer names. They come before `absorbs`."""


@dataclass(frozen=True, slots=True)
class Retyped:
    """A column whose type has changed; the types in words."""

    name: str
    """Name of the column; dotted if it is nested."""
    before: str
    """Its type before."""
    now: str
    """Its type now."""


@dataclass(frozen=True, slots=True)
class SchemaChanges:
    """How a sync's columns differ from those of the scope's sync before it."""

    added: tuple[str, ...] = ()
    """New columns."""
    removed: tuple[str, ...] = ()
    """Columns that are gone."""
    retyped: tuple[Retyped, ...] = ()
    """Columns of another type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSchema:
    """The schema of a segment's records."""

    fingerprint: str | None = None
    """SHA-256 of `avro_schema`; null if there were no records."""
    avro_schema: str | None = None
    """Avro schema of the records, as text; null if there were none."""
    json_schema: str | None = None
    """JSON schema of the stream, as text; null if it has none and there were no records."""
    changes: SchemaChanges | None = None
    """How the columns differ from those of the sync before it; null if they do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentState:
    """The state of the source that the records up to a segment reach, and where it stands among others."""

    text: str
    """The state, as text."""
    read_count: int = 0
    """Of a state of all streams: how many reads led to it. 0: it was set by hand, or this is not known."""
    ancestors: tuple[KnownState, ...] = ()
    """Of a state of all streams: states that it descends from, oldest first; not all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What one sync, or one checkpoint of it, added to a scope."""

    format_version: int = FORMAT_VERSION
    """Version of this format. A reader refuses a newer one."""
    location: ScopeLocation
    """The scope that the segment belongs to, and where it stands. A reader refuses it anywhere else."""
    name: str
    """Its name: the sync's id, percent-encoded, a dot, and random text that each attempt draws anew."""
    sync: SyncPart
    """The sync that it belongs to."""
    objects: tuple[SegmentObject, ...]
    """The objects that it landed."""
    quarantine: SegmentObject | None
    """The object with the lines that were no records, or null."""
    counts: Counts
    """What became of its records."""
    content_checksum: str | None = None
    """CRC-32 and Adler-32 of its records as the source gave them, and their number; null if not recorded."""
    uploads_started_after: datetime | None = None
    """A moment, by the server's clock, before its first upload began; null if that does not matter."""
    replaced: Replacement | None = None
    """What it replaced: once it was published the scope held only its objects. Null: it added to what was there."""
    compaction: Compaction = Compaction()
    """What it stands for besides its own sync."""
    next_part_number: int
    """The lowest part number that is free after it."""
    schema: SegmentSchema
    """The schema of its records."""
    state: SegmentState | None
    """The state of the source that its records reach, or null if the source gave none."""
    clears_state: bool = False
    """Whether the scope has no state any more."""
    format: Mapping[str, str | int | bool | None]
    """Type and settings of the format of its objects."""
    settings: Mapping[str, str | int | float | bool | None]
    """Settings of the destination."""
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
        """Keys of the objects that leave for it."""
        return self.replaced.keys if self.replaced is not None else ()

    @property
    def all_objects(self) -> tuple[SegmentObject, ...]:
        """Everything that publishing completes: its objects and its quarantine."""
        return self.objects if self.quarantine is None else (*self.objects, self.quarantine)

    @property
    def upload_ids(self) -> set[str]:
        """The ids of the uploads that publishing completes."""
        return {each.upload.id for each in self.all_objects if each.upload is not None}

    @property
    def syncs(self) -> tuple[LandedSync, ...]:
        """The syncs that the segment itself lists, oldest first: those that it absorbs, and its own."""
        own = LandedSync(
            segment=self.name,
            started_at=self.sync.started_at,
            objects=tuple(each.landed for each in self.objects),
            quarantine=self.quarantine.landed if self.quarantine is not None else None,
        )
        return (*self.compaction.absorbs, own)

    @property
    def rows(self) -> int:
        return sum(each.rows for each in self.objects)


SEGMENTS = DocumentKind(Segment)


def live_keys(segments: Iterable[Segment]) -> set[str]:
    """The keys of all objects that these segments list."""
    return {each.key for segment in segments for sync in segment.syncs for each in sync.objects}
