"""No secret leaves the command, neither in its answers and tracebacks nor in the bucket or the arguments of a
process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from airbyte_messages import record
from aws_identities import new_role, new_user
from scripted_source import ScriptedSource
from secret_scan import found, objects_of, processes_looked_at

EXTERNAL_ID = "hush-external-id/+="
PASSWORD = 'hush connector "password"/+='
URL_PASSWORD = "hush-password-of-a-url"
SOURCE_CONFIG = {"password": PASSWORD, "url": f"postgres://us:{URL_PASSWORD}@db/x"}
OF_THE_CONNECTOR = {"password": PASSWORD, "url password": URL_PASSWORD}


@dataclass(frozen=True)
class Way:
    """A way to provide an identity: changes to the configuration, the environment, and the secrets in both."""

    changes: Mapping[str, Any]
    environment: Mapping[str, str]
    canaries: Mapping[str, str]


@pytest.fixture
def ways(lake) -> dict[str, Way]:
    """Temporary keys in the configuration, and a role that the keys of the environment assume."""
    own = {"max_attempts": 1, "encode_workers": 1, "sts_endpoint": lake.server.endpoint}
    role = new_role(lake.server, EXTERNAL_ID)
    _, base = new_user(lake.server, ["sts:AssumeRole"], ["*"])
    sts = boto3.client("sts", endpoint_url=lake.server.endpoint, region_name="us-east-1", **lake.server.admin)
    given = sts.assume_role(RoleArn=role, RoleSessionName="temporary", ExternalId=EXTERNAL_ID)["Credentials"]
    return {
        "temporary keys": Way(
            {
                "access_key_id": given["AccessKeyId"],
                "secret_access_key": given["SecretAccessKey"],
                "s3dest": {**own, "session_token": given["SessionToken"]},
            },
            {},
            {"secret": given["SecretAccessKey"], "session token": given["SessionToken"]},
        ),
        "role": Way(
            {
                "access_key_id": None,
                "secret_access_key": None,
                "role_arn": role,
                "s3dest": {**own, "external_id": EXTERNAL_ID},
            },
            {"AWS_ACCESS_KEY_ID": base["access_key_id"], "AWS_SECRET_ACCESS_KEY": base["secret_access_key"]},
            {"secret of the base": base["secret_access_key"], "external id": EXTERNAL_ID},
        ),
    }


@pytest.mark.parametrize("way", ["temporary keys", "role"])
@pytest.mark.parametrize("ending", ["success", "failure"])
def test_a_sync_leaves_no_secret(lake, ways, way, ending):
    chosen = ways[way]
    messages = record("users", id=1) + ("" if ending == "success" else record("users", id=2)[:-9])
    catalog, config = lake.catalog("users"), lake.config(**chosen.changes)
    answer = lake.run(
        "write", "--config", config, "--catalog", catalog, "--verbose", stdin=messages, **chosen.environment
    )
    assert (answer.returncode == 0) == (ending == "success"), answer.stderr
    assert ("Traceback" in answer.stderr) == (ending == "failure")
    assert lake.ids() == ([1] if ending == "success" else [])
    shown = [("output", f"{answer.stdout}{answer.stderr}".encode())]
    assert found(chosen.canaries, [*shown, *objects_of(lake.server, lake.bucket)]) == set()


@pytest.mark.parametrize("wrong", ["secret", "session token", "external id"])
def test_no_refusal_of_the_server_shows_a_secret(lake, ways, wrong):
    """The server refuses each request in turn. The outputs are sentences, tracebacks and JSON."""
    way, canary = ways["role" if wrong == "external id" else "temporary keys"], "hush-wrong-one/+="
    changes = {**way.changes, "s3dest": dict(way.changes["s3dest"])}
    place = changes if wrong == "secret" else changes["s3dest"]
    place[{"secret": "secret_access_key", "session token": "session_token", "external id": "external_id"}[wrong]] = (
        canary
    )
    config = lake.config(**changes)
    answers = [
        lake.run("check", "--config", config, *options, **way.environment) for options in ([], ["--json", "--verbose"])
    ]
    answers.append(lake.run("ls", "--config", config, "--verbose", **way.environment))
    assert [each.returncode for each in answers] == [1, 1, 1]
    shown = [("output", f"{each.stdout}{each.stderr}".encode()) for each in answers]
    assert found({wrong: canary, **way.canaries}, shown) == set()


@pytest.mark.parametrize("ending", ["success", "failure"])
def test_a_connector_that_prints_its_secrets_exposes_none(lake, ending):
    source = ScriptedSource(lake.folder).stream("users").on("discover")
    source.waits_for(lake.folder / "looked at").log("INFO", f"signing in with {PASSWORD}")
    source.stderr(f"Traceback: postgres://us:{URL_PASSWORD}@db/x\n")
    if ending == "failure":
        source.error(f"cannot use {PASSWORD}", internal=f"postgres://us:{URL_PASSWORD}@db/x").exits(1)
    else:
        source.message({"type": "CATALOG", "catalog": source.catalog})
    source.source()
    program = lake.folder / "source-scripted"
    program.write_text("#!/bin/sh\nexec " + " ".join(f"'{each}'" for each in source.command) + ' "$@"\n')
    program.chmod(0o700)
    config = lake.file("source.json", SOURCE_CONFIG)
    with processes_looked_at(source, lake.folder, during="discover") as processes:
        answer = lake.run("discover", "--source", str(program), "--config", config, "--verbose")
    assert (answer.returncode == 0) == (ending == "success"), answer.stderr
    assert "signing in with ****" in answer.stderr
    assert any(b"scripted_connector.py" in each for each in processes.values())
    shown = [("stdout", answer.stdout.encode()), ("stderr", answer.stderr.encode()), *processes.items()]
    assert found(OF_THE_CONNECTOR, shown) == set()
    if ending == "success":
        assert json.loads(answer.stdout) == source.catalog
