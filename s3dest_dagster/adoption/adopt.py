"""Adopts objects by one commit, which lists them in a segment of their own; and forgets them again.

The commit is decided by the scope's head like a sync, so that it cannot overwrite one that runs at the same time, and
anybody can finish it. No object is written, and none is deleted. Must not know: how the objects were found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from s3dest_dagster.adoption.columns import AdoptedColumns, adopted_columns
from s3dest_dagster.adoption.search import AdoptableObject, FoundObjects
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.schema_differences import Evolution
from s3dest_dagster.columns.schemas import avro_schema_text, fingerprint
from s3dest_dagster.columns.stream_columns import StreamColumns
from s3dest_dagster.commit.commit_log import CommitLog, SeenHead
from s3dest_dagster.commit.documents import commit_without_source
from s3dest_dagster.commit.landed_columns import LandedColumns
from s3dest_dagster.commit.landed_objects import SegmentObject
from s3dest_dagster.commit.maintenance import sweep
from s3dest_dagster.commit.publication import Clock, begin
from s3dest_dagster.commit.registry import RegistryEntry, check_entries
from s3dest_dagster.commit.segment import Counts, EarlierColumns, Segment, SegmentSchema
from s3dest_dagster.commit.segment_builder import StagedSync, build_segment
from s3dest_dagster.commit.sync_commit import commit
from s3dest_dagster.commit.written_columns import columns_text
from s3dest_dagster.errors import CommitError, PreconditionFailedError, SupersededError
from s3dest_dagster.formats.file_columns import connector_format
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import FormatSettings
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId, SyncMode

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What was adopted, or would be."""

    objects: tuple[AdoptableObject, ...]
    """The objects."""
    refused: tuple[tuple[AdoptableObject, str], ...] = ()
    """Objects whose columns do not fit those of the others, each with the reason."""


def plan_adoption(registry_entry: RegistryEntry, found: FoundObjects, *, is_typed: bool) -> Adoption:
    """What `adopt` would adopt of the objects that were found. Writes nothing.

    Args:
        registry_entry: The stream's registry entry, already checked.
        found: The objects.
        is_typed: Whether their format has types.
    """
    return _sorted_out(found.recognised, _columns(registry_entry.columns_beside(None), found.recognised, is_typed))


def adopt(
    bucket: Bucket,
    destination: S3Destination,
    found: FoundObjects,
    now: datetime,
    entropy: Callable[[int], bytes],
    *,
    owner: str | None = None,
    clock: Clock | None = None,
) -> Adoption:
    """Lists the recognised objects in the stream's manifest. From then on, they are the stream's like those it landed.

    They count as older than everything that the stream has landed, and have no state. Their columns are reserved for
    the stream, and it gets the owner. An object that another process has adopted meanwhile is left out. If the call is
    interrupted after the decision, the next sync or `recover` finishes it.

    Args:
        bucket: The bucket.
        destination: The settings that the stream lands with.
        found: What `search` has found for the stream.
        now: The time of the commit.
        entropy: Returns that many random bytes.
        owner: Who lands the stream. None if nobody is named.
        clock: Returns the time. Default: the server's clock.

    Raises:
        OwnershipError: The stream has another owner.
        TemplateError: The stream lands under another template.
        SupersededError: Other syncs were published at the same time, three times in a row.
        CommitError: One of the objects was changed or deleted meanwhile. Nothing is adopted.
    """
    steps = _Steps(bucket, destination, found.stream, owner, clock)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return steps.adopt(found.recognised, now, entropy)
        except SupersededError:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


class _Steps:
    """The steps of one adoption."""

    def __init__(
        self, bucket: Bucket, destination: S3Destination, stream: StreamId, owner: str | None, clock: Clock | None
    ) -> None:
        self._bucket, self._destination, self._stream = bucket, destination, stream
        self._clock = clock or bucket.server_time
        self._entry = check_entries(bucket, destination, [stream], [owner])[0]

    def adopt(self, found: Sequence[AdoptableObject], now: datetime, entropy: Callable[[int], bytes]) -> Adoption:
        """One attempt."""
        scope, entry = Scope(self._stream), self._entry
        commit_log = CommitLog.of(self._bucket, self._destination.template, scope, entry.own_prefixes)
        seen = begin(commit_log, self._clock)
        held = commit_log.lists.live_keys(commit_log.live_segments(seen.head))
        objects = [each for each in found if each.listed.key not in held]
        columns = self._reserve(objects)
        adoption = _sorted_out(objects, columns)
        if not adoption.objects:
            return adoption
        segment = self._segment(commit_log, seen, adoption, columns, now, entropy)
        if entry.enter(self._clock()):
            sweep(self._bucket, self._destination, self._stream, now=self._clock())
        entry.check_retyped(LandedColumns.of(scope, segment), replaces=False)
        confirm = entry.check if seen.etag is None else None
        commit(commit_log, seen, commit_log.lists.put(segment), self._clock, confirm=confirm)
        return adoption

    def _reserve(self, objects: Sequence[AdoptableObject]) -> AdoptedColumns:
        """Reserves the columns of the objects in the stream's registry."""
        found = list[AdoptedColumns]()

        def evolved(known: StreamColumns) -> Evolution:
            found.append(_columns(known, objects, self._destination.format.is_typed))
            records = list(found[-1].records.values())
            return Evolution(columns=found[-1].columns, record=records[-1] if records else Record("", None, ()))

        self._entry.reserve(evolved)
        return found[-1]

    def _segment(
        self,
        commit_log: CommitLog,
        seen: SeenHead,
        adoption: Adoption,
        columns: AdoptedColumns,
        now: datetime,
        entropy: Callable[[int], bytes],
    ) -> Segment:
        sync, attempt = commit_without_source("adopt", now, entropy)
        staged = StagedSync.without_records(self._stream, SyncMode.APPEND, sync, attempt, seen.head)
        parts = (each.part for each in adoption.objects if each.part is not None)
        rows = sum(each.rows or 0 for each in adoption.objects)
        staged = replace(
            staged,
            counts=Counts(read=rows, landed=rows),
            next_part_number=max([staged.next_part_number, *(part + 1 for part in parts)]),
        )
        settings = replace(self._destination, on_rematerialize="append")
        segment = build_segment(staged, settings, settings.template, commit_log, seen.head)
        return replace(
            segment,
            kind="adoption",
            owner=self._entry.owner,
            objects=tuple(map(_listed, adoption.objects)),
            schema=_schema(adoption.objects, columns),
            format={**segment.format, **_reading(self._destination.format)},
            total_rows=None,
        )


