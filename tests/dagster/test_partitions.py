"""Every kind of partition, alone and several in one run: where each lands, and what it replaces."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import dagster as dg
import pytest
from dagster_version import since_1_13

from s3dest_dagster import stream_asset

DAILY = dg.DailyPartitionsDefinition("2026-01-01")
REGIONS = dg.StaticPartitionsDefinition(["eu/west", "us", "a|b"])
TWO = dg.MultiPartitionsDefinition({"day": DAILY, "region": dg.StaticPartitionsDefinition(["eu", "us"])})
BY_PARTITION = "${STREAM_NAME}/${PARTITION}/${EPOCH}_"


def in_range(first: str, last: str) -> dict[str, str]:
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


@pytest.mark.parametrize(
    ("partitions", "key", "directory"),
    [
        (DAILY, "2026-01-05", "2026-01-05"),
        (dg.HourlyPartitionsDefinition("2026-01-01-00:00"), "2026-01-05-13:00", "2026-01-05-13:00"),
        (dg.MonthlyPartitionsDefinition("2026-01-01"), "2026-02-01", "2026-02-01"),
        (REGIONS, "us", "us"),
        (REGIONS, "eu/west", "eu_west"),
        (TWO, "2026-01-05|eu", "2026-01-05_eu"),
    ],
    ids=["daily", "hourly", "monthly", "static", "static with a slash", "multi"],
)
def test_a_partition_lands_under_its_key(lake, partitions, key, directory):
    @stream_asset(partitions_def=partitions)
    def readings():
        return [{"id": 1}]

    lake.materialize(readings, io=lake.io(s3_path_format=BY_PARTITION), partition_key=key)
    assert [each.split("/")[:2] for each in lake.data_keys()] == [["readings", directory]]


def test_a_dynamic_partition_is_landed(lake):
    tenants = dg.DynamicPartitionsDefinition(name="tenants")

    @stream_asset(partitions_def=tenants)
    def readings():
        return [{"id": 1}]

    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("tenants", ["acme"])
        lake.materialize(readings, partition_key="acme", instance=instance)
    assert lake.ids() == [1]


def test_each_dimension_of_a_multi_partition_can_be_named(lake):
    @stream_asset(partitions_def=TWO)
    def readings():
        return [{"id": 1}]

    io = lake.io(s3_path_format="${STREAM_NAME}/${PARTITION:region}/${PARTITION:day}/${EPOCH}_")
    lake.materialize(readings, io=io, partition_key="2026-01-05|eu")
    assert lake.data_keys()[0].startswith("readings/eu/2026-01-05/")


@pytest.mark.parametrize("sync_mode", ["full_refresh", "append"])
def test_materializing_again_replaces_only_that_partition(lake, sync_mode):
    number = iter(range(1, 10))

    @stream_asset(partitions_def=DAILY, sync_mode=sync_mode)
    def readings():
        return [{"id": next(number)}]

    for key in ("2026-01-01", "2026-01-02", "2026-01-01"):
        lake.materialize(readings, partition_key=key)
    assert lake.ids() == [2, 3]


def test_on_rematerialize_append_adds_to_the_partition(lake):
    number = iter(range(1, 10))

    @stream_asset(partitions_def=DAILY, sync_mode="append")
    def readings():
        return [{"id": next(number)}]

    for _ in range(2):
        lake.materialize(readings, io=lake.io(on_rematerialize="append"), partition_key="2026-01-01")
    assert lake.ids() == [1, 2]


class TestSeveralPartitionsInOneRun:
    @staticmethod
    def rows(first: int, last: int) -> list[dict[str, Any]]:
        return [{"id": day, "day": f"2026-01-{day:02}"} for day in range(first, last + 1)]

    def land(self, lake, body, first="2026-01-01", last="2026-01-03", partitions=DAILY, **io):
        asset = stream_asset(
            name="readings", partitions_def=partitions, backfill_policy=dg.BackfillPolicy.single_run()
        )(body)
        settings = lake.io(s3_path_format=BY_PARTITION, **io)
        return lake.materialize(asset, io=settings, tags=in_range(first, last), raise_on_error=False)

    def test_the_body_can_return_a_dict_of_partitions(self, lake):
        body = lambda: {f"2026-01-{day:02}": [{"id": day}] for day in (1, 2, 3)}  # noqa: E731
        assert self.land(lake, body).success
        assert [lake.ids(f"readings/2026-01-{day:02}/") for day in (1, 2, 3)] == [[1], [2], [3]]

    def test_the_body_can_yield_pairs(self, lake):
        def body(context: dg.AssetExecutionContext) -> Iterator[tuple[str, Any]]:
            for number, key in enumerate(context.partition_keys, 1):
                yield key, ({"id": each} for each in [number, number * 10])

        assert self.land(lake, body).success
        assert [lake.ids(f"readings/2026-01-{day:02}/") for day in (1, 2, 3)] == [[1, 10], [2, 20], [3, 30]]

    def test_the_body_can_return_groups_of_sorted_records(self, lake):
        assert self.land(lake, lambda: groupby(self.rows(1, 3), key=lambda row: row["day"])).success
        assert [lake.ids(f"readings/2026-01-{day:02}/") for day in (1, 2, 3)] == [[1], [2], [3]]

    def test_each_partition_has_its_own_metadata(self, lake):
        body = lambda: {"2026-01-01": self.rows(1, 1), "2026-01-02": self.rows(1, 5), "2026-01-03": []}  # noqa: E731
        result = self.land(lake, body)
        events = result.asset_materializations_for_node("readings")
        counts = {each.partition: each.metadata["dagster/partition_row_count"].value for each in events}
        assert counts == {"2026-01-01": 1, "2026-01-02": 5, "2026-01-03": 0}

    def test_a_partition_that_is_left_out_has_no_records(self, lake):
        self.land(lake, lambda: groupby(self.rows(1, 3), key=lambda row: row["day"]))
        self.land(lake, lambda: groupby(self.rows(1, 1), key=lambda row: row["day"]))
        assert lake.ids() == [1]

    def test_an_empty_body_empties_all_of_them(self, lake):
        self.land(lake, lambda: groupby(self.rows(1, 3), key=lambda row: row["day"]))
        assert self.land(lake, lambda: iter(())).success
        assert lake.data_keys() == []

    def test_a_range_can_have_two_dimensions(self, lake):
        body = lambda context: ((key, [{"id": key}]) for key in context.partition_keys)  # noqa: E731
        result = self.land(lake, body, "2026-01-01|eu", "2026-01-02|us", TWO)
        assert result.success
        assert lake.ids() == ["2026-01-01|eu", "2026-01-01|us", "2026-01-02|eu", "2026-01-02|us"]

    def test_a_single_partition_can_also_be_a_pair(self, lake):
        body = lambda: {"2026-01-02": [{"id": 1}]}  # noqa: E731
        assert self.land(lake, body, "2026-01-02", "2026-01-02").success
        assert lake.ids() == [1]

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (lambda: [{"id": 1}], r"3 partitions of readings \('2026-01-01' to '2026-01-03'\).*groupby"),
            (lambda: {"2026-02-01": []}, "the partition '2026-02-01' and this run does not have it"),
            (lambda: iter([("2026-01-01", []), ("2026-01-01", [])]), "'2026-01-01' twice"),
        ],
        ids=["no partition", "another partition", "twice"],
    )
    def test_an_impossible_body_is_refused_with_the_alternative(self, lake, body, reason):
        result = self.land(lake, body)
        assert not result.success
        data = result.failure_data_for_node("readings")
        with pytest.raises(AssertionError, match=reason):
            raise AssertionError(data.user_failure_data.description)

    @pytest.mark.parametrize(
        ("partitions", "keys"),
        [
            (DAILY, ["2026-01-01", "2026-01-02", "2026-01-03"]),
            (TWO, ["2026-01-01|eu", "2026-01-01|us", "2026-01-02|us"]),
        ],
        ids=["daily", "two dimensions"],
    )
    def test_partitions_that_landed_before_a_failure_are_reported(self, lake, partitions, keys):
        def body() -> Iterator[tuple[str, Any]]:
            for number, key in enumerate(keys[:2], 1):
                yield key, [{"id": number}] * number
            raise RuntimeError("the source went away")

        asset = stream_asset(
            name="readings", partitions_def=partitions, backfill_policy=dg.BackfillPolicy.single_run()
        )(body)
        with dg.DagsterInstance.ephemeral() as instance:
            io = lake.io(s3_path_format=BY_PARTITION)
            result = lake.materialize(
                asset, io=io, tags=in_range(keys[0], keys[2]), raise_on_error=False, instance=instance
            )
            assert not result.success
            found = instance.fetch_materializations(asset.key, limit=10).records
            events = [each.asset_materialization for each in found]
            assert {each.partition: each.metadata["rows"].value for each in events} == {keys[0]: 1, keys[1]: 2}
            assert instance.get_materialized_partitions(asset.key) == set(keys[:2])
            assert all(each.tags["dagster/data_version"] for each in events)

    def test_a_single_failed_partition_is_not_reported(self, lake):
        def body() -> Iterator[Any]:
            yield {"id": 1}
            raise RuntimeError("the source went away")

        asset = stream_asset(name="readings", partitions_def=DAILY)(body)
        with dg.DagsterInstance.ephemeral() as instance:
            lake.materialize(asset, partition_key="2026-01-01", raise_on_error=False, instance=instance)
            assert instance.get_materialized_partitions(asset.key) == set()

    def test_a_range_that_succeeds_is_reported_once(self, lake):
        with dg.DagsterInstance.ephemeral() as instance:
            asset = stream_asset(name="readings", partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run())(
                lambda: {"2026-01-01": [{"id": 1}]}
            )
            lake.materialize(asset, tags=in_range("2026-01-01", "2026-01-02"), instance=instance)
            assert len(instance.fetch_materializations(asset.key, limit=10).records) == 2

    def test_a_retry_lands_only_the_remaining_partitions(self, lake):
        attempts = []

        def body() -> Iterator[tuple[str, Any]]:
            attempts.append(1)
            yield "2026-01-01", [{"id": len(attempts)}]
            if len(attempts) == 1:
                raise RuntimeError("the source went away")
            yield "2026-01-02", [{"id": len(attempts)}]

        asset = stream_asset(
            name="readings",
            partitions_def=DAILY,
            backfill_policy=dg.BackfillPolicy.single_run(),
            retry_policy=dg.RetryPolicy(max_retries=1),
        )(body)
        assert lake.materialize(asset, tags=in_range("2026-01-01", "2026-01-02")).success
        assert lake.ids() == [1, 2]


REFUSES_RANGES = since_1_13("it refuses a range beyond the ends of the partitions itself")
ONE_MONTH = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-02-01")


@pytest.mark.parametrize(
    ("partitions", "tags"),
    [
        (DAILY, in_range("2026-01-03", "2026-01-01")),
        pytest.param(ONE_MONTH, in_range("2025-12-31", "2026-01-02"), marks=REFUSES_RANGES),
        pytest.param(ONE_MONTH, in_range("2026-01-31", "2026-02-01"), marks=REFUSES_RANGES),
        (DAILY, {"dagster/partition": "2025-12-31"}),
        (REGIONS, {"dagster/partition": "mars"}),
        (TWO, {"dagster/partition": "2026-01-01|mars"}),
        (TWO, {"dagster/partition": "us"}),
        (dg.DynamicPartitionsDefinition(name="none_yet"), {"dagster/partition": "a"}),
    ],
)
def test_unknown_partitions_are_reported_before_the_body_runs(lake, partitions, tags):
    acted = []
    asset = stream_asset(name="readings", partitions_def=partitions, backfill_policy=dg.BackfillPolicy.single_run())(
        lambda: acted.append(1)
    )
    with pytest.raises(dg.Failure, match=r"The run asks for partitions that readings does not have"):
        lake.materialize(asset, tags=tags)
    assert acted == []


@since_1_13("it gives keys to a range of partitions that do not exist yet")
def test_a_plain_asset_with_an_empty_range_is_reported(lake):
    @dg.asset(partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run())
    def readings():
        return [{"id": 1}]

    with pytest.raises(dg.Failure, match=r"The run asks for partitions that readings does not have"):
        lake.materialize(readings, tags=in_range("2999-01-01", "2999-01-02"))


def test_pairs_for_an_asset_without_partitions_are_refused(lake):
    @stream_asset
    def readings():
        yield "2026-01-01", [{"id": 1}]

    with pytest.raises(dg.Failure, match="readings has no partitions"):
        lake.materialize(readings)
