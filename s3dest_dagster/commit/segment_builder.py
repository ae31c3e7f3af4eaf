"""Builds the segment of a staged sync: what it replaces, how its schema differs, and which segments it compacts.

Reads the bucket and writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from enum import Enum
from functools import cache
from importlib.metadata import version
from typing import Any

from s3dest_dagster.batch import Lineage, State, descent
from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.compaction import compaction
from s3dest_dagster.commit.documents import segment_name
from s3dest_dagster.commit.generations import generation_in, may_remove, minimum_of, staying
from s3dest_dagster.commit.head import MAX_RETIRED, Head
from s3dest_dagster.commit.key_owners import connector_keys
from s3dest_dagster.commit.landed_objects import ListedObjects, SegmentObject
from s3dest_dagster.commit.segment import (
    Compaction,
    Counts,
    EarlierColumns,
    Replacement,
    SchemaChanges,
    Segment,
    SegmentSchema,
    SegmentState,
    SyncPart,
)
from s3dest_dagster.commit.written_columns import columns_text, schema_changes, written_columns
from s3dest_dagster.errors import CommitError, ManifestError
from s3dest_dagster.formats import Encoder
from s3dest_dagster.keys import KeyTemplate
from s3dest_dagster.printable import amount
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.fields import about
from s3dest_dagster.settings.formats import EnvelopeName
from s3dest_dagster.settings.partition_fields import rule_text
from s3dest_dagster.settings.publication import PublicationSettings
from s3dest_dagster.storage import in_parallel
from s3dest_dagster.stream import Scope, Stream, StreamId, Sync, SyncMode


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedSync:
    """Everything that a sync has uploaded and counted since its last checkpoint, before it is decided."""

    name: str
    """Name of its segment."""
    complete: bool
    """False for a checkpoint."""
    previous_checkpoint: str | None
    """Name of the segment with the sync's last checkpoint."""
    stream: Stream
    """The stream, with its schema."""
    sync: Sync
    """The sync."""
    objects: tuple[SegmentObject, ...]
    """Its staged objects."""
    quarantine: SegmentObject | None
    """Its staged quarantine."""
    further_quarantines: tuple[SegmentObject, ...] = ()
    """Further quarantines, if several workers staged it."""
    object_lists: tuple[ListedObjects, ...] = ()
    """Lists of further objects, if several workers staged it."""
    mark: str | None = None
    """The text in the metadata of its objects, if that is not the segment's name."""
    next_part_number: int
    """The lowest part number that is unused after it."""
    counts: Counts
    """Counts of its records by outcome."""
    encoder: Encoder | None
    """The encoder of its last records. None if there were no records."""
    earlier: Sequence[tuple[Encoder, Sequence[str]]] = ()
    """Other encoders of its records, each with the keys of its objects."""
    silent: bool = False
    """Whether its source did not mention the stream at all."""
    state: State | None
    """The state that its records reach. None if there is none."""
    uploads_started_after: datetime | None = None
    """A time, by the server's clock, before its first upload began."""
    origin: Lineage | None = None
    """The state of all streams from which the source continued to reach `state`. None if it is not known."""
    content_checksum: str | None = None
    """The checksum of its records (see `ContentChecksum`)."""

    @property
    def has_objects(self) -> bool:
        """Whether it has landed any object."""
        return bool(self.objects) or any(each.objects for each in self.object_lists)

    @classmethod
    def without_records(
        cls, stream: StreamId, mode: SyncMode, sync: Sync, attempt: str, head: Head, state: str | None = None
    ) -> StagedSync:
        """A complete commit that lands nothing: it changes only what its scope holds, or the scope's state.

        Args:
            stream: The stream, with its name as it is in the bucket.
            mode: Whether it replaces what the scope holds.
            sync: The id and the time of the commit.
            attempt: Random text that makes the segment's name unique.
            head: The head with which the commit began.
            state: The state that the scope gets.
        """
        return cls(
            name=segment_name(sync.id, attempt),
            complete=True,
            previous_checkpoint=None,
            stream=Stream(name=stream.name, namespace=stream.namespace, sync_mode=mode),
            sync=sync,
            objects=(),
            quarantine=None,
            next_part_number=head.next_part_number,
            counts=Counts(),
            encoder=None,
            state=State(stream, state.encode(), b"") if state is not None else None,
        )


