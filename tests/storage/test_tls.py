"""Certificates are always checked, plain http is logged, and no redirect leads from https to http."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aws_identities import new_role, new_user
from recording_proxy import Forward, RecordingProxy, Rule, recording_proxy, refusal
from servers import S3Server
from tls import Authority, new_authority
from werkzeug.wrappers import Request, Response

from s3dest_dagster.errors import CredentialsError, EndpointUnreachableError, SettingsError, StorageError
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.storage import open_bucket
from s3dest_dagster.storage.sessions import log_plain_http


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(moto_s3: S3Server, authority: Authority) -> Iterator[RecordingProxy]:
    """moto behind a certificate of the private authority."""
    with recording_proxy(tls=authority.server) as opened:
        yield opened


@pytest.fixture
def connection(moto_s3: S3Server, bare: pytest.MonkeyPatch, tls: RecordingProxy):
    """A function that returns connections to this server."""

    def connect(**settings: object) -> S3Connection:
        keys = {"access_key_id": moto_s3.access_key_id, "secret_access_key": moto_s3.secret_access_key}
        return S3Connection(**({"endpoint": tls.endpoint, "max_attempts": 1, **keys} | settings))

    return connect


class TestPrivateAuthority:
    def test_the_authority_is_trusted_by_the_path_of_its_certificate(
        self, moto_s3: S3Server, connection, authority: Authority
    ) -> None:
        bucket = open_bucket(connection(ca_bundle=str(authority.bundle)), moto_s3.new_bucket())
        bucket.put("a", b"1")
        assert bucket.get("a")[0] == b"1"

    def test_without_the_authority_the_server_is_refused_and_the_remedy_named(self, connection) -> None:
        with pytest.raises(EndpointUnreachableError, match=r"CERTIFICATE_VERIFY_FAILED.* set ca_bundle"):
            open_bucket(connection(), "lake-1").put("a", b"1")

    def test_another_authority_is_not_trusted_instead(self, connection, tmp_path: Path) -> None:
        another = new_authority(tmp_path, "another")
        with pytest.raises(EndpointUnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            open_bucket(connection(ca_bundle=str(another.bundle)), "lake-1").put("a", b"1")

    @pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
    def test_the_environment_can_name_the_authority(
        self, moto_s3: S3Server, connection, authority: Authority, bare: pytest.MonkeyPatch, variable: str
    ) -> None:
        lake = moto_s3.new_bucket()
        bare.setenv(variable, str(authority.bundle))
        open_bucket(connection(), lake).put("a", b"1")

    def test_a_profile_can_name_the_authority(
        self, moto_s3: S3Server, connection, authority: Authority, tmp_path: Path
    ) -> None:
        lake = moto_s3.new_bucket()
        (tmp_path / "config").write_text(f"[profile work]\nca_bundle={authority.bundle}\n")
        open_bucket(connection(profile_name="work"), lake).put("a", b"1")

    def test_the_setting_takes_precedence_over_the_environment(
        self, connection, authority: Authority, bare: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        bare.setenv("AWS_CA_BUNDLE", str(authority.bundle))
        another = new_authority(tmp_path, "another")
        with pytest.raises(EndpointUnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            open_bucket(connection(ca_bundle=str(another.bundle)), "lake-1").put("a", b"1")


class TestVerificationIsNotLost:
    @pytest.mark.parametrize("empty", ["", "  "])
    @pytest.mark.parametrize("named_by", ["ca_bundle", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
    def test_by_an_empty_bundle(self, connection, bare: pytest.MonkeyPatch, named_by: str, empty: str) -> None:
        if named_by != "ca_bundle":
            bare.setenv(named_by, empty)
        settings = {"ca_bundle": empty} if named_by == "ca_bundle" else {}
        with pytest.raises(EndpointUnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            open_bucket(connection(**settings), "lake-1").put("a", b"1")

    def test_by_an_empty_bundle_of_a_profile(self, connection, tmp_path: Path) -> None:
        (tmp_path / "config").write_text("[profile work]\nca_bundle=\n")
        with pytest.raises(EndpointUnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            open_bucket(connection(profile_name="work"), "lake-1").put("a", b"1")

    @pytest.mark.parametrize("what", ["nothing", "a folder", "no certificate"])
    @pytest.mark.parametrize("named_by", ["ca_bundle", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
    def test_by_a_bundle_that_cannot_be_read(
        self, connection, bare: pytest.MonkeyPatch, tmp_path: Path, named_by: str, what: str
    ) -> None:
        path = tmp_path if what == "a folder" else tmp_path / "bundle.pem"
        if what == "no certificate":
            path.write_text("no certificate")
        if named_by != "ca_bundle":
            bare.setenv(named_by, str(path))
        settings = {"ca_bundle": str(path)} if named_by == "ca_bundle" else {}
        with pytest.raises(SettingsError, match=f"{named_by}.* cannot be read as certificates") as refused:
            open_bucket(connection(**settings), "lake-1")
        assert refused.value.setting == "ca_bundle"
        assert str(path) in str(refused.value)

    def test_when_a_role_is_assumed(
        self, moto_s3: S3Server, tls: RecordingProxy, authority: Authority, bare: pytest.MonkeyPatch
    ) -> None:
        _, keys = new_user(moto_s3, ["sts:AssumeRole"], ["*"])
        lake, role = moto_s3.new_bucket(), new_role(moto_s3)
        bare.setenv("AWS_ACCESS_KEY_ID", keys["access_key_id"])
        bare.setenv("AWS_SECRET_ACCESS_KEY", keys["secret_access_key"])
        bare.setenv("AWS_CA_BUNDLE", "")
        settings = {"endpoint": tls.endpoint, "sts_endpoint": tls.endpoint, "role_arn": role, "max_attempts": 1}
        with pytest.raises(CredentialsError, match="CERTIFICATE_VERIFY_FAILED"):
            open_bucket(S3Connection(**settings), lake).put("a", b"1")
        open_bucket(S3Connection(**settings, ca_bundle=str(authority.bundle)), lake).put("a", b"1")

    def test_when_the_credential_chain_makes_requests_itself(
        self, tls: RecordingProxy, bare: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The token of a web identity would go to any server that answers."""
        (tmp_path / "token").write_text("a-web-identity-token")
        bare.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pod")
        bare.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        bare.setenv("AWS_CA_BUNDLE", "")
        asked = len(tls.seen)
        with pytest.raises(StorageError, match="CERTIFICATE_VERIFY_FAILED"):
            open_bucket(S3Connection(endpoint=tls.endpoint, sts_endpoint=tls.endpoint), "lake-1").put("a", b"1")
        assert len(tls.seen) == asked


