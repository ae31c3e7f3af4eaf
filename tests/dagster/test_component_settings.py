"""What a component sets for its steps: retries, pools, hooks, checks, schedules, sensors, and a body of its own."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from component_project import FILES, assets, materialize, message_of, specs
from dagster.components.core.component_tree import ComponentTreeException

from s3dest_dagster import AirbyteSource, FileSource, S3DestinationComponent, SqlSource
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources.airbyte.catalog import read_catalog

LONG_AGO = 1_700_000_000
BY_STREAM = """\
  source: {type: files, path: "{{ stream_name }}/*.jsonl", allow_missing: true}
  streams: [visits, {name: orders, sync_mode: append}]
"""
BY_DAY = """\
  source: {type: files, path: "{{ partition_key }}.jsonl", allow_missing: true}
  streams: [visits]
  partitions_def: {type: daily, start_date: 2026-01-01}
"""


@pytest.fixture
def put(folder: Path) -> Callable[..., None]:
    """Writes a file next to the component, as if long ago."""

    def write(name: str, text: str = '{"id": 1}\n') -> None:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        os.utime(path, (LONG_AGO, LONG_AGO))

    return write


@pytest.fixture
def module(folder: Path, load: Any) -> str:
    """A module of the project, with functions and hooks. Returns its name."""
    (folder.parent / "alerts.py").write_text("""\
import dagster as dg

failed = []


@dg.failure_hook
def on_failure(context):
    failed.append(context.op.name)


@dg.success_hook
def on_success(context):
    failed.append("none")


def no_hook():
    pass
""")
    return f"{folder.parent.name}.alerts"


class TestSteps:
    def test_the_settings_of_a_stream_replace_those_of_the_component(self, load):
        defs = load("""\
  source: {type: files, path: "{{ stream_name }}/*.jsonl"}
  streams:
    - visits
    - name: orders
      pool: slow
      retry_policy: {max_retries: 5, delay: 10}
      backfill_policy: {type: single_run}
      op_tags: {priority: "9"}
      translation: {tags: {tier: gold}, owners: [team:shop], kinds: [csv]}
  pool: shop
  retry_policy: {max_retries: 1}
  backfill_policy: {type: multi_run, max_partitions_per_run: 7}
  op_tags: {priority: "1"}
  partitions_def: {type: daily, start_date: 2026-01-01}
""")
        orders, visits = assets(defs)["orders"], assets(defs)["visits"]
        assert (orders.op.pool, visits.op.pool) == ("slow", "shop")
        assert orders.op.retry_policy == dg.RetryPolicy(max_retries=5, delay=10)
        assert visits.op.retry_policy == dg.RetryPolicy(max_retries=1)
        assert orders.backfill_policy == dg.BackfillPolicy.single_run()
        assert visits.backfill_policy == dg.BackfillPolicy.multi_run(7)
        assert (orders.op.tags["priority"], visits.op.tags["priority"]) == ("9", "1")
        spec = specs(defs)["orders"]
        assert (spec.tags["tier"], list(spec.owners), spec.kinds) == ("gold", ["team:shop"], {"csv"})

    def test_hooks_are_called(self, lake, load, module, put):
        put("visits/a.jsonl", "no record\n")
        put("orders/a.jsonl")
        defs = load(f"""\
  source: {{type: files, path: "{{{{ stream_name }}}}/*.jsonl"}}
  streams: [visits, {{name: orders, hooks: [{module}.on_success]}}]
  hooks: [{module}.on_failure]
""")
        materialize(lake, defs, raise_on_error=False)
        failed = __import__(module, fromlist=["failed"]).failed
        assert sorted(failed) == ["none", "visits"]

    def test_one_run_has_the_settings_of_all_its_streams(self, load, connector):
        defs = load(f"{connector()}  as_one_run: true\n  streams: [{{name: '*', pool: one}}]\n  pool: other\n")
        assert assets(defs)["crm/users"].op.pool == "one"

    def test_one_run_refuses_streams_whose_steps_differ(self, load, connector):
        with pytest.raises(ComponentTreeException) as caught:
            load(f"{connector()}  as_one_run: true\n  streams:\n    - users\n    - {{name: orders, pool: slow}}\n")
        assert re.search(r"defs\.yaml:8.*crm\.orders has others than crm\.users", message_of(caught.value), re.DOTALL)


class TestChecks:
    CHECKS = """\
  checks:
    - counts
    - manifests: {deep: true, blocking: true}
    - quarantine: {max_ratio: 0.4, severity: ERROR}
    - freshness: {days: 1, hours: 2}
    - schema
