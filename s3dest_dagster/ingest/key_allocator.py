"""Allocates the keys of one sync's objects: never an existing key, and never the same key twice.

It must not know what the objects hold.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from uuid import UUID

from s3dest_dagster.commit.head import Head
from s3dest_dagster.errors import KeyCollisionError
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.keys import RANDOM_BYTES_OF_A_PART, KeyTemplate, marked_part
from s3dest_dagster.settings.partition_fields import FieldValues
from s3dest_dagster.stream import Scope, Sync

_MILLISECOND = timedelta(milliseconds=1)


class KeyAllocator:
    """Allocates the keys of a sync's objects, one after another.

    Part ids are ascending numbers, or UUIDs if the listing of the prefix is truncated (more than 1,000 objects). If the
    template changes with every sync, numbers begin at 0, or after the highest number in the listing. With any other
    template, and for a sync that began in the same millisecond as another sync may have, they also begin after the
    highest number that the head remembers, so that a key is never used again. `KeyTemplate.keys_recur` says when keys
    may recur nevertheless.

    The constructor lists the prefix once, if the template has part numbers. If several workers land one sync, part ids
    are UUIDs with the sync's mark, and nothing is listed.

    Args:
        template: The rule for the stream's keys.
        scope: The scope to land, with its stream's name as it is in the bucket.
        head: The scope's head. None if there is a mark.
        extension: The extension of the objects, with its leading dot.
        replaces: Whether the sync replaces what its scope holds, so that it may overwrite its objects.
        keys_distinct: Whether the streams that share the template are known to have different keys
            (`KeyTemplate.check_streams`).
        mark: The mark of the sync, if several workers land it (see `keys.part_marks`).
    """

    def __init__(
        self,
        target: Target,
        template: KeyTemplate,
        scope: Scope,
        sync: Sync,
        head: Head | None,
        *,
        extension: str,
        replaces: bool,
        keys_distinct: bool,
        mark: str = "",
    ) -> None:
        self._target = target
        self._sync = sync
        self._template = template
        self._keys = template.bind(scope, now=sync.now, uuid=sync.uuid, sync_id=sync.label)
        # Two partitions may start in the same millisecond, and two streams may share a path. If the key does not
        # distinguish scopes, a tag does.
        distinct = keys_distinct or template.changes_every_sync or template.identifies(scope.stream)
        is_tagged = not (distinct and self._keys.names_partition)
        self._tag = "_" + hashlib.sha256(f"{scope}\n{sync.id}".encode()).hexdigest()[:8] if is_tagged else ""
        self._extension = extension
        self._may_overwrite = replaces
        self._allocated: set[str] = set()
        self._last_time = target.clock() - _MILLISECOND
        self._counts = template.counts_parts
        self._mark = mark
        self.next_part_number = 0
        """The first part number that the sync has not used."""
        if self._counts and head is not None:
            self._start_counting(head)

    def next_key(self, fields: FieldValues = ()) -> str:
        """Returns the key of the next object.

        Args:
            fields: The values of its directories, in the order of the stream's rule.

        Raises:
            KeyCollisionError: The template cannot produce another key, or the key exists and must not be overwritten.
        """
        # Each object has its own millisecond, so that `{timestamp}` distinguishes them.
        self._last_time = max(self._target.clock(), self._last_time + _MILLISECOND)
        key = self._keys.key(
            self._part_id(), self._extension, uploaded_at=self._last_time, tag=self._tag, fields=fields
        )
        if key in self._allocated:
            raise KeyCollisionError(
                f"The path format and file name pattern give two objects of this sync the same key {key!r}. Add "
                "{part_number} to file_name_pattern, or raise object_size_mb and memory_mb so that one object is "
                "enough.",
                key=key,
                setting="file_name_pattern",
            )
        if not self._template.counts_parts:
            self._refuse_overwriting(key)
        self._allocated.add(key)
        return key

    def _start_counting(self, head: Head) -> None:
        listed, truncated = self._target.bucket.first_page(self._keys.prefix)
        if truncated:
            self._counts = False
            return
        numbers = [number for item in listed if (number := self._keys.part_of(item.key)) is not None]
        self.next_part_number = max([self._remembered_part(head), *(number + 1 for number in numbers)])

    def _remembered_part(self, head: Head) -> int:
        """The first part number that the head allows. 0 if this sync's time distinguishes its keys from all others."""
        is_later = head.latest_sync_start is None or self._sync.now >= head.latest_sync_start + _MILLISECOND
        return 0 if self._template.changes_every_sync and is_later else head.next_part_number

    def _part_id(self) -> int | str:
        if self._mark:
            return marked_part(self._mark, self._target.entropy(RANDOM_BYTES_OF_A_PART))
        if self._template.counts_parts and not self._counts:
            return str(UUID(bytes=self._target.entropy(16), version=4))
        part, self.next_part_number = self.next_part_number, self.next_part_number + 1
        return part

    def _refuse_overwriting(self, key: str) -> None:
        """Raises KeyCollisionError for an existing key, unless the sync replaces its scope. A key without a part number
        may exist."""
        if self._may_overwrite or self._target.bucket.head(key) is None:
            return
        raise KeyCollisionError(
            f"{self._target.bucket.uri(key)} exists, and an append must not overwrite it. Add {{part_number}} or "
            "{timestamp} to file_name_pattern, or land the stream by full refresh.",
            key=key,
            setting="file_name_pattern",
        )
