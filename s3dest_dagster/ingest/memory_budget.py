"""The memory that the open objects of a target share. When it is used up, the largest object is cut short.

It counts the bytes that it is given; it must not know what they are for.
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
    """Something that holds bytes back until they are worth writing."""

    def spill(self) -> int:
        """Writes early what it can. Returns the bytes that it still holds: fewer each time, and finally 0."""


class MemoryBudget:
    """`limit` bytes for all holders together. To be used by one thread.

    Which holder spills depends only on how much each holds, not on time or threads, so that equal batches make equal
    objects. The first time is logged as a warning.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reserved: dict[object, int] = {}
        self._held: dict[Holder, int] = {}
        self._total = 0
        self._warned = False

    def hold(self, holder: Holder, nbytes: int) -> None:
        """Notes what a holder holds now. While all holders together exceed the limit, the largest spills."""
        self._note(holder, nbytes)
        while self._total > self._limit and self._held:
            self._warn_once()
            largest = max(self._held, key=self._held.__getitem__)
            self._note(largest, largest.spill())

    def reserve(self, owner: object, nbytes: int) -> None:
        """Subtracts bytes from the limit for an owner that cannot spill; 0 gives them back."""
        self._limit -= nbytes - self._reserved.pop(owner, 0)
        if nbytes:
            self._reserved[owner] = nbytes

    def _note(self, holder: Holder, nbytes: int) -> None:
        self._total += nbytes - self._held.pop(holder, 0)
        if nbytes:
            self._held[holder] = nbytes

    def _warn_once(self) -> None:
        if self._warned:
            return
        self._warned = True
        _logger.warning(
            "memory_mb is used up by %d open objects: from now on row groups and objects are ended early, the largest "
            "first, and their manifests say so. Raise memory_mb, or land fewer streams at a time.",
            len(self._held),
        )
