"""The sensor of files: new files are synced once, whatever happens to the cursor."""

from __future__ import annotations

import gc
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pyarrow.fs import S3FileSystem

from s3dest_dagster import FileSource, build_file_sensor, stream_asset
from s3dest_dagster.errors import SettingsError

LONG_AGO = 1_767_600_000
LATER = LONG_AGO + 1000.0
TENANTS = dg.DynamicPartitionsDefinition(name="tenants")
DAILY = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-02-01")


class Inbox:
    """A directory, a stream of its files, and the sensor that watches it."""

    def __init__(self, directory: Path, pattern: str, partitions: Any, filesystem: Any = None, **settings: Any) -> None:
        self.directory = directory
        source = FileSource(f"{directory}/{pattern}", filesystem=filesystem)

        @stream_asset(partitions_def=partitions)
        def visits(context: dg.AssetExecutionContext):
            return source.read({"partition_key": context.partition_key} if context.has_partition_key else None)

        self.asset = visits
        self.sensor = build_file_sensor(source, visits, **{"clock": lambda: LATER, **settings})
        self.definitions = dg.Definitions([visits], sensors=[self.sensor], resources={"io_manager": dg.mem_io_manager})
        self.cursor: str | None = None

    def put(self, name: str, content: str = '{"id": 1}\n', modified_at: float = LONG_AGO) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(path, (modified_at, modified_at))

    def tick(self, instance: dg.DagsterInstance | None = None) -> Any:
        """The result of one evaluation. The cursor is stored."""
        with dg.DagsterInstance.ephemeral() as empty:
            context = dg.SensorEvaluationContext(
                instance_ref=instance.get_ref() if instance else None,  # as the daemon has one
                instance=instance or empty,
                cursor=self.cursor,
                definitions=self.definitions,
                repository_name=None,
                last_tick_completion_time=None,
                last_run_key=None,
            )
            found = self.sensor.evaluate_tick(context)
        self.cursor = found.cursor
        return found

    def requested(self, instance: dg.DagsterInstance | None = None) -> list[str | None]:
        return [each.partition_key for each in self.tick(instance).run_requests]


@pytest.fixture
def unpartitioned(tmp_path) -> Inbox:
    return Inbox(tmp_path, "*.jsonl", None)


@pytest.fixture
def tenants(tmp_path) -> Inbox:
    return Inbox(tmp_path, "{{ partition_key }}/*.jsonl", TENANTS)


@pytest.fixture
def days(tmp_path) -> Inbox:
    return Inbox(tmp_path, "{{ partition_key }}.jsonl", DAILY)


def test_new_files_cause_a_sync(unpartitioned):
    assert unpartitioned.tick().skip_message
    unpartitioned.put("a.jsonl")
    assert unpartitioned.requested() == [None]
    assert unpartitioned.requested() == []
    unpartitioned.put("b.jsonl")
    assert unpartitioned.requested() == [None]


@pytest.mark.parametrize("change", [{"content": '{"id": 22}\n'}, {"modified_at": LONG_AGO + 1}], ids=["size", "time"])
def test_a_changed_file_counts_as_new(days, change):
    days.put("2026-01-05.jsonl")
    days.put("2026-01-06.jsonl")
    assert days.requested() == ["2026-01-05", "2026-01-06"]
    days.put("2026-01-06.jsonl", **change)
    assert days.requested() == ["2026-01-06"]


def test_another_file_of_a_partition_syncs_that_partition_again(tmp_path):
    inbox = Inbox(tmp_path, "{{ partition_key }}/*.jsonl", DAILY)
    inbox.put("2026-01-05/a.jsonl")
    inbox.put("2026-01-06/a.jsonl")
    assert inbox.requested() == ["2026-01-05", "2026-01-06"]
    inbox.put("2026-01-05/b.jsonl")
    assert inbox.requested() == ["2026-01-05"]