def replaces_scope(settings: PublicationSettings, stream: Stream, scope: Scope) -> bool:
    """Whether a sync's objects replace those that its scope holds, whatever that is. What a sync with a generation
    replaces depends on the live ones, see `replaces_all`."""
    again = scope.partition is not None and settings.on_rematerialize == "replace"
    return again or (minimum_of(stream, scope) is None and stream.sync_mode is SyncMode.FULL_REFRESH)


def replaces_all(
    settings: PublicationSettings, stream: Stream, scope: Scope, commit_log: CommitLog, head: Head
) -> bool:
    """Whether a sync's objects replace all those that its scope holds. The arguments are those of `build_segment`."""
    if not may_remove(stream, scope):
        return replaces_scope(settings, stream, scope)
    return not staying(commit_log.live_segments(head), minimum_of(stream, scope) or 0, commit_log.lists.objects)


def build_segment(
    staged: StagedSync, destination: S3Destination, template: KeyTemplate, commit_log: CommitLog, head: Head
) -> Segment:
    """Builds the segment of a staged sync.

    Args:
        staged: The staged sync.
        destination: The settings that it landed with.
        template: The rule for its keys.
        commit_log: The scope's commit log.
        head: The head with which the sync began, or the head that its last checkpoint put.

    Raises:
        CommitError: A full refresh has no records and the settings say that it must fail, or its source did not mention
            the stream and the sync would delete something.
    """
    segment = Segment(
        location=commit_log.location,
        name=staged.name,
        sync=SyncPart(
            id=staged.sync.id,
            mode=staged.stream.sync_mode.value,
            started_at=staged.sync.now,
            complete=staged.complete,
            previous_checkpoint=staged.previous_checkpoint,
            **_generation(staged.stream, commit_log.scope),
        ),
        objects=staged.objects,
        quarantine=staged.quarantine,
        further_quarantines=staged.further_quarantines,
        object_lists=staged.object_lists,
        mark=staged.mark,
        counts=staged.counts,
        content_checksum=staged.content_checksum,
        uploads_started_after=staged.uploads_started_after,
        replaced=_replaced(staged, destination, template, commit_log, head),
        next_part_number=staged.next_part_number,
        schema=_schema(staged, destination.envelope, commit_log, head),
        state=_state(staged),
        format={
            "format_type": destination.format.format_type,
            **_json_values(destination.format),
        },
        # Each object has its user metadata, and the columns show what the contract allowed.
        settings={
            **_json_values(destination, without=("format", "object_metadata", "schema_contract", *_SECRETS)),
            **({"partition_by": rule_text(template.partition_by)} if template.partition_by else {}),
        },
        library_version=_library_version(),
    )
    return _among_others(segment, commit_log, head).in_its_version()


def _among_others(segment: Segment, commit_log: CommitLog, head: Head) -> Segment:
    """The segment with what follows from the scope's other segments: the number of all records, and which of the others
    it stands for."""
    if segment.replaces or not (head.newest or head.adoptions):
        return replace(segment, total_rows=segment.rows)
    if head.newest is None:
        lowest = (segment.sync.minimum_generation_id or 0) if segment.replaced is not None else 0
        return replace(segment, compaction=Compaction(lowest_generation=lowest))
    newest = commit_log.read_segment(head.newest)
    before = _rows_before(commit_log, head, newest, segment) if not head.adoptions else None
    segment = replace(segment, total_rows=None if before is None else before + segment.rows)
    if segment.is_empty and segment.replaced is None:
        return segment
    return replace(segment, compaction=compaction(segment, head, newest))


def _generation(stream: Stream, scope: Scope) -> dict[str, int | None]:
    """What a segment records of the generation of its sync."""
    if stream.generation is None:
        return {}
    generation = stream.generation
    return {
        "generation_id": generation.id,
        "minimum_generation_id": minimum_of(stream, scope),
        "source_sync_id": generation.sync_id,
    }


