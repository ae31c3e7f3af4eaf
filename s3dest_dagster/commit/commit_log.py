"""Reads and puts the documents of one scope in its bucket, and deletes the objects that they list as replaced.

The steps of the commit in `sync_commit` and `publication` use it. Must not know: records, formats.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from isal.isal_zlib import crc32

from s3dest_dagster.batch import KnownState, state_id
from s3dest_dagster.commit.documents import (
    FORMAT_VERSION,
    DocumentKind,
    ScopeLocation,
    StreamLocation,
    head_key,
    location_of,
    misplaced,
    segment_key,
    sync_mark_key,
)
from s3dest_dagster.commit.generations import live
from s3dest_dagster.commit.head import HEADS, Head, PublishedSync, ReachedState, RetiredObjects
from s3dest_dagster.commit.landed_objects import SegmentObject
from s3dest_dagster.commit.object_lists import OBJECTS_OF_A_LIST, ObjectLists
from s3dest_dagster.commit.segment import SEGMENTS, Segment
from s3dest_dagster.errors import ManifestError, PreconditionFailedError
from s3dest_dagster.keys import KeyTemplate, manifest_root_in, scope_root
from s3dest_dagster.settings.destination import SYNC_METADATA
from s3dest_dagster.storage import Bucket, crc32_text, each_in_parallel, in_parallel
from s3dest_dagster.stream import Scope


@dataclass(frozen=True, slots=True)
class SeenHead:
    """A head as it was read or put."""

    head: Head
    """The head. An empty head if there is none yet."""
    etag: str | None
    """Its ETag; None if there is none yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncMark:
    """Records permanently that a sync was published. It is put before the head forgets the sync."""

    format_version: int = FORMAT_VERSION
    """Version of this format. A reader refuses a newer one."""
    location: ScopeLocation
    """The scope that the mark belongs to, and the mark's location. A reader refuses it anywhere else."""
    sync: PublishedSync
    """The sync, as the head remembered it. Its segment may have been deleted."""


SYNC_MARKS = DocumentKind(SyncMark)


