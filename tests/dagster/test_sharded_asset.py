"""`sharded_stream_asset`: the shards of a stream are steps, and one commit publishes them."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import pytest
import sharded_job
from secret_scan import found, objects_of

from s3dest_dagster import sharded_stream_asset, stream_asset
from s3dest_dagster.errors import SettingsError

SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}}}
DAILY = dg.DailyPartitionsDefinition("2026-01-01")


class Database(dg.ConfigurableResource):
    tables: list[str]


def ids(lake) -> list[int]:
    return sorted(
        json.loads(line)["_airbyte_data"]["id"] for key in lake.data_keys() for line in lake.body(key).splitlines()
    )


def uploads(lake) -> int:
    return len(lake.server.client().list_multipart_uploads(Bucket=lake.bucket).get("Uploads", []))


def test_the_shards_of_an_asset_land_together_and_are_loaded_downstream(lake):
    @sharded_stream_asset(shards=3, json_schema=SCHEMA, key_prefix="shop")
    def events(shard: int):
        """What happened."""
        yield from ({"id": 10 * shard + number} for number in range(2))

    @dg.asset(io_manager_key="memory", ins={"events": dg.AssetIn(key=["shop", "events"])})
    def count(events: list[dict[str, Any]]) -> int:
        return len(events)

    result = lake.materialize(events, count, resources={"memory": dg.mem_io_manager})
    (event, _) = result.get_asset_materialization_events()
    metadata = event.materialization.metadata
    assert (metadata["rows"].value, metadata["object_count"].value, metadata["dagster/row_count"].value) == (6, 3, 6)
    assert result.asset_value("count") == 6
    assert ids(lake) == [0, 1, 10, 11, 20, 21]
    assert events.descriptions_by_key[dg.AssetKey(["shop", "events"])] == "What happened."
    assert {key.split("/")[0] for key in lake.data_keys()} == {"shop"}
    assert event.asset_key == dg.AssetKey(["shop", "events"])


def test_a_partition_is_replaced_and_its_function_gets_the_context(lake):
    @sharded_stream_asset(shards=["a", "b"], json_schema=SCHEMA, sync_mode="append", partitions_def=DAILY)
    def events(context, shard):
        yield {"id": int(context.partition_key[-1]) * 10 + "ab".index(shard)}

    for day in (2, 3, 3):
        lake.materialize(events, partition_key=f"2026-01-0{day}")
    assert ids(lake) == [20, 21, 30, 31]


def test_shards_are_named_when_the_run_begins_and_the_function_may_have_resources(lake):
    @sharded_stream_asset(shards=lambda context: [context.run_id[:1], "z"], json_schema=SCHEMA)
    def events(shard: str, database: Database):
        return [{"id": len(database.tables) + (shard == "z")}]

    lake.materialize(events, resources={"database": Database(tables=["x", "y", "z"])})
    assert ids(lake) == [3, 4]


def test_re_execution_from_failure_stages_only_the_shard_that_failed(lake, tmp_path, monkeypatch):
    """The first run stages two of three shards. Nothing of it is visible, and the second run commits all three."""
    sharded_job.set_environment(monkeypatch, lake.server, lake.bucket, tmp_path, fault="error")
    sharded_job.execute_twice("in_one_process", tmp_path)
    assert sharded_job.attempts_of(tmp_path) == {"0": 1, "1": 2, "2": 1}
    assert ids(lake) == list(range(3 * sharded_job.ROWS))
    assert uploads(lake) == 0


def test_a_retry_policy_executes_one_shard_again(lake):
    calls: list[int] = []

    @sharded_stream_asset(shards=2, json_schema=SCHEMA, retry_policy=dg.RetryPolicy(max_retries=1))
    def events(shard):
        calls.append(shard)
        yield {"id": shard}
        if calls == [0]:
            raise RuntimeError("lost its database")

    lake.materialize(events)
    assert sorted(calls) == [0, 0, 1]
    assert ids(lake) == [0, 1]
    assert uploads(lake) == 0


def test_two_runs_with_the_same_records_are_two_syncs(lake):
    @sharded_stream_asset(shards=2, json_schema=SCHEMA)
    def events(shard):
        return [{"id": shard}]

    versions = set()
    for _ in range(2):
        (event,) = lake.materialize(events).get_asset_materialization_events()
        versions.add(event.materialization.tags["dagster/data_version"])
    assert len(versions) == 2
    assert ids(lake) == [0, 1]


def test_what_passes_between_the_steps_holds_no_secret(lake):
    @sharded_stream_asset(shards=2, json_schema=SCHEMA, fields={"hash": ["id"]})
    def events(shard):
        return [{"id": shard}]

    canaries = {"hash key": "a long and random text", "secret key": lake.server.secret_access_key}
    lake.materialize(events, io=lake.io(hash_key=canaries["hash key"]))
    places = dict(objects_of(lake.server, lake.bucket))
    assert sum("~orders/" in key for key in places) == 5
    assert found(canaries, places.items()) == set()


def test_a_function_without_a_shard_is_refused():
    with pytest.raises(SettingsError, match="no parameter 'shard'"):

        @sharded_stream_asset(shards=2, json_schema=SCHEMA)
        def events():
            return []


def test_a_shard_for_which_nothing_is_returned_fails_and_what_was_there_stays(lake):
    def events(returned):
        return sharded_stream_asset(shards=2, name="events", json_schema=SCHEMA)(lambda shard: returned[shard])

    lake.materialize(events([[{"id": 1}], [{"id": 2}]]))
    with pytest.raises(dg.Failure, match=r"returned nothing for the shard 1\..*an empty list"):
        lake.materialize(events([[{"id": 3}], None]))
    assert ids(lake) == [1, 2]
    lake.materialize(events([[{"id": 3}], []]))
    assert ids(lake) == [3]


@pytest.mark.parametrize("is_generator", [False, True])
def test_an_asynchronous_function_is_refused(is_generator):
    async def fetches(shard: int):
        return [{"id": shard}]

    async def streams(shard: int):
        yield {"id": shard}

    with pytest.raises(SettingsError, match=r"^(fetches|streams) is asynchronous.*asyncio\.run"):
        sharded_stream_asset(shards=2, json_schema={"type": "object"})(streams if is_generator else fetches)


def test_an_op_of_another_kind_still_passes_nothing(lake):
    @stream_asset
    def users():
        return [{"id": 1}]

    lake.materialize(users)
    assert ids(lake) == [1]
