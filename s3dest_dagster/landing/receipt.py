"""What a landing tells whoever asked for it: the result of a sync, and where it stands meanwhile. Plain values."""

from __future__ import annotations

from dataclasses import dataclass

from s3dest_dagster.landing.manifest import Counts, ManifestObject, SchemaChanges, Segment
from s3dest_dagster.stream import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a landing stands: records read, objects begun, bytes written (compressed)."""

    rows: int
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The result of a sync, the same that stands in its segment.

    `replaces`: the scope holds only this sync's objects now; `removed` are the keys that left for them. `repeated`:
    the sync had been completed before under this id, and this is its recorded result. `manifest` is the `s3://`
    address of the segment. `swept` counts abandoned uploads that were aborted on the way.
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
    repeated: bool = False
    swept: int = 0

    @property
    def rows(self) -> int:
        """Rows of all objects."""
        return sum(each.rows for each in self.objects)

    @property
    def bytes(self) -> int:
        """Bytes of all objects."""
        return sum(each.bytes for each in self.objects)


def receipt_of(segment: Segment, scope: Scope, manifest: str, *, repeated: bool, swept: int = 0) -> Receipt:
    """The receipt that a segment stands for."""
    return Receipt(
        scope=scope,
        sync_id=segment.sync_id,
        objects=segment.objects,
        replaces=segment.replaces,
        removed=segment.removes,
        counts=segment.counts,
        schema=segment.schema,
        fingerprint=segment.fingerprint,
        json_schema=segment.json_schema,
        schema_changes=segment.schema_changes,
        state=segment.state,
        manifest=manifest,
        repeated=repeated,
        swept=swept,
    )
