"""Plans for reading record levels by type: which names to expect, and which fields to read as text.

`LevelPlan` learns from records. A plan never changes a result: its readers refuse what it does not expect.
A stream with many declared fields has a plan that expects none of them at first, and then those that records have, so
that declared fields which no record has cost nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from s3dest_dagster.columns.binary_columns import as_list, as_object
from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.names import OVERFLOW_NAMES

COMMON_SHARE = 0.03
"""A name or misfit that at least this share of the records has is expected. Rarer ones cost less one by one."""
OPEN_SHARE = 0.2
"""If a larger share of the records has unexpected names, the names of a level count as data."""
MAX_EXPECTED_NAMES = 64
"""The most undeclared names that a plan expects for a level."""
MOST_EXPECTED_FIELDS = 100
"""If a stream declares more fields, at all its levels, then none is expected before a record has it."""

_NO_STRUCT_NAME = re.compile(r'["\\\x00-\x1f]')
"""Matches names that msgspec refuses: those that JSON writes with an escape."""


def is_struct_name(name: str) -> bool:
    """Whether a generated Struct can have a field of this name."""
    return not _NO_STRUCT_NAME.search(name)


@dataclass(frozen=True, slots=True)
class LevelPlan:
    """The plan for reading one record level. All names are the source's."""

    expected: tuple[str, ...] = ()
    """Undeclared names to expect, sorted."""
    texts: frozenset[str] = frozenset()
    """Declared fields to read as text."""
    inner: Mapping[str, LevelPlan] = field(default_factory=dict)
    """The plans of the levels below, by field."""
    open: bool = False
    """Whether the names of this level cannot be foreseen."""
    absent: frozenset[str] = frozenset()
    """Declared fields that no object is expected to have."""
    numbers_as_texts: bool = False
    """Whether fields whose type rounds numbers are read as text, also those that are absent so far."""

    @classmethod
    def first(cls, record: Record) -> LevelPlan:
        """The plan for a level before any record is known."""
        return cls.unseen(record) if _field_count(record) > MOST_EXPECTED_FIELDS else cls.complete(record)

    @classmethod
    def unseen(cls, record: Record, *, numbers_as_texts: bool = False) -> LevelPlan:
        """The plan that expects no field."""
        absent = frozenset(f.source for f in record.fields)
        return cls(open=not _has_struct_names(record), absent=absent, numbers_as_texts=numbers_as_texts)

    @classmethod
    def complete(cls, record: Record) -> LevelPlan:
        """The plan that expects every declared field. Only those that cannot be read by type are read as text."""
        inner = {f.source: cls.complete(r) for f in record.fields if (r := _inner_record(f.kind)) and _is_typed(f.kind)}
        texts = frozenset(f.source for f in record.fields if not _is_typed(f.kind))
        return cls(texts=texts, inner=inner, open=not _has_struct_names(record))

    def is_all_typed(self) -> bool:
        """Whether the objects of every level have only declared fields, which are all read by type."""
        own = not (self.open or self.texts or self.expected)
        return own and all(plan.is_all_typed() for plan in self.inner.values())

    def may_round(self, record: Record) -> bool:
        """Whether a field is read by a type that rounds numbers, or an absent one would be."""
        if self.open or self.numbers_as_texts:
            return False
        if self.absent or any(_is_rounded(f.kind) and f.source not in self.texts for f in record.fields):
            return True
        inner = ((name, plan) for name, plan in self.inner.items() if name not in self.texts)
        return any(plan.may_round(_level(record, name)) for name, plan in inner)

    def with_numbers_as_texts(self, record: Record) -> LevelPlan:
        """The plan that reads as text every field whose type rounds numbers."""
        rounded = {f.source for f in record.fields if _is_rounded(f.kind)} - self.absent
        inner = {name: plan.with_numbers_as_texts(_level(record, name)) for name, plan in self.inner.items()}
        return replace(self, texts=self.texts | rounded, inner=inner, numbers_as_texts=True)

    def expecting(self, record: Record) -> LevelPlan:
        """The plan that expects the same declared fields and nothing else, and reads them by type if it can."""
        fields = [f for f in record.fields if f.source not in self.absent]
        inner = {
            f.source: self.inner.get(f.source, LevelPlan.unseen(level)).expecting(level)
            for f in fields
            if (level := _inner_record(f.kind)) and _is_typed(f.kind)
        }
        texts = frozenset(f.source for f in fields if not _is_typed(f.kind))
        return LevelPlan(texts=texts, inner=inner, open=not _has_struct_names(record), absent=self.absent)

    def expects_fields(self, record: Record) -> bool:
        """Whether it expects any declared field."""
        return any(f.source not in self.absent for f in record.fields)

    def has_absent(self) -> bool:
        """Whether a declared field of any level is taken to be absent."""
        return bool(self.absent) or any(plan.has_absent() for plan in self.inner.values())

    def learn(self, record: Record, raws: Sequence[bytes], share: float | None = COMMON_SHARE) -> LevelPlan:
        """The plan that expects every declared field that these objects have, and what is common among them.

        If nothing is new, it is equal.

        Args:
            record: The level.
            raws: Its objects.
            share: The share of the objects that an undeclared name or a misfit must have. If None, only declared fields
                are learnt.
        """
        sample = _Sample(record, self)
        for raw in raws:
            sample.add(raw)
        return sample.plan(share)


