"""Whether a reader returns what the source wrote, determined without the library's own conversion rules.

A value is present if its column holds it in Python's terms, or if the record's overflow map holds its text. For
tests with independent readers.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.kinds.union import Union
from s3dest_dagster.columns.names import OVERFLOW, OVERFLOW_ALIAS

_value_at = json.JSONDecoder().raw_decode
_BETWEEN = re.compile(r"[\s,:]*")
_ZONE = r"Z|UTC|GMT|[+-]\d\d(?::?\d\d)?|\w+/\w+|"
_MOMENT = re.compile(
    rf"(?:(\d{{4}})[-/. ](\d\d)[-/. ](\d\d))?[T ]?(?:(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?)? ?({_ZONE})"
)


def lost(record: Record, row: Mapping[str, Any], source: str) -> list[str]:
    """The parts of a source's record (or of a nested object) that are missing from a reader's row, in words."""
    overflow = _overflow(row[OVERFLOW])
    fields = {field.source: field for field in record.fields}
    members = [(name, value) for name, value in pairs(source) if value != "null"]
    unfounded = {name for name, field in fields.items() if row[field.name] is not None} - dict(members).keys()
    found = [f"{name} was not there, and is {row[fields[name].name]!r}" for name in sorted(unfounded)]
    for name, value in members:
        landed = row[fields[name].name] if name in fields else None
        is_there = landed is not None and is_same(fields[name].kind, landed, value)
        if not is_there and not _is_kept(name, value, overflow):
            found.append(f"{name} {value} became {landed!r}, overflow {overflow}")
    return found


def _overflow(landed: Any) -> dict[str, str]:
    """An Arrow map as readers return it: a dict, pairs, or, by Polars before version 2, a list of structs."""
    if isinstance(landed, list) and landed and isinstance(landed[0], Mapping):
        assert all(each.keys() == {"key", "value"} for each in landed), landed
        return {each["key"]: each["value"] for each in landed}
    return dict(landed or ())


def pairs(source: str) -> Iterator[tuple[str, str]]:
    """Names and values of a JSON object, with the values as the source spells them."""
    texts = iter(values(source))
    for name in texts:
        yield json.loads(name), next(texts)


def values(source: str) -> list[str]:
    """The values of a JSON list, or names and values of an object, as the source spells them."""
    found, position = [], _BETWEEN.match(source, 1).end()
    while source[position] not in "]}":
        _, end = _value_at(source, position)
        found.append(source[position:end])
        position = _BETWEEN.match(source, end).end()
    return found


def text_of(value: str) -> str:
    """The text of a value in the overflow map: a text stays unchanged, and anything else is spelled as in the
    source."""
    return json.loads(value) if value[0] == '"' else value


def is_same(kind: Kind, landed: Any, value: str) -> bool:
    """Whether a reader's value equals that of the source exactly."""
    if isinstance(landed, dict) and OVERFLOW not in landed:  # Parquet has a union as a struct of which one is set
        members = [name for name, member in landed.items() if member is not None and name != "type"]
        if "type" in landed and members != [landed["type"]]:  # it names the one that is set
            return False
        landed = landed[members[0]] if members else None
    if value == "null" or landed is None:
        return value == "null" and landed is None
    if isinstance(landed, dict):
        return value[0] == "{" and not lost(_part(kind, Record), landed, value)
    if isinstance(landed, list):
        return value[0] == "[" and _are_same(_part(kind, Array).item, landed, values(value))
    if isinstance(landed, str):
        return landed == text_of(value)
    return _is_same_scalar(landed, value)


def _is_kept(name: str, value: str, overflow: Mapping[str, str]) -> bool:
    """Whether the overflow contains the text under this name, or under a derived name if the name was taken."""
    made_of_it = re.compile(rf"(?:.*\.)?{re.escape(name)}(?:\.[0-9]+)?", re.DOTALL)
    if text_of(value) in [text for key, text in overflow.items() if made_of_it.fullmatch(key)]:
        return True
    own = name in (OVERFLOW, OVERFLOW_ALIAS) and value[0] == "{"
    return own and all(_is_kept(inner, text, overflow) for inner, text in pairs(value) if text != "null")


def _are_same(kind: Kind, landed: list[Any], texts: list[str]) -> bool:
    return len(landed) == len(texts) and all(is_same(kind, *both) for both in zip(landed, texts, strict=True))


def _is_same_scalar(landed: Any, value: str) -> bool:
    if isinstance(landed, bool):
        return value == ("true" if landed else "false")
    if isinstance(landed, bytes):
        return base64.b64encode(landed).decode() == text_of(value)
    if isinstance(landed, time) and landed.utcoffset() == timedelta(0):  # as DuckDB 1.1 returns times in UTC
        landed = landed.replace(tzinfo=None)
    if isinstance(landed, datetime | date | time):
        return landed == _moment(type(landed), text_of(value))
    try:
        return Decimal(text_of(value)) in _spellings(landed)
    except InvalidOperation:  # an exponent of more than 18 digits
        return False


def _spellings(landed: float) -> list[Decimal]:
    """The decimals to which a number is nearest, according to its shortest texts."""
    is_32_bit = isinstance(landed, float) and abs(landed) < 2.0**128 and float(np.float32(landed)) == landed
    return [Decimal(repr(landed)), *([Decimal(str(np.float32(landed)))] if is_32_bit else [])]


def _moment(kind: type, text: str) -> datetime | date | time | None:
    """A date, a time, or a date and time in UTC, from the spellings that the tests use. `None` for any other text."""
    if (match := _MOMENT.fullmatch(text)) is None:
        return None
    *parts, fraction, zone = match.groups()
    year, month, day, hour, minute, second = (int(part or 0) for part in parts)
    micros = Decimal(f"0.{fraction or 0}") * 1_000_000
    assert micros == int(micros), "a microsecond is the finest that lands as a moment"
    at = datetime(year or 2000, month or 1, day or 1, hour, minute, second, int(micros), UTC)
    at = at.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) if "/" in zone else at - _offset(zone)
    return at if kind is datetime else at.date() if kind is date else at.time()


def _offset(zone: str) -> timedelta:
    digits = re.sub(r"\D", "", zone).ljust(4, "0")
    ahead = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -ahead if zone.startswith("-") else ahead


def _part(kind: Kind, of: type) -> Any:
    """The record, or the list, that a position of this kind can hold."""
    return next(part for part in (kind.branches if isinstance(kind, Union) else (kind,)) if isinstance(part, of))
