"""No secret leaves a run, neither in the data that its instance stores, its logs, errors and definitions, nor in the
bucket or the arguments of a process. Successful and failed runs are searched for every kind of secret."""

from __future__ import annotations

import base64
import os
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
from aws_identities import new_role, new_user
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._serdes import serialize_value
from scripted_source import ScriptedSource
from secret_scan import command_lines, files_under, found, objects_of, processes_looked_at

from s3dest_dagster import S3Connection, S3Resource, build_stream_assets

EXTERNAL_ID = "hush-external-id/+="
PASSWORD = 'hush connector "password"/+='
URL_PASSWORD = "hush-password-of-a-url"
TOKEN = "hush-connector-token"


@dataclass(frozen=True)
class Way:
    """A way to provide an identity: the settings of the resource, its environment, and the secrets in both."""

    resource: Mapping[str, Any]
    environment: Mapping[str, str]
    canaries: Mapping[str, str]


@pytest.fixture
def ways(lake) -> dict[str, Way]:
    """Temporary keys as literals in the code, and a role that is assumed with the keys of the environment, with all
    settings from the environment."""
    endpoint = {"endpoint_url": lake.server.endpoint, "sts_endpoint": lake.server.endpoint}
    role = new_role(lake.server, EXTERNAL_ID)
    _, base = new_user(lake.server, ["sts:AssumeRole"], ["*"])
    sts = boto3.client("sts", endpoint_url=lake.server.endpoint, region_name="us-east-1", **lake.server.admin)
    given = sts.assume_role(RoleArn=role, RoleSessionName="temporary", ExternalId=EXTERNAL_ID)["Credentials"]
    return {
        "literal keys": Way(
            {
                **endpoint,
                "aws_access_key_id": given["AccessKeyId"],
                "aws_secret_access_key": given["SecretAccessKey"],
                "aws_session_token": given["SessionToken"],
            },
            {},
            {"secret": given["SecretAccessKey"], "session token": given["SessionToken"]},
        ),
        "role": Way(
            {**endpoint, "role_arn": role, "external_id": dg.EnvVar("OUR_EXTERNAL_ID")},
            {
                "OUR_EXTERNAL_ID": EXTERNAL_ID,
                "AWS_ACCESS_KEY_ID": base["access_key_id"],
                "AWS_SECRET_ACCESS_KEY": base["secret_access_key"],
            },
            {"secret of the base": base["secret_access_key"], "external id": EXTERNAL_ID},
        ),
    }


OF_THE_CONNECTOR = {"password": PASSWORD, "url password": URL_PASSWORD, "token": TOKEN}


def scripted(folder: Path, *, fails: bool) -> ScriptedSource:
    """A connector that prints its secrets, and may fail with them in its message."""
    source = ScriptedSource(folder).stream("users").waits_for(folder / "looked at").log("INFO", f"as {PASSWORD}")
    source.stderr(f"Traceback: postgres://us:{URL_PASSWORD}@db/x?token={TOKEN}\n").records("users", {"id": 1})
    return source.error(f"cannot use {PASSWORD}", internal=f"by {TOKEN}").exits(1) if fails else source


def assets_of(source: ScriptedSource) -> list[dg.AssetsDefinition]:
    config = {"password": PASSWORD, "url": f"postgres://us:{URL_PASSWORD}@db/x", "credentials": {"api_key": TOKEN}}
    return build_stream_assets(source.source(config), catalog=source.catalog, partitions_def=None)


@pytest.mark.parametrize("way", ["literal keys", "role"])
@pytest.mark.parametrize("ending", ["success", "failure"])
def test_no_data_that_a_run_leaves_contains_a_secret(lake, ways, monkeypatch, tmp_path, capfd, way, ending):
    chosen = ways[way]
    for name, value in chosen.environment.items():
        monkeypatch.setenv(name, value)
    home, folder = tmp_path / "home", tmp_path / "source"
    home.mkdir()
    folder.mkdir()
    source = scripted(folder, fails=ending == "failure")
    s3 = S3Resource(**chosen.resource)
    assets, io = assets_of(source), lake.io(s3=s3)
    with (
        dg.DagsterInstance.local_temp(str(home)) as instance,
        processes_looked_at(source, folder, during="read") as processes,
    ):
        result = lake.materialize(
            *assets, io=io, resources={"s3": s3}, instance=instance, raise_on_error=False, run_config=None
        )
        events = "\n".join(f"{each!r}" for each in instance.all_logs(result.run_id))
    definitions = dg.Definitions(assets=assets, resources={"io_manager": io, "s3": s3}).get_repository_def()
    places = [
        *files_under(home),
        *objects_of(lake.server, lake.bucket),
        *processes.items(),
        ("events", events.encode()),
        ("output", "".join(capfd.readouterr()).encode()),
        ("code location", serialize_value(RepositorySnap.from_def(definitions)).encode()),
        ("definitions", f"{s3!r} {s3} {io!r} {[(each, each.op, each.metadata_by_key) for each in assets]!r}".encode()),
    ]
    assert found({**chosen.canaries, **OF_THE_CONNECTOR}, places) == set()
    # Makes sure that the search covered everything.
    named = {place for place, _ in places}
    assert result.success == (ending == "success")
    assert any(b"scripted_connector.py" in each for each in processes.values())
    assert any(name.endswith(".err") for name in named)
    assert any(name.endswith("(unpacked)") and b"STEP_START" in content for name, content in places)
    assert any("/segments/" in name for name in named) == (ending == "success")


