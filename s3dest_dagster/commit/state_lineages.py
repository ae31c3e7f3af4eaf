"""Which segments hold states that the states of any stream descend from.

Streams of one source share its states: one of them may have to continue from a state that only another's segment still
holds. Must not know: what a state says.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from threading import Lock

from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.head import Head
from s3dest_dagster.commit.scopes import scope_at, stream_roots
from s3dest_dagster.errors import ManifestError
from s3dest_dagster.keys import encode_name
from s3dest_dagster.settings.publication import SHORTEST_SEGMENT_GRACE_S
from s3dest_dagster.storage import Bucket, each_in_parallel, in_parallel

_VALID = timedelta(seconds=SHORTEST_SEGMENT_GRACE_S)
"""How long what was read is used. A segment that has been unused for longer was unused when it was read."""


class StateLineages:
    """The ancestors of all states under one bucket path, read when they are first asked for: two requests a stream.

    Only unpartitioned scopes are read, since the source of a partition always starts from the beginning. A read that
    is under way continues from a state that a head names, or named, so that its states have no other ancestors. Safe to
    use from several threads.

    Args:
        bucket: The bucket.
        manifest_root: The prefix of the manifests under the bucket path.
    """

    def __init__(self, bucket: Bucket, manifest_root: str) -> None:
        self._bucket = bucket
        self._root = manifest_root
        self._lock = Lock()
        self._read_at: datetime | None = None
        self._keys: frozenset[str] | None = None

    def segment_keys(self, now: datetime) -> frozenset[str] | None:
        """The keys of the segments with these ancestors. None if a document cannot be read, so that they are not known.

        Args:
            now: The server's time.
        """
        with self._lock:
            if self._read_at is None or now - self._read_at >= _VALID:
                self._keys, self._read_at = self._read(), now
            return self._keys

    def _read(self) -> frozenset[str] | None:
        try:
            lineages = each_in_parallel(self._ancestors, stream_roots(self._bucket, self._root))
            return frozenset().union(*lineages)
        except ManifestError:
            return None

    def _ancestors(self, root: str) -> frozenset[str]:
        found = scope_at(self._bucket, f"{root}{encode_name(None)}/")
        if found is None:
            return frozenset()
        names = set(_segments_with_states(found.commit_log, found.seen.head))
        states = (each.state for each in in_parallel(found.commit_log.read_segment, names))
        return frozenset(each.segment_key for state in states if state is not None for each in state.ancestors)


def _segments_with_states(commit_log: CommitLog, head: Head) -> Iterator[str]:
    """The names of the segments whose states the scope has, gets, or gets back if its retirement is undone."""
    named = [head.state_segment, head.pending_segment]
    for retired in commit_log.retired_segments(head.retired):
        before = retired.replaced.head if retired.replaced is not None else None
        named.append(before.state_segment if before is not None else None)
    return filter(None, named)
