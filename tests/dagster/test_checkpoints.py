"""A long append dies in Dagster: its published checkpoints stay, and the next attempt or run resumes from them."""

from __future__ import annotations

import signal
from typing import Any

import dagster as dg
import pytest
from scripted_source import ScriptedSource

from s3dest_dagster import build_stream_assets


@pytest.fixture
def scripted(tmp_path) -> ScriptedSource:
    """A source of the stream `users` that dies after its third record. The next time it continues to the fifth."""
    source = ScriptedSource(tmp_path).stream("users", source_defined_cursor=True)
    source.on("read", 1).counting("users", 3).records("users", {"id": 99}).dies(signal.SIGKILL)
    return source.on("read", 2).counting("users", 5)


def users(scripted: ScriptedSource, **asset: Any) -> dg.AssetsDefinition:
    (made,) = build_stream_assets(
        scripted.source(), catalog=scripted.catalog, partitions_def=None, streams={"users": "append"}, **asset
    )
    return made


def states_at_start(scripted: ScriptedSource) -> list[Any]:
    """The state that each read received."""
    states = [call["files"].get("state") for call in scripted.calls("read")]
    return [each and each[0]["stream"]["stream_state"] for each in states]


def io_of(lake, **settings: Any):
    return lake.io(checkpoint_mb=0.000_001, **settings)


def test_a_retry_within_the_run_resumes_from_the_last_checkpoint(lake, metadata_of, scripted):
    result = lake.materialize(users(scripted, retry_policy=dg.RetryPolicy(max_retries=1)), io=io_of(lake))
    assert states_at_start(scripted) == [None, {"at": 3}]
    assert lake.ids() == [1, 2, 3, 4, 5]
    metadata = metadata_of(result, "users")
    assert [metadata[name] for name in ("rows", "records_read", "checkpoints", "earlier_rows")] == [5, 5, 5, 3]


@pytest.mark.parametrize("tags", [{"dagster/is_resume_retry": "true"}, {}], ids=["from-failure", "the-next-run"])
def test_another_run_resumes_from_the_last_checkpoint(lake, metadata_of, scripted, tags):
    made = users(scripted)
    with dg.DagsterInstance.ephemeral() as instance:
        failed = lake.materialize(made, io=io_of(lake), instance=instance, raise_on_error=False)
        assert (failed.success, lake.ids(), lake.uploads()) == (False, [1, 2, 3], 0)
        again = lake.materialize(
            made, io=io_of(lake), instance=instance, tags={"dagster/parent_run_id": failed.run_id, **tags}
        )
        log = [each.user_message for each in instance.all_logs(failed.run_id)]
    assert states_at_start(scripted) == [None, {"at": 3}]
    assert lake.ids() == [1, 2, 3, 4, 5]
    assert metadata_of(again, "users")["rows"] == (5 if tags else 2)
    assert sum("users: checkpoint, 1 row in 1 object published" in line for line in log) == 3


def test_a_source_that_ends_without_complete_fails_and_keeps_its_checkpoints(lake, tmp_path):
    source = ScriptedSource(tmp_path).stream("users", source_defined_cursor=True)
    source.on("read", 1).status("users", "RUNNING").counting("users", 2).records("users", {"id": 99})
    source.on("read", 2).status("users", "RUNNING").counting("users", 3).status("users", "COMPLETE")
    made = users(source)
    with pytest.raises(dg.Failure, match="without reporting COMPLETE for: users"):
        lake.materialize(made, io=io_of(lake))
    assert lake.ids() == [1, 2]
    lake.materialize(made, io=io_of(lake))
    assert (states_at_start(source), lake.ids()) == ([None, {"at": 2}], [1, 2, 3])


def test_a_full_refresh_source_receives_its_state_only_if_the_last_run_was_cut_short(lake, tmp_path):
    """At the end of such a read, sources report that nothing is left. Given that state, they would never read
    anything again."""
    source = ScriptedSource(tmp_path).stream("users", supported_sync_modes=["full_refresh"])
    source.on("read", 1).counting("users", 1).dies(signal.SIGKILL)
    source.on("read", 2).counting("users", 2)
    source.on("read", 3).counting("users", 2)
    made = users(source)
    lake.materialize(made, io=io_of(lake), raise_on_error=False)
    for _ in range(2):
        lake.materialize(made, io=io_of(lake))
    assert states_at_start(source) == [None, {"at": 1}, None]
    assert lake.ids() == [1, 1, 2, 2]


def test_streams_of_one_run_have_separate_checkpoints(lake, tmp_path):
    """One stream dies in the middle of the other. Each resumes from its own position."""
    source = ScriptedSource(tmp_path)
    for name in ("users", "orders"):
        source.stream(name, source_defined_cursor=True)
    source.on("read", 1).records("orders", {"id": 7}).counting("users", 2).dies(signal.SIGKILL)
    source.on("read", 2).counting("users", 3).records("orders", {"id": 7}, {"id": 8})
    (made,) = build_stream_assets(
        source.source(),
        catalog=source.catalog,
        partitions_def=None,
        streams={"users": "append", "orders": "append"},
        as_one_run="shop",
    )
    assert not lake.materialize(made, io=io_of(lake), raise_on_error=False).success
    assert (lake.ids("users/"), lake.ids("orders/")) == ([1, 2], [])
    lake.materialize(made, io=io_of(lake))
    assert states_at_start(source) == [None, {"at": 2}]
    assert (lake.ids("users/"), lake.ids("orders/")) == ([1, 2, 3], [7, 8])


def test_a_global_state_is_committed_only_at_the_end_of_a_run(lake, tmp_path):
    source = ScriptedSource(tmp_path)
    for name in ("users", "orders"):
        source.stream(name, source_defined_cursor=True).records(name, {"id": 1}).global_state({"lsn": 1})
    (made,) = build_stream_assets(
        source.source(),
        catalog=source.catalog,
        partitions_def=None,
        streams={"users": "append", "orders": "append"},
        as_one_run="shop",
    )
    events = lake.materialize(made, io=io_of(lake)).get_asset_materialization_events()
    reported = [each.materialization.metadata for each in events]
    assert [each["rows"].value for each in reported if "checkpoints" not in each] == [1, 1]
    assert (lake.ids("users/"), lake.ids("orders/")) == ([1], [1])


@pytest.mark.parametrize("refresh", [{"users": "full_refresh"}, {"users": "append"}], ids=["refresh", "partition"])
def test_a_sync_that_replaces_records_is_published_once(lake, tmp_path, refresh):
    source = ScriptedSource(tmp_path).stream("users").counting("users", 2).dies(signal.SIGKILL)
    partitions = None if refresh["users"] == "full_refresh" else dg.StaticPartitionsDefinition(["eu"])
    (made,) = build_stream_assets(source.source(), catalog=source.catalog, partitions_def=partitions, streams=refresh)
    key = None if partitions is None else "eu"
    assert not lake.materialize(made, io=io_of(lake), partition_key=key, raise_on_error=False).success
    assert lake.ids() == []
