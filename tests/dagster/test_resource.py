"""The S3 resource: what it translates, what it refuses, and its compatibility with users of dagster-aws's resource."""

from __future__ import annotations

import dagster as dg
import dagster_aws.s3
import pytest

from s3dest_dagster import S3Connection, S3Resource
from s3dest_dagster.errors import SettingsError

EVERYTHING = {
    "region_name": "eu-central-1",
    "endpoint_url": "https://minio.example.com:9000",
    "aws_access_key_id": "AKIA",
    "aws_secret_access_key": "hush-secret",
    "aws_session_token": "hush-token",
    "profile_name": "work",
    "role_arn": "arn:aws:iam::1:role/lander",
    "external_id": "hush-external",
    "role_session_name": "nightly",
    "role_duration_s": 1800,
    "sts_endpoint": "https://sts.example.com",
    "sts_region": "eu-west-1",
    "allow_plain_http": True,
    "ca_bundle": "/etc/ssl/ours.pem",
    "path_style": False,
    "max_attempts": 3,
    "retry_deadline_s": 45,
    "connect_timeout_s": 1.5,
    "read_timeout_s": 2.5,
}


def test_every_setting_reaches_the_connection():
    assert S3Resource(**EVERYTHING).connection() == S3Connection(
        region="eu-central-1",
        endpoint="https://minio.example.com:9000",
        access_key_id="AKIA",
        secret_access_key="hush-secret",
        session_token="hush-token",
        profile_name="work",
        role_arn="arn:aws:iam::1:role/lander",
        external_id="hush-external",
        role_session_name="nightly",
        role_duration_s=1800,
        sts_endpoint="https://sts.example.com",
        sts_region="eu-west-1",
        allow_plain_http=True,
        ca_bundle="/etc/ssl/ours.pem",
        path_style=False,
        max_attempts=3,
        retry_deadline_s=45,
        connect_timeout_s=1.5,
        read_timeout_s=2.5,
    )


def test_defaults_are_those_of_a_connection():
    assert S3Resource().connection() == S3Connection()


def test_a_consumer_of_dagster_aws_accepts_the_resource(moto_s3):
    bucket = moto_s3.new_bucket()
    seen = []

    @dg.asset
    def consumer(s3: dagster_aws.s3.S3Resource) -> None:
        s3.get_client().put_object(Bucket=bucket, Key="a", Body=b"1")
        seen.append(type(s3))

    resource = S3Resource(
        endpoint_url=moto_s3.endpoint,
        aws_access_key_id=moto_s3.access_key_id,
        aws_secret_access_key=moto_s3.secret_access_key,
    )
    dg.materialize([consumer], resources={"s3": resource})
    assert seen == [S3Resource]
    assert moto_s3.client().get_object(Bucket=bucket, Key="a")["Body"].read() == b"1"


def test_the_op_context_has_the_client_as_with_dagster_aws(moto_s3):
    @dg.op(required_resource_keys={"s3"})
    def step(context):
        return context.resources.s3.meta.endpoint_url

    @dg.job(resource_defs={"s3": S3Resource(endpoint_url=moto_s3.endpoint)})
    def job():
        step()

    assert job.execute_in_process().output_for_node("step") == moto_s3.endpoint


def test_equal_settings_share_one_client():
    settings = {"endpoint_url": "http://127.0.0.1:9", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    assert S3Resource(**settings).get_client() is S3Resource(**settings).get_client()
    assert S3Resource(**settings).get_client() is not S3Resource(**settings, max_attempts=2).get_client()


def test_an_unsigned_session_has_a_client_but_cannot_land():
    resource = S3Resource(use_unsigned_session=True, region_name="us-east-1")
    url = resource.get_client().generate_presigned_url("get_object", {"Bucket": "public", "Key": "a"})
    assert "Signature" not in url
    with pytest.raises(SettingsError, match="identity"):
        resource.connection()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"aws_access_key_id": "AKIA"}, "secret_access_key is not"),
        ({"endpoint_url": "http://minio.example.com"}, "HTTPS"),
        ({"verify": False}, "ca_bundle"),
        ({"use_ssl": False}, "use_ssl=False"),
        ({"use_ssl": False, "endpoint_url": "https://minio.example.com"}, "use_ssl=False"),
        ({"role_duration_s": 60}, "role_duration_s"),
    ],
    ids=str,
)
def test_contradictory_settings_are_refused_immediately(settings, reason):
    with pytest.raises(SettingsError, match=reason):
        S3Resource(**settings)


@pytest.mark.parametrize(("endpoint", "use_ssl"), [("127.0.0.1:9000", False), ("http://127.0.0.1:9000", True)])
def test_the_scheme_is_interpreted_as_in_dagster_aws(endpoint, use_ssl):
    assert S3Resource(endpoint_url=endpoint, use_ssl=use_ssl).connection().endpoint == "http://127.0.0.1:9000"


def test_values_from_the_environment_are_looked_up_when_a_run_starts(monkeypatch):
    seen = []

    @dg.asset
    def consumer(s3: S3Resource) -> None:
        seen.append(s3.connection())

    resource = S3Resource(aws_access_key_id=dg.EnvVar("OUR_KEY"), aws_secret_access_key=dg.EnvVar("OUR_SECRET"))
    monkeypatch.setenv("OUR_KEY", "AKIA")
    monkeypatch.setenv("OUR_SECRET", "hush-secret")
    dg.materialize([consumer], resources={"s3": resource})
    assert (seen[0].access_key_id, seen[0].secret_access_key) == ("AKIA", "hush-secret")


class TestSecrets:
    def test_no_secret_is_shown(self):
        resource = S3Resource(**EVERYTHING)
        assert "hush" not in repr(resource)
        assert "hush" not in str(resource)
        assert "hush" not in repr(resource.connection())

    @pytest.mark.parametrize("field", ["aws_secret_access_key", "aws_session_token", "external_id"])
    def test_secret_fields_are_marked_for_the_ui(self, field):
        assert S3Resource.to_config_schema().config_type.fields[field].is_secret

    @pytest.mark.parametrize("field", ["aws_secret_access_key", "aws_session_token", "external_id"])
    def test_the_launchpads_placeholder_is_refused_with_the_reason(self, field):
        keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "hush-secret"}
        with pytest.raises(SettingsError, match="launchpad"):
            S3Resource(**keys | {field: "********"})

    def test_the_placeholder_from_a_run_config_fails_the_run(self):
        @dg.asset
        def consumer(s3: S3Resource) -> None:
            raise AssertionError("it ran")

        resource = S3Resource(aws_access_key_id="AKIA", aws_secret_access_key="hush-secret")
        config = {"resources": {"s3": {"config": {"aws_access_key_id": "AKIA", "aws_secret_access_key": "********"}}}}
        with pytest.raises(dg.DagsterError) as caught:
            dg.materialize([consumer], resources={"s3": resource}, run_config=config)
        assert "launchpad" in str(caught.value.__cause__)
