"""The overflow map of a record level, which keeps the texts of values that their fields cannot hold exactly.

Only this module decides what goes there. A field's value is *routed* to the map if it does not fit the field's kind, or
if the field holds only the nearest number: `OverflowMap.convert_field` routes one value, and
`OverflowColumn.route_misfits` routes a column. The map also receives undeclared fields, the earlier values of names
that a record repeats, and the entries of a record's own field with a name of the map.

An entry has the field's original name and the JSON text of its value, or the plain text if the value is a string.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from s3dest_dagster.batch import Tally
from s3dest_dagster.columns.binary_columns import NO_ROWS, QUOTE, Member, Rows, as_text, json_texts, members_of
from s3dest_dagster.columns.conversion_log import ConversionLog, Entry, Misfit, Outcome
from s3dest_dagster.columns.kinds import UNFIT, Column, Rule
from s3dest_dagster.columns.names import OVERFLOW, NameAllocator

OVERFLOW_TYPE = pa.map_(pa.string(), pa.string())
"""The type of the column. It is null if the map is empty. Entries are sorted by name."""
AVRO_OVERFLOW: Mapping[str, Any] = {
    "name": OVERFLOW,
    "type": ["null", {"type": "map", "values": "string"}],
    "default": None,
}
"""The Avro field."""
OVERFLOW_LEVELS = 3
"""The number of levels that the map adds to a Parquet schema."""

_MOST_PREFIXES = 2
"""The most prefixes of a name. Without a limit, names would grow with every repetition."""


class OverflowMap:
    """The overflow map of one record. With `drops_undeclared`, undeclared fields are only counted."""

    __slots__ = ("_drops_undeclared", "_log", "_prefix", "_texts")

    def __init__(self, prefix: str, log: ConversionLog, *, drops_undeclared: bool = False) -> None:
        self._drops_undeclared = drops_undeclared
        self._prefix = prefix
        self._log = log
        self._texts: dict[str, str] = {}

    def convert_field(self, source: str, rule: Rule, raw: bytes) -> Any:
        """The value of a declared field, or UNFIT. The text of a misfit or of an inexact number goes to the map."""
        log = self._log
        value = rule.convert(raw, log)
        if value is UNFIT or log.is_inexact:
            text = self._texts[source] = overflow_text(raw)
            log.entries.append((Outcome.OVERFLOWED, rule.path))
            log.misfits.append(Misfit(rule.path, text))
            log.is_inexact = False
        return value

    def add_undeclared(self, name: str, raw: bytes) -> None:
        """Adds a field that is not declared."""
        if not self._drops_undeclared:
            self._texts[name] = overflow_text(raw)
        self._log.entries.append((Outcome.UNDECLARED, self._prefix + name))

    def add_extras(self, own: Iterable[Member], repeated: Iterable[Member], declared: Collection[str]) -> None:
        """Adds the `_extras` of a record."""
        for extra in _extras(OverflowNames(self._texts), own, repeated, declared):
            if extra.outcome is not Outcome.UNDECLARED or not self._drops_undeclared:
                self._texts[extra.key] = extra.text
            self._log.entries.append((extra.outcome, self._prefix + extra.name))
            if extra.outcome is Outcome.OVERFLOWED:
                self._log.misfits.append(Misfit(self._prefix + extra.name, extra.text, is_repeated=True))

    def entries(self) -> list[tuple[str, str]] | None:
        """The map in the form that `pyarrow.array` accepts."""
        return sorted(self._texts.items()) or None


class _Entries(NamedTuple):
    """Texts for the maps of `rows`. `which` has, for every entry, the position of its key in `names`."""

    rows: Rows
    names: Sequence[str]
    which: NDArray[np.int64]
    texts: pa.Array


class OverflowColumn:
    """The overflow maps of `length` rows of a record level.

    `prefix` is the dotted name of the level followed by a dot, or empty. `counts` has the outcomes for the level's
    values, including those of its fields. With `drops_undeclared`, undeclared fields are only counted.
    """

    def __init__(self, length: int, prefix: str, *, drops_undeclared: bool = False) -> None:
        self.counts = Counter[Entry]()
        self._length = length
        self._prefix = prefix
        self._drops_undeclared = drops_undeclared
        self._entries: list[_Entries] = []

    def route_misfits(self, source: str, column: Column, texts: Callable[[Rows], pa.Array]) -> pa.Array:
        """Returns the data of a declared field's column.

        Its misfits and inexact numbers go to the maps, with the texts that `texts` returns. Its counts are added to
        those of the level.
        """
        self.counts.update(column.counts)
        rows = np.union1d(column.unfit, column.inexact) if column.unfit.size or column.inexact.size else NO_ROWS
        if rows.size:
            self._entries.append(_Entries(rows, [source], np.zeros(len(rows), np.int64), texts(rows)))
            self.counts[(Outcome.OVERFLOWED, self._prefix + source)] += int(rows.size)
        return column.data

    def add_undeclared(self, rows: Rows, names: Sequence[str], raws: Sequence[Any]) -> None:
        """Adds undeclared fields by their rows, names and JSON texts. Nulls are dropped."""
        distinct = sorted(dict.fromkeys(names))
        self._add_texts(rows, distinct, _positions(names, distinct), raws)

    def add_undeclared_grid(self, names: Sequence[str], raws: Sequence[Any]) -> None:
        """Adds the undeclared fields with these names. `raws` has a text for every name of every row, row by row."""
        positions = np.arange(len(raws))
        self._add_texts(positions // len(names), names, positions % len(names), raws)

    def _add_texts(self, rows: Rows, names: Sequence[str], which: NDArray[np.int64], raws: Sequence[Any]) -> None:
        """Adds texts. The names are sorted if they are more than a tally has."""
        texts = json_texts(raws)
        present = np.flatnonzero(texts.strings.is_valid())
        if not present.size:
            return
        if not self._drops_undeclared:
            strings = texts.strings if len(present) == len(raws) else texts.strings.take(pa.array(present))
            self._entries.append(_Entries(rows[present], names, which[present], strings))
        counts = np.bincount(which[present], minlength=len(names))
        seen = np.flatnonzero(counts)
        shown, others = seen[: Tally.MAX_NAMES].tolist(), int(counts[seen[Tally.MAX_NAMES :]].sum())
        self.counts.update(
            {(Outcome.UNDECLARED, self._prefix + names[number]): int(counts[number]) for number in shown}
        )
        if others:
            self.counts[(Outcome.UNDECLARED, Tally.OTHERS)] += others

    def add_extras(
        self,
        own: Mapping[int, Sequence[Member]],
        repeated: Mapping[int, Sequence[Member]],
        declared: Collection[str],
    ) -> None:
        """Adds the `_extras` of every row. Call it last, since names depend on the previous entries of the map."""
        entries: list[tuple[int, str, str]] = []
        for row, names in self._names_of(own.keys() | repeated.keys()).items():
            for extra in _extras(OverflowNames(names), own.get(row, ()), repeated.get(row, ()), declared):
                if extra.outcome is not Outcome.UNDECLARED or not self._drops_undeclared:
                    entries.append((row, extra.key, extra.text))
                self.counts[(extra.outcome, self._prefix + extra.name)] += 1
        if entries:
            rows, keys, texts = zip(*entries, strict=True)
            which = np.arange(len(keys))
            self._entries.append(_Entries(np.array(rows, np.int64), keys, which, pa.array(texts, pa.string())))

    def _names_of(self, rows: Collection[int]) -> dict[int, list[str]]:
        """The names that are in the maps of these rows so far."""
        names: dict[int, list[str]] = {row: [] for row in rows}
        wanted = np.fromiter(rows, np.int64, len(rows))
        for entries in self._entries:
            positions = np.flatnonzero(np.isin(entries.rows, wanted))
            for row, number in zip(entries.rows[positions].tolist(), entries.which[positions].tolist(), strict=True):
                names[row].append(entries.names[number])
        return names

    def column(self) -> pa.Array:
        """The maps. A row without entries is null. Entries are sorted by name, so that equal maps have equal bytes."""
        if not self._entries:
            return pa.nulls(self._length, OVERFLOW_TYPE)
        # A dict keeps the order of names that are sorted already, which a set would not.
        names = sorted(dict.fromkeys(chain.from_iterable(entries.names for entries in self._entries)))
        ranks = np.concatenate(
            [e.which if e.names == names else _positions(e.names, names)[e.which] for e in self._entries]
        )
        rows = np.concatenate([entries.rows for entries in self._entries])
        texts = pa.concat_arrays([entries.texts for entries in self._entries])
        order = np.argsort(rows * len(names) + ranks, kind="stable")
        counts = np.bincount(rows, minlength=self._length)
        offsets = np.zeros(self._length + 1, np.int32)
        np.cumsum(counts, out=offsets[1:])
        keys = pa.array(names, pa.string()).take(pa.array(ranks[order]))
        nullable_offsets = pa.array(offsets, mask=np.append(counts == 0, False))
        return pa.MapArray.from_arrays(nullable_offsets, keys, texts.take(pa.array(order)))


def _positions(names: Sequence[str], among: Sequence[str]) -> NDArray[np.int64]:
    """The position of each name among these."""
    position = dict(zip(among, range(len(among)), strict=True))
    return np.fromiter(map(position.__getitem__, names), np.int64, len(names))


class _Extra(NamedTuple):
    """An entry whose key may differ from its field's name, since another entry may already have that name."""

    key: str
    text: str
    outcome: Outcome
    name: str
    """The name under which it is counted."""


