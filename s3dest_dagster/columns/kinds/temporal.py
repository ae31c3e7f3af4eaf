"""Dates, times of day and timestamps, which are strings in JSON.

The accepted texts are those of the connector's converter (`DateTimeUtils`, json-avro-converter 1.1.0): "-", "/", "." or
a blank between year, month and day; month numbers or English short names; "T" or a blank before the time; optional
seconds and fraction; zones. Values never change: a day or hour that does not exist, or a time finer than a microsecond,
does not parse. A value outside the years 1 to 9999 in UTC does not parse either, since many readers fail on a whole
file because of one such value.

Arrow parses the ordinary forms of a column. Its own parsers accept more than these rules ("T03Z", the year 0, a date
alone as a timestamp, years that an offset moves beyond 9999) and less (separators, month names), and stop at the first
text that they refuse. So they get only texts that match a pattern; all other texts are parsed one by one.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.columns.binary_columns import OTHER, QUOTE, TEXT, JsonTexts, Mask, as_text, json_texts, mask_of
from s3dest_dagster.columns.conversion_log import ConversionLog
from s3dest_dagster.columns.iso_texts import FIRST_DAY, LAST_DAY, beyond_range
from s3dest_dagster.columns.kinds import UNFIT, BranchClaim, Column, Kind, ReaderTypes, Widening
from s3dest_dagster.columns.kinds.scalar import Scalar, ScalarDecoder, ScalarRule

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
"""In microseconds."""
_DAYS_BEFORE_1970 = 1 - FIRST_DAY
_FIRST_MICROS, _LAST_MICROS = FIRST_DAY * _DAY, (LAST_DAY + 1) * _DAY - 1
"""0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z, in microseconds since 1970."""

_TIMESTAMP = pa.timestamp("us", "UTC")
_LOCAL = pa.timestamp("us")
_TIME_OF_DAY = pa.time64("us")
_NONE = pa.scalar(None, pa.string())
# These are the forms that Arrow parses, as patterns for RE2.
_ARROW_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6}0{0,3})?)?"
_ARROW_DATE = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_SAMPLE = 16
"""How many texts are cast as a trial before the whole column, since a failed cast costs time for every value."""
_COLON_AT, _SHORTEST = 13, 16
"""The position of the colon in "2021-01-02T03:04", and its length. Shorter texts that Arrow accepts lack a time."""


def date_days(text: str) -> int | None:
    """Days since 1970-01-01 of a date, or of a date and time at midnight in UTC or without a zone; else None."""
    if match := _DATE_ONLY.match(text):
        return _days(match)
    if not (match := _DATE_TIME.match(text)) or match["zone"] not in _UTC:
        return None
    return _days(match) if _micros_of_day(match) == 0 else None


def time_micros(text: str) -> int | None:
    """Microseconds since midnight of a time of day, converted to UTC if it has an offset; None if it does not parse."""
    match = _TIME_ONLY.match(text)
    clock = _micros_of_day(match) if match else None
    if match is None or clock is None:
        return None
    return (clock - _offset(match["zone"])) % _DAY


def timestamp_micros(text: str) -> int | None:
    """Microseconds since 1970-01-01T00:00:00Z of a date and time, which is in UTC if it has no zone; else None."""
    match = _DATE_TIME.match(text)
    days, clock = (_days(match), _micros_of_day(match)) if match else (None, None)
    if match is None or days is None or clock is None:
        return None
    local, zone = days * _DAY + clock, match["zone"]
    instant = local - _offset(zone) if zone is None or "/" not in zone else _in_region(local, zone)
    return instant if instant is not None and _FIRST_MICROS <= instant <= _LAST_MICROS else None


def local_micros(text: str) -> int | None:
    """Microseconds from 1970-01-01T00:00:00 to a date and time without a zone, on the same clock; else None."""
    match = _DATE_TIME.match(text)
    return None if match is None or match["zone"] is not None else timestamp_micros(text)


def _days(match: re.Match[str]) -> int | None:
    """Days since 1970-01-01 in the proleptic Gregorian calendar; None for a day that does not exist."""
    month = _MONTHS.get(match["month"]) or int(match["month"])
    try:
        return date(int(match["year"]), month, int(match["day"])).toordinal() - _DAYS_BEFORE_1970
    except ValueError:
        return None


def _micros_of_day(match: re.Match[str]) -> int | None:
    """The time of day in microseconds; None if it is finer than a microsecond."""
    fraction = (match["fraction"] or "").ljust(9, "0")
    if fraction[6:] != "000":
        return None
    seconds = int(match["hour"]) * 3600 + int(match["minute"]) * 60 + int(match["second"] or 0)
    return seconds * _SECOND + int(fraction[:6])


def _offset(zone: str | None) -> int:
    """The offset of a fixed zone from UTC in microseconds, positive if it is ahead."""
    if zone is None or zone in ("Z", "UTC", "GMT"):
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    return (-minutes if zone[0] == "-" else minutes) * 60 * _SECOND


def _in_region(local: int, zone: str) -> int | None:
    """The instant of a local time in a region; the earlier one if there are two.

    None if clocks skipped the local time or the region is unknown.
    """
    region = _region(zone)
    try:
        wall = datetime(1970, 1, 1) + timedelta(microseconds=local)
        instant = wall.replace(tzinfo=region).astimezone(UTC)
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


def _read_timestamps(strings: pa.Array) -> pa.Array:
    """The timestamps of a string column; null for texts that Arrow does not parse."""
    for type_ in (_TIMESTAMP, _LOCAL):
        if (stamps := _cast_whole(strings, type_)) is not None:
            return stamps
    fits = pc.match_substring_regex(strings, rf"^{_ARROW_DATE}[T ]{_ARROW_TIME}(?:Z|{_OFFSET})?$")
    body = _with_six_digits(strings)
    zoned = pc.match_substring_regex(strings, r"(?:Z|[T ].*[+-]\d\d(?::?\d\d)?)$")
    if pc.any(pc.invert(zoned)).as_py():
        body = pc.if_else(zoned, body, pc.binary_join_element_wise(body, "Z", ""))
    stamps = _cast_fitting(body, fits, _TIMESTAMP)
    return pc.if_else(beyond_range(stamps), pa.scalar(None, _TIMESTAMP), stamps)


def _read_local(strings: pa.Array) -> pa.Array:
    """The timestamps without a zone of a string column; null for other texts."""
    if (stamps := _cast_whole(strings, _LOCAL)) is not None:
        return stamps.cast(_LOCAL)
    fits = pc.match_substring_regex(strings, rf"^{_ARROW_DATE}[T ]{_ARROW_TIME}$")
    return _cast_fitting(_with_six_digits(strings), fits, _LOCAL)


def _cast_whole(strings: pa.Array, type_: pa.DataType) -> pa.Array | None:
    """The column by one cast; None unless all texts are dates and times, and either all or none have a zone."""
    try:
        strings.slice(0, _SAMPLE).cast(type_)
        stamps = strings.cast(type_).cast(_TIMESTAMP)
    except pa.ArrowInvalid:
        return None
    texts = strings.drop_null()
    if not len(texts):
        return stamps
    starts = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts)]
    data = np.frombuffer(texts.buffers()[2], np.uint8)
    if pc.min(pc.binary_length(texts)).as_py() < _SHORTEST or (data[starts + _COLON_AT] != ord(":")).any():
        return None
    bounds = pc.min_max(stamps.cast(pa.int64())).as_py()
    # An offset is less than a day, so an instant of the first day of year 1 may be written in the year 0.
    return stamps if bounds["min"] >= _FIRST_MICROS + _DAY and bounds["max"] <= _LAST_MICROS else None


def _read_dates(strings: pa.Array) -> pa.Array:
    fits = pc.match_substring_regex(strings, rf"^{_ARROW_DATE}(?:T00:00:00(?:\.0{{1,9}})?Z?)?$")
    return _cast_fitting(pc.utf8_slice_codeunits(strings, 0, 10), fits, pa.date32())


def _read_times(strings: pa.Array) -> pa.Array:
    body = pc.replace_substring_regex(strings, r"Z$", "")
    fits = pc.match_substring_regex(body, rf"^{_ARROW_TIME}$")
    stamps = pc.binary_join_element_wise("1970-01-01T", _with_six_digits(body), "")
    return pc.if_else(fits, stamps, _NONE).cast(pa.timestamp("us")).cast(pa.int64()).cast(_TIME_OF_DAY)


def _cast_fitting(strings: pa.Array, fits: pa.Array, type_: pa.DataType) -> pa.Array:
    """The fitting texts, cast. If one is not a real day (30 February), only texts with days 1 to 28 are cast."""
    fits = pc.and_(fits, pc.invert(pc.starts_with(strings, "0000")))
    try:
        return pc.if_else(fits, strings, _NONE).cast(type_)
    except pa.ArrowInvalid:
        in_every_month = pc.match_substring_regex(strings, r"^.{8}(?:[01]|2[0-8])")
        return pc.if_else(pc.and_(fits, in_every_month), strings, _NONE).cast(type_)


def _with_six_digits(strings: pa.Array) -> pa.Array:
    """The texts without zeros after the sixth digit of the fraction, since Arrow refuses those."""
    if not pc.any(pc.match_substring_regex(strings, r"\.\d{7}")).as_py():
        return strings
    return pc.replace_substring_regex(strings, r"(\.\d{6})0+(Z|[+-]|$)", r"\1\2")


class _TemporalRule(ScalarRule):
    def __init__(self, path: str, kind: Any) -> None:
        super().__init__(path, kind)
        self._parse = kind.parse

    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        value = self._parse(as_text(raw)) if raw[0] == QUOTE else None
        return UNFIT if value is None else value


class TemporalDecoder(ScalarDecoder):
    """Decodes a temporal kind without an additional string: a text that does not parse is unfit."""

    def decode(self, raws: Sequence[Any]) -> Column:
        texts = json_texts(raws)
        column = self.decode_read(texts.of_kind(TEXT))
        if (others := texts.rows_of(OTHER)).size:
            column.unfit = np.union1d(column.unfit, others)
        return column

    def decode_read(self, data: pa.Array) -> Column:
        values = self._kind.column(data)
        if values.null_count == data.null_count:
            return self.of_values(values)
        return self._with_unparsed(values, data)

    def _with_unparsed(self, values: pa.Array, strings: pa.Array) -> Column:
        return Column(values, unfit=np.flatnonzero(mask_of(pc.and_(values.is_null(), strings.is_valid()))))

    def claim(self, raws: Sequence[Any], texts: JsonTexts, left: Mask) -> BranchClaim:
        strings = texts.where(left & (texts.kinds == TEXT))
        values = self.decode_read(strings).data
        return BranchClaim(values, mask_of(values.is_valid()), np.zeros_like(left))


class TemporalBesideTextDecoder(TemporalDecoder):
    """Decodes a temporal kind in Avro's layout: a struct whose second member holds the texts that do not parse."""

    def of_values(self, values: pa.Array) -> Column:
        return Column(self._struct(values, pa.nulls(len(values), pa.string()), values))

    def _with_unparsed(self, values: pa.Array, strings: pa.Array) -> Column:
        return Column(self._struct(values, pc.if_else(values.is_null(), strings, _NONE), strings))

    def _struct(self, values: pa.Array, texts: pa.Array, present: pa.Array) -> pa.Array:
        mask = present.is_null() if present.null_count else None
        return pa.StructArray.from_arrays([values, texts], fields=list(self.type), mask=mask)


