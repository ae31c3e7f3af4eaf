"""Many streams of a connector as one definition: one run of the connector lands them independently."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from scripted_source import ScriptedSource, is_soon_gone

from s3dest_dagster import S3DestinationTranslator, build_landing_checks, build_stream_assets
from s3dest_dagster.commit.states import change_state
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.stream import Scope, StreamId, Sync

DAILY = dg.DailyPartitionsDefinition("2026-01-01")
STREAM = "crm__users"


@pytest.fixture
def scripted(tmp_path) -> ScriptedSource:
    """A connector with three streams."""
    source = ScriptedSource(tmp_path)
    for name in ("users", "orders", "visits"):
        source.stream(name, namespace="crm", source_defined_cursor=True)
    return source


def built_together(scripted: ScriptedSource, config: Any = None, **arguments: Any) -> dg.AssetsDefinition:
    """The streams of the scripted source as one definition, without partitions by default."""
    arguments = {"partitions_def": None, "as_one_run": "crm_sync", **arguments}
    (made,) = build_stream_assets(scripted.source(config), catalog=scripted.catalog, **arguments)
    return made


def add_record(scripted: ScriptedSource, stream: str, *ids: int) -> ScriptedSource:
    return scripted.records(stream, *({"id": each} for each in ids), namespace="crm")


def add_bad_record(scripted: ScriptedSource, stream: str) -> ScriptedSource:
    """Adds an invalid record to the stream."""
    return scripted.prints(f'{{"type": "RECORD", "record": {{"stream": "{stream}", "namespace": "crm", "data": 5}}}}')


def requested(scripted: ScriptedSource) -> list[list[str]]:
    """The streams that each read requested."""
    return [[each["stream"]["name"] for each in call["files"]["catalog"]["streams"]] for call in scripted.calls("read")]


def landed(lake: Any) -> dict[str, list[int]]:
    return {name: lake.ids(f"crm/{name}/") for name in ("users", "orders", "visits")}


def materialized(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """The plain metadata of each materialization, by asset and, if there is one, partition."""
    return {
        "/".join([*event.asset_key.path[-1:], *([event.partition] if event.partition else [])]): {
            name: value.value for name, value in event.materialization.metadata.items()
        }
        for event in result.get_asset_materialization_events()
    }


def test_the_connector_runs_once_and_every_stream_has_its_own_metadata(lake, scripted):
    add_record(add_record(add_record(add_record(scripted, "users", 1), "orders", 7, 8), "users", 2), "visits")
    result = lake.materialize(built_together(scripted))
    assert requested(scripted) == [["users", "orders", "visits"]]
    assert landed(lake) == {"users": [1, 2], "orders": [7, 8], "visits": []}
    metadata = materialized(result)
    assert {name: each["rows"] for name, each in metadata.items()} == {"users": 2, "orders": 2, "visits": 0}
    assert metadata["users"]["dagster/uri"].startswith(f"s3://{lake.bucket}/crm/users/")


def test_a_stream_has_the_same_metadata_as_in_a_separate_asset(lake, metadata_of, scripted):
    add_record(scripted, "users", 1)
    alone, *_ = build_stream_assets(scripted.source(), catalog=scripted.catalog, partitions_def=None)
    both = [alone.specs_by_key[alone.key], built_together(scripted).specs_by_key[alone.key]]
    assert both[0].metadata.keys() | {"dagster/io_manager_key"} == both[1].metadata.keys()
    # An instance of its own, since others know where an asset of this name has landed before.
    with dg.DagsterInstance.ephemeral() as instance:
        first = metadata_of(lake.materialize(alone, instance=instance), "crm__users")
        second = materialized(lake.materialize(built_together(scripted), selection=[alone.key], instance=instance))[
            "users"
        ]
    assert first.keys() == second.keys()


def test_only_selected_streams_are_read_and_materialized(lake, scripted):
    add_record(scripted, "orders", 7)
    made = built_together(scripted)
    result = lake.materialize(made, selection=[dg.AssetKey(["crm", "orders"])])
    assert (requested(scripted), list(materialized(result))) == ([["orders"]], ["orders"])


class TestFailures:
    def test_a_stream_that_the_source_cannot_read_does_not_block_the_others(self, lake, scripted):
        """The source reports the failure of the stream, and continues with the next."""
        scripted.on("read", 1)
        add_record(scripted, "users", 1).status("users", "COMPLETE", namespace="crm")
        add_record(scripted, "orders", 7).status("orders", "INCOMPLETE", namespace="crm")
        add_record(scripted, "visits", 4).status("visits", "COMPLETE", namespace="crm").error("403 on orders").exits(1)
        result = lake.materialize(built_together(scripted), raise_on_error=False)
        assert not result.success
        assert landed(lake) == {"users": [1], "orders": [], "visits": [4]}
        assert set(materialized(result)) == {"users", "visits"}
        shown = result.failure_data_for_node("crm_sync").user_failure_data
        assert shown.description.startswith("1 of 3 streams failed; 2 landed. The source failed")
        assert "403 on orders" in shown.description
        assert lake.uploads() == 0

    def test_a_retry_reads_only_the_failed_streams(self, lake, scripted):
        scripted.on("read", 1)
        add_record(scripted, "users", 1).status("users", "COMPLETE", namespace="crm")
        add_record(scripted, "orders", 7).exits(1)
        scripted.on("read", 2)
        add_record(scripted, "orders", 8).status("orders", "COMPLETE", namespace="crm")
        scripted.status("visits", "COMPLETE", namespace="crm")
        made = built_together(
            scripted,
            streams=dict.fromkeys(["users", "orders", "visits"], "append"),
            retry_policy=dg.RetryPolicy(max_retries=1),
        )
        result = lake.materialize(made)
        assert requested(scripted) == [["users", "orders", "visits"], ["orders", "visits"]]
        assert landed(lake) == {"users": [1], "orders": [8], "visits": []}
        assert materialized(result)["users"]["repeated"] is True

    def test_a_retried_run_lands_nothing_twice(self, lake, scripted):
        """A worker may die after the publication and before its last event."""
        add_record(scripted, "users", 1)
        made = built_together(scripted, streams={"users": "append", "orders": "append"})
        with dg.DagsterInstance.ephemeral() as instance:
            first = lake.materialize(made, instance=instance)
            tags = {"dagster/parent_run_id": first.run_id, "dagster/retry_number": "1"}
            lake.materialize(made, instance=instance, tags=tags)
            lake.materialize(made, instance=instance)
        assert len(scripted.calls("read")) == 2
        assert lake.ids("crm/users/") == [1, 1]

    def test_a_stream_that_cannot_be_landed_does_not_block_the_others(self, lake, scripted):
        add_bad_record(scripted, "users")
        add_record(scripted, "orders", 7)
        add_record(scripted, "users", 2)
        result = lake.materialize(built_together(scripted), raise_on_error=False)
        assert landed(lake) == {"users": [], "orders": [7], "visits": []}
        shown = result.failure_data_for_node("crm_sync").user_failure_data
        assert shown.description.startswith("1 of 3 streams failed; 2 landed. ")
        assert shown.metadata["stream"].value == "crm.users"
        assert set(materialized(result)) == {"orders", "visits"}

    def test_a_source_that_fails_as_a_whole_changes_nothing(self, lake, scripted):
        scripted.on("read", 1)
        add_record(scripted, "users", 1)
        scripted.on("read", 2)
        add_record(add_record(scripted, "users", 2), "orders", 7).error("quota exceeded").exits(1)
        lake.materialize(built_together(scripted))
        with pytest.raises(dg.Failure, match=r"3 of 3 streams failed.*quota exceeded") as caught:
            lake.materialize(built_together(scripted))
        assert caught.value.allow_retries
        assert landed(lake) == {"users": [1], "orders": [], "visits": []}

    def test_a_connector_whose_streams_have_all_failed_is_ended(self, lake, scripted, tmp_path):
        add_bad_record(scripted, "users").generated("users", 100_000, namespace="crm").sleeps(600)
        made = built_together(scripted, streams=["users"])
        with pytest.raises(dg.Failure, match=r"crm\.users"):
            lake.materialize(made)
        (call,) = scripted.calls("read")
        assert is_soon_gone(call["pid"])

    def test_every_different_reason_is_reported(self, lake, scripted):
        scripted.on("read", 1)
        add_bad_record(scripted, "users").status("users", "COMPLETE", namespace="crm")
        scripted.status("visits", "COMPLETE", namespace="crm").exits(1)
        result = lake.materialize(built_together(scripted), raise_on_error=False)
        shown = result.failure_data_for_node("crm_sync").user_failure_data
        assert shown.description.startswith("2 of 3 streams failed; 1 landed. ")
        assert shown.description.count("Help: ") == 1
        assert set(shown.description.partition("Help: ")[2].split(", ")) == {
            "docs/troubleshooting.md#recorderror",
            "docs/troubleshooting.md#sourceerror",
        }
        assert set(shown.metadata["failed_streams"].value) == {"crm.users", "crm.orders"}

    def test_wrong_settings_are_not_retried(self, lake, scripted):
        made = built_together(
            scripted, {"key": dg.EnvVar("NOT_SET_AT_ALL")}, retry_policy=dg.RetryPolicy(max_retries=3)
        )
        with pytest.raises(dg.Failure, match="NOT_SET_AT_ALL") as caught:
            lake.materialize(made)
        assert not caught.value.allow_retries

    def test_a_failure_is_logged_when_it_happens(self, lake, scripted):
        add_bad_record(scripted, "users")
        with dg.DagsterInstance.ephemeral() as instance:
            result = lake.materialize(built_together(scripted), instance=instance, raise_on_error=False)
            lines = [each.user_message for each in instance.all_logs(result.run_id) if each.level == 40]
        assert any(line.startswith("crm.users failed: ") for line in lines)

    def test_a_bad_line_without_a_stream_affects_all_streams(self, lake, scripted):
        add_record(scripted, "users", 1).prints('{"type": "RECORD", "record": {')
        with pytest.raises(dg.Failure, match="3 of 3 streams failed"):
            lake.materialize(built_together(scripted))
        result = lake.materialize(built_together(scripted), io=lake.io(on_bad_record="quarantine"))
        assert materialized(result)["users"]["quarantined"] == 1


class TestPartitions:
    def test_the_config_names_the_slice(self, lake, scripted):
        add_record(add_record(scripted, "users", 1), "orders", 7)
        made = built_together(scripted, {"from": "{{ partition_start_date }}"}, partitions_def=DAILY)
        result = lake.materialize(made, partition_key="2026-01-05")
        (call,) = scripted.calls("read")
        assert call["files"]["config"] == {"from": "2026-01-05"}
        assert materialized(result)["users/2026-01-05"]["dagster/partition_row_count"] == 1

    def test_each_partition_of_a_range_is_read_separately(self, lake, scripted):
        for day in (1, 2, 3):
            add_record(add_record(scripted.on("read", day), "users", *range(day)), "orders", day)
        made = built_together(
            scripted,
            {"day": "{{ partition_start_date }}"},
            partitions_def=DAILY,
            streams=["users", "orders"],
            backfill_policy=dg.BackfillPolicy.single_run(),
        )
        result = lake.materialize(made, tags=between("2026-01-05", "2026-01-07"))
        days = [call["files"]["config"]["day"] for call in scripted.calls("read")]
        assert days == ["2026-01-05", "2026-01-06", "2026-01-07"]
        rows = {name: each["rows"] for name, each in materialized(result).items()}
        assert rows == {f"users/2026-01-0{4 + day}": day for day in (1, 2, 3)} | {
            f"orders/2026-01-0{4 + day}": 1 for day in (1, 2, 3)
        }

    def test_a_failed_stream_is_left_out_of_the_later_partitions(self, lake, scripted):
        add_record(add_bad_record(scripted.on("read", 1), "users"), "orders", 1)
        add_record(scripted.on("read", 2), "orders", 2)
        made = built_together(
            scripted,
            partitions_def=DAILY,
            streams=["users", "orders"],
            backfill_policy=dg.BackfillPolicy.single_run(),
        )
        result = lake.materialize(made, tags=between("2026-01-05", "2026-01-06"), raise_on_error=False)
        assert requested(scripted) == [["users", "orders"], ["orders"]]
        assert set(materialized(result)) == {"orders/2026-01-05", "orders/2026-01-06"}
        shown = result.failure_data_for_node("crm_sync").user_failure_data
        assert set(shown.metadata["failed_streams"].value) == {"crm.users [2026-01-05]"}

    def test_partitions_that_landed_before_a_stream_failed_are_reported(self, lake, scripted):
        add_record(add_record(scripted.on("read", 1), "users", 1), "orders", 1)
        add_record(add_bad_record(scripted.on("read", 2), "users"), "orders", 2)
        made = built_together(
            scripted,
            partitions_def=DAILY,
            streams=["users", "orders"],
            backfill_policy=dg.BackfillPolicy.single_run(),
        )
        users, orders = (dg.AssetKey(["crm", name]) for name in ("users", "orders"))
        with dg.DagsterInstance.ephemeral() as instance:
            run = {"tags": between("2026-01-05", "2026-01-06"), "raise_on_error": False, "instance": instance}
            assert not lake.materialize(made, **run).success
            assert instance.get_materialized_partitions(users) == {"2026-01-05"}
            assert instance.get_materialized_partitions(orders) == {"2026-01-05", "2026-01-06"}
            assert len(instance.fetch_materializations(orders, limit=10).records) == 2
            (event,) = instance.fetch_materializations(users, limit=10).records
            assert event.asset_materialization.metadata["rows"].value == 1

    def test_partitions_can_come_from_the_translator(self, lake, scripted):
        class ByDay(S3DestinationTranslator):
            def get_asset_spec(self, stream):
                return super().get_asset_spec(stream).replace_attributes(partitions_def=DAILY)

        add_record(scripted, "users", 1)
        result = lake.materialize(built_together(scripted, translator=ByDay()), partition_key="2026-01-05")
        assert "users/2026-01-05" in materialized(result)

    def test_different_partitions_are_refused(self, scripted):
        class Mixed(S3DestinationTranslator):
            def get_asset_spec(self, stream):
                spec = super().get_asset_spec(stream)
                return spec.replace_attributes(partitions_def=DAILY) if stream.name == "users" else spec

        with pytest.raises(SettingsError, match=r"crm/users and crm/orders have different partitions"):
            built_together(scripted, translator=Mixed())


def between(first: str, last: str) -> dict[str, str]:
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


class TestSilence:
    """A connector that succeeds without a message about a stream that has landed before."""

    def test_silence_empties_no_stream(self, lake, scripted):
        add_record(add_record(scripted.on("read", 1), "users", 1), "orders", 7)
        add_record(scripted.on("read", 2), "users", 2)
        made = built_together(scripted)
        lake.materialize(made)
        result = lake.materialize(made, raise_on_error=False)
        assert set(materialized(result)) == {"users", "visits"}
        assert "said nothing of crm.orders" in result.failure_data_for_node("crm_sync").user_failure_data.description
        assert landed(lake) == {"users": [2], "orders": [7], "visits": []}

    def test_silence_empties_no_separate_stream(self, lake, scripted):
        add_record(scripted.on("read", 1), "users", 1)
        scripted.on("read", 2).log("INFO", "done")
        alone, *_ = build_stream_assets(scripted.source(), catalog=scripted.catalog, partitions_def=None)
        lake.materialize(alone)
        with pytest.raises(dg.Failure, match="allow_empty of AirbyteSource"):
            lake.materialize(alone)
        assert lake.ids() == [1]

    def test_silence_means_emptiness_if_the_settings_allow_a_silent_source(self, lake, scripted):
        add_record(add_record(scripted.on("read", 1), "users", 1), "orders", 7)
        add_record(scripted.on("read", 2), "users", 2)
        source = scripted.source(allow_empty=True)
        (made,) = build_stream_assets(source, catalog=scripted.catalog, partitions_def=None, as_one_run=True)
        for _ in range(2):
            lake.materialize(made)
        assert landed(lake) == {"users": [2], "orders": [], "visits": []}


class TestState:
    APPEND = {"users": "append", "orders": "append"}  # noqa: RUF012

    def states(self, scripted: ScriptedSource) -> list[Any]:
        return [call["files"].get("state") for call in scripted.calls("read")]

    def test_streams_resume_from_their_own_states(self, lake, scripted):
        scripted.on("read", 1)
        for name, at in (("users", 1), ("orders", 7)):
            add_record(scripted, name, at).state(name, {"at": at}, namespace="crm")
        add_record(scripted.on("read", 2), "users", 2).state("users", {"at": 2}, namespace="crm")
        scripted.on("read", 3).log("INFO", "nothing new")
        made = built_together(scripted, streams=self.APPEND)
        for _ in range(3):
            lake.materialize(made)
        positions = [
            {each["stream"]["stream_descriptor"]["name"]: each["stream"]["stream_state"]["at"] for each in found or ()}
            for found in self.states(scripted)
        ]
        assert positions == [{}, {"users": 1, "orders": 7}, {"users": 2, "orders": 7}]

    def test_a_global_state_is_committed_with_each_stream(self, lake, scripted):
        add_record(add_record(scripted.on("read", 1), "users", 1).global_state({"lsn": 1}), "orders", 7).global_state(
            {"lsn": 2}
        )
        scripted.on("read", 2).log("INFO", "nothing new")
        made = built_together(scripted, streams=self.APPEND)
        for _ in range(2):
            lake.materialize(made)
        first, second = self.states(scripted)
        assert first is None
        assert [each["global"]["shared_state"] for each in second] == [{"lsn": 2}]

    def test_a_stream_that_was_left_out_misses_nothing(self, lake, scripted):
        """The global state advanced without that stream, so the source resumes from the position of that stream."""
        for lsn in (1, 2, 3):
            add_record(scripted.on("read", lsn), "users", lsn).global_state({"lsn": lsn})
        made = built_together(scripted, streams=self.APPEND)
        with dg.DagsterInstance.ephemeral() as instance:
            lake.materialize(made)
            lake.materialize(made, selection=[dg.AssetKey(["crm", "users"])])
            result = lake.materialize(made, instance=instance)
            warnings = [each.user_message for each in instance.all_logs(result.run_id) if each.level == 30]
        assert [each and each[0]["global"]["shared_state"]["lsn"] for each in self.states(scripted)] == [None, 1, 1]
        assert any("some records of crm.users may come again" in each for each in warnings)

    def test_a_run_overtaken_in_one_stream_does_not_affect_the_state_of_the_other(self, lake, scripted, tmp_path):
        """Both runs began at the same state and ended at different ones. The next run begins where both began."""
        begun, go_on = tmp_path / "begun", tmp_path / "go on"
        for read, lsn in ((1, 1), (2, 8), (3, 4), (4, 9)):
            scripted.on("read", read)
            if read == 2:
                scripted.touches(begun).waits_for(go_on)
            add_record(add_record(scripted, "users", lsn), "orders", *([] if read == 3 else [lsn])).global_state(
                {"lsn": lsn}
            )
        made = built_together(scripted, streams=self.APPEND)
        lake.materialize(made)
        with ThreadPoolExecutor(1) as beside:
            long = beside.submit(lake.materialize, made, raise_on_error=False)
            while not (begun.exists() or long.done()):
                time.sleep(0.01)
            lake.materialize(made, selection=[dg.AssetKey(["crm", "users"])])
            go_on.touch()
            assert set(materialized(long.result())) == {"orders"}
        lake.materialize(made)
        assert [each and each[0]["global"]["shared_state"]["lsn"] for each in self.states(scripted)] == [None, 1, 1, 1]

    def test_streams_resume_from_a_state_that_was_set_by_hand(self, lake, scripted):
        for read in (1, 2):
            add_record(scripted.on("read", read), "users", read).global_state({"lsn": read})
        made = built_together(scripted, streams=self.APPEND)
        lake.materialize(made)
        by_hand = '{"type":"GLOBAL","global":{"shared_state":{"lsn":7},"stream_states":[]}}'
        for number, name in enumerate(self.APPEND):
            moment = datetime.now(UTC)
            change_state(
                lake.io().bucket(),
                lake.io().destination(),
                Scope(StreamId("crm", name)),
                by_hand,
                Sync(f"by hand {number}", moment, str(number)),
                attempt="0a1b2c3d",
                clock=lambda moment=moment: moment,
            )
        lake.materialize(made)
        assert self.states(scripted) == [None, [json.loads(by_hand)]]

    def test_a_failed_stream_loses_no_records_that_the_global_state_covers(self, lake, scripted):
        scripted.on("read", 1)
        add_bad_record(scripted, "users")
        add_record(scripted, "orders", 7)
        entries = [{"stream_descriptor": {"name": name, "namespace": "crm"}} for name in self.APPEND]
        shared = {"shared_state": {"lsn": 1}, "stream_states": entries}
        scripted.message({"type": "STATE", "state": {"type": "GLOBAL", "global": shared}})
        scripted.on("read", 2).log("INFO", "nothing new")
        made = built_together(scripted, streams=self.APPEND)
        lake.materialize(made, raise_on_error=False)
        lake.materialize(made)
        (state,) = self.states(scripted)[1]
        assert state["global"] == {"shared_state": {"lsn": 1}, "stream_states": entries[1:]}

    def test_full_refreshes_and_partitions_receive_no_state(self, lake, scripted):
        add_record(scripted, "users", 1).state("users", {"at": 1}, namespace="crm")
        for made, key in (
            (built_together(scripted), None),
            (built_together(scripted, partitions_def=DAILY), "2026-01-05"),
        ):
            for _ in range(2):
                lake.materialize(made, partition_key=key)
        assert self.states(scripted) == [None] * 4


class TestDefinition:
    def test_settings_reach_the_assets_and_the_step(self, scripted):
        made = built_together(
            scripted,
            key_prefix="raw",
            group_name="crm",
            kinds={"parquet"},
            tags={"team": "data"},
            pool="crm",
            op_tags={"dagster/priority": "3"},
            retry_policy=dg.RetryPolicy(max_retries=2),
            io_manager_key="lake",
            required_resource_keys={"other"},
        )
        spec = made.specs_by_key[dg.AssetKey(["raw", "crm", "users"])]
        assert (spec.group_name, spec.kinds, spec.tags["team"]) == ("crm", {"airbyte", "s3", "parquet"}, "data")
        assert (made.op.name, made.op.pool, made.op.tags["dagster/priority"]) == ("crm_sync", "crm", "3")
        assert made.op.retry_policy.max_retries == 2
        assert made.required_resource_keys == {"lake", "other"}
        assert made.can_subset

    def test_several_unnamed_definitions_of_one_connector_have_different_names(self, scripted):
        made = [built_together(scripted, streams=[name], as_one_run=True) for name in ("users", "orders")]
        assert dg.Definitions(made, resources={"io_manager": dg.mem_io_manager}).resolve_all_asset_specs()
        assert len({each.op.name for each in made}) == 2

    def test_streams_that_would_be_one_asset_are_refused(self, scripted):
        scripted.stream("a-b").stream("a_b")
        with pytest.raises(SettingsError, match=r"'a-b'.*'a_b'"):
            built_together(scripted)

    def test_a_definition_without_streams_is_refused(self, scripted):
        assert (
            build_stream_assets(scripted.source(), catalog={"streams": []}, partitions_def=None, as_one_run=True) == []
        )

    def test_another_io_manager_is_refused_clearly(self, lake, scripted):
        with pytest.raises(dg.Failure, match=r"'io_manager' is a .* S3DestinationIOManager"):
            lake.materialize(built_together(scripted), io=dg.mem_io_manager)


def test_landed_streams_are_loaded_downstream(lake, scripted):
    add_record(add_record(scripted, "users", 1, 2), "orders", 7)
    seen = {}

    @dg.asset(ins={name: dg.AssetIn(["crm", name]) for name in ("users", "orders")}, io_manager_key="memory")
    def joined(users: pa.Table, orders: pa.Table) -> int:
        seen.update(users=users["id"].to_pylist(), orders=orders["id"].to_pylist())
        return users.num_rows + orders.num_rows

    resources = {"memory": dg.mem_io_manager, "lake": lake.io()}
    lake.materialize(built_together(scripted, io_manager_key="lake"), joined, resources=resources)
    assert seen == {"users": [1, 2], "orders": [7]}


def test_landing_checks_apply_to_each_stream(lake, scripted):
    add_record(add_record(scripted, "users", 1, 2), "orders", 7)
    made = built_together(scripted, streams=["users", "orders"])
    result = lake.materialize(made, *build_landing_checks([made]))
    checked = {(each.asset_key.path[-1], each.check_name): each.passed for each in result.get_asset_check_evaluations()}
    assert len(checked) == 10
    assert all(checked.values())


def test_each_stream_previews_its_records_and_keeps_its_version_while_they_are_unchanged(lake, scripted, metadata_of):
    add_record(add_record(scripted, "users", 1, 2), "orders", 7)
    made = built_together(scripted, streams={"users": "full_refresh", "orders": "full_refresh"})
    with dg.DagsterInstance.ephemeral() as instance:
        versions = []
        for _ in range(2):
            events = lake.materialize(made, instance=instance).get_asset_materialization_events()
            seen = {each.asset_key.path[-1]: each.materialization for each in events}
            versions.append({name: each.tags["dagster/data_version"] for name, each in seen.items()})
    previews = {name: [row["id"] for row in metadata_of(each.metadata)["preview"]] for name, each in seen.items()}
    assert previews == {"users": ["1", "2"], "orders": ["7"]}
    assert versions[0] == versions[1]
    assert versions[0]["users"] != versions[0]["orders"]


def test_the_metadata_of_a_stream_can_disable_its_preview(lake, scripted, metadata_of):
    class Private(S3DestinationTranslator):
        def get_asset_spec(self, stream):
            rows = {"s3dest/preview_rows": 0} if stream.name == "users" else {}
            return super().get_asset_spec(stream).merge_attributes(metadata=rows)

    add_record(add_record(scripted, "users", 1, 2), "orders", 7)
    made = built_together(scripted, streams=["users", "orders"], translator=Private())
    events = lake.materialize(made).get_asset_materialization_events()
    shown = {each.asset_key.path[-1]: "preview" in each.materialization.metadata for each in events}
    assert shown == {"users": False, "orders": True}


def test_an_io_manager_that_wraps_ours_is_accepted(lake, scripted):
    """The wrapper forwards the same two methods."""

    class Wrapped(dg.IOManager):
        def destination(self):
            return lake.io().destination()

        def bucket(self):
            return lake.io().bucket()

        def handle_output(self, context, obj):
            raise NotImplementedError

        def load_input(self, context):
            raise NotImplementedError

    add_record(scripted, "users", 1)
    lake.materialize(built_together(scripted), io=Wrapped())
    assert lake.ids("crm/users/") == [1]
