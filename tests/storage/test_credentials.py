"""Every link of the credential chain provides an identity that the bucket accepts and `identity` names."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest
from aws_identities import ACCOUNT, acting_as, machine, machine_keys, new_role, new_user, web_identities
from recording_proxy import recording_proxy, sts_refusal
from servers import S3Server

from s3dest_dagster.errors import CredentialsError, SettingsError
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.storage import Identity, identity, open_bucket


@pytest.fixture
def lake(moto_s3: S3Server) -> str:
    """A bucket."""
    return moto_s3.new_bucket()


@pytest.fixture
def by_chain(moto_s3: S3Server, bare: pytest.MonkeyPatch) -> S3Connection:
    """A connection without its own identity. Its security token service is moto's."""
    return S3Connection(endpoint=moto_s3.endpoint, region="us-east-1", sts_endpoint=moto_s3.endpoint)


def landed_by(lake: str, connection: S3Connection) -> Identity:
    """The identity of the connection, after it has written and read an object."""
    bucket = open_bucket(connection, lake)
    bucket.put("a", b"1")
    assert bucket.get("a")[0] == b"1"
    return identity(connection)


def test_access_keys_of_the_settings(
    moto_s3: S3Server, lake: str, by_chain: S3Connection, bare: pytest.MonkeyPatch
) -> None:
    bare.setenv("AWS_ACCESS_KEY_ID", "AKIAANOTHER")
    bare.setenv("AWS_SECRET_ACCESS_KEY", "another")
    name, keys = new_user(moto_s3)
    connection = S3Connection(endpoint=moto_s3.endpoint, sts_endpoint=moto_s3.endpoint, **keys)
    assert landed_by(lake, connection) == Identity(
        "access keys of the settings", keys["access_key_id"], f"arn:aws:iam::{ACCOUNT}:user/{name}"
    )


def test_the_environment(moto_s3: S3Server, lake: str, by_chain: S3Connection, bare: pytest.MonkeyPatch) -> None:
    name, keys = new_user(moto_s3)
    bare.setenv("AWS_ACCESS_KEY_ID", keys["access_key_id"])
    bare.setenv("AWS_SECRET_ACCESS_KEY", keys["secret_access_key"])
    found = landed_by(lake, by_chain)
    assert found.source == "environment (AWS_ACCESS_KEY_ID)"
    assert found.arn == f"arn:aws:iam::{ACCOUNT}:user/{name}"


def test_a_changed_environment_is_noticed(
    moto_s3: S3Server, lake: str, by_chain: S3Connection, bare: pytest.MonkeyPatch
) -> None:
    """A first attempt without an identity does not prevent a later one from succeeding."""
    with pytest.raises(CredentialsError, match="No identity: neither"):
        open_bucket(by_chain, "lake-1").put("a", b"")
    _, keys = new_user(moto_s3)
    bare.setenv("AWS_ACCESS_KEY_ID", keys["access_key_id"])
    bare.setenv("AWS_SECRET_ACCESS_KEY", keys["secret_access_key"])
    assert landed_by(lake, by_chain).access_key_id == keys["access_key_id"]


@pytest.mark.parametrize("named_by", ["profile_name", "AWS_PROFILE"])
def test_a_profile(
    moto_s3: S3Server, lake: str, by_chain: S3Connection, bare: pytest.MonkeyPatch, tmp_path: Path, named_by: str
) -> None:
    name, keys = new_user(moto_s3)
    section = f"aws_access_key_id={keys['access_key_id']}\naws_secret_access_key={keys['secret_access_key']}\n"
    (tmp_path / "credentials").write_text(f"[work]\n{section}")
    if named_by == "AWS_PROFILE":
        bare.setenv("AWS_PROFILE", "work")
        connection = by_chain
    else:
        # A profile that the settings name wins over the environment.
        bare.setenv("AWS_ACCESS_KEY_ID", "AKIAANOTHER")
        bare.setenv("AWS_SECRET_ACCESS_KEY", "another")
        connection = S3Connection(endpoint=by_chain.endpoint, sts_endpoint=by_chain.endpoint, profile_name="work")
    found = landed_by(lake, connection)
    assert found.source == "profile 'work' of the credentials file"
    assert found.arn == f"arn:aws:iam::{ACCOUNT}:user/{name}"


