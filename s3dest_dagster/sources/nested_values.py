"""The values within a Python record, and forms of a record in which some of them are replaced.

Must not know: batches, how a record is encoded.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw

_WORDS = (Raw(b"NaN"), Raw(b"Infinity"), Raw(b"-Infinity"))
"""What many programs write in JSON for NaN and infinities."""
_DAY_S, _SECOND_US = 86_400, 1_000_000


def children_of(value: Any) -> Iterator[tuple[str, Any]] | None:
    """The nested values with the names that JSON has for them. None for a value that has no nested values."""
    if hasattr(value, "model_dump") and not isinstance(value, type):
        value = value.model_dump()
    if isinstance(value, Mapping):
        return ((str(key), child) for key, child in value.items())
    if isinstance(value, msgspec.Struct):
        names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        return ((name, getattr(value, own)) for name, own in names)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return ((f"[{index}]", child) for index, child in enumerate(value))
    return None


def is_missing(value: Any) -> bool:
    """Whether the value is NaT of pandas or numpy, or NA of pandas, which are null in a frame. Pandas need not be
    installed."""
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    if isinstance(value, datetime):
        return value != value
    return type(value).__name__ == "NAType" and type(value).__module__.partition(".")[0] == "pandas"


def with_words(value: Any) -> Any:
    """The value with a word, which JSON does not have, in place of every NaN and infinite number."""
    return _with_each(value, _as_word)


def with_microseconds(value: Any) -> Any:
    """The value with its number of microseconds in place of every `timedelta`."""
    return _with_each(value, lambda each: microseconds(each) if type(each) is timedelta else each)


def microseconds(value: timedelta) -> int:
    """The duration in microseconds, exactly."""
    return (value.days * _DAY_S + value.seconds) * _SECOND_US + value.microseconds


def _as_word(value: Any) -> Any:
    if isinstance(value, Decimal) and not value.is_finite():
        return _WORDS[0] if value.is_nan() else _WORDS[1 if value > 0 else 2]
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        return _WORDS[0] if value != value else _WORDS[1 if value > 0 else 2]
    return value


def _with_each(value: Any, change: Callable[[Any], Any]) -> Any:
    """The value with `change` applied to every value in it that has no nested values. The same object if none changes,
    so that its own way of being encoded stays."""
    children = children_of(value)
    if children is None:
        return change(value)
    pairs = [(name, child, _with_each(child, change)) for name, child in children]
    if all(new is child for _, child, new in pairs):
        return value
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return [new for _, _, new in pairs]
    members: dict[Any, Any] = {name: new for name, _, new in pairs}
    if not isinstance(value, msgspec.Struct):
        return members
    config = value.__struct_config__
    if config.tag is not None:
        members = {config.tag_field: config.tag, **members}
    return list(members.values()) if config.array_like else members
