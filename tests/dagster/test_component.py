"""The component: valid YAML becomes assets that land, and each mistake in it is reported with its line."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest
import yaml
from component_project import FILES, TYPE, assets, materialize, message_of, specs, tree
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext
from dagster._core.storage.defs_state.base import set_defs_state_storage
from dagster.components.component_scaffolding import scaffold_object
from dagster.components.core.component_tree import ComponentTreeException
from dagster.components.resolved.errors import ResolutionException
from dagster_version import since_1_13
from dg_command import answer_commands
from jsonschema import Draft202012Validator
from process_pool import PROCESSES

from s3dest_dagster import (
    AirbyteSource,
    FileSource,
    ParquetFormat,
    S3DestinationComponent,
    S3DestinationIOManager,
    build_stream_assets,
)
from s3dest_dagster.dagster.component.component import S3DestinationComponent as Component
from s3dest_dagster.dagster.component.streams import ComponentStream
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources.templating import PARTITION_VALUES, partition_values

DAILY = dg.DailyPartitionsDefinition("2026-01-01")


class TestConnectors:
    def test_all_streams_of_the_catalog_land_by_default(self, lake, load, connector):
        defs = load(connector())
        assert {key: each.metadata["s3dest/sync_mode"] for key, each in specs(defs).items()} == {
            "crm/users": "full_refresh",
            "crm/orders": "full_refresh",
        }
        assert specs(defs)["crm/users"].kinds == {"airbyte", "s3"}
        materialize(lake, defs, selection=[dg.AssetKey(["crm", "users"])])
        assert lake.ids("crm/users/") == [1]

    def test_the_config_keeps_its_texts_and_resolves_partition_and_environment(
        self, lake, load, connector, monkeypatch
    ):
        monkeypatch.setenv("NOW", "looked up when loaded")
        config = {
            "account": "0123",
            "number": "123",
            "day": "{{ partition_start_date }}",
            "range": "from {{ partition_start_epoch }} to {{ partition_end }}",
            "now": "{{ env.NOW }}",
            "key": "{{ env_var('LATER') }}",
            "list": [1, True, None],
        }
        attributes_yaml = connector(**config)
        defs = load(f"{attributes_yaml}  partitions_def: {{type: daily, start_date: 2026-01-01}}\n  streams: [users]\n")
        monkeypatch.setenv("LATER", "looked up when run")
        materialize(lake, defs, partition_key="2026-01-05")
        (call,) = connector.scripted.calls("read")
        assert call["files"]["config"] == {
            "account": "0123",
            "number": "123",
            "day": "2026-01-05",
            "range": "from 1767571200 to 2026-01-06T00:00:00Z",
            "now": "looked up when loaded",
            "key": "looked up when run",
            "list": [1, True, None],
        }

    def test_each_run_renders_the_templates_of_the_config(self, lake, load, connector, monkeypatch):
        monkeypatch.setenv("PORT", "5432")
        monkeypatch.setenv("NOW", "a{{ b }}c")
        monkeypatch.setenv("PASSWORD", "p{{ w")
        config = {
            "path": "{{ partition_key | replace('-', '/') }}",
            "query": "{% if partition_key == '2026-01-05' %}first{% else %}next{% endif %}",
            "year": "{{ partition_key.split('-')[0] | int }}",
            "millis": "{{ partition_start_epoch * 1000 }}",
            "encoded": "{{ partition_start | urlencode }}",
            "both": "{{ env.NOW }}/{{ partition_key }}",
            "nested": [{"port": "{{ env_var('PORT') | int }}", "password": "{{ env_var('PASSWORD') }}"}],
        }
        defs = load(
            f"{connector(**config)}  partitions_def: {{type: daily, start_date: 2026-01-01}}\n  streams: [users]\n"
        )
        materialize(lake, defs, partition_key="2026-01-05")
        assert connector.scripted.calls("read")[0]["files"]["config"] == {
            "path": "2026/01/05",
            "query": "first",
            "year": 2026,
            "millis": 1767571200000,
            "encoded": "2026-01-05T00%3A00%3A00Z",
            "both": "a{{ b }}c/2026-01-05",
            "nested": [{"port": 5432, "password": "p{{ w"}],
        }

    def test_the_config_can_be_a_file_that_stores_the_changes_of_the_connector(self, lake, load, connector, folder):
        (folder / "shop.json").write_text(json.dumps({"token": "old"}))
        connector()
        connector.scripted.control({"token": "new"}).source()
        source = {"type": "airbyte", "command": connector.scripted.command, "config": "shop.json"}
        defs = load(f"  source: {json.dumps({**source, 'catalog': 'catalog.json'})}\n  streams: [users]\n")
        for _ in range(2):
            materialize(lake, defs)
        read = [call["files"]["config"] for call in connector.scripted.calls("read")]
        assert read == [{"token": "old"}, {"token": "new"}]
        assert json.loads((folder / "shop.json").read_text()) == {"token": "new"}

    def test_a_dimension_of_the_partition_can_be_named(self, lake, load, connector):
        attributes_yaml = connector(region="{{ partition_key.region }}")
        both = "{day: {type: daily, start_date: 2026-01-01}, region: {type: static, partition_keys: [eu, us]}}"
        defs = load(f"{attributes_yaml}  streams: [users]\n  partitions_def: {{type: multi, dimensions: {both}}}\n")
        materialize(lake, defs, partition_key="2026-01-05|eu")
        assert connector.scripted.calls("read")[0]["files"]["config"] == {"region": "eu"}

    def test_the_streams_can_land_in_one_run(self, lake, load, connector):
        defs = load(f"{connector()}  as_one_run: crm_sync\n")
        (made,) = defs.assets
        assert (made.op.name, made.can_subset) == ("crm_sync", True)
        materialize(lake, defs)
        (call,) = connector.scripted.calls("read")
        assert len(call["files"]["catalog"]["streams"]) == 2


class TestDiscovery:
    @pytest.fixture(autouse=True)
    def no_earlier_load(self, monkeypatch) -> None:
        """Another test of this process may have left the context of its own load, with the states known then."""
        monkeypatch.setattr(DefinitionsLoadContext, "_instance", None)

    @pytest.fixture
    def refreshed(self, folder, project, connector, monkeypatch) -> Callable[..., Component]:
        """A component without a catalog, after its state has been refreshed `times` times."""

        def loaded(more: str = "", times: int = 1, **config: Any) -> Component:
            source = {"type": "airbyte", "command": connector.scripted.command, "config": config}
            (folder / "defs.yaml").write_text(f"{TYPE}  source: {json.dumps(source)}\n{more}")
            made = tree(folder, monkeypatch).load_component(folder)
            for _ in range(times):
                asyncio.run(made.refresh_state(project))
            return made

        return loaded

    def test_discovered_streams_land(self, lake, folder, refreshed, monkeypatch):
        refreshed()
        defs = tree(folder, monkeypatch).build_defs()
        assert set(specs(defs)) == {"crm/users", "crm/orders"}
        materialize(lake, defs, selection=[dg.AssetKey(["crm", "users"])])
        assert lake.ids("crm/users/") == [1]

    def test_the_config_is_rendered_with_variables_and_the_last_partition(
        self, folder, refreshed, connector, monkeypatch
    ):
        monkeypatch.setenv("LATER", "secret")
        day = "{type: static, partition_keys: [monday, sunday]}"
        refreshed(f"  partitions_def: {day}\n", key="{{ env_var('LATER') }}", day="{{ partition_key }}")
        (call,) = connector.scripted.calls("discover")
        assert call["files"]["config"] == {"key": "secret", "day": "sunday"}

    def test_a_refresh_that_fails_keeps_the_former_catalog(self, folder, refreshed, connector, monkeypatch):
        refreshed()
        connector.scripted.on("discover").exits(1).source()
        with pytest.raises(ResolutionException, match=r"defs\.yaml:4"):
            refreshed()
        assert set(specs(tree(folder, monkeypatch).build_defs())) == {"crm/users", "crm/orders"}

    def test_a_component_that_was_never_refreshed_warns_that_it_has_no_assets(self, folder, refreshed, monkeypatch):
        refreshed(times=0)
        with pytest.warns(UserWarning, match=r"S3DestinationComponent\[shop\] has no assets.*refresh-defs-state"):
            defs = tree(folder, monkeypatch).build_defs()
        assert specs(defs) == {}

    def test_the_state_has_the_key_and_the_storage_that_are_set(self, refreshed):
        state = "{key: crm, management_type: VERSIONED_STATE_STORAGE, refresh_if_dev: false}"
        config = refreshed(f"  defs_state: {state}\n", times=0).defs_state_config
        assert (config.key, config.management_type.name) == ("crm", "VERSIONED_STATE_STORAGE")
        assert not config.refresh_if_dev
        config = refreshed(times=0).defs_state_config
        assert (config.key, config.management_type.name) == ("S3DestinationComponent[shop]", "LOCAL_FILESYSTEM")

    def test_versions_of_the_state_are_in_the_storage_of_the_instance(self, folder, refreshed, tmp_path, monkeypatch):
        with dg.instance_for_test() as instance, set_defs_state_storage(instance.defs_state_storage):
            made = refreshed("  defs_state: {management_type: VERSIONED_STATE_STORAGE}\n", times=2)
            version = instance.defs_state_storage.get_latest_version(made.defs_state_config.key)
            assert set(specs(tree(folder, monkeypatch).build_defs())) == {"crm/users", "crm/orders"}
        assert version is not None
        assert not (folder / ".local_defs_state").exists()

    def test_a_catalog_file_is_used_and_nothing_is_discovered(self, folder, project, load, connector, monkeypatch):
        load(connector())
        made = tree(folder, monkeypatch).load_component(folder)
        asyncio.run(made.refresh_state(project))
        assert connector.scripted.calls("discover") == []


class TestFunctions:
    MODULE = """
        from collections.abc import Iterator
        import dagster as dg

        def readings(context: dg.AssetExecutionContext) -> Iterator[dict]:
            \"\"\"What the sensors say.\"\"\"
            yield {"id": context.partition_key if context.has_partition_key else 0}

        def both(stream):
            return [{"id": f"{stream.namespace}.{stream.name}"}]

        number = 5
    """

    @pytest.fixture
    def feeds(self, folder) -> str:
        """The name of a module with functions."""
        lines = self.MODULE.replace("\n        ", "\n")
        (folder.parent / "feeds.py").write_text(lines)
        return f"{folder.parent.name}.feeds"

    def source(self, function: str) -> str:
        return f"  source: {{type: python, function: {function}}}\n"

    def test_a_function_becomes_a_stream_with_its_name(self, lake, load, feeds):
        defs = load(self.source(f"{feeds}.readings"))
        assert specs(defs)["readings"].description == "What the sensors say."
        materialize(lake, defs)
        assert lake.ids("readings/") == [0]

    def test_a_function_can_have_a_name_a_description_and_partitions(self, lake, load, folder, feeds):
        (folder / "schema.json").write_text('{"type": "object", "properties": {"id": {"type": "string"}}}')
        defs = load(f"""\
{self.source(f"{feeds}.readings")}
  streams:
    - {{name: sensors, namespace: house, sync_mode: append, description: Ours, json_schema: schema.json}}
  partitions_def: {{type: static, partition_keys: [attic]}}
