"""JSON texts of one field to a column of records or lists: taken apart once, then column by column.

A record level read this way needs no promise about its names or types: it is the road for records that are too dirty
for the typed one, and for levels whose names cannot be foreseen. It must not know plans or batches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa

from s3dest_dagster.columns.arrow_types import Layout, arrow_type, members
from s3dest_dagster.columns.conversion_log import Event, Outcome
from s3dest_dagster.columns.json_texts import NO_ROWS, NOTHING, Rows, json_texts, overflow_texts
from s3dest_dagster.columns.members import Member, as_list, members_of
from s3dest_dagster.columns.overflow import OverflowColumn
from s3dest_dagster.columns.scalar_columns import Column, ColumnDecoder, TemporalDecoder, scalar_decoder
from s3dest_dagster.columns.types import OVERFLOW, OVERFLOW_ALIAS, TEMPORAL, Array, Field, Kind, Record, Union
from s3dest_dagster.columns.union_columns import UnionDecoder
from s3dest_dagster.columns.values import overflow_text, own_overflow, position_rule

Object = Mapping[str, Any]
"""An object of one level, its members as raw texts."""

_NO_OBJECT: Final[Object] = {}
NO_MEMBERS: Final[Mapping[int, Sequence[Member]]] = {}
_OWN_OVERFLOW = frozenset({OVERFLOW, OVERFLOW_ALIAS})


class ListDecoder(ColumnDecoder):
    """Lists of any kind of item. One unfit item makes its whole list unfit."""

    def __init__(self, kind: Array, layout: Layout, path: str) -> None:
        super().__init__(position_rule(kind, layout, path), arrow_type(kind, layout=layout))
        self.item = column_decoder(kind.item, layout, path, fallback=kind.fallback)

    def decode(self, raws: Sequence[Any]) -> Column:
        lists, unfit = _taken_apart(raws, b"[", as_list)
        column = self.of_lists(lists)
        column.unfit = np.union1d(column.unfit, unfit)
        return column

    def of_lists(self, lists: Sequence[Sequence[Any] | None]) -> Column:
        """The column of lists of raw texts, None being null."""
        items = self.item.decode([raw for raws in lists if raws for raw in raws])
        lengths = np.array([len(raws) if raws else 0 for raws in lists], np.int64)
        parents = np.repeat(np.arange(len(lists)), lengths)
        if items.unfit.size:
            unfit = np.unique(parents[items.unfit])
            dropped = set(unfit.tolist())
            column = self.of_lists([None if row in dropped else raws for row, raws in enumerate(lists)])
            column.unfit = unfit
            return column
        absent = np.array([raws is None for raws in lists], np.bool_)
        data = list_array(lengths, items.data, absent, self.type)
        return Column(data, inexact=np.unique(parents[items.inexact]), counts=items.counts)


@dataclass(frozen=True, slots=True)
class FieldDecoder:
    """A declared field, `source` being the name that the source gives it, and the decoder of its column; `path` is its
    dotted original name."""

    source: str
    kind: Kind
    decoder: ColumnDecoder
    path: str


class RecordDecoder(ColumnDecoder):
    """One record level: its declared fields as columns, everything else in its overflow map."""

    def __init__(self, record: Record, layout: Layout, path: str) -> None:
        super().__init__(position_rule(record, layout, path), arrow_type(record, layout=layout))
        self.record = record
        self.prefix = f"{path}." if path else ""
        self.fields = [self._field(field, layout) for field in record.fields]
        self._declared = frozenset(field.source for field in record.fields)

    def _field(self, field: Field, layout: Layout) -> FieldDecoder:
        path = self.prefix + field.source
        return FieldDecoder(field.source, field.kind, column_decoder(field.kind, layout, path), path)

    def decode(self, raws: Sequence[Any]) -> Column:
        found, unfit = _taken_apart(raws, b"{", members_of)
        objects = [None if each is None else each[0] for each in found]
        earlier = {row: each[1] for row, each in enumerate(found) if each is not None and each[1]}
        column = self._of_objects(objects, earlier)
        column.unfit = unfit
        return column

    def _of_objects(self, objects: Sequence[Object | None], earlier: Mapping[int, Sequence[Member]]) -> Column:
        """The level's column of objects with raw texts as members, None being null. `earlier` by row: the values of
        names that stand again in their object."""
        absent = [members_ is None for members_ in objects]
        present = [_NO_OBJECT if members_ is None else members_ for members_ in objects]
        over, counts = OverflowColumn(len(objects)), Counter[Event]()
        columns = []
        for field in self.fields:
            raws = [members_.get(field.source, NOTHING) for members_ in present]
            columns.append(place(field, field.decoder.decode(raws), partial(overflow_texts, raws), over, counts))
        self.add_undeclared(present, over, counts, earlier)
        mask = pa.array(absent) if any(absent) else None
        data = pa.StructArray.from_arrays([*columns, over.column()], fields=list(self.type), mask=mask)
        return Column(data, counts=counts)

    def add_undeclared(
        self,
        objects: Sequence[Object],
        over: OverflowColumn,
        counts: Counter[Event],
        earlier: Mapping[int, Sequence[Member]] = NO_MEMBERS,
    ) -> None:
        """The objects' members that are not declared go to the overflow, and `earlier` values of any; nulls among them
        are dropped."""
        rows, names, raws = [], [], []
        own: dict[int, Object] = {}
        for row, members_ in enumerate(objects):
            if members_.keys() <= self._declared:
                continue
            for name in members_.keys() - self._declared:
                if name in _OWN_OVERFLOW:
                    own[row] = members_
                else:
                    rows.append(row)
                    names.append(name)
                    raws.append(members_[name])
        self._add_texts(rows, names, raws, over, counts)
        if own or earlier:
            self._add_others(own, earlier, over, counts)

    def _add_texts(
        self, rows: list[int], names: list[str], raws: list[Any], over: OverflowColumn, counts: Counter[Event]
    ) -> None:
        texts = json_texts(raws)
        present = np.flatnonzero(texts.strings.is_valid())
        kept = [names[entry] for entry in present.tolist()]
        distinct = list(dict.fromkeys(kept))
        index = {name: number for number, name in enumerate(distinct)}
        which = np.array([index[name] for name in kept], np.int64)
        over.add_named(distinct, np.array(rows, np.int64)[present], which, texts.strings.take(pa.array(present)))
        counts.update({(Outcome.UNDECLARED, self.prefix + name): n for name, n in Counter(kept).items()})

    def _add_others(
        self,
        own: Mapping[int, Object],
        earlier: Mapping[int, Sequence[Member]],
        over: OverflowColumn,
        counts: Counter[Event],
    ) -> None:
        """By row: what `own` objects bring for the overflow map itself, and the values of names that stand again behind
        them. Their names depend on what the row's map has already."""
        found: list[tuple[int, str, str]] = []
        for row, names in over.key_allocator_of(own.keys() | earlier.keys()).items():
            for name, raw in own_overflow(_for_overflow(own.get(row, _NO_OBJECT))):
                key = names.take(name)
                found.append((row, key, overflow_text(raw)))
                counts[(Outcome.UNDECLARED, self.prefix + key)] += 1
            for name, raw in earlier.get(row, ()):
                found.append((row, names.take(name), overflow_text(raw)))
                outcome = Outcome.OVERFLOWED if name in self._declared else Outcome.UNDECLARED
                counts[(outcome, self.prefix + name)] += 1
        rows, keys, texts = zip(*found, strict=True) if found else ((), (), ())
        over.add_named(keys, np.array(rows, np.int64), np.arange(len(keys)), pa.array(texts, pa.string()))


