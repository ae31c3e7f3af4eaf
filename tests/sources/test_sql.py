"""`SqlSource` on DuckDB and SQLite: exact values, incremental reads, shards, and what is refused."""

from __future__ import annotations

import json
import sqlite3
import traceback
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster import SqlSource
from s3dest_dagster.batch import ArrowBatch, JsonBatch, State
from s3dest_dagster.errors import MissingExtraError, SettingsError, SourceError
from s3dest_dagster.sources import RequestedStream
from s3dest_dagster.sources.sql.cursor import between_values
from s3dest_dagster.sources.sql.key_ranges import parse_range, split_keys
from s3dest_dagster.sources.sql.statements import render_query

Database = Callable[..., str]


@pytest.fixture
def duck(tmp_path: Path) -> Database:
    """Executes statements in a DuckDB file, and returns its URI."""

    def execute(*statements: str) -> str:
        with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
            for statement in statements:
                connection.execute(statement).fetchall()
        return f"duckdb:///{tmp_path}/shop.duckdb"

    return execute


@pytest.fixture
def lite(tmp_path: Path) -> Database:
    """The same for SQLite."""

    def execute(*statements: str) -> str:
        with sqlite3.connect(tmp_path / "shop.db") as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()
        return f"sqlite:///{tmp_path}/shop.db"

    return execute


@pytest.fixture(params=["duck", "lite"])
def database(request: pytest.FixtureRequest) -> Database:
    """Each database in turn."""
    return request.getfixturevalue(request.param)


def rows(items: Any) -> list[dict[str, Any]]:
    """The records of batches, as they are before they are encoded."""
    found: list[dict[str, Any]] = []
    for item in items:
        if isinstance(item, ArrowBatch):
            found += item.data.to_pylist()
        elif isinstance(item, JsonBatch):
            found += [json.loads(raw) for raw in item.raws]
    return found


def read_on(source: SqlSource, state: bytes | None = None) -> tuple[list[int], list[bytes]]:
    """The ids of an incremental read, and its states."""
    with source.incremental("orders", "shop").open(state) as items:
        found = list(items)
    return [row["id"] for row in rows(found)], [item.state for item in found if isinstance(item, State)]


def position(state: bytes) -> Any:
    return json.loads(state)["stream"]["stream_state"]["value"]


ORDERS = (
    "create table orders (id integer, day text, placed_at timestamp)",
    "insert into orders values (1, '2026-01-01', '2026-01-01 10:00:00'), (2, '2026-01-02', '2026-01-02 10:00:00')",
    "insert into orders values (3, '2026-01-02', '2026-01-02 10:00:00.5')",
)


# ---------------------------------------------------------------------- queries and tables


def test_a_table_or_a_query_gives_its_rows_and_an_empty_one_none(database):
    uri = database(*ORDERS)
    assert [row["id"] for row in rows(SqlSource(uri, table="orders").read())] == [1, 2, 3]
    query = "select id, id * 2 as twice from orders where id > 1 order by id -- the rest;\n;"
    assert rows(SqlSource(uri, query=query).read()) == [{"id": 2, "twice": 4}, {"id": 3, "twice": 6}]
    assert rows(SqlSource(uri, query="select * from orders where id > 9").read()) == []


def test_a_placeholder_is_a_text_and_never_sql(database):
    source = SqlSource(database(*ORDERS), query="select id from orders where day = {{ partition_key }}")
    assert rows(source.read({"partition_key": "2026-01-02"})) == [{"id": 2}, {"id": 3}]
    assert rows(source.read({"partition_key": "' or 1=1 --"})) == []


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_literal_has_the_text_of_its_value(text):
    statement = render_query("select {{ x }} as x", {"x": text})
    assert duckdb.connect().execute(statement).fetchall() == [(text,)]
    assert sqlite3.connect(":memory:").execute(statement).fetchall() == [(text,)]


@pytest.mark.parametrize(
    "query",
    [
        "select '{{ x }}'",
        'select "{{ x }}"',
        "select 1 -- {{ x }}",
        "select 1 /* {{ x }} */",
        "select $a$ {{ x }} $a$",
        r"select E'\' {{ x }}'",
        "select 'open, {{ x }}",
        "select `{{ x }}`",
    ],
)
def test_a_placeholder_within_quotes_or_a_comment_is_refused(query):
    with pytest.raises(SettingsError, match="within quotes or a comment"):
        render_query(query, {"x": "1"})