""")
        spec = specs(defs)["house/sensors"]
        assert (spec.description, spec.metadata["s3dest/sync_mode"]) == ("Ours", "append")
        assert any(each.name == "id" for each in spec.metadata["dagster/column_schema"].columns)
        materialize(lake, defs, partition_key="attic")
        assert lake.ids("house/sensors/") == ["attic"]

    def test_a_function_with_a_stream_parameter_serves_several_streams(self, lake, load, feeds):
        defs = load(f"{self.source(f'{feeds}.both')}  streams: [{{name: a, namespace: x}}, b]\n")
        materialize(lake, defs)
        assert lake.ids() == ["None.b", "x.a"]

    def test_a_function_without_a_stream_parameter_serves_only_one_stream(self, load, feeds):
        with pytest.raises(ComponentTreeException) as caught:
            load(f"{self.source(f'{feeds}.readings')}  streams: [a, b]\n")
        assert "parameter `stream`" in message_of(caught.value)

    @pytest.mark.parametrize(
        ("function", "reason"),
        [("number", "is a int"), ("nothing", "cannot be imported")],
    )
    def test_a_source_that_is_not_a_function_is_reported(self, load, feeds, function, reason):
        with pytest.raises(ComponentTreeException) as caught:
            load(self.source(f"{feeds}.{function}"))
        assert reason in message_of(caught.value)


class TestFiles:
    def test_files_are_found_next_to_the_component(self, lake, load, folder):
        (folder / "a.jsonl").write_text('{"id": 7}\n')
        materialize(lake, load(FILES))
        assert lake.ids("visits/") == [7]

    def test_records_get_directories_by_their_fields(self, lake, load, folder):
        (folder / "a.jsonl").write_text('{"id": 7, "at": "2026-01-05T23:30:00Z", "region": "e/u"}\n{"id": 8}\n')
        defs = load(f"""{FILES}\
      json_schema:
        properties: {{id: {{type: integer}}, at: {{type: string, format: date-time}}, region: {{type: string}}}}
      partition_by:
        - {{field: at, as: day, name: dt, tz: Asia/Tokyo}}
        - region
