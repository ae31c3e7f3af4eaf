"""Dates, times and timestamps: every accepted form is parsed exactly, and columns follow the rules."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3dest_dagster.columns.kinds.temporal import DATE, TIME, TIMESTAMP, date_days, time_micros, timestamp_micros

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(*parts) -> int:
    return (datetime(*parts, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    "text",
    [
        "2021-03-04T05:06:07Z",
        "2021-03-04 05:06:07",
        "2021/3/4 05:06:07.0",
        "2021.03.04T05:06:07.000000000Z",
        "2021 Mar 04 05:06:07 UTC",
        "2021-Mar-4T05:06:07 GMT",
        "2021-03-04T06:06:07+01:00",
        "2021-03-04T06:06:07+0100",
        "2021-03-04T06:06:07 +01",
        "2021-03-03T23:36:07-0530",
        "2021-03-04T06:06:07 Europe/Berlin",
        "2021-03-04T00:06:07America/New_York",
        "2021-03-04 AD 05:06:07",
    ],
)
def test_one_instant_in_many_forms(text):
    assert timestamp_micros(text) == micros(2021, 3, 4, 5, 6, 7)


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(".1", 100_000), (".12", 120_000), (".123456", 123_456), (".1234560", 123_456), (".000001000", 1)],
)
def test_fractions_of_one_to_nine_digits(fraction, expected):
    assert timestamp_micros(f"1970-01-01T00:00:00{fraction}Z") == expected
    assert time_micros(f"00:00:00{fraction}") == expected


@pytest.mark.parametrize(
    "text",
    [
        *("2021-02-30T00:00:00Z", "2021-01-01T24:00:00Z", "2021-01-01T12:00:60Z", "2021-13-01T00:00:00Z"),
        *("2021-01-01", "2021-01-01T03Z", "2021-01-01T3:04:05", "21-01-01T00:00:00Z", "2021-01-01t00:00:00z"),
        *(
            "0000-01-01T00:00:00Z",
            "-2021-01-01T00:00:00Z",
            "12021-01-01T00:00:00Z",
            "20210101T000000Z",
            "1609462861000",
        ),
        *("2021-01-01T00:00:00.1234567Z", "2021-01-01T00:00:00.Z", "2021-01-01T00:00:00.0000000000Z"),
        *("2021-01-01T00:00:00+24:00", "2021-01-01T00:00:00+1", "2021-01-01T00:00:00 EST", " 2021-01-01T00:00:00Z"),
        *("2021-01-01T00:00:00Z ", "2021-01-01T00:00:00 No/Where", "2021-03-28T02:30:00 Europe/Berlin"),
        *(
            "2021-01-01T00:00:00Z\n",
            "٢٠٢١-01-01T00:00:00Z",
            "2021-01-01 AD 00:00:00 AD",
        ),
        *("", "null", "2021-JAN-01T00:00:00Z", "../etc/x"),
    ],
)
def test_texts_that_are_no_timestamp_do_not_parse(text):
    assert timestamp_micros(text) is None


def test_an_ambiguous_local_time_is_the_earlier_instant():
    assert timestamp_micros("2021-10-31T02:30:00 Europe/Berlin") == micros(2021, 10, 31, 0, 30)


def test_the_first_and_the_last_instant_of_the_years_1_to_9999():
    assert timestamp_micros("0001-01-01T00:00:00Z") == micros(1, 1, 1)
    assert timestamp_micros("0001-01-01T05:30:00+05:30") == micros(1, 1, 1)
    assert timestamp_micros("9999-12-31T23:59:59.999999Z") == micros(9999, 12, 31, 23, 59, 59, 999999)
    assert timestamp_micros("9999-12-31T12:00:00-11:00") == micros(9999, 12, 31, 23)
    assert date_days("0001-01-01") == -719162
    assert date_days("9999-12-31") == 2932896


@pytest.mark.parametrize(
    "text",
    [
        *("9999-12-31T23:59:59-00:01", "0001-01-01T00:00:00+00:01", "0001-01-01T00:00:00.5+23:59"),
        *("9999-12-31T23:30 America/New_York", "0001-01-01T00:00 Asia/Tokyo"),
        *("2021-01-01T00:00:00Z BC", "2021-01-01 BC 00:00:00", "0044-03-15 BC 12:00"),
    ],
)
def test_instants_outside_the_years_1_to_9999_in_utc_do_not_parse(text):
    assert timestamp_micros(text) is None
    column = TIMESTAMP.column(pa.array([text, "2021-03-04T05:06:07Z"]))
    assert column.cast(pa.int64()).to_pylist() == [None, micros(2021, 3, 4, 5, 6, 7)]


@pytest.mark.parametrize(
    "text", ["2021-03-04", "2021/3/04", "2021 Mar 4", "2021-03-04T00:00:00.000Z", "2021-03-04 00:00"]
)
def test_one_day_in_many_forms(text):
    assert date_days(text) == date(2021, 3, 4).toordinal() - date(1970, 1, 1).toordinal()


@pytest.mark.parametrize(
    "text",
    [
        *("2021-03-04T00:00:01", "2021-03-04T00:00:00+01:00", "2021-02-29", "01/02/2021", "2021-01", "0000-01-01"),
        *("18628", "2021-1-1 BC", "0044-03-15BC", "10000-01-01"),
    ],
)
def test_texts_that_are_no_date_do_not_parse(text):
    assert date_days(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("01:02:03", time(1, 2, 3)),
        ("01:02", time(1, 2)),
        ("23:59:59.999999", time(23, 59, 59, 999999)),
        ("12:00:00Z", time(12)),
        ("12:00+01:00", time(11)),
        ("00:30:00+01:00", time(23, 30)),
        ("23:30:00-01:00", time(0, 30)),
    ],
)
def test_times_of_day_are_normalised_to_utc(text, expected):
    at = datetime.combine(date(1970, 1, 1), expected, UTC)
    assert time_micros(text) == (at - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    "text", ["24:00:00", "1:02:03", "12", "3661", "12:00:60", "12:00 Europe/Berlin", "12:00:00.1234567"]
)
def test_texts_that_are_no_time_do_not_parse(text):
    assert time_micros(text) is None


@given(st.datetimes(timezones=st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))))
def test_every_iso_timestamp_of_the_years_1_to_9999_is_parsed(at):
    instant = (at - EPOCH) // timedelta(microseconds=1)
    expected = instant if micros(1, 1, 1) <= instant <= micros(9999, 12, 31, 23, 59, 59, 999999) else None
    assert timestamp_micros(at.isoformat()) == timestamp_micros(at.isoformat(" ")) == expected


YEARS = st.sampled_from(["2021", "2024", "0001", "9999", "0000", "1969", "21"])
DAYS = st.sampled_from(["01", "28", "29", "30", "31", "00", "32", "1"])
MONTHS = st.sampled_from(["01", "02", "12", "13", "2", "Feb", "feb"])
SEPARATORS = st.sampled_from(["-", "-", "-", "/", ".", " "])
CLOCKS = st.sampled_from(["00:00:00", "00:00", "23:59:59", "24:00:00", "03", "12:00:60", "1:00:00", "T", ""])
FRACTIONS = st.sampled_from(["", "", ".1", ".123456", ".1234567", ".123456700", ".000000", ".000000000", "."])
ZONES = st.sampled_from(["Z", "Z", "", "+01:00", "-0530", "+02", "+24:00", " ", " UTC", " Europe/Berlin", " BC", "z"])
TEXTS = st.one_of(
    st.builds("".join, st.tuples(YEARS, SEPARATORS, MONTHS, SEPARATORS, DAYS)),
    st.builds("".join, st.tuples(CLOCKS, FRACTIONS, ZONES)),
    st.builds(
        "".join,
        st.tuples(YEARS, SEPARATORS, MONTHS, SEPARATORS, DAYS, st.sampled_from("TT t"), CLOCKS, FRACTIONS, ZONES),
    ),
    st.text(max_size=3),
)


@pytest.mark.parametrize("kind", [DATE, TIME, TIMESTAMP], ids=lambda kind: kind.word)
@settings(max_examples=8 * settings().max_examples)  # they are cheap
@given(texts=st.lists(st.none() | TEXTS, max_size=8) | TEXTS.map(lambda text: [text] * 3))
def test_a_column_has_the_values_of_the_rules(kind, texts):
    integers = pa.int32() if kind is DATE else pa.int64()
    column = kind.column(pa.array(texts, pa.string())).cast(integers)
    assert column.to_pylist() == [None if text is None else kind.parse(text) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        *("2020-01-02T03Z", "2020-01-02T03+01:00", "2020-01-02", "2020-01-02T03", "0000-03-04T05:06:07Z"),
        *("0001-01-01T00:00:00+01:00", "2020-01-02T03:04", "2020-01-02 03:04Z", "2020-02-29T00:00:00Z", ""),
    ],
)
def test_a_column_that_arrow_would_cast_as_a_whole_has_the_values_of_the_rules(text):
    column = TIMESTAMP.column(pa.array([text, None, text]))
    assert column.cast(pa.int64()).to_pylist() == [timestamp_micros(text), None, timestamp_micros(text)]


def test_a_column_can_be_a_slice():
    texts = pa.array(["x", None, "2021-03-04T05:06:07Z", "2021-03-04T05:06:07Z"]).slice(2)
    assert TIMESTAMP.column(texts).cast(pa.int64()).to_pylist() == [micros(2021, 3, 4, 5, 6, 7)] * 2