"""

    def test_the_listed_checks_are_made_with_their_settings(self, load):
        defs = load(FILES + self.CHECKS)
        (checks,) = defs.asset_checks
        found = {spec.name: spec for spec in checks.check_specs}
        assert set(found) == {
            "counts_add_up",
            "bucket_agrees_with_manifests",
            "few_lines_quarantined",
            "landed_lately",
            "schema_unchanged",
        }
        assert [name for name, spec in found.items() if spec.blocking] == ["bucket_agrees_with_manifests"]
        assert "was read" in found["bucket_agrees_with_manifests"].description
        assert "1 day, 2:00:00" in found["landed_lately"].description

    @pytest.mark.parametrize(("ratio", "passed"), [(0.5, True), (0.4, False)])
    def test_a_check_finds_out_what_has_landed(self, lake, load, put, ratio, passed):
        put("a.jsonl", '{"id": 1}\nno record\n')
        checks = self.CHECKS.replace("0.4", str(ratio))
        defs = load(FILES + checks + "  io_manager_key: io_manager\n")
        bad = lake.io(on_bad_record="quarantine")
        for _ in range(2):
            result = lake.materialize(*defs.assets, *defs.asset_checks, io=bad)
            evaluations = {each.check_name: each for each in result.get_asset_check_evaluations()}
            assert {name: each.passed for name, each in evaluations.items()} == {
                "counts_add_up": True,
                "bucket_agrees_with_manifests": True,
                "few_lines_quarantined": passed,
                "landed_lately": True,
                "schema_unchanged": True,
            }
            assert evaluations["few_lines_quarantined"].severity == dg.AssetCheckSeverity.ERROR

    def test_a_stream_has_checks_of_its_own_or_none(self, load):
        streams = "[a, {name: b, checks: [schema]}, {name: c, checks: []}]"
        defs = load(
            f"  source: {{type: files, path: '{{{{ stream_name }}}}'}}\n  streams: {streams}\n  checks: [counts]\n"
        )
        named = [
            (spec.asset_key.to_user_string(), spec.name) for each in defs.asset_checks for spec in each.check_specs
        ]
        assert named == [("a", "counts_add_up"), ("b", "schema_unchanged")]

    def test_streams_of_one_run_have_checks_each(self, lake, load, connector):
        defs = load(f"{connector()}  as_one_run: true\n  checks: [counts]\n")
        result = lake.materialize(*defs.assets, *defs.asset_checks, raise_on_error=False)
        assert {each.asset_key.to_user_string() for each in result.get_asset_check_evaluations()} >= {"crm/users"}


class TestSchedules:
    AT = datetime(2026, 1, 5, 2, tzinfo=UTC)

    def runs(self, defs: dg.Definitions, name: str, instance: dg.DagsterInstance | None = None) -> list[Any]:
        """The partitions that the schedule requests at that time."""
        schedule = defs.resolve_schedule_def(name)
        context = dg.build_schedule_context(
            instance=instance, scheduled_execution_time=self.AT, repository_def=defs.get_repository_def()
        )
        return [request.partition_key for request in schedule.evaluate_tick(context).run_requests]

    def test_a_schedule_runs_all_streams_by_default(self, load):
        defs = load(f"{BY_STREAM}  schedules: [{{cron_schedule: '0 2 * * *', execution_timezone: Europe/Berlin}}]\n")
        schedule = defs.resolve_schedule_def("shop_schedule")
        assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 2 * * *", "Europe/Berlin")
        assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
        assert self.runs(defs, "shop_schedule") == [None]
        assert job_keys(defs, schedule) == {"visits", "orders"}

    def test_a_schedule_runs_the_streams_that_it_names(self, load):
        defs = load(f"""\
{BY_STREAM}
  schedules:
    - {{cron_schedule: "0 2 * * *", streams: ["!vis*"], default_status: RUNNING}}
    - cron_schedule: "0 3 * * 0"
      name: weekly
      streams: [visits]
      tags: {{s3dest/full_refresh: "true"}}
