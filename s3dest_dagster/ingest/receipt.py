"""When an object is closed: asked after every batch, answered with a reason or with None for "keep".

It must not know what the object is made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from s3dest_dagster.commit.manifest import Counts, ManifestObject, SchemaChanges, Segment, SyncEntry
from s3dest_dagster.commit.manifest_keys import attempt_of
from s3dest_dagster.stream import Scope


class Reason(StrEnum):
    """Why an object was closed; it stands in the manifest."""

    SIZE = "size"
    """The object reached the size that the settings aim at."""
    END = "end"
    """The source gave no more records."""
    MEMORY = "memory"
    """The open objects held more than the settings allow, and this one held the most."""


def reason_to_close(size: int, object_bytes: float) -> Reason | None:
    """Answers for an object of which `size` bytes are written; `object_bytes` is the size aimed at."""
    return Reason.SIZE if size >= object_bytes else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a landing stands: records read, objects begun, bytes written (compressed)."""

    rows: int
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The result of a sync: what stands in its segments, those of its checkpoints included.

    `replaces`: the scope holds only this sync's objects now; `removed` are the keys that left for them. `repeated`:
    the sync had been completed before under this id, and this is its recorded result; `collected`: of which nothing is
    left but that it was published, so that all counts are 0 and `manifest` is its mark. `checkpoints` says how often
    records were published before the end; `earlier` what of `counts` earlier attempts at this sync had published so,
    None where there was none. `content` tells the content of the records of a sync without checkpoints (see
    `ContentChecksum`), None where it is not known; `format` holds the format's settings. `manifest` is the `s3://`
    address of the last segment. `swept` counts abandoned uploads that were aborted on the way. `quarantine` are
    the keys of the lines that were kept aside.
    """

    scope: Scope
    sync_id: str
    objects: tuple[ManifestObject, ...]
    replaces: bool
    removed: tuple[str, ...]
    counts: Counts
    schema: str | None
    fingerprint: str | None
    json_schema: str | None
    schema_changes: SchemaChanges | None
    state: str | None
    manifest: str
    format: Mapping[str, str | int | bool | None]
    content: str | None = None
    checkpoints: int = 0
    earlier: Counts | None = None
    repeated: bool = False
    collected: bool = False
    swept: int = 0
    quarantine: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of all objects."""
        return sum(each.rows for each in self.objects)

    @property
    def bytes(self) -> int:
        """Bytes of all objects."""
        return sum(each.bytes for each in self.objects)

    @property
    def ended_early(self) -> int:
        """Objects and row groups that ended early because memory was short."""
        return sum((each.reason == Reason.MEMORY) + each.short_row_groups for each in self.objects)


def receipt_of(segments: Sequence[Segment], scope: Scope, manifest: str, *, repeated: bool, swept: int = 0) -> Receipt:
    """The receipt that the segments of one sync stand for, oldest first."""
    last = segments[-1]
    described = next((each for each in reversed(segments) if each.fingerprint is not None), last)
    before = [each for each in segments if attempt_of(each.name) != attempt_of(last.name)]
    return Receipt(
        scope=scope,
        sync_id=last.sync_id,
        objects=tuple(item for each in segments for item in each.objects),
        replaces=last.replaces,
        removed=last.removes,
        counts=_sum(segments),
        schema=described.schema,
        fingerprint=described.fingerprint,
        json_schema=described.json_schema,
        schema_changes=next((each.schema_changes for each in reversed(segments) if each.schema_changes), None),
        state=next((each.state for each in reversed(segments) if each.state is not None), None),
        manifest=manifest,
        format=last.format,
        content=last.content if len(segments) == 1 else None,
        checkpoints=sum(not each.complete for each in segments),
        earlier=_sum(before) if before else None,
        repeated=repeated,
        swept=swept,
        quarantine=tuple(each.quarantine.key for each in segments if each.quarantine is not None),
    )


def receipt_of_mark(entry: SyncEntry, scope: Scope, manifest: str) -> Receipt:
    """The receipt of a sync that was published, and whose segments were collected since."""
    return Receipt(
        scope=scope,
        sync_id=entry.id,
        objects=(),
        replaces=False,
        removed=(),
        counts=Counts(),
        schema=None,
        fingerprint=None,
        json_schema=None,
        schema_changes=None,
        state=None,
        manifest=manifest,
        format={},
        repeated=True,
        collected=True,
    )


def _sum(segments: Iterable[Segment]) -> Counts:
    return sum((each.counts for each in segments), Counts())