def _for_overflow(members_: Object) -> list[Member]:
    return [(name, bytes(raw)) for name, raw in members_.items() if name in _OWN_OVERFLOW]


def column_decoder(kind: Kind, layout: Layout, path: str, *, fallback: bool = True) -> ColumnDecoder:
    """The decoder of a position of this kind; `path` is its dotted original name."""
    rule, type_ = (
        position_rule(kind, layout, path, fallback=fallback),
        arrow_type(kind, layout=layout, fallback=fallback),
    )
    if isinstance(kind, Record):
        return RecordDecoder(kind, layout, path)
    if isinstance(kind, Array):
        return ListDecoder(kind, layout, path)
    if isinstance(kind, Union):
        return UnionDecoder(rule, type_, [(b, column_decoder(b, layout, path, fallback=False)) for b in kind.branches])
    if kind in TEMPORAL:
        return TemporalDecoder(rule, type_, kind, fallback=bool(members(kind, layout, fallback=fallback)))
    return scalar_decoder(kind, rule)


def place(
    field: FieldDecoder,
    column: Column,
    texts: Callable[[Rows], pa.Array],
    over: OverflowColumn,
    counts: Counter[Event],
) -> pa.Array:
    """The field's data; its misfits go to the level's overflow as `texts` gives them, its counts to the level's."""
    counts.update(column.counts)
    rows = np.union1d(column.unfit, column.inexact) if column.unfit.size or column.inexact.size else NO_ROWS
    if rows.size:
        over.add(field.source, rows, texts(rows))
        counts[(Outcome.OVERFLOWED, field.path)] += int(rows.size)
    return column.data


def list_array(lengths: Any, items: pa.Array, absent: Any, type_: pa.DataType) -> pa.Array:
    """Lists of these lengths, null where absent."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    mask = pa.array(absent) if absent.any() else None
    return pa.ListArray.from_arrays(pa.array(offsets), items, type=type_, mask=mask)


def _taken_apart(raws: Sequence[Any], opening: bytes, decode: Any) -> tuple[list[Any], Rows]:
    """Each text decoded when it opens so, else None; and the rows that are something else, and not null."""
    parts: list[Any] = []
    unfit = []
    for row, raw in enumerate(raws):
        text = bytes(raw)
        opened = text[:1] == opening
        parts.append(decode(text) if opened else None)
        if text and not opened and text != b"null":
            unfit.append(row)
    return parts, np.array(unfit, np.int64)