""")
        io = lake.io(s3_path_format="${STREAM_NAME}/${FIELDS}/")
        lake.materialize(*defs.assets, io=io)
        null = "__HIVE_DEFAULT_PARTITION__"
        found = {key.removeprefix("visits/").rpartition("/")[0]: lake.rows(key)[0]["id"] for key in lake.data_keys()}
        assert found == {"dt=2026-01-06/region=e%2Fu": 7, f"dt={null}/region={null}": 8}

    def test_the_path_can_contain_partition_and_stream(self, lake, load, folder):
        for stream in ("visits", "clicks"):
            for day in (5, 6):
                path = folder / stream / f"2026-01-0{day}.csv"
                path.parent.mkdir(exist_ok=True)
                path.write_text(f"id\n{stream} {day}\n")
        defs = load("""\
  source:
    type: files
    path: "{{ stream_name }}/{{ partition_key }}.csv"
  streams: [visits, clicks]
  partitions_def: {type: daily, start_date: 2026-01-01}
""")
        materialize(lake, defs, partition_key="2026-01-06")
        assert lake.ids() == ["clicks 6", "visits 6"]

    @pytest.mark.parametrize(
        "path",
        [
            "{{ partition_key | replace('-', '/') }}.jsonl",
            "{{ partition_key.replace('-', '/') }}.jsonl",
            "{% if partition_key == '2026-01-06' %}2026/01/06{% else %}2026/01/05{% endif %}.jsonl",
            "{{ env.YEAR }}/{{ partition_key.split('-')[1] }}/{{ partition_key[8:] }}.jsonl",
        ],
    )
    def test_each_run_renders_the_template_of_the_path(self, lake, load, folder, monkeypatch, path):
        monkeypatch.setenv("YEAR", "2026")
        for day in (5, 6):
            (folder / "2026" / "01").mkdir(parents=True, exist_ok=True)
            (folder / "2026" / "01" / f"0{day}.jsonl").write_text(f'{{"id": {day}}}\n')
        source = {"type": "files", "path": path, "allow_missing": True}
        daily = "{type: daily, start_date: 2026-01-01}"
        defs = load(f"  source: {json.dumps(source)}\n  streams: [visits]\n  partitions_def: {daily}\n")
        for day in (5, 6, 6):
            materialize(lake, defs, partition_key=f"2026-01-0{day}")
        assert lake.ids() == [5, 6]

    def test_a_stream_without_partitions_fails_if_its_path_contains_one(self, lake, load, folder):
        (folder / "a.jsonl").write_text('{"id": 1}\n')
        source = {"type": "files", "path": "{{ partition_key | lower }}.jsonl", "allow_missing": True}
        defs = load(f"  source: {json.dumps(source)}\n  streams: [visits]\n")
        with pytest.raises(dg.Failure, match=r"partition_key .* is not known"):
            materialize(lake, defs)

    def test_options_reach_the_source(self, lake, load, folder):
        (folder / "a.txt").write_bytes("id;name\n1;Ö\n".encode("latin-1"))
        defs = load("""\
  source: {type: files, path: "*.txt", format: csv, delimiter: ";", encoding: latin-1}
  streams: [visits]
""")
        materialize(lake, defs)
        assert lake.rows() == [{"id": "1", "name": "Ö"}]

    def test_missing_files_can_count_as_no_records(self, lake, load):
        materialize(lake, load(FILES.replace('"*.jsonl"', '"*.jsonl"\n    allow_missing: true')))
        assert lake.ids() == []

    @pytest.mark.parametrize(
        ("streams", "reason"),
        [("", "name it in streams"), ("  streams: [a, b]\n", r"stream_name")],
        ids=["none", "several"],
    )
    def test_streams_that_files_do_not_name_are_required(self, load, streams, reason):
        with pytest.raises(ComponentTreeException) as caught:
            load('  source: {type: files, path: "*.csv"}\n' + streams)
        assert re.search(reason, message_of(caught.value))


def test_records_are_previewed_unless_the_translation_disables_it(lake, load, folder):
    (folder / "a.jsonl").write_text('{"id": 7}\n')
    for private in ("", "  translation: {metadata: {s3dest/preview_rows: 0}}\n"):
        (event,) = materialize(lake, load(FILES + private)).get_asset_materialization_events()
        assert ("preview" in event.materialization.metadata) == (not private)


class TestDestination:
    def connection(self, lake: Any) -> str:
        return f"""\
  destination:
    s3_bucket_name: {lake.bucket}
    s3_bucket_path: data
    s3_bucket_region: us-east-1
    s3_endpoint: {lake.server.endpoint}
    access_key_id: "{{{{ env_var('OUR_KEY') }}}}"
    secret_access_key: "{{{{ env_var('OUR_SECRET') }}}}"
    format: {{format_type: CSV, flattening: root level flattening}}
