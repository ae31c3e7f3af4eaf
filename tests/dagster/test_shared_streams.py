"""What makes two assets distinct makes two streams distinct, or is refused when the definitions are loaded."""

from __future__ import annotations

from types import ModuleType

import dagster as dg
import dagster_aws.s3
import pytest

from s3dest_dagster import S3Connection, S3DestinationIOManager, S3Resource, sharded_stream_asset, stream_asset
from s3dest_dagster.errors import SettingsError


def users(**asset):
    return stream_asset(name="users", **asset)(lambda: [{"id": 1}])


def io_manager(**settings) -> S3DestinationIOManager:
    return S3DestinationIOManager(**{"s3_bucket_name": "lake", "s3_bucket_path": "data", **settings})


def load(*assets, **resources) -> None:
    definitions = dg.Definitions(assets=list(assets), resources={"io_manager": io_manager(), **resources})
    dg.Definitions.validate_loadable(definitions)


def test_two_assets_of_one_stream_are_refused_with_both_names_and_the_cure():
    one, other = users(namespace="crm", key_prefix="a"), users(namespace="crm", key_prefix="b")
    with pytest.raises(SettingsError) as caught:
        load(one, other)
    told = str(caught.value)
    assert all(part in told for part in ("a/crm/users", "b/crm/users", "'crm.users'", "namespace", "s3_bucket_path"))


def test_a_plain_asset_beside_a_stream_asset_counts():
    @dg.asset(key=["x", "people"], metadata={"s3dest/name": "users", "s3dest/namespace": ""})
    def plain():
        return []

    with pytest.raises(SettingsError, match=r"users.*x/people|x/people.*users"):
        load(users(), plain)


def sharded(key_prefix: str) -> dg.AssetsDefinition:
    schema = {"type": "object", "properties": {"id": {"type": "integer"}}}

    @sharded_stream_asset(shards=2, json_schema=schema, name="users", namespace="crm", key_prefix=key_prefix)
    def read(shard: int):
        yield {"id": shard}

    return read


@pytest.mark.parametrize("other", [sharded, lambda key_prefix: users(namespace="crm", key_prefix=key_prefix)])
def test_a_sharded_asset_counts(other):
    with pytest.raises(SettingsError, match=r"b/crm/users and c/crm/users.* 'crm\.users'"):
        load(sharded("b"), other("c"))
    load(sharded("b"))


def test_different_prefixes_are_different_streams():
    load(users(key_prefix="eu"), users(key_prefix="us"), users())


def test_a_prefix_that_a_loader_gives_is_the_namespace(lake):
    module = ModuleType("shop")
    module.users = users()
    (loaded,) = dg.load_assets_from_modules([module], key_prefix="eu")
    load(loaded)
    assert lake.materialize(loaded).success
    assert all(key.startswith("eu/users/") for key in lake.data_keys())


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({}, True),
        ({"s3_bucket_path": "/data/"}, True),
        ({"s3_bucket_path": "data/${NAMESPACE}"}, True),
        ({"s3_path_format": "${STREAM_NAME}/${EPOCH}_"}, True),
        ({"s3": S3Resource(region_name="eu-central-1", aws_access_key_id="a", aws_secret_access_key="b")}, True),
        ({"s3": dagster_aws.s3.S3Resource(region_name="eu-central-1")}, True),
        ({"s3_endpoint": "https://s3.eu-central-1.amazonaws.com"}, True),
        ({"s3_endpoint": "https://storage.example"}, False),
        ({"s3": S3Connection(endpoint="https://storage.example")}, False),
        ({"s3_bucket_name": "sea"}, False),
        ({"s3_bucket_path": "other"}, False),
        ({"stream_prefix": "x_"}, False),
    ],
)
def test_io_managers_are_compared_by_where_they_land(settings, same):
    one, other = users(namespace="crm", key_prefix="a"), users(namespace="crm", key_prefix="b", io_manager_key="other")
    if not same:
        load(one, other, other=io_manager(**settings))
        return
    with pytest.raises(SettingsError, match="would both land"):
        load(one, other, other=io_manager(**settings))


def test_two_ways_to_name_one_server_are_one_server():
    one, other = users(namespace="crm", key_prefix="a"), users(namespace="crm", key_prefix="b", io_manager_key="other")
    named = "https://storage.example"
    managers = {"io_manager": io_manager(s3_endpoint=named), "other": io_manager(s3=S3Resource(endpoint_url=named))}
    with pytest.raises(SettingsError, match="would both land"):
        load(one, other, **managers)


def test_streams_of_another_io_manager_are_none_of_our_business():
    one, other = users(namespace="crm", key_prefix="a"), users(namespace="crm", key_prefix="b", io_manager_key="files")
    load(one, other, files=dg.FilesystemIOManager())


def test_a_run_of_two_assets_of_one_stream_is_refused(lake):
    with pytest.raises(SettingsError, match="would both land"):
        lake.materialize(users(namespace="crm", key_prefix="a"), users(namespace="crm", key_prefix="b"))


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
