"""This project's own streams load and land, and their schedules, conditions and sensor sync them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest
from servers import S3Server

from assets import readings as house
from assets import revenue
from s3dest_dagster import JsonlFormat, S3DestinationIOManager, stream_asset
from s3dest_dagster.definitions import defs
from s3dest_dagster.settings.formats import TextCompression

BETWEEN = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


@pytest.fixture
def io(moto_s3: S3Server) -> S3DestinationIOManager:
    return S3DestinationIOManager(
        s3_bucket_name=moto_s3.new_bucket(),
        s3=moto_s3.connection,
        format=JsonlFormat(compression=TextCompression.NONE),
    )


def condition_requests(keys: list[str], at: datetime, instance: dg.DagsterInstance) -> set[tuple[str, str | None]]:
    """The requests of the automation conditions at this moment, two ticks after they were switched on."""
    asset_keys = [dg.AssetKey.from_user_string(each) for each in keys]
    chosen = [defs.resolve_assets_def(key) for key in asset_keys]
    before = dg.evaluate_automation_conditions(chosen, instance, evaluation_time=at.replace(hour=0))
    result = dg.evaluate_automation_conditions(chosen, instance, evaluation_time=at, cursor=before.cursor)
    return {
        (key.to_user_string(), partition) for key in asset_keys for partition in result.get_requested_partitions(key)
    }


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def test_revenue_is_computed_from_two_streams(io):
    days = dg.DailyPartitionsDefinition(start_date="2026-01-01")

    @stream_asset(key_prefix="faker", partitions_def=days)
    def purchases():
        return [{"id": number, "product_id": number % 2} for number in range(5)]

    @stream_asset(key_prefix="faker")
    def products():
        return [{"id": 0, "make": "BMW", "price": 10.5}, {"id": 1, "make": "Audi", "price": 2.25}]

    lakes = {"io_manager": io, "parquet_lake": io}
    chosen = [purchases, products, revenue.revenue]
    dg.materialize(chosen, resources=lakes, partition_key="2026-01-05")
    table = dg.Definitions(chosen, resources=lakes).load_asset_value("revenue", partition_key="2026-01-05")
    assert table.select(["make", "revenue", "sold"]).to_pylist() == [
        {"make": "Audi", "revenue": 4.5, "sold": 2},
        {"make": "BMW", "revenue": 31.5, "sold": 3},
    ]


def test_everything_of_the_project_is_loaded():
    keys = {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}
    assert keys >= {"faker/users", "faker/purchases", "faker/products", "house/readings", "warehouse/deliveries"}
    assert [each.name for each in defs.schedules or ()] == ["readings_of_a_day_schedule"]
    assert [each.name for each in defs.sensors or ()] == ["deliveries_arrive"]
    dg.Definitions.validate_loadable(defs)


@pytest.mark.parametrize(("last", "partitions"), [("2026-01-05", 1), ("2026-01-07", 3)], ids=["one", "range"])
def test_readings_land_a_day_or_a_range_of_days_in_one_run(io, last, partitions):
    tags = dict(zip(BETWEEN, ("2026-01-05", last), strict=True))
    result = dg.materialize([house.readings], resources={"jsonl_lake": io}, tags=tags)
    rows = {
        event.partition: event.materialization.metadata["dagster/partition_row_count"].value
        for event in result.get_asset_materialization_events()
    }
    assert rows == {f"2026-01-0{day}": 6 * 24 * 3 for day in range(5, 5 + partitions)}


def test_the_schedule_requests_the_previous_day(instance):
    context = dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=datetime(2026, 1, 6, 1, tzinfo=UTC),
        repository_def=defs.get_repository_def(),
    )
    (request,) = defs.resolve_schedule_def("readings_of_a_day_schedule").evaluate_tick(context).run_requests
    assert (request.partition_key, request.run_key) == ("2026-01-05", "2026-01-05")


def test_streams_of_the_shop_are_requested_every_night(instance):
    at = datetime(2026, 1, 6, 2, 1, tzinfo=UTC)
    found = condition_requests(["faker/users", "faker/purchases"], at, instance)
    assert found == {("faker/users", "2026-01-05"), ("faker/purchases", "2026-01-05")}


def test_products_are_requested_while_they_are_missing(instance):
    key = dg.AssetKey(["faker", "products"])

    def requested() -> int:
        at, chosen = datetime(2026, 1, 6, 2, 1, tzinfo=UTC), [defs.resolve_assets_def(key)]
        return dg.evaluate_automation_conditions(chosen, instance, evaluation_time=at).total_requested

    assert requested() == 1
    instance.report_runless_asset_event(dg.AssetMaterialization(key))
    assert requested() == 0


def test_a_file_in_the_inbox_is_requested_and_lands(io, tmp_path, monkeypatch):
    monkeypatch.setenv("S3DEST_INBOX", str(tmp_path))
    inbox = importlib.util.module_from_spec(importlib.util.find_spec("assets.deliveries"))
    inbox.__spec__.loader.exec_module(inbox)
    (tmp_path / "monday.csv").write_text("product_id,count\n7,20\n")
    os.utime(tmp_path / "monday.csv", (0, 0))
    with dg.instance_for_test() as instance:
        context = dg.SensorEvaluationContext(
            instance_ref=instance.get_ref(),
            instance=instance,
            cursor=None,
            definitions=dg.Definitions(
                [inbox.deliveries], sensors=[inbox.deliveries_arrive], resources={"jsonl_lake": io}
            ),
            repository_name=None,
            last_tick_completion_time=None,
            last_run_key=None,
        )
        tick = inbox.deliveries_arrive.evaluate_tick(context)
        (added,), (request,) = tick.dynamic_partitions_requests, tick.run_requests
        instance.add_dynamic_partitions("deliveries", added.partition_keys)
        result = dg.materialize(
            [inbox.deliveries],
            resources={"jsonl_lake": io},
            partition_key=request.partition_key,
            instance=instance,
        )
    (event,) = result.get_asset_materialization_events()
    assert (event.partition, event.materialization.metadata["rows"].value) == ("monday", 1)
