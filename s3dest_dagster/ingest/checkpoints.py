"""When a long sync commits what it has read so far: which syncs do, and how often.

It must not know how anything is committed.
"""

from __future__ import annotations

from datetime import datetime

from s3dest_dagster.commit.segment_builder import replaces_scope
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.stream import Scope, Stream

_MB = 1_000_000


class Pace:
    """Says at each state whether a checkpoint is due: after `checkpoint_interval_s`, or `checkpoint_mb` of records."""

    def __init__(self, destination: S3Destination, now: datetime) -> None:
        self._interval_s = destination.checkpoint_interval_s
        self._bytes = destination.checkpoint_mb * _MB
        self._since = now

    def is_due(self, now: datetime, read_bytes: int) -> bool:
        """Whether one is due, with so many bytes of records read since the last."""
        return 0 < self._interval_s <= (now - self._since).total_seconds() or 0 < self._bytes <= read_bytes

    def restart(self, now: datetime) -> None:
        """Counts from now on, after a checkpoint."""
        self._since = now


def pace_of(destination: S3Destination, stream: Stream, scope: Scope, now: datetime) -> Pace | None:
    """The pace of a sync that begins now; None for one that commits once, at its end.

    That is every sync but the append of an unpartitioned stream: a partition keeps no state, and what replaces others
    is published as a whole. Where the template has one key for a sync there is no room for a second object.
    """
    once = scope.partition is not None or replaces_scope(destination, stream, scope)
    return None if once or not destination.template.tells_objects_apart else Pace(destination, now)
