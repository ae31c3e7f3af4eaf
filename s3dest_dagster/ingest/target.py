"""A destination that is open for landing: its bucket, the threads and memory that landings share, clock and entropy.

One target serves any number of landings, side by side or one after another. `MemoryBudget` counts the bytes that their
open objects hold. When it is used up, the largest object spills. Must not know: streams.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

from s3dest_dagster.commit.object_lists import OBJECTS_OF_A_LIST
from s3dest_dagster.commit.publication import Clock
from s3dest_dagster.commit.state_lineages import StateLineages
from s3dest_dagster.formats import format_of
from s3dest_dagster.ingest.encode_queue import EncodeQueue
from s3dest_dagster.printable import logger
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket, PartPool

_logger = logger("ingest")
_MOST_OUT_OF_DATE = 3
_STATM = Path("/proc/self/statm")


def resident_bytes() -> int | None:
    """The memory that this process uses now, in bytes. None if the system does not report it."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


class Holder(Protocol):
    """An object that buffers bytes until they are worth writing."""

    def spill(self) -> int:
        """Writes early as much as it can. Returns the bytes that it still holds: fewer each time, and finally 0."""


class MemoryBudget:
    """Limits the bytes of all holders together to `limit`. Use it from one thread only.

    Which holder spills depends only on how much each holds, not on time or threads, so equal batches produce equal
    objects. The first spill is logged as a warning.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reserved: dict[object, int] = {}
        self._held: dict[Holder, int] = {}
        self._total = 0
        self._largest: list[tuple[int, int, Holder]] | None = None
        self._order = count()

    def hold(self, holder: Holder, nbytes: int) -> None:
        """Notes how much a holder holds now. While all holders together exceed the limit, the largest one spills."""
        self._note(holder, nbytes)
        while self._total > self._limit and self._held:
            largest = self._next_largest()
            self._note(largest, largest.spill())

    def reserve(self, owner: object, nbytes: int) -> None:
        """Subtracts bytes from the limit for an owner that cannot spill. 0 returns them."""
        self._limit -= nbytes - self._reserved.pop(owner, 0)
        if nbytes:
            self._reserved[owner] = nbytes

    def _note(self, holder: Holder, nbytes: int) -> None:
        self._total += nbytes - self._held.pop(holder, 0)
        if nbytes:
            self._held[holder] = nbytes
            if self._largest is not None:
                heapq.heappush(self._largest, (-nbytes, next(self._order), holder))

    def _next_largest(self) -> Holder:
        """The holder that holds the most. Of several, the one that was noted first.

        Tens of thousands of directories hold records, and most spills are of one of them: to compare all of them each
        time would cost more than to write the objects. The heap also has amounts that are out of date.
        """
        if self._largest is None:
            self._warn()
        if self._largest is None or len(self._largest) > _MOST_OUT_OF_DATE * len(self._held):
            self._largest = [(-nbytes, next(self._order), holder) for holder, nbytes in self._held.items()]
            heapq.heapify(self._largest)
        while True:
            nbytes, _, holder = heapq.heappop(self._largest)
            if self._held.get(holder) == -nbytes:
                return holder

    def _warn(self) -> None:
        _logger.warning(
            "memory_mb is used up by the records of %d objects: from now on row groups and objects are ended early, "
            "the largest first, and their manifests say so. Raise memory_mb, or land fewer streams at a time.",
            len(self._held),
        )


Entropy = Callable[[int], bytes]
"""Returns that many random bytes."""


@dataclass(frozen=True, slots=True)
class Target:
    """The target of landings. They share its threads and its memory, and must all run on one thread."""

    destination: S3Destination
    bucket: Bucket
    parts: PartPool
    """The threads that upload."""
    encoding: EncodeQueue
    """The threads that encode and compress."""
    memory: MemoryBudget
    """The memory that the open objects may use together."""
    clock: Clock
    """This machine's clock. It dates the objects that a landing writes."""
    entropy: Entropy
    server_clock: Clock
    """The clock for questions on which machines must agree: how old something is, and when it may be deleted."""
    lineages: StateLineages
    """The states of all streams, which sweeps of the landings need. They are read at most once an hour."""
    objects_of_a_list: int = OBJECTS_OF_A_LIST
    """The objects of a sync that its manifest itself holds. If there are more, they are put into lists of this size."""


@contextmanager
def open_target(
    destination: S3Destination,
    bucket: Bucket,
    *,
    clock: Clock,
    entropy: Entropy,
    server_clock: Clock | None = None,
    objects_of_a_list: int = OBJECTS_OF_A_LIST,
) -> Iterator[Target]:
    """Opens the destination. Leaving the context ends its threads. Commit or abort all landings before that.

    Args:
        destination: The settings.
        bucket: The bucket that they name.
        clock: Returns the current time with a time zone.
        entropy: Returns random bytes, such as `os.urandom`.
        server_clock: Returns the server's time. Default: the `Date` of the server's answers.
        objects_of_a_list: The objects of a sync that its manifest itself holds. If there are more, they are put into
            lists of this size.

    Raises:
        MissingExtraError: The format needs an optional package that is not installed.

    Example:
        with open_target(destination, bucket, clock=lambda: datetime.now(UTC), entropy=os.urandom) as target:
            receipt = land(batches(records, emitted_at=lambda: 0), target, stream, sync)
    """
    format_of(destination.format).check_installed()
    bucket = bucket.for_destination(destination)
    memory = MemoryBudget(destination.open_bytes)
    with (
        PartPool(destination.upload_threads, abort_grace_s=destination.abort_grace_s) as parts,
        _encode_threads(destination.encode_workers) as threads,
    ):
        encoding = EncodeQueue(threads, workers=destination.encode_workers)
        server_clock = server_clock or bucket.server_time
        lineages = StateLineages(bucket, destination.template.manifest_root)
        yield Target(
            destination,
            bucket,
            parts,
            encoding,
            memory,
            clock,
            entropy,
            server_clock,
            lineages,
            objects_of_a_list,
        )


@contextmanager
def _encode_threads(workers: int) -> Iterator[Executor | None]:
    """The workers besides the calling thread. None if the calling thread is the only one."""
    if workers == 1:
        yield None
        return
    with ThreadPoolExecutor(workers - 1, thread_name_prefix="s3dest-encode") as threads:
        yield threads
