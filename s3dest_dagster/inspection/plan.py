"""Predicts what a sync would do: keys, columns, deletions, settings without effect.

It reads and lists, and writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from s3dest_dagster.columns.diagnostics import Diagnostic
from s3dest_dagster.columns.field_rules import selected_stream, undeclared_paths, undeclared_renames
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.left_out_fields import hidden_fields
from s3dest_dagster.columns.schema_differences import ColumnChange, refuse_new_stream
from s3dest_dagster.columns.schemas import columns
from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.documents import StreamLocation, sync_of
from s3dest_dagster.commit.former_locations import FormerLocations
from s3dest_dagster.commit.generations import minimum_of, with_certain_generation
from s3dest_dagster.commit.head import Head
from s3dest_dagster.commit.key_owners import connector_keys, refuse_held_keys
from s3dest_dagster.commit.registry import RegistryEntry, check_names, owner_of
from s3dest_dagster.commit.retention import expired_partitions, with_retention
from s3dest_dagster.commit.scopes import scopes_beside
from s3dest_dagster.commit.segment_builder import keys_below_generation, replaces_all
from s3dest_dagster.formats import Format, format_of
from s3dest_dagster.ingest.encoding import Encoding
from s3dest_dagster.ingest.field_filter import FieldFilter
from s3dest_dagster.ingest.key_allocator import KeyAllocator
from s3dest_dagster.ingest.object_writer import bytes_of_row_group
from s3dest_dagster.ingest.partition_summary import PartitionSummary
from s3dest_dagster.ingest.stream_schema import planned_columns
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.inspection.reader_statements import ReaderStatement, reader_statements
from s3dest_dagster.keys import KeyTemplate, stream_root
from s3dest_dagster.keys.directories import example_values
from s3dest_dagster.settings.destination import ObjectHeaders, S3Destination
from s3dest_dagster.settings.schema_contract import Verdict
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, StreamId, Sync, SyncMode

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
"""The IAM actions that an `acl` needs."""
KMS_ACTIONS = ("kms:GenerateDataKey", "kms:Decrypt")
"""The IAM actions that encryption with a KMS key needs. The second is for multipart uploads and for reading."""


def actions(headers: ObjectHeaders) -> tuple[str, ...]:
    """The IAM actions that a sync with these settings uses."""
    by_acl = ACL_ACTIONS if headers.acl else ()
    return (*ACTIONS, *by_acl, *(KMS_ACTIONS if headers.encrypts_by_kms else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """The prediction for the next sync of one scope."""

    scope: Scope
    """The scope, with its stream's name as it is in the bucket."""
    sync_mode: SyncMode
    first_key: str
    """The key of the first object. The following keys count up."""
    columns: tuple[tuple[str, str, str | None], ...]
    """Name, type and description of each column. Empty if the schema comes with the first batch."""
    renamed: Mapping[str, str]
    """The top-level fields that are renamed, with their new names."""
    diagnostics: tuple[Diagnostic, ...]
    """The differences, on every level, between the declared types and what lands, with the reasons."""
    discards: bool
    """Whether nothing of the stream would land, because it is new and its schema contract discards new streams."""
    column_changes: tuple[ColumnChange, ...]
    """The differences between the declared schema and the columns that the stream has had so far."""
    deletes: tuple[str, ...]
    """The keys that the sync would delete, because it replaces them or their generations leave."""
    pending: str | None
    """The interrupted sync that would be finished first. None if there is none."""
    left_beside: tuple[Scope, ...]
    """The scopes that stay visible next to this one although they do not belong with it (see `scopes_beside`)."""
    left_elsewhere: tuple[StreamLocation, ...]
    """Where the stream may have landed before, if it is new here: under another name or bucket path. For a stream that
    gave its content to another name, that name."""
    former_template: str
    """The settings of the template that the sync would replace, as far as they differ. Empty if it replaces none."""
    expires: tuple[str, ...]
    """The partitions that are older than `expire_partitions_after`, and that the next sweep retires."""
    hidden: Mapping[str, tuple[str, ...]]
    """The paths of the fields that are "excluded", "hashed" and "masked". A list that would be empty is left out."""
    unknown_paths: tuple[str, ...]
    """The paths among the stream's settings that name no field of its schema. Such a field may still come
    undeclared."""
    readers: tuple[ReaderStatement, ...]
    """Statements with which readers see a stream with `partition_by`. Empty for other streams."""
    advice: str
    """What to do about the stream's small objects. Empty if there is nothing to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The prediction for a sync of several streams."""

    template: str
    """The template of the keys, with its placeholders."""
    streams: tuple[StreamPlan, ...]
    actions: tuple[str, ...]
    """The IAM actions that the sync uses."""
    without_effect: tuple[str, ...]
    """A sentence for each setting that has no effect."""