def test_a_table_may_name_its_stream_and_nothing_else_than_a_table(database):
    source = SqlSource(database(*ORDERS), table="{{ stream_name }}")
    assert len(rows(source.read({"stream_name": "orders"}))) == 3
    assert source.separates_streams
    with pytest.raises(SourceError, match="customers"):
        list(source.read({"stream_name": 'customers" where 1=1 --'}))
    with pytest.raises(SettingsError, match="names one table"):
        SqlSource("sqlite:///x.db", table="orders; drop table orders")


def test_two_columns_of_one_name_are_refused(duck):
    with pytest.raises(SettingsError, match="two columns 'id'"):
        list(SqlSource(duck(*ORDERS), query="select id, id from orders").read())


# ---------------------------------------------------------------------- exact values


def test_types_of_duckdb_that_arrow_changes_are_read_as_text(duck):
    uri = duck(
        "create table t as select 170141183460469231731687303715884105727::hugeint as h, "
        "340282366920938463463374607431768211455::uhugeint as u, '12:34:56+02'::timetz as z, "
        "interval '1 year 2 days' as i, '1010'::bit as b, 1.25::decimal(38, 10) as d, 'a' || chr(0) as n"
    )
    (row,) = rows(SqlSource(uri, table="t").read())
    assert row == {
        "h": "170141183460469231731687303715884105727",
        "u": "340282366920938463463374607431768211455",
        "z": "12:34:56+02",
        "i": "1 year 2 days",
        "b": "1010",
        "d": Decimal("1.25"),
        "n": "a\0",
    }


@pytest.mark.parametrize(
    "value", ["'infinity'::date", "'-infinity'::timestamp", "['infinity'::timestamptz]", "{'a': date 'infinity'}"]
)
def test_infinite_moments_are_refused_with_the_column_and_the_remedy(duck, value):
    source = SqlSource(duck(f"create table t as select {value} as never"), table="t")
    with pytest.raises(SourceError, match=r"Column 'never' holds an infinite .*cast\(never as varchar\)"):
        list(source.read())


def test_values_of_sqlite_keep_the_types_that_they_have(lite):
    uri = lite(
        "create table t (a integer, b)",
        "insert into t values (9223372036854775807, 1), ('text', 1.5), (null, 'a' || char(0) || 'b')",
    )
    assert rows(SqlSource(uri, table="t").read()) == [
        {"a": 9223372036854775807, "b": 1},
        {"a": "text", "b": 1.5},
        {"a": None, "b": "a\0b"},
    ]


def test_the_schema_is_known_without_reading_a_row(duck, lite):
    table = "create table t (a integer, b double, c text, d {})"
    properties = SqlSource(duck(table.format("decimal(12, 2)")), table="t").json_schema()["properties"]
    assert (properties["a"]["type"], properties["c"]["type"]) == (["null", "integer"], ["null", "string"])
    assert properties["d"]["x-decimal"]["scale"] == 2
    # The function would fail on any row.
    source = SqlSource(lite(table.format("numeric")), query="select a, b, c, d, json(c) as e from t")
    properties = source.json_schema()["properties"]
    assert {name: each.get("type") for name, each in properties.items()} == {
        "a": ["null", "integer"],
        "b": ["null", "number"],
        "c": ["null", "string"],
        "d": None,
        "e": None,
    }


# ---------------------------------------------------------------------- the cursor


@pytest.mark.parametrize("cursor", ["id", "day", "placed_at"])
def test_a_read_continues_after_the_largest_value_that_was_published(database, cursor):
    source = SqlSource(database(*ORDERS), table="orders", cursor=cursor)
    first, states = read_on(source)
    assert first == [1, 2, 3]
    assert read_on(source, states[-1]) == ([], [])
    database("insert into orders values (4, '2026-01-03', '2026-01-03 00:00:00')")
    later, states = read_on(source, states[-1])
    assert later == [4]
    assert position(states[-1]) in (4, "2026-01-03", "2026-01-03T00:00:00", "2026-01-03 00:00:00")


