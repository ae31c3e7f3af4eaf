"""A long-lived process, and credentials that are temporarily missing, renewed, revoked, or from another environment.

The same bucket continues with the current credentials without a restart. So does the operation that used the old
ones.
"""

from __future__ import annotations

import json
import re
import shlex
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aws_identities import (
    machine,
    machine_keys,
    new_role,
    new_user,
    revoke,
    sign_in,
    sign_in_profile,
    single_sign_on,
    web_identities,
)
from botocore.credentials import SSOProvider
from land_and_read import batches_of, destination, ids_by_listing, stream, sync, target, users
from recording_proxy import Forward, RecordingProxy, Rule, recording_proxy, refusal
from servers import S3Server
from werkzeug.wrappers import Request, Response

from s3dest_dagster.errors import CredentialsError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.storage import open_bucket, open_client

Keys = dict[str, str]


@pytest.fixture
def lake(moto_s3: S3Server) -> str:
    """A bucket."""
    return moto_s3.new_bucket()


@pytest.fixture
def by_chain(moto_s3: S3Server, bare: pytest.MonkeyPatch) -> S3Connection:
    """A connection without its own identity."""
    return S3Connection(endpoint=moto_s3.endpoint, region="us-east-1", sts_endpoint=moto_s3.endpoint, max_attempts=1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def write_profile(folder: Path, keys: Keys) -> None:
    """Writes the default profile of the credentials file."""
    (folder / "credentials").write_text("[default]\n" + "".join(f"aws_{name}={each}\n" for name, each in keys.items()))


def write_program(folder: Path, keys: Keys) -> None:
    """Gives the default profile a program that prints these keys, without expiration, and records its runs in
    `runs`."""
    answer = {"Version": 1, "AccessKeyId": keys["access_key_id"], "SecretAccessKey": keys["secret_access_key"]}
    (folder / "answer").write_text(json.dumps(answer))
    if (folder / "config").exists():
        return
    script = f"echo run >> {shlex.quote(str(folder / 'runs'))}; cat {shlex.quote(str(folder / 'answer'))}"
    (folder / "program").write_text(script)
    (folder / "config").write_text(f"[default]\ncredential_process = sh {folder / 'program'}\n")


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text().splitlines())


def signers(server: RecordingProxy) -> list[str]:
    """The access key ids that signed the requests."""
    found = [re.search(r"Credential=(\w+)/", each.headers["Authorization"]) for each in server.seen]
    return [each[1] for each in found if each]


