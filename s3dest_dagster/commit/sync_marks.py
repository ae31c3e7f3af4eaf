"""Marks of syncs that the head has forgotten: small objects, one for each sync, by which it is known for ever.

A mark is put before the head that forgets its sync, by whoever puts that head. It must not know what was landed.
"""

from __future__ import annotations

from collections.abc import Callable

from s3dest_dagster.commit.manifest import SyncEntry, SyncMark, from_json, to_json
from s3dest_dagster.commit.manifest_keys import sync_mark_key
from s3dest_dagster.commit.placement import check_owner, misplaced
from s3dest_dagster.errors import PreconditionFailedError
from s3dest_dagster.keys import literal_root_of
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope


class SyncMarks:
    """The marks of one scope, whose manifests stand under `root`."""

    def __init__(self, bucket: Bucket, root: str, scope: Scope) -> None:
        self._bucket = bucket
        self._root = root
        self._scope = scope

    def find(self, sync_id: str) -> SyncEntry | None:
        """What a sync's mark tells; None where it has none. One request."""
        found = self._read(sync_id)
        return found[0] if found is not None else None

    def put(self, entry: SyncEntry, is_current: Callable[[], bool]) -> None:
        """Marks a sync. Returns, too, where another writer did.

        A sync that was forgotten after a checkpoint may have gone on, and be forgotten again: then the newer mark takes
        the older one's place, and a writer that slept does not bring the older one back. `is_current` tells whether
        `entry` still stands in the head, or whether others have seen to it since.
        """
        if self._put(entry, None):
            return
        found = self._read(entry.id)
        if found is not None and found[0] != entry and not found[0].complete and is_current():
            self._put(entry, found[1])

    def _put(self, entry: SyncEntry, etag: str | None) -> bool:
        """Puts a mark, in place of the one with this ETag; whether nobody else was quicker."""
        mark = SyncMark(
            path=literal_root_of(self._root),
            stream=self._scope.stream.name,
            namespace=self._scope.stream.namespace,
            partition=self._scope.partition,
            sync_id=entry.id,
            segment=entry.segment,
            complete=entry.complete,
        )
        key = sync_mark_key(self._root, entry.id)
        try:
            self._bucket.put(key, to_json(mark), if_absent=etag is None, if_match=etag)
        except PreconditionFailedError:
            return False
        return True

    def _read(self, sync_id: str) -> tuple[SyncEntry, str] | None:
        """A sync's mark, and its ETag."""
        key = sync_mark_key(self._root, sync_id)
        found = self._bucket.get(key)
        if found is None:
            return None
        mark = from_json(SyncMark, found[0], key)
        check_owner(self._bucket, mark, self._root, key)
        if mark.sync_id != sync_id:
            raise misplaced(self._bucket, key, f"the mark of sync {mark.sync_id}")
        return mark.entry, found[1]
