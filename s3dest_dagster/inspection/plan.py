"""What a sync would do: keys, columns, deletions, settings without effect.

It reads and lists, and writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s3dest_dagster.columns.diagnostics import (
    Diagnostic,
    cell_diagnostics,
    column_diagnostics,
    line_diagnostics,
    unknown_type_diagnostics,
)
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.schemas import columns, within_parquet
from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.documents import sync_of
from s3dest_dagster.commit.head import Head
from s3dest_dagster.commit.ownership import connector_keys, refuse_held_keys
from s3dest_dagster.commit.registry import check_templates
from s3dest_dagster.commit.segment import live_keys
from s3dest_dagster.commit.segment_builder import replaces_scope
from s3dest_dagster.ingest.key_allocator import KeyAllocator
from s3dest_dagster.ingest.object_writer import bytes_of_row_group
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.keys import scope_root
from s3dest_dagster.settings.destination import ObjectHeaders, S3Destination
from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    Flattening,
    FormatSettings,
    JsonlFormat,
    ParquetFormat,
)
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, Sync, SyncMode

ACTIONS = (
    "s3:ListBucket",
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListBucketMultipartUploads",
)
"""The IAM actions that every sync uses."""
ACL_ACTIONS = ("s3:PutObjectAcl",)
"""Those that an `acl` needs."""
KMS_ACTIONS = ("kms:GenerateDataKey", "kms:Decrypt")
"""Those that encryption with a key of KMS needs, the second for uploads in parts and for reading."""

_DEFAULT_PADDING_MB = ParquetFormat().max_padding_size_mb
"""Connector configurations name it without meaning it, so that it gets no remark."""


def actions(headers: ObjectHeaders) -> tuple[str, ...]:
    """The IAM actions that a sync with these settings uses."""
    by_acl = ACL_ACTIONS if headers.acl else ()
    return (*ACTIONS, *by_acl, *(KMS_ACTIONS if headers.encrypts_by_kms else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """What the next sync of one scope would do."""

    scope: Scope
    """The scope, with its stream's name as it is in the bucket."""
    sync_mode: SyncMode
    first_key: str
    """The key of the first object; the following ones count up."""
    columns: tuple[tuple[str, str, str | None], ...]
    """Name, type and description of each column; empty if the schema comes with the first batch."""
    renamed: Mapping[str, str]
    """The root's fields that get another name, and that name."""
    diagnostics: tuple[Diagnostic, ...]
    """What arrives otherwise than it is declared, on every level, and why."""
    deletes: tuple[str, ...]
    """The keys that the sync would delete."""
    pending: str | None
    """The interrupted sync that would be finished first; None if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a sync of several streams would do."""

    template: str
    """The template of the keys, with its placeholders."""
    streams: tuple[StreamPlan, ...]
    actions: tuple[str, ...]
    """The IAM actions that the sync uses."""
    without_effect: tuple[str, ...]
    """A sentence for each setting that has no effect."""


def plan(target: Target, streams: Sequence[Stream], sync: Sync, *, partition: str | None = None) -> Plan:
    """What a sync of these streams would do, or of one partition of each.

    Raises:
        TemplateError: Two of the streams could make the same key, or one lands under another template.
        KeyCollisionError: Another stream holds a key that one of these would land.
    """
    destination = target.destination
    scopes = [Scope(each.id, partition).prefixed(destination.stream_prefix) for each in streams]
    for scope in scopes:
        scope.check_unicode()
    destination.template.check_streams([each.stream for each in scopes], destination.format.extension)
    check_templates(target.bucket, destination, [each.stream for each in scopes])
    return Plan(
        template=destination.template.text,
        streams=tuple(_stream_plan(target, stream, scope, sync) for stream, scope in zip(streams, scopes, strict=True)),
        actions=actions(destination),
        without_effect=settings_without_effect(destination),
    )


def _stream_plan(target: Target, stream: Stream, scope: Scope, sync: Sync) -> StreamPlan:
    template = target.destination.template
    commit_log = CommitLog(target.bucket, scope_root(template.literal_root, scope), scope)
    head = commit_log.read_head().head
    replaces = replaces_scope(target.destination, stream, scope)
    settings = target.destination.format
    keys = KeyAllocator(target, scope, sync, head, extension=settings.extension, replaces=replaces, keys_distinct=True)
    first_key = keys.next_key()
    refuse_held_keys(target.bucket, template, scope, [first_key])
    record = _record(target.destination, stream, scope) if stream.json_schema else None
    return StreamPlan(
        scope=scope,
        sync_mode=stream.sync_mode,
        first_key=first_key,
        columns=_columns(record, settings) if record else (),
        renamed=_renamed(record, settings) if record else {},
        diagnostics=tuple(_remarks(record, stream.json_schema, settings)) if record and stream.json_schema else (),
        deletes=_deletes(target.bucket, target.destination, commit_log, head) if replaces else (),
        pending=sync_of(head.pending_segment) if head.pending_segment is not None else None,
    )