class TestTemporarilyMissing:
    def test_a_metadata_service_that_is_silent_when_the_first_client_is_made(
        self, moto_s3: S3Server, lake: str, by_chain: S3Connection, bare: pytest.MonkeyPatch
    ) -> None:
        port = free_port()
        bare.delenv("AWS_EC2_METADATA_DISABLED")
        bare.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{port}")
        bucket, client = open_bucket(by_chain, lake), open_client(by_chain)
        for ask in (lambda: bucket.put("a", b""), lambda: client.put_object(Bucket=lake, Key="b")):
            with pytest.raises(CredentialsError, match="No identity"):
                ask()
        with machine(machine_keys(moto_s3, new_role(moto_s3)), port=port):
            bucket.put("a", b"1")
            client.put_object(Bucket=lake, Key="b")
            assert open_bucket(by_chain, lake).get("a")[0] == b"1"

    def test_known_keys_are_used_while_their_file_is_rewritten(
        self, moto_s3: S3Server, lake: str, by_chain: S3Connection, bare: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        write_profile(tmp_path, new_user(moto_s3)[1])
        bucket = open_bucket(by_chain, lake)
        bucket.put("a", b"1")
        for half in ("[default]\naws_access_key_id=AKIA", "[", ""):
            (tmp_path / "credentials").write_text(half)
            bucket.put("a", b"2")
        (tmp_path / "credentials").unlink()
        bucket.put("a", b"3")


class TestRenewed:
    def test_a_credentials_file_between_two_landings(
        self, moto_s3: S3Server, lake: str, by_chain: S3Connection, bare: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (first, old), (_, new) = new_user(moto_s3), new_user(moto_s3)
        write_profile(tmp_path, old)
        bucket = open_bucket(by_chain, lake)
        with target(moto_s3, destination(lake), bucket) as opened:
            land(batches_of(users(0, 0)), opened, stream(), sync("first"))
            write_profile(tmp_path, new)
            revoke(moto_s3, first, old)
            land(batches_of(users(0, 1)), opened, stream(), sync("second"))
        assert ids_by_listing(moto_s3, lake) == [0, 1]

    def test_the_same_operation_is_sent_again_after_a_refusal(
        self, moto_s3: S3Server, lake: str, by_chain: S3Connection, bare: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """No file contains the keys, so none can be watched, and they do not expire."""
        (first, old), (_, new) = new_user(moto_s3), new_user(moto_s3)
        write_program(tmp_path, old)
        with recording_proxy() as server:
            bucket = open_bucket(S3Connection(endpoint=server.endpoint, region="us-east-1", max_attempts=1), lake)
            bucket.put("a", b"1")
            write_program(tmp_path, new)
            revoke(moto_s3, first, old)
            bucket.put("b", b"2")
            bucket.put("c", b"3")
            assert signers(server) == [each["access_key_id"] for each in (old, old, new, new)]
        assert runs(tmp_path) == 2

    def test_many_refused_threads_search_once(
        self, moto_s3: S3Server, lake: str, by_chain: S3Connection, bare: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (first, old), (_, new) = new_user(moto_s3), new_user(moto_s3)
        write_program(tmp_path, old)
        bucket = open_bucket(by_chain, lake)
        bucket.put("a", b"1")
        write_program(tmp_path, new)
        revoke(moto_s3, first, old)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: bucket.put(f"{number}", b""), range(24)))
        assert runs(tmp_path) == 2

    def test_keys_of_a_machine_that_expire_earlier_than_announced(
        self, moto_s3: S3Server, lake: str, by_chain: S3Connection, bare: pytest.MonkeyPatch
    ) -> None:
        role = new_role(moto_s3)
        keys = machine_keys(moto_s3, role)
        ended: list[str] = []

        def rule(request: Request, forward: Forward) -> Response:
            expired = any(f"Credential={each}/" in request.headers["Authorization"] for each in ended)
            return refusal("ExpiredToken", "The provided token has expired.", 400) if expired else forward()

        with machine(keys) as (url, _), recording_proxy(rule) as server:
            bare.delenv("AWS_EC2_METADATA_DISABLED")
            bare.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
            bucket = open_bucket(S3Connection(endpoint=server.endpoint, region="us-east-1", max_attempts=1), lake)
            for verb in (
                lambda: bucket.put("a", b"1"),
                lambda: bucket.head("a"),
                lambda: list(bucket.list_objects("")),
            ):
                ended.append(keys["AccessKeyId"])
                keys.update(machine_keys(moto_s3, role))
                verb()

    def test_refused_keys_of_the_settings_fail_immediately(self, moto_s3: S3Server, lake: str) -> None:
        name, keys = new_user(moto_s3)
        revoke(moto_s3, name, keys)
        with recording_proxy() as server:
            bucket = open_bucket(S3Connection(endpoint=server.endpoint, region="us-east-1", **keys), lake)
            with pytest.raises(CredentialsError, match="InvalidAccessKeyId"):
                bucket.put("a", b"")
            assert len(server.seen) == 1

    def test_the_file_of_a_web_identity(
        self, moto_s3: S3Server, lake: str, by_chain: S3Connection, bare: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        bare.setenv("AWS_ROLE_ARN", new_role(moto_s3))
        bare.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        with recording_proxy(web_identities(moto_s3, "the-new-token")) as sts:
            connection = S3Connection(endpoint=moto_s3.endpoint, region="us-east-1", sts_endpoint=sts.endpoint)
            bucket = open_bucket(connection, lake)
            for content in (None, "an-old-token"):
                if content:
                    (tmp_path / "token").write_text(content)
                with pytest.raises(CredentialsError, match="web identity"):
                    bucket.put("a", b"1")
            (tmp_path / "token").write_text("the-new-token")
            bucket.put("a", b"1")

    def test_a_sign_in(
        self, moto_s3: S3Server, lake: str, by_chain: S3Connection, bare: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The token of `aws sso login` is missing, then expired, then new."""
        sign_in_profile(tmp_path)
        bare.setattr(SSOProvider, "_SSO_TOKEN_CACHE_DIR", str(tmp_path))
        keys = machine_keys(moto_s3, new_role(moto_s3))
        with single_sign_on(keys, "signed-in") as portal:
            bare.setenv("AWS_ENDPOINT_URL_SSO", portal)
            bucket = open_bucket(by_chain, lake)
            for token in (None, ("signed-in", 2020), ("unknown", 2999)):
                if token:
                    sign_in(tmp_path, *token)
                with pytest.raises(CredentialsError, match=r"single sign-on .* `aws sso login --profile default`"):
                    bucket.put("a", b"1")
            sign_in(tmp_path, "signed-in", 2999)
            bucket.put("a", b"1")


class TestOfAnotherEnvironment:
    def test_each_environment_has_its_own_however_often_it_changes(
        self, moto_s3: S3Server, lake: str, by_chain: S3Connection, bare: pytest.MonkeyPatch
    ) -> None:
        (_, first), (_, second) = new_user(moto_s3), new_user(moto_s3)
        with recording_proxy() as server:
            connection = S3Connection(endpoint=server.endpoint, region="us-east-1")
            for keys in (first, second, first):
                set_environment(bare, keys)
                open_bucket(connection, lake).put("a", b"")
            assert signers(server) == [each["access_key_id"] for each in (first, second, first)]

    def test_an_open_bucket_uses_the_new_one_when_the_old_is_refused(
        self, moto_s3: S3Server, lake: str, by_chain: S3Connection, bare: pytest.MonkeyPatch
    ) -> None:
        (name, first), (_, second) = new_user(moto_s3), new_user(moto_s3)
        set_environment(bare, first)
        with recording_proxy() as server:
            connection = S3Connection(endpoint=server.endpoint, region="us-east-1", max_attempts=1)
            bucket = open_bucket(connection, lake)
            bucket.put("a", b"")
            revoke(moto_s3, name, first)
            set_environment(bare, second)
            bucket.put("a", b"")
            set_environment(bare, first)
            with pytest.raises(CredentialsError, match="InvalidAccessKeyId"):
                open_bucket(connection, lake).put("a", b"")
            assert signers(server) == [each["access_key_id"] for each in (first, first, second, first)]


def set_environment(bare: pytest.MonkeyPatch, keys: Keys) -> None:
    for name, value in keys.items():
        bare.setenv(f"AWS_{name.upper()}", value)


class TestARole:
    @pytest.fixture
    def assumed(self) -> list[str]:
        """The Authorization of the calls that assumed the role."""
        return []

    @pytest.fixture
    def counted(self, assumed: list[str]) -> Rule:
        def rule(request: Request, forward: Forward) -> Response:
            if b"Action=AssumeRole" in request.get_data():
                assumed.append(request.headers["Authorization"])
            return forward()

        return rule

    def test_it_is_assumed_once_for_all_buckets_and_clients(
        self,
        moto_s3: S3Server,
        lake: str,
        by_chain: S3Connection,
        bare: pytest.MonkeyPatch,
        counted,
        assumed: list[str],
    ) -> None:
        set_environment(bare, new_user(moto_s3, ["sts:AssumeRole"], ["*"])[1])
        with recording_proxy(counted) as server:
            connection = S3Connection(
                endpoint=server.endpoint, sts_endpoint=server.endpoint, role_arn=new_role(moto_s3), region="us-east-1"
            )
            for name in (lake, moto_s3.new_bucket(), lake):
                open_bucket(connection, name).put("a", b"")
            open_client(connection).put_object(Bucket=lake, Key="b")
        assert len(assumed) == 1

    def test_it_is_assumed_again_with_renewed_keys(
        self,
        moto_s3: S3Server,
        lake: str,
        bare: pytest.MonkeyPatch,
        tmp_path: Path,
        counted: Rule,
        assumed: list[str],
    ) -> None:
        """Its own credentials have expired, and so have those that assumed the role."""
        (name, old), (_, new) = (new_user(moto_s3, ["sts:AssumeRole"], ["*"]) for _ in range(2))
        write_program(tmp_path, old)
        refused: list[str] = []

        def rule(request: Request, forward: Forward) -> Response:
            signed_by = re.search(r"Credential=(\w+)/", request.headers["Authorization"])
            assert signed_by is not None
            if signed_by[1] in refused:
                return refusal("ExpiredToken", "The provided token has expired.", 400)
            if request.method == "PUT":
                refused.append(signed_by[1])
            return counted(request, forward)

        with recording_proxy(rule) as server:
            connection = S3Connection(
                endpoint=server.endpoint,
                sts_endpoint=server.endpoint,
                role_arn=new_role(moto_s3),
                region="us-east-1",
                max_attempts=1,
            )
            bucket = open_bucket(connection, lake)
            bucket.put("a", b"")
            write_program(tmp_path, new)
            revoke(moto_s3, name, old)
            bucket.put("a", b"")
        assert [re.findall(r"Credential=(\w+)/", each) for each in assumed] == [
            [each["access_key_id"]] for each in (old, new)
        ]
