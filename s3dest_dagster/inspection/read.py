"""Reads a scope's records from the objects that its manifest lists: whole generations, never a mixture.

The columns are the same in every format: the envelope, then the schema's fields. It must not list data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Protocol, TypeVar

import pyarrow as pa
from isal.isal_zlib import crc32

from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.merged_columns import WrittenColumns, merged_record, readable_record
from s3dest_dagster.columns.retyping import aligned
from s3dest_dagster.columns.schemas import in_envelope
from s3dest_dagster.commit.commit_log import CommitLog, SeenHead
from s3dest_dagster.commit.landed_objects import LandedObject, LandedSync
from s3dest_dagster.commit.segment import Segment
from s3dest_dagster.commit.written_columns import all_written_columns, written_columns
from s3dest_dagster.errors import ObjectNotFoundError, ObjectReplacedError, SchemaError, SettingsError, StorageError
from s3dest_dagster.formats import read_table, table_schema
from s3dest_dagster.formats.row_filter import RowFilter
from s3dest_dagster.inspection.partition_filter import PartitionFilter
from s3dest_dagster.keys import KeyTemplate
from s3dest_dagster.settings.formats import FormatSettings, format_class
from s3dest_dagster.storage import Bucket, crc32_text
from s3dest_dagster.stream import Scope

_ATTEMPTS = 3


class _Outdates(Protocol):
    """A result of reading that may be outdated by now."""

    def is_outdated(self) -> bool: ...


Looked = TypeVar("Looked", bound=_Outdates)
Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class LiveObject:
    """An object that the scope holds."""

    segment: Segment
    """The segment that says how to read it."""
    sync: LandedSync
    """The sync that landed it."""
    item: LandedObject


@dataclass(frozen=True, slots=True)
class ScopeSnapshot:
    """The content of a scope according to one head: one generation, whatever is published later."""

    commit_log: CommitLog
    seen: SeenHead
    segments: Sequence[Segment]
    where: PartitionFilter = field(default_factory=PartitionFilter)
    """The objects to read, by the values of their directories. By default all of them."""
    as_of: datetime | None = None
    """Only objects of syncs that began by this time are read. None: all of them."""

    def objects(self) -> Iterator[LiveObject]:
        """Yields its objects with records, oldest sync first."""
        for segment, sync, item in self._landed():
            if self.where.selects(item) and self._is_in_time(sync):
                yield LiveObject(segment, sync, item)

    def files(self) -> Iterator[LiveObject]:
        """Yields its copies of files, oldest sync first. They have no records."""
        landed = self.commit_log.lists.landed(self.segments)
        return (LiveObject(*each) for each in landed if each[2].file is not None)

    def _landed(self) -> Iterator[tuple[Segment, LandedSync, LandedObject]]:
        """Everything that has records. Copies of files have none."""
        landed = self.commit_log.lists.landed(self.segments)
        return ((segment, sync, item) for segment, sync, item in landed if item.file is None)

    def selected(self, where: PartitionFilter, as_of: datetime | None = None) -> ScopeSnapshot:
        """The same content, of which only the objects with these values, and of syncs up to this time, are read.

        Raises:
            SettingsError: An object was landed without such directories, or what the scope held at that time is gone.
        """
        items = (item for _, _, item in self._landed())
        where.check(items, str(self.commit_log.scope))
        found = replace(self, where=where, as_of=as_of)
        syncs = {sync.segment: sync for _, sync, _ in self._landed()}
        if syncs and not any(map(found._is_in_time, syncs.values())):
            raise self._gone(as_of)
        return found

    def _is_in_time(self, sync: LandedSync) -> bool:
        return self.as_of is None or sync.started_at <= self.as_of

    def _gone(self, as_of: datetime | None) -> SettingsError:
        scope = self.commit_log.scope
        return SettingsError(
            f"{scope} has nothing from as_of={as_of} any more: it landed later, or a full refresh has replaced what it "
            "held then. Give a later time, or none; an append keeps what it held at any time.",
            stream=str(scope.stream),
            partition=scope.partition,
            setting="as_of",
        )

    @property
    def written_columns(self) -> list[WrittenColumns]:
        """The columns with which the objects were written, oldest first, each once."""
        return list(dict.fromkeys(each for segment in self.segments for each in all_written_columns(segment)))

    @property
    def record(self) -> Record | None:
        """The columns of all objects together. None if no records were ever landed, and no schema was declared.

        Raises:
            SchemaError: A column has types that no single type can hold.
        """
        return record_of_scopes([self], str(self.commit_log.scope))

    def tables(self, record: Record | None = None, rows: RowFilter | None = None) -> Iterator[pa.Table]:
        """Yields the records, one table per object, each compared with the manifest. All tables have the same columns.

        If an object is gone because another sync has been published, the records of that sync are yielded instead,
        provided that nothing was yielded yet and the columns are the same. Rows of two generations are never mixed.

        Args:
            record: The columns of the tables. Default: those of all objects, also if another sync has changed them.
            rows: The records to read, of these columns. By default all of them.

        Raises:
            ObjectNotFoundError, ObjectReplacedError: An object was deleted or replaced, and the records of another sync
            cannot be yielded instead.
        """
        snapshot, columns = self, record or self.record
        for attempt in range(1, _ATTEMPTS + 1):
            has_yielded = False
            try:
                for each in snapshot.objects():
                    assert columns is not None, "a scope with objects has columns"
                    table = snapshot.table_of(each, columns, rows)
                    has_yielded = True
                    yield table
                return
            except (ObjectNotFoundError, ObjectReplacedError):
                if has_yielded or attempt == _ATTEMPTS or not snapshot.is_outdated():
                    raise
                newer = _snapshot_of(snapshot.commit_log).selected(self.where, self.as_of)
                if record is None:
                    columns = newer.record
                elif newer.record != snapshot.record:
                    raise
                snapshot = newer

    def is_outdated(self) -> bool:
        """Whether another sync has been published since, or is being published."""
        now = self.commit_log.read_head()
        return now.etag != self.seen.etag or now.head.pending_segment is not None

    def table_of(self, each: LiveObject, columns: Record, rows: RowFilter | None = None) -> pa.Table:
        """The records of one object, which is compared with the manifest. Raises as `tables` does."""
        found = self.commit_log.bucket.get(each.item.key)
        if found is None or not is_promised(each.item, *found):
            raise self._changed(each, replaced=found is not None)
        written = written_columns(each.segment, each.item.key)
        assert written is not None, "a segment with objects has columns"
        record = readable_record(written, columns)
        table = read_table(format_of(each.segment), record, found[0], written=written.record, rows=rows)
        try:
            whole = aligned(in_envelope(table, record, columns), table_schema(columns))
        except pa.ArrowException as error:
            raise self._unlike(each, error) from error
        return whole if rows is None else whole.filter(rows.expression)

    def _unlike(self, each: LiveObject, error: Exception) -> SchemaError:
        scope, uri = self.commit_log.scope, self.commit_log.bucket.uri(each.item.key)
        return SchemaError(
            f"{uri} cannot be read together with the other objects of {scope}, since its columns have other types: "
            f"{error}. Land the scope anew by a full refresh, or read its objects one by one.",
            stream=str(scope.stream),
        )

    def _changed(self, each: LiveObject, *, replaced: bool) -> StorageError:
        scope, uri = self.commit_log.scope, self.commit_log.bucket.uri(each.item.key)
        what = f"{uri} was {'replaced' if replaced else 'deleted'}"
        if self.is_outdated():
            sentence = f"{what} while it was read: another sync of {scope} was published. Read it again."
        else:
            sentence = (
                f"{what} by somebody else: no sync of {scope} was published since sync {each.sync.sync_id}, whose "
                "manifest lists it. `s3dest verify` tells what else differs. Restore the object, or land it anew by a "
                "full refresh."
            )
        kind = ObjectReplacedError if replaced else ObjectNotFoundError
        return kind(sentence, stream=str(scope.stream), partition=scope.partition, key=each.item.key)


def record_of_scopes(scopes: Sequence[ScopeSnapshot], name: str) -> Record | None:
    """The columns of all objects of these scopes together, with the envelope of the newest ones that have one. None if
    no records were ever landed, and no schema was declared.

    Raises:
        SchemaError: A column has types that no single type can hold. The error has this name.
    """
    written = list(dict.fromkeys(each for scope in scopes for each in scope.written_columns))
    if not written:
        return None
    merged = merged_record(written, name)
    # The newest objects may have the same columns as older ones, with those of another envelope between them.
    newest_first = (written_columns(segment) for scope in reversed(scopes) for segment in reversed(scope.segments))
    envelopes = (each.record.envelope for each in newest_first if each is not None)
    return replace(merged, envelope=next((each for each in envelopes if each != "none"), merged.envelope))


def snapshot(bucket: Bucket, template: KeyTemplate, scope: Scope) -> ScopeSnapshot:
    """The current content of the scope. `scope` has its stream's name as it is in the bucket."""
    return _snapshot_of(CommitLog.of(bucket, template, scope))


