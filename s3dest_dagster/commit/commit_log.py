"""The documents of one scope in its bucket: reading them, putting them, and deleting what they say was replaced.

`sync_commit` and `publication` have the steps of the commit that use it. Must not know: records, formats.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from isal.isal_zlib import crc32

from s3dest_dagster.batch import KnownState, state_id
from s3dest_dagster.commit.documents import (
    FORMAT_VERSION,
    DocumentKind,
    ScopeLocation,
    head_key,
    location_of,
    misplaced,
    segment_key,
    sync_mark_key,
)
from s3dest_dagster.commit.head import HEADS, Head, PublishedSync, ReachedState, RetiredObjects
from s3dest_dagster.commit.segment import SEGMENTS, Segment, SegmentObject
from s3dest_dagster.errors import ManifestError, PreconditionFailedError
from s3dest_dagster.keys import manifest_root_in
from s3dest_dagster.settings.destination import SYNC_METADATA
from s3dest_dagster.storage import Bucket, crc32_text, in_parallel
from s3dest_dagster.stream import Scope


@dataclass(frozen=True, slots=True)
class SeenHead:
    """A head as it was read or put."""

    head: Head
    """The head; an empty one if there is none yet."""
    etag: str | None
    """Its ETag; None if there is none yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncMark:
    """Says for ever that a sync was published. It is put before the head forgets the sync."""

    format_version: int = FORMAT_VERSION
    """Version of this format. A reader refuses a newer one."""
    location: ScopeLocation
    """The scope that the mark belongs to, and where it stands. A reader refuses it anywhere else."""
    sync: PublishedSync
    """The sync, as the head remembered it. Its segment may be gone."""


SYNC_MARKS = DocumentKind(SyncMark)