class Temporal(Scalar):
    """A kind that arrives as a text, which may not parse. In Avro, it has a plain string beside it for such texts."""

    reader = ReaderTypes(pa.string(), str, re.compile(rb'"'))
    python_type = int
    rule_type = _TemporalRule
    decoder_type = TemporalDecoder

    @staticmethod
    @abstractmethod
    def parse(text: str) -> int | None:
        """The integer that stands for the value of a text; None if it does not parse."""

    @staticmethod
    @abstractmethod
    def read_ordinary(strings: pa.Array) -> pa.Array:
        """The column of the texts that Arrow parses like `parse`; null for other texts."""

    def column(self, strings: pa.Array) -> pa.Array:
        """The values of a string column; null if a text does not parse."""
        values = self.read_ordinary(strings)
        if values.null_count == strings.null_count:
            return values
        others = pc.and_(values.is_null(), strings.is_valid())
        parsed = pa.array(map(self.parse, strings.filter(others).to_pylist()), values.type)
        return pc.replace_with_mask(values, others, parsed)

    def casts_from(self, column: pa.Array) -> bool:
        """False also if there are values that readers cannot hold (the year 32103)."""
        return super().casts_from(column) and not pc.any(beyond_range(column)).as_py()

    def avro_storage(self, column: pa.Array) -> pa.Array:
        return column.cast(pa.int64())

    def json_value(self, value: Any) -> Any:
        text = pa.scalar(value, self.arrow).cast(pa.string()).as_py()
        return str(text).replace(" ", "T")