def plan(
    target: Target,
    streams: Sequence[Stream],
    sync: Sync,
    *,
    partition: str | None = None,
    scopes: Sequence[Scope] | None = None,
    assets: Sequence[str] | None = None,
) -> Plan:
    """Predicts what a sync of these streams, or of one partition of each, would do.

    Args:
        target: The destination.
        streams: The streams of the sync.
        sync: The sync, whose time may be a part of the keys.
        partition: The partition of each stream. None: the unpartitioned streams.
        scopes: The scope of each stream, instead of its own name and `partition`.
        assets: The key of the asset that lands each stream, which is its owner if the settings name none.

    Raises:
        OwnershipError: One of the streams has another owner.
        TemplateError: Two of the streams could have the same key, or one lands under another template.
        KeyCollisionError: Another stream holds a key that one of these would land.
        SchemaContractError: The schema contract of a stream freezes a difference that its declared schema or its
            envelope has, or the first landing of a stream.
        SettingsError: The settings of a stream's fields contradict its schema, or lack the right key.

    Example:
        for each in plan(target, [stream], sync).streams:
            print(each)
    """
    destination = target.destination
    filters = [FieldFilter(each, destination.hash_key) for each in streams]
    scopes = scopes or [Scope(each.id, partition) for each in streams]
    scopes = [each.prefixed(destination.stream_prefix) for each in scopes]
    for scope in scopes:
        scope.check_unicode()
    keys: Sequence[str | None] = assets or [None] * len(streams)
    owners = [owner_of(each, destination, key) for each, key in zip(streams, keys, strict=True)]
    entries = check_names(target.bucket, destination, streams, [each.stream for each in scopes], owners)
    for entry, each in zip(entries, filters, strict=True):
        if each.hash_key_id is not None:
            entry.use_hash_key(each.hash_key_id)
    former = FormerLocations(target.bucket, destination.template)
    return Plan(
        template=destination.template.text,
        streams=tuple(
            _stream_plan(target, stream, scope, entry, sync, former)
            for stream, scope, entry in zip(streams, scopes, entries, strict=True)
        ),
        actions=actions(destination),
        without_effect=settings_without_effect(destination),
    )


def _stream_plan(
    target: Target,
    source_stream: Stream,
    scope: Scope,
    entry: RegistryEntry,
    sync: Sync,
    former: FormerLocations,
) -> StreamPlan:
    template = target.destination.template_of(source_stream)
    commit_log = CommitLog.of(target.bucket, template, scope)
    head = commit_log.read_head().head
    stream = with_certain_generation(selected_stream(source_stream), partial(commit_log.newest_segment, head))
    replaces = replaces_all(target.destination, stream, scope, commit_log, head)
    format_ = format_of(target.destination.format)
    first_key = _first_key(target, template, commit_log, head, stream, sync, replaces=replaces)
    refuse_held_keys(target.bucket, template, scope, [first_key], entry.given_to)
    encoding = Encoding(target.destination, stream, scope.stream, sync)
    if entry.is_new:
        refuse_new_stream(encoding.rules.stream, encoding.rules.contract)
    evolution = planned_columns(target.destination, stream, entry, scope, replaces=replaces)
    record = evolution.record if stream.json_schema is not None else None
    if record is not None:
        encoding.encoder(stream, record)  # refuses columns and directories that cannot be written
    return StreamPlan(
        scope=scope,
        sync_mode=stream.sync_mode,
        first_key=first_key,
        columns=_columns(record, format_) if record else (),
        renamed=format_.renamed(record) if record else {},
        diagnostics=tuple(format_.diagnostics(record, stream.json_schema or {})) if record else (),
        discards=entry.is_new and encoding.rules.contract.new_stream is Verdict.DISCARD,
        column_changes=evolution.changes,
        deletes=_deletes(target.bucket, template, commit_log, head, stream, replaces=replaces),
        pending=sync_of(head.pending_segment) if head.pending_segment is not None else None,
        left_beside=tuple(scopes_beside(commit_log.bucket, stream_root(template.literal_root, scope.stream), scope)),
        left_elsewhere=_left_elsewhere(scope.stream, entry, former),
        former_template=entry.former_template,
        expires=_expires(target, stream, scope),
        hidden=hidden_fields(source_stream),
        readers=reader_statements(target.bucket.uri(""), template, scope.stream, record, format_.settings)
        if record
        else (),
        advice=_advice(commit_log, head) if stream.settings.partition_by else "",
        unknown_paths=tuple(map(str, (*undeclared_paths(source_stream), *undeclared_renames(source_stream)))),
    )