def _snapshot_of(commit_log: CommitLog) -> ScopeSnapshot:
    seen = commit_log.read_head()
    return ScopeSnapshot(commit_log, seen, commit_log.visible_segments(seen.head))


def is_promised(item: LandedObject, content: bytes, etag: str) -> bool:
    """Whether an object is the one that was landed, by its ETag or, if that differs, by its size and CRC-32."""
    if item.etag and etag == item.etag:
        return True
    return len(content) == item.bytes and (not item.crc32 or crc32_text(crc32(content)) == item.crc32)


def live_objects(bucket: Bucket, template: KeyTemplate, scope: Scope) -> list[LiveObject]:
    """The objects that the scope holds now, oldest sync first. `scope` has its stream's name as it is in the bucket.

    A reader of the objects should compare them with the manifest (see `is_promised`).
    """
    return list(snapshot(bucket, template, scope).objects())


def live_files(bucket: Bucket, template: KeyTemplate, scope: Scope) -> list[LiveObject]:
    """The copies of files that the scope holds now, oldest sync first. `scope` has its stream's name as it is in the
    bucket."""
    return list(snapshot(bucket, template, scope).files())


def read_tables(bucket: Bucket, template: KeyTemplate, scope: Scope) -> Iterator[pa.Table]:
    """Yields the scope's records of one generation, one table per object (see `ScopeSnapshot.tables`)."""
    return snapshot(bucket, template, scope).tables()


def read_scope(bucket: Bucket, template: KeyTemplate, scope: Scope) -> pa.Table | None:
    """All records of the scope as one table. None if it holds no records. Columns that older syncs lack are null."""
    tables = read_whole(lambda: snapshot(bucket, template, scope), lambda found: list(found.tables()))
    return pa.concat_tables(tables) if tables else None


def read_whole(look: Callable[[], Looked], read: Callable[[Looked], Read]) -> Read:
    """Returns `read(look())`. Calls both again if another sync was published in the meantime."""
    for attempt in range(1, _ATTEMPTS + 1):
        found = look()
        try:
            return read(found)
        except (ObjectNotFoundError, ObjectReplacedError):
            if attempt == _ATTEMPTS or not found.is_outdated():
                raise
    raise AssertionError("unreachable")


def format_of(segment: Segment) -> FormatSettings:
    """The settings of the format in which the segment's objects were written."""
    kind = format_class(segment.format["format_type"])
    known = {each.name for each in fields(kind)}
    return kind(**{name: value for name, value in segment.format.items() if name in known})