class CommitLog:
    """Reads and changes the documents of one scope.

    Args:
        bucket: The bucket.
        root: `keys.scope_root` of the scope.
        scope: The scope, with its stream's name as it stands in the bucket.
        own: What every key of the stream begins with, for each template that it has landed under. If it is empty, what
            stands under the scope's bucket path. Nothing else is ever deleted.
    """

    def __init__(self, bucket: Bucket, root: str, scope: Scope, own: Sequence[str] = ()) -> None:
        self.bucket = bucket.with_root(manifest_root_in(root) or "")
        self.root = root
        self.scope = scope
        self.location = location_of(root, scope)
        self._own = (root, *(own or (f"{self.location.bucket_path}/".lstrip("/"),)))

    @property
    def error_location(self) -> dict[str, str | None]:
        """Where an error happened, for its keywords."""
        return {"stream": str(self.scope.stream), "partition": self.scope.partition}

    # ------------------------------------------------------------------ reading

    def read_head(self) -> SeenHead:
        """The head as it stands."""
        found = HEADS.read(self.bucket, self.root, head_key(self.root))
        return SeenHead(*found) if found is not None else SeenHead(Head(location=self.location), None)

    def read_segment(self, name: str) -> Segment:
        """A segment that the head names.

        Raises:
            ManifestError: It is missing, although the head names it.
        """
        segment = self.find_segment(name)
        if segment is None:
            key = segment_key(self.root, name)
            raise ManifestError(
                f"{self.bucket.uri(key)} is missing although the head of {self.scope} names it. Somebody, or a "
                "lifecycle rule, deleted it; restore it from a backup or an older version of the object. Without one, "
                f"delete {self.bucket.uri(head_key(self.root))} too: the scope is then as if nothing had landed "
                "there, and a full refresh takes over what lies under its keys.",
                key=key,
            )
        return segment

    def find_segment(self, name: str) -> Segment | None:
        """A segment that may have been collected; None if it is gone."""
        key = segment_key(self.root, name)
        found = SEGMENTS.read(self.bucket, self.root, key)
        if found is None:
            return None
        if found[0].name != name:
            raise misplaced(self.bucket, key, f"segment {found[0].name}")
        return found[0]

    def live_segments(self, head: Head) -> list[Segment]:
        """The published segments that list all objects of the scope, compacted ones included, oldest first."""
        read: dict[str, Segment] = {}
        names: Sequence[str] = head.oldest_first
        while names:
            read |= zip(names, in_parallel(self.read_segment, names), strict=True)
            names = [older for name in names for older in read[name].compaction.compacts]
        return list(_oldest_first(head.oldest_first, read))

    def visible_segments(self, head: Head) -> list[Segment]:
        """What a reader of this head sees: its live segments, and a pending one once all of its objects are there."""
        if head.pending_segment is None:
            return self.live_segments(head)
        pending = self.read_segment(head.pending_segment)
        if not all(in_parallel(lambda each: self.has_arrived(pending, each), pending.all_objects)):
            return self.live_segments(head)
        return self.live_segments(head.published(pending)) if not pending.replaces else [pending]

    def has_arrived(self, segment: Segment, item: SegmentObject) -> bool:
        """Whether an object of a segment is there, as its sync wrote it.

        It has the right size, and the segment's name in its metadata. If the server does not keep metadata, the ETag
        or the content decides, since an older object may have the same key and size.
        """
        found = self.bucket.head(item.key)
        if found is None or found.size != item.bytes:
            return False
        name = found.metadata.get(SYNC_METADATA)
        if name is not None or not item.crc32:
            return name in (None, segment.name)
        if found.etag == item.etag:
            return True
        content = self.bucket.get(item.key)
        return content is not None and crc32_text(crc32(content[0])) == item.crc32

    def segments_of_sync(self, newest: str) -> list[Segment]:
        """The segments of one sync, oldest first: its checkpoints and its end. `newest` names the last of them."""
        return _sync_chain(newest, self.read_segment)

    def remaining_segments_of_sync(self, newest: str) -> list[Segment]:
        """As `segments_of_sync`, but empty if a segment of it was collected."""
        return _sync_chain(newest, self.find_segment)

    def retired_segments(self, retired: Iterable[RetiredObjects]) -> list[Segment]:
        """The segments whose replaced objects are kept."""
        segments: list[Segment] = []
        for each in retired:
            name: str | None = each.segment
            while name is not None:
                segments.append(self.read_segment(name))
                name = segments[-1].replaced.retired_with if segments[-1].replaced is not None else None
        return segments

    def retired_keys(self, head: Head) -> set[str]:
        """The keys of objects that were replaced and are kept."""
        return {key for segment in self.retired_segments(head.retired) for key in segment.replaced_keys}

    def reached_state(self, head: Head) -> ReachedState | None:
        """The state that the scope's published records reach; None if the source gave none."""
        if head.state_segment is None:
            return None
        segment = self.read_segment(head.state_segment)
        state = segment.state
        assert state is not None, "the head names a segment that has a state"
        itself = KnownState(state_id(state.text), state.read_count, segment_key(self.root, segment.name))
        return ReachedState(
            state.text,
            at=segment.sync.started_at,
            complete=head.recent_syncs[-1].complete,
            lineage=(*state.ancestors, itself),
        )

    # ------------------------------------------------------------------ syncs that the head has forgotten

    def find_sync(self, head: Head, sync_id: str) -> PublishedSync | None:
        """What is known of a sync, from the head or else from its mark; None if it was never published.

        One request if the head may have forgotten the sync, else none.
        """
        sync = head.find_sync(sync_id)
        if sync is not None or not head.may_have_forgotten:
            return sync
        found = self._read_mark(sync_id)
        return found[0] if found is not None else None

    def mark_sync(self, sync: PublishedSync, is_current: Callable[[], bool]) -> None:
        """Puts the mark of a sync. Another writer may have put it already; that is fine.

        A sync that was forgotten after a checkpoint may have gone on and be forgotten again. Then the newer mark takes
        the place of the older one, and a writer that slept must not bring the older one back.

        Args:
            sync: The sync, as the head remembers it.
            is_current: Whether that head still stands; asked only if another mark is there.
        """
        if self._put_mark(sync, None):
            return
        found = self._read_mark(sync.id)
        if found is not None and found[0] != sync and not found[0].complete and is_current():
            self._put_mark(sync, found[1])

    def _put_mark(self, sync: PublishedSync, etag: str | None) -> bool:
        """Puts a mark in place of the one with this ETag. Returns whether no other writer was faster."""
        mark, key = SyncMark(location=self.location, sync=sync), sync_mark_key(self.root, sync.id)
        try:
            self.bucket.put(key, SYNC_MARKS.encode(mark), if_absent=etag is None, if_match=etag)
        except PreconditionFailedError:
            return False
        return True

    def _read_mark(self, sync_id: str) -> tuple[PublishedSync, str] | None:
        key = sync_mark_key(self.root, sync_id)
        found = SYNC_MARKS.read(self.bucket, self.root, key)
        if found is None:
            return None
        sync = found[0].sync
        if sync.id != sync_id:
            raise misplaced(self.bucket, key, f"the mark of sync {sync.id}")
        return sync, found[1]

    # ------------------------------------------------------------------ changing

    def put_segment(self, segment: Segment) -> None:
        """Puts a segment. Nobody reads it until a head names it."""
        self.bucket.put(segment_key(self.root, segment.name), SEGMENTS.encode(segment))

    def delete_segment(self, segment: Segment) -> None:
        """Deletes the segment of a sync that was not decided."""
        self.bucket.delete([segment_key(self.root, segment.name)])

    def put_head(self, head: Head, seen: SeenHead) -> SeenHead:
        """Puts a head in place of the one that was seen.

        Raises:
            PreconditionFailedError: Another head stands there now.
        """
        moved = head.succeeding(seen.head)
        etag = self.bucket.put(
            head_key(self.root), HEADS.encode(moved), if_absent=seen.etag is None, if_match=seen.etag
        )
        return SeenHead(moved, etag)

    def delete_replaced(self, segments: Sequence[Segment], *, keep: Collection[str] = ()) -> None:
        """Deletes the objects that these segments replaced, if all of them are the stream's own.

        This may come late, after other syncs. Keys that never come again are deleted as they are. Keys that a later
        sync may use again are deleted only while the replaced object itself stands there.

        Args:
            segments: The segments that replaced them.
            keep: Keys that must stay.
        """
        replaced = [each.replaced for each in segments if each.replaced is not None]
        self.check_own(key for each in replaced for key in each.keys)
        final = {key for each in replaced for key in each.keys if key not in each.etags}
        self.bucket.delete(sorted(final.difference(keep)))
        for each in replaced:
            self.bucket.delete_unchanged({key: etag for key, etag in each.etags.items() if key not in keep})

    def check_own(self, keys: Iterable[str]) -> None:
        """Refuses keys that are not the stream's own: a manifest that lists them elsewhere is somebody else's.

        Raises:
            ManifestError: One of the keys stands where the stream does not land.
        """
        foreign = next((key for key in keys if not key.startswith(self._own)), None)
        if foreign is not None:
            raise ManifestError(
                f"The manifests of {self.scope} list {self.bucket.uri(foreign)}, where the stream does not land: "
                "somebody has changed them. Nothing of what they list was deleted. Restore what stands under "
                f"{self.bucket.uri(self.root)} from a backup or older versions of the objects.",
                key=foreign,
                **self.error_location,
            )

    def etags_of(self, keys: Collection[str]) -> dict[str, str]:
        """The ETags of the objects that stand under these keys now. A key without an object is left out."""
        found = in_parallel(self.bucket.head, keys)
        return {key: each.etag for key, each in zip(keys, found, strict=True) if each is not None}


def _sync_chain(newest: str, read: Callable[[str], Segment | None]) -> list[Segment]:
    """A segment and the sync's checkpoints before it, oldest first; empty if one of them is gone."""
    chain: list[Segment] = []
    name: str | None = newest
    while name is not None:
        segment = read(name)
        if segment is None:
            return []
        chain.append(segment)
        name = segment.sync.previous_checkpoint
    return chain[::-1]


def _oldest_first(names: Iterable[str], segments: Mapping[str, Segment]) -> Iterator[Segment]:
    """The segments of these names, each after those that it compacts."""
    for name in names:
        yield from _oldest_first(segments[name].compaction.compacts, segments)
        yield segments[name]
