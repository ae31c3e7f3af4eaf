"""Databases as assets: full refreshes, appends that continue, partitions, shards, and components."""

from __future__ import annotations

import importlib
import json
import re
from itertools import count
from pathlib import Path
from textwrap import dedent, indent

import dagster as dg
import duckdb
import pytest
from dagster.components.core.component_tree import ComponentTree

from s3dest_dagster import SqlSource, build_stream_assets, stream_asset
from s3dest_dagster.errors import SettingsError

_numbers = count(1)
DAILY = dg.DailyPartitionsDefinition("2026-01-01")


@pytest.fixture
def shop(tmp_path: Path):
    """Executes a statement in a DuckDB file, and has its URI."""

    class Shop:
        uri = f"duckdb:///{tmp_path}/shop.duckdb"

        def __call__(self, statement: str) -> None:
            with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
                connection.execute(statement).fetchall()

    shop = Shop()
    shop("create table orders as select i as id, date '2026-01-01' + (i // 10)::int as day from range(30) t(i)")
    return shop


def ids(lake) -> list[int]:
    return sorted(
        json.loads(line)["_airbyte_data"]["id"] for key in lake.data_keys() for line in lake.body(key).splitlines()
    )


def test_a_table_is_landed_anew_in_each_run(lake, shop):
    (orders,) = build_stream_assets(SqlSource(shop.uri, table="orders"), partitions_def=None)
    lake.materialize(orders)
    shop("delete from orders where id > 4")
    result = lake.materialize(orders)
    assert ids(lake) == [0, 1, 2, 3, 4]
    assert orders.key == dg.AssetKey("orders")
    assert "sql" in orders.specs_by_key[orders.key].kinds
    (event,) = result.get_asset_materialization_events()
    assert event.materialization.metadata["rows"].value == 5


def test_an_append_continues_from_the_state_in_the_manifest(lake, shop):
    source = SqlSource(shop.uri, table="orders", cursor="id")
    (orders,) = build_stream_assets(source, streams={"orders": "append"}, partitions_def=None, key_prefix="shop")
    lake.materialize(orders)
    lake.materialize(orders)
    shop("insert into orders values (30, '2026-01-09'), (31, '2026-01-09')")
    lake.materialize(orders)
    assert ids(lake) == list(range(32))


def test_checkpoints_publish_rows_with_the_state_that_they_reach(lake, shop):
    shop("insert into orders select 30 + i, '2026-02-01' from range(40000) t(i)")
    source = SqlSource(shop.uri, table="orders", cursor="id")
    (orders,) = build_stream_assets(source, streams={"orders": "append"}, partitions_def=None)
    io = lake.io(checkpoint_mb=0.1)
    lake.materialize(orders, io=io)
    reached = [
        each
        for key in lake.all_keys()
        if "_s3dest/" in key
        for each in re.findall(rb"value[^0-9]+([0-9]+)", lake.body(key))
    ]
    assert len(set(reached)) > 1
    assert ids(lake) == list(range(40030))


def test_a_function_may_return_the_read_of_its_stream(lake, shop):
    orders_of = SqlSource(shop.uri, table="orders", cursor="id")

    @stream_asset(namespace="shop", sync_mode="append")
    def orders():
        return orders_of.incremental("orders", "shop")

    lake.materialize(orders)
    lake.materialize(orders)
    assert ids(lake) == list(range(30))


def test_a_partition_is_read_by_the_placeholders_of_its_query(lake, shop):
    source = SqlSource(shop.uri, query="select id from orders where day = {{ partition_start_date }}")
    (orders,) = build_stream_assets(source, streams=["orders"], start_date="2026-01-01")
    for day in ("2026-01-02", "2026-01-03", "2026-01-03"):
        lake.materialize(orders, partition_key=day)
    assert ids(lake) == list(range(10, 30))


def test_a_cursor_of_partitions_has_no_effect_which_is_refused(lake, shop):
    source = SqlSource(shop.uri, table="orders", cursor="id")
    (orders,) = build_stream_assets(source, streams={"orders": "append"}, partitions_def=DAILY)
    with pytest.raises(dg.Failure, match="has no effect"):
        lake.materialize(orders, partition_key="2026-01-02")


