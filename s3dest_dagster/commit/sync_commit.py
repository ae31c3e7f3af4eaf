"""The commit: makes a staged sync visible as a whole or not at all.

`SyncCommit.publish` runs the steps in order. Only one conditional put of the head decides a sync. Before it, nothing of
the sync is visible. After it, any writer can finish the sync (see `publication`).
Must not know: records, nor how they are staged.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from s3dest_dagster.commit.collection import collect_segments, may_collect
from s3dest_dagster.commit.commit_log import CommitLog, SeenHead
from s3dest_dagster.commit.documents import attempt_of, sync_of
from s3dest_dagster.commit.generations import with_certain_generation
from s3dest_dagster.commit.head import Head, ReachedState
from s3dest_dagster.commit.key_owners import refuse_held_keys
from s3dest_dagster.commit.landed_columns import LandedColumns
from s3dest_dagster.commit.maintenance import expire_retired, sweep
from s3dest_dagster.commit.object_lists import OBJECTS_OF_A_LIST
from s3dest_dagster.commit.publication import Clock, begin, has_published, publish, revoke
from s3dest_dagster.commit.registry import RegistryEntry, check_entries
from s3dest_dagster.commit.scopes import scopes_beside
from s3dest_dagster.commit.segment import Segment
from s3dest_dagster.commit.segment_builder import StagedSync, build_segment
from s3dest_dagster.commit.state_lineages import StateLineages
from s3dest_dagster.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    CommitError,
    CredentialsError,
    OwnershipError,
    SettingsError,
    StorageError,
    SupersededError,
    TemplateError,
    UndecidedError,
)
from s3dest_dagster.keys import KeyTemplate, stream_root
from s3dest_dagster.printable import logger
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, Sync

_logger = logger("commit")
_DECISION_ATTEMPTS = 3
_REFUSALS = (AccessDeniedError, BucketNotFoundError, CredentialsError)
"""Errors that a retry would raise again."""
_OBJECTIONS = (OwnershipError, SettingsError, SupersededError, TemplateError)
"""Errors of a stream whose registry no longer admits a sync."""


class SyncCommit:
    """Begins a sync of one scope, and publishes its staged objects.

    The constructor refuses a stream that has another owner or lands under another template, reads the scope's head,
    finishes a sync that was decided but not published, and looks up what an earlier attempt at this sync has published.

    Args:
        bucket: The bucket.
        destination: The settings that the stream lands with.
        scope: The scope to land, with its stream's name as in the source.
        sync: The sync.
        attempt: Random text that distinguishes this attempt from earlier attempts with the same sync id.
        clock: Returns the server's time.
        registry_entry: The stream's registry entry, already checked. Default: it is read and checked here.
        owner: Who lands the stream, if there is no registry entry yet. None if nobody is named.
        template: The rule for the stream's keys. Default: the destination's.
        lineages: The states of all streams, if several streams land. Default: they are read if they are needed.
        objects_of_a_list: See `ObjectLists`.

    Raises:
        OwnershipError: The stream has another owner.
        TemplateError: The stream lands under another template.
    """

    def __init__(
        self,
        bucket: Bucket,
        destination: S3Destination,
        scope: Scope,
        sync: Sync,
        *,
        attempt: str,
        clock: Clock,
        registry_entry: RegistryEntry | None = None,
        owner: str | None = None,
        template: KeyTemplate | None = None,
        lineages: StateLineages | None = None,
        objects_of_a_list: int = OBJECTS_OF_A_LIST,
    ) -> None:
        landed = scope.prefixed(destination.stream_prefix)
        self.template = template or destination.template
        """The rule for the stream's keys."""
        self._bucket = bucket
        self._destination = destination
        self._lineages = lineages or StateLineages(bucket, destination.template.manifest_root)
        self._scope = scope
        self.attempt = attempt
        self.clock = clock
        """Returns the server's time."""
        self.registry_entry = (
            registry_entry or check_entries(bucket, destination, [landed.stream], [owner], [self.template])[0]
        )
        self.commit_log = CommitLog.of(
            bucket, self.template, landed, self.registry_entry.own_prefixes, objects_of_a_list
        )
        has_head = not self.registry_entry.has_no_scope
        self._seen = begin(self.commit_log, clock) if has_head else self.commit_log.no_head
        entry = self.commit_log.find_sync(self._seen.head, sync.id)
        self.recorded = entry if entry is not None and entry.complete else None
        """The entry of this sync if an earlier attempt completed it. There is then nothing to land."""
        interrupted = entry is not None and not entry.complete
        self.segments = self.commit_log.remaining_segments_of_sync(entry.segment) if entry and interrupted else []
        """The published segments of this sync, including those of earlier attempts, oldest first."""
        self.left_beside: tuple[Scope, ...] = ()
        """The scopes that stay visible next to this one although they do not belong with it (see `scopes_beside`). They
        are looked for once: when a scope of a known stream is published for the first time."""
        self.is_sweep_due = False
        """Whether the stream was last swept a day ago, so that this sync sweeps it."""
        self.swept = 0
        """The number of abandoned uploads of the stream that were aborted during the sync."""

    def use_hash_key(self, key_id: str) -> None:
        """See `RegistryEntry.use_hash_key`."""
        self.registry_entry.use_hash_key(key_id)

    @property
    def head(self) -> Head:
        """The scope's head as this sync last read or wrote it."""
        return self._seen.head

    @property
    def resumed(self) -> bool:
        """Whether an earlier attempt at this sync has published checkpoints, after which this one continues."""
        return any(attempt_of(segment.name) != self.attempt for segment in self.segments)

    @property
    def last_state(self) -> ReachedState | None:
        """The state from which the source continues. None if it starts from the beginning."""
        return self.commit_log.reached_state(self.head)

    def with_generation(self, stream: Stream) -> Stream:
        """The stream with its generation, if that is certain (see `with_certain_generation`)."""
        return with_certain_generation(stream, partial(self.commit_log.newest_segment, self.head))

    def build_segment(self, staged: StagedSync) -> Segment:
        """Builds the segment of a staged sync.

        Raises:
            CommitError: A full refresh has no records, and the settings forbid that or the source did not mention the
                stream.
        """
        segment = build_segment(staged, self._destination, self.template, self.commit_log, self.head)
        return replace(segment, owner=self.registry_entry.owner)

    def publish(self, segment: Segment, *, on_decided: Callable[[], None]) -> None:
        """Decides the segment and makes it visible. An error before the decision leaves the bucket unchanged.

        Args:
            segment: The segment of the staged sync.
            on_decided: Called once the segment is, or may be, decided. From then on its uploads must not be aborted.

        Raises:
            SupersededError: Another sync of the scope was published in the meantime, or another sync of the stream has
                changed the type of a column.
            UndecidedError: It could not be determined whether the segment is decided.
            CommitError: The segment is decided, but publishing it was interrupted, or it was rolled back.
        """
        # Must hold before anything is visible: no other stream holds the keys, the registry knows owner and template.
        entry, lists = self.registry_entry, self.commit_log.lists
        begins = self._seen.etag is None and not entry.is_new
        scope = self.commit_log.scope
        if begins:
            root = stream_root(self.template.literal_root, scope.stream)
            self.left_beside = tuple(scopes_beside(self.commit_log.bucket, root, scope))
        keys = (item.key for item in lists.objects(segment))
        refuse_held_keys(self._bucket, self.template, scope, keys, entry.given_to)
        self.swept += self._enter_registry(self.clock(), segment)
        landed = LandedColumns.of(scope, segment)
        self.registry_entry.check_retyped(landed, replaces=segment.replaces)
        # The head that decides the segment no longer lists the retired objects that are deleted here.
        head = expire_retired(self.commit_log, self._seen, self.clock())
        # Puts the segment, decides it, completes its uploads, deletes what it replaces, and moves the head.
        # A transfer to another name takes the scopes that exist. A scope that begins asks once it exists.
        confirm = entry.check if begins else None
        segment = lists.put(segment)
        self._seen = commit(self.commit_log, replace(self._seen, head=head), segment, self.clock, on_decided, confirm)
        self.segments.append(segment)
        if self.is_sweep_due:
            self._collect_segments()

    def _collect_segments(self) -> None:
        """Deletes segments of the scope that nothing names any more. The sync is published, whatever happens here."""
        try:
            root = stream_root(self.template.literal_root, self.commit_log.scope.stream)
            if may_collect(self.commit_log.bucket, root):
                grace = timedelta(seconds=self._destination.segment_grace_s)
                collect_segments(self.commit_log, self._seen, self.clock(), grace, self._lineages)
        except (CommitError, StorageError) as error:
            _logger.warning("%s: unused segments could not be deleted: %s", self._scope, error)

    def check_newest(self, segment: Segment) -> None:
        """Checks that the sync may continue after its checkpoint.

        Raises:
            SupersededError: Another writer has published since, and may have read what this sync would read next.
        """
        if not self.head.ends_with(segment):
            raise superseded(self.commit_log, self.head, has_checkpoints=True)

    def _enter_registry(self, now: datetime, segment: Segment) -> int:
        """Enters the stream into the registry, and sweeps it if that is due. Returns the number of aborted uploads."""
        if not self.registry_entry.enter(now):
            return 0
        self.is_sweep_due = True
        own = self.commit_log.lists.upload_ids(segment)
        expires = self._destination.delete_grace_s > 0 or self._destination.expire_partitions_after > 0
        stream = self.commit_log.scope.stream
        try:
            swept = sweep(
                self._bucket, self._destination, stream, now=now, keep=own, expire=expires, lineages=self._lineages
            )
            for problem in swept.problems[:1]:
                _logger.warning("%s: replaced objects could not be deleted: %s", self._scope, problem)
            return swept.aborted
        except StorageError as error:
            _logger.warning("%s: abandoned uploads could not be swept: %s", self._scope, error)
            return 0