class Date(Temporal):
    """A day."""

    word = "date"
    arrow = pa.date32()
    avro = {"type": "int", "logicalType": "date"}  # noqa: RUF012  # a class attribute, never changed
    avro_name = "int"
    avro_tag = "date"
    parse = staticmethod(date_days)
    read_ordinary = staticmethod(_read_dates)
    castable = (pt.is_date,)

    def avro_storage(self, column: pa.Array) -> pa.Array:
        return column.cast(pa.int32()).cast(pa.int64())

    def widened_by(self, other: Kind, widening: Widening) -> Kind | None:
        return other if isinstance(other, Timestamp | LocalTimestamp) else super().widened_by(other, widening)


class Time(Temporal):
    """A time of day in UTC, in microseconds."""

    word = "time"
    arrow = _TIME_OF_DAY
    avro = {"type": "long", "logicalType": "time-micros"}  # noqa: RUF012
    avro_name = "long"
    loses_offset = True
    parse = staticmethod(time_micros)
    read_ordinary = staticmethod(_read_times)
    castable = (pt.is_time,)


class Timestamp(Temporal):
    """An instant, in microseconds."""

    word = "timestamp"
    arrow = _TIMESTAMP
    avro = {"type": "long", "logicalType": "timestamp-micros"}  # noqa: RUF012
    avro_name = "long"
    loses_offset = True
    parse = staticmethod(timestamp_micros)
    read_ordinary = staticmethod(_read_timestamps)
    castable = (pt.is_timestamp,)


def _is_local(type_: pa.DataType) -> bool:
    return bool(pt.is_timestamp(type_) and type_.tz is None)


class LocalTimestamp(Temporal):
    """A date and time without a zone, in microseconds. A text with a zone does not parse."""

    word = "local_timestamp"
    arrow = _LOCAL
    avro = {"type": "long", "logicalType": "local-timestamp-micros"}  # noqa: RUF012
    avro_name = "long"
    parse = staticmethod(local_micros)
    read_ordinary = staticmethod(_read_local)
    castable = (_is_local,)


DATE = Date()
TIME = Time()
TIMESTAMP = Timestamp()
LOCAL_TIMESTAMP = LocalTimestamp()
