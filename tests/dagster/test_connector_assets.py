"""The streams of a connector as assets. A scripted connector runs as a real process."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import pytest
from scripted_source import ScriptedSource

from s3dest_dagster import S3DestinationTranslator, build_stream_assets
from s3dest_dagster.dagster.asset_metadata import partition_values_of
from s3dest_dagster.dagster.config import look_up
from s3dest_dagster.errors import SettingsError

DAILY = dg.DailyPartitionsDefinition("2026-01-01")


@pytest.fixture
def scripted(tmp_path) -> ScriptedSource:
    return ScriptedSource(tmp_path)


def one(scripted: ScriptedSource, config: Any = None, **arguments: Any) -> dg.AssetsDefinition:
    """The only asset of the scripted source, without partitions by default."""
    if "start_date" not in arguments:
        arguments.setdefault("partitions_def", None)
    (made,) = build_stream_assets(scripted.source(config), catalog=scripted.catalog, **arguments)
    return made


def test_each_stream_of_the_catalog_becomes_an_asset(scripted):
    properties = {"id": {"type": "integer", "description": "Number"}}
    scripted.stream("users", namespace="crm", properties=properties).stream("orders")
    users, orders = build_stream_assets(
        scripted.source(), catalog=scripted.catalog, partitions_def=DAILY, key_prefix="raw", kinds={"parquet"}
    )
    assert (users.key.path, orders.key.path) == (["raw", "crm", "users"], ["raw", "orders"])
    (spec,) = users.specs
    assert spec.kinds == {"airbyte", "s3", "parquet"}
    (column,) = (each for each in spec.metadata["dagster/column_schema"].columns if each.name == "id")
    assert column.description == "Number"
    assert spec.partitions_def == DAILY


@pytest.mark.parametrize("form", ["path", "text", "mapping", "source"])
def test_the_catalog_is_accepted_in_every_form(scripted, tmp_path, form):
    scripted.stream("users")
    path = tmp_path / "catalog.json"
    path.write_text(json.dumps(scripted.catalog))
    catalog = {"path": path, "text": str(path), "mapping": scripted.catalog, "source": None}[form]
    source = scripted.source(catalog=_catalog(scripted)) if form == "source" else scripted.source()
    (made,) = build_stream_assets(source, catalog=catalog, partitions_def=None)
    assert made.key.path == ["users"]


def _catalog(scripted: ScriptedSource):
    from s3dest_dagster.sources.airbyte.catalog import read_catalog

    return read_catalog(scripted.catalog)


def test_the_error_for_a_missing_catalog_says_how_to_get_one(scripted):
    with pytest.raises(SettingsError, match="s3dest discover"):
        build_stream_assets(scripted.source(), partitions_def=None)


class TestSelection:
    @pytest.fixture
    def three(self, scripted) -> ScriptedSource:
        return scripted.stream("users", namespace="a").stream("users", namespace="b").stream("orders")

    def names(self, scripted, streams) -> list[tuple[str, str]]:
        made = build_stream_assets(scripted.source(), catalog=scripted.catalog, partitions_def=None, streams=streams)
        return [(each.key.to_user_string(), next(iter(each.specs)).metadata["s3dest/sync_mode"]) for each in made]

    def test_streams_are_selected_by_name(self, three):
        assert self.names(three, ["b.users", "orders"]) == [("b/users", "full_refresh"), ("orders", "full_refresh")]

    def test_streams_are_selected_with_their_sync_modes(self, three):
        assert self.names(three, {"orders": "append"}) == [("orders", "append")]

    @pytest.mark.parametrize(
        ("streams", "reason"),
        [(["order"], "Did you mean 'orders'"), (["users"], r"a\.users, b\.users"), ({"orders": "upsert"}, "upsert")],
        ids=["unknown", "ambiguous", "sync mode"],
    )
    def test_an_impossible_selection_is_reported(self, three, streams, reason):
        with pytest.raises(SettingsError, match=reason):
            self.names(three, streams)


def test_streams_that_would_be_one_asset_are_refused(scripted):
    scripted.stream("a-b").stream("a_b")
    with pytest.raises(SettingsError, match=r"'a-b'.*'a_b'"):
        build_stream_assets(scripted.source(), catalog=scripted.catalog, partitions_def=None)


class TestPartitions:
    def test_partitions_are_daily_from_the_start_date(self, scripted):
        assert one(scripted.stream("users"), start_date="2026-01-31").partitions_def == dg.DailyPartitionsDefinition(
            "2026-01-31"
        )

    @pytest.mark.parametrize("arguments", [{}, {"start_date": "2026-01-31", "partitions_def": None}])
    def test_partitions_are_defined_only_once(self, scripted, arguments):
        with pytest.raises(SettingsError, match="start_date"):
            build_stream_assets(scripted.stream("users").source(), catalog=scripted.catalog, **arguments)

    def test_the_config_names_the_slice(self, lake, scripted):
        scripted.stream("users").records("users", {"id": 1})
        made = one(scripted, {"from": "{{ partition_start }}", "to": "{{ partition_end }}"}, partitions_def=DAILY)
        lake.materialize(made, partition_key="2026-01-05")
        (call,) = scripted.calls("read")
        assert call["files"]["config"] == {"from": "2026-01-05T00:00:00Z", "to": "2026-01-06T00:00:00Z"}
        assert lake.ids() == [1]

    def test_the_files_of_a_partition_are_replaced_when_it_lands_again(self, lake, scripted, tmp_path):
        scripted.stream("users")
        days = {"2026-01-05": ("a.txt", "b.txt"), "2026-01-06": ("other.txt",)}
        reads = (*days.items(), ("2026-01-05", ("b.txt", "c.txt")), ("2026-01-05", ("b.txt", "c.txt")))
        for number, (_, names) in enumerate(reads, start=1):
            scripted.on("read", number).records("users", {"id": number})
            for name in names:
                staged = tmp_path / f"{number}-{name}"
                staged.write_text(f"{name} of read {number}")
                described = {"staging_file_url": str(staged), "source_file_relative_path": name}
                content = {"stream": "users", "data": {}, "emitted_at": 1, "file_reference": described}
                scripted.message({"type": "RECORD", "record": content})
        made = one(scripted, partitions_def=DAILY)
        for day, _ in reads:
            landed = lake.materialize(made, partition_key=day)
            (shown,) = landed.asset_materializations_for_node(made.op.name)
            assert shown.metadata["dagster/partition_row_count"].value == 1
        found = {key: lake.body(key).decode() for key in lake.all_keys() if "/files/" in key}
        assert sorted(found.values()) == ["b.txt of read 4", "c.txt of read 4", "other.txt of read 2"]
        assert [key.rpartition("/")[2] for key in found] == [text.partition(" ")[0] for text in found.values()]
        assert (lake.ids(), lake.uploads()) == ([2, 4], 0)

    def test_partitions_can_come_from_the_translator(self, lake, scripted):
        class ByDay(S3DestinationTranslator):
            def get_asset_spec(self, stream):
                return super().get_asset_spec(stream).replace_attributes(partitions_def=DAILY)

        scripted.stream("users").records("users", {"id": 1})
        made = one(scripted, {"from": "{{ partition_start_date }}"}, translator=ByDay())
        lake.materialize(made, partition_key="2026-01-05")
        assert scripted.calls("read")[0]["files"]["config"] == {"from": "2026-01-05"}

    def test_each_partition_of_a_range_is_read_separately(self, lake, scripted):
        scripted.stream("users").records("users", {"id": 1})
        made = one(
            scripted,
            {"day": "{{ partition_start_date }}"},
            partitions_def=DAILY,
            backfill_policy=dg.BackfillPolicy.single_run(),
        )
        tags = {
            "dagster/asset_partition_range_start": "2026-01-05",
            "dagster/asset_partition_range_end": "2026-01-07",
        }
        result = lake.materialize(made, tags=tags)
        days = [call["files"]["config"]["day"] for call in scripted.calls("read")]
        assert days == ["2026-01-05", "2026-01-06", "2026-01-07"]
        assert len(lake.ids()) == len(result.asset_materializations_for_node("users")) == 3

    def test_partitions_receive_no_state(self, lake, scripted):
        scripted.stream("users").records("users", {"id": 1}).state("users", {"at": 1})
        made = one(scripted, partitions_def=DAILY, streams={"users": "append"})
        for _ in range(2):
            lake.materialize(made, partition_key="2026-01-05")
        assert [call["files"].get("state") for call in scripted.calls("read")] == [None, None]

    @pytest.mark.parametrize(
        ("partitions", "key", "expected"),
        [
            (dg.StaticPartitionsDefinition(["eu"]), "eu", {"partition_key": "eu"}),
            (DAILY, "2026-01-05", {"partition_start_date": "2026-01-05", "partition_last_date": "2026-01-05"}),
            (
                dg.MultiPartitionsDefinition({"day": DAILY, "region": dg.StaticPartitionsDefinition(["eu"])}),
                "2026-01-05|eu",
                {"partition_key.region": "eu", "partition_start_date": "2026-01-05"},
            ),
            (
                dg.MultiPartitionsDefinition(
                    {"a": dg.StaticPartitionsDefinition(["x"]), "b": dg.StaticPartitionsDefinition(["y"])}
                ),
                "x|y",
                {"partition_key.a": "x", "partition_key.b": "y"},
            ),
        ],
        ids=["static", "daily", "multi with time", "multi without"],
    )
    def test_values_of_each_kind(self, partitions, key, expected):
        values = partition_values_of(partitions, key)
        assert values | expected == values


class TestState:
    def test_an_append_stream_resumes_from_its_last_state(self, lake, scripted):
        scripted.stream("users", source_defined_cursor=True)
        scripted.on("read", 1).records("users", {"id": 1}).state("users", {"at": 1})
        scripted.on("read", 2).records("users", {"id": 2}).state("users", {"at": 2})
        scripted.on("read", 3).records("users", {"id": 3})
        made = one(scripted, streams={"users": "append"})
        for _ in range(3):
            lake.materialize(made)
        states = [call["files"].get("state") for call in scripted.calls("read")]
        assert [each and each[0]["stream"]["stream_state"] for each in states] == [None, {"at": 1}, {"at": 2}]
        assert lake.ids() == [1, 2, 3]

    def test_a_failed_sync_stores_no_state(self, lake, scripted):
        scripted.stream("users", source_defined_cursor=True)
        scripted.on("read", 1).records("users", {"id": 1}).state("users", {"at": 1}).error("it broke").exits(1)
        scripted.on("read", 2).records("users", {"id": 2})
        made = one(scripted, streams={"users": "append"})
        assert not lake.materialize(made, raise_on_error=False).success
        lake.materialize(made)
        assert [call["files"].get("state") for call in scripted.calls("read")] == [None, None]
        assert lake.ids() == [2]

    def test_a_full_refresh_starts_over(self, lake, scripted):
        scripted.stream("users").records("users", {"id": 1}).state("users", {"at": 1})
        made = one(scripted)
        for _ in range(2):
            lake.materialize(made)
        assert [call["files"].get("state") for call in scripted.calls("read")] == [None, None]
        assert lake.ids() == [1]


def test_a_failing_connector_leaves_the_old_data_and_its_reason_is_reported(lake, scripted):
    scripted.stream("users")
    scripted.on("read", 1).records("users", {"id": 7})
    scripted.on("read", 2).records("users", {"id": 8}).error("quota exceeded").exits(1)
    made = one(scripted)
    lake.materialize(made)
    with pytest.raises(dg.Failure, match="quota exceeded") as caught:
        lake.materialize(made)
    assert caught.value.allow_retries
    assert caught.value.metadata["stream"].value == "users"
    assert lake.ids() == [7]


def test_bad_records_are_quarantined_and_counted(lake, metadata_of, scripted):
    scripted.stream("users").records("users", {"id": 1}).prints('{"type": "RECORD", "record": {"stream": "users", ')
    result = lake.materialize(one(scripted), io=lake.io(on_bad_record="quarantine"))
    assert metadata_of(result, "users")["quarantined"] == 1


def test_log_messages_of_the_connector_are_in_the_log_of_the_run_with_their_level(lake, scripted):
    scripted.stream("users").log("INFO", "page 1 of 50%").log("WARN", "slow").log("ERROR", "odd").records("users")
    with dg.DagsterInstance.ephemeral() as instance:
        result = lake.materialize(one(scripted), instance=instance)
        entries = {each.user_message: each.level for each in instance.all_logs(result.run_id)}
    assert (entries["page 1 of 50%"], entries["slow"], entries["odd"]) == (20, 30, 40)


class TestEnvironment:
    def test_variables_are_looked_up_when_a_run_starts(self, lake, scripted, monkeypatch):
        scripted.stream("users").records("users", {"id": 1})
        made = one(scripted, {"auth": {"token": dg.EnvVar("OUR_TOKEN")}, "pages": [1, dg.EnvVar("OUR_PAGE")]})
        monkeypatch.setenv("OUR_TOKEN", "hush-token")
        monkeypatch.setenv("OUR_PAGE", "7")
        lake.materialize(made)
        (call,) = scripted.calls("read")
        assert call["files"]["config"] == {"auth": {"token": "hush-token"}, "pages": [1, "7"]}

    def test_a_missing_variable_is_named(self, lake, scripted):
        made = one(scripted.stream("users"), {"token": dg.EnvVar("NOT_SET_AT_ALL")})
        with pytest.raises(dg.Failure, match="NOT_SET_AT_ALL") as caught:
            lake.materialize(made)
        assert not caught.value.allow_retries

    def test_other_values_stay_unchanged(self):
        assert look_up({"a": [1, None, "x", {"b": True}]}) == {"a": [1, None, "x", {"b": True}]}
        assert look_up(None) is None
