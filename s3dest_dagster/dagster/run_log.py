"""What the run's log tells of a landing: where it stands every few seconds, and one sentence at its end.

It must not know what is put on the materialization.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from s3dest_dagster.ingest.memory_budget import resident_bytes
from s3dest_dagster.ingest.receipt import Progress, Receipt
from s3dest_dagster.printable import amount, printable, size
from s3dest_dagster.storage import WITHOUT_CONDITIONS, Bucket
from s3dest_dagster.stream import StreamId

_EVERY_S = 5.0
_warned: set[tuple[str, str]] = set()
"""Servers and buckets that a warning was given for."""


class ProgressLines:
    """A line every five seconds at most, over all streams that are landed side by side: a line in the run's log costs
    as much as many records. The rates are those since the line before."""

    def __init__(
        self,
        title: str,
        say: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        memory: Callable[[], int | None] = resident_bytes,
    ) -> None:
        self._title = title
        self._say = say
        self._clock = clock
        self._memory = memory
        self._progress: dict[StreamId, Progress] = {}
        self._last = (clock(), 0, 0)

    def take(self, stream: StreamId, progress: Progress) -> None:
        """Notes where one stream stands; says where all of them do, when it is time."""
        self._progress[stream] = progress
        now = self._clock()
        if now - self._last[0] >= _EVERY_S:
            self._say(self._line(now))

    def _line(self, now: float) -> str:
        all_of_them = self._progress.values()
        rows, objects, total = (
            sum(getattr(each, name) for each in all_of_them) for name in ("rows", "objects", "bytes")
        )
        (then, rows_then, total_then), self._last = self._last, (now, rows, total)
        seconds = now - then
        parts = [
            amount(rows, "record"),
            amount(objects, "object"),
            size(total),
            f"{(rows - rows_then) / seconds:,.0f} records/s",
            f"{(total - total_then) / 1e6 / seconds:,.1f} MB/s",
        ]
        if (memory := self._memory()) is not None:
            parts.append(f"memory {memory / 1e6:,.0f} MB")
        return printable(f"{self._title}: {', '.join(parts)}")


def checkpoint_sentence(receipt: Receipt) -> str:
    """What a checkpoint has published, for the run's log."""
    return printable(
        f"{receipt.scope}: checkpoint, {amount(receipt.rows, 'row')} in {amount(len(receipt.objects), 'object')} "
        "published with the state that they reach; a retry, or the next run, goes on from there."
    )


def landed_sentence(receipt: Receipt, seconds: float) -> str:
    """What a landing was, for the run's log."""
    if receipt.repeated:
        return printable(
            f"{receipt.scope}: landed already by this run before it was retried; nothing was landed again."
        )
    removed = f", {amount(len(receipt.removed), 'object')} replaced" if receipt.removed else ""
    quarantined = f", {amount(receipt.counts.quarantined, 'line')} kept aside" if receipt.counts.quarantined else ""
    earlier = f", {receipt.earlier.landed:,} of them by earlier attempts" if receipt.earlier is not None else ""
    short = (
        f", {amount(receipt.ended_early, 'row group or object', 'row groups and objects')} ended early for memory"
        if receipt.ended_early
        else ""
    )
    beside = f"{earlier}{removed}{quarantined}{short}"
    return printable(
        f"{receipt.scope}: {amount(receipt.rows, 'row')} in {amount(len(receipt.objects), 'object')}, "
        f"{size(receipt.bytes)}, landed in {seconds:,.1f} s{beside}. {receipt.manifest}"
    )


def warn_of_second_writers(log: logging.Logger, receipt: Receipt, bucket: Bucket) -> None:
    """Says once in a process and bucket that its server cannot tell two writers of one scope apart."""
    place = (bucket.endpoint, bucket.name)
    # A sync that was repeated has put nothing, so that the server is not known.
    if receipt.repeated or place in _warned or bucket.abilities.detects_concurrent_writers:
        return
    _warned.add(place)
    log.warning(f"{bucket.endpoint}: {WITHOUT_CONDITIONS}")