def commit(
    commit_log: CommitLog,
    seen: SeenHead,
    segment: Segment,
    clock: Clock,
    on_decided: Callable[[], None] = lambda: None,
    confirm: Callable[[], None] | None = None,
) -> SeenHead:
    """Decides and publishes a staged sync. Returns the head after it.

    Args:
        commit_log: The scope's commit log.
        seen: The head with which the sync began, or the head that its last checkpoint put.
        segment: The sync's segment.
        clock: Returns the time at which `delete_grace_s` starts.
        on_decided: Called once the sync is, or may be, decided. From then on its uploads must not be aborted.
        confirm: Called after the decision. If it raises one of `_OBJECTIONS`, the decision is revoked and the error is
            raised, unless another writer has published the sync by then.

    Raises:
        SupersededError: Another sync was decided first. Nothing remains of this one.
        UndecidedError: The server's answer was lost, and the head cannot be read back.
        StorageError: S3 refused the decision. Nothing is decided.
        CommitError: The sync is decided and publishing it was interrupted, or it was rolled back.
    """
    try:
        commit_log.put_segment(segment)
        decided = decide(commit_log, seen, segment)
    except SupersededError:
        with suppress(StorageError):
            commit_log.delete_segment(segment)
        raise
    except BaseException as error:
        if not isinstance(error, StorageError):
            on_decided()  # undecided or interrupted: the decision may have been made
        raise
    on_decided()
    try:
        if confirm is not None and (now := _confirmed(commit_log, decided, segment, confirm)) is not None:
            return now
        return publish(commit_log, decided, segment, clock)
    except StorageError as error:
        raise CommitError(
            f"Sync {segment.sync_id} of {commit_log.scope} is decided, but publishing it was interrupted: {error} "
            "Nothing is lost: the next sync, or `s3dest recover`, finishes it.",
            key=error.key,
            action=error.action,
            **commit_log.error_location,
        ) from error


