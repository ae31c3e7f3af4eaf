"""From streams to assets: names that Dagster allows, and how to override them."""

from __future__ import annotations

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster import (
    AvroFormat,
    CsvFormat,
    JsonlFormat,
    ParquetFormat,
    S3DestinationTranslator,
    Stream,
    stream_asset,
)
from s3dest_dagster.dagster.asset_metadata import stream_of
from s3dest_dagster.dagster.translator import asset_key, check_distinct
from s3dest_dagster.errors import SchemaError, SettingsError

RESERVED = ["type", "config", "context", "dict", "input", "output", "meta", "else", "None", "with"]
AWKWARD = ["Kunden & Lieferanten", "käufer", "用户", "a/b:c*d", "order-items", "v1.2", "type", "config", " ", "1st"]


def nothing():
    return []


def spec_of(stream: Stream) -> dg.AssetSpec:
    return S3DestinationTranslator().get_asset_spec(stream)


@pytest.mark.parametrize(
    ("namespace", "name", "key"),
    [
        ("public", "users", ["public", "users"]),
        (None, "users", ["users"]),
        ("my schema", "Käufer", ["my_schema", "Kaufer"]),
        (None, "order-items.v2", ["order_items_v2"]),
        (None, "type", ["type_"]),
        ("crm", "type", ["crm", "type"]),
    ],
)
def test_the_key_is_the_name_if_dagster_allows_it(namespace, name, key):
    assert asset_key(Stream(name=name, namespace=namespace)).path == key


@pytest.mark.parametrize("name", AWKWARD)
def test_streams_with_unusual_names_land_under_their_own_name(lake, metadata_of, name):
    made = stream_asset(name=name, namespace="a b")(lambda: [{"id": 1}])
    assert lake.materialize(made).success
    assert lake.ids() == [1]
    (spec,) = made.specs
    assert stream_of(spec.key, spec.metadata).id == ("a b", name)


@pytest.mark.parametrize("name", RESERVED)
def test_names_that_dagster_reserves_become_assets_too(name):
    assert stream_asset(name=name)(nothing).key.path == [f"{name}_"]


@given(st.text(min_size=1, max_size=30), st.none() | st.text(max_size=30))
def test_every_name_makes_an_asset(name, namespace):
    made = stream_asset(name=name, namespace=namespace)(nothing)
    dg.Definitions.validate_loadable(dg.Definitions([made], resources={"io_manager": dg.mem_io_manager}))


def test_the_description_comes_from_the_stream_or_its_schema():
    schema = {"type": "object", "description": "From the schema."}
    assert spec_of(Stream(name="users", json_schema=schema)).description == "From the schema."
    assert spec_of(Stream(name="users", json_schema=schema, description="Own.")).description == "Own."
    assert spec_of(Stream(name="users")).description is None


def test_a_spec_describes_the_stream():
    metadata = spec_of(Stream(name="users", namespace="crm", sync_mode="append")).metadata
    assert metadata["s3dest/sync_mode"] == "append"
    assert (metadata["dagster/table_name"], metadata["dagster/storage_kind"]) == ("crm.users", "s3")


@pytest.mark.parametrize(
    ("format", "kind"),
    [(ParquetFormat(), "parquet"), (CsvFormat(), "csv"), (AvroFormat(), "avro"), (JsonlFormat(), "json")],
)
def test_the_format_is_a_kind_with_an_icon_in_dagster(format, kind):
    spec = S3DestinationTranslator(format).get_asset_spec(Stream(name="users"))
    assert spec.kinds == {"s3", kind}


def test_a_wrong_schema_is_reported_with_its_stream():
    with pytest.raises(SchemaError, match="users"):
        spec_of(Stream(name="users", json_schema={"type": "object", "properties": 5}))


def test_arguments_override_a_custom_translator():
    class Ours(S3DestinationTranslator):
        def get_asset_spec(self, stream):
            spec = super().get_asset_spec(stream)
            return spec.replace_attributes(key=["raw", stream.name.lower()], group_name="theirs").merge_attributes(
                tags={"team": "crm"}, kinds={"csv"}
            )

    made = stream_asset(name="USERS", translator=Ours(), key_prefix="eu", group_name="ours", tags={"tier": "1"})(
        nothing
    )
    (spec,) = made.specs
    assert spec.key.path == ["eu", "raw", "users"]
    assert spec.group_name == "ours"
    assert (spec.tags["team"], spec.tags["tier"], spec.kinds) == ("crm", "1", {"s3", "csv"})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Stream(name="a-b"), Stream(name="a_b")),
        (Stream(name="b", namespace="a"), Stream(name="a__b")),
    ],
    ids=["the same key", "the same op name"],
)
def test_streams_that_would_be_one_asset_are_reported_with_both_names(one, other):
    with pytest.raises(SettingsError) as caught:
        check_distinct((each, asset_key(each)) for each in (one, other))
    assert repr(str(one.id)) in str(caught.value)
    assert repr(str(other.id)) in str(caught.value)
