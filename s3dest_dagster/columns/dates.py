"""Dates, times and timestamps by their text: the forms that are understood, one value at a time.

Understood is what the connector's converter understands (`DateTimeUtils`, json-avro-converter 1.1.0): the separators
"-", "/", "." and blank, month numbers and English short names, "T" or a blank before the time, seconds and fraction
left out or not, zones. Nothing is ever changed on the way: a day or hour that does not exist, and anything finer than a
microsecond, is a text that does not parse. Neither is what lies, in UTC, outside the years 1 to 9999: many readers fail
at a whole file for one such value. It must not know Arrow.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

_MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_DATE = rf"(?P<year>[0-9]{{4}})[-/. ](?P<month>[0-9]{{1,2}}|{'|'.join(_MONTHS)})[-/. ](?P<day>[0-9]{{1,2}})"
_TIME = r"(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9])(?::(?P<second>[0-5][0-9])(?:\.(?P<fraction>[0-9]{1,9}))?)?"
_OFFSET = r"[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?"
_FIXED = rf"Z|{_OFFSET}|UTC|GMT"
_REGION = r"[A-Z][A-Za-z_]*(?:/[A-Za-z0-9_+-]+)+"
_UTC = (None, "Z", "UTC", "GMT", "+00:00", "+0000", "+00")
_DATE_ONLY = re.compile(rf"{_DATE}(?: ?AD)?\Z")
_TIME_ONLY = re.compile(rf"{_TIME}(?: ?(?P<zone>{_FIXED}))?\Z")
_DATE_TIME = re.compile(rf"{_DATE}(?P<era> ?AD)?[T ]{_TIME}(?: ?(?P<zone>{_FIXED}|{_REGION}))?(?(era)| ?AD)?\Z")
_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_DAYS_BEFORE_1970 = 719_163
FIRST_MICROS, LAST_MICROS = -719_162 * _DAY, 2_932_897 * _DAY - 1
"""0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z."""


def date_days(text: str) -> int | None:
    """Days since 1970-01-01 of a date; a date and time is a date when its time is midnight, in UTC or without zone."""
    if match := _DATE_ONLY.match(text):
        return _days(match)
    if not (match := _DATE_TIME.match(text)) or match["zone"] not in _UTC:
        return None
    return _days(match) if _micros_of_day(match) == 0 else None


def time_micros(text: str) -> int | None:
    """Microseconds since midnight of a time of day, in UTC where it has an offset."""
    match = _TIME_ONLY.match(text)
    clock = _micros_of_day(match) if match else None
    if match is None or clock is None:
        return None
    return (clock - _offset(match["zone"])) % _DAY


def timestamp_micros(text: str) -> int | None:
    """Microseconds since 1970-01-01T00:00:00Z of a date and time; without a zone it is taken as UTC."""
    match = _DATE_TIME.match(text)
    days, clock = (_days(match), _micros_of_day(match)) if match else (None, None)
    if match is None or days is None or clock is None:
        return None
    local, zone = days * _DAY + clock, match["zone"]
    instant = local - _offset(zone) if zone is None or "/" not in zone else _in_region(local, zone)
    return instant if instant is not None and FIRST_MICROS <= instant <= LAST_MICROS else None


def _days(match: re.Match[str]) -> int | None:
    """Days since 1970-01-01 in the proleptic Gregorian calendar; None for a day that does not exist."""
    month = _MONTHS.get(match["month"]) or int(match["month"])
    try:
        return date(int(match["year"]), month, int(match["day"])).toordinal() - _DAYS_BEFORE_1970
    except ValueError:
        return None


def _micros_of_day(match: re.Match[str]) -> int | None:
    """The time of day; None where the fraction is finer than a microsecond."""
    fraction = (match["fraction"] or "").ljust(9, "0")
    if fraction[6:] != "000":
        return None
    seconds = int(match["hour"]) * 3600 + int(match["minute"]) * 60 + int(match["second"] or 0)
    return seconds * _SECOND + int(fraction[:6])


def _offset(zone: str | None) -> int:
    """Microseconds that a fixed zone is ahead of UTC."""
    if zone is None or zone in ("Z", "UTC", "GMT"):
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    return (-minutes if zone[0] == "-" else minutes) * 60 * _SECOND


def _in_region(local: int, zone: str) -> int | None:
    """The instant of a local time in a region; of two the earlier, None where clocks skipped it or the region is
    unknown."""
    region = _region(zone)
    try:
        wall = datetime(1970, 1, 1) + timedelta(microseconds=local)
        there = wall.replace(tzinfo=region)
        instant = there.astimezone(UTC)
        if region is None or instant.astimezone(region).replace(tzinfo=None) != wall:
            return None
    except OverflowError:
        return None
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@lru_cache(maxsize=1024)
def _region(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None
