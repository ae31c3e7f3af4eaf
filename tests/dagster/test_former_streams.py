"""An asset that lands in another place than before says what stays visible there, and asks S3 nothing for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
from failing_clients import CountedClient

from s3dest_dagster import stream_asset
from s3dest_dagster.commit.stream_transfer import NewName, move_stream
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import StreamId


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def people(namespace: str = "crm", name: str = "people") -> dg.AssetsDefinition:
    """An asset that has always the same key."""
    metadata = {"s3dest/namespace": namespace, "s3dest/name": name}
    return dg.asset(key=["crm", "people"], metadata=metadata)(lambda: [{"id": 1}])


def left(lake: Any, instance: dg.DagsterInstance, asset: dg.AssetsDefinition, **settings: Any) -> tuple[Any, int]:
    """The metadata `left_elsewhere` of a materialization, and the number of warnings about it."""
    result = lake.materialize(asset, io=lake.io(**settings), instance=instance)
    (event,) = result.get_asset_materialization_events()
    found = event.materialization.metadata.get("left_elsewhere")
    warned = [each for each in instance.all_logs(result.run_id) if "stays visible there" in each.user_message]
    return found and found.value, len(warned)


@pytest.mark.parametrize(
    ("asset", "settings"),
    [
        ({"namespace": "shop"}, {}),
        ({"namespace": ""}, {}),
        ({"name": "persons"}, {}),
        ({}, {"stream_prefix": "raw_"}),
        ({}, {"s3_bucket_path": "lake/v2"}),
        ({}, {"s3_bucket_path": ""}),
    ],
)
def test_an_asset_that_lands_as_another_stream_or_under_another_path_says_once_what_stays(
    lake, instance, asset, settings
):
    assert left(lake, instance, people(), s3_bucket_path="lake") == (None, 0)
    moved = people(**asset)
    settings = {"s3_bucket_path": "lake", **settings}
    assert left(lake, instance, moved, **settings) == ([f"crm.people under s3://{lake.bucket}/lake"], 1)
    assert left(lake, instance, moved, **settings) == (None, 0)


def test_an_asset_that_lands_in_another_bucket_says_what_stays(lake, lake_on, instance):
    assert left(lake, instance, people()) == (None, 0)
    other = lake_on(lake.server)
    assert left(other, instance, people()) == ([f"crm.people under s3://{lake.bucket}"], 1)
    assert left(other, instance, people()) == (None, 0)


def test_partitions_of_a_step_warn_once(lake, instance):
    days = dg.StaticPartitionsDefinition(["a", "b"])

    tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "b"}
    for namespace, told in (("crm", None), ("shop", [f"crm.people under s3://{lake.bucket}"]), ("shop", None)):
        moved = dg.asset(
            key=["crm", "people"],
            partitions_def=days,
            backfill_policy=dg.BackfillPolicy.single_run(),
            metadata={"s3dest/namespace": namespace},
        )(lambda: {"a": [{"id": 1}], "b": [{"id": 2}]})
        result = lake.materialize(moved, instance=instance, tags=tags)
        events = [each.materialization.metadata for each in result.get_asset_materialization_events()]
        assert [each["left_elsewhere"].value if "left_elsewhere" in each else None for each in events] == [told] * 2
        warned = [each for each in instance.all_logs(result.run_id) if "stays visible there" in each.user_message]
        assert len(warned) == (told is not None)


def test_what_was_transferred_is_not_left(lake, instance):
    assert left(lake, instance, people(namespace="crm")) == (None, 0)
    io = lake.io()
    name = NewName(StreamId("crm", "people"), StreamId("shop", "people"))
    move_stream(io.bucket(), io.destination(), name, datetime.now(UTC), os.urandom)
    assert left(lake, instance, people(namespace="shop")) == (None, 0)


def test_the_old_name_says_who_has_what_it_held(lake, instance):
    assert left(lake, instance, people(namespace="crm")) == (None, 0)
    io = lake.io()
    name = NewName(StreamId("crm", "people"), StreamId("shop", "people"))
    move_stream(io.bucket(), io.destination(), name, datetime.now(UTC), os.urandom)
    assert left(lake, instance, people(namespace="crm")) == ([f"shop.people under s3://{lake.bucket}"], 1)


def test_a_moved_stream_costs_no_more_requests_than_a_new_one(lake, instance, monkeypatch):
    counted: list[int] = []
    for path, key in (("lake", "crm"), ("lake2", "crm"), ("lake2", "other")):
        io = lake.io(s3_bucket_path=path)
        assert io.bucket().with_root(f"{path}/_s3dest/").abilities
        client = CountedClient(lake.server.client())
        monkeypatch.setattr(type(io), "bucket", lambda self, client=client: Bucket(client, lake.bucket))
        asset = stream_asset(name="people", key_prefix=key)(lambda: [{"id": 1}])
        assert dg.materialize([asset], resources={"io_manager": io}, instance=instance).success
        counted.append(len(client.calls))
        monkeypatch.undo()
    assert counted[1] == counted[2] <= counted[0]
    assert counted[1] <= 16


@pytest.mark.parametrize("manifest", ["", "a/_s3dest/x/y/z", "s3://lake/data/file.json", "s3://lake/_s3dest/x", 7])
def test_foreign_metadata_is_no_former_stream(lake, instance, manifest):
    instance.report_runless_asset_event(
        dg.AssetMaterialization(people().key, metadata={"manifest": manifest} if manifest != "" else {})
    )
    assert left(lake, instance, people()) == (None, 0)
