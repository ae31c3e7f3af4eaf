"""A role: the parameters that are sent to assume it, the identity that assumes it, and the renewal of its
credentials before they expire."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aws_identities import acting_as, new_role, new_user
from land_and_read import batches_of, destination, ids_by_listing, open_uploads, stream, sync, target, users
from recording_proxy import Forward, recording_proxy, refusal, sent_form, sts_refusal
from servers import S3Server
from werkzeug.wrappers import Request, Response

from s3dest_dagster.errors import CredentialsError, SettingsError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.storage import identity, open_bucket

ROLE = "arn:aws:iam::123456789012:role/lander"
EXTERNAL_ID = "hush-external-id"


@pytest.fixture
def lake(moto_s3: S3Server) -> str:
    """A bucket."""
    return moto_s3.new_bucket()


@pytest.fixture
def base_keys(moto_s3: S3Server, bare: pytest.MonkeyPatch) -> dict[str, str]:
    """Keys, in the environment as for the connector, of a user that may only assume roles."""
    _, keys = new_user(moto_s3, ["sts:AssumeRole"], ["*"])
    bare.setenv("AWS_ACCESS_KEY_ID", keys["access_key_id"])
    bare.setenv("AWS_SECRET_ACCESS_KEY", keys["secret_access_key"])
    return keys


class TokenService:
    """A security token service in front of moto's.

    Args:
        life_s: the credentials that it issues expire after this many seconds.
        newest: S3, behind the same proxy, accepts only this many of the credentials that were issued last.
    """

    def __init__(self, life_s: float | None = None, newest: int | None = None) -> None:
        self.asked: list[dict[str, str]] = []
        self.given: list[str] = []
        self._life_s = life_s
        self._newest = newest

    def __call__(self, request: Request, forward: Forward) -> Response:
        if request.method == "POST" and b"Action=AssumeRole" in request.get_data():
            self.asked.append(sent_form(request))
            return self._given(forward())
        signed_by = re.search(r"Credential=(\w+)/", request.headers["Authorization"])
        assert signed_by is not None
        if self._newest is not None and signed_by[1] not in self.given[-self._newest :]:
            return refusal("ExpiredToken", "The provided token has expired.", 400)
        return forward()

    def _given(self, answer: Response) -> Response:
        text = answer.get_data(as_text=True)
        self.given += re.findall("<AccessKeyId>(.*)</AccessKeyId>", text)
        if self._life_s is not None:
            ends = (datetime.now(UTC) + timedelta(seconds=self._life_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
            answer.set_data(re.sub("<Expiration>.*</Expiration>", f"<Expiration>{ends}</Expiration>", text))
        return answer


def in_role(endpoint: str, role: str, **settings: object) -> S3Connection:
    return S3Connection(endpoint=endpoint, sts_endpoint=endpoint, role_arn=role, **settings)


def test_every_setting_is_sent(moto_s3: S3Server, lake: str, base_keys: dict[str, str]) -> None:
    role, security = new_role(moto_s3, EXTERNAL_ID), TokenService()
    with recording_proxy(security) as server:
        connection = in_role(
            server.endpoint,
            role,
            external_id=EXTERNAL_ID,
            role_session_name="nightly",
            role_duration_s=7200,
            sts_region="eu-central-1",
        )
        open_bucket(connection, lake).put("a", b"1")
        (request,) = (each for each in server.seen if each.method == "POST")
    assert security.asked == [
        {
            "Action": "AssumeRole",
            "Version": "2011-06-15",
            "RoleArn": role,
            "RoleSessionName": "nightly",
            "DurationSeconds": "7200",
            "ExternalId": EXTERNAL_ID,
        }
    ]
    assert f"Credential={base_keys['access_key_id']}/" in request.headers["Authorization"]
    assert "/eu-central-1/sts/aws4_request" in request.headers["Authorization"]
    assert moto_s3.client().get_object(Bucket=lake, Key="a")["Body"].read() == b"1"


@pytest.mark.parametrize(
    ("setting", "variable", "sent"),
    [(None, None, None), (None, "of-the-env", "of-the-env"), ("of-the-setting", "of-the-env", "of-the-setting")],
)
def test_the_external_id_comes_from_the_setting_or_from_the_environment(
    moto_s3: S3Server,
    lake: str,
    base_keys: dict[str, str],
    bare: pytest.MonkeyPatch,
    setting: str | None,
    variable: str | None,
    sent: str | None,
) -> None:
    if variable is not None:
        bare.setenv("AWS_ASSUME_ROLE_EXTERNAL_ID", variable)
    security = TokenService()
    with recording_proxy(security) as server:
        open_bucket(in_role(server.endpoint, new_role(moto_s3), external_id=setting), lake).put("a", b"1")
    assert [each.get("ExternalId") for each in security.asked] == [sent]


def test_a_wrong_external_id_is_named_as_the_cause_and_not_shown(
    moto_s3: S3Server, lake: str, base_keys: dict[str, str]
) -> None:
    role = new_role(moto_s3, "another")
    connection = in_role(moto_s3.endpoint, role, external_id=EXTERNAL_ID)
    for ask in (identity, lambda connection: open_bucket(connection, lake).put("a", b"")):
        with pytest.raises(CredentialsError, match=r"could not be assumed.*external_id") as refused:
            ask(connection)
        assert role in str(refused.value)
        assert EXTERNAL_ID not in str(refused.value)
        assert refused.value.setting == "role_arn"


class TestWhoAssumesIt:
    """The identity is that of the environment's keys, as for the connector, a profile, or the machine. Keys in the
    settings take precedence."""

    def test_the_environments_keys(self, moto_s3: S3Server, lake: str, base_keys: dict[str, str]) -> None:
        role = new_role(moto_s3)
        found = identity(in_role(moto_s3.endpoint, role))
        assert found.source == f"role {role}, assumed by the environment (AWS_ACCESS_KEY_ID)"
        assert found.arn == acting_as(role, "s3dest")
        assert found.access_key_id != base_keys["access_key_id"]

    def test_a_profile(
        self, moto_s3: S3Server, lake: str, base_keys: dict[str, str], bare: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        section = "[base]\n" + "".join(f"aws_{name}={value}\n" for name, value in base_keys.items())
        (tmp_path / "credentials").write_text(section)
        bare.delenv("AWS_ACCESS_KEY_ID")
        role = new_role(moto_s3)
        connection = in_role(moto_s3.endpoint, role, profile_name="base")
        open_bucket(connection, lake).put("a", b"1")
        assert identity(connection).source == f"role {role}, assumed by the profile 'base' of the credentials file"

    def test_keys_of_the_settings_take_precedence_over_the_role(
        self, moto_s3: S3Server, base_keys: dict[str, str]
    ) -> None:
        name, keys = new_user(moto_s3)
        found = identity(in_role(moto_s3.endpoint, new_role(moto_s3), **keys))
        assert found.source == "access keys of the settings"
        assert str(found.arn).endswith(f":user/{name}")

    def test_without_an_identity_the_role_is_not_assumed(self, moto_s3: S3Server, bare: pytest.MonkeyPatch) -> None:
        with pytest.raises(CredentialsError, match=r"nobody .* could assume .*AWS_ACCESS_KEY_ID.*profile_name"):
            identity(in_role(moto_s3.endpoint, ROLE))


class TestRenewal:
    def test_a_sync_outlives_credentials_that_keep_expiring(
        self, moto_s3: S3Server, lake: str, base_keys: dict[str, str]
    ) -> None:
        """S3 accepts only the twelve newest credentials, so a sync with more requests lands only if it switches to
        new ones."""
        role, security = new_role(moto_s3), TokenService(life_s=60, newest=12)
        settings = destination(lake, object_size_mb=0.0001)
        with recording_proxy(security) as server:
            bucket = open_bucket(in_role(server.endpoint, role), lake)
            with target(moto_s3, settings, bucket) as opened:
                land(batches_of(*(users(n, n) for n in range(5))), opened, stream(), sync("long"))
            requests = len(server.seen) - len(security.asked)
        assert len(security.given) == requests > 20
        assert ids_by_listing(moto_s3, lake) == list(range(5))
        assert open_uploads(moto_s3, lake) == 0

    @pytest.mark.parametrize("duration", [900, 3600])
    def test_credentials_are_used_while_they_last(
        self, moto_s3: S3Server, lake: str, base_keys: dict[str, str], duration: int
    ) -> None:
        """This includes credentials for 15 minutes, which the SDK alone would renew for each request."""
        security = TokenService()
        with recording_proxy(security) as server:
            bucket = open_bucket(in_role(server.endpoint, new_role(moto_s3), role_duration_s=duration), lake)
            for number in range(5):
                bucket.put(f"{number}", b"")
        assert len(security.asked) == 1

    @pytest.mark.parametrize(("life_s", "times"), [(100, 3), (190, 3), (800, 1)])
    def test_credentials_are_renewed_in_the_last_quarter_of_their_life(
        self, moto_s3: S3Server, lake: str, base_keys: dict[str, str], life_s: float, times: int
    ) -> None:
        security = TokenService(life_s=life_s)
        with recording_proxy(security) as server:
            bucket = open_bucket(in_role(server.endpoint, new_role(moto_s3), role_duration_s=900), lake)
            for number in range(3):
                bucket.put(f"{number}", b"")
        assert len(security.asked) == times

    def test_a_role_that_is_refused_during_a_sync_fails_it_and_leaves_nothing(
        self, moto_s3: S3Server, lake: str, base_keys: dict[str, str]
    ) -> None:
        security = TokenService(life_s=60)
        settings = destination(lake, object_size_mb=0.0001)

        def rule(request: Request, forward: Forward) -> Response:
            assumes = request.method == "POST" and b"Action=AssumeRole" in request.get_data()
            refused = sts_refusal("AccessDenied", "no longer") if assumes and len(security.asked) > 4 else None
            return refused or security(request, forward)

        with recording_proxy(rule) as server:
            bucket = open_bucket(in_role(server.endpoint, new_role(moto_s3), max_attempts=1), lake)
            with (
                pytest.raises(CredentialsError, match="could not be assumed"),
                target(moto_s3, settings, bucket) as opened,
            ):
                land(batches_of(*(users(n, n) for n in range(8))), opened, stream(), sync("long"))
        assert ids_by_listing(moto_s3, lake) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"role_duration_s": 899}, "role_duration_s"),
        ({"role_duration_s": 43_201}, "at most 43,200"),
        ({"role_session_name": "n"}, "role_session_name"),
        ({"role_session_name": "two words"}, "role_session_name"),
        ({"role_arn": None, "external_id": EXTERNAL_ID}, "external_id has no effect without role_arn"),
        ({"session_token": "hush-token"}, "session_token has no effect without access_key_id"),
    ],
)
def test_settings_that_aws_would_refuse_or_that_have_no_effect_are_refused(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        S3Connection(**({"role_arn": ROLE} | settings))
    assert "hush" not in str(refused.value)
