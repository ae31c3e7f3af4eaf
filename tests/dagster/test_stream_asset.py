"""Every kind of body that an asset can have, from Dagster's call to the contents of the bucket."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pydantic
import pytest

from s3dest_dagster import CsvFormat, stream_asset
from s3dest_dagster.dagster.asset_metadata import stream_metadata, stream_of
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.stream import Stream, SyncMode

THREE = [{"id": 1}, {"id": 2}, {"id": 3}]
TABLE = pa.table({"id": [1, 2, 3]})


@dataclasses.dataclass
class Person:
    id: int


def generator() -> Iterator[dict[str, Any]]:
    yield from THREE


BODIES = {
    "generator": generator,
    "list": lambda: THREE,
    "iterator": lambda: map(dict, THREE),
    "generator expression": lambda: (dict(each) for each in THREE),
    "pages": lambda: iter([THREE[:2], THREE[2:]]),
    "dataclasses": lambda: [Person(1), Person(2), Person(3)],
    "arrow table": lambda: TABLE,
    "arrow batches": lambda: iter(TABLE.to_batches(max_chunksize=2)),
    "arrow reader": lambda: TABLE.to_reader(),
    "polars frame": lambda: pl.DataFrame({"id": [1, 2, 3]}),
    "output": lambda: dg.Output(iter(THREE)),
    "materialize result": lambda: dg.MaterializeResult(value=iter(THREE)),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_every_kind_of_return_value_is_landed(lake, body):
    asset = stream_asset(name="people")(body)
    assert lake.materialize(asset).success
    assert lake.ids("people/") == [1, 2, 3]


def test_the_decorator_needs_no_arguments(lake):
    @stream_asset
    def people() -> Iterator[dict[str, Any]]:
        """All people."""
        yield {"id": 7}

    lake.materialize(people)
    assert people.key == dg.AssetKey("people")
    assert people.descriptions_by_key[people.key] == "All people."
    assert lake.ids("people/") == [7]


class Limit(dg.Config):
    most: int = 10


class Api(dg.ConfigurableResource):
    first: int

    def ids(self) -> range:
        return range(self.first, self.first + 5)


def test_a_generator_keeps_its_context_config_resources_and_upstream_parameters(lake):
    @dg.asset(io_manager_key="memory")
    def step() -> int:
        return 100

    @stream_asset(ins={"step": dg.AssetIn(input_manager_key="memory")})
    def people(context: dg.AssetExecutionContext, config: Limit, api: Api, step: int) -> Iterator[dict[str, Any]]:
        context.log.info("reading")
        for number in list(api.ids())[: config.most]:
            yield {"id": number + step}

    lake.materialize(
        step,
        people,
        resources={"api": Api(first=3), "memory": dg.mem_io_manager},
        run_config={"ops": {"people": {"config": {"most": 2}}}},
    )
    assert lake.ids("people/") == [103, 104]


def test_a_generator_runs_while_it_is_landed_and_can_add_metadata(lake, metadata_of):
    @stream_asset
    def people(context: dg.AssetExecutionContext) -> Iterator[dict[str, Any]]:
        yield {"id": 1}
        context.add_asset_metadata({"pages": 4})

    result = lake.materialize(people)
    assert metadata_of(result, "people") | {"pages": 4, "rows": 1} == metadata_of(result, "people")


def test_a_new_stream_that_its_contract_discards_materializes_with_no_rows(lake, metadata_of):
    @stream_asset(schema_contract={"new_stream": "discard"})
    def discarded():
        yield from ({"id": 1}, {"id": 2})

    found = metadata_of(lake.materialize(discarded), "discarded")
    assert (found["rows"], found["discarded"], found["records_read"]) == (0, 2, 2)
    assert "manifest" not in found
    assert lake.data_keys() == []


def test_metadata_of_an_output_is_kept_together_with_ours(lake, metadata_of):
    @stream_asset
    def people():
        return dg.MaterializeResult(value=[{"id": 1}], metadata={"cursor": "abc"})

    values = metadata_of(lake.materialize(people), "people")
    assert (values["cursor"], values["rows"]) == ("abc", 1)


def test_none_lands_and_changes_nothing(lake):
    @stream_asset
    def people(config: Limit):
        return [{"id": 1}] if config.most == 10 else None

    lake.materialize(people)
    before = lake.all_keys()
    lake.materialize(people, run_config={"ops": {"people": {"config": {"most": 0}}}})
    assert lake.all_keys() == before
    assert lake.ids() == [1]


@pytest.mark.parametrize("nothing", [[], iter(()), TABLE.slice(0, 0)], ids=["list", "iterator", "arrow"])
def test_a_full_refresh_without_records_empties_the_stream(lake, nothing):
    records = {"now": THREE}

    @stream_asset
    def people():
        return records["now"]

    lake.materialize(people)
    records["now"] = nothing
    lake.materialize(people)
    assert lake.data_keys() == []


def test_append_adds_and_full_refresh_replaces(lake):
    numbers = iter(range(1, 10))

    @stream_asset(sync_mode="append")
    def events():
        return [{"id": next(numbers)}]

    @stream_asset
    def people():
        return [{"id": next(numbers)}]

    for _ in range(2):
        lake.materialize(events, people)
    assert len(lake.ids("events/")) == 2
    assert len(lake.ids("people/")) == 1


def test_the_sync_mode_can_be_changed_for_one_run(lake):
    mode = {}

    @stream_asset(sync_mode="append")
    def events():
        return dg.Output([{"id": 1}], metadata=mode)

    lake.materialize(events)
    lake.materialize(events)
    assert lake.ids() == [1, 1]
    mode["s3dest/sync_mode"] = "full_refresh"
    lake.materialize(events)
    assert lake.ids() == [1]


def test_a_plain_asset_is_a_stream_named_after_its_key(lake):
    @dg.asset(key=["shop", "eu", "users"])
    def users():
        return [{"id": 1}]

    lake.materialize(users)
    assert [key.rpartition("/")[0] for key in lake.data_keys()] == ["shop/eu/users"]


def test_a_plain_asset_can_describe_its_stream_in_metadata(lake):
    metadata = {"s3dest/name": "Kunden", "s3dest/namespace": "crm", "s3dest/sync_mode": "append"}

    @dg.asset(metadata=metadata)
    def users():
        return [{"id": 1}]

    lake.materialize(users)
    lake.materialize(users)
    assert lake.ids("crm/Kunden/") == [1, 1]


def test_a_declared_schema_reaches_the_objects(lake):
    schema = {"type": "object", "properties": {"id": {"type": "integer"}, "name": {"type": "string"}}}

    @stream_asset(json_schema=schema)
    def people():
        return [{"id": 1}]

    csv = CsvFormat(flattening="Root level flattening", compression="No Compression")
    lake.materialize(people, io=lake.io(format=csv))
    header = lake.body(lake.data_keys()[0]).splitlines()[0]
    assert header.replace(b'"', b"") == b"_airbyte_ab_id,_airbyte_emitted_at,id,name"


def test_step_settings_reach_dagster():
    retry, backfill = dg.RetryPolicy(max_retries=3), dg.BackfillPolicy.single_run()
    made = stream_asset(
        partitions_def=dg.DailyPartitionsDefinition("2026-01-01"),
        retry_policy=retry,
        backfill_policy=backfill,
        pool="crm",
        op_tags={"team": "data"},
        code_version="7",
        automation_condition=dg.AutomationCondition.eager(),
        io_manager_key="lake",
        deps=["upstream"],
        owners=["team:data"],
        tags={"tier": "1"},
        kinds={"parquet"},
        group_name="crm",
        key_prefix=["raw", "crm"],
        description="Said here.",
        metadata={"wiki": "x"},
    )(generator)
    spec = next(iter(made.specs))
    assert spec.key == dg.AssetKey(["raw", "crm", "generator"])
    assert (spec.group_name, spec.code_version, spec.owners) == ("crm", "7", ["team:data"])
    assert spec.description == "Said here."
    assert spec.kinds == {"s3", "parquet"}
    assert spec.tags["tier"] == "1"
    assert spec.metadata["wiki"] == "x"
    assert [dep.asset_key for dep in spec.deps] == [dg.AssetKey("upstream")]
    assert spec.automation_condition is not None
    assert (made.op.retry_policy, made.backfill_policy, made.op.pool) == (retry, backfill, "crm")
    assert made.op.tags["team"] == "data"
    assert made.get_io_manager_key_for_asset_key(spec.key) == "lake"


def test_a_backfill_policy_causes_no_warning(recwarn):
    stream_asset(
        partitions_def=dg.DailyPartitionsDefinition("2026-01-01"), backfill_policy=dg.BackfillPolicy.single_run()
    )(generator)
    assert [str(each.message) for each in recwarn] == []


def test_an_unknown_argument_is_an_error():
    with pytest.raises(TypeError, match="partition_def"):
        stream_asset(partition_def=None)(generator)


def test_an_asynchronous_body_is_refused_with_the_alternative():
    async def people():
        yield {"id": 1}

    with pytest.raises(SettingsError, match=r"asyncio\.run"):
        stream_asset(people)


def test_an_unknown_sync_mode_is_refused():
    with pytest.raises(SettingsError, match="upsert"):
        stream_asset(sync_mode="upsert")(generator)


def test_the_definition_contains_the_stream(lake):
    schema = {"type": "object", "properties": {"id": {"type": "integer"}}}
    made = stream_asset(name="Kunden", namespace="crm", json_schema=schema, sync_mode="append")(generator)
    assert stream_of(made.key, made.metadata_by_key[made.key]) == Stream(
        name="Kunden", namespace="crm", json_schema=schema, sync_mode=SyncMode.APPEND
    )


def test_the_stream_survives_the_serialization_of_its_metadata():
    stream = Stream(
        name="Kunden",
        namespace="crm",
        json_schema={"type": "object", "properties": {"id": {"type": "integer"}, "at": {"type": "string"}}},
        sync_mode=SyncMode.APPEND,
        description="Who buys.",
        cursor_field=("at",),
        deselected=("a.b",),
        settings={
            "rename": {"id": "key"},
            "fields": {"exclude": ["phone"], "hash": ["ssn"]},
            "partition_by": [{"field": "at", "as": "day"}],
            "deselected_fields": "land",
            "schema_contract": "freeze",
            "expire_partitions_after": 0,
        },
    )
    metadata = stream_metadata(stream)
    text = dg.serialize_value(metadata["s3dest/stream"])
    assert stream_of(dg.AssetKey("x"), {**metadata, "s3dest/stream": dg.deserialize_value(text)}) == stream


def test_the_definition_contains_the_checks(lake):
    @stream_asset(check_specs=[dg.AssetCheckSpec("enough", asset="people")])
    def people():
        return dg.MaterializeResult(value=THREE, check_results=[dg.AssetCheckResult(passed=True)])

    result = lake.materialize(people)
    assert [each.passed for each in result.get_asset_check_evaluations()] == [True]
    assert lake.ids() == [1, 2, 3]


def test_a_generator_can_yield_check_results_between_records(lake):
    names = ("enough", "sorted")

    @stream_asset(check_specs=[dg.AssetCheckSpec(name, asset="people") for name in names])
    def people():
        yield THREE[0]
        yield dg.AssetCheckResult(passed=True, check_name="enough")
        yield from THREE[1:]
        yield dg.AssetCheckResult(passed=False, check_name="sorted", severity=dg.AssetCheckSeverity.WARN)

    result = lake.materialize(people)
    found = {each.check_name: each.passed for each in result.get_asset_check_evaluations()}
    assert found == {"enough": True, "sorted": False}
    assert lake.ids() == [1, 2, 3]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (lambda: (yield dg.AssetCheckResult(passed=True)), "declares no check.*check_specs"),
        (lambda: (yield dg.Output(THREE)), "Return one Output around all"),
        (lambda: (yield dg.MaterializeResult(value=THREE)), "Return one MaterializeResult around all"),
    ],
)
def test_events_for_dagster_are_not_records(lake, body, reason):
    with pytest.raises(dg.Failure, match=reason):
        lake.materialize(stream_asset(name="people", namespace="x")(named(body)))


def named(body: Any) -> Any:
    body.__name__ = "people"
    return body


class Model(pydantic.BaseModel):
    id: int


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"id": "integer"}, "names 'id' where JSON Schema has its keywords"),
        ({"id": {"type": "integer"}}, "names 'id' where"),
        ({"id": int}, "names 'id' where"),
        ({"fields": [{"name": "id", "type": "int"}]}, "names 'fields' where"),
        ({}, "it is empty"),
        ({"type": "integer"}, "its type is 'integer'"),
        ({"type": "array", "items": {}}, "its type is 'array'"),
        ({"type": "object", "properties": ["id"]}, "properties is a list"),
        ({"type": "object", "properties": {"id": "integer"}}, r"the field id is 'integer'.*\{\"type\": \"integer\"\}"),
        ({"type": "object", "properties": {"id": int}}, r"the field id is int.*\{\"type\": \"integer\"\}"),
        ({"properties": {"a": {"properties": {"b": "string"}}}}, "the field a.b is 'string'"),
        ({"properties": {"a": {"items": {"properties": {"b": None}}}}}, "the field a.items.b is None"),
        ({"properties": {"a": {"default": object()}}}, "it is no JSON"),
        ([1], "it is a list"),
        ("id", "it is a str"),
        (int, "it is a int"),
        (Model, "give its model_json_schema"),
        (TABLE.schema, "it is Arrow's"),
    ],
)
def test_an_invalid_record_schema_is_refused_with_the_right_form(schema, reason):
    with pytest.raises(SettingsError, match=reason + r".*It looks like \{\"type\": \"object\""):
        stream_asset(name="people", json_schema=schema)(generator)


@pytest.mark.parametrize(
    "schema",
    [{dg.EnvVar("SCHEMA_NAME"): {}}, {"properties": {dg.EnvVar("SCHEMA_NAME"): {"type": "integer"}}}],
    ids=["at the root", "as a field"],
)
def test_a_variable_as_a_key_of_the_json_schema_is_refused_by_name(schema):
    with pytest.raises(SettingsError, match=r"a key of json_schema.* is the variable dg.EnvVar\('SCHEMA_NAME'\)"):
        stream_asset(name="people", json_schema=schema)(generator)


def test_the_schema_in_the_metadata_of_an_asset_is_checked_too(lake):
    @dg.asset(metadata={"s3dest/json_schema": {"id": "integer"}})
    def people():
        return THREE

    with pytest.raises(dg.Failure, match="json_schema of people"):
        lake.materialize(people)


@pytest.mark.parametrize(
    "schema", [{"type": ["null", "object"], "properties": {"id": True}}, {"properties": {}}, Model.model_json_schema()]
)
def test_a_valid_record_schema_is_accepted(schema):
    assert stream_asset(name="people", json_schema=schema)(generator)


def test_a_multi_asset_lands_each_of_its_outputs(lake, metadata_of):
    specs = [dg.AssetSpec(["crm", name]).with_io_manager_key("io_manager") for name in ("users", "orders")]

    @dg.multi_asset(specs=specs)
    def crm():
        yield dg.MaterializeResult(asset_key=["crm", "users"], value=iter(THREE))
        yield dg.MaterializeResult(asset_key=["crm", "orders"], value=[{"id": 9}])

    result = lake.materialize(crm)
    assert (lake.ids("crm/users/"), lake.ids("crm/orders/")) == ([1, 2, 3], [9])
    assert [each.metadata["rows"].value for each in result.asset_materializations_for_node("crm")] == [3, 1]
