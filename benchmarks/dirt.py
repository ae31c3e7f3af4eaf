"""Ordinary dirt in the users: values of other types, undeclared fields, dates of every form.

Each kind of dirt turns a clean record into one that a real source might give. It must not know messages or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from benchmarks.users import users

Record = dict[str, Any]

_MISFITS = (1.5, "n/a", True, "unknown", [3])
_OFFSETS = ("Z", "+02:00", "-07:30", "+05:45")


def _misfit_every(period: int) -> Callable[[int, Record], Record]:
    """An integer field that holds something else in every `period`-th record."""

    def spoil(number: int, record: Record) -> Record:
        return record if number % period else {**record, "age": _MISFITS[number // period % len(_MISFITS)]}

    return spoil


def _name_twice(number: int, record: Record) -> Record:
    """Repeats a field in every hundredth record, which no dict can hold."""
    return record if number % 100 else {**record, "age": msgspec.Raw(b'0,"age":%d' % record["age"])}


def _undeclared(number: int, record: Record) -> Record:
    return {**record, "loyalty_points": number % 1000}


def _three_undeclared(number: int, record: Record) -> Record:
    return {**record, "loyalty_points": number % 1000, "referrer": f"campaign {number % 50}", "visits": [number % 7, 2]}


def _undeclared_inside(number: int, record: Record) -> Record:
    return {**record, "address": {**record["address"], "floor": {"level": number % 12, "door": "left"}}}


def _offset_dates(number: int, record: Record) -> Record:
    moment, zone = record["created_at"][:19], _OFFSETS[number % len(_OFFSETS)]
    return {
        **record,
        "created_at": moment + zone,
        "updated_at": f"{record['updated_at'][:19]}.{number % 1000:03}{zone}",
    }


def _new_name_each_time(number: int, record: Record) -> Record:
    return {**record, f"sensor_{number:07}": number % 1000}


DIRT: dict[str, Callable[[int, Record], Record]] = {
    "misfit in 1 record of 100": _misfit_every(100),
    "misfit in 1 record of 5": _misfit_every(5),
    "name that occurs twice in 1 record of 100": _name_twice,
    "undeclared field in every record": _undeclared,
    "three undeclared fields in every record": _three_undeclared,
    "undeclared field inside an object, in every record": _undeclared_inside,
    "dates with offsets in every record": _offset_dates,
    "field name that never repeats, in every record": _new_name_each_time,
}
"""Each kind by what it says; a record's number, from 1, decides what it gets."""
NEVER_REPEATING = "field name that never repeats, in every record"


def dirty_users(kind: str, count: int, *, seed: int = 1) -> Iterator[Record]:
    """`count` users with this kind of dirt; KeyError for a kind that is not in `DIRT`."""
    spoil = DIRT[kind]
    return (spoil(number, record) for number, record in enumerate(users(count, seed=seed), 1))
