"""Lists of items of one kind. One unfit item makes its whole list unfit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from s3dest_dagster.columns.arrow_types import as_list_column, is_any_list, unpacked, values_at
from s3dest_dagster.columns.binary_columns import NOTHING, JsonTexts, Mask, Rows, as_list
from s3dest_dagster.columns.conversion_log import ConversionLog
from s3dest_dagster.columns.kinds import UNFIT, BranchClaim, Column, ColumnDecoder, Kind, Layout, Rule, Widening
from s3dest_dagster.columns.kinds.union import Position


@dataclass(frozen=True)
class Array(Kind):
    """A list whose items may be null."""

    item: Kind
    fallback: bool = True
    """Whether Avro has a string in addition to temporal items. The connector's tuples have none."""

    word = "array"
    avro_name = "array"
    python_type = list
    has_structure = True

    def position(self) -> Position:
        """The position of its items."""
        return Position(self.item, self.fallback)

    def with_item(self, item: Kind) -> Array:
        """The same array with another kind of items, or the array itself if they have this one."""
        return self if item is self.item else replace(self, item=item)

    def arrow_type(self, layout: Layout) -> pa.DataType:
        return pa.list_(pa.field("item", self.position().arrow_type(layout)))

    def avro_type(self, enclosing: str | None) -> Any:
        return {"type": "array", "items": self.position().avro_type(enclosing)}

    def rule(self, layout: Layout, path: str) -> Rule:
        return _ArrayRule(path, self.position().rule(layout, path))

    def decoder(self, layout: Layout, path: str) -> ColumnDecoder:
        return ListDecoder(self, layout, path)

    def words(self) -> str:
        return f"array of {self.item.words()}"

    def paths(self, path: str) -> Iterator[tuple[str, str]]:
        if not self.item.has_structure or len(self.item.as_branches()) > 1:
            yield path, self.words()
        else:
            yield path, self.word
            yield from self.item.paths(f"{path}[]")

    def element(self) -> Kind:
        return self.item

    def map_records(self, change: Callable[[Any], Kind]) -> Kind:
        return self.with_item(self.item.map_records(change))

    def levels(self) -> int:
        return 2 + self.position().levels()

    def within_levels(self, levels: int) -> Kind | None:
        return self.with_item(self.position().within_levels(levels - 2)) if levels > 2 else None

    @property
    def is_known(self) -> bool:
        return self.item.is_known

    @property
    def lacks_digits(self) -> bool:
        return self.item.lacks_digits

    def widened_by(self, other: Kind, widening: Widening) -> Kind | None:
        item = self.item.widened(other.item, widening.of_items()) if isinstance(other, Array) else None
        return None if item is None else self.with_item(item)


class _ArrayRule(Rule):
    def __init__(self, path: str, item: Rule) -> None:
        super().__init__(path)
        self._item = item

    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        if raw[:1] != b"[":
            return UNFIT
        mark, items = log.mark(), []
        for part in map(bytes, as_list(raw)):
            value = None if part == b"null" else self._item.convert(part, log)
            if value is UNFIT:
                log.undo_since(mark)
                return UNFIT
            items.append(value)
        return items


class StructureDecoder(ColumnDecoder):
    """Objects or lists: JSON texts that begin with a bracket."""

    opening: bytes
    """The bracket."""

    def claim(self, raws: Sequence[Any], texts: JsonTexts, left: Mask) -> BranchClaim:
        rows = left & np.array([bytes(raw)[:1] == self.opening for raw in raws], np.bool_)
        column = self.decode([raw if row else NOTHING for raw, row in zip(raws, rows.tolist(), strict=True)])
        rows[column.unfit] = False
        return BranchClaim(column.data, rows, np.zeros_like(left), column.inexact, column.counts)

    def _split(self, raws: Sequence[Any], parse: Callable[[bytes], Any]) -> tuple[list[Any], Rows]:
        """The texts parsed if they begin with the bracket, else None; and the rows of other values except nulls."""
        parsed: list[Any] = []
        unfit = []
        for row, raw in enumerate(raws):
            text = bytes(raw)
            is_opened = text[:1] == self.opening
            parsed.append(parse(text) if is_opened else None)
            if text and not is_opened and text != b"null":
                unfit.append(row)
        return parsed, np.array(unfit, np.int64)


class ListDecoder(StructureDecoder):
    """Decodes a column of lists. All their items are decoded as one column."""

    opening = b"["

    def __init__(self, kind: Array, layout: Layout, path: str) -> None:
        super().__init__(kind.rule(layout, path), kind.arrow_type(layout))
        self.item = kind.position().decoder(layout, path)

    def decode(self, raws: Sequence[Any]) -> Column:
        lists, unfit = self._split(raws, as_list)
        column = self._of_lists(lists)
        column.unfit = np.union1d(column.unfit, unfit)
        return column

    def _of_lists(self, lists: Sequence[Sequence[Any] | None]) -> Column:
        """The column of lists of JSON texts, null for None."""
        items = self.item.decode([raw for raws in lists if raws for raw in raws])
        lengths = np.array([len(raws) if raws else 0 for raws in lists], np.int64)
        parents = np.repeat(np.arange(len(lists)), lengths)
        if items.unfit.size:
            # The unfit lists are dropped, so that their other items are not counted either.
            unfit = np.unique(parents[items.unfit])
            dropped = set(unfit.tolist())
            column = self._of_lists([None if row in dropped else raws for row, raws in enumerate(lists)])
            column.unfit = unfit
            return column
        absent = np.array([raws is None for raws in lists], np.bool_)
        return self._column(lengths, items, parents, absent)

    def decode_arrow(self, data: pa.Array) -> Column:
        data = unpacked(data)
        return self._of_arrow_lists(as_list_column(data)) if is_any_list(data.type) else super().decode_arrow(data)

    def _of_arrow_lists(self, data: pa.ListArray) -> Column:
        items = self.item.decode_arrow(data.flatten())
        lengths = data.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        parents = np.repeat(np.arange(len(data)), lengths)
        if items.unfit.size:
            unfit = np.unique(parents[items.unfit])
            column = self._of_arrow_lists(_without(data, unfit))
            column.unfit = unfit
            return column
        return self._column(lengths, items, parents, data.is_null().to_numpy(zero_copy_only=False))

    def _column(self, lengths: Any, items: Column, parents: Rows, absent: Mask) -> Column:
        """The column of lists of these lengths, null if absent. `parents` has the row of every item."""
        offsets = np.zeros(len(lengths) + 1, np.int32)
        np.cumsum(lengths, out=offsets[1:])
        mask = pa.array(absent) if absent.any() else None
        data = pa.ListArray.from_arrays(pa.array(offsets), items.data, type=self.type, mask=mask)
        return Column(data, inexact=np.unique(parents[items.inexact]), counts=items.counts)


def _without(data: pa.Array, rows: Rows) -> pa.Array:
    """The column with null in these rows."""
    positions = np.arange(len(data))
    positions[rows] = len(data)
    return values_at(pa.concat_arrays([data, pa.nulls(1, data.type)]), positions)