def _rows_before(commit_log: CommitLog, head: Head, newest: Segment, segment: Segment) -> int | None:
    """The records that the scope holds besides those of a segment. None if another segment is missing, which must not
    keep a sync from landing.

    Only if an older version wrote the newest segment, or if generations leave, all segments are read.
    """
    if newest.total_rows is not None and segment.replaced is None:
        return newest.total_rows
    minimum = segment.sync.minimum_generation_id or 0
    try:
        return sum(
            each.rows_with_absorbed
            for each in staying(commit_log.live_segments(head), minimum, commit_log.lists.objects)
        )
    except ManifestError:
        return None


@cache
def _library_version() -> str:
    """The installed version. Reading it costs as much as a small request, so it is read once."""
    return version("s3dest-dagster")


# ---------------------------------------------------------------------- what it replaces


def _replaced(
    staged: StagedSync, destination: S3Destination, template: KeyTemplate, commit_log: CommitLog, head: Head
) -> Replacement | None:
    """The objects that the sync replaces. None if it only adds objects."""
    scope = commit_log.scope
    if may_remove(staged.stream, scope):
        return _left_generations(staged, destination, template, commit_log, head)
    if (
        not staged.has_objects
        and minimum_of(staged.stream, scope) is None
        and staged.stream.sync_mode is SyncMode.FULL_REFRESH
    ):
        if destination.on_empty_refresh == "fail":
            raise _empty_refresh(commit_log)
        if destination.on_empty_refresh == "keep":
            return None
    if not replaces_scope(destination, staged.stream, scope):
        return None
    keys, lists = _replaced_objects(staged, template, commit_log, head)
    if staged.silent and (keys or lists):
        raise _silent_source(staged, scope, len(keys) + sum(each.objects for each in lists))
    recurring = set(template.recurring(scope.stream, keys))
    etags = commit_log.etags_of(recurring)
    chained = destination.delete_grace_s and len(head.retired) >= MAX_RETIRED
    return Replacement(
        keys=tuple(key for key in keys if key in etags or key not in recurring),
        etags=etags,
        object_lists=lists,
        retired_with=head.retired[-1].segment if chained else None,
    )


def _replaced_objects(
    staged: StagedSync, template: KeyTemplate, commit_log: CommitLog, head: Head
) -> tuple[list[str], tuple[ListedObjects, ...]]:
    """The scope's own keys and, if an unpartitioned stream is refreshed, the connector's keys; without the sync's own
    keys.

    The keys of an object list are left out, and the list is returned, if none of them can be used again. Then the sync
    has none of them.
    """
    scope, referred = commit_log.scope, list[ListedObjects]()
    keys, live = set[str](), set[str]()
    for segment in commit_log.live_segments(head):
        keys |= {item.key for sync in (*segment.compaction.absorbs, segment.own_sync) for item in sync.objects}
        for each in segment.object_lists:
            of_list = [item.key for item in commit_log.lists.read(each).objects]
            live.update(of_list)
            if template.recurring(scope.stream, of_list):
                keys.update(of_list)
            else:
                referred.append(each)
    live |= keys
    commit_log.check_own(live)
    if scope.partition is None:
        keys |= connector_keys(commit_log.bucket, template, scope, live | commit_log.retired_keys(head))
    # The keys of workers have random part ids, so that none of a staged list was used before.
    return sorted(keys.difference(item.key for item in staged.objects)), tuple(referred)


def _left_generations(
    staged: StagedSync, destination: S3Destination, template: KeyTemplate, commit_log: CommitLog, head: Head
) -> Replacement | None:
    """The objects of the generations that leave. None if none leave and others stay."""
    minimum = minimum_of(staged.stream, commit_log.scope) or 0
    kept, left = _kept_and_left(minimum, template, commit_log, head)
    left -= {item.key for item in staged.objects}
    if left and not staged.has_objects:
        if destination.on_empty_refresh == "fail":
            raise _empty_refresh(commit_log)
        if destination.on_empty_refresh == "keep":
            return None
    if left and staged.silent:
        raise _silent_source(staged, commit_log.scope, len(left))
    if kept and not left:
        return None
    recurring = set(template.recurring(commit_log.scope.stream, left))
    etags = commit_log.etags_of(recurring)
    chained = destination.delete_grace_s and len(head.retired) >= MAX_RETIRED
    return Replacement(
        keys=tuple(sorted(key for key in left if key in etags or key not in recurring)),
        etags=etags,
        retired_with=head.retired[-1].segment if chained else None,
        is_partial=bool(kept),
    )


