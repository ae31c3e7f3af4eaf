"""The driver's part of a sharded sync: `begin` makes an order, `commit` publishes its shards, `abandon` drops them.

`begin` reserves the columns and remembers what the scope holds. `commit` decides which receipts count, and ends like
every landing, in `SyncCommit.publish`. Uploads are aborted after the publication, or while the order is surely not
decided, and never after an error from the decision on. Must not know: which engine runs the workers.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec

from s3dest_dagster.columns.field_rules import selected_stream
from s3dest_dagster.columns.inference import json_schema_of_arrow
from s3dest_dagster.columns.record_json import record_to_json
from s3dest_dagster.commit.documents import new_attempt, segment_name
from s3dest_dagster.commit.publication import Clock
from s3dest_dagster.commit.registry import owner_of
from s3dest_dagster.commit.retention import with_retention
from s3dest_dagster.commit.segment import Segment
from s3dest_dagster.commit.segment_builder import StagedSync, replaces_scope
from s3dest_dagster.commit.sync_commit import SyncCommit, superseded
from s3dest_dagster.errors import (
    CommitError,
    ManifestError,
    RecordError,
    SchemaError,
    SettingsError,
    StorageError,
    SupersededError,
    UndecidedError,
    UploadVanishedError,
)
from s3dest_dagster.ingest.encoding import FixedSchema
from s3dest_dagster.ingest.field_filter import FieldFilter
from s3dest_dagster.ingest.publishing import Publisher
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.ingest.stream_schema import StreamSchema
from s3dest_dagster.ingest.target import Entropy, Target
from s3dest_dagster.settings.connection import is_aws
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.shards.leftovers import abort_leftovers, abort_undecided
from s3dest_dagster.shards.order import Order, S3Access
from s3dest_dagster.shards.order_settings import destination_to_json, stream_to_json
from s3dest_dagster.shards.receipts import ShardId, ShardReceipt, counted
from s3dest_dagster.shards.staged_shards import ShardCollector
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, Sync, SyncMode


def begin(
    target: Target,
    stream: Stream,
    sync: Sync,
    scope: Scope | None = None,
    *,
    schema: Any = None,
    asset: str | None = None,
) -> Order:
    """Begins a sync that several workers stage. Nothing is visible before `commit`.

    The columns are reserved here, so that all workers write the same ones. A sync that another writer has decided is
    published first. If this sync is already complete, the order says so: then nothing is staged, and `commit` returns
    the recorded receipt.

    Args:
        target: The destination. Its settings travel with the order, without secrets.
        stream: The stream. It must declare its JSON schema, unless `schema` is given.
        sync: The sync. A repeated attempt must have the same id.
        scope: The partition to land. Default: the unpartitioned stream.
        schema: The Arrow schema of the records, for a stream that declares no JSON schema: a `pyarrow.Schema`.
        asset: Key of the asset that lands the stream. It becomes the stream's owner if the settings name none.

    Raises:
        OwnershipError: The stream has another owner.
        TemplateError: The stream lands under another template, or keys have no part number.
        SchemaContractError: The stream's contract does not allow the columns.
        SettingsError: There is no schema, `publish_order` is "purge_first", or the stream is appended with states.

    Example:
        with open_target(destination, bucket, clock=clock, entropy=os.urandom) as target:
            order = begin(target, stream, sync)
    """
    destination, scope = target.destination, scope or Scope(stream.id)
    scope.check_unicode()
    stream = _with_schema(stream, schema)
    _refuse_settings(destination, stream)
    fields = FieldFilter(stream, destination.hash_key)
    owner = owner_of(stream, destination, asset)
    commit = SyncCommit(
        target.bucket,
        destination,
        scope,
        sync,
        attempt=new_attempt(target.entropy),
        clock=target.server_clock,
        owner=owner,
        template=destination.template_of(stream),
    )
    if fields.hash_key_id is not None:
        commit.use_hash_key(fields.hash_key_id)
    stream = commit.with_generation(stream)
    order = _order(target, stream, sync, scope, owner)
    if commit.recorded is not None:
        return msgspec.structs.replace(order, complete=True)
    _refuse_state(commit, stream, scope)
    columns = StreamSchema(
        destination,
        fields.stream,
        commit.registry_entry,
        commit.commit_log.scope,
        sync,
        replaces=replaces_scope(destination, stream, scope),
    )
    columns.declare()
    assert columns.encoder is not None, "a declared schema has an encoder"
    return msgspec.structs.replace(
        order,
        columns=record_to_json(columns.encoder.record),
        fingerprint=columns.encoder.fingerprint,
        discarded=tuple(sorted(columns.discarded)),
        hash_key_id=fields.hash_key_id,
        head=commit.head.content_digest,
    )


def _with_schema(stream: Stream, schema: Any) -> Stream:
    if stream.json_schema is not None:
        return stream
    if schema is None:
        raise SettingsError(
            f"Stream {str(stream.id)!r} declares no schema, and workers must not guess it from their own records: the "
            "columns of one shard could differ from those of another. Give the stream a json_schema, or begin with "
            "the Arrow schema of the records.",
            stream=str(stream.id),
            setting="json_schema",
        )
    return replace(stream, json_schema=json_schema_of_arrow(schema))


def _refuse_settings(destination: S3Destination, stream: Stream) -> None:
    """Raises SettingsError for settings with which workers cannot stage one sync."""
    if not destination.template.counts_parts:
        raise SettingsError(
            f"Stream {str(stream.id)!r} is to be staged by several workers, and its keys have no {{part_number}}, so "
            "that two workers could make the same key. Add {part_number} to file_name_pattern.",
            stream=str(stream.id),
            setting="file_name_pattern",
        )
    if destination.publish_order == "purge_first":
        raise SettingsError(
            f"Stream {str(stream.id)!r} is to be staged by several workers, and publish_order is 'purge_first': if one "
            "driver drops an order that another one publishes, both generations would be lost. Use 'add_first'.",
            stream=str(stream.id),
            setting="publish_order",
        )


def _refuse_state(commit: SyncCommit, stream: Stream, scope: Scope) -> None:
    """Raises SettingsError if the scope has states, with which an append would have to continue."""
    if commit.segments or (
        scope.partition is None and stream.sync_mode is SyncMode.APPEND and commit.head.state_segment is not None
    ):
        raise SettingsError(
            f"{scope} has a state from which its source continues, and the shards of an append have none. Land it in "
            "one process, or forget the state (`s3dest state reset`).",
            stream=str(scope.stream),
            partition=scope.partition,
            setting="sync_mode",
        )


def _order(target: Target, stream: Stream, sync: Sync, scope: Scope, owner: str | None) -> Order:
    """The order without its columns."""
    endpoint, dimensions = target.bucket.endpoint, scope.dimensions
    assert stream.json_schema is not None
    return Order(
        stream=scope.stream.name,
        namespace=scope.stream.namespace,
        partition=scope.partition,
        dimensions=dict(dimensions) if dimensions is not None else None,
        sync_mode=stream.sync_mode.value,
        json_schema=dict(stream.json_schema),
        settings=stream_to_json(stream),
        destination=destination_to_json(target.destination),
        endpoint="" if is_aws(endpoint) else endpoint,
        region=target.bucket.client.meta.region_name or "",
        owner=owner,
        sync_id=sync.id,
        now=sync.now,
        uuid=sync.uuid,
        label=sync.label,
        head="",
        generation=stream.generation,
        objects_of_a_list=target.objects_of_a_list,
    )


# ---------------------------------------------------------------------- the end of an order


def commit(
    order: Order,
    receipts: Iterable[ShardReceipt],
    *,
    shards: int | Collection[ShardId] | None = None,
    s3: S3Access = None,
    clock: Clock | None = None,
    entropy: Entropy = os.urandom,
) -> Receipt:
    """Publishes the shards of an order, all or nothing. An error before the decision leaves the bucket unchanged.

    One receipt counts for each shard. Uploads of all other attempts are aborted. If the sync is already complete,
    because this call is repeated or another driver was faster, the recorded receipt is returned.

    Args:
        order: What `begin` returned.
        receipts: What the workers returned, in any order. It may be an iterator: only one receipt is held at a time.
        shards: The shards that there must be, or their number. If one is missing, nothing is published. None if the
            engine does not know them: then what has no receipt does not land.
        s3: How this process reaches S3. Default: the machine's own identity, at the order's endpoint.
        clock: Returns the server's time. Default: the `Date` of the server's answers.
        entropy: Returns random bytes.

    Returns:
        The receipt of the sync. It has no content checksum, since the records came in no order.

    Raises:
        SupersededError: Another sync of the scope was published since `begin`. The order is dropped.
        CommitError: A shard is missing, and the order is dropped. Or the order is decided, and publishing it was
            interrupted: then nothing is dropped, and the next sync, `s3dest recover` or this call finishes it.
        SchemaError: A shard has other columns. The order is dropped.
        RecordError: All shards together have more directories by field than a sync may have. The order is dropped.
        UndecidedError: It could not be determined whether the order is decided. Nothing is dropped.
        UploadVanishedError: An object list of a shard is gone. The order is dropped.
        SettingsError: A receipt belongs to another order. Nothing is dropped.

    Example:
        receipt = commit(order, receipts, shards=range(8))
    """
    destination = order.to_destination()
    bucket = order.open_bucket(s3, destination)
    return _OrderCommit(order, destination, bucket, clock or bucket.server_time, entropy).commit(receipts, shards)


def abandon(order: Order, *, s3: S3Access = None) -> int:
    """Gives an order up: aborts what its workers have staged, except what is decided. Returns the number of uploads.

    Workers that still run may upload more. A sweep aborts that. It is harmless to call this after `commit`, or twice.

    Args:
        order: The order.
        s3: See `commit`.

    Raises:
        StorageError: An upload could not be aborted. All others were tried.

    Example:
        abandon(order)
    """
    destination = order.to_destination()
    return abort_undecided(order.open_bucket(s3, destination), order, destination)


class _OrderCommit:
    """The commit of one order by one driver."""

    def __init__(
        self, order: Order, destination: S3Destination, bucket: Bucket, clock: Clock, entropy: Entropy
    ) -> None:
        self._order = order
        self._destination = with_retention(destination, order.to_stream().settings)
        self._bucket = bucket
        self._clock = clock
        self._entropy = entropy
        self._may_be_decided = False
        self._begin()

    def _begin(self) -> None:
        """Reads the scope's head, and publishes a sync that is decided in it."""
        order = self._order
        self._commit = SyncCommit(
            self._bucket,
            self._destination,
            order.scope,
            order.sync,
            attempt=new_attempt(self._entropy),
            clock=self._clock,
            owner=order.owner,
            template=self._destination.template_of(order.to_stream()),
            objects_of_a_list=order.objects_of_a_list,
        )
        if order.hash_key_id is not None:
            self._commit.use_hash_key(order.hash_key_id)
        self._publisher = Publisher(self._bucket, self._destination, self._commit, order.scope, self._entropy)

    def commit(self, receipts: Iterable[ShardReceipt], shards: int | Collection[ShardId] | None) -> Receipt:
        """See `commit`."""
        if self._commit.recorded is not None:
            return self._recorded_receipt()
        try:
            segment = self._build_segment(counted(self._order, receipts, shards))
            receipt = self._publisher.publish_last(segment, on_decided=self._note_decision)
        except (SupersededError, UploadVanishedError):
            self._begin()
            if self._commit.recorded is not None:
                return self._recorded_receipt()
            self._drop()
            raise
        except (CommitError, RecordError, SchemaError) as error:
            if not self._may_be_decided and not isinstance(error, ManifestError | UndecidedError):
                self._drop()
            raise
        self._abort_leftovers([segment])
        return receipt

    def _note_decision(self) -> None:
        self._may_be_decided = True

    def _recorded_receipt(self) -> Receipt:
        """The receipt of the driver that was faster, or of an earlier call."""
        entry = self._commit.recorded
        assert entry is not None
        self._abort_leftovers(self._commit.commit_log.remaining_segments_of_sync(entry.segment))
        return self._publisher.recorded_receipt()

    def _abort_leftovers(self, published: Sequence[Segment]) -> None:
        lists, has_lists = self._commit.commit_log.lists, any(segment.object_lists for segment in published)
        # The uploads that lists have are completed, and their ids are deleted.
        held = (segment for segment in published if not segment.object_lists)
        uploads = {upload for segment in held for upload in lists.upload_ids(segment)}
        abort_leftovers(self._bucket, self._order, self._destination, published=uploads, has_lists=has_lists)

    def _drop(self) -> None:
        """Aborts what was staged, since the order is surely not decided. A failure must not hide the reason."""
        with suppress(StorageError):
            abort_undecided(self._bucket, self._order, self._destination)

    def _build_segment(self, receipts: Iterable[ShardReceipt]) -> Segment:
        order, commit = self._order, self._commit
        if commit.head.content_digest != order.head:
            raise superseded(commit.commit_log, commit.head)
        name, stream = segment_name(order.sync_id, commit.attempt), selected_stream(order.to_stream())
        with commit.commit_log.lists.writer(name) as writer:
            collector = ShardCollector(order, stream, self._destination, commit, writer)
            for receipt in receipts:
                collector.append(receipt)
            staged = collector.finish()
            schema = FixedSchema(
                self._destination,
                stream,
                order.landed_scope.stream,
                order.record,
                frozenset(order.discarded),
                order.sync,
            )
            return commit.build_segment(
                StagedSync(
                    name=name,
                    complete=True,
                    previous_checkpoint=None,
                    stream=stream,
                    sync=order.sync,
                    objects=staged.objects,
                    quarantine=staged.quarantines[0] if staged.quarantines else None,
                    further_quarantines=staged.quarantines[1:],
                    object_lists=staged.object_lists,
                    mark=order.id,
                    next_part_number=commit.head.next_part_number,
                    counts=staged.counts,
                    encoder=schema.encoder if staged.has_objects else None,
                    state=None,
                )
            )
