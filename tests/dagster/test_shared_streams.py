"""What makes two assets distinct makes two streams distinct, or the first run of both is refused with both names."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._cli import create_dagster_cli
from scripted_source import ScriptedSource

from s3dest_dagster import sharded_stream_asset, stream_asset


def users(**asset):
    return stream_asset(name="users", **asset)(lambda: [{"id": 1}])


@dg.asset(key=["x", "people"], metadata={"s3dest/name": "users", "s3dest/namespace": "crm"})
def plain():
    return [{"id": 1}]


def sharded(key_prefix: str) -> dg.AssetsDefinition:
    schema = {"type": "object", "properties": {"id": {"type": "integer"}}}

    @sharded_stream_asset(shards=2, json_schema=schema, name="users", namespace="crm", key_prefix=key_prefix)
    def read(shard: int):
        yield {"id": shard}

    return read


OTHERS = {
    "a stream asset": lambda: users(namespace="crm", key_prefix="b"),
    "a sharded asset": lambda: sharded("b"),
    "any asset with the metadata": lambda: plain,
}


@pytest.mark.parametrize("other", OTHERS)
def test_the_second_of_two_assets_of_one_stream_is_refused_with_both_names(lake, other):
    one, other = users(namespace="crm", key_prefix="a"), OTHERS[other]()
    result = lake.materialize(one, other, raise_on_error=False)
    (failed,) = [each for each in result.all_events if each.is_step_failure]
    reason = failed.step_failure_data.error_display_string + str(failed.step_failure_data.user_failure_data)
    assert all(part in reason for part in ("a/crm/users", other.key.to_user_string(), "'crm.users'", "namespace"))
    assert len(lake.data_keys()) == len(result.get_asset_materialization_events()) == 1


def test_different_prefixes_are_different_streams(lake):
    assert lake.materialize(users(key_prefix="eu"), users(key_prefix="us"), users()).success


def test_a_prefix_that_a_loader_gives_is_the_namespace(lake):
    module = ModuleType("shop")
    module.users = users()
    (loaded,) = dg.load_assets_from_modules([module], key_prefix="eu")
    assert lake.materialize(loaded).success
    assert all(key.startswith("eu/users/") for key in lake.data_keys())


# ---------------------------------------------------------------------- runs of a code location

LOCATION = """
import dagster as dg
from s3dest_dagster import AirbyteSource, S3Connection, S3DestinationIOManager, build_stream_assets, stream_asset

source = AirbyteSource({command})


@stream_asset(namespace="crm", key_prefix="a", owner="crm-team")
def users():
    yield {{"id": 1}}


connection = S3Connection(
    endpoint="{endpoint}", access_key_id="{key}", secret_access_key="{secret}", region="us-east-1"
)
manager = S3DestinationIOManager(s3_bucket_name="{bucket}", s3=connection)
connector = build_stream_assets(
    source,
    catalog={catalog},
    streams={{"users": {{"owner": "crm-team"}}}},
    partitions_def=None,
    as_one_run=True,
    key_prefix="b",
    metadata={{"s3dest/namespace": "crm"}},
    io_manager_key="{other}",
)
defs = dg.Definitions(
    [users, *connector], resources={{"io_manager": manager, "second": manager}}, executor=dg.in_process_executor
)
"""


@pytest.fixture
def materialize(lake, tmp_path: Path):
    """Calls `dagster asset materialize` on a code location, in this process."""
    source = ScriptedSource(tmp_path).stream("users").records("users", {"id": 1})
    command = json.dumps(list(source.source().command))

    def call(select: str, other: str = "io_manager"):
        server, file = lake.server, tmp_path / "location.py"
        text = LOCATION.format(
            command=command,
            catalog=json.dumps(source.catalog),
            bucket=lake.bucket,
            endpoint=server.endpoint,
            key=server.access_key_id,
            secret=server.secret_access_key,
            other=other,
        )
        file.write_text(text.replace("true", "True"))
        return CliRunner().invoke(create_dagster_cli(), ["asset", "materialize", "-f", str(file), "--select", select])

    return call


@pytest.mark.parametrize("select", ["a/crm/users", "key:b/users"])
def test_a_code_location_with_two_assets_of_one_stream_lands_neither(lake, materialize, select):
    result = materialize(select)
    assert result.exit_code == 1
    assert "The assets a/crm/users and b/users would both land the stream 'crm.users'" in result.output
    assert lake.data_keys() == []


def test_streams_of_another_io_manager_are_compared_by_their_registry_alone(lake, materialize):
    assert materialize("a/crm/users", other="second").exit_code == 0
    assert len(lake.data_keys()) == 1


class TestNamespaces:
    def test_the_prefix_of_the_key_is_the_namespace(self, lake):
        eu, us = users(key_prefix=["shop", "eu"]), users(key_prefix="us")
        assert lake.materialize(eu, us).success
        assert sorted(key.split("users")[0] for key in lake.data_keys()) == ["shop/eu/", "us/"]
        assert eu.metadata_by_key[eu.key]["dagster/table_name"] == "shop/eu.users"

    @pytest.mark.parametrize(("namespace", "folder"), [("crm", "crm/users/"), ("", "users/")])
    def test_a_namespace_that_is_given_stays(self, lake, namespace, folder):
        assert lake.materialize(users(namespace=namespace, key_prefix="eu")).success
        (key,) = lake.data_keys()
        assert key.startswith(folder)

    def test_metadata_gives_a_namespace_to_any_asset(self, lake):
        assert lake.materialize(users(key_prefix="eu", metadata={"s3dest/namespace": "x"})).success
        (key,) = lake.data_keys()
        assert key.startswith("x/users/")