def test_a_profile_that_assumes_a_role(moto_s3: S3Server, lake: str, bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The role of a profile is also assumed at the connection's `sts_endpoint`."""
    _, keys = new_user(moto_s3, ["sts:AssumeRole"], ["*"])
    role = new_role(moto_s3, external_id="the-external-id")
    (tmp_path / "config").write_text(
        f"[profile base]\naws_access_key_id={keys['access_key_id']}\n"
        f"aws_secret_access_key={keys['secret_access_key']}\n"
        f"[profile lander]\nrole_arn={role}\nsource_profile=base\nexternal_id=the-external-id\n"
        "role_session_name=nightly\n"
    )
    connection = S3Connection(endpoint=moto_s3.endpoint, sts_endpoint=moto_s3.endpoint, profile_name="lander")
    found = landed_by(lake, connection)
    assert found.source == "role of profile 'lander'"
    assert found.arn == acting_as(role, "nightly")


def test_a_web_identity(
    moto_s3: S3Server, lake: str, by_chain: S3Connection, bare: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    role = new_role(moto_s3)
    (tmp_path / "token").write_text("a-web-identity-token")
    bare.setenv("AWS_ROLE_ARN", role)
    bare.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    bare.setenv("AWS_ROLE_SESSION_NAME", "pod-7")
    with recording_proxy(web_identities(moto_s3, "a-web-identity-token")) as sts:
        found = landed_by(lake, replace(by_chain, sts_endpoint=sts.endpoint))
    assert found.source == "web identity"
    assert found.arn == acting_as(role, "pod-7")


def test_a_container(
    moto_s3: S3Server, lake: str, by_chain: S3Connection, bare: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    role = new_role(moto_s3)
    (tmp_path / "token").write_text("pod-token")
    with machine(machine_keys(moto_s3, role)) as (url, asked):
        bare.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/container")
        bare.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
        found = landed_by(lake, by_chain)
    assert found.source == "container"
    assert found.arn == acting_as(role, "i-1")
    assert set(asked) == {"GET /container 200"}


def test_an_instance_profile_by_the_second_version_of_the_metadata_service(
    moto_s3: S3Server, lake: str, by_chain: S3Connection, bare: pytest.MonkeyPatch
) -> None:
    role = new_role(moto_s3)
    bare.delenv("AWS_EC2_METADATA_DISABLED")
    with machine(machine_keys(moto_s3, role)) as (url, asked):
        bare.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
        found = landed_by(lake, by_chain)
    assert found.source == "instance profile"
    assert found.arn == acting_as(role, "i-1")
    assert asked[0] == "PUT /latest/api/token 200"
    assert all(each.endswith(" 200") for each in asked)


def test_no_link_provides_an_identity(by_chain: S3Connection) -> None:
    with pytest.raises(CredentialsError, match=r"No identity: .* Set access_key_id and secret_access_key, or role_arn"):
        identity(by_chain)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"AWS_PROFILE": "nowhere"}, r"profile \(nowhere\)"),
        ({"AWS_ACCESS_KEY_ID": "AKIA"}, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ROLE_ARN": "arn:aws:iam::1:role/r", "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere"}, "/nowhere"),
    ],
)
def test_an_incomplete_identity_is_an_error_in_settings_and_environment(
    by_chain: S3Connection, bare: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    for name, value in variables.items():
        bare.setenv(name, value)
    for ask in (identity, lambda connection: open_bucket(connection, "lake").put("a", b"")):
        with pytest.raises(CredentialsError, match=message):
            ask(by_chain)


class TestCaller:
    """STS reports whom a connection acts as. Nothing depends on the answer."""

    def test_keys_of_another_server_are_not_shown_to_aws(self, moto_s3: S3Server, bare: pytest.MonkeyPatch) -> None:
        found = identity(moto_s3.connection)
        assert found.arn is None
        assert found.unknown == "sts_endpoint is not set"

    def test_a_refusal_is_reported(self, moto_s3: S3Server, bare: pytest.MonkeyPatch) -> None:
        _, keys = new_user(moto_s3)
        with recording_proxy(lambda *_: sts_refusal("InvalidClientTokenId", "unknown")) as sts:
            found = identity(S3Connection(endpoint=moto_s3.endpoint, sts_endpoint=sts.endpoint, **keys))
        assert found.arn is None
        assert found.unknown == f"{sts.endpoint} refused to tell: InvalidClientTokenId"

    def test_the_caller_does_not_wait_for_a_service_that_never_answers(self, bare: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
            keys = {"access_key_id": "AKIA", "secret_access_key": "secret"}
            found = identity(S3Connection(sts_endpoint=endpoint, region="eu-west-1", read_timeout_s=0.1, **keys))
        assert (found.arn, found.unknown) == (None, f"{endpoint} did not answer")


@pytest.mark.parametrize(
    ("settings", "region"),
    [
        ({"region": "eu-west-1"}, "eu-west-1"),
        ({"region": "eu-west-1", "sts_region": "eu-central-1"}, "eu-central-1"),
        ({}, "us-east-1"),
    ],
)
def test_the_region_of_the_security_token_service(
    moto_s3: S3Server, bare: pytest.MonkeyPatch, settings: dict[str, str], region: str
) -> None:
    _, keys = new_user(moto_s3)
    with recording_proxy() as sts:
        identity(S3Connection(endpoint=moto_s3.endpoint, sts_endpoint=sts.endpoint, **settings, **keys))
    assert f"/{region}/sts/aws4_request" in sts.seen[-1].headers["Authorization"]


class TestEndpointsOfTheAwsConfiguration:
    """AWS_ENDPOINT_URL and similar variables apply, under the same rules as endpoints of the settings."""

    def test_the_endpoints_are_used_like_one_of_the_settings(self, moto_s3: S3Server, bare: pytest.MonkeyPatch) -> None:
        bare.setenv("AWS_ENDPOINT_URL_S3", moto_s3.endpoint)
        _, keys = new_user(moto_s3)
        bucket = open_bucket(S3Connection(region="us-east-1", **keys), moto_s3.new_bucket())
        bucket.put("a", b"1")
        assert bucket.endpoint == moto_s3.endpoint
        options = bucket.client.meta.config
        assert options.request_checksum_calculation == "when_required"
        assert options.s3["addressing_style"] == "path"

    @pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
    def test_plain_http_is_refused(self, bare: pytest.MonkeyPatch, variable: str) -> None:
        bare.setenv(variable, "http://minio.example.com:9000")
        connection = S3Connection(region="us-east-1", access_key_id="AKIA", secret_access_key="secret")
        with pytest.raises(SettingsError, match=r"AWS_ENDPOINT_URL.*does not use HTTPS"):
            open_bucket(connection, "lake")

    def test_no_role_is_assumed_over_plain_http(self, bare: pytest.MonkeyPatch) -> None:
        bare.setenv("AWS_ENDPOINT_URL_STS", "http://sts.example.com")
        bare.setenv("AWS_ACCESS_KEY_ID", "AKIA")
        bare.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        connection = S3Connection(region="us-east-1", role_arn="arn:aws:iam::123456789012:role/lander")
        with pytest.raises(SettingsError, match="does not use HTTPS"):
            open_bucket(connection, "lake").put("a", b"")