def _first_key(
    target: Target,
    template: KeyTemplate,
    commit_log: CommitLog,
    head: Head,
    stream: Stream,
    sync: Sync,
    *,
    replaces: bool,
) -> str:
    extension = format_of(target.destination.format).settings.extension
    keys = KeyAllocator(
        target,
        template,
        commit_log.scope,
        sync,
        head,
        extension=extension,
        replaces=replaces,
        keys_distinct=True,
    )
    return keys.next_key(example_values(stream.settings.partition_by))


def _left_elsewhere(stream: StreamId, entry: RegistryEntry, former: FormerLocations) -> tuple[StreamLocation, ...]:
    return tuple(former.find(stream, entry.owner)) if entry.is_new else entry.given_to


def _expires(target: Target, stream: Stream, scope: Scope) -> tuple[str, ...]:
    destination = with_retention(target.destination, stream.settings)
    found = expired_partitions(target.bucket, destination, scope.stream, target.server_clock())
    return tuple(str(each.scope.partition) for each in found)


def _columns(record: Record, format_: Format[Any]) -> tuple[tuple[str, str, str | None], ...]:
    """The columns with their names in the objects, and a note on those that are partly JSON text because they nest too
    deeply."""
    renamed, stored = format_.renamed(record), format_.stored_record(record)
    found = zip(record.fields, stored.fields, columns(stored), strict=True)
    return tuple(
        (renamed.get(field.source, field.source), kind if field == same else f"{kind}, too deep parts as JSON", text)
        for field, same, (_, kind, text) in found
    )


def _advice(commit_log: CommitLog, head: Head) -> str:
    """What to do about the small objects that the scope holds."""
    segments = commit_log.visible_segments(head)
    summary = PartitionSummary.of(item for _, _, item in commit_log.lists.landed(segments))
    return summary.advice() if summary is not None else ""


def _deletes(
    bucket: Bucket, template: KeyTemplate, commit_log: CommitLog, head: Head, stream: Stream, *, replaces: bool
) -> tuple[str, ...]:
    if minimum := minimum_of(stream, commit_log.scope):
        return tuple(sorted(keys_below_generation(minimum, template, commit_log, head)))
    if not replaces:
        return ()
    scope, own = commit_log.scope, commit_log.lists.live_keys(commit_log.visible_segments(head))
    if scope.partition is None:
        own |= connector_keys(bucket, template, scope, own)
    return tuple(sorted(own))


def settings_without_effect(destination: S3Destination) -> tuple[str, ...]:
    """A sentence for each setting that is accepted (for compatibility, or because it has a default) but has no
    effect."""
    return tuple(_without_effect(destination))


def _without_effect(destination: S3Destination) -> Iterator[str]:
    format_ = format_of(destination.format)
    yield from format_.without_effect()
    if format_.row_group_setting:
        yield from _short_row_groups(destination, format_.row_group_setting)
    wants_checkpoints = destination.checkpoint_interval_s or destination.checkpoint_bytes
    if wants_checkpoints and not destination.allows_checkpoints:
        yield (
            "checkpoint_interval_s and checkpoint_mb have no effect: the template has one key for a sync. Add "
            "{part_number} to file_name_pattern if a long append is to be published in steps."
        )


def _short_row_groups(destination: S3Destination, setting: str) -> Iterator[str]:
    """Yields a sentence if a whole row group does not fit in memory even with one open object."""
    size = getattr(destination.format, setting)
    lacking = bytes_of_row_group(size << 20, destination.part_bytes) - destination.open_bytes
    if lacking > 0:
        needed = destination.memory_mb + math.ceil(lacking / (1 << 20))
        yield (
            f"{setting} {size} has no full effect: memory_mb {destination.memory_mb} has no room for such a row "
            f"group, so they all end early. Set memory_mb to {needed} (more where several streams land at a time), or "
            f"lower {setting}."
        )
