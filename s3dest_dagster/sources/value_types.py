"""The types that values of Python records have and that JSON lacks: decimals, dates, times, moments, bytes, floats.

Must not know: batches, how a record is encoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

from s3dest_dagster.batch import FieldPath, ValueType, ValueTypes
from s3dest_dagster.sources.nested_values import children_of, is_missing

_PLAIN = frozenset({str, int, float, bool, type(None), UUID})
"""Types of values that JSON has, or that are texts, and that hold no others."""
_MOMENT_UNITS = frozenset({"h", "m", "s", "ms", "us", "ns"})


def types_of(records: Sequence[Any]) -> ValueTypes:
    """The types of the fields of these records that have a value of a type that JSON lacks."""
    collected = CollectedTypes()
    collected.add(records)
    return collected.pop()


class CollectedTypes:
    """The types of the values in records that are seen one after another."""

    def __init__(self) -> None:
        self._decimals: set[FieldPath] = set()
        self._others: dict[FieldPath, set[ValueType]] = {}
        self.needs_all = False
        """Whether a sample of the records is not enough: a double among 32-bit floats would be rounded."""

    def add(self, records: Sequence[Any]) -> None:
        """Adds the types of these records. Values of other types at a field are seen from the first `add` on that has
        one of a type that JSON lacks there."""
        found = {located for record in records for located in _located(record)}
        self._decimals.update(path for path, type_ in found if type_ is ValueType.DECIMAL)
        self.needs_all |= any(type_ is ValueType.FLOAT for _, type_ in found)
        for path in {path for path, type_ in found if type_ is not ValueType.DECIMAL}:
            self._others.setdefault(path, set())
        for path, types in self._others.items():
            values = (value for record in records for value in _values_at(record, path))
            types.update(type_of(value) or ValueType.OTHER for value in values)

    def pop(self) -> ValueTypes:
        """The types since the last call. Fields with decimals are named again and again."""
        found = {(path, ValueType.DECIMAL) for path in self._decimals}
        for path, types in self._others.items():
            if types and path not in self._decimals:
                found.add((path, types.pop() if len(types) == 1 else ValueType.OTHER))
            types.clear()
        return frozenset(found)


def type_of(value: Any) -> ValueType | None:
    """The type of one value that holds no others; None for a value that JSON has, or that becomes a plain text."""
    if isinstance(value, Decimal):
        return ValueType.DECIMAL
    if isinstance(value, datetime):
        return ValueType.LOCAL_TIMESTAMP if value.tzinfo is None else ValueType.TIMESTAMP
    if isinstance(value, date):
        return ValueType.DATE
    if isinstance(value, time):
        return ValueType.TIME if value.tzinfo is None else None
    if isinstance(value, bytes | bytearray | memoryview):
        return ValueType.BYTES
    if isinstance(value, np.datetime64):
        return _type_of_datetime64(value)
    return ValueType.FLOAT if isinstance(value, np.float32 | np.float16) else None


def _type_of_datetime64(value: np.datetime64) -> ValueType | None:
    unit = np.datetime_data(value.dtype)[0]
    if unit == "D":
        return ValueType.DATE
    return ValueType.LOCAL_TIMESTAMP if unit in _MOMENT_UNITS else None


def _located(value: Any, path: FieldPath = ()) -> Iterator[tuple[FieldPath, ValueType]]:
    """Yields the values of such a type, by their paths."""
    if isinstance(value, Mapping):
        if not _PLAIN.issuperset(map(type, value.values())):
            for name, inner in value.items():
                yield from _located(inner, (*path, str(name)))
    elif isinstance(value, list | tuple | set | frozenset):
        if not _PLAIN.issuperset(map(type, value)):
            yield from {below for inner in value for below in _located(inner, (*path, None))}
    elif type(value) in _PLAIN or is_missing(value):
        return
    elif (children := children_of(value)) is not None:
        for name, inner in children:
            yield from _located(inner, (*path, None if name.startswith("[") else name))
    elif (type_ := type_of(value)) is not None:
        yield path, type_


def _values_at(value: Any, path: FieldPath) -> Iterator[Any]:
    """Yields the values at a path that are not missing."""
    if value is None or is_missing(value):
        return
    if not path:
        yield value
    elif (children := children_of(value)) is not None:
        for name, inner in children:
            if name == path[0] or (path[0] is None and name.startswith("[")):
                yield from _values_at(inner, path[1:])