def test_the_same_files_have_the_same_run_key_even_if_the_cursor_is_lost(days):
    days.put("2026-01-05.jsonl")
    (first,) = days.tick().run_requests
    days.cursor = None
    (again,) = days.tick().run_requests
    days.put("2026-01-05.jsonl", modified_at=LONG_AGO + 1)
    (other,) = days.tick().run_requests
    assert first.run_key == again.run_key != other.run_key


def test_a_file_that_may_still_be_written_is_postponed(days):
    days.put("2026-01-05.jsonl", modified_at=LATER - 9)
    days.put("2026-01-06.jsonl", modified_at=LATER - 11)
    assert days.requested() == ["2026-01-06"]
    days.put("2026-01-05.jsonl", modified_at=LATER - 11)
    assert days.requested() == ["2026-01-05"]


def test_a_postponed_changed_file_keeps_its_entry_in_the_cursor(days):
    days.put("2026-01-05.jsonl")
    days.tick()
    before = days.cursor
    days.put("2026-01-05.jsonl", modified_at=LATER)
    assert days.requested() == []
    assert days.cursor == before


def test_a_tick_requests_a_limited_number_of_runs_and_the_next_tick_the_rest(tmp_path):
    inbox = Inbox(tmp_path, "{{ partition_key }}.jsonl", DAILY, most_runs=2)
    for day in range(1, 6):
        inbox.put(f"2026-01-0{day}.jsonl")
    assert [len(inbox.requested()) for _ in range(4)] == [2, 2, 1, 0]


def test_deleted_files_are_removed_from_the_cursor(days):
    days.put("2026-01-05.jsonl")
    days.tick()
    (days.directory / "2026-01-05.jsonl").unlink()
    days.tick()
    assert json.loads(days.cursor) == {}


def test_keys_of_dynamic_partitions_are_added_once(tenants):
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions("tenants", ["acme"])
        tenants.put("acme/a.jsonl")
        tenants.put("hooli/a.jsonl")
        (added,) = tenants.tick(instance).dynamic_partitions_requests
    assert (added.partitions_def_name, added.partition_keys) == ("tenants", ["hooli"])


def test_files_without_a_partition_are_ignored_and_do_not_block_others(days):
    days.put("notes.jsonl")
    days.put("2026-01-05.jsonl")
    assert days.requested() == ["2026-01-05"]
    assert days.requested() == []


def test_the_requested_runs_land_their_files(lake, days):
    days.put("2026-01-05.jsonl", '{"id": 5}\n')
    (request,) = days.tick().run_requests
    lake.materialize(days.asset, partition_key=request.partition_key)
    assert lake.ids() == [5]


def test_a_new_object_in_a_bucket_is_requested_once_and_lands(lake, rclone_s3):
    bucket, client = rclone_s3.new_bucket(), rclone_s3.client()
    filesystem = S3FileSystem(
        endpoint_override=rclone_s3.endpoint.removeprefix("http://"),
        scheme="http",
        region="us-east-1",
        access_key=rclone_s3.access_key_id,
        secret_key=rclone_s3.secret_access_key,
    )
    objects = Inbox(Path(bucket), "{{ partition_key }}/*.jsonl", DAILY, filesystem=filesystem, clock=lambda: 4e9)
    assert objects.requested() == []
    client.put_object(Bucket=bucket, Key="2026-01-05/a.jsonl", Body=b'{"id": 5}\n')
    first, again = objects.tick().run_requests, objects.tick().run_requests
    assert ([each.partition_key for each in first], again) == (["2026-01-05"], [])
    objects.cursor = None
    assert [each.run_key for each in objects.tick().run_requests] == [each.run_key for each in first]
    lake.materialize(objects.asset, partition_key="2026-01-05")
    assert lake.ids() == [5]


@pytest.mark.parametrize(("pattern", "partitions"), [("*.jsonl", DAILY), ("{{ partition_key }}.jsonl", None)])
def test_files_and_target_must_agree_on_partitions(tmp_path, pattern, partitions):
    with pytest.raises(SettingsError, match=r"visits has.* partitions"):
        Inbox(tmp_path, pattern, partitions)