# ---------------------------------------------------------------------- values


def _columns(known: StreamColumns, objects: Sequence[AdoptableObject], is_typed: bool) -> AdoptedColumns:
    return adopted_columns(known, [each.columns.record for each in objects], is_typed=is_typed)


def _sorted_out(objects: Sequence[AdoptableObject], columns: AdoptedColumns) -> Adoption:
    refused = [(each, columns.refused.get(each.columns.record, "")) for each in objects]
    return Adoption(
        objects=tuple(each for each, reason in refused if not reason),
        refused=tuple((each, reason) for each, reason in refused if reason),
    )


def _listed(found: AdoptableObject) -> SegmentObject:
    return SegmentObject(
        key=found.listed.key,
        rows=found.rows or 0,
        bytes=found.listed.size,
        etag=found.listed.etag,
        crc32=found.crc32,
        is_counted=found.rows is not None,
        generation_id=found.generation_id,
        close_reason="adopted",
    )


def _schema(objects: Sequence[AdoptableObject], columns: AdoptedColumns) -> SegmentSchema:
    """The columns of the newest object, and those of all others."""
    keys: dict[Record, list[str]] = {}
    for each in objects:
        keys.setdefault(columns.records[each.columns.record], []).append(each.listed.key)
    newest = columns.records[objects[-1].columns.record]
    return SegmentSchema(
        columns=columns_text(newest),
        earlier=tuple(
            EarlierColumns(columns=columns_text(record), keys=tuple(own))
            for record, own in keys.items()
            if record != newest
        ),
        fingerprint=fingerprint(newest),
        avro_schema=avro_schema_text(newest),
        envelope=newest.envelope,
    )


def _reading(settings: FormatSettings) -> dict[str, str | int | bool | None]:
    """The settings of the format by which the connector's objects are read, as far as they are not the stream's."""
    own, written = connector_format(settings), settings
    return {
        name: getattr(own, name)
        for name in ("delimiter", "quoting", "null_text", "header", "column_order", "additional_properties_column")
        if hasattr(own, name) and getattr(own, name) != getattr(written, name)
    }


# ---------------------------------------------------------------------- forgetting


def forget_adopted(
    bucket: Bucket, destination: S3Destination, stream: StreamId, *, clock: Clock | None = None
) -> tuple[SegmentObject, ...]:
    """Forgets all objects that a stream has adopted and still holds. Returns them. Nothing is deleted.

    They are the connector's again: the next full refresh replaces those that match the stream's template. What the
    stream has landed itself stays, and so do its owner and the columns that were reserved.

    Args:
        bucket: The bucket.
        destination: The settings that the stream lands with.
        stream: The stream, with its name as it is in the bucket.
        clock: Returns the time. Default: the server's clock.

    Raises:
        CommitError: Another process has changed the scope at the same moment.
    """
    commit_log = CommitLog.of(bucket, destination.template, Scope(stream))
    seen = begin(commit_log, clock or commit_log.bucket.server_time)
    adopted = adopted_objects(commit_log, seen)
    if seen.head.adoptions:
        _put_without_adoptions(commit_log, seen)
    return adopted


def adopted_objects(commit_log: CommitLog, seen: SeenHead) -> tuple[SegmentObject, ...]:
    """The objects that a scope has adopted and still holds."""
    if not seen.head.adoptions:
        return ()
    adoptions = (each for each in commit_log.live_segments(seen.head) if each.is_adoption)
    return tuple(item for segment in adoptions for item in commit_log.lists.objects(segment))


def _put_without_adoptions(commit_log: CommitLog, seen: SeenHead) -> None:
    head = seen.head.without_adoptions()
    try:
        commit_log.put_head(head, seen)
    except PreconditionFailedError as error:
        if commit_log.read_head().head == head.succeeding(seen.head):  # the answer of an earlier try was lost
            return
        raise CommitError(
            f"What {commit_log.scope} has adopted was not forgotten: another process has changed the stream at the "
            "same moment. Try it again.",
            **commit_log.error_location,
        ) from error
