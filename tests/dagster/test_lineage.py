"""Where the assets of a connector come from: external assets upstream, the lineage of columns, and lines of code."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from scripted_source import ScriptedSource

from s3dest_dagster import build_stream_assets, stream_asset
from s3dest_dagster.errors import SettingsError


@pytest.fixture
def scripted(tmp_path) -> ScriptedSource:
    return ScriptedSource(tmp_path)


def built(scripted: ScriptedSource, **arguments: Any) -> list[dg.AssetsDefinition]:
    return build_stream_assets(
        scripted.source(), catalog=scripted.catalog, **{"partitions_def": None, "source_assets": "shop", **arguments}
    )


def graph(assets: list[dg.AssetsDefinition]) -> dict[str, set[str]]:
    """The dependencies of each asset."""
    specs = dg.Definitions(assets=assets).resolve_all_asset_specs()
    return {spec.key.to_user_string(): {dep.asset_key.to_user_string() for dep in spec.deps} for spec in specs}


PROPERTIES = {"userId": {"type": "integer"}, "mail": {"type": "string"}, "e-mail": {"type": "string"}}


@pytest.mark.parametrize("as_one_run", [False, True])
def test_each_stream_has_an_asset_of_the_source_upstream(scripted, as_one_run):
    scripted.stream("users", namespace="crm").stream("orders")
    made = built(scripted, as_one_run=as_one_run, key_prefix="lake")
    assert graph(made) == {
        "lake/crm/users": {"shop/crm/users"},
        "lake/orders": {"shop/orders"},
        "shop/crm/users": set(),
        "shop/orders": set(),
    }
    external = made[-1]
    assert not external.is_executable
    (spec, _) = external.specs
    assert spec.kinds == {"airbyte"}
    assert [column.name for column in spec.metadata["dagster/column_schema"].columns] == ["id"]


def test_there_are_none_unless_they_are_asked_for(scripted):
    scripted.stream("users")
    assert graph(built(scripted, source_assets=False)) == {"users": set()}


def test_their_prefix_is_by_default_the_name_of_the_connector(scripted):
    scripted.stream("users")
    (*_, external) = built(scripted, source_assets=True)
    assert external.key.path == [scripted.source().name.replace(".", "_").replace("-", "_"), "users"]


def test_a_schedule_condition_holds_if_it_ignores_them(scripted):
    scripted.stream("users")
    hourly = dg.AutomationCondition.on_cron("0 * * * *")
    before = datetime(2026, 1, 1, 0, 30, tzinfo=UTC)
    asked = {}
    for name, condition in (
        ("waits", hourly),
        ("ignores", hourly.ignore(dg.AssetSelection.key_prefixes("shop", include_sources=True))),
    ):
        defs = dg.Definitions(assets=built(scripted, automation_condition=condition))
        with dg.DagsterInstance.ephemeral() as instance:
            first = dg.evaluate_automation_conditions(defs, instance, evaluation_time=before)
            later = before + timedelta(hours=1)
            second = dg.evaluate_automation_conditions(defs, instance, evaluation_time=later, cursor=first.cursor)
        asked[name] = second.total_requested
    assert asked == {"waits": 0, "ignores": 1}


def test_an_empty_prefix_is_refused(scripted):
    with pytest.raises(SettingsError, match="source_assets"):
        built(scripted.stream("users"), source_assets="shop/")


def test_streams_that_would_be_one_asset_of_the_source_are_refused(scripted):
    scripted.stream("a-b").stream("a_b")
    with pytest.raises(SettingsError, match=r"'a-b'.*'a_b'"):
        built(scripted)


@pytest.mark.parametrize("as_one_run", [False, True])
def test_renamed_and_hashed_columns_come_from_the_source_s_fields(lake, scripted, as_one_run):
    scripted.stream("users", properties=PROPERTIES)
    scripted.records("users", {"userId": 1, "mail": "a@b.c", "e-mail": "x", "undeclared": 1})
    settings = {"rename": {"userId": "person"}, "fields": {"hash": ["mail"]}}
    made = built(scripted, as_one_run=as_one_run, streams={"users": settings})
    io = lake.io(format="parquet", hash_key="k" * 32)
    result = lake.materialize(*made, io=io)
    (event,) = result.get_asset_materialization_events()
    lineage = event.materialization.metadata["dagster/column_lineage"].value
    assert lineage.deps_by_column == {
        column: [dg.TableColumnDep(asset_key=dg.AssetKey(["shop", "users"]), column_name=field)]
        for column, field in (("person", "userId"), ("mail", "mail"), ("e_mail", "e-mail"))
    }


def test_an_asset_without_an_asset_of_the_source_has_no_column_lineage(lake, scripted, metadata_of):
    scripted.stream("users").records("users", {"id": 1})
    result = lake.materialize(*built(scripted, source_assets=False))
    assert "dagster/column_lineage" not in metadata_of(result, "users")


def test_the_code_of_an_asset_is_where_its_function_is():
    def people():
        return []

    made = stream_asset(people)
    (spec,) = made.specs
    (reference,) = spec.metadata["dagster/code_references"].code_references
    assert (reference.file_path, reference.line_number) == (__file__, inspect.getsourcelines(people)[1])
