"""The overflow map of one record level, gathered column by column. It must not know kinds or rules."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s3dest_dagster.columns.arrow_types import OVERFLOW_TYPE
from s3dest_dagster.columns.json_texts import Rows
from s3dest_dagster.columns.names import OverflowNames


class _Entries(NamedTuple):
    """Texts for the maps of `rows`; `which` says per entry which of `names` is its key."""

    rows: Rows
    names: Sequence[str]
    which: NDArray[np.int64]
    texts: pa.Array


class OverflowColumn:
    """What goes into the overflow maps of `length` rows."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._entries: list[_Entries] = []

    def add(self, name: str, rows: Rows, texts: pa.Array) -> None:
        """One text of a field for each of these rows."""
        if len(rows):
            self._entries.append(_Entries(rows, [name], np.zeros(len(rows), np.int64), texts))

    def add_named(self, names: Sequence[str], rows: Rows, which: NDArray[np.int64], texts: pa.Array) -> None:
        """One text for each of these rows, under the name whose index in `names` stands in `which`."""
        if len(rows):
            self._entries.append(_Entries(rows, names, which, texts))

    def key_allocator_of(self, rows: Collection[int]) -> dict[int, OverflowNames]:
        """The names that the maps of these rows have so far, by row."""
        found: dict[int, list[str]] = {row: [] for row in rows}
        wanted = np.fromiter(rows, np.int64, len(rows))
        for entries in self._entries:
            places = np.flatnonzero(np.isin(entries.rows, wanted))
            for row, number in zip(entries.rows[places].tolist(), entries.which[places].tolist(), strict=True):
                found[row].append(entries.names[number])
        return {row: OverflowNames(names) for row, names in found.items()}

    def column(self) -> pa.Array:
        """The maps: null where a row has no entry, else sorted by name, so that equal maps are equal bytes."""
        if not self._entries:
            return pa.nulls(self._length, OVERFLOW_TYPE)
        names = sorted({name for entries in self._entries for name in entries.names})
        rank = {name: number for number, name in enumerate(names)}
        ranks = np.concatenate([np.array([rank[name] for name in e.names])[e.which] for e in self._entries])
        rows = np.concatenate([e.rows for e in self._entries])
        texts = pa.concat_arrays([e.texts for e in self._entries])
        order = np.argsort(rows * len(names) + ranks, kind="stable")
        counts = np.bincount(rows, minlength=self._length)
        offsets = np.zeros(self._length + 1, np.int32)
        np.cumsum(counts, out=offsets[1:])
        keys = pa.array(names, pa.string()).take(pa.array(ranks[order]))
        nullable_offsets = pa.array(offsets, mask=np.append(counts == 0, False))
        return pa.MapArray.from_arrays(nullable_offsets, keys, texts.take(pa.array(order)))
