"""Landing checks, run by Dagster: beside a materialization, and alone."""

from __future__ import annotations

import json

import dagster as dg
import pytest

from s3dest_dagster import build_landing_checks, stream_asset


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


def run_checks(lake, *assets: dg.AssetsDefinition, deep: bool = False, **options) -> dict[str, dg.AssetCheckEvaluation]:
    """What the checks of these assets say, without materializing anything."""
    selection = dg.AssetSelection.checks(*build_landing_checks(assets, deep=deep))
    checks = build_landing_checks(assets, deep=deep)
    return checked(lake.materialize(*assets, *checks, selection=selection, raise_on_error=False, **options))


def test_what_was_landed_passes_both_checks(lake, told):
    found = checked(lake.materialize(users, *build_landing_checks([users])))
    assert {name: each.passed for name, each in found.items()} == {
        "counts_add_up": True,
        "bucket_agrees_with_manifests": True,
    }
    assert told(found["counts_add_up"].metadata) == {
        "read": 2,
        "landed": 2,
        "quarantined": 0,
        "overflowed": 0,
        "undeclared": 0,
    }
    assert told(found["bucket_agrees_with_manifests"].metadata) == {"objects": 1, "rows": 2, "uncompared": 0}


def test_an_object_that_is_gone_fails_the_one_check_and_is_named(lake):
    lake.materialize(users)
    (key,) = lake.data_keys()
    lake.server.client().delete_object(Bucket=lake.bucket, Key=key)
    found = run_checks(lake, users)
    assert found["counts_add_up"].passed
    assert not found["bucket_agrees_with_manifests"].passed
    assert found["bucket_agrees_with_manifests"].description == f"s3://{lake.bucket}/{key} is missing"


def test_counts_that_do_not_add_up_fail_the_other(lake):
    lake.materialize(users)
    (key,) = [key for key in lake.all_keys() if "/segments/" in key]
    segment = json.loads(lake.body(key))
    segment["counts"]["read"] = 3
    lake.server.client().put_object(Bucket=lake.bucket, Key=key, Body=json.dumps(segment))
    told = run_checks(lake, users)["counts_add_up"]
    assert not told.passed
    assert "3 records read, 2 landed, 0 quarantined" in told.description


def test_deep_reads_the_objects(lake):
    lake.materialize(users)
    (key,) = lake.data_keys()
    body = lake.body(key)
    lake.server.client().put_object(Bucket=lake.bucket, Key=key, Body=body[:-9] + b"?" + body[-8:])
    assert not run_checks(lake, users, deep=True)["bucket_agrees_with_manifests"].passed


def test_a_run_of_one_partition_checks_that_partition(lake, told):
    for partition in ("eu", "us"):
        found = checked(lake.materialize(orders, *build_landing_checks([orders]), partition_key=partition))
        assert told(found["bucket_agrees_with_manifests"].metadata)["objects"] == 1
    assert told(run_checks(lake, orders)["bucket_agrees_with_manifests"].metadata)["objects"] == 2


def test_assets_of_another_io_manager_are_refused(lake):
    resources = {"io_manager": dg.mem_io_manager}
    result = dg.materialize([report, *build_landing_checks([report])], resources=resources, raise_on_error=False)
    assert not result.success


@pytest.mark.parametrize("blocking", [False, True])
def test_checks_may_block_what_comes_after(blocking):
    (made,) = build_landing_checks([users], blocking=blocking)
    assert {each.blocking for each in made.check_specs} == {blocking}
