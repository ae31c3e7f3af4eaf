"""Publishes a decided sync, including one that another writer decided.

Every step is idempotent, so any writer can finish what another writer has begun. Must not know: records, formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain

from s3dest_dagster.commit.commit_log import CommitLog, SeenHead
from s3dest_dagster.commit.documents import registry_key
from s3dest_dagster.commit.head import Head
from s3dest_dagster.commit.landed_columns import LandedColumns
from s3dest_dagster.commit.object_lists import StagedObject
from s3dest_dagster.commit.registry_document import REGISTRIES
from s3dest_dagster.commit.segment import Segment
from s3dest_dagster.commit.written_columns import columns_of_stream
from s3dest_dagster.errors import CommitError, ManifestError, StorageError, SupersededError, UploadVanishedError
from s3dest_dagster.keys import stream_root
from s3dest_dagster.printable import logger
from s3dest_dagster.storage import each_in_parallel

_logger = logger("commit")
_SWEEP_MARGIN, _CLOCK_TICKS = timedelta(hours=1), timedelta(seconds=2)
"""How much younger than `abandoned_upload_age_s` an upload must be to purge first: an hour, or half of a shorter age.
At least two seconds, because servers report whole seconds and their clock may therefore seem to go back by one."""
_ATTEMPTS = 3
_THREADS = 8
"""Uploads that are completed at a time, if the segment does not say it."""
Clock = Callable[[], datetime]
"""Returns the current time, with a time zone."""


def begin(commit_log: CommitLog, clock: Clock) -> SeenHead:
    """Returns the head that a sync starts from. If a sync is pending in it, that sync is published or rolled back
    first."""
    seen = commit_log.read_head()
    while seen.head.pending_segment is not None:
        try:
            seen = finish(commit_log, seen, clock)
        except CommitError as rolled_back:
            now = commit_log.read_head()
            if now.etag == seen.etag:
                raise
            _logger.warning("%s", rolled_back)
            seen = now
    return seen


def finish(commit_log: CommitLog, seen: SeenHead, clock: Clock) -> SeenHead:
    """Publishes the sync that a head has pending, if there is one.

    Returns the head after it. This head may have another pending sync that another writer has decided in the meantime.

    Raises:
        CommitError: The sync had to be rolled back.
    """
    if seen.head.pending_segment is None:
        return seen
    return publish(commit_log, seen, commit_log.read_segment(seen.head.pending_segment), clock)


def has_published(commit_log: CommitLog, head: Head, segment: Segment) -> bool:
    """Whether this segment is published. Another attempt at its sync may have continued after it."""
    sync = commit_log.find_sync(head, segment.sync_id)
    if sync is None or sync.segment == segment.name:
        return sync is not None
    return any(each.name == segment.name for each in commit_log.remaining_segments_of_sync(sync.segment))


# ---------------------------------------------------------------------- the steps


def publish(commit_log: CommitLog, decided: SeenHead, segment: Segment, clock: Clock) -> SeenHead:
    """Makes a decided sync visible. Returns the head after it.

    It is idempotent: if it is interrupted at any point, the next call finishes it.

    Raises:
        CommitError: An upload has vanished, and the sync was rolled back. Unless it purged first, the scope's previous
            objects are untouched.
        SupersededError: Another sync of the stream has changed the type of a column in the meantime, and the sync was
            rolled back.
    """
    if decided.head.pending_segment != segment.name:
        return decided
    publication = _Publication(commit_log, decided, segment)
    if segment.given_to is not None:
        return publication.hand_over(commit_log.of_stream(segment.given_to))
    grace = _seconds(segment, "delete_grace_s")
    try:
        publication.check_columns()
        if publication.purges_first():
            publication.delete_replaced()
            publication.complete_uploads()
        else:
            publication.complete_uploads()
            if not grace:
                publication.delete_replaced()
        now = publication.move_head(decided.head.published(segment, clock() + grace if grace else None))
    except _HeadMoved as moved:
        return publication.after_other_writer(moved.now)
    if segment.object_lists:
        commit_log.lists.delete_uploads(segment)
    return now


def revoke(commit_log: CommitLog, decided: SeenHead, segment: Segment) -> SeenHead | None:
    """Revokes the decision of a sync of which nothing is visible yet. None if that succeeds.

    If another writer has published the sync in the meantime, returns the head after that.

    Raises:
        CommitError: Another writer has rolled the sync back.
    """
    publication = _Publication(commit_log, decided, segment)
    try:
        publication.revoke()
    except _HeadMoved as moved:
        return publication.after_other_writer(moved.now)
    return None


def _seconds(segment: Segment, setting: str) -> timedelta:
    return timedelta(seconds=float(segment.settings.get(setting) or 0))


class _HeadMoved(Exception):  # no error: another writer goes on with the same publication
    """Signals that another writer has put a head since the decision was read."""

    def __init__(self, now: SeenHead) -> None:
        self.now = now


@dataclass
class _Publication:
    """The steps that publish one decided segment. Each raises `_HeadMoved` instead of acting on an outdated head."""

    commit_log: CommitLog
    decided: SeenHead
    segment: Segment

    def purges_first(self) -> bool:
        """Whether replaced objects are deleted before the sync's own objects are visible.

        A sweep that read the head before the decision may abort an upload that was old at that time. An upload that is
        young now was even younger then, so this answer stays true however long the caller is suspended.
        """
        segment = self.segment
        if not self._may_purge:
            return False
        if segment.is_empty:
            return True
        abandoned = _seconds(segment, "abandoned_upload_age_s")
        young = abandoned - max(_CLOCK_TICKS, min(_SWEEP_MARGIN, abandoned / 2))
        since = segment.uploads_started_after
        if since is not None and self.commit_log.bucket.server_time() - since < young:
            return True
        _logger.warning(
            "Sync %s of %s is published as with publish_order 'add_first': its uploads may be older than "
            "abandoned_upload_age_s allows to purge first, and a sweep may have aborted them.",
            segment.sync_id,
            self.commit_log.scope,
        )
        return False

    @property
    def _may_purge(self) -> bool:
        """Whether the settings want replaced objects deleted first. Never if others stay, which a rollback could not
        tell from them."""
        segment = self.segment
        wanted = segment.settings.get("publish_order") == "purge_first"
        return wanted and segment.replaces and bool(segment.replaced_count)

    def check_not_moved(self) -> None:
        """Raises `_HeadMoved` if another writer has put a head."""
        now = self.commit_log.read_head()
        if now.etag != self.decided.etag:
            raise _HeadMoved(now)

    def check_columns(self) -> None:
        """Rolls the sync back if it lands a partition, and another landing has changed the type of a column.

        Landings of one scope need no such check, since only one of them is decided.
        """
        commit_log, segment = self.commit_log, self.segment
        landed = LandedColumns.of(commit_log.scope, segment)
        if commit_log.scope.partition is None or not landed.records:
            return
        root = stream_root(commit_log.location.bucket_path, commit_log.scope.stream)
        registry = REGISTRIES.read(commit_log.bucket, root, registry_key(root))
        if registry is None:
            return
        try:
            landed.check(columns_of_stream(registry[0].columns))
        except SupersededError:
            self.revoke()
            raise

    def revoke(self) -> None:
        """Revokes the decision before anything of the sync is visible, and aborts its uploads."""
        commit_log, segment = self.commit_log, self.segment
        self._revoke([item.key for item, _ in self._staged() if commit_log.has_arrived(segment, item)])
        for item, upload in self._staged():
            if upload is not None:
                commit_log.bucket.abort_upload(item.key, upload.id)

    def _staged(self) -> Iterator[StagedObject]:
        """All objects of the segment, the quarantines first."""
        lists = self.commit_log.lists
        return chain(lists.staged_quarantines(self.segment), lists.staged_objects(self.segment))

    def delete_replaced(self) -> None:
        """Deletes the objects that the sync replaces."""
        if self.segment.replaced_count:
            self.check_not_moved()
            self.commit_log.delete_replaced([self.segment])

    def complete_uploads(self) -> None:
        """Makes all objects visible. Rolls the sync back if an upload has vanished.

        The quarantine comes first and alone: an object may replace another object with the same key, and after that the
        sync can no longer be rolled back.
        """
        lists, segment = self.commit_log.lists, self.segment
        threads = int(segment.settings.get("publish_threads") or _THREADS)
        arrived: list[str] = []
        missing: list[str] = []
        try:
            for staged in (lists.staged_quarantines(segment), lists.staged_objects(segment)):
                if not missing:
                    there = each_in_parallel(self._complete, self._until_missing(staged, missing), threads)
                    for key, is_there in there:
                        (arrived if is_there else missing).append(key)
        except StorageError:
            self.check_not_moved()
            raise
        if missing:
            self._roll_back(arrived, missing[0])

    def _until_missing(self, staged: Iterator[StagedObject], missing: list[str]) -> Iterator[StagedObject]:
        """Yields staged objects up to an object list that is gone, and adds its key to `missing`: a sweep has deleted
        it before the decision, as it aborts abandoned uploads."""
        try:
            yield from staged
        except ManifestError as error:
            if error.key is None or self.commit_log.bucket.head(error.key) is not None:
                raise
            missing.append(error.key)

    def _complete(self, staged: StagedObject) -> tuple[str, bool]:
        """Makes one object visible. Returns its key, and False if its upload has vanished and the object does not exist
        either."""
        item, upload = staged
        if upload is None:
            return item.key, self.commit_log.has_arrived(self.segment, item)
        try:
            self.commit_log.bucket.complete_upload(item.key, upload.id, upload.part_etags)
        except StorageError as error:
            # Some servers (Ceph 16, moto) return a nonstandard error if an upload is gone.
            is_gone = isinstance(error, UploadVanishedError) or self._is_gone(item.key, upload.id)
            if self.commit_log.has_arrived(self.segment, item):
                return item.key, True
            if not is_gone:
                raise
            return item.key, False
        return item.key, True

    def hand_over(self, heir: CommitLog) -> SeenHead:
        """Gives everything that the scope holds to the same partition of another stream, whose segments exist already.

        Returns the scope's head after it, which is empty.

        Raises:
            CommitError: The heir holds something else. The decision is revoked.
        """
        try:
            self._give_head(heir)
            return self.move_head(self.decided.head.given_away(self.segment))
        except _HeadMoved as moved:
            return self.after_other_writer(moved.now)

    def _give_head(self, heir: CommitLog) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            seen = heir.read_head()
            if heir.find_sync(seen.head, self.segment.sync_id) is not None:
                return
            # Read after the heir's head: if the transfer is finished meanwhile, the heir has another head, too.
            self.check_not_moved()
            if not heir.is_empty(seen.head):
                self.move_head(self.decided.head.rolled_back(self.segment, emptied=False))
                raise CommitError(
                    f"{heir.scope} has got content of its own meanwhile, so that it did not get that of "
                    f"{self.commit_log.scope}. Both are as they were. Retire what {heir.scope} holds, or give it to a "
                    "third name, and run this transfer again.",
                    **self.commit_log.error_location,
                )
            given = self.decided.head.rolled_back(self.segment, emptied=False)
            received = seen.head.received(given, self.segment)
            syncs = {each.id: each for each in (*given.recent_syncs, *seen.head.recent_syncs)}
            for sync in syncs.values():
                if received.find_sync(sync.id) is None:
                    heir.mark_sync(sync, lambda: False)
            try:
                heir.put_head(received, seen)
                return
            except StorageError:
                if attempt == _ATTEMPTS:
                    raise

    def _is_gone(self, key: str, upload_id: str) -> bool:
        """Whether the server lists its uploads, but not this one. False if the server does not list uploads."""
        try:
            return all(each.upload_id != upload_id for each in self.commit_log.bucket.list_uploads(key))
        except StorageError:
            return False

    def _roll_back(self, arrived: Sequence[str], missing: str) -> None:
        """Revokes the decision, and raises CommitError."""
        commit_log, segment = self.commit_log, self.segment
        purged = self._revoke(arrived)
        if segment.is_adoption:
            raise CommitError(
                f"The adoption for {commit_log.scope} was given up, and nothing was adopted: "
                f"{commit_log.bucket.uri(missing)} was changed or deleted meanwhile. Run it again.",
                key=missing,
                **commit_log.error_location,
            )
        sync = f"Sync {segment.sync_id} of {commit_log.scope}"
        why = f"the upload of {commit_log.bucket.uri(missing)} vanished before it was published"
        cure = "(a lifecycle rule that aborts uploads, or a server that forgot them). Run the sync again."
        if purged:
            sentence = f"{sync} is lost: {why}, after publish_order='purge_first' had deleted what it replaces {cure}"
        else:
            sentence = f"{sync} was rolled back, and what the scope held before is untouched: {why} {cure}"
        raise CommitError(sentence, key=missing, **commit_log.error_location)

    def _revoke(self, arrived: Sequence[str]) -> bool:
        """Revokes the decision, and deletes these objects of the sync. Returns whether the replaced objects are already
        deleted.

        The objects are read before the head: objects that were seen while the sync was still pending are its own.
        """
        own, purged = self._own_etags(arrived), self._was_purged()
        self.check_not_moved()
        self.commit_log.check_own(own)
        self.commit_log.bucket.delete_unchanged(own)
        self.move_head(self.decided.head.rolled_back(self.segment, emptied=purged))
        return purged

    def _own_etags(self, arrived: Sequence[str]) -> Mapping[str, str]:
        """The ETags of those objects that the sync itself made. Adopted objects were there before, and stay."""
        return {} if self.segment.is_adoption else self.commit_log.etags_of(arrived)

    def _was_purged(self) -> bool:
        """Whether the replaced objects are already deleted, by this publication or by an interrupted one."""
        if not self._may_purge:
            return False
        keys = self.commit_log.lists.replaced_keys(self.segment)
        return all(found is None for found in each_in_parallel(self.commit_log.bucket.head, keys))

    def move_head(self, head: Head) -> SeenHead:
        """Puts the head after the publication or the rollback. Does nothing if another writer has put the same head.

        Before that, it puts the mark of each sync that the head forgets.
        """
        for sync in self.decided.head.forgotten_in(head):
            self.commit_log.mark_sync(sync, lambda: self.commit_log.read_head().etag == self.decided.etag)
        try:
            return self.commit_log.put_head(head, self.decided)
        except StorageError:
            now = self.commit_log.read_head()
            if now.head == head.succeeding(self.decided.head):
                return now
            if now.etag == self.decided.etag:
                raise
            raise _HeadMoved(now) from None

    def after_other_writer(self, now: SeenHead) -> SeenHead:
        """Returns the head that another writer put, if it has published this sync. Otherwise raises CommitError."""
        commit_log, segment = self.commit_log, self.segment
        if has_published(commit_log, now.head, segment):
            return now
        raise CommitError(
            f"Sync {segment.sync_id} of {commit_log.scope} was decided, and another process found an upload of it gone "
            "and rolled it back. What the scope held before is untouched. Run the sync again.",
            **commit_log.error_location,
        )
