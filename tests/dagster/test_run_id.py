"""Which runs belong to one delivery, and the id of a sync."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest

from s3dest_dagster import stream_asset
from s3dest_dagster.dagster.run_landing import original_run_id, sync_id
from s3dest_dagster.stream import Sync


def run(run_id: str, parent: str | None = None, **tags: str) -> dg.DagsterRun:
    """A run with the tags that Dagster sets. The root of all runs is "first"."""
    return dg.DagsterRun(job_name="job", run_id=run_id, tags=tags_of(parent, **tags) if parent else {})


def tags_of(parent: str, **tags: str) -> dict[str, str]:
    named = {f"dagster/{name}": value for name, value in tags.items()}
    return {"dagster/parent_run_id": parent, "dagster/root_run_id": "first", **named}


def delivery(*runs: dg.DagsterRun) -> str:
    """The delivery of the last of the runs."""
    return original_run_id(runs[-1], {each.run_id: each for each in runs}.get)


FIRST = run("first")


def test_a_run_is_a_separate_delivery():
    assert delivery(FIRST) == "first"


@pytest.mark.parametrize(
    "tags",
    [{"retry_number": "1"}, {"is_resume_retry": "true"}, {"is_asset_resume_retry": "true"}],
    ids=["automatic retry", "from failure", "from asset failure"],
)
def test_a_retried_run_belongs_to_the_same_delivery(tags):
    assert delivery(FIRST, run("second", "first", **tags)) == "first"


def test_retries_of_retries_belong_to_the_same_delivery():
    second = run("second", "first", retry_number="1")
    assert delivery(FIRST, second, run("third", "second", retry_number="2")) == "first"


def test_a_manual_reexecution_is_another_delivery():
    assert delivery(FIRST, run("second", "first")) == "second"


def test_a_retry_of_a_manual_reexecution_belongs_to_that_reexecution():
    """Its root is the first run, whose delivery is complete. A continuation of that delivery would land nothing."""
    again = run("again", "first")
    assert delivery(FIRST, again, run("third", "again", retry_number="1")) == "again"


def test_a_parent_that_was_deleted_is_still_known_by_its_id():
    assert delivery(run("second", "gone", retry_number="1")) == "gone"


@pytest.mark.parametrize(("tags", "expected"), [({"retry_number": "1"}, [1]), ({}, [1, 2])], ids=["retry", "again"])
def test_a_retried_run_does_not_land_twice(lake, tags, expected):
    """A worker may die after the publication and before its last event."""
    number = iter(range(1, 10))

    @stream_asset(sync_mode="append")
    def people():
        return [{"id": next(number)}]

    with dg.DagsterInstance.ephemeral() as instance:
        first = lake.materialize(people, instance=instance)
        lake.materialize(people, instance=instance, tags=tags_of(first.run_id, **tags))
    assert lake.ids() == expected


KEYS = [dg.AssetKey(["a", "b"]), dg.AssetKey(["a b"]), dg.AssetKey(["ä", "*"])]


def test_ids_differ_by_run_asset_and_partition():
    partitions = [None, "", "2026-01-01", "a|b", "ö/…"]
    ids = {sync_id(run_id, key, each) for run_id in ("1", "2") for key in KEYS for each in partitions}
    assert len(ids) == 2 * len(KEYS) * len(partitions)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_ids_are_valid_sync_ids(key):
    made = sync_id("b952017b-e0df-4971-b4b1-7303d5021104", key, "é" * 500)
    assert Sync(made, datetime.now(UTC), "0f0f0f0f-0000-4000-8000-000000000000").id == made
