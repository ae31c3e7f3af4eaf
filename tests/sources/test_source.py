"""Every kind of source offers what a component and an asset need, so they never check its class."""

from __future__ import annotations

import inspect

import pytest

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources import DeferredRead, FunctionSource, RequestedStream, Slice, Source, as_source
from s3dest_dagster.sources.airbyte.catalog import Catalog
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.sources.files import FileSource
from s3dest_dagster.stream import Stream, SyncMode

CATALOG = Catalog(
    {
        "streams": [
            {"name": "users", "namespace": "public", "json_schema": {}, "supported_sync_modes": ["full_refresh"]},
            {"name": "orders", "json_schema": {}},
        ]
    }
)


def readings(context, stream):
    """Readings of a sensor."""
    yield {"stream": stream.name}


def users():
    yield {}


CONNECTOR = AirbyteSource("source-shop", catalog=CATALOG)
FILES = FileSource("inbox/{{ stream_name }}/*.csv")


@pytest.mark.parametrize("value", [CONNECTOR, FILES, FunctionSource(users)])
def test_a_source_stays_unchanged(value):
    assert as_source(value) is value
    assert isinstance(value, Source)


def test_a_function_becomes_a_source_and_anything_else_does_not():
    assert as_source(users) == FunctionSource(users)
    assert as_source("inbox/*.csv") is None
    assert as_source({"type": "files"}) is None


def test_a_connector_names_the_streams_of_its_catalog_and_a_function_itself():
    assert CONNECTOR.stream_names() == ["public.users", "orders"]
    assert FunctionSource(users).stream_names() == ["users"]
    with pytest.raises(SettingsError, match="name it in streams"):
        FILES.stream_names()
    with pytest.raises(SettingsError, match="write it once with `s3dest discover`"):
        AirbyteSource("source-shop").stream_names()


def test_only_a_source_with_a_stream_parameter_separates_streams():
    assert CONNECTOR.separates_streams
    assert FILES.separates_streams
    assert not FileSource("inbox/*.csv").separates_streams
    assert FunctionSource(readings).separates_streams
    assert not FunctionSource(users).separates_streams


def test_a_connectors_stream_comes_from_its_catalog():
    stream = CONNECTOR.describe_stream(RequestedStream("users", namespace="public", sync_mode="append"))
    assert (str(stream.id), stream.sync_mode) == ("public.users", SyncMode.APPEND)
    assert CONNECTOR.describe_stream(RequestedStream("users")).namespace == "public"
    with pytest.raises(SettingsError, match="json_schema of users has no effect"):
        CONNECTOR.describe_stream(RequestedStream("users", json_schema={}))
    with pytest.raises(SettingsError, match="no stream 'user'"):
        CONNECTOR.describe_stream(RequestedStream("user"))


def test_the_settings_define_a_stream_of_files_or_of_a_function():
    assert FILES.describe_stream(RequestedStream("users")) == Stream(name="users")
    assert FunctionSource(readings).describe_stream(RequestedStream("r")).description == "Readings of a sensor."
    assert FunctionSource(readings).describe_stream(RequestedStream("r", description="Mine")).description == "Mine"


def over_one_slice(read):
    return lambda: read(Slice({"partition_key": "a"}, log=lambda level, message: None, look_up=lambda value, _: value))


def test_a_connector_is_read_once_the_landing_is_open():
    function = CONNECTOR.asset_function(Stream(name="orders"), over_one_slice)
    assert isinstance(function(), DeferredRead)


def test_files_are_read_for_their_stream_and_partition(tmp_path):
    (tmp_path / "users-a.jsonl").write_text('{"id": 1}\n')
    source = FileSource(f"{tmp_path}/{{{{ stream_name }}}}-{{{{ partition_key }}}}.jsonl")
    (batch,) = source.asset_function(Stream(name="users"), over_one_slice)()
    assert [bytes(raw) for raw in batch.raws] == [b'{"id": 1}']


def test_a_function_gets_its_stream_and_keeps_its_other_parameters():
    function = FunctionSource(readings).asset_function(Stream(name="r"), over_one_slice)
    assert list(inspect.signature(function).parameters) == ["context"]
    assert list(function(None)) == [{"stream": "r"}]
    assert FunctionSource(users).asset_function(Stream(name="r"), over_one_slice) is users


def test_only_a_connector_reads_several_streams_in_one_run():
    assert CONNECTOR.as_multi_stream() is CONNECTOR
    assert FILES.as_multi_stream() is None
    assert FunctionSource(users).as_multi_stream() is None
