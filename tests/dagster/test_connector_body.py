"""A caller's own function around one run of a connector, and around an asset: the ops of a graph."""

from __future__ import annotations

import dagster as dg
import pytest
from scripted_source import ScriptedSource

from s3dest_dagster import connector_assets
from s3dest_dagster.errors import SettingsError


class Tenant(dg.ConfigurableResource):
    name: str


@pytest.fixture
def shop(tmp_path):
    """Decorates a function with the assets of a connector of two streams, which gives records of these."""

    def decorator(*streams: str):
        source = ScriptedSource(tmp_path).stream("users").stream("orders")
        for stream in streams:
            source = source.records(stream, {"id": 1})
        return connector_assets(source=source.source(), catalog=source.catalog, group_name="shop")

    return decorator


def landed(result: dg.ExecuteInProcessResult) -> list[str]:
    events = result.get_asset_materialization_events()
    return sorted(each.asset_key.to_user_string() for each in events)


def test_the_function_does_things_before_and_after_and_has_resources(lake, shop):
    said = []

    @shop("users", "orders")
    def step(context: dg.AssetExecutionContext, run, tenant: Tenant):
        said.append(f"{tenant.name} begins, {len(lake.data_keys())} objects")
        yield from run(context)
        said.append(f"{len(lake.data_keys())} objects")

    result = lake.materialize(step, resources={"tenant": Tenant(name="ours")})
    assert said == ["ours begins, 0 objects", "2 objects"]
    assert landed(result) == ["orders", "users"]
    assert step.op.name == "step"
    assert {spec.group_name for spec in step.specs} == {"shop"}


def test_the_function_chooses_streams_and_the_others_are_not_materialized(lake, shop):
    @shop("users")
    def step(context, run):
        yield from run(context, streams=["users"])

    assert landed(lake.materialize(step)) == ["users"]
    assert all("users" in key for key in lake.data_keys())


def test_the_selection_of_the_run_applies_too(lake, shop):
    @shop("orders")
    def step(context, run):
        yield from run(context)

    assert landed(lake.materialize(step, selection=["orders"])) == ["orders"]


def test_what_the_function_raises_fails_the_run_and_keeps_what_landed(lake, shop):
    @shop("users")
    def step(context, run):
        yield from run(context, streams=["users"])
        raise ValueError("no orders today")

    result = lake.materialize(step, raise_on_error=False)
    assert not result.success
    assert landed(result) == ["users"]


def test_an_unknown_stream_is_refused_with_the_likely_one(lake, shop):
    @shop()
    def step(context, run):
        yield from run(context, streams=["user"])

    with pytest.raises(dg.Failure, match=r"'user'.*Did you mean 'users'"):
        lake.materialize(step)


def test_a_function_that_cannot_land_is_refused(shop):
    with pytest.raises(SettingsError, match="has no parameter 'run'"):
        shop()(lambda context: None)


def test_the_last_op_of_a_graph_asset_lands_and_inner_ops_keep_their_values_elsewhere(lake):
    @dg.op(out=dg.Out(io_manager_key="memory"))
    def fetch():
        return 3

    @dg.op
    def records(number):
        yield dg.Output([{"id": each} for each in range(number)])

    @dg.graph_asset(key=["crm", "people"])
    def people():
        return records(fetch())

    assert landed(lake.materialize(people, resources={"memory": dg.mem_io_manager})) == ["crm/people"]
    assert lake.ids("crm/people/") == [0, 1, 2]