"""

    @pytest.fixture
    def keys(self, lake, monkeypatch) -> None:
        monkeypatch.setenv("OUR_KEY", lake.server.access_key_id)
        monkeypatch.setenv("OUR_SECRET", lake.server.secret_access_key)

    @pytest.mark.usefixtures("keys")
    def test_a_connectors_configuration_can_be_pasted(self, lake, load, folder):
        (folder / "a.jsonl").write_text('{"id": 7}\n')
        defs = load(FILES + self.connection(lake))
        assert list(defs.resources) == ["shop_destination"]
        assert specs(defs)["visits"].kinds == {"s3", "csv"}
        materialize(lake, defs)
        (key,) = lake.data_keys()
        assert key.startswith("data/visits/")
        assert key.endswith(".csv.gz")

    def test_the_configuration_file_can_be_named(self, load, folder):
        config = {"s3_bucket_name": "b", "s3_bucket_path": "p", "s3_bucket_region": "eu-west-1"}
        (folder / "config.json").write_text(json.dumps({**config, "format": {"format_type": "Parquet"}}))
        defs = load(FILES + "  destination: config.json\n  io_manager_key: lake\n")
        made = defs.resources["lake"].destination()
        assert (made.s3_bucket_name, made.format) == ("b", ParquetFormat())
        assert assets(defs)["visits"].required_resource_keys == {"lake"}

    def test_a_format_can_be_given_by_name(self, load):
        defs = load(FILES + "  destination: {s3_bucket_name: b, format: parquet}\n")
        assert defs.resources["shop_destination"].destination().format == ParquetFormat()

    @pytest.mark.parametrize("wrong", ["5", "[a]", "{s3_bucket_path: x}"])
    def test_an_invalid_destination_is_reported_in_one_sentence(self, load, wrong):
        with pytest.raises(ComponentTreeException) as caught:
            load(f"{FILES}  destination: {wrong}\n")
        assert re.search(r"A destination is an object|needs s3_bucket_name", message_of(caught.value))

    def test_only_the_bucket_is_required(self, load):
        defs = load(FILES + "  destination: {s3_bucket_name: b, s3dest: {part_size_mb: 16}}\n")
        made = defs.resources["shop_destination"].destination()
        assert (made.s3_bucket_name, made.part_size_mb) == ("b", 16)

    def test_other_pasted_members_are_ignored(self, load):
        assert load(FILES + "  destination: {s3_bucket_name: b, destinationType: s3}\n").resources

    def test_an_io_manager_of_the_project_can_be_named(self, load):
        defs = load(FILES + "  io_manager_key: lake\n")
        assert (dict(defs.resources or {}), assets(defs)["visits"].required_resource_keys) == ({}, {"lake"})

    def test_two_components_in_one_file_have_separate_keys(self, load):
        one = TYPE + FILES + "  destination: {s3_bucket_name: a}\n"
        defs = load(one + "---\n" + one.replace("visits", "clicks"))
        assert sorted(defs.resources) == ["shop_1_destination", "shop_destination"]


class TestStreams:
    def test_each_stream_can_have_its_own_settings(self, load, connector):
        defs = load(f"""\
{connector()}
  sync_mode: append
  partitions_def: {{type: daily, start_date: 2026-01-01}}
  streams:
    - name: users
      sync_mode: full_refresh
      partitions_def: {{type: hourly, start_date: "2026-01-01-00:00"}}
      io_manager_key: mine
    - name: orders
      namespace: crm
      partitions_def: null
""")
        users, orders = specs(defs)["crm/users"], specs(defs)["crm/orders"]
        assert (users.metadata["s3dest/sync_mode"], orders.metadata["s3dest/sync_mode"]) == ("full_refresh", "append")
        assert (type(users.partitions_def), orders.partitions_def) == (dg.HourlyPartitionsDefinition, None)
        assert assets(defs)["crm/users"].required_resource_keys == {"mine"}

    @since_1_13("its templates do not have dg.FreshnessPolicy")
    def test_attributes_of_the_stream_override_those_of_the_component(self, load, connector):
        defs = load(f"""\
{connector()}
  translation:
    key_prefix: raw
    group_name: crm
    owners: [team:data]
    kinds: [airbyte, gold]
    description: "The {{{{ stream.name }}}}"
    tags: {{level: "1", of: all}}
    automation_condition: "{{{{ dg.AutomationCondition.on_cron('0 2 * * *') }}}}"
    freshness_policy: "{{{{ dg.FreshnessPolicy.time_window(fail_window=datetime.timedelta(days=1)) }}}}"
  streams:
    - name: users
      translation: {{tags: {{level: "2"}}, group_name: people, key: "them/{{{{ stream.name }}}}"}}
    - orders
""")
        users, orders = specs(defs)["them/users"], specs(defs)["raw/crm/orders"]
        assert (users.group_name, orders.group_name) == ("people", "crm")
        assert (users.tags["level"], users.tags["of"], orders.tags["level"]) == ("2", "all", "1")
        assert (users.description, users.owners, users.kinds) == ("The users", ["team:data"], {"airbyte", "gold"})
        assert isinstance(orders.automation_condition, dg.AutomationCondition)
        assert isinstance(orders.freshness_policy, dg.FreshnessPolicy)

    def test_streams_can_be_selected_by_patterns_and_exclusions_with_settings_for_each(self, load, connector):
        defs = load(f"""\
{connector()}
  streams:
    - {{name: "*", sync_mode: append, translation: {{group_name: all}}}}
    - {{name: users, translation: {{group_name: people}}}}
    - "!ord*"
