"""Collects what the shards of an order have staged, one receipt after another: checks it, and sums it up.

Objects that receipts hold are put into lists if there are very many. Lists that workers have put are read once, to
check them, and then referred to. Must not know: how an order is decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from s3dest_dagster.commit.landed_objects import ListedObjects, SegmentObject
from s3dest_dagster.commit.object_lists import ObjectListWriter
from s3dest_dagster.commit.segment import Counts
from s3dest_dagster.commit.sync_commit import SyncCommit
from s3dest_dagster.errors import CommitError, UploadVanishedError
from s3dest_dagster.ingest.partitioned_writer import directory_count
from s3dest_dagster.keys import mark_of, part_id
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.shards.order import Order
from s3dest_dagster.shards.receipts import ShardReceipt
from s3dest_dagster.stream import Stream


@dataclass(frozen=True, slots=True)
class StagedShards:
    """What all shards of an order have staged. Either the lists are empty, or they list everything."""

    objects: tuple[SegmentObject, ...]
    quarantines: tuple[SegmentObject, ...]
    object_lists: tuple[ListedObjects, ...]
    counts: Counts

    @property
    def has_objects(self) -> bool:
        """Whether there is any object."""
        return bool(self.objects) or any(each.objects for each in self.object_lists)


class ShardCollector:
    """Adds up the receipts of an order.

    Args:
        order: The order.
        stream: Its stream, as it lands.
        destination: Its settings.
        commit: Its commit.
        writer: Puts the objects into lists if there are very many.
    """

    def __init__(
        self, order: Order, stream: Stream, destination: S3Destination, commit: SyncCommit, writer: ObjectListWriter
    ) -> None:
        self._order = order
        self._entry = commit.registry_entry
        self._lists = commit.commit_log.lists
        self._writer = writer
        self._matcher = commit.template.matcher(order.landed_scope.stream)
        self._directories = directory_count(destination, stream, order.scope)
        self._listed: list[ListedObjects] = []
        self._owners: dict[str, str] = {}
        self._counts = Counts()

    def append(self, receipt: ShardReceipt) -> None:
        """Adds one receipt that counts.

        Raises:
            CommitError: It lists an object that no worker of the order can have made, or that of another shard.
            RecordError: All shards together have more directories by field than a sync may have.
            UploadVanishedError: One of its lists is gone.
        """
        self._counts += receipt.counts
        self._entry.note_big_integers(frozenset(receipt.big_integers))
        self._check(receipt, receipt.objects)
        for each in receipt.lists:
            self._check_list(receipt, each)
        self._listed += receipt.lists
        self._writer.append(receipt.objects, [receipt.quarantine] if receipt.quarantine is not None else [])

    def finish(self) -> StagedShards:
        """Puts the rest into a list if there are lists. Returns everything."""
        if self._listed or self._writer.has_written:
            return StagedShards((), (), (*self._listed, *self._writer.finish()), self._counts)
        return StagedShards(*self._writer.held(), (), self._counts)

    def _check(self, receipt: ShardReceipt, objects: Sequence[SegmentObject]) -> None:
        for item in objects:
            if mark_of(part_id(self._matcher, item.key)) != self._order.mark:
                raise self._changed(receipt, f"lists {item.key}, which is no object of its order", item.key)
            other = self._owners.setdefault(item.key, receipt.shard)
            if other != receipt.shard:
                raise CommitError(
                    f"Shards {other!r} and {receipt.shard!r} of {self._order.scope} have the same object {item.key}. "
                    "Nothing was published. Give each shard a name of its own.",
                    key=item.key,
                    **self._order.error_location(),
                )
        if self._directories is not None:
            self._directories.add([self._values(item) for item in objects])

    def _values(self, item: SegmentObject) -> tuple[str | None, ...]:
        assert self._directories is not None
        values = item.partition_values or {}
        return tuple(values.get(field.name) for field in self._directories.rule)

    def _check_list(self, receipt: ShardReceipt, listed: ListedObjects) -> None:
        if not listed.name.startswith(f"{self._order.id}/"):
            raise self._changed(receipt, f"refers to {listed.name}, which is no list of its order", None)
        found = self._lists.find(listed)
        if found is None:
            raise UploadVanishedError(
                f"An object list of shard {receipt.shard!r} of {self._order.scope} is gone, and so are its uploads: "
                "the order was abandoned, or a sweep has found it too old. Nothing was published, and what the workers "
                "have staged is dropped. Begin a new order, and stage every shard.",
                **self._order.error_location(),
            )
        if (len(found.objects), _rows(found.objects)) != (listed.objects, listed.rows) or (
            len(found.quarantines),
            _rows(found.quarantines),
        ) != (listed.quarantines, listed.quarantined_rows):
            raise self._changed(receipt, f"says other numbers than its list {listed.name}", None)
        self._check(receipt, found.objects)

    def _changed(self, receipt: ShardReceipt, how: str, key: str | None) -> CommitError:
        return CommitError(
            f"The receipt of shard {receipt.shard!r} of {self._order.scope} {how}. Nothing was published. Somebody has "
            "changed the receipt; begin a new order.",
            key=key,
            **self._order.error_location(),
        )


def _rows(objects: Iterable[SegmentObject]) -> int:
    return sum(item.rows for item in objects)