""")
        nightly, weekly = (defs.resolve_schedule_def(name) for name in ("shop_schedule", "weekly"))
        assert (job_keys(defs, nightly), job_keys(defs, weekly)) == ({"orders"}, {"visits"})
        assert nightly.default_status == dg.DefaultScheduleStatus.RUNNING
        context = dg.build_schedule_context(scheduled_execution_time=self.AT)
        (request,) = weekly.evaluate_tick(context).run_requests
        assert request.tags["s3dest/full_refresh"] == "true"

    @pytest.mark.parametrize(
        ("partitions", "expected"),
        [
            ("{type: daily, start_date: 2026-01-01}", ["2026-01-04"]),
            ("{type: hourly, start_date: 2026-01-01-00:00}", ["2026-01-05-01:00"]),
            ("{type: daily, start_date: 2027-01-01}", []),
            ("{type: static, partition_keys: [eu, us]}", ["eu", "us"]),
            ("{type: dynamic, name: tenants}", ["new"]),
            (
                "{type: multi, dimensions: {d: {type: daily, start_date: 2026-01-01}, r: "
                "{type: static, partition_keys: [eu, us]}}}",
                ["2026-01-04|eu", "2026-01-04|us"],
            ),
        ],
    )
    def test_a_tick_runs_the_last_partition_by_time_or_all_others(self, load, tmp_path, partitions, expected):
        instance = dg.DagsterInstance.local_temp(str(tmp_path))
        instance.add_dynamic_partitions("tenants", ["new"])
        defs = load(f"{FILES}  partitions_def: {partitions}\n  schedules: [{{cron_schedule: '0 2 * * *'}}]\n")
        assert self.runs(defs, "shop_schedule", instance) == expected

    def test_a_requested_run_lands(self, lake, load, put):
        put("2026-01-04.jsonl", '{"id": 4}\n')
        defs = load(f"{BY_DAY}  schedules: [{{cron_schedule: '0 2 * * *'}}]\n")
        (key,) = self.runs(defs, "shop_schedule")
        for _ in range(2):
            materialize(lake, defs, partition_key=key)
            assert lake.ids() == [4]


def job_keys(defs: dg.Definitions, schedule_or_sensor: Any) -> set[str]:
    """The assets that a schedule or sensor runs."""
    job = defs.get_repository_def().get_job(schedule_or_sensor.job_name)
    return {key.to_user_string() for key in job.asset_layer.selected_asset_keys}


class TestSensors:
    def tick(self, defs: dg.Definitions, name: str) -> list[Any]:
        context = dg.build_sensor_context(
            instance=dg.DagsterInstance.ephemeral(), repository_def=defs.get_repository_def()
        )
        return list(defs.resolve_sensor_def(name).evaluate_tick(context).run_requests)

    def test_a_sensor_runs_the_partitions_of_new_files(self, lake, load, put):
        put("2026-01-04.jsonl", '{"id": 4}\n')
        defs = load(f"{BY_DAY}  sensors: [{{type: files, default_status: RUNNING, minimum_interval_seconds: 5}}]\n")
        sensor = defs.resolve_sensor_def("shop_files")
        assert (sensor.default_status, sensor.minimum_interval_seconds) == (dg.DefaultSensorStatus.RUNNING, 5)
        (request,) = self.tick(defs, "shop_files")
        for _ in range(2):
            materialize(lake, defs, partition_key=request.partition_key)
            assert lake.ids() == [4]

    def test_a_path_that_names_the_stream_has_a_sensor_for_each_stream(self, load, put):
        put("visits/a.jsonl")
        defs = load(f"{BY_STREAM}  sensors: [{{type: files}}]\n")
        assert len(self.tick(defs, "shop_files_visits")) == 1
        assert self.tick(defs, "shop_files_orders") == []
        assert job_keys(defs, defs.resolve_sensor_def("shop_files_visits")) == {"visits"}

    def test_a_path_may_name_both_the_stream_and_the_partition(self, load, put):
        put("visits/2026-01-04.jsonl")
        source = "{type: files, path: '{{ stream_name }}/{{ partition_key }}.jsonl'}"
        daily = "{type: daily, start_date: 2026-01-01}"
        defs = load(
            f"  source: {source}\n  streams: [visits]\n  partitions_def: {daily}\n  sensors: [{{type: files}}]\n"
        )
        assert [each.partition_key for each in self.tick(defs, "shop_files_visits")] == ["2026-01-04"]

    def test_a_connector_runs_when_a_file_arrives(self, load, connector, put):
        defs = load(
            f"{connector()}  sensors: [{{type: files, path: 'done/*.txt', name: delivered, streams: [users]}}]\n"
        )
        assert self.tick(defs, "delivered") == []
        put("done/monday.txt")
        assert len(self.tick(defs, "delivered")) == 1
        assert job_keys(defs, defs.resolve_sensor_def("delivered")) == {"crm/users"}

    def test_the_limits_of_a_sensor_hold(self, load, put):
        for day in (1, 2, 3):
            put(f"2026-01-0{day}.jsonl")
        defs = load(f"{BY_DAY}  sensors: [{{type: files, most_runs: 2, name: a}}, {{type: files, settle_s: 1e10}}]\n")
        assert len(self.tick(defs, "a")) == 2
        assert self.tick(defs, "shop_files_2") == []

    def test_a_sensor_evaluates_the_conditions_of_the_streams(self, load, put):
        put("visits/a.jsonl")
        condition = "{{ dg.AutomationCondition.missing() }}"
        defs = load(f"""\
{BY_STREAM}
  translation: {{automation_condition: "{condition}"}}
  sensors: [{{type: automation_condition, streams: [visits], default_status: RUNNING}}]