def _confirmed(
    commit_log: CommitLog, decided: SeenHead, segment: Segment, confirm: Callable[[], None]
) -> SeenHead | None:
    """Calls `confirm`, and revokes the decision if there is an objection.

    Returns the head if another writer has published the sync in spite of the objection, otherwise None.
    """
    try:
        confirm()
    except _OBJECTIONS:
        now = revoke(commit_log, decided, segment)
        if now is None:
            raise
        return now
    return None


def decide(commit_log: CommitLog, seen: SeenHead, segment: Segment) -> SeenHead:
    """Makes a segment the head's pending segment. This is the only point of decision.

    Raises:
        SupersededError: Another sync was decided first.
        UndecidedError: The server's answer was lost, and the head cannot be read back.
        StorageError: S3 refused. Nothing is decided.
    """
    for attempt in range(1, _DECISION_ATTEMPTS + 1):
        try:
            return commit_log.put_head(seen.head.decided(segment), seen)
        except StorageError as error:
            # Even a refusal is not conclusive: an earlier try of the same request may have reached the server.
            now, is_decided = _read_back(commit_log, segment, error)
            if is_decided:
                return now
            if now.etag != seen.etag and not _differ_by_retired_alone(now.head, seen.head):
                raise superseded(
                    commit_log, now.head, has_checkpoints=segment.sync.previous_checkpoint is not None
                ) from error
            if attempt == _DECISION_ATTEMPTS or isinstance(error, _REFUSALS):
                raise
            seen = now
    raise AssertionError("unreachable")


def _read_back(commit_log: CommitLog, segment: Segment, error: StorageError) -> tuple[SeenHead, bool]:
    """Reads the current head. Returns it, and whether this segment is decided in it."""
    try:
        now = commit_log.read_head()
        return now, now.head.pending_segment == segment.name or has_published(commit_log, now.head, segment)
    except StorageError as unread:
        raise UndecidedError(
            f"The decision of sync {segment.sync_id} of {commit_log.scope} met an error ({error}) and the head cannot "
            f"be read back ({unread}). It may or may not have been taken; nothing was aborted. Undecided: run "
            "`s3dest recover`, or the next sync, once the bucket answers.",
            **commit_log.error_location,
        ) from error


def _differ_by_retired_alone(one: Head, other: Head) -> bool:
    """Whether two heads differ only in their retired objects, that is, nobody has landed in between."""
    return one.without_retired() == other.without_retired()


def superseded(commit_log: CommitLog, head: Head, *, has_checkpoints: bool = False) -> SupersededError:
    """The error of a sync that another one has overtaken."""
    latest = head.recent_syncs[-1].id if head.recent_syncs else "another sync"
    winner = latest if head.pending_segment is None else sync_of(head.pending_segment)
    if has_checkpoints:
        left = "left what its checkpoints had published; run it again, and it goes on from the newest state."
    else:
        left = "left nothing behind; run it again if its records are still wanted."
    return SupersededError(
        f"Sync {winner} of {commit_log.scope} was published while this one ran. This sync gave up and {left}",
        **commit_log.error_location,
    )