def test_each_shard_is_a_step_and_one_commit_publishes_all(lake, shop):
    source = SqlSource(shop.uri, table="orders", shard_by="id", shards=3)
    (orders,) = build_stream_assets(source, partitions_def=None)
    result = lake.materialize(orders)
    assert ids(lake) == list(range(30))
    steps = [each.step_key for each in result.get_step_success_events()]
    assert sum("shard" in each for each in steps) == 3


def test_shards_of_a_partition_read_that_partition(lake, shop):
    query = "select id from orders where day = {{ partition_key }}"
    source = SqlSource(shop.uri, query=query, shard_by="id", shards=2)
    (orders,) = build_stream_assets(source, streams=["orders"], partitions_def=DAILY)
    lake.materialize(orders, partition_key="2026-01-02")
    assert ids(lake) == list(range(10, 20))


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The assets of a component with these attributes, whose streams land in the default IO manager."""

    def loaded(attributes: str) -> list[dg.AssetsDefinition]:
        folder = tmp_path / f"sql_project_{next(_numbers)}" / "shop"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        head = "type: s3dest_dagster.S3DestinationComponent\nattributes:\n"
        (folder / "defs.yaml").write_text(head + indent(dedent(attributes), "  "))
        monkeypatch.syspath_prepend(tmp_path)
        tree = ComponentTree.from_module(importlib.import_module(folder.parent.name), tmp_path)
        return list(tree.build_defs(folder).assets or ())

    return loaded


def test_a_component_reads_the_tables_that_its_streams_name(lake, shop, load, monkeypatch):
    monkeypatch.setenv("SHOP_DATABASE", shop.uri)
    shop("create table customers as select 100 as id")
    assets = load(
        """
        source:
          type: sql
          uri: "{{ env_var('SHOP_DATABASE') }}"
          table: "{{ stream_name }}"
        streams: [orders, customers]
        """
    )
    lake.materialize(*assets)
    assert ids(lake) == [*range(30), 100]


def test_a_component_may_have_partitions_and_shards(lake, shop, load, monkeypatch):
    monkeypatch.setenv("SHOP_DATABASE", shop.uri)
    assets = load(
        """
        source:
          type: sql
          uri: "{{ env_var('SHOP_DATABASE') }}"
          query: select id from orders where day = {{ partition_key }}
          shard_by: id
          shards: 2
          engine: duckdb
        streams: [orders]
        partitions_def: {type: daily, start_date: "2026-01-01"}
        """
    )
    lake.materialize(*assets, partition_key="2026-01-03")
    assert ids(lake) == list(range(20, 30))


def test_a_component_may_continue_from_a_cursor(lake, shop, load, monkeypatch):
    monkeypatch.setenv("SHOP_DATABASE", shop.uri)
    attributes = """
        source: {type: sql, uri: "{{ env_var('SHOP_DATABASE') }}", table: orders, cursor: id}
        streams: [{name: orders, sync_mode: append}]
        """
    lake.materialize(*load(attributes))
    lake.materialize(*load(attributes))
    assert ids(lake) == list(range(30))


def test_no_secret_of_the_uri_is_in_the_bucket_or_in_the_run(lake, tmp_path, capfd):
    secret = "hunter2-of-the-database"
    source = SqlSource(f"postgresql://reader:{secret}@127.0.0.1:1/shop", table="orders")
    (orders,) = build_stream_assets(source, partitions_def=None)
    result = lake.materialize(orders, raise_on_error=False)
    assert not result.success
    told = "".join(str(event) for event in result.all_events) + capfd.readouterr().err
    assert "postgresql://127.0.0.1:1/shop failed while connecting" in told or "adbc" in told
    assert secret not in told
    assert all(secret.encode() not in lake.body(key) for key in lake.all_keys())


def test_arguments_for_connectors_are_refused(shop):
    for argument in ({"catalog": {}}, {"as_one_run": True}):
        with pytest.raises(SettingsError, match="is for connectors"):
            build_stream_assets(SqlSource(shop.uri, table="orders"), partitions_def=None, **argument)
    with pytest.raises(SettingsError, match="name it in streams"):
        build_stream_assets(SqlSource(shop.uri, query="select 1 as id"), partitions_def=None)
