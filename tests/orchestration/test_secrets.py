"""No secret leaves a run: not in its events, its logs, its metadata, its definitions, or in the bucket."""

from __future__ import annotations

import dagster as dg
import pytest
from scripted import ScriptedSource

from s3dest_dagster import S3Resource, build_stream_assets

TOKEN = "hush-connector-token"


@pytest.fixture
def s3(lake) -> S3Resource:
    return S3Resource(
        endpoint_url=lake.server.endpoint,
        aws_access_key_id=lake.server.access_key_id,
        aws_secret_access_key=lake.server.secret_access_key,
    )


@pytest.fixture
def scripted(tmp_path) -> ScriptedSource:
    return ScriptedSource(tmp_path).stream("users").log("INFO", f"signing in with {TOKEN}").records("users", {"id": 1})


def everything_of_a_run(lake, assets, s3, **options) -> str:
    """All that a run leaves in the instance, as text."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = lake.materialize(*assets, io=lake.io(s3=s3), resources={"s3": s3}, instance=instance, **options)
        entries = instance.all_logs(result.run_id)
        assert len(entries) > 5
        return "\n".join(f"{each!r} {each.to_json()}" for each in entries) + repr(instance.get_run_by_id(result.run_id))


def assets_of(scripted: ScriptedSource) -> list[dg.AssetsDefinition]:
    source = scripted.source({"credentials": {"api_key": TOKEN}})
    return build_stream_assets(source, catalog=scripted.catalog, partitions_def=None)


@pytest.mark.parametrize("ending", ["success", "failure"])
def test_none_is_in_the_events(lake, s3, scripted, ending, capfd):
    if ending == "failure":
        scripted.error(f"cannot use {TOKEN}").exits(1)
    text = everything_of_a_run(lake, assets_of(scripted), s3, raise_on_error=False)
    assert TOKEN not in text
    assert lake.server.secret_access_key not in text
    assert ("PIPELINE_SUCCESS" in text) == (ending == "success")
    printed = "".join(capfd.readouterr())
    assert TOKEN not in printed
    assert lake.server.secret_access_key not in printed


def test_none_is_in_an_error_of_the_server(lake, scripted):
    wrong = S3Resource(
        endpoint_url=lake.server.endpoint, aws_access_key_id="AKIAWRONG", aws_secret_access_key="hush-wrong-secret"
    )
    text = everything_of_a_run(lake, assets_of(scripted), wrong, raise_on_error=False)
    assert "access_key_id" in text
    assert "hush-wrong-secret" not in text


def test_none_is_in_the_definitions(s3, scripted):
    shown = [repr(s3), *(f"{each!r} {each.metadata_by_key!r} {each.op!r}" for each in assets_of(scripted))]
    assert TOKEN not in " ".join(shown)
    assert s3.aws_secret_access_key not in " ".join(shown)


def test_none_is_in_the_io_managers_words(lake, s3):
    for each in (lake.io(s3=s3), lake.io(s3=lake.server.connection)):
        assert lake.server.secret_access_key not in f"{each!r} {each}"


def test_none_is_in_the_bucket(lake, s3, scripted):
    everything_of_a_run(lake, assets_of(scripted), s3)
    assert lake.all_keys()
    for key in lake.all_keys():
        assert TOKEN.encode() not in lake.body(key)
        assert lake.server.secret_access_key.encode() not in lake.body(key)