def test_a_state_names_the_stream_and_the_cursor(database):
    _, states = read_on(SqlSource(database(*ORDERS), table="orders", cursor="id"))
    assert json.loads(states[-1]) == {
        "type": "STREAM",
        "stream": {
            "stream_descriptor": {"name": "orders", "namespace": "shop"},
            "stream_state": {"cursor": "id", "value": 3},
        },
    }


def test_continuing_after_any_state_gives_every_row_once(database):
    uri = database(
        "create table orders (id integer, seventh integer)",
        "insert into orders with recursive n(i) as (select 0 union all select i + 1 from n where i < 20000) "
        "select i, i / 7000 from n",
    )
    source = SqlSource(uri, table="orders", cursor="seventh")
    with source.incremental("orders", "shop").open(None) as items:
        seen: list[int] = []
        reached: list[tuple[bytes, int]] = []
        for item in items:
            if isinstance(item, State):
                reached.append((item.state, len(seen)))
            else:
                seen += [row["id"] for row in rows([item])]
    assert sorted(seen) == list(range(20001))
    assert len(reached) > 1
    for state, count in reached:
        rest, _ = read_on(source, state)
        assert sorted(seen[:count] + rest) == list(range(20001))


@given(st.lists(st.integers(0, 4), max_size=12).map(sorted), st.integers(1, 5))
def test_no_row_with_the_value_of_a_state_comes_after_it(values, size):
    chunks = [[{"id": value} for value in values[at : at + size]] for at in range(0, len(values), size)]
    before: list[int] = []
    reached: int | str | None = None
    for chunk, value in between_values(chunks, "id"):
        assert all(reached is None or row["id"] > reached for row in chunk)
        before += [row["id"] for row in chunk]
        if value is not None:
            assert value == max(before)
            reached = value
    assert before == values
    assert reached == (max(values) if values else None)


def test_rows_without_a_value_of_the_cursor_are_refused_at_every_read(database):
    source = SqlSource(database(*ORDERS), table="orders", cursor="id")
    _, states = read_on(source)
    database("insert into orders values (null, 'x', null)")
    for state in (None, states[-1]):
        with pytest.raises(SourceError, match="null in some rows"):
            read_on(source, state)


def test_a_state_of_another_cursor_or_of_no_sql_source_is_refused(database):
    uri = database(*ORDERS)
    _, states = read_on(SqlSource(uri, table="orders", cursor="id"))
    with pytest.raises(SettingsError, match="a value of the column 'id', and cursor is 'day'"):
        read_on(SqlSource(uri, table="orders", cursor="day"), states[-1])
    with pytest.raises(SettingsError, match="not one of a SQL source"):
        read_on(SqlSource(uri, table="orders", cursor="day"), b'{"type":"LEGACY","data":{}}')


def test_a_cursor_without_an_exact_order_is_refused(duck):
    uri = duck("create table t as select 1.5::double as f, 1::hugeint as h")
    for cursor, reason in (("f", "A cursor is a column of integers"), ("h", "cannot order by exactly"), ("x", "no su")):
        with pytest.raises(SettingsError, match=reason):
            read_on(SqlSource(uri, table="t", cursor=cursor))


def test_a_text_cursor_is_ordered_by_its_bytes(lite):
    uri = lite("create table orders (id integer, code text collate nocase)")
    lite("insert into orders values (1, 'B'), (2, 'a')")
    source = SqlSource(uri, table="orders", cursor="code")
    ids, states = read_on(source)
    assert (ids, position(states[-1])) == ([1, 2], "a")
    lite("insert into orders values (3, 'b')")
    assert read_on(source, states[-1])[0] == [3]


def test_a_cursor_of_integers_and_texts_is_refused(lite):
    uri = lite("create table orders (id, x)", "insert into orders values (1, 1), ('b', 2)")
    with pytest.raises(SourceError, match="types int, str"):
        read_on(SqlSource(uri, table="orders", cursor="id"))


def test_a_cursor_has_no_effect_on_a_full_refresh_which_is_refused():
    source = SqlSource("sqlite:///x.db", table="orders", cursor="id")
    with pytest.raises(SettingsError, match="has no effect"):
        source.describe_stream(RequestedStream("orders"))
    assert source.describe_stream(RequestedStream("orders", sync_mode="append")).cursor_field == ("id",)


# ---------------------------------------------------------------------- shards


