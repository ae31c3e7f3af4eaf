"""What a stream's records have taught about a record level: which undeclared names to expect, which fields to distrust.

A plan is frozen; learning gives a new one. Plans decide how fast a batch is read, never what comes out. It must not
know how columns are made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from s3dest_dagster.columns.members import as_list, as_object
from s3dest_dagster.columns.types import OVERFLOW, OVERFLOW_ALIAS, TEMPORAL, Array, Kind, Record, Scalar

COMMON_SHARE = 0.03
"""Share of the records from which on a name or a misfit is expected: rarer ones are cheaper one by one."""
OPEN_SHARE = 0.2
"""Share of the records with unexpected names from which on a level's names are taken for data."""
MAX_EXPECTED_NAMES = 64
"""Undeclared names that a level expects."""

_NO_STRUCT_NAME = re.compile(r'["\\\x00-\x1f]')
_OWN_OVERFLOW = (OVERFLOW, OVERFLOW_ALIAS)
_TYPICAL: dict[Scalar, re.Pattern[bytes]] = {
    Scalar.STRING: re.compile(rb'"'),
    Scalar.DOUBLE: re.compile(rb"[-0-9]"),
    Scalar.BOOLEAN: re.compile(rb"[tf]"),
    Scalar.LONG: re.compile(rb"-?[0-9]{1,18}\Z"),
    Scalar.NULL: re.compile(rb"(?!)"),
    **dict.fromkeys(TEMPORAL, re.compile(rb'"')),
}
_LISTED = frozenset({Scalar.STRING, Scalar.DOUBLE, Scalar.BOOLEAN, Scalar.LONG})


@dataclass(frozen=True, slots=True)
class LevelPlan:
    """How to read one record level: `expected` undeclared names (sorted), declared fields to read as `texts`, and the
    plans of `inner` levels, by the source's names. `open`: its names cannot be foreseen."""

    expected: tuple[str, ...] = ()
    texts: frozenset[str] = frozenset()
    inner: Mapping[str, LevelPlan] = field(default_factory=dict)
    open: bool = False


def inner_record(kind: Kind) -> Record | None:
    """The record that a field of this kind holds, one or a list of them; None where it holds none."""
    if isinstance(kind, Array):
        kind = kind.item
    return kind if isinstance(kind, Record) else None


def first_plan(record: Record) -> LevelPlan:
    """The plan of a level that nothing is known of: as text only what the typed reader has no type for."""
    inner = {f.source: first_plan(r) for f in record.fields if (r := inner_record(f.kind)) and _is_typed(f.kind)}
    texts = frozenset(f.source for f in record.fields if not _is_typed(f.kind))
    return LevelPlan(texts=texts, inner=inner, open=not _has_struct_names(record))


def is_all_typed(plan: LevelPlan) -> bool:
    """Whether the typed reader has a type for every field of every level."""
    return not plan.open and not plan.texts and all(map(is_all_typed, plan.inner.values()))


def has_numbers(record: Record, plan: LevelPlan) -> bool:
    """Whether this plan reads any double of the record by type, alone or in lists."""
    typed = [field for field in record.fields if field.source not in plan.texts and not plan.open]
    if any(field.kind in (Scalar.DOUBLE, Array(Scalar.DOUBLE)) for field in typed):
        return True
    return any(has_numbers(_level(record, name), known) for name, known in plan.inner.items() if name not in plan.texts)


def with_numbers_as_texts(record: Record, plan: LevelPlan) -> LevelPlan:
    """The plan that reads every double, and every list of them, as text."""
    doubles = {f.source for f in record.fields if f.kind in (Scalar.DOUBLE, Array(Scalar.DOUBLE))}
    inner = {name: with_numbers_as_texts(_level(record, name), known) for name, known in plan.inner.items()}
    return LevelPlan(plan.expected, plan.texts | doubles, inner, plan.open)


def learn(record: Record, plan: LevelPlan, raws: Sequence[bytes], share: float = COMMON_SHARE) -> LevelPlan:
    """The plan that also expects what at least this share of the objects shows; an equal plan when nothing is new."""
    seen = _Sample(record, plan)
    for raw in raws:
        seen.add(raw)
    return seen.lesson(share * len(raws))


class _Sample:
    """What a sample of one level's objects shows beyond its plan."""

    def __init__(self, record: Record, plan: LevelPlan) -> None:
        self._record = record
        self._plan = plan
        self._kinds = {f.source: f.kind for f in record.fields}
        self._undeclared: list[list[str]] = []
        self._misfits: Counter[str] = Counter()
        self._inner: dict[str, list[bytes]] = {name: [] for name in plan.inner}

    def add(self, raw: bytes) -> None:
        undeclared = []
        for name, slice_ in as_object(raw).items():
            if name not in self._kinds:
                undeclared.append(name)
            elif name not in self._plan.texts and (value := bytes(slice_)) != b"null":
                self._add_value(name, value)
        self._undeclared.append(undeclared)

    def _add_value(self, name: str, value: bytes) -> None:
        kind = self._kinds[name]
        if isinstance(kind, Array):
            items = [item for item in map(bytes, as_list(value)) if item != b"null"] if value[:1] == b"[" else [b""]
        else:
            items = [value]
        item_kind = kind.item if isinstance(kind, Array) else kind
        if not all(_is_typical(item_kind, item) for item in items):
            self._misfits[name] += 1
        elif name in self._inner:
            self._inner[name] += items

    def lesson(self, floor: float) -> LevelPlan:
        inner = {
            name: learn(_level(self._record, name), self._plan.inner[name], raws) if raws else self._plan.inner[name]
            for name, raws in self._inner.items()
        }
        texts = {name for name, count in self._misfits.items() if count >= floor}
        texts |= {name for name, known in inner.items() if known.open}
        expected = self._expected(floor)
        surprised = sum(any(name not in expected for name in names) for names in self._undeclared)
        return LevelPlan(
            tuple(sorted(expected)),
            self._plan.texts | texts,
            {name: known for name, known in inner.items() if name not in texts},
            self._plan.open or surprised > OPEN_SHARE * len(self._undeclared),
        )

    def _expected(self, floor: float) -> set[str]:
        counts = Counter(name for names in self._undeclared for name in names)
        expected = set(self._plan.expected)
        for name, count in counts.most_common():
            fits = not _NO_STRUCT_NAME.search(name) and name not in _OWN_OVERFLOW
            if count >= floor and fits and len(expected) < MAX_EXPECTED_NAMES:
                expected.add(name)
        return expected


def _is_typed(kind: Kind) -> bool:
    """Whether the typed reader knows this kind of field."""
    if isinstance(kind, Array):
        return kind.item in _LISTED or (isinstance(kind.item, Record) and _is_typed(kind.item))
    if isinstance(kind, Record):
        return _has_struct_names(kind)
    return kind in _TYPICAL


def _has_struct_names(record: Record) -> bool:
    return not any(_NO_STRUCT_NAME.search(f.source) for f in record.fields)


def _is_typical(kind: Kind, value: bytes) -> bool:
    if isinstance(kind, Record):
        return value[:1] == b"{"
    pattern: Final = _TYPICAL[kind]  # type: ignore[index]
    return pattern.match(value) is not None


def _level(record: Record, name: str) -> Record:
    """The record of the field that the source calls `name`."""
    found: Any = next(inner_record(f.kind) for f in record.fields if f.source == name)
    assert isinstance(found, Record)
    return found
