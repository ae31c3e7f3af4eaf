"""The values within a Python record, and a form of a record that spells its NaN and infinite numbers.

Must not know: batches, how a record is encoded.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw

_WORDS = (Raw(b"NaN"), Raw(b"Infinity"), Raw(b"-Infinity"))
"""What many programs write in JSON for NaN and infinities."""


def children_of(value: Any) -> Iterator[tuple[str, Any]] | None:
    """The nested values with their names. None for a value that has no nested values."""
    if hasattr(value, "model_dump") and not isinstance(value, type):
        value = value.model_dump()
    if isinstance(value, Mapping):
        return ((str(key), child) for key, child in value.items())
    if isinstance(value, msgspec.Struct):
        return ((name, getattr(value, name)) for name in value.__struct_fields__)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return ((f"[{index}]", child) for index, child in enumerate(value))
    return None


def with_words(value: Any) -> Any:
    """The value with a word, which JSON does not have, in place of every NaN and infinite number."""
    if isinstance(value, Decimal) and not value.is_finite():
        return _WORDS[0] if value.is_nan() else _WORDS[1 if value > 0 else 2]
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        return _WORDS[0] if value != value else _WORDS[1 if value > 0 else 2]
    if isinstance(value, msgspec.Struct):
        if value.__struct_config__.tag is not None:
            raise TypeError("a struct with a tag is only written as a whole")
        return {
            name: with_words(getattr(value, own))
            for own, name in zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        }
    children = children_of(value)
    if children is None:
        return value
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return [with_words(child) for _, child in children]
    return {name: with_words(child) for name, child in children}