def test_targets_must_have_the_same_partitions(unpartitioned, days):
    with pytest.raises(SettingsError, match="different partitions"):
        build_file_sensor(FileSource("*.jsonl"), [unpartitioned.asset, days.asset])


REGIONS = dg.MultiPartitionsDefinition({"day": DAILY, "region": dg.StaticPartitionsDefinition(["eu", "us"])})


@pytest.mark.parametrize(
    "pattern", ["{{ partition_key.region }}/{{ partition_key.day }}.jsonl", "{{ partition_key }}.jsonl"]
)
def test_dimensions_of_the_partition_are_read_from_the_path(tmp_path, pattern):
    inbox = Inbox(tmp_path, pattern, REGIONS)
    for day, region in (("2026-01-05", "eu"), ("2026-01-05", "us"), ("2026-01-05", "mars"), ("soon", "eu")):
        values = {"partition_key.region": region, "partition_key.day": day, "partition_key": f"{day}|{region}"}
        name = pattern
        for placeholder, value in values.items():
            name = name.replace(f"{{{{ {placeholder} }}}}", value)
        inbox.put(name)
    inbox.put("nothing/of/it.jsonl")
    assert [each.partition_key for each in inbox.tick().run_requests] == ["2026-01-05|eu", "2026-01-05|us"]


@pytest.mark.parametrize(
    "pattern",
    [
        "{{ partition_key.day }}/*.jsonl",
        "{{ partition_key | lower }}.jsonl",
        "{% if true %}{{ partition_key }}{% endif %}",
    ],
)
def test_a_path_with_an_ambiguous_partition_is_refused(tmp_path, pattern):
    with pytest.raises(SettingsError, match="partition_key"):
        Inbox(tmp_path, pattern, REGIONS)


def test_the_sensor_is_stopped_and_named_after_its_target_by_default(tmp_path, unpartitioned):
    assert unpartitioned.sensor.name == "visits_files"
    assert unpartitioned.sensor.default_status is dg.DefaultSensorStatus.STOPPED
    own = Inbox(tmp_path, "*", None, name="inbox", minimum_interval_seconds=5).sensor
    assert (own.name, own.minimum_interval_seconds) == ("inbox", 5)


def kept_by_the_library() -> int:
    """The bytes that the library has allocated and not freed. What Dagster keeps of a tick is not ours to bound."""
    ours = tracemalloc.Filter(True, "*/s3dest_dagster/*")
    kept = tracemalloc.take_snapshot().filter_traces([ours])
    return sum(each.size for each in kept.statistics("filename"))


def test_an_hour_of_ticks_keeps_neither_memory_nor_descriptors(unpartitioned):
    """A sensor ticks for weeks in one process of the code location."""

    instance = dg.DagsterInstance.ephemeral()

    def ticks(count: int) -> tuple[int, int]:
        for _ in range(count):
            context = dg.build_sensor_context(
                instance=instance, cursor=unpartitioned.cursor, definitions=unpartitioned.definitions
            )
            found = unpartitioned.sensor.evaluate_tick(context)
            assert found.run_requests == []
            unpartitioned.cursor = found.cursor
        gc.collect()
        return kept_by_the_library(), len(os.listdir("/dev/fd"))

    for number in range(20):
        unpartitioned.put(f"{number}.jsonl")
    assert len(unpartitioned.tick().run_requests) == 1
    tracemalloc.start()
    try:
        before, descriptors = ticks(20)
        after, descriptors_after = ticks(120)
    finally:
        tracemalloc.stop()
    assert descriptors_after == descriptors
    assert after - before < 120 * 500


def test_a_location_that_cannot_be_listed_fails_the_tick_with_the_reason():
    @stream_asset
    def visits():
        return []

    sensor = build_file_sensor(FileSource("gopher://host/*.csv"), visits)
    with pytest.raises(dg.Failure, match="no file system for gopher"):
        sensor.evaluate_tick(dg.build_sensor_context(instance=dg.DagsterInstance.ephemeral()))