""")
        (found,) = specs(defs).values()
        assert (found.key, found.group_name) == (dg.AssetKey(["crm", "users"]), "people")
        assert found.metadata["s3dest/sync_mode"] == "append"

    def test_partitions_of_the_attributes_reach_the_connector(self, lake, load, connector):
        attributes = "{partitions_def: \"{{ dg.MonthlyPartitionsDefinition(start_date='2026-01-01') }}\"}"
        defs = load(f"{connector(month='{{ partition_key }}')}  streams: [users]\n  translation: {attributes}\n")
        materialize(lake, defs, partition_key="2026-02-01")
        assert connector.scripted.calls("read")[0]["files"]["config"] == {"month": "2026-02-01"}


@pytest.mark.parametrize(
    ("partitions", "expected"),
    [
        ("{type: hourly, start_date: '2026-01-01-00:00'}", dg.HourlyPartitionsDefinition("2026-01-01-00:00")),
        (
            "{type: daily, start_date: 2026-01-01, end_date: 2026-02-01, timezone: Europe/Berlin, end_offset: 1}",
            dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-02-01", timezone="Europe/Berlin", end_offset=1),
        ),
        (
            "{type: weekly, start_date: 2026-01-04, day_offset: 1}",
            dg.WeeklyPartitionsDefinition("2026-01-04", day_offset=1),
        ),
        ("{type: monthly, start_date: 2026-01-01}", dg.MonthlyPartitionsDefinition("2026-01-01")),
        (
            "{type: time_window, start_date: 2026-01-01, fmt: '%Y-%m-%d', cron_schedule: '0 0 * * 1'}",
            dg.TimeWindowPartitionsDefinition(start="2026-01-01", fmt="%Y-%m-%d", cron_schedule="0 0 * * 1"),
        ),
        ("{type: static, partition_keys: [eu, us]}", dg.StaticPartitionsDefinition(["eu", "us"])),
        ("{type: dynamic, name: tenants}", dg.DynamicPartitionsDefinition(name="tenants")),
        (
            "{type: multi, dimensions: {d: {type: daily, start_date: 2026-01-01}, r: {type: dynamic, name: t}}}",
            dg.MultiPartitionsDefinition({"d": DAILY, "r": dg.DynamicPartitionsDefinition(name="t")}),
        ),
        ("\"{{ dg.DailyPartitionsDefinition(start_date='2026-01-01') }}\"", DAILY),
        ("null", None),
    ],
)
def test_partitions_of_every_kind(load, partitions, expected):
    assert specs(load(f"{FILES}  partitions_def: {partitions}\n"))["visits"].partitions_def == expected


def test_settings_reach_the_step(load):
    defs = load(f"""\
{FILES}
  partitions_def: {{type: daily, start_date: 2026-01-01}}
  retry_policy: {{max_retries: 3, delay: 60, backoff: EXPONENTIAL, jitter: FULL}}
  backfill_policy: {{type: multi_run, max_partitions_per_run: 7}}
  pool: shop
  op_tags: {{dagster/priority: "3"}}
""")
    made = assets(defs)["visits"]
    assert made.op.retry_policy == dg.RetryPolicy(
        max_retries=3, delay=60, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.FULL
    )
    assert made.backfill_policy == dg.BackfillPolicy.multi_run(7)
    assert (made.op.pool, made.op.tags["dagster/priority"]) == ("shop", "3")


# ---------------------------------------------------------------------- mistakes


GOOD = """\
  source:
    type: airbyte
    command: source-shop
    catalog: catalog.json
    config:
      start: "{{ partition_start }}"
  streams:
    - users
    - name: orders
      sync_mode: append
  partitions_def:
    type: daily
    start_date: 2026-01-01
  destination:
    s3_bucket_name: demo
    s3_path_format: ${STREAM_NAME}/${EPOCH}_
    format:
      format_type: Parquet
      compression_codec: SNAPPY
  pool: shop
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("pool:", "poool:", "poool", "Extra inputs are not permitted"),
        ("type: airbyte", "type: airbite", "airbite", "'airbyte', 'python', 'files'"),
        ("    command: source-shop\n", "", "source:", "command is missing"),
        ("command:", "comand:", "comand", "Extra inputs are not permitted"),
        ("catalog.json", "nowhere.json", "nowhere", "cannot be read"),
        ("- users", "- user", "- user", "Did you mean"),
        ("- users", "- orders", "name: orders", "would both be"),
        ("- users", "- usr*", "- usr*", "No stream of the source matches 'usr*'"),
        ("- users", "- {name: users, json_schema: {}}", "json_schema", "the connector's catalog says it"),
        ("sync_mode: append", "sync_mode: upsert", "upsert", "'full_refresh' or 'append'"),
        ("type: daily", "type: dayly", "dayly", "'monthly'"),
        ("start_date:", "start_dat:", "start_dat", "Extra inputs are not permitted"),
        ("2026-01-01", "soon", "partitions_def", "no such partitions"),
        ("SNAPPY", "SNAPY", "SNAPY", "UNCOMPRESSED"),
        (
            "  pool: shop",
            "  sync_mode: append\n  sync_mode: full_refresh",
            "sync_mode: full_refresh",
            "'sync_mode' occurs twice",
        ),
        ("compression_codec: SNAPPY", "compression_codec: GZIP\n      compression_codec: ZSTD", "ZSTD", "occurs twice"),
        ("s3_bucket_name: demo", "s3_bucket_name: demo\n    folder: x", "folder", "The destination has no 'folder'"),
        (
            "s3_bucket_name: demo",
            "s3_bucket_name: demo\n    bucket_path: x",
            "bucket_path",
            "Did you mean 's3_bucket_path'",
        ),
        ("compression_codec:", "compresion_codec:", "compresion_codec", "Did you mean 'compression_codec'"),
        ("format_type: Parquet", "format_type: Orc", "Orc", "Known are CSV, JSONL, Avro and Parquet"),
        ("catalog: catalog.json", "catalog: 5", "catalog: 5", "5 is not an object or a text."),
        ("command: source-shop", "command: 5", "command: 5", "5 is not a text or a list."),
        ("- users", "- 5", "- 5", "5 is not an object or a text."),
        ("    type: daily\n", "", "partitions_def:", "type is missing"),
        (
            "  pool: shop",
            "  backfill_policy: {type: multi}",
            "multi}",
            "There is no type 'multi'. There are 'single_run'",
        ),
        ("  pool: shop", "  retry_policy: 5", "retry_policy", "5 is not an object."),
        ("  pool: shop", "  sync_mode: upsert", "upsert", "Use full_refresh or append"),
        ("s3_bucket_name: demo", "s3_bucket_nam: demo", "s3_bucket_nam", "Did you mean 's3_bucket_name'"),
        ("${EPOCH}_", "${EPOCHS}_", "EPOCHS", "EPOCHS"),
        ("partition_start }}", "partition_strt }}", "partition_strt", "not found in scope"),
        ("partition_start }}", "partition_strt }}T", "partition_strt", "not found in scope"),
        ("partition_start }}", "partition_start.__class__ }}", "__class__", "asks for the attribute"),
        ("partition_start }}", "partition_start | attr('x') }}", "attr(", "the filter 'attr'"),
        ("partition_start }}", "partition_start ~ env.NOW }}", "env.NOW", "cannot be in one expression"),
        ("partition_start }}", "stream_name }}", "stream_name", "cannot be used here"),
        ("partition_start }}", "env_var('A') | default('b') }}", "env_var", "the whole of the text"),
        ("partition_start }}", "partition_start", "start: ", "not in Jinja's syntax"),
        ("source-shop", '"{{ partition_key }}"', "command:", "cannot be used here"),
        ("s3_bucket_name: demo", 's3_bucket_name: "b{{ partition_key }}"', "s3_bucket_name", "cannot be used here"),
        (
            "s3_bucket_name: demo",
            "s3_bucket_name: demo\n    s3dest: {object_size_mb: \"{{ env_var('A') }}\"}",
            "object_size_mb",
            "look up",
        ),
        ("  pool: shop", "  as_one_run: true\n  translation: {tags: {a: '{{ stram.name }}'}}", "stram", "not found"),
    ],
)
def test_a_mistake_is_reported_with_its_line(load, folder, old, new, line, reason):
    streams = [{"name": name, "json_schema": {"type": "object"}} for name in ("users", "orders")]
    (folder / "catalog.json").write_text(json.dumps({"streams": streams}))
    assert old in GOOD
    text = GOOD.replace(old, new)
    with pytest.raises(ComponentTreeException) as caught:
        load(text)
    (number,) = (n for n, each in enumerate((TYPE + text).splitlines(), 1) if line in each)
    message = message_of(caught.value)
    assert re.search(rf"{re.escape(str(folder))}/defs\.yaml:{number}\b", message), message
    assert reason in message


