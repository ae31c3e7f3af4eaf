"""The end of a sync: publishes its segment, does what is due for its stream, and makes its receipt.

A landing and the commit of an order end here. Must not know: how the segment was staged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from s3dest_dagster.commit.documents import segment_key, sync_mark_key
from s3dest_dagster.commit.retention import expire_partitions
from s3dest_dagster.commit.segment import Segment
from s3dest_dagster.commit.sync_commit import SyncCommit
from s3dest_dagster.errors import CommitError, StorageError
from s3dest_dagster.ingest.receipt import (
    Receipt,
    former_template_sentence,
    left_beside_sentence,
    left_elsewhere_sentence,
    receipt_of,
    receipt_of_mark,
)
from s3dest_dagster.ingest.target import Entropy
from s3dest_dagster.printable import amount, logger
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope

_logger = logger("ingest")


class Publisher:
    """Publishes the segments of one sync, and makes their receipts.

    Args:
        bucket: The bucket.
        destination: The settings that the stream lands with.
        commit: The commit of the sync.
        scope: The scope, with its stream's name as in the source.
        entropy: Returns random bytes.
    """

    def __init__(
        self, bucket: Bucket, destination: S3Destination, commit: SyncCommit, scope: Scope, entropy: Entropy
    ) -> None:
        self._bucket = bucket
        self._destination = destination
        self._commit = commit
        self._scope = scope
        self._entropy = entropy
        # As the sync begins: its first checkpoint enters the stream's new template, and the scope is no longer new.
        entry = commit.registry_entry
        self._left_elsewhere = entry.given_to if commit.head.newest is None else ()
        self._former_template = entry.former_template

    def publish_last(self, segment: Segment, *, on_decided: Callable[[], None]) -> Receipt:
        """Publishes the sync's last segment. Returns the receipt of the whole sync.

        An error before the decision leaves the bucket unchanged. `on_decided` is that of `SyncCommit.publish`, and so
        are the errors.
        """
        self._commit.publish(segment, on_decided=on_decided)
        expired = self._expire_partitions()
        self._warn_of_leftovers(replaces=segment.replaces)
        receipt = self._receipt_of_published()
        if (summary := receipt.partitions) is not None and summary.has_small_objects:
            _logger.warning("%s: %s", self._scope, summary.advice(receipt.ended_early))
        return replace(
            receipt,
            left_beside=self._commit.left_beside,
            left_elsewhere=self._left_elsewhere,
            former_template=self._former_template,
            expired=expired,
        )

    def _receipt_of_published(self) -> Receipt:
        try:
            return self.receipt(self._commit.segments, swept=self._commit.swept)
        except StorageError as error:
            commit_log = self._commit.commit_log
            raise CommitError(
                f"Sync {self._commit.segments[-1].sync_id} of {commit_log.scope} is published, and only its receipt is "
                f"missing, since an object list could not be read: {error} Nothing is lost: if the sync is run again "
                "with the same id, it lands nothing and returns the receipt.",
                key=error.key,
                action=error.action,
                **commit_log.error_location,
            ) from error

    def recorded_receipt(self) -> Receipt:
        """The receipt of a sync that was already complete: from its segments, or from its mark if they are gone."""
        entry, commit_log = self._commit.recorded, self._commit.commit_log
        assert entry is not None, "a sync that is not recorded is staged"
        if segments := commit_log.remaining_segments_of_sync(entry.segment):
            return self.receipt(segments, repeated=True)
        return receipt_of_mark(entry, self._scope, self._bucket.uri(sync_mark_key(commit_log.root, entry.id)))

    def receipt(self, segments: Sequence[Segment], *, repeated: bool = False, swept: int = 0) -> Receipt:
        """The receipt of these segments of the sync, oldest first."""
        commit_log = self._commit.commit_log
        manifest = self._bucket.uri(segment_key(commit_log.root, segments[-1].name))
        receipt = receipt_of(segments, commit_log.lists, self._scope, manifest, repeated=repeated, swept=swept)
        return replace(receipt, former_names=self._commit.registry_entry.former_names)

    def _warn_of_leftovers(self, *, replaces: bool) -> None:
        """Says what stays visible from before this sync."""
        scope, left_beside = self._commit.commit_log.scope, self._commit.left_beside
        if left_beside:
            _logger.warning("%s", left_beside_sentence(scope, left_beside))
        if self._left_elsewhere:
            _logger.warning("%s", left_elsewhere_sentence(scope, self._left_elsewhere))
        if self._former_template:
            _logger.warning("%s", former_template_sentence(scope, self._former_template, replaces=replaces))

    def _expire_partitions(self) -> tuple[str, ...]:
        """Retires the stream's expired partitions if that is due, and returns their keys.

        The sync is published, whatever happens here.
        """
        if not self._commit.is_sweep_due or not self._destination.expire_partitions_after:
            return ()
        stream = self._commit.commit_log.scope.stream
        try:
            now = self._commit.clock()
            own = self._commit.commit_log.scope
            retired = expire_partitions(self._bucket, self._destination, stream, now, self._entropy, but=own)
        except (CommitError, StorageError) as error:
            _logger.warning("%s: expired partitions could not be retired: %s", stream, error)
            return ()
        if retired:
            _logger.info("%s: %s retired, the first is %s", stream, amount(len(retired), "partition"), retired[0].scope)
        return tuple(str(each.scope.partition) for each in retired)