def test_the_shards_hold_every_row_once_with_later_rows_and_rows_without_a_key(database):
    source = SqlSource(database(*ORDERS), table="orders", shard_by="id", shards=2)
    names = source.shard_names()
    assert names == ["..2", "2.."]
    database("insert into orders values (-5, 'x', null), (50, 'x', null), (null, 'x', null)")
    read = [[row["id"] for row in rows(source.read(shard=name))] for name in names]
    assert [set(each) for each in read] == [{-5, 1, None}, {2, 3, 50}]


@given(st.integers(-(2**63), 2**63), st.integers(0, 2**64), st.integers(1, 9), st.integers(-(2**65), 2**65))
def test_every_key_is_in_one_range(lowest, span, shards, key):
    ranges = split_keys(lowest, lowest + span, shards)
    assert 1 <= len(ranges) <= shards
    assert [parse_range(each.name) for each in ranges] == ranges
    holding = [
        each for each in ranges if (each.start is None or each.start <= key) and (each.end is None or key < each.end)
    ]
    assert len(holding) == 1


def test_an_empty_table_is_one_shard(database):
    uri = database("create table orders (id integer)")
    source = SqlSource(uri, table="orders", shard_by="id", shards=3)
    assert source.shard_names() == [".."]
    assert rows(source.read(shard="..")) == []


def test_shards_of_a_column_without_integers_are_refused(duck):
    source = SqlSource(duck(*ORDERS), table="orders", shard_by="day", shards=2)
    with pytest.raises(SettingsError, match="Shards are ranges of integers"):
        source.shard_names()


# ---------------------------------------------------------------------- settings and secrets


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({}, "query"),
        ({"query": "select 1", "table": "t"}, "query"),
        ({"table": "t", "shards": 2}, "shards"),
        ({"table": "t", "shard_by": "id"}, "shards"),
        ({"table": "t", "shard_by": "id", "shards": 0}, "shards"),
        ({"table": "t", "shard_by": "id", "shards": 2, "cursor": "id"}, "cursor"),
        ({"table": "t", "engine": "odbc"}, "engine"),
        ({"table": "t", "engine": "connectorx"}, "engine"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, setting):
    with pytest.raises(SettingsError) as error:
        SqlSource("postgresql://localhost/shop", **settings)
    assert error.value.setting == setting


def test_the_uri_may_be_a_function_or_a_variable(database, monkeypatch):
    import dagster as dg

    monkeypatch.setenv("SHOP_DATABASE", database(*ORDERS))
    assert len(rows(SqlSource(dg.EnvVar("SHOP_DATABASE"), table="orders").read())) == 3
    assert len(rows(SqlSource(lambda: database(), table="orders").read())) == 3
    with pytest.raises(SettingsError, match="NOWHERE is not set"):
        list(SqlSource(dg.EnvVar("NOWHERE"), table="orders").read())


@pytest.mark.parametrize("uri", ["hunter2", "odbc://u:hunter2@h/d", "postgresql:/u:hunter2@h"])
def test_a_uri_that_is_refused_is_not_shown(uri):
    with pytest.raises(SettingsError) as error:
        SqlSource(uri, table="t")
    assert "hunter2" not in str(error.value)
    assert "hunter2" not in repr(SqlSource("postgresql://u:hunter2@h/d", table="t"))


def test_errors_of_a_database_name_it_without_its_secrets(tmp_path):
    source = SqlSource(f"duckdb:///{tmp_path}/none.duckdb?access_token=hunter2", table="t")
    with pytest.raises(SourceError) as error:
        list(source.read())
    assert f"duckdb:///{tmp_path}/none.duckdb failed while connecting" in str(error.value)
    assert "hunter2" not in str(error.value)
    assert "hunter2" not in "".join(traceback.format_exception(error.value))


def test_a_driver_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "connectorx", None)
    with pytest.raises(MissingExtraError, match=r"s3dest-dagster\[connectorx\]"):
        list(SqlSource("mysql://localhost/shop", table="t").read())


def test_the_options_of_a_duckdb_uri_are_its_settings(duck):
    uri = duck(*ORDERS)
    (row,) = rows(SqlSource(f"{uri}?threads=1", query="select current_setting('threads') as n").read())
    assert row == {"n": 1}