""")
        sensor = defs.resolve_sensor_def("shop_conditions")
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
        result = dg.evaluate_automation_conditions(
            defs, instance=dg.DagsterInstance.ephemeral(), asset_selection=sensor.asset_selection
        )
        assert result.total_requested == 1


@pytest.mark.parametrize(
    ("setting", "line", "reason"),
    [
        ("checks: [count]", "checks", "There is no check 'count'. Did you mean 'counts'?"),
        ("checks: [5]", "checks", "5 is not an object or a text."),
        ("checks: counts", "checks", "'counts' is not a list."),
        ("checks: [counts, counts]", "checks", "listed twice"),
        ("checks: [freshness]", "checks", "freshness: {hours: 26}"),
        ("checks: [{quarantine: {max_ratio: 5}}]", "checks", "5.0 is no part of all records"),
        ("checks:\n    - schema:\n        severity: FATAL", "FATAL", "'WARN' or 'ERROR'"),
        ("checks:\n    - manifests:\n        deeep: true", "deeep", "Extra inputs are not permitted"),
        ("hooks: [nowhere.hook]", "hooks", "cannot be imported"),
        ("hooks: [json.dumps]", "hooks", "is a function, and not a hook"),
        ("hooks: json.dumps", "hooks", "'json.dumps' is not a list."),
        ("schedules: [{}]", "schedules", "cron_schedule is missing."),
        ("schedules:\n    - cron_schedule: often", "often", "no such schedule"),
        ("schedules:\n    - cron: 0 2 * * *", "- cron:", "Extra inputs are not permitted"),
        (
            "schedules:\n    - {cron_schedule: '0 2 * * *', streams: [visit]}",
            "visit]",
            "No stream of the source matches",
        ),
        ("schedules:\n    - {cron_schedule: '0 2 * * *', streams: []}", "streams: []", "no stream to run"),
        ("schedules:\n    - {cron_schedule: '0 2 * * *', execution_timezone: Mars}", "Mars", "no such schedule"),
        ("sensors: [{type: file}]", "sensors", "There is no type 'file'."),
        ("sensors: [5]", "sensors", "5 is not an object."),
        ("sensors:\n    - type: files\n      path: '{{ partition_key }}.csv'", "path: '{", "has no partitions"),
        ("pool: [a]", "pool", "string"),
    ],
)
def test_a_mistake_is_reported_with_its_line(load, folder, setting, line, reason):
    with pytest.raises(ComponentTreeException) as caught:
        load(f"{FILES}  {setting}\n")
    lines = (folder / "defs.yaml").read_text().splitlines()
    (number,) = (n for n, each in enumerate(lines, 1) if line in each)
    message = message_of(caught.value)
    assert re.search(rf"defs\.yaml:{number}\b", message), message
    assert reason in message


def test_a_schedule_of_streams_with_different_partitions_is_refused(load):
    streams = "[visits, {name: orders, partitions_def: {type: daily, start_date: 2026-01-01}}]"
    with pytest.raises(ComponentTreeException) as caught:
        load(
            BY_STREAM.partition("  streams")[0]
            + f"  streams: {streams}\n  schedules: [{{cron_schedule: '0 2 * * *'}}]\n"
        )
    assert "visits and orders have different partitions" in message_of(caught.value)


def test_a_sensor_of_files_needs_files(load, connector):
    with pytest.raises(ComponentTreeException) as caught:
        load(f"{connector()}  sensors: [{{type: files}}]\n")
    assert "Give the sensor the path" in message_of(caught.value)


# ---------------------------------------------------------------------- a body of its own


class Watched(S3DestinationComponent):
    def execute(self, context: dg.AssetExecutionContext, run: Callable[..., Iterator[Any]]) -> Iterator[Any]:
        context.log.info("before")
        yield from run(context)
        with (Path(context.run.tags["seen"])).open("a") as seen:
            seen.write(f"{context.op_execution_context.op.name}\n")


class OnlyUsers(S3DestinationComponent):
    def execute(self, context: dg.AssetExecutionContext, run: Callable[..., Iterator[Any]]) -> Iterator[Any]:
        yield from run(context, streams=["users"])


class Silent(S3DestinationComponent):
    def execute(self, context: dg.AssetExecutionContext, run: Callable[..., Iterator[Any]]) -> None:
        run(context)


class Asynchronous(S3DestinationComponent):
    async def execute(self, context: dg.AssetExecutionContext, run: Callable[..., Iterator[Any]]) -> Any:
        return run(context)


class Unreported(S3DestinationComponent):
    def execute(self, context: dg.AssetExecutionContext, run: Callable[..., Iterator[Any]]) -> Iterator[Any]:
        list(run(context))
        yield from ()


class TestExecute:
    def component(self, kind: type[S3DestinationComponent], folder: Path, **settings: Any) -> dg.Definitions:
        (folder / "a.jsonl").write_text('{"id": 1}\n')
        files = FileSource(str(folder / "*.jsonl"))
        return dg.build_defs_for_component(kind(source=files, streams=["visits"], **settings))

    def test_it_does_things_before_and_after_its_stream_lands(self, lake, folder, tmp_path):
        defs = self.component(Watched, folder)
        for times in (1, 2):
            materialize(lake, defs, tags={"seen": str(tmp_path / "seen")})
            assert lake.ids() == [1]
            assert (tmp_path / "seen").read_text() == "visits\n" * times

    def test_it_does_nothing_after_a_stream_that_fails(self, lake, folder, tmp_path):
        defs = self.component(Watched, folder)
        (folder / "a.jsonl").write_text("no record\n")
        result = materialize(lake, defs, tags={"seen": str(tmp_path / "seen")}, raise_on_error=False)
        assert not result.success
        assert not (tmp_path / "seen").exists()

    def test_it_chooses_among_the_streams_of_one_run(self, lake, load, connector):
        attributes = json.loads(connector().partition("source: ")[2])
        source = AirbyteSource(attributes["command"], {}, catalog=read_catalog(connector.scripted.catalog))
        defs = dg.build_defs_for_component(OnlyUsers(source=source, as_one_run=True))
        events = materialize(lake, defs).get_asset_materialization_events()
        assert [event.asset_key.to_user_string() for event in events] == ["crm/users"]
        assert lake.ids("crm/users/") == [1]

    def test_it_is_not_called_by_a_plan(self, lake, folder, tmp_path):
        defs = self.component(Watched, folder)
        result = materialize(lake, defs, tags={"seen": str(tmp_path / "seen"), "s3dest/plan": "true"})
        assert result.get_asset_materialization_events() == []
        assert not (tmp_path / "seen").exists()

    @pytest.mark.parametrize(
        ("kind", "message"),
        [(Silent, r"Silent\.execute returned nothing"), (Unreported, r"Unreported\.execute does not yield")],
    )
    def test_it_must_yield_what_lands(self, lake, folder, kind, message):
        with pytest.raises(dg.Failure, match=rf"^{message}.*`yield from run\(context\)`"):
            materialize(lake, self.component(kind, folder))
        assert lake.data_keys() == []

    def test_it_is_not_asynchronous(self, folder):
        with pytest.raises(SettingsError, match=r"^Asynchronous\.execute is asynchronous"):
            self.component(Asynchronous, folder)

    def test_it_does_not_surround_several_steps(self, tmp_path):
        source = SqlSource(f"sqlite:///{tmp_path}/a.db", table="visits", shard_by="id", shards=2)
        with pytest.raises(SettingsError, match="do not override execute"):
            dg.build_defs_for_component(Watched(source=source, streams=["visits"]))
