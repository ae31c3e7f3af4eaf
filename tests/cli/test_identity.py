"""Every command reports an unavailable identity with the same message, which includes the remedy."""

from __future__ import annotations

import pytest
from airbyte_messages import record

FAULTS = {
    "a program that prints no JSON": (
        {},
        "[default]\ncredential_process = echo Please sign in.\n",
        "No identity: the program of profile 'default' (credential_process) gives none: its answer is not JSON",
    ),
    "a container at a foreign host": (
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://credentials.example.com/"},
        "",
        "No identity: the container gives none: ",
    ),
    "a web identity with a dead service": (
        {"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/r", "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9"},
        "",
        "No identity: the web identity gives none: Could not connect",
    ),
    "a profile that is not there": ({"AWS_PROFILE": "nowhere"}, "", "No identity: The config profile (nowhere)"),
    "an endpoint that is no URL": (
        {"AWS_ENDPOINT_URL_S3": "minio:9000"},
        "",
        "AWS_ENDPOINT_URL_S3 of the environment is wrong: Invalid endpoint: minio:9000.",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_command_reports_the_same(lake, fault: str) -> None:
    variables, profile, message = FAULTS[fault]
    if "AWS_ROLE_ARN" in variables:
        variables = {**variables, "AWS_WEB_IDENTITY_TOKEN_FILE": lake.file("token", "a-token")}
    environment = {"AWS_CONFIG_FILE": lake.file("aws-config", profile), **variables}
    endpoint = None if "AWS_ENDPOINT_URL_S3" in variables else lake.server.endpoint
    keys = {} if endpoint is None else {"access_key_id": None, "secret_access_key": None}
    options = ("--config", lake.config(s3_endpoint=endpoint, **keys))
    catalog = ("--catalog", lake.catalog("users"))
    messages = {
        "check": lake.run("check", *options, **environment),
        "plan": lake.run("plan", *options, *catalog, **environment),
        "ls": lake.run("ls", *options, **environment),
        "state show": lake.run("state", "show", *options, *catalog, **environment),
        "write": lake.run("write", *options, *catalog, stdin=record("users", id=1), **environment),
    }
    for verb, answer in messages.items():
        text = answer.stdout + answer.stderr
        assert message in text, (verb, text)
        assert answer.returncode != 0 or verb == "plan", verb
        for unsuitable in ("not expected", "Retry", "Check s3_endpoint", "WARNING", "botocore"):
            assert unsuitable not in text, (verb, text)
