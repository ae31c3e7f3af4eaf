"""MariaDB for real, by ConnectorX: values are exact or refused. Opt-in: `make test-sql`."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Any

import pytest

from s3dest_dagster import SqlSource
from s3dest_dagster.batch import State
from s3dest_dagster.errors import SettingsError, SourceError

pytestmark = [pytest.mark.sql, pytest.mark.timeout(600)]


def value(mariadb, declared: str, literal: str) -> Any:
    """A value of a column, as it reaches a landing."""
    uri = mariadb(
        "drop table if exists t",
        f"create table t (x {declared})",
        "set sql_mode=''",
        f"insert into t values ({literal})",
    )
    (batch,) = SqlSource(uri, table="t").read()
    return batch.data.column(0)[0].as_py()


@pytest.mark.parametrize(
    ("declared", "literal", "expected"),
    [
        ("bigint unsigned", "18446744073709551615", 18446744073709551615),
        ("int", "-5", -5),
        ("decimal(65, 20)", f"'{'9' * 45}.12345678901234567890'", "9" * 45 + ".12345678901234567890"),
        ("decimal(12, 2)", "12.5", "12.50"),
        ("double", "1e300", 1e300),
        ("varchar(20)", r"'a\\b''ü'", r"a\b'ü"),
        ("blob", "x'00ff'", b"\x00\xff"),
        ("date", "'2024-02-29'", date(2024, 2, 29)),
        ("datetime(6)", "'2024-02-29 12:34:56.123456'", datetime(2024, 2, 29, 12, 34, 56, 123456)),
        ("time(6)", "'12:34:56.123456'", time(12, 34, 56, 123456)),
        ("enum('a', 'b')", "'b'", "b"),
        ("json", "'{\"a\": 1.10}'", '{"a": 1.10}'),
        ("year", "2024", 2024),
    ],
)
def test_a_value_is_read_exactly(mariadb, declared, literal, expected):
    assert value(mariadb, declared, literal) == expected


@pytest.mark.parametrize(("declared", "literal"), [("date", "'0000-00-00'"), ("time", "'-100:00:00'")])
def test_a_value_that_arrow_cannot_hold_is_refused(mariadb, declared, literal):
    with pytest.raises(SourceError, match="failed while reading rows"):
        value(mariadb, declared, literal)


def test_a_read_continues_and_placeholders_are_texts(mariadb):
    uri = mariadb(
        "drop table if exists orders",
        "create table orders (id int, at datetime(6))",
        "insert into orders values (1, '2024-01-01'), (2, '2024-01-02 00:00:00.5')",
    )
    for cursor in ("id", "at"):
        source = SqlSource(uri, table="orders", cursor=cursor)
        with source.incremental("orders").open(None) as items:
            *_, state = items
        assert isinstance(state, State)
        with source.incremental("orders").open(state.state) as items:
            assert not [each for each in items if not isinstance(each, State)]
    source = SqlSource(uri, query="select id from orders where id = {{ x }}")
    assert sum(each.num_rows for each in source.read({"x": "2"})) == 1
    assert sum(each.num_rows for each in source.read({"x": "' or 1=1 -- "})) == 0
    with pytest.raises(SettingsError, match="backslash"):
        list(source.read({"x": r"\' or 1=1 -- "}))


def test_a_text_is_no_cursor_and_shards_hold_every_row(mariadb):
    rows = "select seq as id, cast(seq as char) as t from seq_1_to_1000"
    uri = mariadb("drop table if exists many", f"create table many as {rows}")
    with (
        pytest.raises(SettingsError, match="depends on its collation"),
        SqlSource(uri, table="many", cursor="t").incremental("many").open(None) as items,
    ):
        list(items)
    source = SqlSource(uri, table="many", shard_by="id", shards=3)
    assert [sum(each.num_rows for each in source.read(shard=name)) for name in source.shard_names()] == [333, 333, 334]
