"""Parquet columns without values: their levels, and the pages that hold nothing else.

Parquet has two numbers for each entry of a column. The definition level says how many optional and repeated fields
from the root down to the value are there. The repetition level says which list the entry continues; 0 begins a record.
A column without values has the levels of the field above it, so all such columns below one field have equal levels.

Levels and their encoding: https://parquet.apache.org/docs/file-format/data-pages/encodings/
Must not know: files, the types of values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from s3dest_dagster.formats.thrift import I32, STRUCT, thrift_bytes, varint

_DATA_PAGE = 0
_PLAIN, _RLE = 0, 3
_PACKED_GROUP = 8
"""Bit-packed levels come in groups of so many."""
_BYTES_PER_RUN = 4
"""The most bytes of a run of equal levels of usual length."""


@dataclass(frozen=True)
class Levels:
    """The levels of entries that reach a field, before it is known whether the field has a value there."""

    repetition: NDArray[np.uint8]
    definition: NDArray[np.uint8]
    slots: NDArray[np.int64]
    """The position of each entry in the field's array; -1 for entries that ended above it."""

    @classmethod
    def of_rows(cls, count: int) -> Levels:
        """The levels of a field of the root."""
        return cls(np.zeros(count, np.uint8), np.zeros(count, np.uint8), np.arange(count))

    def in_struct(self, valid: NDArray[np.bool_]) -> Levels:
        """The levels of the members of a struct. `valid` says which values of the struct's array are not null."""
        present = self._present(valid)
        return Levels(self.repetition, self.definition + present, np.where(present, self.slots, -1))

    def in_list(self, valid: NDArray[np.bool_], lengths: NDArray[np.int64], depth: int) -> Levels:
        """The levels of the items of a list. Nulls have the length 0, and `depth` is the number of lists, with it."""
        present = self._present(valid)
        counts = np.zeros(len(self.slots), np.int64)
        counts[present] = lengths[self.slots[present]]
        is_filled = counts > 0
        times = np.maximum(counts, 1)  # an empty list has an entry, too
        first = np.cumsum(times) - times
        repetition = np.full(int(times.sum()), depth, np.uint8)
        repetition[first] = self.repetition
        slots = np.full(len(repetition), -1)
        is_item = np.repeat(is_filled, times)
        slots[is_item] = np.arange(np.count_nonzero(is_item))
        return Levels(repetition, np.repeat(self.definition + present + is_filled, times), slots)

    def _present(self, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        present = self.slots >= 0
        present[present] = valid[self.slots[present]]
        return present


class EmptyPages(NamedTuple):
    """The data pages of a column without values."""

    content: bytes
    """The pages with their headers."""
    uncompressed: int
    """Their size if their bodies were not compressed."""
    pages: int
    """Their number."""
    entries: int
    """The number of entries, all of which are null."""


def empty_pages(
    levels: Levels, widths: tuple[int, int], compress: Callable[[bytes], bytes], page_bytes: int
) -> EmptyPages:
    """The pages of a column without values.

    Args:
        levels: The levels of its entries.
        widths: The bits of a repetition level and of a definition level.
        compress: Compresses the body of a page.
        page_bytes: The size at which a page ends. It ends between two records.
    """
    content, uncompressed, count = bytearray(), 0, 0
    for start, end in _spans(levels.repetition, page_bytes * 8 // sum(widths)):
        body = _sized(levels.repetition[start:end], widths[0]) + _sized(levels.definition[start:end], widths[1])
        packed = compress(body)
        header = _page_header(len(body), len(packed), end - start)
        content += header + packed
        uncompressed += len(header) + len(body)
        count += 1
    return EmptyPages(bytes(content), uncompressed, count, len(levels.definition))


def _spans(repetition: NDArray[np.uint8], most: int) -> Iterator[tuple[int, int]]:
    """Yields spans of whole records, each of about this many entries."""
    records = np.flatnonzero(repetition == 0)
    starts = np.unique(records[np.searchsorted(records, np.arange(0, records[-1] + 1, max(most, 1)))]).tolist()
    return zip(starts, [*starts[1:], len(repetition)], strict=True)


def _page_header(uncompressed: int, compressed: int, entries: int) -> bytes:
    data = [[1, I32, entries], [2, I32, _PLAIN], [3, I32, _RLE], [4, I32, _RLE]]
    return thrift_bytes([[1, I32, _DATA_PAGE], [2, I32, uncompressed], [3, I32, compressed], [5, STRUCT, data]])


def _sized(levels: NDArray[np.uint8], width: int) -> bytes:
    """Levels with their size in front. A column that has only the level 0 stores none."""
    if not width:
        return b""
    encoded = encoded_levels(levels, width)
    return len(encoded).to_bytes(4, "little") + encoded


def encoded_levels(levels: NDArray[np.uint8], width: int) -> bytes:
    """Levels of so many bits in Parquet's hybrid encoding: as runs of equal levels if these are long, or bit-packed."""
    starts = np.append(0, np.flatnonzero(levels[1:] != levels[:-1]) + 1)
    if len(starts) * _BYTES_PER_RUN * 8 <= len(levels) * width + _BYTES_PER_RUN * 8:
        lengths = np.diff(starts, append=len(levels)).tolist()
        values = levels[starts].tolist()
        return b"".join(varint(n << 1) + bytes([value]) for n, value in zip(lengths, values, strict=True))
    groups = -(-len(levels) // _PACKED_GROUP)
    padded = np.zeros(groups * _PACKED_GROUP, np.uint8)
    padded[: len(levels)] = levels
    # Eight levels fill as many bytes as a level has bits, so shifting columns of eight levels packs them all at once.
    columns = padded.reshape(-1, _PACKED_GROUP).astype("<u8")
    packed = columns[:, 0].copy()
    for number in range(1, _PACKED_GROUP):
        packed |= columns[:, number] << np.uint64(number * width)
    return varint(groups << 1 | 1) + packed.view(np.uint8).reshape(groups, -1)[:, :width].tobytes()
