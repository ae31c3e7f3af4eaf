"""Outputs of plain ops: those that name a stream land, partition by partition, and are loaded by the next op."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from scripted_source import ScriptedSource

from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.stream import Stream

PEOPLE = {"s3dest/name": "people", "s3dest/namespace": "crm"}
DAILY = dg.DailyPartitionsDefinition("2026-01-01")


def executed(lake, graph: Any, **options: Any) -> dg.ExecuteInProcessResult:
    """Runs the op or graph as a job of its own."""

    @dg.job(resource_defs={"io_manager": lake.io()}, partitions_def=options.pop("partitions_def", None))
    def job():
        graph()

    return job.execute_in_process(**options)


def test_an_output_that_names_a_stream_lands_in_each_run(lake):
    @dg.op(out=dg.Out(metadata={**PEOPLE, "s3dest/sync_mode": "append"}))
    def people():
        yield dg.Output({"id": each} for each in range(3))

    for _ in range(2):
        assert executed(lake, people).success
    assert lake.ids("crm/people/") == [0, 0, 1, 1, 2, 2]


def test_an_output_has_the_metadata_of_a_materialization(lake, metadata_of):
    @dg.op(out=dg.Out(metadata=PEOPLE))
    def people():
        return [{"id": 1}]

    result = executed(lake, people)
    (handled,) = [each for each in result.all_events if each.event_type_value == "HANDLED_OUTPUT"]
    assert metadata_of(handled.event_specific_data.metadata)["rows"] == 1


def test_the_next_op_loads_what_has_landed(lake):
    seen: list[Any] = []

    @dg.op(out=dg.Out(metadata=PEOPLE))
    def people():
        return [{"id": 1}, {"id": 2}]

    @dg.op
    def count(people: pa.Table):
        seen.append(people.num_rows)

    @dg.graph
    def both():
        count(people())

    assert executed(lake, both).success
    assert seen == [2]


def test_a_run_of_a_partition_lands_and_loads_that_partition(lake):
    seen: list[Any] = []

    @dg.op(out=dg.Out(metadata=PEOPLE))
    def people(context):
        return [{"id": int(context.partition_key[-2:])}]

    @dg.op
    def first(people: list):
        seen.extend(each["id"] for each in people)

    @dg.graph
    def both():
        first(people())

    for key in ("2026-01-05", "2026-01-06", "2026-01-05"):
        assert executed(lake, both, partitions_def=DAILY, partition_key=key).success
    assert lake.ids("crm/people/") == [5, 6]
    assert seen == [5, 6, 5]


def test_two_outputs_of_one_stream_both_land(lake):
    out = dg.Out(metadata={**PEOPLE, "s3dest/sync_mode": "append"})

    @dg.op(out={"first": out, "second": out})
    def people():
        return [{"id": 1}], [{"id": 2}]

    assert executed(lake, people).success
    assert lake.ids("crm/people/") == [1, 2]


def test_a_step_that_is_retried_lands_its_output_once(lake):
    attempts: list[int] = []
    io = lake.io()

    class FailsAfterwards(dg.IOManager):
        def handle_output(self, context, obj):
            io.handle_output(context, obj)
            attempts.append(1)
            if len(attempts) == 1:
                raise RuntimeError("lost")

        def load_input(self, context):
            raise NotImplementedError

    @dg.op(out=dg.Out(metadata={**PEOPLE, "s3dest/sync_mode": "append"}), retry_policy=dg.RetryPolicy(max_retries=1))
    def people():
        return [{"id": 1}]

    @dg.job(resource_defs={"io_manager": FailsAfterwards()})
    def job():
        people()

    assert job.execute_in_process().success
    assert len(attempts) == 2
    assert lake.ids("crm/people/") == [1]


def test_an_op_lands_what_a_connector_gives(lake, tmp_path):
    scripted = ScriptedSource(tmp_path).stream("people").records("people", {"id": 1}).state("people", {"at": 1})
    source: AirbyteSource = scripted.source()

    @dg.op(out=dg.Out(metadata=PEOPLE))
    def people():
        with source.read([Stream(name="people")]) as items:
            return list(items)

    assert executed(lake, people).success
    assert lake.ids("crm/people/") == [1]


def test_an_output_without_a_stream_is_refused_with_what_to_do(lake):
    @dg.op
    def people():
        return [{"id": 1}]

    with pytest.raises(dg.Failure, match=r"names no stream.*s3dest/name"):
        executed(lake, people)


def test_settings_of_the_run_apply_to_an_op(lake):
    @dg.op(out=dg.Out(metadata={**PEOPLE, "s3dest/sync_mode": "append"}))
    def people():
        return [{"id": 1}, {"id": 2}]

    assert executed(lake, people, tags={"s3dest/record_limit": "1"}).success
    assert lake.ids("crm/people/") == [1]
    with pytest.raises(dg.Failure, match="plan"):
        executed(lake, people, tags={"s3dest/plan": "true"})
