"""`{date:FORMAT}` follows the rules of Java's SimpleDateFormat."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.errors import TemplateError
from s3dest_dagster.keys import KeyTemplate
from s3dest_dagster.stream import Scope, StreamId

USERS = StreamId("public", "users")
UUID = "3f0c9a52-7e4d-4b7c-9d8e-0a1b2c3d4e5f"


def name(pattern: str, moment: datetime) -> str:
    template = KeyTemplate("", "x/", pattern)
    keys = template.bind(Scope(USERS), now=moment, uuid=UUID, sync_id="1")
    key = keys.key(0, ".csv", uploaded_at=moment)
    assert template.matcher(USERS).fullmatch(key)
    return key.removeprefix("x/")


MORNING = datetime(2021, 1, 5, 0, 7, 9, 45_678, tzinfo=UTC)
EVENING = datetime(2024, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


@pytest.mark.parametrize(
    ("pattern", "morning", "evening"),
    [
        ("{date}", "2021_01_05", "2024_12_31"),
        ("{date:yyyy-MM-dd}", "2021-01-05", "2024-12-31"),
        ("{date:yy.M.d}", "21.1.5", "24.12.31"),
        ("{date:y}", "2021", "2024"),
        ("{date:yyyyy}", "02021", "02024"),
        ("{date:MMM}", "Jan", "Dec"),
        ("{date:MMMM}", "January", "December"),
        ("{date:LLL}", "Jan", "Dec"),
        ("{date:E}", "Tue", "Tue"),
        ("{date:EEEE}", "Tuesday", "Tuesday"),
        ("{date:u}", "2", "2"),
        ("{date:F}", "1", "5"),
        ("{date:DDD}", "005", "366"),
        ("{date:D}", "5", "366"),
        ("{date:H-HH}", "0-00", "23-23"),
        ("{date:kk}", "24", "23"),
        ("{date:K}", "0", "11"),
        ("{date:h}", "12", "11"),
        ("{date:hh_a}", "12_AM", "11_PM"),
        ("{date:mm}", "07", "59"),
        ("{date:m.s}", "7.9", "59.59"),
        ("{date:SSS}", "045", "999"),
        ("{date:SSSSSS}", "000045", "000999"),
        ("{date:S}", "45", "999"),
        ("{date:HH'h'mm}", "00h07", "23h59"),
        ("{date:yyyy''MM}", "2021'01", "2024'12"),
        ("{date:'it''s'yyyy}", "it's2021", "it's2024"),
        ("{date:HHXZ}", "00Z+0000", "23Z+0000"),
        ("{date:yyyy/MM/dd}", "2021/01/05", "2024/12/31"),
        ("{date:yyyy MM}", "2021_01", "2024_12"),
    ],
)
def test_date_formats(pattern, morning, evening):
    assert name(pattern, MORNING) == morning
    assert name(pattern, EVENING) == evening


def test_dates_are_utc_whatever_the_zone_of_the_clock():
    tokyo = timezone(timedelta(hours=9))
    assert name("{date:yyyy-MM-dd'T'HH}", datetime(2021, 1, 1, 8, tzinfo=tokyo)) == "2020-12-31T23"


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("{date:}", "empty"),
        ("{date:HH:mm}", "second colon"),
        ("{date:yyyy'T}", "quote"),
        ("{date:ww}", "'ww' is not known"),
        ("{date:YYYY}", "'YYYY' is not known"),
        ("{date:z}", "'z' is not known"),
        ("{date:XXXX}", "'XXXX' is not known"),
    ],
)
def test_refused_date_formats_are_named_with_the_key_they_would_make(pattern, reason):
    with pytest.raises(TemplateError, match=re.escape(reason)) as caught:
        KeyTemplate("lake", "${STREAM_NAME}/", pattern)
    assert caught.value.setting == "file_name_pattern"
    assert f"lake/users/{pattern}" in str(caught.value)


@given(
    st.datetimes(datetime(2002, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
    st.lists(st.sampled_from(["yyyy", "MM", "dd", "HH", "mm", "ss", "SSS"]), min_size=1, max_size=7, unique=True),
)
def test_padded_numbers_agree_with_strftime(moment, fields):
    directives = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}
    milliseconds = f"{moment.microsecond:06d}"[:3]
    wanted = [milliseconds if each == "SSS" else moment.strftime(directives[each]) for each in fields]
    assert name(f"{{date:{'-'.join(fields)}}}", moment) == "-".join(wanted)
