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


# ---------------------------------------------------------------------- a function that does not report what landed


def returns_nothing(context, run):
    run(context)


def returns_a_result(context, run):
    return dg.MaterializeResult(asset_key="users")


def yields_the_call(context, run):
    yield run(context)


def yields_a_record(context, run):
    yield {"id": 1}


def yields_nothing_of_the_call(context, run):
    run(context)
    yield from ()


def stops_early(context, run):
    yield next(run(context))


def keeps_the_results(context, run):
    for _ in run(context):
        pass
    yield from ()


def yields_another_asset(context, run):
    yield dg.MaterializeResult(asset_key="visits")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (returns_nothing, "returns_nothing returned nothing, and it must yield the results of run"),
        (returns_a_result, "returns_a_result returned a MaterializeResult, and it must yield"),
        (yields_the_call, "yields_the_call yielded a generator instead of what run"),
        (yields_a_record, "yields_a_record yielded a dict instead of what run"),
        (yields_nothing_of_the_call, "yields_nothing_of_the_call calls run(context) and does not read it to its end"),
        (stops_early, "stops_early calls run(context) and does not read it to its end"),
        (keeps_the_results, "keeps_the_results does not yield the results of orders, users, so that Dagster does"),
        (yields_another_asset, "a result of visits, which this run does not select. It selects orders, users."),
    ],
)
def test_a_function_that_does_not_yield_what_lands_fails_with_the_cure(lake, shop, body, message):
    with pytest.raises(dg.Failure) as caught:
        lake.materialize(shop("users", "orders")(body))
    assert message in caught.value.description
    assert "run(context" in caught.value.description
    assert caught.value.metadata["setting"].value == "body"


def test_a_result_of_an_asset_that_the_run_does_not_select_is_refused(lake, shop):
    @shop("users", "orders")
    def step(context, run):
        yield dg.MaterializeResult(asset_key="users")

    with pytest.raises(dg.Failure, match=r"result of users, which this run does not select. It selects orders"):
        lake.materialize(step, selection=["orders"])


def test_two_results_of_a_stream_are_refused(lake, shop):
    @shop("users")
    def step(context, run):
        for _ in range(2):
            yield from run(context, streams=["users"])

    with pytest.raises(dg.Failure, match=r"two results of users. A run lands each stream once.*streams="):
        lake.materialize(step)
    assert lake.ids() == [1]


def test_the_function_may_land_nothing_on_purpose_and_catch_a_failure(lake, shop):
    @shop()
    def closed(context, run):
        return []

    @shop()
    def patient(context, run):
        try:
            yield from run(context)
        except dg.Failure as failure:
            context.log.warning(failure.description)

    for step in (closed, patient):
        assert landed(lake.materialize(step)) == []


@pytest.mark.parametrize("is_generator", [False, True])
def test_an_asynchronous_function_is_refused_when_it_is_decorated(shop, is_generator):
    async def waits(context, run):
        return run(context)

    async def streams(context, run):
        yield run(context)

    with pytest.raises(SettingsError, match=r"^(waits|streams) is asynchronous.*asyncio\.run"):
        shop()(streams if is_generator else waits)


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
