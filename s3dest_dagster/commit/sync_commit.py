"""One sync's side of the commit: it begins once, then decides and publishes its segments one after another.

A sync without checkpoints has one segment; each checkpoint adds one. It must not know records, nor how they are staged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.documents import attempt_of
from s3dest_dagster.commit.head import Head, ReachedState
from s3dest_dagster.commit.ownership import refuse_held_keys
from s3dest_dagster.commit.registry import RegistryEntry, check_templates
from s3dest_dagster.commit.segment import Segment
from s3dest_dagster.commit.segment_builder import StagedSync, build_segment
from s3dest_dagster.commit.sweep import expire_retired, sweep
from s3dest_dagster.commit.transaction import Clock, begin, check_newest, commit
from s3dest_dagster.errors import StorageError
from s3dest_dagster.keys import scope_root
from s3dest_dagster.printable import logger
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Sync

_logger = logger("commit")


class SyncCommit:
    """Begins a sync of one scope, and publishes what it has staged.

    Creating one refuses a stream that lands under another template, reads the scope's head, finishes a sync that was
    decided but not published, and looks up what an earlier attempt at this sync has published.

    Args:
        scope: The scope to land, with its stream's name as the source gives it.
        attempt: A random text that distinguishes this attempt from earlier ones under the same sync id.
        clock: Gives the server's time.
        registry_entry: The stream's registry entry, already checked. It is read and checked here if left out.

    Raises:
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
    ) -> None:
        landed = scope.prefixed(destination.stream_prefix)
        self._bucket = bucket
        self._destination = destination
        self._scope = scope
        self.attempt = attempt
        self._clock = clock
        self._registry_entry = registry_entry or check_templates(bucket, destination, [landed.stream])[0]
        root = scope_root(destination.template.literal_root, landed)
        self.log = CommitLog(bucket, root, landed, self._registry_entry.own_prefixes)
        self._seen = begin(self.log, clock)
        entry = self.log.find_sync(self._seen.head, sync.id)
        self.recorded = entry if entry is not None and entry.complete else None
        """The entry of this sync if an earlier attempt completed it; nothing is to be landed then."""
        interrupted = entry is not None and not entry.complete
        self.segments = self.log.remaining_segments_of_sync(entry.segment) if entry and interrupted else []
        """The segments of this sync that are published, oldest first, those of earlier attempts included."""
        self.swept = 0
        """Abandoned uploads of the stream that were aborted on the way."""

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
        """The state from which the source continues; None if it begins anew."""
        return self.log.reached_state(self.head)

    def build_segment(self, staged: StagedSync) -> Segment:
        """The segment of what is staged.

        Raises:
            CommitError: A full refresh has no record, and the settings or the source's silence forbid that.
        """
        return build_segment(staged, self._destination, self.log, self.head)

    def publish(self, segment: Segment, *, on_decided: Callable[[], None]) -> None:
        """Decides the segment and makes it visible. An error before the decision leaves the bucket as it was.

        Args:
            on_decided: Called once the segment is, or may be, decided: its uploads must not be aborted any more.

        Raises:
            SupersededError: Another sync of the scope was published meanwhile.
            UndecidedError: Whether the segment is decided could not be found out.
            CommitError: The segment is decided, but publishing it was interrupted, or it was rolled back.
        """
        keys = [item.key for item in segment.objects]
        refuse_held_keys(self._bucket, self._destination.template, self.log.scope, keys)
        self.swept += self._register(self._clock(), segment)
        head = expire_retired(self.log, self._seen, self._clock())
        self._seen = commit(self.log, replace(self._seen, head=head), segment, self._clock, on_decided)
        self.segments.append(segment)

    def check_newest(self, segment: Segment) -> None:
        """Raises SupersededError if another sync was published after this checkpoint (see `check_newest`)."""
        check_newest(self.log, self._seen, segment)

    def _register(self, now: datetime, segment: Segment) -> int:
        """Enters the stream into the registry, and sweeps it if that is due. Returns how many uploads were aborted."""
        if not self._registry_entry.enter(now):
            return 0
        own, releases = segment.upload_ids, self._destination.delete_grace_s > 0
        stream = self.log.scope.stream
        try:
            return sweep(self._bucket, self._destination, stream, now=now, keep=own, release=releases).aborted
        except StorageError as error:
            _logger.warning("%s: abandoned uploads could not be swept: %s", self._scope, error)
            return 0
