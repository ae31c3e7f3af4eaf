"""Requests to this machine never go through a proxy, whatever the environment says, because a proxy would read them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from aws_identities import (
    acting_as,
    machine,
    machine_keys,
    new_role,
    new_user,
    sign_in,
    sign_in_profile,
    single_sign_on,
)
from botocore.credentials import SSOProvider
from recording_proxy import recording_proxy
from servers import S3Server

from s3dest_dagster import S3Resource
from s3dest_dagster.errors import CredentialsError, SettingsError
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.storage import identity, open_bucket

VARIABLES = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"]


@contextmanager
def refusing_proxy() -> Iterator[tuple[str, list[str]]]:
    """A proxy of a machine that refuses everything. Yields its URL, and the request lines that it received."""
    received: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Logs nothing."""

        def refuse(self) -> None:
            received.append(self.requestline)
            self.send_error(502)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_CONNECT = refuse

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()


@pytest.fixture
def proxied(bare: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """An environment with a proxy for everything. Yields the request lines that the proxy received."""
    bare.delenv("NO_PROXY", raising=False)
    bare.delenv("no_proxy", raising=False)
    with refusing_proxy() as (url, received):
        for name in VARIABLES:
            bare.setenv(name, url)
        yield received


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_requests_to_a_server_on_this_machine(moto_s3: S3Server, proxied: list[str], host: str) -> None:
    _, keys = new_user(moto_s3)
    with recording_proxy() as server:
        endpoint = server.endpoint.replace("127.0.0.1", host)
        bucket = open_bucket(S3Connection(endpoint=endpoint, max_attempts=1, **keys), moto_s3.new_bucket())
        bucket.put("a", b"1")
        assert bucket.get("a")[0] == b"1"
        resource = S3Resource(
            endpoint_url=endpoint,
            aws_access_key_id=keys["access_key_id"],
            aws_secret_access_key=keys["secret_access_key"],
            max_attempts=1,
        )
        resource.get_client().put_object(Bucket=bucket.name, Key="b", Body=b"")
    assert proxied == []


def test_an_endpoint_of_the_environment_on_this_machine(
    moto_s3: S3Server, proxied: list[str], bare: pytest.MonkeyPatch
) -> None:
    _, keys = new_user(moto_s3)
    with recording_proxy() as server:
        bare.setenv("AWS_ENDPOINT_URL", server.endpoint)
        connection = S3Connection(region="us-east-1", max_attempts=1, **keys)
        open_bucket(connection, moto_s3.new_bucket()).put("a", b"1")
        identity(connection)
    assert proxied == []


def test_a_role_that_is_assumed_on_this_machine(
    moto_s3: S3Server, proxied: list[str], bare: pytest.MonkeyPatch
) -> None:
    _, keys = new_user(moto_s3, ["sts:AssumeRole"], ["*"])
    for name, value in keys.items():
        bare.setenv(f"AWS_{name.upper()}", value)
    role = new_role(moto_s3)
    with recording_proxy() as server:
        connection = S3Connection(endpoint=server.endpoint, sts_endpoint=server.endpoint, role_arn=role, max_attempts=1)
        open_bucket(connection, moto_s3.new_bucket()).put("a", b"1")
        assert identity(connection).arn == acting_as(role, "s3dest")
    assert proxied == []


@pytest.mark.parametrize("link", ["instance", "instance of a profile", "container"])
def test_the_metadata_of_this_machine(
    moto_s3: S3Server, proxied: list[str], bare: pytest.MonkeyPatch, tmp_path: Path, link: str
) -> None:
    with machine(machine_keys(moto_s3, new_role(moto_s3))) as (url, _), recording_proxy() as server:
        if link == "container":
            bare.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/container")
            bare.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-token")
        else:
            bare.delenv("AWS_EC2_METADATA_DISABLED")
            bare.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
        connection = S3Connection(endpoint=server.endpoint, sts_endpoint=server.endpoint, max_attempts=1)
        if link == "instance of a profile":
            role = new_role(moto_s3)
            (tmp_path / "config").write_text(f"[default]\nrole_arn={role}\ncredential_source=Ec2InstanceMetadata\n")
            with pytest.raises(CredentialsError, match=r"role-.* is not authorized to perform: sts:AssumeRole"):
                identity(connection)
        else:
            open_bucket(connection, moto_s3.new_bucket()).put("a", b"1")
            assert identity(connection).access_key_id
    assert proxied == []


def test_a_sign_in_portal_on_this_machine(
    moto_s3: S3Server, proxied: list[str], bare: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bare.setattr(SSOProvider, "_SSO_TOKEN_CACHE_DIR", str(tmp_path))
    keys = machine_keys(moto_s3, new_role(moto_s3))
    with single_sign_on(keys, "signed-in") as portal:
        bare.setenv("AWS_ENDPOINT_URL_SSO", portal)
        sign_in_profile(tmp_path)
        sign_in(tmp_path, "signed-in", 2999)
        assert identity(S3Connection(endpoint=moto_s3.endpoint)).access_key_id == keys["AccessKeyId"]
    assert proxied == []


def test_requests_that_leave_this_machine_go_through_the_proxy(moto_s3: S3Server, proxied: list[str]) -> None:
    """This applies to https, and to plain http if it is allowed. Otherwise nothing is sent."""
    keys = {"access_key_id": "AKIA", "secret_access_key": "secret", "max_attempts": 1}
    with pytest.raises(SettingsError, match="does not use HTTPS"):
        S3Connection(endpoint="http://minio.example.com:9000", **keys)
    for connection in (
        S3Connection(endpoint="http://minio.example.com:9000", allow_plain_http=True, **keys),
        S3Connection(endpoint="https://minio.example.com:9000", **keys),
    ):
        with pytest.raises(OSError, match="lake"):
            open_bucket(connection, "lake").put("a", b"")
    assert [each.split()[:2] for each in proxied] == [
        ["PUT", "http://minio.example.com:9000/lake/a"],
        ["CONNECT", "minio.example.com:9000"],
    ]