def keys_below_generation(minimum: int, template: KeyTemplate, commit_log: CommitLog, head: Head) -> set[str]:
    """The keys of the objects that leave with a sync of this minimum: the scope's, and the connector's."""
    return _kept_and_left(minimum, template, commit_log, head)[1]


def _kept_and_left(
    minimum: int, template: KeyTemplate, commit_log: CommitLog, head: Head
) -> tuple[list[Segment], set[str]]:
    """The segments whose generations stay, and the keys of the objects whose generations leave."""
    segments = commit_log.live_segments(head)
    kept = staying(segments, minimum, commit_log.lists.objects)
    own = commit_log.lists.live_keys(segments)
    commit_log.check_own(own)
    connectors = connector_keys(commit_log.bucket, template, commit_log.scope, own | commit_log.retired_keys(head))
    return kept, own - commit_log.lists.live_keys(kept) | _below(commit_log, connectors, minimum)


def _below(commit_log: CommitLog, keys: Collection[str], minimum: int) -> set[str]:
    """Those keys of the connector whose objects belong to a lower generation, which their metadata name."""
    found = zip(keys, in_parallel(commit_log.bucket.head, keys), strict=True)
    return {key for key, each in found if each is not None and generation_in(each.metadata) < minimum}


def _empty_refresh(commit_log: CommitLog) -> CommitError:
    return CommitError(
        f"The full refresh of {commit_log.scope} read no record, and on_empty_refresh is 'fail'. What the scope held "
        "is untouched.",
        setting="on_empty_refresh",
        **commit_log.error_location,
    )


def _silent_source(staged: StagedSync, scope: Scope, objects: int) -> CommitError:
    return CommitError(
        f"The source said nothing of {scope}: no record, no state, no status. This sync would delete "
        f"{amount(objects, 'object')}; what the scope holds is untouched. Look whether the source reads the stream. If "
        "it is empty there, say so: by --allow-empty of `s3dest write`, or by allow_empty of AirbyteSource.",
        stream=str(staged.stream.id),
        partition=scope.partition,
        setting="allow_empty",
    )


# ---------------------------------------------------------------------- its schema and state


def _schema(staged: StagedSync, envelope: EnvelopeName, commit_log: CommitLog, head: Head) -> SegmentSchema:
    json_schema = staged.stream.json_schema
    text = json.dumps(json_schema) if json_schema is not None else None
    if staged.encoder is None:
        return SegmentSchema(json_schema=text, envelope=envelope)
    return SegmentSchema(
        fingerprint=staged.encoder.fingerprint,
        avro_schema=staged.encoder.schema_text,
        json_schema=text,
        envelope=envelope,
        columns=columns_text(staged.encoder.record),
        earlier=tuple(
            EarlierColumns(columns=columns_text(encoder.record), keys=tuple(keys)) for encoder, keys in staged.earlier
        ),
        changes=_changes(staged.encoder, commit_log, head),
    )


def _changes(encoder: Encoder, commit_log: CommitLog, head: Head) -> SchemaChanges | None:
    """How the columns differ from those of the scope's last sync that had records. None if they do not differ."""
    if head.latest_schema is None or head.latest_schema.fingerprint == encoder.fingerprint:
        return None
    before = written_columns(commit_log.read_segment(head.latest_schema.segment))
    assert before is not None, "a segment with a fingerprint has a schema"
    return schema_changes(before.record, encoder.record)


def _state(staged: StagedSync) -> SegmentState | None:
    if staged.state is None:
        return None
    text = staged.state.state.decode()
    position = descent(text, staged.origin)
    return SegmentState(text=text, read_count=position.read_count, ancestors=position.ancestors)


_SECRETS = tuple(each.name for each in fields(S3Destination) if about(each).secret)


def _json_values(settings: Any, without: Iterable[str] = ()) -> dict[str, Any]:
    """Settings as JSON values."""
    return {
        name: value.value if isinstance(value, Enum) else value
        for name, value in asdict(settings).items()
        if name not in without
    }
