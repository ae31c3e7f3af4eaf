"""What the bucket knows about a scope: immutable segments, one per sync, and one small head that names the live ones.

Values and their JSON only; it must not talk to S3. The format is versioned: a reader refuses a newer one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from s3dest_dagster.batch import Tally
from s3dest_dagster.commit.manifest_keys import sync_of
from s3dest_dagster.errors import ManifestError
from s3dest_dagster.lineage import KnownState, Lineage

FORMAT_VERSION = 1
MAX_RETIRED = 16
"""Replaced generations that a head keeps apart; more of them leave together."""
REMEMBERED_SYNCS = 20
"""Syncs that a head remembers by id, so that a retry finds what it has already done. Those before have marks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LandedObject:
    """An object as readers need it. `etag` is the one that S3 gives it by its rule for uploads in parts; servers that
    have another rule, or encrypt, give another. Empty where the rule does not tell. `crc32` is that of its bytes, in
    hexadecimal."""

    key: str
    rows: int
    bytes: int
    etag: str
    crc32: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LandedSync:
    """A published sync as readers need it; `segment` is the name of its receipt."""

    segment: str
    started_at: datetime
    objects: tuple[LandedObject, ...]
    quarantine: LandedObject | None

    @property
    def sync_id(self) -> str:
        return sync_of(self.segment)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestObject:
    """One object of a sync. `reason` says why it was closed ("end", "size", "memory"), `short_row_groups` how many of
    its row groups ended early because memory was short. Until the sync is published the object is the multipart upload
    `upload_id` with the part ETags `parts`. `crc32` is that of its bytes, in hexadecimal."""

    key: str
    rows: int
    bytes: int
    reason: str
    upload_id: str
    parts: tuple[str, ...]
    crc32: str = ""
    short_row_groups: int = 0

    @property
    def landed(self) -> LandedObject:
        """The object without what only publishing needs."""
        return LandedObject(key=self.key, rows=self.rows, bytes=self.bytes, etag=_etag_of(self.parts), crc32=self.crc32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of the records of a sync; `read` = `landed` + `quarantined`, always."""

    read: int = 0
    landed: int = 0
    quarantined: int = 0
    tally: Tally = field(default_factory=Tally)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            read=self.read + other.read,
            landed=self.landed + other.landed,
            quarantined=self.quarantined + other.quarantined,
            tally=self.tally + other.tally,
        )


@dataclass(frozen=True, slots=True)
class Retyped:
    """A column whose type is another than before; the types in words."""

    name: str
    before: str
    now: str


@dataclass(frozen=True, slots=True)
class SchemaChanges:
    """How a sync's columns differ from those of the scope's sync before it."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    retyped: tuple[Retyped, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What one sync, or one checkpoint of it, has added; as it stands in the bucket, written once.

    `path`, `stream`, `namespace` and `partition` say whose it is (see `placement`).
    `name` is drawn anew by every attempt at the sync `sync_id`, so that two attempts at once never write one segment.
    Not `complete`: a checkpoint, after which the sync went on; `continues` names the sync's checkpoint before it.
    `replaces`: the scope held only this sync's objects once it was published; `removes` are the keys that left;
    those that a later sync may land again stand in `removes_unchanged`, too, each with the ETag of the object that is
    meant. What it
    stands for beside its own sync (see `folding`): the syncs that it `absorbs`, whose objects have its format and
    schema, and the older segments that it `compacts`, which are of lower `level`s. `retires_with` names a segment whose
    `removes` are kept and deleted together with this one's (see `RetiredObjects`). `staged_since`: all of its
    uploads began after that moment of the server's clock; None where it does not matter. `quarantine` holds the
    lines that are no records, with their reasons. `schema` is the schema of the objects as text, with its
    `fingerprint`; `json_schema`
    the stream's; `schema_changes` what is new in it, None for nothing. `format` holds the format's settings, `settings`
    those of the destination, `state` the source's state that these records reach, `state_number` and `state_ancestors`
    where a state of all streams stands among others (see `lineage`); `forgets_state`: the scope has none any more.
    `content` tells the content of its records (see `ContentChecksum`), None where it was not noted.
    """

    format_version: int = FORMAT_VERSION
    name: str
    sync_id: str
    complete: bool = True
    continues: str | None = None
    path: str
    stream: str
    namespace: str | None
    partition: str | None
    sync_mode: str
    replaces: bool
    started_at: datetime
    staged_since: datetime | None = None
    objects: tuple[ManifestObject, ...]
    quarantine: ManifestObject | None
    removes: tuple[str, ...]
    removes_unchanged: Mapping[str, str] = field(default_factory=dict)
    absorbs: tuple[LandedSync, ...] = ()
    compacts: tuple[str, ...] = ()
    level: int = 0
    retires_with: str | None = None
    next_part: int
    counts: Counts
    schema: str | None
    fingerprint: str | None
    json_schema: str | None
    schema_changes: SchemaChanges | None = None
    format: Mapping[str, str | int | bool | None]
    settings: Mapping[str, str | int | float | bool | None]
    state: str | None
    state_number: int = 0
    state_ancestors: tuple[KnownState, ...] = ()
    forgets_state: bool = False
    library_version: str
    content: str | None = None

    @property
    def uploads(self) -> tuple[ManifestObject, ...]:
        """Everything that publishing this sync completes: its objects and its quarantine."""
        return self.objects if self.quarantine is None else (*self.objects, self.quarantine)

    @property
    def syncs(self) -> tuple[LandedSync, ...]:
        """The syncs that this segment tells of itself, oldest first: those that it carries, and its own."""
        own = LandedSync(
            segment=self.name,
            started_at=self.started_at,
            objects=tuple(each.landed for each in self.objects),
            quarantine=self.quarantine.landed if self.quarantine is not None else None,
        )
        return (*self.absorbs, own)

    @property
    def rows(self) -> int:
        return sum(each.rows for each in self.objects)

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.objects)


def live_keys(segments: Iterable[Segment]) -> set[str]:
    """The keys of all objects that these segments tell of."""
    return {each.key for segment in segments for sync in segment.syncs for each in sync.objects}


@dataclass(frozen=True, slots=True)
class SyncEntry:
    """A sync that the head remembers, and the name of its last segment. Not `complete`: that is a checkpoint."""

    id: str
    complete: bool
    segment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncMark:
    """That a sync was published, for good: put before the head forgets it. `segment` is the name of its last segment,
    which may have been collected since. Not `complete`: a checkpoint, after which the sync went on or broke off.
    `path`, `stream`, `namespace` and `partition` say whose it is (see `placement`)."""

    format_version: int = FORMAT_VERSION
    path: str
    stream: str
    namespace: str | None
    partition: str | None
    sync_id: str
    segment: str
    complete: bool

    @property
    def entry(self) -> SyncEntry:
        """It as it stood in the head."""
        return SyncEntry(self.sync_id, complete=self.complete, segment=self.segment)


@dataclass(frozen=True, slots=True)
class ReachedState:
    """The state of a source that published records reach, as the source gave it, and when the sync began that reached
    it. Not `complete`: the scope's last sync broke off after a checkpoint, and who reads next goes on in its midst.
    `lineage`: where one of all streams stands, itself last."""

    text: str
    at: datetime
    complete: bool
    lineage: Lineage


@dataclass(frozen=True, slots=True)
class LastSchema:
    """The newest schema of a scope: its fingerprint, and the segment that holds it."""

    fingerprint: str
    segment: str


@dataclass(frozen=True, slots=True)
class RetiredObjects:
    """Objects that were replaced and are kept for readers of before: the `removes` of a segment, and of those that it
    `retires_with`. They are deleted by whoever comes first after `until`."""

    segment: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The one mutable object of a scope.

    `serial` grows with every put: no head is equal to an earlier one, so a put that arrives late never meets the head
    that it expects. `path`, `stream`, `namespace` and `partition` say whose it is (see `placement`). Segments stand in
    it by name, in `segments` the live ones, level by level (see `folding`): every one is older than those of the levels
    before. `latest_start` is when the latest of its syncs began, by the clock that named its objects: one that does not
    begin after it could make their keys again. `pending` is one that is decided and not yet published; the other
    fields are then still those of before it. `state` names the segment with the newest state, `schema` the one with the
    newest schema.
    """

    format_version: int = FORMAT_VERSION
    serial: int = 0
    path: str
    stream: str
    namespace: str | None
    partition: str | None
    segments: tuple[tuple[str, ...], ...] = ()
    next_part: int = 0
    latest_start: datetime | None = None
    syncs: tuple[SyncEntry, ...] = ()
    pending: str | None = None
    state: str | None = None
    schema: LastSchema | None = None
    retired: tuple[RetiredObjects, ...] = ()

    def entry_of(self, sync_id: str) -> SyncEntry | None:
        """What the head remembers of a sync; None where it does not know it (any more)."""
        return next((each for each in self.syncs if each.id == sync_id), None)

    @property
    def may_have_forgotten(self) -> bool:
        """Whether its memory is full, so that a sync which it does not know may have a mark."""
        return len(self.syncs) >= REMEMBERED_SYNCS

    def forgotten_in(self, later: Head) -> tuple[SyncEntry, ...]:
        """What this head remembers and a later one does not."""
        return tuple(each for each in self.syncs if later.entry_of(each.id) is None)

    @property
    def newest(self) -> str | None:
        """The name of the youngest live segment."""
        return next((level[-1] for level in self.segments if level), None)

    @property
    def oldest_first(self) -> tuple[str, ...]:
        """The names of the live segments that the head names itself."""
        return tuple(name for level in reversed(self.segments) for name in level)

    def ends_with(self, segment: Segment) -> bool:
        """Whether this very segment is the newest of the scope, and nobody has decided another."""
        return self.pending is None and bool(self.syncs) and self.syncs[-1].segment == segment.name

    def succeeding(self, earlier: Head) -> Head:
        """This head with the number of the one that takes the earlier one's place."""
        return replace(self, serial=earlier.serial + 1)

    def deciding(self, segment: Segment) -> Head:
        """This head with the segment's sync decided."""
        return replace(self, pending=segment.name)

    def published(self, segment: Segment, keep_until: datetime | None = None) -> Head:
        """This head once the segment's sync is published; what it replaces is kept until then, or deleted already."""
        others = (each for each in self.syncs if each.id != segment.sync_id)
        syncs = (*others, SyncEntry(segment.sync_id, complete=segment.complete, segment=segment.name))
        return replace(
            self,
            segments=self._segments_with(segment),
            next_part=max(self.next_part, segment.next_part),
            latest_start=self._latest_start(segment),
            syncs=syncs[-REMEMBERED_SYNCS:],
            pending=None,
            state=self._state_with(segment),
            schema=LastSchema(segment.fingerprint, segment.name) if segment.fingerprint else self.schema,
            retired=self._leaving_with(segment, keep_until) if keep_until is not None else self.retired,
        )

    def _state_with(self, segment: Segment) -> str | None:
        """The segment that holds the newest state once this one is published."""
        if segment.state is not None:
            return segment.name
        return None if segment.replaces or segment.forgets_state else self.state

    def _segments_with(self, segment: Segment) -> tuple[tuple[str, ...], ...]:
        """The live segments once this one is among them. A sync that added nothing is not: readers have no need of it,
        unless it is the first."""
        if segment.replaces:
            return ((segment.name,),)
        if self.segments and not segment.uploads:
            return self.segments
        level = segment.level
        there = self.segments[level] if level < len(self.segments) else ()
        beside = there[:-1] if segment.absorbs else there
        return (*((),) * level, (*beside, segment.name), *self.segments[level + 1 :])

    def _leaving_with(self, segment: Segment, until: datetime) -> tuple[RetiredObjects, ...]:
        if not segment.removes:
            return self.retired
        joins = self.retired and self.retired[-1].segment == segment.retires_with
        return (*(self.retired[:-1] if joins else self.retired), RetiredObjects(segment.name, until))

    def turned_back(self, segment: Segment) -> Head:
        """This head with its pending sync, which is the segment's, given up. Its part numbers are not given again."""
        next_part = max(self.next_part, segment.next_part)
        return replace(self, pending=None, next_part=next_part, latest_start=self._latest_start(segment))

    def _latest_start(self, segment: Segment) -> datetime:
        return max(segment.started_at, self.latest_start or segment.started_at)

    def emptied(self, segment: Segment) -> Head:
        """This head with its pending sync given up after what the scope held was deleted."""
        return replace(self.turned_back(segment), segments=(), state=None)


@dataclass(frozen=True, slots=True)
class UsedTemplate:
    """What the keys of a stream's objects are made of: the settings of these names."""

    s3_bucket_path: str
    s3_path_format: str
    file_name_pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRegistry:
    """What all scopes of a stream share. `templates` are those under which any of them has ever landed, the one that
    counts now last, noted before an object under it is visible; `swept_at` says when its abandoned uploads were last
    looked for. `lost`: it was made anew for a stream that had landed, so that others than these are possible."""

    format_version: int = FORMAT_VERSION
    path: str
    stream: str
    namespace: str | None
    lost: bool = False
    templates: tuple[UsedTemplate, ...] = ()
    swept_at: datetime | None = None


def _etag_of(parts: tuple[str, ...]) -> str:
    """The ETag of an upload in parts by S3's rule: the MD5 of its parts' MD5s, and their number."""
    try:
        digests = bytes.fromhex("".join(parts))
    except ValueError:
        return ""
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"


Manifest = TypeVar("Manifest", Head, Segment, SyncMark, StreamRegistry)


def to_json(manifest: Head | Segment | SyncMark | StreamRegistry) -> bytes:
    """The manifest as JSON text, indented for people."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1)


def from_json(kind: type[Manifest], data: bytes, key: str) -> Manifest:
    """Reads a manifest. Raises ManifestError when the text is damaged or its format version newer than ours."""
    try:
        version = _VERSION.decode(data).format_version
        if version > FORMAT_VERSION:
            raise ManifestError(
                f"{key} has format version {version}; this library knows up to {FORMAT_VERSION}. Install a newer "
                "s3dest-dagster to work on this scope.",
                key=key,
            )
        read: Manifest = _DECODERS[kind].decode(data)
        return read
    except msgspec.DecodeError as error:
        cure = "Restore it from a backup or an older version of it."
        if kind is StreamRegistry:
            cure = "Delete it: the next sync makes it anew from what has landed."
        raise ManifestError(f"{key} is damaged and cannot be read ({error}). {cure}", key=key) from error


class _Versioned(msgspec.Struct):
    format_version: int


# Made at import: msgspec prepares a class at its first use, and crashes where two threads do so at once.
_VERSION = msgspec.json.Decoder(_Versioned)
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (Head, Segment, SyncMark, StreamRegistry)
}
