"""The settings of one run for assets of several steps or streams: one run of a connector, and shards."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import pytest
from scripted_source import ScriptedSource

from s3dest_dagster import StreamRunConfig, build_stream_assets, connector_assets, sharded_stream_asset

APPEND = {"users": "append", "orders": "append"}
SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}}}


@pytest.fixture
def scripted(tmp_path) -> ScriptedSource:
    """A connector with two streams."""
    source = ScriptedSource(tmp_path)
    for name in APPEND:
        source.stream(name, source_defined_cursor=True)
    return source


def run(lake: Any, scripted: ScriptedSource, select: Any = None, tags: Any = None, **settings: Any) -> Any:
    """One run of the connector with these settings of the run."""
    (made,) = build_stream_assets(
        scripted.source({"start_date": "2020-01-01"}),
        catalog=scripted.catalog,
        streams=APPEND,
        partitions_def=None,
        as_one_run="sync",
    )
    config = {"ops": {"sync": {"config": settings}}} if settings else {}
    return lake.materialize(made, run_config=config, selection=select, tags=tags, raise_on_error=False)


def failure(result: Any) -> str:
    assert not result.success
    (event,) = [event for event in result.all_events if event.is_step_failure]
    return str(event.event_specific_data.error_display_string)


def read(scripted: ScriptedSource, first: int, state: dict[str, Any] | None = None) -> ScriptedSource:
    """Scripts a record of each stream and a state of all streams."""
    scripted.on("read")
    for name in APPEND:
        scripted.records(name, {"id": first})
    return scripted if state is None else scripted.message({"type": "STATE", "state": state})


def shared(at: int, *names: str) -> dict[str, Any]:
    entries = [{"stream_descriptor": {"name": name}, "stream_state": {"done": True}} for name in names]
    return {"type": "GLOBAL", "global": {"shared_state": {"at": at}, "stream_states": entries}}


def states(scripted: ScriptedSource) -> list[Any]:
    return [call["files"].get("state") for call in scripted.calls("read")]


class TestOneRunOfAConnector:
    @pytest.mark.parametrize("by", ["config", "tags"])
    def test_the_entries_of_the_chosen_streams_are_dropped(self, lake, scripted, by):
        chosen: dict[str, Any] = {"full_refresh": True, "streams": ["users"]}
        if by == "tags":
            chosen = {"tags": {"s3dest/full_refresh": "true", "s3dest/streams": "users"}}
        assert run(lake, read(scripted, 1, shared(1, *APPEND))).success
        assert run(lake, read(scripted, 2, shared(2, *APPEND)), **chosen).success
        assert run(lake, read(scripted, 3, shared(3, *APPEND))).success
        assert states(scripted) == [None, [shared(1, "orders")], [shared(2, *APPEND)]]
        assert (lake.ids("users/"), lake.ids("orders/")) == ([2, 3], [1, 2, 3])

    def test_a_chosen_stream_alone_keeps_the_shared_part(self, lake, scripted):
        assert run(lake, read(scripted, 1, shared(1, *APPEND))).success
        scripted.on("read").records("users", {"id": 2}).message({"type": "STATE", "state": shared(2, *APPEND)})
        assert run(lake, scripted, [dg.AssetKey("users")], full_refresh=True).success
        assert states(scripted) == [None, [shared(1, "orders")]]
        assert (lake.ids("users/"), lake.ids("orders/")) == ([2], [1])

    def test_nothing_of_the_state_is_kept_if_all_are_chosen(self, lake, scripted):
        for full_refresh in (False, True):
            assert run(lake, read(scripted, 1, shared(1, *APPEND)), full_refresh=full_refresh).success
        assert states(scripted) == [None, None]
        assert (lake.ids("users/"), lake.ids("orders/")) == ([1], [1])

    def test_states_of_single_streams_are_dropped_one_by_one(self, lake, scripted):
        for settings in ({}, {"full_refresh": True, "streams": ["users"]}):
            scripted.on("read")
            for name in APPEND:
                scripted.records(name, {"id": 1}).state(name, {"at": 1})
            assert run(lake, scripted, **settings).success
        (state,) = states(scripted)[1]
        assert state["stream"]["stream_descriptor"]["name"] == "orders"
        modes = [each["sync_mode"] for each in scripted.calls("read")[1]["files"]["catalog"]["streams"]]
        assert modes == ["incremental", "incremental"]
        assert (lake.ids("users/"), lake.ids("orders/")) == ([1], [1, 1])

    def test_a_state_that_cannot_be_divided_is_dropped_for_all_or_not_at_all(self, lake, scripted):
        assert run(lake, read(scripted, 1).legacy_state({"at": 1})).success
        refused = run(lake, read(scripted, 2).legacy_state({"at": 2}), full_refresh=True, streams=["users"])
        assert "LEGACY" in failure(refused)
        assert (lake.ids("users/"), lake.ids("orders/")) == ([1], [1])
        assert run(lake, read(scripted, 2).legacy_state({"at": 2}), full_refresh=True).success
        assert (lake.ids("users/"), lake.ids("orders/")) == ([2], [2])
        assert states(scripted) == [None, None]

    def test_a_plan_shows_each_selected_stream_and_starts_nothing(self, lake, scripted):
        result = run(lake, read(scripted, 1), plan=True)
        assert result.success
        shown = [event.asset_key.path for event in result.get_asset_observation_events()]
        assert (shown, result.get_asset_materialization_events()) == ([["users"], ["orders"]], [])
        assert scripted.calls("read") == []
        assert lake.all_keys() == []

    def test_a_limit_cuts_each_stream_and_no_state_passes_what_it_left_out(self, lake, scripted):
        scripted.on("read")
        for number in range(3):
            for name in APPEND:
                scripted.records(name, {"id": number})
            scripted.message({"type": "STATE", "state": shared(number, *APPEND)})
        result = run(lake, scripted, record_limit=2)
        assert (lake.ids("users/"), lake.ids("orders/")) == ([0, 1], [0, 1])
        for event in result.get_asset_materialization_events():
            assert event.materialization.metadata["limited"].value == "record_limit: 2 records"
        assert run(lake, read(scripted, 5)).success
        assert states(scripted) == [None, [shared(1, *APPEND)]]

    def test_a_part_does_not_replace_the_whole(self, lake, scripted):
        refused = run(lake, read(scripted, 1), full_refresh=True, streams=["users"], record_limit=1)
        assert "everything that users has landed" in failure(refused)
        assert scripted.calls("read") == []

    def test_a_date_reaches_the_connector_without_the_states(self, lake, scripted):
        assert run(lake, read(scripted, 1, shared(1, *APPEND))).success
        assert run(lake, read(scripted, 2, shared(2, *APPEND)), start_date="2026-02-01").success
        assert states(scripted) == [None, None]
        assert scripted.calls("read")[1]["files"]["config"] == {"start_date": "2026-02-01"}
        refused = run(lake, read(scripted, 3), start_date="2026-02-01", streams=["users"])
        assert "the run reads orders as well" in failure(refused)

    def test_the_connector_goes_on_from_a_state_of_all_streams(self, lake, scripted):
        assert run(lake, read(scripted, 1, shared(1, *APPEND))).success
        state = json.dumps(shared(7, *APPEND))
        assert run(lake, read(scripted, 2, shared(8, *APPEND)), state=state).success
        assert run(lake, read(scripted, 3)).success
        assert states(scripted) == [None, [shared(7, *APPEND)], [shared(8, *APPEND)]]
        assert "must be set for all of them" in failure(run(lake, read(scripted, 4), state=state, streams=["users"]))

    def test_an_unknown_stream_is_refused(self, lake, scripted):
        message = failure(run(lake, read(scripted, 1), full_refresh=True, streams=["user"]))
        assert "The streams are: orders, users." in message


class Region(dg.Config):
    region: str = "eu"


class RegionOfRun(StreamRunConfig):
    region: str = "eu"


class TestABodyAroundOneRunOfAConnector:
    @pytest.fixture
    def begun(self) -> list[Any]:
        """What the bodies note when they begin."""
        return []

    @pytest.fixture
    def sync(self, scripted):
        """Decorates a body with the assets of the connector."""
        read(scripted, 1)
        return connector_assets(source=scripted.source(), catalog=scripted.catalog, streams=APPEND)

    @pytest.fixture
    def plain(self, sync, begun) -> dg.AssetsDefinition:
        """Assets whose body has no config."""

        @sync
        def plain(context: dg.AssetExecutionContext, run):
            begun.append("plain")
            yield from run(context)

        return plain

    @pytest.mark.parametrize("by", ["config", "tags"])
    def test_a_plan_shows_each_selected_stream_and_does_not_run_the_body(self, lake, scripted, plain, begun, by):
        given: dict[str, Any] = {"run_config": {"ops": {"plain": {"config": {"plan": True}}}}}
        result = lake.materialize(plain, **(given if by == "config" else {"tags": {"s3dest/plan": "true"}}))
        shown = [event.asset_key.path for event in result.get_asset_observation_events()]
        assert (shown, result.get_asset_materialization_events()) == ([["users"], ["orders"]], [])
        assert (begun, scripted.calls("read"), lake.all_keys()) == ([], [], [])

    def test_the_settings_hold_for_what_the_body_lands(self, lake, plain):
        for settings in ({}, {"full_refresh": True, "streams": ["users"]}):
            lake.materialize(plain, run_config={"ops": {"plain": {"config": settings}}})
        assert (lake.ids("users/"), lake.ids("orders/")) == ([1], [1, 1])

    def test_a_body_with_its_own_config_takes_the_settings_as_tags_only(self, lake, sync, begun):
        @sync
        def own(context: dg.AssetExecutionContext, config: Region, run):
            begun.append(config.region)
            yield from run(context)

        for region, tags in (("us", {}), ("it", {"s3dest/full_refresh": "true"})):
            lake.materialize(own, run_config={"ops": {"own": {"config": {"region": region}}}}, tags=tags)
        assert (begun, lake.ids("users/"), lake.ids("orders/")) == (["us", "it"], [1], [1])
        with pytest.raises(dg.DagsterInvalidConfigError, match="full_refresh"):
            lake.materialize(own, run_config={"ops": {"own": {"config": {"full_refresh": True}}}})

    def test_a_body_reads_a_config_that_is_derived_from_the_settings(self, lake, sync, begun):
        @sync
        def derived(context: dg.AssetExecutionContext, config: RegionOfRun, run):
            begun.append((config.region, config.full_refresh))
            yield from run(context)

        for settings in ({}, {"region": "us", "full_refresh": True}):
            lake.materialize(derived, run_config={"ops": {"derived": {"config": settings}}})
        assert begun == [("eu", False), ("us", True)]
        assert (lake.ids("users/"), lake.ids("orders/")) == ([1], [1])


class TestShards:
    @pytest.fixture
    def events(self) -> dg.AssetsDefinition:
        @sharded_stream_asset(shards=2, json_schema=SCHEMA, sync_mode="append")
        def events(shard: int):
            yield {"id": shard}

        return events

    def test_a_tag_replaces_what_was_appended(self, lake, events):
        for tags in (None, {"s3dest/full_refresh": "true"}):
            result = lake.materialize(events, tags=tags)
        (event,) = result.get_asset_materialization_events()
        assert event.materialization.metadata["run_settings"].value == {"full_refresh": True}
        assert lake.ids() == [0, 1]

    def test_a_plan_runs_no_shard(self, lake, events):
        result = lake.materialize(events, tags={"s3dest/plan": "true"})
        assert result.success
        assert (len(result.get_asset_observation_events()), result.get_asset_materialization_events()) == (1, [])
        assert lake.all_keys() == []

    @pytest.mark.parametrize("tag", [("record_limit", "1"), ("time_limit_s", "1"), ("start_date", "2026-01-01")])
    def test_what_shards_cannot_do_is_refused(self, lake, events, tag):
        result = lake.materialize(events, tags={f"s3dest/{tag[0]}": tag[1]}, raise_on_error=False)
        assert f"{tag[0]} has no effect on events" in failure(result)
        assert lake.all_keys() == []
