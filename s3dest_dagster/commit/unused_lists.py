"""Deletes object lists and upload lists that nothing refers to any more.

A sync that failed before its decision, a worker that came too late, and a segment that was deleted leave such lists.
One listing finds those of all scopes of a stream; what refers to them is read only for scopes that have any. Must not
know: when a sweep is due.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from s3dest_dagster.commit.collection import may_collect
from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.documents import (
    OBJECT_LIST,
    UPLOAD_LIST,
    object_lists_prefix,
    segment_key,
    segment_name,
    sync_of,
)
from s3dest_dagster.commit.head import Head
from s3dest_dagster.commit.scopes import scope_at
from s3dest_dagster.commit.segment import Segment
from s3dest_dagster.errors import CommitError, StorageError
from s3dest_dagster.printable import logger
from s3dest_dagster.storage import Bucket, each_in_parallel, in_parallel

_logger = logger("commit")


@dataclass(frozen=True, slots=True)
class StoredList:
    """An object list or an upload list in the bucket."""

    key: str
    """Its key."""
    scope: str
    """The directory of its scope."""
    name: str
    """Its name, by which segments refer to it."""
    modified: datetime
    """When it was put."""

    @property
    def sync_id(self) -> str:
        """The sync whose attempt or worker has put it."""
        return sync_of(self.name.partition("/")[0])

    @property
    def has_uploads(self) -> bool:
        """Whether it is an upload list."""
        return self.key.endswith(UPLOAD_LIST)


def stored_lists(bucket: Bucket, prefix: str) -> Iterator[StoredList]:
    """Yields the lists with this prefix: those of a stream, or of one sync."""
    for found in bucket.list_objects(prefix):
        scope, _, file = found.key.partition(object_lists_prefix("/"))[2].partition("/")
        name = file.removesuffix(OBJECT_LIST).removesuffix(UPLOAD_LIST)
        if name != file:
            yield StoredList(found.key, scope, name, found.modified)


def sweep_lists(bucket: Bucket, root: str, oldest: datetime) -> int:
    """Deletes the lists of a stream that nothing refers to, and logs scopes where that fails. Returns their number.

    What an unfinished sync has put stays until it is as old as an abandoned upload, since its writer may be about to
    decide it. Nothing is deleted while a transfer lasts that may put lists under former names.

    Args:
        bucket: The bucket.
        root: `keys.stream_root` of the stream.
        oldest: Lists of unfinished syncs that were put after this time stay.
    """
    # The lists are listed before the heads are read: those of a sync that is decided in between are found needed.
    scopes: dict[str, list[StoredList]] = {}
    for each in stored_lists(bucket, object_lists_prefix(root)):
        scopes.setdefault(each.scope, []).append(each)
    if not scopes or not may_collect(bucket, root):
        return 0

    def sweep_scope(directory: str) -> int:
        try:
            return _sweep_scope(bucket, f"{root}{directory}/", scopes[directory], oldest)
        except (CommitError, StorageError) as error:
            _logger.warning(
                "Unused object lists of %s could not be deleted: %s", bucket.uri(f"{root}{directory}"), error
            )
            return 0

    return sum(each_in_parallel(sweep_scope, scopes))


def _sweep_scope(bucket: Bucket, root: str, stored: Sequence[StoredList], oldest: datetime) -> int:
    found = scope_at(bucket, root)
    if found is None:  # no sync of the scope was ever decided
        unused = [each for each in stored if each.modified <= oldest]
    else:
        unused = unused_lists(found.commit_log, found.seen.head, stored, lambda each: each.modified <= oldest)
    bucket.delete(each.key for each in unused)
    return len(unused)


def unused_lists(
    commit_log: CommitLog, head: Head, stored: Iterable[StoredList], may_go: Callable[[StoredList], bool]
) -> list[StoredList]:
    """Those lists of a scope to which nothing refers.

    Args:
        commit_log: The scope's commit log.
        head: The scope's head, read after the lists were listed.
        stored: The lists.
        may_go: Whether a list goes although its sync is not complete.
    """
    of_syncs: dict[str, list[StoredList]] = {}
    for each in stored:
        of_syncs.setdefault(each.sync_id, []).append(each)
    if not of_syncs:
        return []
    pending = commit_log.read_segment(head.pending_segment) if head.pending_segment is not None else None
    publishing = {each.name for each in pending.object_lists} if pending is not None else set()
    # A replaced segment may be deleted while its objects are kept for readers: then only these refer to its lists.
    replacing = [*commit_log.retired_segments(head.retired), *([pending] if pending is not None else [])]
    replaced = {each.name for segment in replacing if segment.replaced for each in segment.replaced.object_lists}
    unused: list[StoredList] = []
    for sync_id, lists in of_syncs.items():
        sync = commit_log.find_sync(head, sync_id)
        segments = _segments_of_sync(commit_log, sync_id) if sync is not None else []
        landed = {each.name for segment in segments for each in segment.object_lists}
        for each in lists:
            needed = publishing if each.has_uploads else publishing | landed | replaced
            if each.name not in needed and ((sync is not None and sync.complete) or may_go(each)):
                unused.append(each)
    return unused


def _segments_of_sync(commit_log: CommitLog, sync_id: str) -> Sequence[Segment]:
    """All segments of a published sync that are not deleted, live or not, whichever attempt has put them."""
    prefix = segment_key(commit_log.root, segment_name(sync_id, "")).removesuffix(".json")
    listed = commit_log.bucket.list_objects(prefix)
    names = [each.key.rpartition("/")[2].removesuffix(".json") for each in listed]
    found = in_parallel(commit_log.find_segment, names)
    return [each for each in found if each is not None]
