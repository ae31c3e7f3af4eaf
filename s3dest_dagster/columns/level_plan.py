"""What the records of a stream have taught about a record level: which undeclared names to expect, and which fields to
read as text because values of another type are common.

A plan is frozen; learning gives a new one. Plans decide how fast a batch is read, never the result. Must not know: how
columns are made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from s3dest_dagster.columns.json_texts import as_list, as_object
from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.names import OVERFLOW_NAMES

COMMON_SHARE = 0.03
"""Share of the records from which on a name or a misfit is expected. Rarer ones cost less one by one."""
OPEN_SHARE = 0.2
"""Share of the records with unexpected names from which on the names of a level count as data."""
MAX_EXPECTED_NAMES = 64
"""The most undeclared names that a level expects."""

_NO_STRUCT_NAME = re.compile(r'["\\\x00-\x1f]')
"""msgspec refuses such names."""


@dataclass(frozen=True, slots=True)
class LevelPlan:
    """How to read one record level. Names are the source's."""

    expected: tuple[str, ...] = ()
    """Undeclared names to expect, sorted."""
    texts: frozenset[str] = frozenset()
    """Declared fields to read as text."""
    inner: Mapping[str, LevelPlan] = field(default_factory=dict)
    """The plans of the levels below, by field."""
    open: bool = False
    """Whether the names of this level cannot be foreseen."""

    @classmethod
    def first(cls, record: Record) -> LevelPlan:
        """The plan of a level that nothing is known of: only what cannot be read by type is text."""
        inner = {f.source: cls.first(r) for f in record.fields if (r := _inner_record(f.kind)) and _is_typed(f.kind)}
        texts = frozenset(f.source for f in record.fields if not _is_typed(f.kind))
        return cls(texts=texts, inner=inner, open=not _has_struct_names(record))

    def is_all_typed(self) -> bool:
        """Whether every field of every level is read by type."""
        return not self.open and not self.texts and all(plan.is_all_typed() for plan in self.inner.values())

    def may_round(self, record: Record) -> bool:
        """Whether a field is read by a type that rounds numbers."""
        if any(_is_rounded(f.kind) and f.source not in self.texts and not self.open for f in record.fields):
            return True
        inner = ((name, plan) for name, plan in self.inner.items() if name not in self.texts)
        return any(plan.may_round(_level(record, name)) for name, plan in inner)

    def with_numbers_as_texts(self, record: Record) -> LevelPlan:
        """The plan that reads as text every field whose type rounds numbers."""
        rounded = {f.source for f in record.fields if _is_rounded(f.kind)}
        inner = {name: plan.with_numbers_as_texts(_level(record, name)) for name, plan in self.inner.items()}
        return LevelPlan(self.expected, self.texts | rounded, inner, self.open)

    def learn(self, record: Record, raws: Sequence[bytes], share: float = COMMON_SHARE) -> LevelPlan:
        """The plan that also expects what at least this share of the objects has. It is equal if nothing is new."""
        sample = _Sample(record, self)
        for raw in raws:
            sample.add(raw)
        return sample.plan(share * len(raws))


class _Sample:
    """What a sample of one level's objects has that its plan does not expect."""

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
        element = kind.element()
        items = [value] if element is kind else _items(value)
        if not all(_is_typical(element, item) for item in items):
            self._misfits[name] += 1
        elif name in self._inner:
            self._inner[name] += items

    def plan(self, floor: float) -> LevelPlan:
        """The plan that expects what at least so many objects have."""
        inner = {
            name: self._plan.inner[name].learn(_level(self._record, name), raws) if raws else self._plan.inner[name]
            for name, raws in self._inner.items()
        }
        texts = {name for name, count in self._misfits.items() if count >= floor}
        texts |= {name for name, below in inner.items() if below.open}
        expected = self._expected(floor)
        surprised = sum(any(name not in expected for name in names) for names in self._undeclared)
        return LevelPlan(
            tuple(sorted(expected)),
            self._plan.texts | texts,
            {name: below for name, below in inner.items() if name not in texts},
            self._plan.open or surprised > OPEN_SHARE * len(self._undeclared),
        )

    def _expected(self, floor: float) -> set[str]:
        counts = Counter(name for names in self._undeclared for name in names)
        expected = set(self._plan.expected)
        for name, count in counts.most_common():
            fits = not _NO_STRUCT_NAME.search(name) and name not in OVERFLOW_NAMES
            if count >= floor and fits and len(expected) < MAX_EXPECTED_NAMES:
                expected.add(name)
        return expected


def _items(value: bytes) -> list[bytes]:
    """The items of a list that are not null; of any other value, a text that is typical of no kind."""
    return [item for item in map(bytes, as_list(value)) if item != b"null"] if value[:1] == b"[" else [b""]


def _inner_record(kind: Kind) -> Record | None:
    """The record that a field of this kind holds, one or a list of them; None if it holds none."""
    element = kind.element()
    return element if isinstance(element, Record) else None


def _is_typed(kind: Kind) -> bool:
    """Whether the typed tiers can read a field of this kind."""
    element = kind.element()
    if isinstance(element, Record):
        return _has_struct_names(element)
    return element.reader is not None and (element is kind or element.reader.is_listable)


def _is_rounded(kind: Kind) -> bool:
    reader = kind.element().reader
    return reader is not None and reader.may_round


def _has_struct_names(record: Record) -> bool:
    return not any(_NO_STRUCT_NAME.search(f.source) for f in record.fields)


def _is_typical(kind: Kind, value: bytes) -> bool:
    if isinstance(kind, Record):
        return value[:1] == b"{"
    assert kind.reader is not None  # else the field is read as text
    return kind.reader.typical.match(value) is not None


def _level(record: Record, name: str) -> Record:
    """The record of the field that the source calls `name`."""
    level: Any = next(_inner_record(f.kind) for f in record.fields if f.source == name)
    assert isinstance(level, Record)
    return level
