"""The keys of one sync's objects: never one that exists, never one twice.

It must not know what the objects hold.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from uuid import UUID

from s3dest_dagster.commit.manifest import Head
from s3dest_dagster.errors import KeyCollisionError
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.keys import KeyTemplate, SyncKeys
from s3dest_dagster.stream import Scope, Sync

_MILLISECOND = timedelta(milliseconds=1)


class KeyAllocator:
    """Gives the keys of a sync's objects, one after another.

    Part ids count up; where the one listing of the prefix is truncated (more than 1000 objects) they are UUIDs. With
    a template that changes with every sync they begin at 0 and after what the listing shows; with any other, and for a
    sync that began at a moment which another one may have had, after what the listing and the head's memory show, so
    that a key is never used again. `KeyTemplate.keys_recur` says where it may be all the same.
    """

    def __init__(
        self, target: Target, keys: SyncKeys, head: Head, *, began: datetime, tag: str, extension: str, replaces: bool
    ) -> None:
        self._target = target
        self._began = began
        self._template: KeyTemplate = target.destination.template
        self._keys = keys
        self._tag = tag
        self._extension = extension
        self._may_overwrite = replaces
        self._given: set[str] = set()
        self._last = target.clock() - _MILLISECOND
        self._counts = self._template.counts_parts
        self.next_part = 0
        if self._counts:
            self._count_from(head)

    def _count_from(self, head: Head) -> None:
        listed, truncated = self._target.bucket.first_page(self._keys.prefix)
        if truncated:
            self._counts = False
            return
        taken = [number for each in listed if (number := self._keys.part_of(each.key)) is not None]
        self.next_part = max([self._remembered(head), *(number + 1 for number in taken)])

    def _remembered(self, head: Head) -> int:
        """The part number from which the head's memory counts on."""
        is_later = head.latest_start is None or self._began >= head.latest_start + _MILLISECOND
        return 0 if self._template.changes_every_sync and is_later else head.next_part

    def take(self) -> str:
        """The key of the next object. KeyCollisionError when the template gives no other key."""
        self._last = max(self._target.clock(), self._last + _MILLISECOND)
        key = self._keys.key(self._part(), self._extension, uploaded_at=self._last, tag=self._tag)
        if key in self._given:
            raise KeyCollisionError(
                f"The path format and file name pattern give two objects of this sync the same key {key!r}. Add "
                "{part_number} to file_name_pattern, or raise object_size_mb and memory_mb so that one object is "
                "enough.",
                key=key,
                setting="file_name_pattern",
            )
        if not self._template.counts_parts:
            self._refuse_overwriting(key)
        self._given.add(key)
        return key

    def _part(self) -> int | str:
        if self._template.counts_parts and not self._counts:
            return str(UUID(bytes=self._target.entropy(16), version=4))
        part, self.next_part = self.next_part, self.next_part + 1
        return part

    def _refuse_overwriting(self, key: str) -> None:
        """A key without a part number may exist: only a sync that replaces what its scope holds may write it again."""
        if self._may_overwrite or self._target.bucket.head(key) is None:
            return
        raise KeyCollisionError(
            f"{self._target.bucket.uri(key)} exists, and an append must not overwrite it. Add {{part_number}} or "
            "{timestamp} to file_name_pattern, or land the stream by full refresh.",
            key=key,
            setting="file_name_pattern",
        )


def key_allocator_of(
    target: Target, scope: Scope, sync: Sync, head: Head, *, extension: str, replaces: bool, compared: bool
) -> KeyAllocator:
    """The names for a sync of a scope. One listing request.

    `compared`: the streams that share the template are known to make different keys (`KeyTemplate.check_streams`).
    """
    template = target.destination.template
    keys = template.bind(scope, now=sync.now, uuid=sync.uuid, sync_id=sync.label)
    # Two partitions may start in the same millisecond, and two streams share a path: where the key does not tell scopes
    # apart, a tag does.
    stream_told = compared or template.changes_every_sync or template.identifies(scope.stream)
    tag = (
        ""
        if stream_told and keys.names_partition
        else "_" + hashlib.sha256(f"{scope}\n{sync.id}".encode()).hexdigest()[:8]
    )
    return KeyAllocator(target, keys, head, began=sync.now, tag=tag, extension=extension, replaces=replaces)
