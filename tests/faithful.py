"""Whether what a reader gives is what the source wrote, told without the library's own rules of conversion.

A value is there when its column holds it in Python's own terms, or when the record's overflow map has its text. For
property tests over readers that nobody here wrote.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np

from s3dest_dagster.schema.types import OVERFLOW, Array, Kind, Record, Union

Row = Mapping[str, Any]


def lost(record: Record, row: Row, source: Row) -> list[str]:
    """What of a source's record (or of a nested object) is not in the row that a reader gives of it, in words."""
    names = {field.source: field for field in record.fields}
    overflow = dict(row[OVERFLOW] or ())
    found = [f"{name}: overflow without a value" for name in overflow if source.get(name) is None]
    for name, value in source.items():
        landed = row[names[name].name] if name in names else None
        kept = overflow.get(name) == text_of(value)
        if value is not None and not kept and not (landed is not None and is_same(names[name].kind, landed, value)):
            found.append(f"{name}: {value!r} became {landed!r}, overflow {overflow.get(name)!r}")
        if value is None and landed is not None:
            found.append(f"{name}: null became {landed!r}")
    return found


def text_of(value: Any) -> str:
    """How a value stands in the overflow map."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def is_same(kind: Kind, landed: Any, value: Any) -> bool:
    """Whether a reader's value is the source's, exactly."""
    if isinstance(landed, dict) and OVERFLOW not in landed:  # Parquet has a union as a struct of which one is set
        landed = next((member for member in landed.values() if member is not None), None)
    if value is None or landed is None:
        return value is landed
    if isinstance(landed, dict):
        return isinstance(value, dict) and not lost(_record_in(kind), landed, value)
    if isinstance(landed, list):
        item = _array_in(kind).item
        pairs = zip(landed, value, strict=True)
        return isinstance(value, list) and len(landed) == len(value) and all(is_same(item, a, b) for a, b in pairs)
    return _is_same_scalar(landed, value)


def _is_same_scalar(landed: Any, value: Any) -> bool:
    if isinstance(landed, bool) or isinstance(value, bool):
        return landed is value or landed == text_of(value)
    if isinstance(landed, str):
        return landed == text_of(value)
    if isinstance(landed, bytes):
        return isinstance(value, str) and landed == base64.b64decode(value, validate=True)
    if isinstance(landed, datetime | date | time):
        return isinstance(value, str) and _is_same_moment(landed, value)
    return Decimal(text_of(value)) in _spellings(landed)


def _spellings(landed: float) -> set[Decimal]:
    """The decimals that a number is the nearest to, as its shortest texts say."""
    return {Decimal(repr(landed)), *({Decimal(str(np.float32(landed)))} if _is_32_bit(landed) else ())}


def _is_same_moment(landed: datetime | date | time, text: str) -> bool:
    if isinstance(landed, datetime):
        return landed == datetime.fromisoformat(text)
    return landed == type(landed).fromisoformat(text)


def _is_32_bit(number: float) -> bool:
    return isinstance(number, float) and abs(number) < 2.0**128 and float(np.float32(number)) == number


def _record_in(kind: Kind) -> Record:
    return next(part for part in _parts(kind) if isinstance(part, Record))


def _array_in(kind: Kind) -> Array:
    return next(part for part in _parts(kind) if isinstance(part, Array))


def _parts(kind: Kind) -> tuple[Kind, ...]:
    return kind.branches if isinstance(kind, Union) else (kind,)
