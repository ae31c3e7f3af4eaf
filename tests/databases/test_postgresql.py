"""PostgreSQL for real: types keep their values or are refused, reads see one snapshot. Opt-in: `make test-sql`."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from s3dest_dagster import SqlSource
from s3dest_dagster.batch import State
from s3dest_dagster.errors import SettingsError, SourceError

pytestmark = [pytest.mark.sql, pytest.mark.timeout(600)]


def value(postgresql, expression: str) -> Any:
    """The value of an expression, as it reaches a landing."""
    (batch,) = SqlSource(postgresql(), query=f"select {expression} as x").read()
    return batch.data.column(0)[0].as_py()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("9223372036854775807::bigint", 9223372036854775807),
        ("'-32768'::smallint", -32768),
        ("4294967295::oid", 4294967295),
        ("12.5::numeric(4, 2)", Decimal("12.50")),
        ("0.1234567890123456789::numeric(20, 19)", Decimal("0.1234567890123456789")),
        (f"'{'9' * 50}.12345'::numeric(55, 5)", Decimal("9" * 50 + ".12345")),
        (f"'{'9' * 80}.5'::numeric", "9" * 80 + ".5"),
        ("'NaN'::numeric", "NaN"),
        ("'-Infinity'::numeric", "-Infinity"),
        ("1.100::numeric", "1.100"),
        ("1e300::float8", 1e300),
        ("'-Infinity'::float8", float("-inf")),
        ("true", True),
        (r"'a\b''ü'", r"a\b'ü"),
        ("'x'::char(3)", "x  "),
        (r"'\x00ff'::bytea", b"\x00\xff"),
        ("'2024-02-29'::date", date(2024, 2, 29)),
        ("'12:34:56.123456'::time", time(12, 34, 56, 123456)),
        ("'12:34:56.5+02'::timetz", "12:34:56.5+02"),
        ("'2024-02-29 12:34:56.123456'::timestamp", datetime(2024, 2, 29, 12, 34, 56, 123456)),
        ("'2024-02-29 12:00+02'::timestamptz", datetime(2024, 2, 29, 10, tzinfo=UTC)),
        ("'300 years 2 mons 3 days 04:05:06.789'::interval", "P300Y2M3DT4H5M6.789S"),
        ('\'{"a": 1, "a": 1.000000000000000000000001}\'::json', '{"a": 1, "a": 1.000000000000000000000001}'),
        ("'{\"a\": 1e400}'::jsonb", '{"a": 1' + "0" * 400 + "}"),
        ("'12345678-9abc-def0-1234-56789abcdef0'::uuid", "12345678-9abc-def0-1234-56789abcdef0"),
        ("array[1, null]", [1, None]),
        ("array['NaN'::numeric, 1.50]", ["NaN", "1.50"]),
        ("array[4294967295::oid]", [4294967295]),
        ("array['1 day'::interval]", ["P1D"]),
        ("'{}'::int[]", []),
        ("null::int[]", None),
        ("'10.0.0.1/8'::inet", "10.0.0.1/8"),
        ("'[1,5)'::int4range", "[1,5)"),
        ("b'0101'", "0101"),
        ("12.34::numeric::money", "12.34"),
        ("point(1, 2)", "(1,2)"),
        ("'<a/>'::xml", "<a/>"),
        ("to_tsvector('simple', 'b a')", "'a':2 'b':1"),
    ],
)
def test_a_value_of_every_type_is_read_exactly(postgresql, expression, expected):
    assert value(postgresql, expression) == expected


def test_types_that_are_declared_are_read_exactly(postgresql):
    postgresql(
        "drop table if exists declared",
        "drop type if exists mood, pair",
        "drop domain if exists natural_number",
        "create type mood as enum ('sad', 'happy')",
        "create domain natural_number as int check (value > 0)",
        "create type pair as (a money, b numeric)",
        "create table declared (m mood, ms mood[], n natural_number, p pair, ps pair[])",
        "insert into declared values ('happy', '{sad}', 5, (1, 1.50), array[(1, 'NaN')::pair])",
    )
    (batch,) = SqlSource(postgresql(), table="declared").read()
    row = batch.data.to_pylist()[0]
    assert (row["m"], row["ms"], row["n"]) == ("happy", ["sad"], 5)
    assert json.loads(row["p"], parse_float=str) == {"a": "$1.00", "b": "1.50"}
    assert json.loads(row["ps"])[0]["b"] == "NaN"


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("'infinity'::date", "holds an infinite date"),
        ("'-infinity'::timestamp", "holds an infinite timestamp"),
        ("'infinity'::timestamptz", "holds an infinite timestamp"),
        ("'294270-01-01'::timestamptz", "or one that the driver cannot hold"),
        ("array['infinity'::date]", "holds an infinite date"),
        ("'NaN'::numeric(10, 2)", "holds NaN, which a decimal cannot"),
        ("array[[1, 2], [3, 4]]", "an array of several dimensions"),
    ],
)
def test_a_value_that_would_be_changed_is_refused_with_its_column(postgresql, expression, reason):
    with pytest.raises(SourceError, match=reason) as error:
        value(postgresql, expression)
    assert "x" in str(error.value).replace("'", "").split()


def test_moments_at_the_ends_of_what_the_driver_holds_are_kept(postgresql):
    uri = postgresql()
    query = "select a, a - date '1970-01-01' as days from (values ('4713-01-01 BC'::date), ('5874897-12-31')) as t(a)"
    (batch,) = SqlSource(uri, query=query).read()
    assert batch.data["a"].cast(pa.int32()).to_pylist() == batch.data["days"].to_pylist()


def test_the_schema_is_known_without_reading_a_row(postgresql):
    properties = SqlSource(postgresql(), query="select 1 / 0 as a, 1.5::numeric(4, 2) as b").json_schema()["properties"]
    assert properties["a"]["type"] == ["null", "integer"]
    assert properties["b"]["x-decimal"]["scale"] == 2


def test_settings_of_a_role_change_neither_literals_nor_texts(postgresql):
    uri = postgresql(
        "alter role dagster set standard_conforming_strings = off",
        "alter role dagster set intervalstyle = sql_standard",
    )
    try:
        source = SqlSource(uri, query="select {{ x }} as x, interval '1 day' as i")
        (batch,) = source.read({"x": r"\' or 1=1"})
    finally:
        postgresql("alter role dagster reset all")
    assert batch.data.to_pylist() == [{"x": r"\' or 1=1", "i": "P1D"}]


def test_a_read_sees_one_snapshot(postgresql):
    uri = postgresql(
        "drop table if exists grows", "create table grows as select i as id from generate_series(1, 200000) i"
    )
    with SqlSource(uri, table="grows", cursor="id").incremental("grows").open(None) as items:
        first = next(iter(items))
        postgresql("insert into grows values (-1), (200001)", "delete from grows where id between 2 and 200000")
        rest = list(items)
    states = [json.loads(each.state) for each in rest if isinstance(each, State)]
    assert first.num_rows + sum(each.num_rows for each in rest if not isinstance(each, State)) == 200000
    assert states[-1]["stream"]["stream_state"]["value"] == 200000


@pytest.mark.parametrize("type_", ["bigint", "numeric(20, 0)", "date", "timestamptz", "text"])
def test_a_cursor_of_every_type_continues_after_any_state(postgresql, type_):
    values = {
        "date": "date '2024-01-01' + i / 10",
        "timestamptz": "timestamptz '2024-01-01' + (i / 7) * interval '1 microsecond'",
    }
    rows = f"select i as id, ({values.get(type_, 'i / 10')})::{type_} as c from generate_series(1, 60000) i"
    uri = postgresql("drop table if exists ordered", f"create table ordered as {rows}")
    source = SqlSource(uri, query="select *, repeat('x', 400) as t from ordered", cursor="c")
    with source.incremental("ordered").open(None) as items:
        found = list(items)
    at = [number for number, each in enumerate(found) if isinstance(each, State)]
    assert len(at) > 3
    for number in at[:: len(at) // 3]:
        before = sum(each.num_rows for each in found[:number] if not isinstance(each, State))
        with source.incremental("ordered").open(found[number].state) as items:
            assert before + sum(each.num_rows for each in items if not isinstance(each, State)) == 60000


def test_an_unconstrained_numeric_is_no_cursor(postgresql):
    source = SqlSource(postgresql(), query="select 1.0::numeric as n", cursor="n")
    with pytest.raises(SettingsError, match="cannot order by exactly"), source.incremental("n").open(None) as items:
        list(items)


@pytest.mark.parametrize("change", ["password", "port"])
def test_no_secret_is_in_an_error(postgresql, change):
    uri = postgresql()
    password = uri.split(":")[2].split("@")[0]
    wrong = (
        uri.replace(password, password + "x") if change == "password" else uri.replace("@127.0.0.1:", "@127.0.0.1:1")
    )
    with pytest.raises(SourceError) as error:
        list(SqlSource(wrong, table="t").read())
    assert password not in str(error.value)