class _Sample:
    """What a sample of one level's objects has that the plan does not expect."""

    def __init__(self, record: Record, plan: LevelPlan) -> None:
        self._record = record
        self._plan = plan
        self._kinds = {f.source: f.kind for f in record.fields}
        self._seen: set[str] = set()
        self._texts = set(plan.texts)
        self._undeclared: list[list[str]] = []
        self._misfits: Counter[str] = Counter()
        self._inner: dict[str, list[bytes]] = {name: [] for name in plan.inner}

    def add(self, raw: bytes) -> None:
        undeclared = []
        for name, slice_ in as_object(raw).items():
            if name not in self._kinds:
                undeclared.append(name)
                continue
            if name in self._plan.absent and name not in self._seen:
                self._add_field(name)
            if name not in self._texts and (value := bytes(slice_)) != b"null":
                self._add_value(name, value)
        self._undeclared.append(undeclared)

    def _add_field(self, name: str) -> None:
        """Adds a field that the plan takes to be absent."""
        self._seen.add(name)
        kind = self._kinds[name]
        if not _is_typed(kind) or (self._plan.numbers_as_texts and _is_rounded(kind)):
            self._texts.add(name)
        elif _inner_record(kind):
            self._inner[name] = []

    def _add_value(self, name: str, value: bytes) -> None:
        kind = self._kinds[name]
        element = kind.element()
        items = [value] if element is kind else _items(value)
        if not all(_is_typical(element, item) for item in items):
            self._misfits[name] += 1
        elif name in self._inner:
            self._inner[name] += items

    def plan(self, share: float | None) -> LevelPlan:
        """The plan that also expects what is in the sample. The argument is that of `LevelPlan.learn`."""
        floor = None if share is None else share * len(self._undeclared)
        inner = {name: self._learnt(name, raws, share) for name, raws in self._inner.items()}
        texts = {name for name, below in inner.items() if below.open}
        expected, is_open = self._plan.expected, self._plan.open
        if floor is not None:
            texts |= {name for name, count in self._misfits.items() if count >= floor}
            expected = tuple(sorted(self._expected(floor)))
            surprised = sum(any(name not in expected for name in names) for names in self._undeclared)
            is_open = is_open or surprised > OPEN_SHARE * len(self._undeclared)
        return LevelPlan(
            expected,
            frozenset(self._texts | texts),
            {name: below for name, below in inner.items() if name not in texts},
            is_open,
            self._plan.absent - self._seen,
            self._plan.numbers_as_texts,
        )

    def _learnt(self, name: str, raws: Sequence[bytes], share: float | None) -> LevelPlan:
        """The plan of a level below."""
        level = _level(self._record, name)
        plan = self._plan.inner.get(name)
        if plan is None:
            plan = LevelPlan.unseen(level, numbers_as_texts=self._plan.numbers_as_texts)
        return plan.learn(level, raws, None if share is None else COMMON_SHARE) if raws else plan

    def _expected(self, floor: float) -> set[str]:
        counts = Counter(name for names in self._undeclared for name in names)
        expected = set(self._plan.expected)
        for name, count in counts.most_common():
            fits = is_struct_name(name) and name not in OVERFLOW_NAMES
            if count >= floor and fits and len(expected) < MAX_EXPECTED_NAMES:
                expected.add(name)
        return expected


def _items(value: bytes) -> list[bytes]:
    """The items of a list that are not null; for any other value, a text that is typical of no kind."""
    return [item for item in map(bytes, as_list(value)) if item != b"null"] if value[:1] == b"[" else [b""]


def _inner_record(kind: Kind) -> Record | None:
    """The record of a field that holds a record or a list of records; None for any other field."""
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


def _field_count(record: Record) -> int:
    """The number of fields at all levels. Those within unions count as one."""
    inner = [_inner_record(f.kind) for f in record.fields]
    return len(inner) + sum(_field_count(level) for level in inner if level)


def _has_struct_names(record: Record) -> bool:
    return all(is_struct_name(f.source) for f in record.fields)


def _is_typical(kind: Kind, value: bytes) -> bool:
    if isinstance(kind, Record):
        return value[:1] == b"{"
    assert kind.reader is not None  # otherwise the field is read as text
    return kind.reader.typical.match(value) is not None


def _level(record: Record, name: str) -> Record:
    """The record of the field that the source calls `name`."""
    level: Any = next(_inner_record(f.kind) for f in record.fields if f.source == name)
    assert isinstance(level, Record)
    return level