@pytest.mark.parametrize("attributes", ["", "attributes:\n", "attributes: {}\n"])
def test_a_component_without_attributes_is_reported(load, attributes):
    with pytest.raises(ComponentTreeException) as caught:
        load(TYPE.partition("attributes")[0] + attributes)
    assert re.search(r"defs\.yaml:1 .*\n.*no attributes", message_of(caught.value), re.DOTALL)


@pytest.mark.parametrize("source", ["airbyte", "[]", "null"])
def test_an_invalid_source_is_reported(load, source):
    with pytest.raises(ComponentTreeException) as caught:
        load(f"  source: {source}\n  streams: [visits]\n")
    assert "A source is an object with a type" in message_of(caught.value)


def test_a_template_of_nothing_but_braces_is_refused_immediately(load):
    source = {"type": "files", "path": "{{ " * 20_000}
    with pytest.raises(ComponentTreeException) as caught:
        load(f"  source: {json.dumps(source)}\n  streams: [visits]\n")
    assert "nests too deeply" in message_of(caught.value)


def test_the_unchanged_yaml_is_valid(load, folder):
    streams = [{"name": name, "json_schema": {"type": "object"}} for name in ("users", "orders")]
    (folder / "catalog.json").write_text(json.dumps({"streams": streams}))
    assert set(specs(load(GOOD))) == {"users", "orders"}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("  as_one_run: true\n", "as_one_run is for connectors"),
        ("  source_assets: true\n", "source_assets is for connectors"),
        ("  destination: {s3_bucket_name: \"x{{ env_var('B') }}\"}\n", "looked up when a run starts"),
    ],
)
def test_an_impossible_combination_is_reported_with_the_alternative(load, more, reason):
    with pytest.raises(ComponentTreeException) as caught:
        load(FILES + more)
    assert reason in message_of(caught.value)


@pytest.mark.parametrize("own", ["partitions_def: null", "io_manager_key: other"])
def test_one_run_has_one_partition_and_one_io_manager(load, connector, own):
    with pytest.raises(ComponentTreeException) as caught:
        load(f"""\
{connector()}
  as_one_run: true
  partitions_def: {{type: daily, start_date: 2026-01-01}}
  streams: [users, {{name: orders, {own}}}]
""")
    assert "One run of a connector" in message_of(caught.value)


# ---------------------------------------------------------------------- in Python


class TestInPython:
    def test_a_component_in_python_lands_the_same(self, lake, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"id": 7}\n')
        component = S3DestinationComponent(
            source=FileSource(f"{tmp_path}/*.jsonl"),
            streams=[ComponentStream("visits", namespace="web")],
            partitions_def=dg.StaticPartitionsDefinition(["eu"]),
        )
        defs = dg.build_defs_for_component(component)
        materialize(lake, defs, partition_key="eu")
        assert lake.ids("web/visits/") == [7]

    def test_a_separate_destination_gets_a_resource_key(self):
        component = S3DestinationComponent(
            source=FileSource("*.csv"), streams=["visits"], destination=S3DestinationIOManager(s3_bucket_name="b")
        )
        assert list(dg.build_defs_for_component(component).resources) == ["destination"]

    def test_errors_are_those_of_the_library(self):
        component = S3DestinationComponent(source=AirbyteSource("source-shop"))
        with pytest.raises(SettingsError, match="s3dest discover"):
            dg.build_defs_for_component(component)

    def test_a_subclass_can_define_the_asset_of_a_stream(self):
        class Ours(S3DestinationComponent):
            def get_asset_spec(self, stream):
                return super().get_asset_spec(stream).replace_attributes(group_name="ours")

        defs = dg.build_defs_for_component(Ours(source=FileSource("*.csv"), streams=["visits"]))
        assert specs(defs)["visits"].group_name == "ours"

    def test_yaml_and_python_make_the_same_assets(self, load, connector):
        in_yaml = load(f"""\
{connector()}
  streams: [users]
  sync_mode: append
  partitions_def: {{type: daily, start_date: 2026-01-01}}
  translation: {{key_prefix: raw, group_name: crm}}
""")
        (in_python,) = build_stream_assets(
            connector.scripted.source(),
            catalog=connector.scripted.catalog,
            streams={"users": "append"},
            start_date="2026-01-01",
            key_prefix="raw",
            group_name="crm",
        )
        (spec,) = in_python.specs
        mine = specs(in_yaml)["raw/crm/users"]
        names = ("key", "description", "group_name", "kinds", "tags", "owners", "partitions_def", "deps")
        assert {name: getattr(mine, name) for name in names} == {name: getattr(spec, name) for name in names}
        assert {name: mine.metadata[name] for name in spec.metadata if name != "s3dest/stream"} == {
            name: value for name, value in spec.metadata.items() if name != "s3dest/stream"
        }