@pytest.mark.parametrize("wrong", ["secret", "session token", "external id"])
def test_no_refusal_of_the_server_shows_a_secret(lake, ways, monkeypatch, tmp_path, capfd, wrong):
    """This includes tracebacks and causes, and each request that the server may refuse."""
    way = ways["role" if wrong == "external id" else "literal keys"]
    for name, value in way.environment.items():
        monkeypatch.setenv(name, value)
    names = {"secret": "aws_secret_access_key", "session token": "aws_session_token", "external id": "external_id"}
    canary = f"hush-wrong-{wrong.replace(' ', '-')}/+="
    s3 = S3Resource(**{**way.resource, names[wrong]: canary})

    @dg.asset
    def users():
        return [{"id": 1}]

    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance, pytest.raises(Exception) as failed:  # noqa: PT011
        lake.materialize(users, io=lake.io(s3=s3), resources={"s3": s3}, instance=instance)
    trace = "".join(traceback.format_exception(failed.value))
    assert any(word in trace for word in ("refused the credentials", "could not be assumed"))
    output = "".join(capfd.readouterr())
    places = [("traceback", trace.encode()), ("output", output.encode()), *files_under(tmp_path)]
    assert found({wrong: canary, **way.canaries}, places) == set()


def test_a_literal_is_used_although_it_is_in_no_schema(lake, ways):
    """The test covers every way in which Dagster makes the resource of a run from that of the code."""
    way, seen = ways["literal keys"], []

    @dg.asset
    def consumer(s3: S3Resource) -> None:
        seen.append(s3.connection())

    s3 = S3Resource(**way.resource)
    dg.materialize([consumer], resources={"s3": s3})
    with s3.process_config_and_initialize_cm() as made:
        seen.append(made.connection())
    seen.append(s3.with_replaced_resource_context(dg.build_init_resource_context()).connection())
    seen.append(lake.io(s3=s3).s3.connection())
    assert seen == [s3.connection()] * 4
    assert s3.connection().session_token == way.canaries["session token"]


@pytest.mark.parametrize(
    "given", [{}, {"aws_access_key_id": "AKIA", "aws_secret_access_key": "another"}, {"region_name": "eu-west-1"}]
)
def test_run_config_replaces_the_settings_of_a_resource_including_literals(ways, given):
    """Dagster does this with any resource: only the settings of the run count."""
    seen = []

    @dg.asset
    def consumer(s3: S3Resource) -> None:
        seen.append(s3.connection())

    config = {"resources": {"s3": {"config": given}}}
    dg.materialize([consumer], resources={"s3": S3Resource(**ways["literal keys"].resource)}, run_config=config)
    assert seen == [S3Resource(**given).connection()]


def test_connections_do_not_show_their_secrets():
    secrets = {"secret_access_key": "hush-secret", "session_token": "hush-token", "external_id": "hush-external-id"}
    connection = S3Connection(access_key_id="AKIA", role_arn="arn:aws:iam::1:role/r", **secrets)
    assert "hush" not in f"{connection!r} {connection}"


def test_the_search_finds_every_secret(tmp_path, lake):
    """The search finds a secret in each location and spelling, so an empty result is meaningful."""
    canaries = {"password": PASSWORD}
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        job = dg.GraphDefinition("job", node_defs=[]).to_job()
        instance.create_run_for_job(job, tags={"told": PASSWORD})
    assert {place for _, place in found(canaries, files_under(tmp_path))} >= {"history/runs.db (unpacked)"}
    lake.server.client().put_object(Bucket=lake.bucket, Key="a", Body=b"", Metadata={"told": TOKEN})
    assert found({"token": TOKEN}, objects_of(lake.server, lake.bucket)) == {("token", "a")}
    for spelling in ("hush%20connector%20%22password%22%2F%2B%3D", 'hush connector \\"password\\"/+='):
        assert found(canaries, [("x", spelling.encode())])
    assert found(canaries, [("x", base64.b64encode(b"xy" + PASSWORD.encode() + b"z"))])
    assert os.getpid() not in {int(place.split()[-1]) for place, _ in command_lines()}