def _record(destination: S3Destination, stream: Stream, scope: Scope) -> Record:
    name, unknown_types = scope.stream, destination.unknown_types
    return record_type(stream.json_schema or {}, name.name, name.namespace, unknown_types=unknown_types)


def _columns(record: Record, settings: FormatSettings) -> tuple[tuple[str, str, str | None], ...]:
    """The columns under the names that they have in the objects, and what of them is JSON text as it nests too deep."""
    renamed = _renamed(record, settings)
    landed = _landed(record, settings)
    found = zip(record.fields, landed.fields, columns(landed), strict=True)
    return tuple(
        (renamed.get(field.source, field.source), kind if field == same else f"{kind}, too deep parts as JSON", text)
        for field, same, (_, kind, text) in found
    )


def _landed(record: Record, settings: FormatSettings) -> Record:
    return within_parquet(record) if isinstance(settings, ParquetFormat) else record


def _remarks(record: Record, json_schema: Mapping[str, Any], settings: FormatSettings) -> Iterator[Diagnostic]:
    """What the format does not keep as it is declared."""
    if isinstance(settings, AvroFormat | ParquetFormat):
        yield from column_diagnostics(record, _landed(record, settings), json_schema)
    elif isinstance(settings, CsvFormat) and settings.flattening is Flattening.ROOT:
        yield from cell_diagnostics(record, json_schema, keeps_undeclared=settings.additional_properties_column)
    elif isinstance(settings, JsonlFormat) and settings.flattening is Flattening.ROOT:
        yield from line_diagnostics(json_schema)
    else:
        # A whole record in one column is kept as it came.
        yield from unknown_type_diagnostics(json_schema)


def _renamed(record: Record, settings: FormatSettings) -> dict[str, str]:
    """Fields whose names the format does not allow, and what they become; CSV and JSON Lines allow every name."""
    if not isinstance(settings, AvroFormat | ParquetFormat):
        return {}
    return {each.source: each.name for each in record.fields if each.source != each.name}


def _deletes(bucket: Bucket, destination: S3Destination, commit_log: CommitLog, head: Head) -> tuple[str, ...]:
    scope, own = commit_log.scope, live_keys(commit_log.visible_segments(head))
    if scope.partition is None:
        own |= connector_keys(bucket, destination.template, scope, own)
    return tuple(sorted(own))


def _row_groups_cut_short(destination: S3Destination) -> Iterator[str]:
    """Says when a whole row group finds no room in memory, even with one open object."""
    if not isinstance(destination.format, ParquetFormat):
        return
    size = destination.format.block_size_mb
    lacking = bytes_of_row_group(size << 20, destination.part_bytes) - destination.open_bytes
    if lacking > 0:
        needed = destination.memory_mb + math.ceil(lacking / (1 << 20))
        yield (
            f"block_size_mb {size} has no full effect: memory_mb {destination.memory_mb} has no room for such a row "
            f"group, so they all end early. Set memory_mb to {needed} (more where several streams land at a time), or "
            "lower block_size_mb."
        )


def settings_without_effect(destination: S3Destination) -> tuple[str, ...]:
    """Sentences on settings that are accepted, for parity or since they have a default, and cannot do anything here."""
    return tuple(_without_effect(destination))


def _without_effect(destination: S3Destination) -> Iterator[str]:
    if isinstance(destination.format, ParquetFormat) and destination.format.max_padding_size_mb != _DEFAULT_PADDING_MB:
        yield "max_padding_size_mb has no effect: padding aligns row groups to HDFS blocks, and S3 has no blocks."
    yield from _row_groups_cut_short(destination)
    wants_checkpoints = destination.checkpoint_interval_s or destination.checkpoint_mb
    if wants_checkpoints and not destination.template.tells_objects_apart:
        yield (
            "checkpoint_interval_s and checkpoint_mb have no effect: the template has one key for a sync. Add "
            "{part_number} to file_name_pattern if a long append is to be published in steps."
        )