def _extras(
    names: OverflowNames, own: Iterable[Member], repeated: Iterable[Member], declared: Collection[str]
) -> Iterator[_Extra]:
    """Yields a record's own entries for the overflow map, and then the earlier values of names that it repeats.

    Args:
        names: The names that are in the map so far.
        own: The record's members with a name of the overflow map.
        repeated: The earlier values of repeated names. Those of declared names count as overflowed.
        declared: The names of the level's fields.
    """
    for name, raw in _own_entries(own):
        key = names.allocate(name)
        yield _Extra(key, overflow_text(raw), Outcome.UNDECLARED, key)
    for name, raw in repeated:
        outcome = Outcome.OVERFLOWED if name in declared else Outcome.UNDECLARED
        yield _Extra(names.allocate(name), overflow_text(raw), outcome, name)


def _own_entries(own: Iterable[Member]) -> Iterator[Member]:
    """Yields the members of objects one by one, and other values under their own names. Nulls are dropped."""
    for name, raw in own:
        for entry in _all_members(raw) if raw[:1] == b"{" else [(name, raw)]:
            if entry[1] != b"null":
                yield entry


def _all_members(raw: bytes) -> list[Member]:
    members, repeated = members_of(raw)
    return [*((name, bytes(value)) for name, value in members.items()), *repeated]


class OverflowNames:
    """Allocates unique names for the entries of one overflow map, even if a record repeats names."""

    def __init__(self, used: Iterable[str] = ()) -> None:
        self._names = NameAllocator(used, separator=".")

    def allocate(self, name: str) -> str:
        """`name` if it is free.

        Otherwise the overflow's own name precedes it, once or twice, and then a number follows it
        ("_airbyte_additional_properties._airbyte_additional_properties.a.2").
        """
        for _ in range(_MOST_PREFIXES):
            if name in self._names:
                name = f"{OVERFLOW}.{name}"
        return self._names.allocate(name)


def overflow_text(raw: bytes) -> str:
    """The text of a JSON value in the map: the plain text of a string, or any other value as the source spells it."""
    return as_text(raw) if raw[0] == QUOTE else raw.decode()


def overflow_texts(raws: Sequence[Any], rows: Rows) -> pa.Array:
    """The texts for these rows in the map."""
    return json_texts([raws[row] for row in rows.tolist()]).strings
