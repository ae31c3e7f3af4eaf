"""Dagster runs landing checks together with a materialization, and alone."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import dagster as dg
import numpy as np
import pytest

from s3dest_dagster import build_landing_checks, stream_asset
from s3dest_dagster.batch import BadRecord, JsonBatch
from s3dest_dagster.errors import SettingsError


@stream_asset(namespace="shop", sync_mode="append")
def users():
    return [{"id": 1}, {"id": 2}]


@stream_asset(partitions_def=dg.StaticPartitionsDefinition(["eu", "us"]))
def orders():
    return [{"id": 3}]


@dg.asset
def report() -> int:
    return 1


def checked(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {each.check_name: each for each in result.get_asset_check_evaluations()}


def run_checks(lake, *assets: dg.AssetsDefinition, **settings) -> dict[str, dg.AssetCheckEvaluation]:
    """The results of the checks of these assets, without a materialization."""
    checks = build_landing_checks(assets, **settings)
    selection = dg.AssetSelection.checks(*checks)
    return checked(lake.materialize(*assets, *checks, selection=selection, raise_on_error=False))


def test_what_was_landed_passes_every_check(lake, metadata_of):
    found = checked(lake.materialize(users, *build_landing_checks([users], fresh_within=timedelta(days=1))))
    assert {name: each.passed for name, each in found.items()} == {
        "counts_add_up": True,
        "bucket_agrees_with_manifests": True,
        "few_lines_quarantined": True,
        "nothing_left_from_before": True,
        "schema_unchanged": True,
        "landed_lately": True,
    }
    assert metadata_of(found["counts_add_up"].metadata) == {
        "read": 2,
        "landed": 2,
        "quarantined": 0,
        "overflowed": 0,
        "undeclared": 0,
    }
    assert metadata_of(found["bucket_agrees_with_manifests"].metadata) == {"objects": 1, "rows": 2, "uncompared": 0}


@pytest.mark.parametrize("partitions", [dg.StaticPartitionsDefinition(["us"]), None])
def test_partitions_that_the_definition_no_longer_has_are_named(lake, partitions):
    lake.materialize(orders, partition_key="eu")

    @stream_asset(name="orders", partitions_def=partitions)
    def changed():
        return [{"id": 4}]

    changed = changed.with_attributes(asset_key_replacements={changed.key: orders.key})
    assert run_checks(lake, orders)["nothing_left_from_before"].passed
    found = run_checks(lake, changed)["nothing_left_from_before"]
    assert not found.passed
    assert found.description == "orders [eu] holds objects"


def test_what_is_left_from_before_the_asset_was_partitioned_is_named_in_a_run_of_one_partition(lake):
    @stream_asset(name="orders")
    def whole():
        return [{"id": 4}]

    lake.materialize(whole.with_attributes(asset_key_replacements={whole.key: orders.key}))
    checks = build_landing_checks([orders])
    found = checked(lake.materialize(orders, *checks, partition_key="eu", raise_on_error=False))
    assert found["nothing_left_from_before"].description == "orders holds objects"


def test_a_missing_object_fails_the_bucket_check_and_is_named(lake):
    lake.materialize(users)
    (key,) = lake.data_keys()
    lake.server.client().delete_object(Bucket=lake.bucket, Key=key)
    found = run_checks(lake, users)
    assert found["counts_add_up"].passed
    assert not found["bucket_agrees_with_manifests"].passed
    assert found["bucket_agrees_with_manifests"].description == f"s3://{lake.bucket}/{key} is missing"


def test_inconsistent_counts_fail_the_count_check(lake):
    lake.materialize(users)
    (key,) = [key for key in lake.all_keys() if "/segments/" in key]
    segment = json.loads(lake.body(key))
    segment["counts"]["read"] = 3
    lake.server.client().put_object(Bucket=lake.bucket, Key=key, Body=json.dumps(segment))
    counts = run_checks(lake, users)["counts_add_up"]
    assert not counts.passed
    assert "3 records read, 2 landed, 0 quarantined" in counts.description


def test_a_deep_check_reads_the_objects(lake):
    lake.materialize(users)
    (key,) = lake.data_keys()
    body = lake.body(key)
    lake.server.client().put_object(Bucket=lake.bucket, Key=key, Body=body[:-9] + b"?" + body[-8:])
    assert not run_checks(lake, users, deep=True)["bucket_agrees_with_manifests"].passed


def test_a_run_of_one_partition_checks_that_partition(lake, metadata_of):
    for partition in ("eu", "us"):
        found = checked(lake.materialize(orders, *build_landing_checks([orders]), partition_key=partition))
        assert metadata_of(found["bucket_agrees_with_manifests"].metadata)["objects"] == 1
    assert metadata_of(run_checks(lake, orders)["bucket_agrees_with_manifests"].metadata)["objects"] == 2


def test_too_many_quarantined_lines_are_reported(lake, metadata_of):
    @stream_asset
    def lines():
        yield BadRecord(None, b"no record", "it is no JSON", 1)
        yield JsonBatch([b'{"id":1}'] * 3, np.zeros(3, np.int64), 24)

    result = lake.materialize(lines, io=lake.io(on_bad_record="quarantine"))
    metadata = metadata_of(result, "lines")
    assert metadata["quarantined"] == 1
    bucket, _, key = metadata["quarantine"].removeprefix("s3://").partition("/")
    (aside,) = lake.server.client().get_object(Bucket=bucket, Key=key)["Body"].read().splitlines()
    assert json.loads(aside)["reason"] == "it is no JSON"
    more, fewer = (run_checks(lake, lines, max_quarantine_ratio=most)["few_lines_quarantined"] for most in (0.24, 0.25))
    assert (more.passed, fewer.passed) == (False, True)
    assert metadata_of(fewer.metadata)["ratio"] == 0.25
    assert more.description == "1 of 4 lines quarantined, 25.00%, and at most 24.00% is allowed: lines"


def test_changed_columns_are_reported_once(lake, metadata_of):
    def landed(**properties) -> dg.AssetCheckEvaluation:
        schema = {"type": "object", "properties": properties}
        people = stream_asset(name="people", json_schema=schema)(lambda: [{"id": None}])
        return checked(lake.materialize(people, *build_landing_checks([people])))["schema_unchanged"]

    assert landed(id={"type": "integer"}, nick={"type": "string"}).passed
    changed = landed(id={"type": "string"}, name={"type": "string"})
    assert not changed.passed
    assert changed.severity is dg.AssetCheckSeverity.WARN
    assert changed.description == "people: added name; removed nick; retyped id (integer → string)"
    assert metadata_of(changed.metadata)["changes"] == {
        "people": {"added": ["name"], "removed": ["nick"], "retyped": {"id": "integer → string"}}
    }
    assert landed(id={"type": "string"}, name={"type": "string"}).passed


def test_a_stream_that_has_not_landed_recently_is_reported(lake, metadata_of):
    day = timedelta(days=1)
    nothing = run_checks(lake, users, fresh_within=day, severity=dg.AssetCheckSeverity.ERROR)["landed_lately"]
    assert (nothing.passed, nothing.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert nothing.description == "nothing has landed yet"
    lake.materialize(users)
    (key,) = [key for key in lake.all_keys() if "/segments/" in key]
    began = datetime.fromisoformat(json.loads(lake.body(key))["sync"]["started_at"])
    ages = {day: True, day + timedelta(seconds=1): False}
    for age, passed in ages.items():
        found = run_checks(lake, users, fresh_within=day, clock=lambda age=age: began + age)["landed_lately"]
        assert found.passed == passed
        assert metadata_of(found.metadata)["age_s"] == age.total_seconds()
    assert found.description == f"the last sync began at {began.isoformat(timespec='seconds')}, longer than {day} ago"


@pytest.mark.parametrize(
    ("setting", "value"),
    [("max_quarantine_ratio", -0.1), ("max_quarantine_ratio", 1.1), ("fresh_within", timedelta(0))],
)
def test_impossible_settings_are_refused(setting, value):
    with pytest.raises(SettingsError) as raised:
        build_landing_checks([users], **{setting: value})
    assert raised.value.setting == setting


def test_assets_of_another_io_manager_are_refused(lake):
    resources = {"io_manager": dg.mem_io_manager}
    result = dg.materialize([report, *build_landing_checks([report])], resources=resources, raise_on_error=False)
    assert not result.success


@pytest.mark.parametrize("blocking", [False, True])
def test_checks_can_block_downstream_assets(blocking):
    (made,) = build_landing_checks([users], blocking=blocking)
    assert {each.blocking for each in made.check_specs} == {blocking}