# ---------------------------------------------------------------------- for Dagster's own tools


def test_every_field_is_described_in_its_schema():
    schema = Component.get_model_cls().model_json_schema()
    silent = [name for name, each in schema["properties"].items() if "description" not in each]
    assert silent == ["translation"]
    destination, source = (json.dumps(schema["properties"][name]) for name in ("destination", "source"))
    assert "The bucket. It must exist." in destination
    assert set(re.findall(r'"const": "(\w+)"', source)) == {"airbyte", "python", "files", "sql"}
    assert "$ref" not in source


@pytest.mark.parametrize(
    ("old", "new", "path", "reason"),
    [
        ("SNAPPY", "ZST", "destination.format.compression_codec", "'ZST' is not one of"),
        ("format_type: Parquet", "format_type: Orc", "destination.format.format_type", "'Orc' is not one of"),
        ("command:", "comand:", "source.comand", "Additional properties"),
        ("type: airbyte", "type: airbite", "source.type", "'airbite' is not one of"),
        ("type: daily", "type: dayly", "partitions_def.type", "'dayly' is not one of"),
        ("start_date:", "start:", "partitions_def.start", "Additional properties"),
        ("- users", "- 5", "streams.0", "5 is not of type 'object', 'string'"),
        ("sync_mode: append", "sync: append", "streams.1.sync", "Additional properties"),
        ("pool: shop", "backfill_policy: {type: multi_run, max: 5}", "backfill_policy.max", "Additional properties"),
    ],
)
def test_the_schema_reports_which_member_of_a_union_is_wrong(old, new, path, reason):
    validator = Draft202012Validator(Component.get_model_cls().model_json_schema())
    attributes = yaml.load(f"attributes:\n{GOOD}".replace(old, new), Loader=yaml.BaseLoader)["attributes"]
    attributes = json.loads(json.dumps(attributes).replace('"5"', "5"))
    found = [(".".join(map(str, each.absolute_path)), each.message) for each in validator.iter_errors(attributes)]
    assert any(path.startswith(where) and reason in message for where, message in found), found
    assert not any("under any of" in message for _, message in found), found


@pytest.mark.parametrize(
    ("old", "new"), [("SNAPPY", "ZSTD"), ("  pool: shop", '  retry_policy: "{{ x }}"'), ("type: daily", "type: daily")]
)
def test_the_schema_accepts_valid_values_and_templates(old, new):
    validator = Draft202012Validator(Component.get_model_cls().model_json_schema())
    attributes = yaml.load(f"attributes:\n{GOOD}".replace(old, new), Loader=yaml.BaseLoader)["attributes"]
    assert not list(validator.iter_errors(attributes))
    named = {**attributes, "destination": {"s3_bucket_name": "b", "format": "parquet"}}
    assert not list(validator.iter_errors(named))


def test_the_scaffolded_component_loads(folder, monkeypatch):
    scaffold_object(folder, "s3dest_dagster.S3DestinationComponent", None, "yaml", None)
    defs = tree(folder, monkeypatch).build_defs()
    assert list(specs(defs)) == ["shop"]
    assert list(defs.resources) == ["shop_destination"]


def test_the_scaffolded_component_lands_its_files_once_and_keeps_the_records_of_deleted_files(
    lake, folder, monkeypatch
):
    scaffold_object(folder, "s3dest_dagster.S3DestinationComponent", None, "yaml", None)
    (folder / "inbox").mkdir()
    (folder / "inbox" / "a.jsonl").write_text('{"id": 1}\n')
    defs = tree(folder, monkeypatch).build_defs()
    here = {"resources": {"shop_destination": lake.io()}}
    for _ in range(2):
        lake.materialize(*defs.assets, **here)
        assert lake.ids() == [1]
    (folder / "inbox" / "a.jsonl").unlink()
    assert not lake.materialize(*defs.assets, **here, raise_on_error=False).success
    assert lake.ids() == [1]


def test_the_scaffolded_component_names_its_schema_for_editors_and_fits_it(folder):
    root = folder.parent.parent
    scaffold_object(folder, "s3dest_dagster.S3DestinationComponent", None, "yaml", root)
    text = (folder / "defs.yaml").read_text()
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert named is not None
    schema = json.loads((folder / named[1]).read_text())
    assert list(Draft202012Validator(schema).iter_errors(yaml.safe_load(text))) == []
    wrong = yaml.safe_load(text.replace("s3_bucket_path:", "s3_bucket_pth:"))
    assert list(Draft202012Validator(schema).iter_errors(wrong)) != []


