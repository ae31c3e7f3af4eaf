"""What workers have uploaded for an order and no published segment names: finds it by its keys, and aborts it.

Attempts that lost, were killed, or came too late leave such uploads. Must not know: why the order has ended.
"""

from __future__ import annotations

from collections.abc import Collection

from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.documents import (
    lists_of_sync_prefix,
    quarantine_key,
    quarantine_part,
    segment_name,
    sync_of,
)
from s3dest_dagster.commit.head import Head
from s3dest_dagster.commit.unused_lists import StoredList, stored_lists, unused_lists
from s3dest_dagster.errors import ManifestError, StorageError
from s3dest_dagster.keys import mark_of, part_id
from s3dest_dagster.printable import amount, logger
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.shards.order import Order
from s3dest_dagster.storage import Bucket, PendingUpload, in_parallel

_logger = logger("shards")


def uploads_of(bucket: Bucket, order: Order, destination: S3Destination) -> list[PendingUpload]:
    """The unfinished uploads of all attempts at all shards. Two listings, however many shards there are.

    An earlier order of the same sync, whose driver was lost, began at another time, so that its keys have another
    prefix. Therefore all unfinished uploads of the stream are listed.
    """
    template, stream, mark = destination.template_of(order.to_stream()), order.landed_scope.stream, order.mark
    matcher = template.matcher(stream)
    listed = bucket.list_uploads(template.listing_root(stream))
    uploads = [each for each in listed if mark_of(part_id(matcher, each.key)) == mark]
    prefix = quarantine_key(order.manifest_root(destination), segment_name(order.sync_id, "")).removesuffix(".jsonl")
    kept = (each for each in bucket.list_uploads(prefix) if mark_of(quarantine_part(each.key)) == mark)
    return [*uploads, *kept]


def abort_undecided(bucket: Bucket, order: Order, destination: S3Destination) -> int:
    """Aborts the uploads of an order, except those that a segment has decided. Returns their number.

    The uploads are listed before the head is read, so that an upload that is decided in between is found in the head.
    If the order is decided at this very moment, then its publication finds uploads gone, and is rolled back.

    Raises:
        StorageError: The first failure, after all were tried.
    """
    uploads = uploads_of(bucket, order, destination)
    commit_log = CommitLog(bucket, order.manifest_root(destination), order.landed_scope)
    stored = _lists_of(commit_log, order)
    head = commit_log.read_head().head
    pending = head.pending_segment
    decided = set[str]()
    if pending is not None and sync_of(pending) == order.sync_id:
        decided = commit_log.lists.upload_ids(commit_log.read_segment(pending))
    aborted = _abort(bucket, uploads, decided)
    _delete_lists(commit_log, head, stored)
    return aborted


def _lists_of(commit_log: CommitLog, order: Order) -> list[StoredList]:
    """The lists that all workers and drivers of an order have put. One listing, however many shards there are."""
    return list(stored_lists(commit_log.bucket, lists_of_sync_prefix(commit_log.root, order.sync_id)))


def _delete_lists(commit_log: CommitLog, head: Head, stored: Collection[StoredList]) -> None:
    unused = unused_lists(commit_log, head, stored, lambda _: True)
    commit_log.bucket.delete(each.key for each in unused)


def abort_leftovers(
    bucket: Bucket, order: Order, destination: S3Destination, *, published: Collection[str], has_lists: bool
) -> int:
    """Aborts what a published order does not name. Returns the number of uploads.

    A failure is logged, since the order is published whatever happens here. A sweep aborts the rest.

    Args:
        published: Ids of the uploads that it names.
        has_lists: Whether its objects are in lists, so that other attempts may have left some.
    """
    try:
        aborted = _abort(bucket, uploads_of(bucket, order, destination), published)
        if has_lists:
            commit_log = CommitLog(bucket, order.manifest_root(destination), order.landed_scope)
            stored = _lists_of(commit_log, order)
            _delete_lists(commit_log, commit_log.read_head().head, stored)
        return aborted
    except (StorageError, ManifestError) as error:
        _logger.warning("%s: uploads of lost attempts could not be aborted, a sweep will: %s", order.scope, error)
        return 0


def _abort(bucket: Bucket, uploads: Collection[PendingUpload], keep: Collection[str]) -> int:
    leftover = [each for each in uploads if each.upload_id not in keep]

    def abort(upload: PendingUpload) -> StorageError | None:
        try:
            bucket.abort_upload(upload.key, upload.upload_id)
        except StorageError as error:
            return error
        return None

    failures = [error for error in in_parallel(abort, leftover) if error is not None]
    if failures:
        raise failures[0]
    if leftover:
        _logger.info("%s of lost attempts aborted", amount(len(leftover), "upload"))
    return len(leftover)
