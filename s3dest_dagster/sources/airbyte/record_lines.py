"""`RecordLines`: lines of record messages that are decoded by another process than the one that reads them.

Decoding is more than half of what landing JSON Lines costs, so that one process that decodes everything keeps others
waiting. The first bytes of a line show that it is a record, since a source writes them alike on every line. Must not
know: processes, what becomes of the items.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from s3dest_dagster.batch import SourceItem, UndecodedItems
from s3dest_dagster.sources.airbyte.messages import MessageReader
from s3dest_dagster.sources.airbyte.source_report import SourceReport, log_to_logging
from s3dest_dagster.stream import StreamId

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BEGINNING = re.compile(
    rb'^[ \t]*\{[ \t]*"type"[ \t]*:[ \t]*"RECORD"[ \t]*,[ \t]*"record"[ \t]*:[ \t]*\{', re.MULTILINE
)
_MAX_CUTS = 32
"""In a block with more, other messages lie between few records, and dividing it costs more than decoding it."""


@dataclass(frozen=True, slots=True)
class RecordLines(UndecodedItems):
    """Whole lines, each of which begins as a record message does."""

    text: bytes
    streams: frozenset[StreamId]
    """The streams of the catalog."""
    lines_before: int

    def items(self) -> Iterator[SourceItem]:
        """Decodes the lines, and raises as `read_messages` does."""
        reader = MessageReader(self.streams, SourceReport(log_to_logging, self.streams), lines_before=self.lines_before)
        yield from reader.read(self.text)
        yield from reader.flush()
        yield from reader.bad_records()

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Callable[..., RecordLines], tuple[Any, ...]]:
        # From protocol 5 on, the text need not be copied into the pickle (PEP 574).
        text = PickleBuffer(self.text) if protocol.__index__() >= 5 else self.text
        return RecordLines, (text, self.streams, self.lines_before)


class LineDivider:
    """Divides blocks of messages into lines of records, and what the reader makes of all other lines."""

    def __init__(self, streams: Collection[StreamId], reader: MessageReader) -> None:
        self._streams = frozenset(streams)
        self._reader = reader
        self._beginning: NDArray[np.uint8] | None = None

    def read(self, block: bytes) -> Iterator[SourceItem | RecordLines]:
        """Yields the block's items and lines, in their order."""
        for start, end, are_records in self._ranges(block):
            lines = block[start:end]
            if are_records:
                yield RecordLines(lines, self._streams, self._reader.pass_records(lines))
            else:
                yield from self._reader.read(lines)

    def _ranges(self, block: bytes) -> list[tuple[int, int, bool]]:
        """The first and last position of lines that are records, and of those that are not, in turns."""
        if self._beginning is None:
            if (found := _BEGINNING.search(block)) is None:
                return [(0, len(block), False)]
            self._beginning = np.frombuffer(found[0], np.uint8)
        characters = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(characters == ord("\n")) + 1
        starts = np.concatenate(([0], ends))
        # Where the last line has no end, it is incomplete, which the reader says.
        starts = starts[:-1]
        are_records = _begin_with(characters, starts, self._beginning)
        cuts = np.flatnonzero(are_records[1:] != are_records[:-1]) + 1
        if len(starts) == 0 or len(cuts) > _MAX_CUTS:
            return [(0, len(block), False)]
        firsts = [0, *cuts.tolist()]
        bounds = [*(int(starts[each]) for each in firsts), int(ends[-1])]
        ranges = [(bounds[n], bounds[n + 1], bool(are_records[first])) for n, first in enumerate(firsts)]
        return ranges if bounds[-1] == len(block) else [*ranges, (bounds[-1], len(block), False)]


def _begin_with(
    characters: NDArray[np.uint8], starts: NDArray[np.int64], beginning: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Whether each line begins with these characters."""
    fits = starts + len(beginning) <= len(characters)
    found = np.zeros(len(starts), np.bool_)
    if len(characters) >= len(beginning):
        windows = np.lib.stride_tricks.sliding_window_view(characters, len(beginning))
        found[fits] = (windows[starts[fits]] == beginning).all(axis=1)
    return found
