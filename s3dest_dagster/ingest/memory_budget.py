"""The memory that the open objects of a target share: counted as they grow, the largest cut short when it is used up.

It counts what it is told; it must not know what the bytes are for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from s3dest_dagster.printable import logger

_logger = logger("ingest")
_STATM = Path("/proc/self/statm")


def resident_bytes() -> int | None:
    """Memory that this process occupies now, in bytes; None if the system does not report it."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


class Holder(Protocol):
    """What holds bytes back until they are worth writing."""

    def let_go(self) -> int:
        """Writes what it can before its time, and returns the bytes that it still holds: fewer, and at last none."""


class MemoryBudget:
    """`limit` bytes for all holders together. For one thread.

    Which holder lets go depends on what they hold alone, not on time or threads, so that equal batches make equal
    objects. The first time is said in the log.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reserved: dict[object, int] = {}
        self._held: dict[Holder, int] = {}
        self._total = 0
        self._told = False

    def hold(self, holder: Holder, nbytes: int) -> None:
        """Takes note of what a holder holds now; while all of them hold too much, the largest lets go."""
        self._note(holder, nbytes)
        while self._total > self._limit and self._held:
            self._tell_once()
            largest = max(self._held, key=self._held.__getitem__)
            self._note(largest, largest.let_go())

    def reserve(self, owner: object, nbytes: int) -> None:
        """Takes bytes away from the holders for something that cannot let go; 0 gives them back."""
        self._limit -= nbytes - self._reserved.pop(owner, 0)
        if nbytes:
            self._reserved[owner] = nbytes

    def _note(self, holder: Holder, nbytes: int) -> None:
        self._total += nbytes - self._held.pop(holder, 0)
        if nbytes:
            self._held[holder] = nbytes

    def _tell_once(self) -> None:
        if self._told:
            return
        self._told = True
        _logger.warning(
            "memory_mb is used up by %d open objects: from now on row groups and objects are ended early, the largest "
            "first, and say so in their manifests. Raise memory_mb, or land fewer streams at a time.",
            len(self._held),
        )