CALLS = (
    lambda bucket: bucket.put("a", b"hush-content"),
    lambda bucket: bucket.get("a"),
    lambda bucket: bucket.head("a"),
    lambda bucket: bucket.first_page(""),
    lambda bucket: bucket.create_upload("a", {}),
    lambda bucket: bucket.upload_part("a", "upload", 1, b"hush-content"),
    lambda bucket: bucket.delete(["a"]),
)


class TestRedirects:
    """A redirect is not followed, neither to plain http nor to any other host."""

    @pytest.fixture
    def plain(self, moto_s3: S3Server) -> Iterator[RecordingProxy]:
        """The target of the redirects."""
        with recording_proxy() as opened:
            yield opened

    @pytest.fixture
    def refused_by(self, moto_s3: S3Server, authority: Authority, bare: pytest.MonkeyPatch):
        """The errors of all calls to a server that answers by this rule, and the requests that it received."""

        def call_all(rule: Rule) -> tuple[list[str], list[Request]]:
            keys = {"access_key_id": moto_s3.access_key_id, "secret_access_key": moto_s3.secret_access_key}
            errors = []
            with recording_proxy(rule, tls=authority.server) as server:
                bundle = str(authority.bundle)
                bucket = open_bucket(S3Connection(endpoint=server.endpoint, ca_bundle=bundle, **keys), "lake-1")
                for call in CALLS:
                    with pytest.raises(StorageError) as refused:
                        call(bucket)
                    errors.append(str(refused.value))
            return errors, server.seen

        return call_all

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_by_location(self, plain: RecordingProxy, refused_by, status: int) -> None:
        def away(request: Request, _: Forward) -> Response:
            return Response(b"", status, headers={"Location": plain.endpoint + request.full_path})

        errors, seen = refused_by(away)
        assert all(f"redirects to {plain.endpoint}; the redirect is not followed" in each for each in errors)
        assert (len(seen), plain.seen) == (len(CALLS), [])

    @pytest.mark.parametrize("code", ["PermanentRedirect", "TemporaryRedirect"])
    def test_by_an_s3_error(self, plain: RecordingProxy, refused_by, code: str) -> None:
        errors, seen = refused_by(lambda *_: redirect(code, plain.endpoint, "eu-west-1"))
        assert all("redirects to" in each for each in errors)
        assert (len(seen), plain.seen) == (len(CALLS), [])

    def test_redirects_of_aws_are_followed_only_to_aws_hosts_over_tls(
        self, plain: RecordingProxy, bare: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The bucket in another region is found. No request goes to the endpoint that the answer names."""
        hosts = [f"lake-1.s3.{region}.amazonaws.com" for region in ("eu-west-1", "us-west-2")]
        aws = new_authority(tmp_path, "aws", hosts)

        def away(request: Request, _: Forward) -> Response:
            here = request.host == hosts[0]
            return redirect("PermanentRedirect", plain.endpoint, "us-west-2") if here else Response()

        with recording_proxy(away, tls=aws.server) as server:
            bare.setattr(socket, "getaddrinfo", leading_to(server.endpoint))
            keys = {"access_key_id": "AKIA", "secret_access_key": "secret"}
            connection = S3Connection(region="eu-west-1", ca_bundle=str(aws.bundle), **keys)
            assert open_bucket(connection, "lake-1").client.put_object(Bucket="lake-1", Key="a", Body=b"1")
        assert [(each.scheme, each.host) for each in server.seen] == [("https", each) for each in hosts]
        assert plain.seen == []


def redirect(code: str, endpoint: str, region: str) -> Response:
    """A redirect as S3 answers it."""
    answer = refusal(code, "elsewhere", 301 if code == "PermanentRedirect" else 307)
    place = f"<Endpoint>{endpoint.removeprefix('http://')}</Endpoint></Error>"
    answer.set_data(answer.get_data(as_text=True).replace("</Error>", place))
    answer.headers |= {"x-amz-bucket-region": region, "Location": endpoint}
    return answer


def leading_to(endpoint: str):
    """A name service that resolves every name to this endpoint."""
    port = urlsplit(endpoint).port
    return lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


class TestPlainHttp:
    @pytest.fixture(autouse=True)
    def _nothing_logged_yet(self, bare: pytest.MonkeyPatch) -> None:
        log_plain_http.cache_clear()

    def logged(self, caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
        return [(each.levelno, each.message) for each in caplog.records if "HTTPS" in each.message]

    def test_plain_http_beyond_this_machine_causes_one_warning_for_each_endpoint(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        keys = {"access_key_id": "AKIA", "secret_access_key": "secret", "allow_plain_http": True}
        for name in ("minio", "minio", "ceph"):
            for attempts in (1, 2):
                open_bucket(S3Connection(endpoint=f"http://{name}.example.com", max_attempts=attempts, **keys), "lake")
        assert [level for level, _ in self.logged(caplog)] == [logging.WARNING] * 2
        assert [text.split(" ")[0] for _, text in self.logged(caplog)] == [
            "http://minio.example.com",
            "http://ceph.example.com",
        ]

    def test_plain_http_on_this_machine_causes_no_warning(
        self, moto_s3: S3Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        for _ in range(2):
            open_bucket(S3Connection(endpoint=moto_s3.endpoint, max_attempts=7), "lake").client.close()
        assert [level for level, _ in self.logged(caplog)] == [logging.INFO]

    def test_https_is_not_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        open_bucket(S3Connection(endpoint="https://minio.example.com", access_key_id="A", secret_access_key="B"), "l")
        assert self.logged(caplog) == []
