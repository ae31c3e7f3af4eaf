"""The manifests of one scope in its bucket, and the steps of the commit that change them.

A sync is decided by one conditional put of the head and by nothing else; before it nothing of the sync is visible, and
after it every step is idempotent, so that whoever comes next can finish it. It must not know records or formats.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from isal.isal_zlib import crc32

from s3dest_dagster.commit.manifest import Head, ManifestObject, ReachedState, Segment, SyncEntry, from_json, to_json
from s3dest_dagster.commit.manifest_keys import head_key, segment_key, sync_of
from s3dest_dagster.commit.placement import check_owner, misplaced
from s3dest_dagster.commit.sync_marks import SyncMarks
from s3dest_dagster.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    CommitError,
    CredentialsError,
    ManifestError,
    StorageError,
    SupersededError,
    UndecidedError,
    UploadVanishedError,
)
from s3dest_dagster.keys import literal_root_of, manifest_root_in
from s3dest_dagster.lineage import KnownState, state_id
from s3dest_dagster.printable import logger
from s3dest_dagster.settings.destination import SYNC_METADATA
from s3dest_dagster.storage import Bucket, crc32_text, in_parallel
from s3dest_dagster.stream import Scope

_logger = logger("commit")
_DECISION_ATTEMPTS = 3
_SWEEP_MARGIN, _TICKS = timedelta(hours=1), timedelta(seconds=2)
"""How much younger than abandoned an upload must be to purge first: an hour, of a short age half. But at least two
seconds: a server tells whole seconds, so that its time may seem to go back by one."""
_REFUSALS = (AccessDeniedError, BucketNotFoundError, CredentialsError)
"""Errors that the next attempt would meet again."""
Clock = Callable[[], datetime]
"""Gives the current time, with a time zone."""


@dataclass(frozen=True, slots=True)
class SeenHead:
    """A head as it was read or written. `etag` None: there is none yet, and `head` is the empty one."""

    head: Head
    etag: str | None


class CommitLog:
    """Reads and changes the manifests of one scope. `root` is `keys.scope_root` of it.

    `own`: what every key of the stream begins with, under each template that it has landed under; without it what is
    under its bucket path. Nothing else is ever deleted.
    """

    def __init__(self, bucket: Bucket, root: str, scope: Scope, own: Sequence[str] = ()) -> None:
        self.bucket = bucket.with_root(manifest_root_in(root) or "")
        self.root = root
        self.scope = scope
        self.path = literal_root_of(root)
        self._own = (root, *(own or (f"{self.path}/".lstrip("/"),)))
        self._marks = SyncMarks(self.bucket, root, scope)

    # ------------------------------------------------------------------ reading

    def read_head(self) -> SeenHead:
        """The head as it stands."""
        key = head_key(self.root)
        found = self.bucket.get(key)
        if found is None:
            stream = self.scope.stream
            empty = Head(path=self.path, stream=stream.name, namespace=stream.namespace, partition=self.scope.partition)
            return SeenHead(empty, None)
        head = from_json(Head, found[0], key)
        check_owner(self.bucket, head, self.root, key)
        return SeenHead(head, found[1])

    def read_segment(self, name: str) -> Segment:
        """A segment that the head names. ManifestError when it is missing: the head promised it."""
        found = self.find_segment(name)
        if found is None:
            key = segment_key(self.root, name)
            raise ManifestError(
                f"{self.bucket.uri(key)} is missing although the head of {self.scope} names it. Somebody, or a "
                "lifecycle rule, deleted it; restore it from a backup or an older version of the object. Without one, "
                f"delete {self.bucket.uri(head_key(self.root))} too: the scope is then as if nothing had landed "
                "there, and a full refresh takes over what lies under its keys.",
                key=key,
            )
        return found

    def find_segment(self, name: str) -> Segment | None:
        """A segment that may have been collected; None where it is not there."""
        key = segment_key(self.root, name)
        found = self.bucket.get(key)
        if found is None:
            return None
        segment = from_json(Segment, found[0], key)
        check_owner(self.bucket, segment, self.root, key)
        if segment.name != name:
            raise misplaced(self.bucket, key, f"segment {segment.name}")
        return segment

    def live_segments(self, head: Head) -> list[Segment]:
        """The published segments that tell all of the scope's objects, oldest first, folded ones included."""
        found: dict[str, Segment] = {}
        wanted: Sequence[str] = head.oldest_first
        while wanted:
            found |= zip(wanted, in_parallel(self.read_segment, wanted), strict=True)
            wanted = [name for each in wanted for name in found[each].compacts]
        return list(_oldest_first(head.oldest_first, found))

    def entry_of(self, head: Head, sync_id: str) -> SyncEntry | None:
        """What is known of a sync, from the head's memory or else from its mark; None where it was never published.

        One request where the head does not know it and may have forgotten it, else none."""
        entry = head.entry_of(sync_id)
        return entry if entry is not None or not head.may_have_forgotten else self._marks.find(sync_id)

    def segments_of_sync(self, newest: str) -> list[Segment]:
        """The segments of one sync, oldest first: its checkpoints, and what came after them. `newest` is its last."""
        return _chain(newest, self.read_segment)

    def segments_left_of_sync(self, newest: str) -> list[Segment]:
        """As `segments_of_sync`; none where the head may have forgotten the sync, and a segment of it was collected."""
        return _chain(newest, self.find_segment)

    def reached_state(self, head: Head) -> ReachedState | None:
        """The state that the scope's published records reach; None when the source gave none."""
        if head.state is None:
            return None
        holder = self.read_segment(head.state)
        assert holder.state is not None, "the head names a segment that has a state"
        known = KnownState(state_id(holder.state), holder.state_number, segment_key(self.root, holder.name))
        lineage = (*holder.state_ancestors, known)
        return ReachedState(holder.state, holder.started_at, complete=head.syncs[-1].complete, lineage=lineage)

    def visible_segments(self) -> list[Segment]:
        """What a reader sees: the published segments, and a decided one once all of its objects are there."""
        return self.visible_in(self.read_head().head)

    def visible_in(self, head: Head) -> list[Segment]:
        """What a reader sees by this head."""
        if head.pending is None:
            return self.live_segments(head)
        pending = self.read_segment(head.pending)
        if not all(in_parallel(lambda each: self._arrived(pending, each), pending.uploads)):
            return self.live_segments(head)
        return self.live_segments(head.published(pending)) if not pending.replaces else [pending]

    # ------------------------------------------------------------------ the commit

    def begin(self, clock: Clock) -> SeenHead:
        """The head to work on; a sync that is found decided and unpublished is published first, or turned back."""
        seen = self.read_head()
        while seen.head.pending is not None:
            try:
                seen = self.finish(seen, clock)
            except CommitError as turned_back:
                now = self.read_head()
                if now.etag == seen.etag:
                    raise
                _logger.warning("%s", turned_back)
                seen = now
        return seen

    def finish(self, seen: SeenHead, clock: Clock) -> SeenHead:
        """Publishes the sync that a head has pending, if any. CommitError when it had to be turned back.

        The head that it gives may have another sync pending, which another writer has decided meanwhile.
        """
        if seen.head.pending is None:
            return seen
        return self.publish(seen, self.read_segment(seen.head.pending), clock)

    def decide(self, seen: SeenHead, segment: Segment) -> SeenHead:
        """Puts the segment, then moves the head: the one point of decision.

        Raises SupersededError when another sync moved it first, UndecidedError when the server's answer was lost and
        cannot be read back, else what S3 refused; but for UndecidedError nothing is decided then.
        """
        self.bucket.put(segment_key(self.root, segment.name), to_json(segment))
        for attempt in range(1, _DECISION_ATTEMPTS + 1):
            decided = seen.head.deciding(segment)
            try:
                return self.put_head(decided, seen)
            except StorageError as error:
                # A refusal leaves doubt too: the request may have been tried before, and the server have acted then.
                now, is_decided = self._read_back(segment, error)
                if is_decided:
                    return now
                if now.etag != seen.etag and not _same_but_for_what_left(now, seen):
                    raise self._superseded(now.head, kept=segment.continues is not None) from error
                if attempt == _DECISION_ATTEMPTS or isinstance(error, _REFUSALS):
                    raise
                seen = now
        raise AssertionError("unreachable")

    def publish(self, decided: SeenHead, segment: Segment, clock: Clock) -> SeenHead:
        """Makes a decided sync visible: completes its uploads, deletes what it replaces, moves the head.

        With `delete_grace_s` nothing is deleted here; the head notes what is to leave and when. What is replaced leaves
        first where "purge_first" asks for it and no sweep can have taken an upload.
        Idempotent: a crash anywhere in it is finished by the next call. An upload that has vanished before the first
        deletion turns the decision back and raises CommitError; nothing is lost then.
        """
        if decided.head.pending != segment.name:
            return decided
        purge_first = segment.settings.get("publish_order") == "purge_first" and self._may_purge_first(segment)
        if purge_first and (moved := self._purge(decided, segment)) is not None:
            return moved
        try:
            arrived, missing = self._complete_all(segment)
        except StorageError:
            now = self.read_head()
            if now.etag == decided.etag:
                raise
            return self._moved_on(now, segment)
        if missing:
            return self._vanished(decided, segment, arrived, missing)
        grace = timedelta(seconds=float(segment.settings.get("delete_grace_s") or 0))
        if not purge_first and not grace and (moved := self._purge(decided, segment)) is not None:
            return moved
        return self._move_head(decided, decided.head.published(segment, clock() + grace if grace else None), segment)

    def check_newest(self, seen: SeenHead, segment: Segment) -> None:
        """Returns when a sync may go on after its checkpoint; SupersededError when another writer came after it, who
        may have read what this sync would read next."""
        if not seen.head.ends_with(segment):
            raise self._superseded(seen.head, kept=True)

    def abandon(self, segment: Segment) -> None:
        """Drops the segment of a sync that was not decided."""
        self.bucket.delete([segment_key(self.root, segment.name)])

    def check_own(self, keys: Iterable[str]) -> None:
        """Returns only where all of these keys are the stream's own; else raises ManifestError: what a manifest lists
        elsewhere is somebody else's."""
        foreign = next((key for key in keys if not key.startswith(self._own)), None)
        if foreign is not None:
            raise ManifestError(
                f"The manifests of {self.scope} list {self.bucket.uri(foreign)}, where the stream does not land: "
                "somebody has changed them. Nothing of what they list was deleted. Restore what stands under "
                f"{self.bucket.uri(self.root)} from a backup or older versions of the objects.",
                stream=str(self.scope.stream),
                partition=self.scope.partition,
                key=foreign,
            )

    # ------------------------------------------------------------------ steps

    def _may_purge_first(self, segment: Segment) -> bool:
        """Whether what the sync replaces may leave before its own objects are there.

        A sweep that has read the head before the decision may abort an upload that was old by then. One that is young
        now was younger then, so that this answer stays true however long whoever asked for it sleeps.
        """
        if not segment.removes or not segment.uploads:
            return bool(segment.removes)
        abandoned = timedelta(seconds=float(segment.settings.get("abandoned_upload_age_s") or 0))
        young = abandoned - max(_TICKS, min(_SWEEP_MARGIN, abandoned / 2))
        if segment.staged_since is not None and self.bucket.server_time() - segment.staged_since < young:
            return True
        _logger.warning(
            "Sync %s of %s is published as with publish_order 'add_first': its uploads may be older than "
            "abandoned_upload_age_s allows to purge first, and a sweep may have aborted them.",
            segment.sync_id,
            self.scope,
        )
        return False

    def _purge(self, decided: SeenHead, segment: Segment) -> SeenHead | None:
        """Deletes what the sync replaces; or, when another writer has moved on, deletes nothing and gives that head."""
        if not segment.removes:
            return None
        now = self.read_head()
        if now.etag != decided.etag:
            return self._moved_on(now, segment)
        self.delete_replaced([segment])
        return None

    def delete_replaced(self, segments: Sequence[Segment], *, but: Collection[str] = ()) -> None:
        """Deletes the objects that these segments removed, except those under some keys, if all are the stream's own.

        It may come late, when others have gone on: keys that never come again are deleted as they are; those that may,
        only while the object that was meant stands there.
        """
        self.check_own(key for each in segments for key in each.removes)
        final = {key for each in segments for key in each.removes if key not in each.removes_unchanged}
        self.bucket.delete(sorted(final.difference(but)))
        for each in segments:
            self.bucket.delete_unchanged({key: tag for key, tag in each.removes_unchanged.items() if key not in but})

    def etags_of(self, keys: Collection[str]) -> dict[str, str]:
        """The ETags of the objects that stand under these keys now; none of a key without an object."""
        found = in_parallel(self.bucket.head, keys)
        return {key: each.etag for key, each in zip(keys, found, strict=True) if each is not None}

    def put_head(self, head: Head, seen: SeenHead) -> SeenHead:
        """Moves the head, if it is still the one that was seen: else PreconditionFailedError."""
        moved = head.succeeding(seen.head)
        etag = self.bucket.put(head_key(self.root), to_json(moved), if_absent=seen.etag is None, if_match=seen.etag)
        return SeenHead(moved, etag)

    def _read_back(self, segment: Segment, error: StorageError) -> tuple[SeenHead, bool]:
        """The head as it stands, and whether this segment is decided in it."""
        try:
            now = self.read_head()
            return now, now.head.pending == segment.name or self._has_published(now.head, segment)
        except StorageError as unread:
            raise UndecidedError(
                f"The decision of sync {segment.sync_id} of {self.scope} met an error ({error}) and the head cannot be "
                f"read back ({unread}). It may or may not have been taken; nothing was aborted. Undecided: run "
                "`s3dest recover`, or the next sync, once the bucket answers.",
                stream=str(self.scope.stream),
                partition=self.scope.partition,
            ) from error

    def _superseded(self, head: Head, *, kept: bool) -> SupersededError:
        """`kept`: the sync that gave up has published checkpoints, which stay."""
        latest = head.syncs[-1].id if head.syncs else "another sync"
        winner = latest if head.pending is None else sync_of(head.pending)
        if kept:
            left = "left what its checkpoints had published; run it again, and it goes on from the newest state."
        else:
            left = "left nothing behind; run it again if its records are still wanted."
        return SupersededError(
            f"Sync {winner} of {self.scope} was published while this one ran. This sync gave up and {left}",
            stream=str(self.scope.stream),
            partition=self.scope.partition,
        )

    def _complete_all(self, segment: Segment) -> tuple[list[str], list[str]]:
        """Makes the objects visible; the keys of those that are, and of those whose uploads have vanished.

        The quarantined lines come first and alone: an object may take the place of another under its key, and after
        that there is no turning back.
        """
        arrived: list[str] = []
        missing: list[str] = []
        for uploads in (segment.uploads[len(segment.objects) :], segment.objects):
            there = in_parallel(lambda each: self._complete(segment, each), uploads) if not missing else []
            for each, is_there in zip(uploads, there, strict=False):
                (arrived if is_there else missing).append(each.key)
        return arrived, missing

    def _complete(self, segment: Segment, item: ManifestObject) -> bool:
        """Makes one object visible; False when its upload has vanished and the object is not there either."""
        try:
            self.bucket.complete_upload(item.key, item.upload_id, item.parts)
        except UploadVanishedError:
            return self._arrived(segment, item)
        except StorageError:
            # Some servers (Ceph 16, moto) answer as if they failed themselves when an upload is not there any more.
            is_gone = self._is_gone(item)
            if self._arrived(segment, item):
                return True
            if not is_gone:
                raise
            return False
        return True

    def _is_gone(self, item: ManifestObject) -> bool:
        """Whether the server lists its uploads, and not this one. False where it cannot tell."""
        try:
            return all(each.upload_id != item.upload_id for each in self.bucket.list_uploads(item.key))
        except StorageError:
            return False

    def _arrived(self, segment: Segment, item: ManifestObject) -> bool:
        """Whether the object is there as this sync wrote it: its size, and its segment's name in its metadata; where
        the server does not keep that, its ETag or its content, since an older object may have the same key and size."""
        found = self.bucket.head(item.key)
        if found is None or found.size != item.bytes:
            return False
        if (told := found.metadata.get(SYNC_METADATA)) is not None or not item.crc32:
            return told in (None, segment.name)
        return found.etag == item.landed.etag or self._checksum_of(item.key) == item.crc32

    def _checksum_of(self, key: str) -> str | None:
        found = self.bucket.get(key)
        return crc32_text(crc32(found[0])) if found is not None else None

    def _vanished(
        self, decided: SeenHead, segment: Segment, arrived: Sequence[str], missing: Sequence[str]
    ) -> SeenHead:
        """Turns the decision back, or stops when another writer has moved on.

        The objects are looked at before the head is: those seen while the sync was still pending are its own.
        """
        own, purged = self.etags_of(arrived), self._was_purged(segment)
        now = self.read_head()
        if now.etag != decided.etag:
            return self._moved_on(now, segment)
        self.check_own(own)
        self.bucket.delete_unchanged(own)
        given_up = decided.head.emptied(segment) if purged else decided.head.turned_back(segment)
        self._move_head(decided, given_up, segment)
        what = f"Sync {segment.sync_id} of {self.scope}"
        why = f"the upload of {self.bucket.uri(missing[0])} vanished before it was published"
        cure = "(a lifecycle rule that aborts uploads, or a server that forgot them). Run the sync again."
        if purged:
            sentence = f"{what} is lost: {why}, after publish_order='purge_first' had deleted what it replaces {cure}"
        else:
            sentence = f"{what} was turned back, and what the scope held before is untouched: {why} {cure}"
        stream, partition = str(self.scope.stream), self.scope.partition
        raise CommitError(sentence, stream=stream, partition=partition, key=missing[0])

    def _was_purged(self, segment: Segment) -> bool:
        """Whether what the sync replaces has left already, by this publication or by one that was interrupted."""
        if not segment.removes or segment.settings.get("publish_order") != "purge_first":
            return False
        return not self.etags_of(segment.removes)

    def _move_head(self, decided: SeenHead, head: Head, segment: Segment) -> SeenHead:
        """Puts the head after a publication, or after turning back; one that stands there already is fine. What it
        forgets has a mark before."""
        for each in decided.head.forgotten_in(head):
            self._marks.put(each, lambda: self.read_head().etag == decided.etag)
        try:
            return self.put_head(head, decided)
        except StorageError:
            now = self.read_head()
            if now.etag == decided.etag:
                raise
            return now if now.head == head.succeeding(decided.head) else self._moved_on(now, segment)

    def _moved_on(self, now: SeenHead, segment: Segment) -> SeenHead:
        """The head after another writer went on, when he has published this sync; else CommitError."""
        if self._has_published(now.head, segment):
            return now
        raise CommitError(
            f"Sync {segment.sync_id} of {self.scope} was decided, and another process found an upload of it gone and "
            "turned it back. What the scope held before is untouched. Run the sync again.",
            stream=str(self.scope.stream),
            partition=self.scope.partition,
        )

    def _has_published(self, head: Head, segment: Segment) -> bool:
        """Whether this very segment is published: another attempt at its sync may have gone on after it since."""
        entry = self.entry_of(head, segment.sync_id)
        if entry is None or entry.segment == segment.name:
            return entry is not None
        return any(each.name == segment.name for each in self.segments_left_of_sync(entry.segment))


def _same_but_for_what_left(one: SeenHead, other: SeenHead) -> bool:
    """Whether two heads differ only in the replaced objects that are still kept: nobody has landed between them."""
    return replace(one.head, serial=0, retired=()) == replace(other.head, serial=0, retired=())


def _chain(newest: str, read: Callable[[str], Segment | None]) -> list[Segment]:
    """The segment of this name and those that it continues, oldest first; none where one of them is not there."""
    chain: list[Segment] = []
    name: str | None = newest
    while name is not None:
        segment = read(name)
        if segment is None:
            return []
        chain.append(segment)
        name = segment.continues
    return chain[::-1]


def _oldest_first(names: Iterable[str], found: Mapping[str, Segment]) -> Iterator[Segment]:
    """The segments of these names, each after those that it folds."""
    for name in names:
        yield from _oldest_first(found[name].compacts, found)
        yield found[name]
