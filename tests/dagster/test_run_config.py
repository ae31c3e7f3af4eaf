"""The settings of one run: each reaches its effect, from the config of the step and from tags of the run."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from scripted_source import ScriptedSource

from s3dest_dagster import FileSource, StreamRunConfig, build_stream_assets, stream_asset

DAILY = dg.DailyPartitionsDefinition("2026-01-01")


class Since(StreamRunConfig):
    """The settings of a run, and one of its function."""

    region: str = "eu"


class Other(dg.Config):
    """A config that has nothing to do with the settings of a run."""

    full_refresh: bool = False


@pytest.fixture
def scripted(tmp_path) -> ScriptedSource:
    return ScriptedSource(tmp_path)


def run(lake: Any, asset: dg.AssetsDefinition, *others: Any, tags: Any = None, **options: Any) -> Any:
    """Materializes the asset with these settings of the run as its config, or with tags."""
    names = ("io", "partition_key", "raise_on_error")
    given = {name: options.pop(name) for name in names if name in options}
    config = {"ops": {asset.node_def.name: {"config": options}}} if options else {}
    return lake.materialize(asset, *others, run_config=config, tags=tags, **given)


def failure(lake: Any, asset: dg.AssetsDefinition, **options: Any) -> str:
    """The message with which the run fails."""
    result = run(lake, asset, raise_on_error=False, **options)
    assert not result.success
    (event,) = [event for event in result.all_events if event.is_step_failure]
    return str(event.event_specific_data.error_display_string)


def counting_users(scripted: ScriptedSource, until: int = 3, config: Any = None, **stream: Any):
    """An append whose records continue from its state."""
    if not scripted._catalog:
        scripted.stream("users", source_defined_cursor=True)
    scripted.on("read").counting("users", until)
    source = scripted.source(config)
    (made,) = build_stream_assets(source, catalog=scripted.catalog, streams={"users": "append"}, partitions_def=None)
    return made


def states(scripted: ScriptedSource) -> list[Any]:
    """The position of the state that each read received."""
    given = [call["files"].get("state") for call in scripted.calls("read")]
    return [None if each is None else each[0]["stream"]["stream_state"]["at"] for each in given]


@stream_asset(sync_mode="append")
def visits():
    yield {"id": 1}
    yield {"id": 2}
    yield {"id": 3}


class TestFullRefresh:
    def test_an_append_is_replaced_once(self, lake):
        for full_refresh in (False, False, True, False):
            run(lake, visits, full_refresh=full_refresh)
        assert lake.ids() == [1, 1, 2, 2, 3, 3]

    def test_a_tag_does_the_same(self, lake):
        for value in ("false", "false", "true"):
            run(lake, visits, tags={"s3dest/full_refresh": value})
        assert lake.ids() == [1, 2, 3]

    def test_a_connector_begins_anew_and_the_new_state_holds(self, lake, scripted):
        for until, full_refresh in ((3, False), (5, False), (4, True), (6, False)):
            run(lake, counting_users(scripted, until), full_refresh=full_refresh)
        assert states(scripted) == [None, 3, None, 4]
        assert lake.ids() == [1, 2, 3, 4, 5, 6]

    def test_the_connector_still_reads_incrementally(self, lake, scripted):
        run(lake, counting_users(scripted), full_refresh=True)
        ((stream,),) = [call["files"]["catalog"]["streams"] for call in scripted.calls("read")]
        assert (stream["sync_mode"], stream["destination_sync_mode"]) == ("incremental", "append")

    def test_a_full_refresh_without_a_state_clears_the_old_one(self, lake, scripted):
        run(lake, counting_users(scripted, 3))
        scripted.on("read").records("users", {"id": 9})
        source = scripted.source()
        (made,) = build_stream_assets(
            source, catalog=scripted.catalog, streams={"users": "append"}, partitions_def=None
        )
        run(lake, made, full_refresh=True)
        run(lake, made)
        assert states(scripted) == [None, None, None]

    def test_a_failed_full_refresh_leaves_records_and_state(self, lake, scripted):
        run(lake, counting_users(scripted, 3))
        scripted.on("read").records("users", {"id": 9}).exits(1)
        scripted.source()
        failure(lake, counting(scripted), full_refresh=True)
        assert lake.ids() == [1, 2, 3]
        run(lake, counting_users(scripted, 4))
        assert states(scripted) == [None, None, 3]

    def test_partitions_that_are_added_to_are_replaced(self, lake):
        @stream_asset(sync_mode="append", partitions_def=DAILY)
        def events():
            yield {"id": 1}

        for full_refresh in (False, False, True):
            run(
                lake,
                events,
                io=lake.io(on_rematerialize="append"),
                partition_key="2026-01-05",
                full_refresh=full_refresh,
            )
        assert lake.ids() == [1]

    def test_the_materialization_shows_the_settings(self, lake, metadata_of):
        assert metadata_of(run(lake, visits, full_refresh=True), "visits")["run_settings"] == {"full_refresh": True}
        assert "run_settings" not in metadata_of(run(lake, visits), "visits")


def counting(scripted: ScriptedSource) -> dg.AssetsDefinition:
    """The stream of the source as it is scripted."""
    (made,) = build_stream_assets(
        scripted.source(), catalog=scripted.catalog, streams={"users": "append"}, partitions_def=None
    )
    return made


class TestStreams:
    def test_a_tag_names_the_streams_of_a_run(self, lake):
        @stream_asset(sync_mode="append")
        def clicks():
            yield {"id": 7}

        for tags in (None, {"s3dest/full_refresh": "true", "s3dest/streams": "clicks"}):
            run(lake, visits, clicks, tags=tags)
        assert (lake.ids("visits/"), lake.ids("clicks/")) == ([1, 1, 2, 2, 3, 3], [7])

    def test_an_unknown_stream_is_refused_with_those_that_are_known(self, lake):
        assert "'visit'. No stream has it. The streams are: visits." in failure(
            lake, visits, full_refresh=True, streams=["visit"]
        )
        tags = {"s3dest/full_refresh": "true", "s3dest/streams": "visit"}
        assert "The streams are: visits." in failure(lake, visits, tags=tags)
        assert lake.all_keys() == []


class TestStart:
    def test_a_connector_reads_from_a_date_instead_of_its_state(self, lake, scripted):
        config = {"start_date": "2020-01-01", "key": "k"}
        run(lake, counting_users(scripted, 2, config))
        run(lake, counting_users(scripted, 3, config), start_date="2026-02-01")
        run(lake, counting_users(scripted, 4, config))
        given = [call["files"]["config"]["start_date"] for call in scripted.calls("read")]
        assert given == ["2020-01-01", "2026-02-01", "2020-01-01"]
        assert states(scripted) == [None, None, 3]
        assert lake.ids() == [1, 1, 2, 2, 3, 4]

    def test_a_config_that_the_connector_changes_keeps_its_own_date(self, lake, tmp_path):
        from s3dest_dagster import ConfigFile

        path = tmp_path / "config.json"
        path.write_text(json.dumps({"start_date": "2020-01-01", "token": "old"}))
        scripted = ScriptedSource(tmp_path).stream("users", source_defined_cursor=True)
        scripted.control({"start_date": "2026-02-01", "token": "new"}).records("users", {"id": 1})
        (made,) = build_stream_assets(
            scripted.source(ConfigFile(path)),
            catalog=scripted.catalog,
            streams={"users": "append"},
            partitions_def=None,
        )
        run(lake, made, start_date="2026-02-01")
        assert json.loads(path.read_text()) == {"start_date": "2020-01-01", "token": "new"}

    def test_a_config_without_a_date_is_refused(self, lake, scripted):
        assert "no start_date to replace. It has: key" in failure(
            lake, counting_users(scripted, 2, {"key": "k"}), start_date="2026-02-01"
        )

    def test_a_connector_goes_on_from_a_state(self, lake, scripted):
        run(lake, counting_users(scripted, 5))
        state = {"type": "STREAM", "stream": {"stream_descriptor": {"name": "users"}, "stream_state": {"at": 3}}}
        run(lake, counting_users(scripted, 6), state=json.dumps(state))
        run(lake, counting_users(scripted, 7))
        assert states(scripted) == [None, 3, 6]
        assert lake.ids() == [1, 2, 3, 4, 4, 5, 5, 6, 7]

    def test_the_state_of_another_stream_is_refused(self, lake, scripted):
        state = {"type": "STREAM", "stream": {"stream_descriptor": {"name": "orders"}, "stream_state": {"at": 3}}}
        assert "state has none of users" in failure(lake, counting_users(scripted), state=json.dumps(state))

    def test_a_function_reads_the_date_in_its_own_config(self, lake):
        @stream_asset(sync_mode="append")
        def orders(config: Since):
            yield {"id": f"{config.region} {config.start_date}"}

        run(lake, orders, start_date="2026-02-01", region="us")
        run(lake, orders, full_refresh=True, start_date="2026-03-01", allow_partial=True)
        assert lake.ids() == ["eu 2026-03-01"]

    @pytest.mark.parametrize(
        ("setting", "value", "reason"),
        [
            ("start_date", "2026-02-01", "derived from StreamRunConfig"),
            ("state", '{"type":"GLOBAL","global":{"shared_state":{},"stream_states":[]}}', "that has states"),
        ],
    )
    def test_other_functions_and_files_have_no_place_to_begin(self, lake, tmp_path, setting, value, reason):
        (tmp_path / "a.jsonl").write_text('{"id": 1}\n')
        source = FileSource(str(tmp_path / "*.jsonl"))

        @stream_asset(sync_mode="append")
        def files():
            return source.read()

        for asset in (visits, files):
            assert reason in failure(lake, asset, **{setting: value})
        assert lake.all_keys() == []

    def test_partitions_have_no_place_to_begin(self, lake, scripted):
        scripted.stream("users", source_defined_cursor=True).records("users", {"id": 1})
        (made,) = build_stream_assets(
            scripted.source({"start_date": "a"}),
            catalog=scripted.catalog,
            streams={"users": "append"},
            partitions_def=DAILY,
        )
        assert "its own slice" in failure(lake, made, start_date="2026-02-01", partition_key="2026-01-05")


class TestPlan:
    def test_nothing_is_read_or_landed_and_downstream_is_skipped(self, lake, metadata_of):
        calls = []

        @stream_asset
        def users():
            calls.append(1)
            return [{"id": 1}]

        @dg.asset(io_manager_key="memory")
        def count(users: list[dict[str, Any]]) -> int:
            return len(users)

        def materialize(**options):
            io = lake.io()
            return dg.materialize([users, count], resources={"io_manager": io, "memory": dg.mem_io_manager}, **options)

        materialize()
        before = sorted(lake.all_keys())
        config = {"ops": {"users": {"config": {"plan": True}}}}
        for options in ({"run_config": config}, {"tags": {"s3dest/plan": "true"}}):
            result = materialize(**options)
            assert result.success
            assert result.get_asset_materialization_events() == []
            assert [event.step_key for event in result.all_events if event.event_type_value == "STEP_SKIPPED"] == [
                "count"
            ]
            (observation,) = result.get_asset_observation_events()
            shown = metadata_of(observation.event_specific_data.asset_observation.metadata)
            assert (shown["plan"], shown["sync_mode"], shown["deleted_objects"]) == (True, "full_refresh", 1)
            assert shown["deleted_keys"] == lake.data_keys()
        assert sorted(lake.all_keys()) == before
        assert calls == [1]

    def test_a_connector_is_not_started(self, lake, scripted, metadata_of):
        made = counting_users(scripted)
        run(lake, made)
        for start, settings in (
            ("read from the last state on", {}),
            ("read from the beginning", {"full_refresh": True}),
            ("read from 2026-02-01 on", {"start_date": "2026-02-01"}),
        ):
            result = run(lake, made, plan=True, **settings)
            (observation,) = result.get_asset_observation_events()
            assert metadata_of(observation.event_specific_data.asset_observation.metadata)["start"] == start
        assert len(scripted.calls("read")) == 1

    def test_each_partition_of_the_run_is_shown(self, lake):
        @stream_asset(partitions_def=DAILY)
        def days():
            return [{"id": 1}]

        (observation,) = run(lake, days, plan=True, partition_key="2026-01-05").get_asset_observation_events()
        assert observation.event_specific_data.asset_observation.partition == "2026-01-05"

    def test_assets_that_cannot_be_skipped_are_refused(self, lake):
        @dg.asset
        def plain() -> list[dict[str, int]]:
            return [{"id": 1}]

        @stream_asset(check_specs=[dg.AssetCheckSpec("good", asset="checked")])
        def checked():
            yield {"id": 1}
            yield dg.AssetCheckResult(passed=True, check_name="good")

        for asset in (plain, checked):
            assert "plan has no effect" in failure(lake, asset, tags={"s3dest/plan": "true"})
        assert lake.all_keys() == []


class TestLimits:
    def test_a_limited_append_goes_on_where_it_ended(self, lake, scripted, metadata_of):
        made = counting_users(scripted, 9)
        limited = run(lake, made, record_limit=4)
        assert lake.ids() == [1, 2, 3, 4]
        assert metadata_of(limited, "users")["limited"] == "record_limit: 4 records"
        rest = run(lake, made)
        assert lake.ids() == list(range(1, 10))
        assert states(scripted) == [None, 4]
        assert "limited" not in metadata_of(rest, "users")

    def test_a_state_after_records_that_were_left_out_is_left_out(self, lake, scripted):
        scripted.stream("users", source_defined_cursor=True)
        scripted.records("users", {"id": 1}, {"id": 2}).state("users", {"at": 2})
        run(lake, counting(scripted), record_limit=1)
        run(lake, counting(scripted))
        assert states(scripted) == [None, None]

    def test_a_limit_that_is_not_reached_is_not_shown_as_one(self, lake, metadata_of):
        assert "limited" not in metadata_of(run(lake, visits, record_limit=3), "visits")

    def test_time_ends_a_source_that_never_does(self, lake, metadata_of):
        @stream_asset(sync_mode="append")
        def endless():
            number = 0
            while True:
                yield {"id": number, "text": "x" * 100_000}
                number += 1

        metadata = metadata_of(run(lake, endless, time_limit_s=0.05), "endless")
        assert metadata["limited"] == "time_limit_s: 0.05 s"

    def test_columns_and_files_are_cut_too(self, lake, tmp_path):
        (tmp_path / "a.jsonl").write_text("".join(f'{{"id": {number}}}\n' for number in range(5)))
        source = FileSource(str(tmp_path / "*.jsonl"))

        @stream_asset(sync_mode="append")
        def columns():
            return pa.table({"id": list(range(5))})

        @stream_asset(sync_mode="append")
        def files():
            return source.read()

        for asset in (columns, files):
            run(lake, asset, record_limit=2)
        assert (lake.ids("columns/"), lake.ids("files/")) == ([0, 1], [0, 1])

    @pytest.mark.parametrize("limit", [{"record_limit": 1}, {"time_limit_s": 60.0}])
    def test_a_part_does_not_replace_the_whole(self, lake, limit):
        run(lake, visits)
        assert "replace everything that visits has landed with a part" in failure(
            lake, visits, full_refresh=True, **limit
        )
        assert lake.ids() == [1, 2, 3]

    def test_a_part_may_replace_the_whole_if_the_run_says_so(self, lake):
        run(lake, visits)
        run(lake, visits, full_refresh=True, record_limit=1, allow_partial=True)
        assert lake.ids() == [1]


class TestExceptions:
    def users(self, field: str, contract: str = "freeze") -> dg.AssetsDefinition:
        properties = {"id": {"type": "integer"}, field: {"type": "string"}}

        @stream_asset(
            schema_contract={"new_column": contract}, json_schema={"type": "object", "properties": properties}
        )
        def users():
            return [{"id": 1, field: "x"}]

        return users

    def test_a_change_of_the_schema_is_accepted_once(self, lake):
        from s3dest_dagster import ParquetFormat

        io = lake.io(format=ParquetFormat())
        run(lake, self.users("a"), io=io)
        assert "new_column" in failure(lake, self.users("b"), io=io)
        assert run(lake, self.users("b"), io=io, schema_contract={"new_column": "evolve"}).success
        assert run(lake, self.users("b"), io=io).success
        assert "new_column" in failure(lake, self.users("c"), io=io)

    def test_a_new_template_is_accepted_once(self, lake):
        run(lake, visits)
        moved = lake.io(s3_path_format="other/${NAMESPACE}/${STREAM_NAME}/")
        assert "on_template_change" in failure(lake, visits, io=moved)
        assert run(lake, visits, io=moved, tags={"s3dest/on_template_change": "accept"}).success
        assert run(lake, visits, io=moved).success


class TestValidation:
    @pytest.mark.parametrize(
        ("settings", "reason"),
        [
            ({"record_limit": 0}, "record_limit is 0. Give a number above zero"),
            ({"time_limit_s": -1.0}, "time_limit_s is -1.0"),
            ({"on_template_change": "yes"}, "Give 'accept' or 'fail'"),
            ({"schema_contract": {"new_colum": "evolve"}}, "new_column"),
            ({"schema_contract": {"new_column": "allow"}}, "'evolve'"),
            ({"state": "nothing"}, "no JSON"),
            ({"state": '{"data": {}}', "full_refresh": True}, "state and full_refresh both"),
        ],
    )
    def test_a_wrong_setting_is_refused(self, lake, settings, reason):
        assert reason in failure(lake, visits, **settings)

    @pytest.mark.parametrize(
        ("name", "text", "reason"),
        [
            ("full_refresh", "yes", "true or false"),
            ("record_limit", "many", "a whole number"),
            ("schema_contract", "evolve", "a JSON object"),
            ("full_refesh", "true", "Did you mean 'full_refresh'"),
        ],
    )
    def test_a_wrong_tag_is_refused(self, lake, name, text, reason):
        assert reason in failure(lake, visits, tags={f"s3dest/{name}": text})

    def test_a_tag_that_contradicts_the_config_is_refused(self, lake):
        assert "its tag s3dest/record_limit says 2" in failure(
            lake, visits, record_limit=1, tags={"s3dest/record_limit": "2"}
        )
        assert run(lake, visits, record_limit=2, tags={"s3dest/record_limit": "2"}).success

    def test_every_setting_is_described_in_the_launchpad(self):
        fields = visits.node_def.config_schema.config_type.fields
        assert set(fields) == set(StreamRunConfig.model_fields)
        assert all(field.description and not field.is_required for field in fields.values())

    def test_an_asset_with_another_config_has_tags_alone(self, lake):
        @stream_asset(sync_mode="append")
        def users(config: Other):
            yield {"id": config.full_refresh}

        for tags in (None, {"s3dest/full_refresh": "true"}):
            run(lake, users, full_refresh=True, tags=tags)
        assert lake.ids() == [True]