class CommitLog:
    """Reads and changes the documents of one scope.

    Args:
        bucket: The bucket.
        root: `keys.scope_root` of the scope.
        scope: The scope, with its stream's name as it is in the bucket.
        own: The prefixes of the stream's keys, one for each template that it has landed under. If empty, everything
            under the scope's bucket path counts as its own. Nothing else is ever deleted.
        objects_of_a_list: See `ObjectLists`.
    """

    def __init__(
        self,
        bucket: Bucket,
        root: str,
        scope: Scope,
        own: Sequence[str] = (),
        objects_of_a_list: int = OBJECTS_OF_A_LIST,
    ) -> None:
        self.bucket = bucket.with_root(manifest_root_in(root) or "")
        self.root = root
        self.scope = scope
        self.location = location_of(root, scope)
        self.lists = ObjectLists(self.bucket, root, self.location, objects_of_a_list)
        """The objects of its segments."""
        self._own = (root, *(own or (f"{self.location.bucket_path}/".lstrip("/"),)))
        self._with_state: Segment | None = None

    @classmethod
    def of(
        cls,
        bucket: Bucket,
        template: KeyTemplate,
        scope: Scope,
        own: Sequence[str] = (),
        objects_of_a_list: int = OBJECTS_OF_A_LIST,
    ) -> CommitLog:
        """The commit log of a scope that lands under this template's bucket path. See the class for the arguments."""
        return cls(bucket, scope_root(template.literal_root, scope), scope, own, objects_of_a_list)

    def of_stream(self, location: StreamLocation) -> CommitLog:
        """The commit log of the same partition of another stream."""
        scope = Scope(location.stream_id, self.scope.partition)
        return CommitLog(self.bucket, scope_root(location.bucket_path, scope), scope)

    def is_empty(self, head: Head) -> bool:
        """Whether a head names nothing that a reader, a source or a publication needs."""
        if head.pending_segment is not None or head.state_segment is not None:
            return False
        return all(each.is_empty and not each.compaction.absorbs for each in self.live_segments(head))

    @property
    def error_location(self) -> dict[str, str | None]:
        """The keyword arguments of an error that say where it happened."""
        return {"stream": str(self.scope.stream), "partition": self.scope.partition}

    # ------------------------------------------------------------------ reading

    def read_head(self) -> SeenHead:
        """Reads the current head."""
        found = HEADS.read(self.bucket, self.root, head_key(self.root))
        return SeenHead(*found) if found is not None else self.no_head

    @property
    def no_head(self) -> SeenHead:
        """What `read_head` returns for a scope that has none."""
        return SeenHead(Head(location=self.location), None)

    def read_segment(self, name: str) -> Segment:
        """Reads a segment that the head names.

        Raises:
            ManifestError: The segment is missing.
        """
        if self._with_state is not None and self._with_state.name == name:
            return self._with_state
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
        """Reads a segment that may have been deleted. None if it is gone."""
        key = segment_key(self.root, name)
        found = SEGMENTS.read(self.bucket, self.root, key)
        if found is None:
            return None
        if found[0].name != name:
            raise misplaced(self.bucket, key, f"segment {found[0].name}")
        return found[0]

    def newest_segment(self, head: Head) -> Segment | None:
        """The newest segment that the head names. None if it names none."""
        return self.read_segment(head.newest) if head.newest is not None else None

    def live_segments(self, head: Head) -> list[Segment]:
        """The published segments that list all objects of the scope, compacted ones included, oldest first."""
        return live(self.named_segments(head), self.lists.objects)

    def named_segments(self, head: Head) -> list[Segment]:
        """The segments that a head names, compacted ones included, oldest first. Those of generations that have left
        are among them."""
        read: dict[str, Segment] = {}
        names: Sequence[str] = head.oldest_first
        while names:
            read |= zip(names, in_parallel(self.read_segment, names), strict=True)
            names = [older for name in names for older in read[name].compaction.compacts]
        return list(_oldest_first(head.oldest_first, read))

    def visible_segments(self, head: Head) -> list[Segment]:
        """The segments that a reader of this head sees: its live segments, and a pending segment once all of its
        objects exist."""
        if head.pending_segment is None:
            return self.live_segments(head)
        pending = self.read_segment(head.pending_segment)
        if pending.given_to is not None:
            return self.live_segments(head)
        items = chain(self.lists.quarantines(pending), self.lists.objects(pending))
        if not all(each_in_parallel(lambda each: self.has_arrived(pending, each), items)):
            return self.live_segments(head)
        return self.live_segments(head.published(pending)) if not pending.replaces else [pending]

    def has_arrived(self, segment: Segment, item: SegmentObject) -> bool:
        """Whether an object of a segment exists as its sync wrote it.

        It must have the right size, and the segment's mark in its metadata. If the server does not keep metadata, the
        ETag or the content decides, because an older object may have the same key and size.
        """
        found = self.bucket.head(item.key)
        if found is None or found.size != item.bytes:
            return False
        name = found.metadata.get(SYNC_METADATA)
        if name is not None or not item.crc32:
            return name in (None, segment.object_mark)
        if found.etag == item.etag:
            return True
        content = self.bucket.get(item.key)
        return content is not None and crc32_text(crc32(content[0])) == item.crc32

    def segments_of_sync(self, newest: str) -> list[Segment]:
        """The segments of one sync, oldest first: its checkpoints and its end. `newest` names the last of them."""
        return _sync_chain(newest, self.read_segment)

    def remaining_segments_of_sync(self, newest: str) -> list[Segment]:
        """Like `segments_of_sync`, but empty if one of the sync's segments was deleted."""
        return _sync_chain(newest, self.find_segment)

    def retired_segments(self, retired: Iterable[RetiredObjects]) -> list[Segment]:
        """The segments whose replaced objects are still kept."""
        segments: list[Segment] = []
        for each in retired:
            name: str | None = each.segment
            while name is not None:
                segments.append(self.read_segment(name))
                name = segments[-1].replaced.retired_with if segments[-1].replaced is not None else None
        return segments

    def retired_keys(self, head: Head) -> set[str]:
        """The keys of objects that were replaced and are still kept."""
        return {key for segment in self.retired_segments(head.retired) for key in self.lists.replaced_keys(segment)}

    def reached_state(self, head: Head) -> ReachedState | None:
        """The state that the scope's published records reach. None if the source provided no state."""
        if head.state_segment is None:
            return None
        segment = self.read_segment(head.state_segment)
        # A segment never changes, and the sync that continues from this one needs it again.
        self._with_state = segment
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
        """Looks a sync up in the head, and then among the marks. None if it was never published.

        Sends one request if the head may have forgotten the sync, otherwise none.
        """
        sync = head.find_sync(sync_id)
        if sync is not None or not head.may_have_forgotten:
            return sync
        found = self._read_mark(sync_id)
        return found[0] if found is not None else None

    def mark_sync(self, sync: PublishedSync, is_current: Callable[[], bool]) -> None:
        """Puts the mark of a sync. Does nothing if another writer has already put it.

        A sync that was forgotten after a checkpoint may have continued and been forgotten a second time. Its newer mark
        then replaces the older one, and a writer that was suspended must not restore the older one.

        Args:
            sync: The sync, as the head remembers it.
            is_current: Returns whether that head is still current. Called only if there is another mark.
        """
        if self._put_mark(sync, None):
            return
        found = self._read_mark(sync.id)
        if found is not None and found[0] != sync and not found[0].complete and is_current():
            self._put_mark(sync, found[1])

    def _put_mark(self, sync: PublishedSync, etag: str | None) -> bool:
        """Puts a mark in place of the one with this ETag. Returns False if another writer was faster."""
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

    def marks(self) -> Iterator[PublishedSync]:
        """Yields the syncs that the head has forgotten."""
        listed = self.bucket.list_objects(f"{self.root}syncs/")
        for found in in_parallel(lambda each: SYNC_MARKS.read(self.bucket, self.root, each.key), listed):
            if found is not None:
                yield found[0].sync

    # ------------------------------------------------------------------ changing

    def put_segment(self, segment: Segment) -> None:
        """Puts a segment. Nobody reads it until a head names it."""
        self.bucket.put(segment_key(self.root, segment.name), SEGMENTS.encode(segment))

    def delete_segment(self, segment: Segment) -> None:
        """Deletes the segment of a sync that was never decided, and the lists that were written for it."""
        self.bucket.delete([segment_key(self.root, segment.name)])
        self.lists.delete_own(segment)

    def put_head(self, head: Head, seen: SeenHead) -> SeenHead:
        """Puts a head in place of the one that was seen.

        Raises:
            PreconditionFailedError: There is another head by now.
        """
        moved = head.succeeding(seen.head)
        etag = self.bucket.put(
            head_key(self.root), HEADS.encode(moved), if_absent=seen.etag is None, if_match=seen.etag
        )
        return SeenHead(moved, etag)

    def delete_replaced(self, segments: Sequence[Segment], *, keep: Collection[str] = ()) -> None:
        """Deletes the objects that these segments replaced, provided that all of them are the stream's own.

        This may happen late, after other syncs. Keys that never recur are deleted unconditionally. Keys that a later
        sync may use again are deleted only while they still hold the replaced object.

        Args:
            segments: The segments that replaced them.
            keep: Keys that must stay.
        """
        replaced = [(each, each.replaced) for each in segments if each.replaced is not None]
        # Everything is checked before anything is deleted.
        self.check_own(key for segment, _ in replaced for key in self.lists.replaced_keys(segment))
        self.bucket.delete(
            key
            for segment, replacement in replaced
            for key in self.lists.replaced_keys(segment)
            if key not in replacement.etags and key not in keep
        )
        for _, replacement in replaced:
            self.bucket.delete_unchanged({key: etag for key, etag in replacement.etags.items() if key not in keep})

    def check_own(self, keys: Iterable[str]) -> None:
        """Refuses keys that are not the stream's own: a manifest that lists such keys was changed by somebody else.

        Raises:
            ManifestError: The stream does not land under one of the keys.
        """
        foreign = next((key for key in keys if not key.startswith(self._own)), None)
        if foreign is not None:
            raise ManifestError(
                f"The manifests of {self.scope} list {self.bucket.uri(foreign)}, where the stream does not land: "
                "somebody has changed them. Nothing of what they list was deleted. Restore what was under "
                f"{self.bucket.uri(self.root)} from a backup or older versions of the objects.",
                key=foreign,
                **self.error_location,
            )

    def etags_of(self, keys: Collection[str]) -> dict[str, str]:
        """The current ETags of the objects with these keys. A key without an object is left out."""
        found = in_parallel(self.bucket.head, keys)
        return {key: each.etag for key, each in zip(keys, found, strict=True) if each is not None}


def _sync_chain(newest: str, read: Callable[[str], Segment | None]) -> list[Segment]:
    """A segment and the sync's checkpoints before it, oldest first. Empty if one of them is gone."""
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
    """The segments with these names, each after the segments that it compacts."""
    for name in names:
        yield from _oldest_first(segments[name].compaction.compacts, segments)
        yield segments[name]
