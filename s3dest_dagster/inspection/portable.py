"""One landed object as a small value that any process can read, so that an engine's workers share the reading.

It is compared with the manifest when it is read, as every other object. Must not know: engines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec
import pyarrow as pa

from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.commit.commit_log import CommitLog, SeenHead
from s3dest_dagster.commit.head import Head
from s3dest_dagster.commit.landed_objects import LandedObject, LandedSync
from s3dest_dagster.commit.segment import SEGMENTS, Compaction
from s3dest_dagster.commit.written_columns import columns_text, record_of
from s3dest_dagster.inspection.read import LiveObject, ScopeSnapshot
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.storage import open_bucket

_ITEM = msgspec.json.Decoder(LandedObject)


@dataclass(frozen=True, slots=True)
class PortableObject:
    """One landed object, which any process can read as a table."""

    connection: S3Connection
    """How to reach S3."""
    bucket: str
    """Name of the bucket."""
    segment: bytes
    """The segment that says how to read it, without objects."""
    sync: str
    """Name of the segment of the sync that landed it."""
    item: bytes
    """The object's entry."""
    columns: str
    """The columns of the table."""
    names: tuple[str, ...]
    """Which of the columns to read."""
    head: str | None
    """ETag of the head that listed it."""

    def table(self) -> pa.Table:
        """The object's records.

        Raises:
            ObjectNotFoundError, ObjectReplacedError: It was deleted or replaced.
        """
        segment, item = SEGMENTS.decode(self.segment, self.sync), _ITEM.decode(self.item)
        location = segment.location
        commit_log = CommitLog(open_bucket(self.connection, self.bucket), location.root, location.scope)
        sync = LandedSync(segment=self.sync, started_at=segment.sync.started_at, objects=(item,), quarantine=None)
        found = ScopeSnapshot(commit_log, SeenHead(Head(location=location), self.head), [segment])
        table = found.table_of(LiveObject(segment, sync, item), record_of(self.columns))
        return table.select(list(self.names))


def portable_objects(
    found: ScopeSnapshot, record: Record, names: tuple[str, ...], connection: S3Connection
) -> Iterator[PortableObject]:
    """Yields the objects of a scope.

    Args:
        found: The scope.
        record: The columns of all tables.
        names: Which of the columns to read.
        connection: How workers reach S3: without an endpoint or region of its own, where this process does.
    """
    bucket = found.commit_log.bucket
    connection = connection.with_location(bucket.endpoint, bucket.client.meta.region_name or "")
    for each in found.objects():
        segment = replace(
            each.segment,
            objects=(),
            object_lists=(),
            compaction=Compaction(),
            quarantine=None,
            further_quarantines=(),
            replaced=None,
        )
        yield PortableObject(
            connection=connection,
            bucket=bucket.name,
            segment=SEGMENTS.encode(segment),
            sync=each.sync.segment,
            item=msgspec.json.encode(each.item),
            columns=columns_text(record),
            names=names,
            head=found.seen.etag,
        )