def test_the_comments_of_the_scaffolded_component_are_valid_yaml(folder):
    scaffold_object(folder, "s3dest_dagster.S3DestinationComponent", None, "yaml", None)
    lines = (folder / "defs.yaml").read_text().splitlines()
    attributes = yaml.safe_load(
        "\n".join(line[4:] for line in lines if line.startswith("  # ") and "destination:" not in line)
    )
    assert attributes["source"].keys() == {"type", "command", "config", "catalog"}
    assert attributes["partitions_def"]["type"] == "daily"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("data/*.csv", {"type": "files", "path": "data/*.csv"}),
        ("feeds.readings.all", {"type": "python", "function": "feeds.readings.all"}),
        ("sql", {"type": "sql", "uri": '{{ env_var("SHOP_DATABASE") }}', "table": "shop"}),
        ("source-not-there", {"type": "airbyte", "command": "source-not-there"}),
    ],
)
def test_the_scaffolded_source_is_of_the_kind_that_is_named(folder, source, expected):
    parameters = {"source": source, "file_format": "avro", "bucket": "b", "endpoint": "http://127.0.0.1:9000"}
    scaffold_object(folder, "s3dest_dagster.S3DestinationComponent", json.dumps(parameters), "yaml", None)
    attributes = yaml.safe_load((folder / "defs.yaml").read_text())["attributes"]
    assert attributes["source"] == expected
    destination = {"s3_bucket_name": "b", "s3_bucket_path": "lake", "s3_endpoint": "http://127.0.0.1:9000"}
    assert attributes["destination"] == {**destination, "format": "avro"}


def test_the_scaffolded_connector_has_its_required_settings_and_variables_for_secrets(folder, project, connector):
    specification = {
        "required": ["credentials", "pages", "repositories", "start"],
        "properties": {
            "credentials": {
                "oneOf": [
                    {
                        "required": ["token"],
                        "properties": {
                            "kind": {"const": "token"},
                            "token": {"type": "string", "airbyte_secret": True, "default": "s3cret"},
                        },
                    },
                    {"required": ["password"], "properties": {"password": {"type": "string", "airbyte_secret": True}}},
                ]
            },
            "pages": {"type": "integer"},
            "repositories": {"type": "array", "items": {"type": "string"}},
            "start": {"type": "string", "default": "2026-01-01"},
            "optional": {"type": "string"},
        },
    }
    connector.scripted.on("spec").message({"type": "SPEC", "spec": {"connectionSpecification": specification}}).source()
    (project / ".env").write_text("SHOP_PAGES=5")
    command = shlex.join(connector.scripted.command)
    scaffold_object(folder, "s3dest_dagster.S3DestinationComponent", json.dumps({"source": command}), "yaml", project)
    assert yaml.safe_load((folder / "defs.yaml").read_text())["attributes"]["source"]["config"] == {
        "credentials": {"kind": "token", "token": '{{ env_var("SHOP_CREDENTIALS_TOKEN") }}'},
        "pages": '{{ env_var("SHOP_PAGES") | int }}',
        "repositories": ['{{ env_var("SHOP_REPOSITORIES") }}'],
        "start": "2026-01-01",
    }
    assert (project / ".env").read_text() == "SHOP_PAGES=5\n# SHOP_CREDENTIALS_TOKEN=\n# SHOP_REPOSITORIES=\n"
    assert "s3cret" not in (folder / "defs.yaml").read_text()


def test_a_partition_has_the_same_names_as_in_the_config():
    from datetime import UTC, datetime

    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    assert set(PARTITION_VALUES) == partition_values("x", start=start, end=end).keys()


DEFINITIONS = """\
from pathlib import Path

import dagster as dg

defs = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""


class TestDg:
    @pytest.fixture
    def dg(self, project) -> Iterator[Callable[..., str]]:
        """The output of a command. One fork of a process that has imported `dg` answers all commands."""
        ours, theirs = PROCESSES.Pipe()
        process = PROCESSES.Process(target=answer_commands, args=(str(project), theirs))
        process.start()
        theirs.close()

        def printed(*arguments: str) -> str:
            ours.send(arguments)
            return ours.recv()

        yield printed
        ours.send(None)
        process.join()

    def test_dg_lists_scaffolds_and_checks_the_component(self, dg, folder):
        assert "S3DestinationComponent" in dg("list", "components", "--package", "s3dest_dagster")
        options = ("--source", "inbox/*.csv", "--file-format", "avro", "--bucket", "lake")
        dg("scaffold", "defs", "s3dest_dagster.S3DestinationComponent", "inbox", *options)
        assert "format: avro" in (folder.parent / "inbox" / "defs.yaml").read_text()
        assert "successfully" in dg("check", "yaml")
        (folder.parent / "inbox" / "defs.yaml").write_text(TYPE + FILES + "  poool: x\n")
        assert re.search(r"defs\.yaml:\d+.*poool", dg("check", "yaml"))

    def test_dg_discovers_the_streams_of_a_connector_without_a_catalog(self, dg, folder, connector):
        source = {"type": "airbyte", "command": connector.scripted.command}
        state = "{management_type: LOCAL_FILESYSTEM, refresh_if_dev: false}"
        (folder / "defs.yaml").write_text(f"{TYPE}  source: {json.dumps(source)}\n  defs_state: {state}\n")
        (folder.parent / "definitions.py").write_text(DEFINITIONS)
        assert "crm/users" not in dg("list", "defs", "--json")
        assert "S3DestinationComponent[shop]" in dg("utils", "refresh-defs-state")
        assert len(connector.scripted.calls("discover")) == 1


class TestLineage:
    def test_the_streams_of_the_source_are_upstream(self, load, connector):
        found = specs(load(f"{connector()}  source_assets: shop\n  streams: [users]\n"))
        assert [dep.asset_key.path for dep in found["crm/users"].deps] == [["shop", "crm", "users"]]
        assert found["shop/crm/users"].kinds == {"airbyte"}

    def test_the_code_of_a_stream_is_its_line_in_yaml(self, folder, load):
        found = specs(load("  source: {type: files, path: '{{ stream_name }}.jsonl'}\n  streams:\n    - a\n    - b\n"))
        text = (folder / "defs.yaml").read_text().splitlines()
        for name in ("a", "b"):
            lines = {each.line_number for each in found[name].metadata["dagster/code_references"].code_references}
            assert text.index(f"    - {name}") + 1 in lines
