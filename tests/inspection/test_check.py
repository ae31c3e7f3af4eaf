"""A check names every missing permission together with the policy statement that grants it, and leaves nothing
behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from aws_identities import aws_client, new_user, policy_of_prefix
from land_and_read import batches_of, destination, ids_by_listing, open_uploads, stream, sync, target, users
from recording_proxy import Forward, recording_proxy, refusal
from servers import SEED_ACTIONS, S3Server
from werkzeug.wrappers import Request, Response

from s3dest_dagster.commit.maintenance import recover, sweep
from s3dest_dagster.commit.scopes import scopes
from s3dest_dagster.errors import AccessDeniedError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.check import CheckStep, check
from s3dest_dagster.inspection.plan import ACTIONS, actions, plan
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import open_bucket

KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd"


def checked(server: S3Server, settings: S3Destination, connection: S3Connection) -> list[CheckStep]:
    with target(server, settings, open_bucket(connection, settings)) as opened:
        return check(opened, "token")


def denied(steps: list[CheckStep]) -> list[str]:
    return [each.action for each in steps if each.tried and not each.ok]


def not_tried(steps: list[CheckStep]) -> list[str]:
    return [each.action for each in steps if not each.tried]


def left(server: S3Server, bucket: str) -> list[str]:
    """The objects in the bucket, except for the file about the server."""
    keys = [each["Key"] for each in server.client().list_objects_v2(Bucket=bucket).get("Contents", [])]
    return [each for each in keys if each != "data/_s3dest/server.json"]


def deletes_by_moto(bucket: str) -> dict[str, str]:
    """The permission that moto requires for deletions in addition to the one for the objects. AWS does not require
    it."""
    return {"Effect": "Allow", "Action": "s3:DeleteObject", "Resource": f"arn:aws:s3:::{bucket}"}


def statement_in(message: str) -> dict[str, str]:
    """The policy statement at the end of a message."""
    return json.loads(message[message.index("{") :])


def test_the_documented_policy_is_enough(any_s3: S3Server) -> None:
    settings = destination(any_s3.new_bucket())
    steps = checked(any_s3, settings, any_s3.connection)
    assert denied(steps) == []
    assert {each.action for each in steps if each.action} == set(ACTIONS)
    assert (left(any_s3, settings.s3_bucket_name), open_uploads(any_s3, settings.s3_bucket_name)) == ([], 0)


@pytest.mark.parametrize("missing", ACTIONS)
def test_each_missing_action_is_named_with_its_statement(moto_s3: S3Server, missing: str) -> None:
    _, keys = new_user(moto_s3, [each for each in SEED_ACTIONS if each != missing])
    settings = destination(moto_s3.new_bucket())
    steps = checked(moto_s3, settings, replace(moto_s3.connection, **keys))
    assert denied(steps) == [missing]
    (failed,) = (each for each in steps if not each.ok)
    of_bucket = missing in ("s3:ListBucket", "s3:ListBucketMultipartUploads")
    resource = f"arn:aws:s3:::{settings.s3_bucket_name}{'' if of_bucket else '/*'}"
    assert statement_in(failed.message) == {"Effect": "Allow", "Action": missing, "Resource": resource}
    assert left(moto_s3, settings.s3_bucket_name) == []
    # An upload that the identity must not abort stays, and nobody sees it.
    assert open_uploads(moto_s3, settings.s3_bucket_name) == (missing == "s3:AbortMultipartUpload")


@pytest.mark.parametrize(
    ("granted", "missing", "unknown"),
    [
        ({*ACTIONS} - {"s3:PutObject", "s3:GetObject"}, {"s3:PutObject", "s3:GetObject"}, set()),
        ({*ACTIONS} - {"s3:DeleteObject", "s3:GetObject"}, {"s3:DeleteObject", "s3:GetObject"}, set()),
        ({"s3:ListBucket"}, {*ACTIONS} - {"s3:ListBucket"}, set()),
        ({"s3:GetObject"}, {*ACTIONS} - {"s3:GetObject"}, {"s3:GetObject"}),
        (set(), {*ACTIONS} - {"s3:GetObject"}, {"s3:GetObject"}),
    ],
)
def test_all_missing_actions_and_all_untested_ones_are_named(
    moto_s3: S3Server, granted: set[str], missing: set[str], unknown: set[str]
) -> None:
    """An identity that may neither list nor write cannot find out whether it may read, because the server also
    denies access to missing objects."""
    _, keys = new_user(moto_s3, ["s3:GetBucketLocation", *granted])
    settings = destination(moto_s3.new_bucket())
    steps = checked(moto_s3, settings, replace(moto_s3.connection, **keys))
    assert (set(denied(steps)), set(not_tried(steps))) == (missing, unknown)
    assert left(moto_s3, settings.s3_bucket_name) == []


def test_the_statements_grant_everything_that_is_missing(moto_s3: S3Server) -> None:
    """An administrator who adds what the check prints, until it prints nothing, has a policy under which a sync
    lands."""
    name, keys = new_user(moto_s3, ["s3:GetBucketLocation"])
    settings = destination(moto_s3.new_bucket())
    statements = [deletes_by_moto(settings.s3_bucket_name)]
    connection = replace(moto_s3.connection, **keys)
    while failed := [each for each in checked(moto_s3, settings, connection) if each.tried and not each.ok]:
        statements += [statement_in(each.message) for each in failed]
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        aws_client(moto_s3, "iam").put_user_policy(UserName=name, PolicyName="policy", PolicyDocument=document)
    assert sorted(each["Action"] for each in statements[1:]) == sorted(ACTIONS)
    with target(moto_s3, settings, open_bucket(connection, settings)) as opened:
        land(batches_of(users(1, 3)), opened, stream(), sync("first"))
        land(batches_of(users(4, 6)), opened, stream(), sync("second"))
    assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [4, 5, 6]


class TestPolicyOfAPrefix:
    """A policy restricted to the bucket path, as several teams in one bucket use it."""

    @pytest.fixture
    def lake(self, moto_s3: S3Server) -> str:
        return moto_s3.new_bucket()

    @pytest.fixture
    def connection(self, moto_s3: S3Server, lake: str) -> S3Connection:
        name, keys = new_user(moto_s3)
        document = policy_of_prefix(lake, "data")
        document["Statement"].append(deletes_by_moto(lake))
        iam = aws_client(moto_s3, "iam")
        iam.put_user_policy(UserName=name, PolicyName="policy", PolicyDocument=json.dumps(document))
        return replace(moto_s3.connection, **keys)

    @pytest.fixture
    def strict(self, connection: S3Connection) -> Iterator[S3Connection]:
        """Behaves like AWS: a policy condition on the prefix applies to listings, and access to missing objects is
        denied."""

        def rule(request: Request, forward: Forward) -> Response:
            if "data/" not in request.path and not request.args.get("prefix", "data/").startswith("data/"):
                return refusal("AccessDenied", "Access Denied")
            answer = forward()
            return refusal("AccessDenied", "Access Denied") if answer.status_code == 404 else answer

        with recording_proxy(rule) as opened:
            yield replace(connection, endpoint=opened.endpoint)

    def test_the_policy_is_enough_for_the_bucket_path(self, moto_s3: S3Server, lake: str, strict: S3Connection) -> None:
        settings = destination(lake, s3_bucket_path="data")
        assert denied(checked(moto_s3, settings, strict)) == []
        with target(moto_s3, settings, open_bucket(strict, settings)) as opened:
            plan(opened, [stream()], sync("none"))
            for number in range(3):
                land(batches_of(users(number, number)), opened, stream(), sync(f"sync-{number}"))
            for scope in scopes(opened.bucket, settings.template):
                assert not verify(opened.bucket, settings.template, scope).problems
                recover(opened.bucket, settings.template, scope)
            sweep(opened.bucket, settings, stream().id, now=sync("now").now)
        assert ids_by_listing(moto_s3, lake) == [2]

    def test_an_existing_but_denied_object_is_not_mistaken_for_a_missing_one(
        self, moto_s3: S3Server, lake: str, connection: S3Connection
    ) -> None:
        bucket = open_bucket(connection, lake)
        bucket.put("data/a", b"1")
        with denying("x-amz-date", "Access Denied", method="GET", path=f"/{lake}/data/a") as endpoint:
            bucket = open_bucket(replace(connection, endpoint=endpoint), lake)
            with pytest.raises(AccessDeniedError, match="s3:GetObject"):
                bucket.get("data/a")

    def test_no_request_goes_beyond_the_prefix(self, moto_s3: S3Server, lake: str, connection: S3Connection) -> None:
        """Reads the server's own log of prefixes, because moto evaluates only conditions that it knows."""
        settings = destination(lake, s3_bucket_path="data", s3_path_format="${STREAM_NAME}/")
        with recording_proxy() as server:
            bucket = open_bucket(replace(connection, endpoint=server.endpoint), settings)
            with target(moto_s3, settings, bucket) as opened:
                check(opened, "token")
                for number in range(2):
                    land(batches_of(users(number, number)), opened, stream(), sync(f"sync-{number}"))
        asked = [each.args["prefix"] for each in server.seen if "prefix" in each.args]
        assert asked
        assert all(each.startswith("data/") for each in asked)
        keys = [each.path.removeprefix(f"/{lake}").removeprefix("/") for each in server.seen]
        assert all(each.startswith("data/") for each in keys if each)

    def test_another_path_is_denied(self, moto_s3: S3Server, lake: str, connection: S3Connection) -> None:
        steps = checked(moto_s3, destination(lake, s3_bucket_path="others"), connection)
        assert {"s3:PutObject", "s3:AbortMultipartUpload"} <= set(denied(steps))
        with (
            pytest.raises(AccessDeniedError),
            target(moto_s3, destination(lake, s3_bucket_path="others"), open_bucket(connection, lake)) as opened,
        ):
            land(batches_of(users(1, 1)), opened, stream(), sync("others"))


@contextmanager
def denying(header: str, text: str, *, method: str | None = None, path: str | None = None) -> Iterator[str]:
    """A server that denies requests with this header (and method and path), in these words. moto ignores headers."""

    def rule(request: Request, forward: Forward) -> Response:
        meant = method in (None, request.method) and path in (None, request.path) and header in request.headers
        return refusal("AccessDenied", text) if meant else forward()

    with recording_proxy(rule) as opened:
        yield opened.endpoint


class TestSettingsThatNeedMore:
    ACL = {"acl": "bucket-owner-full-control"}  # noqa: RUF012
    KMS = {"server_side_encryption": "aws:kms", "kms_key_id": KEY}  # noqa: RUF012

    def test_their_permissions_are_checked_and_planned(self, moto_s3: S3Server) -> None:
        settings = destination(moto_s3.new_bucket(), **self.ACL, **self.KMS)
        more = ("s3:PutObjectAcl", "kms:GenerateDataKey", "kms:Decrypt")
        steps = checked(moto_s3, settings, moto_s3.connection)
        assert denied(steps) == []
        assert {each.action for each in steps if each.action} == {*ACTIONS, *more}
        with target(moto_s3, settings) as opened:
            assert plan(opened, [stream()], sync("none")).actions == (*ACTIONS, *more)
        assert actions(destination("lake")) == ACTIONS
        assert left(moto_s3, settings.s3_bucket_name) == []

    @pytest.mark.parametrize(
        "words",
        [
            "Access Denied",
            "User: arn:aws:iam::123456789012:user/loader is not authorized to perform: s3:PutObjectAcl on resource: "
            '"arn:aws:s3:::lake/data/a" because no identity-based policy allows the s3:PutObjectAcl action',
        ],
    )
    def test_a_missing_permission_for_an_acl(self, moto_s3: S3Server, words: str) -> None:
        """The server's message need not name the permission."""
        settings = destination(moto_s3.new_bucket(), acl="public-read")
        with denying("x-amz-acl", words) as endpoint:
            steps = checked(moto_s3, settings, replace(moto_s3.connection, endpoint=endpoint))
        assert denied(steps) == ["s3:PutObjectAcl"]
        (message,) = (each.message for each in steps if not each.ok)
        assert statement_in(message)["Action"] == "s3:PutObjectAcl"

    @pytest.mark.parametrize("action", ["kms:GenerateDataKey", "kms:Decrypt"])
    def test_a_missing_permission_for_the_key(self, moto_s3: S3Server, action: str) -> None:
        words = (
            f"User: arn:aws:iam::123456789012:user/loader is not authorized to perform: {action} on resource: {KEY} "
            f"because no identity-based policy allows the {action} action"
        )

        def rule(request: Request, forward: Forward) -> Response:
            encrypts = "x-amz-server-side-encryption" in request.headers
            needs = (
                encrypts if action == "kms:GenerateDataKey" else request.method == "GET" and "~check-" in request.path
            )
            return refusal("AccessDenied", words) if needs else forward()

        settings = destination(moto_s3.new_bucket(), **self.KMS)
        with recording_proxy(rule) as server:
            steps = checked(moto_s3, settings, replace(moto_s3.connection, endpoint=server.endpoint))
        assert set(denied(steps)) == {action}
        (message, *_) = (each.message for each in steps if not each.ok)
        assert statement_in(message) == {"Effect": "Allow", "Action": action, "Resource": KEY}

    def test_the_check_does_not_suggest_to_allow_what_a_policy_denies(self, moto_s3: S3Server) -> None:
        words = (
            "not authorized to perform: s3:PutObject on resource: a with an explicit deny in a resource-based policy"
        )
        settings = destination(moto_s3.new_bucket(), server_side_encryption="AES256")
        with denying("x-amz-server-side-encryption", words) as endpoint:
            steps = checked(moto_s3, settings, replace(moto_s3.connection, endpoint=endpoint))
        (failed,) = (each for each in steps if not each.ok)
        assert "allowing it does not help" in failed.message
        assert "resource-based policy" in failed.message


def test_a_storage_class_that_the_server_does_not_know_is_reported(moto_s3: S3Server) -> None:
    def rule(request: Request, forward: Forward) -> Response:
        unknown = request.headers.get("x-amz-storage-class") == "COLD"
        return refusal("InvalidStorageClass", "The storage class is not valid", 400) if unknown else forward()

    settings = destination(moto_s3.new_bucket(), storage_class="COLD")
    with recording_proxy(rule) as server:
        steps = checked(moto_s3, settings, replace(moto_s3.connection, endpoint=server.endpoint))
    (failed,) = (each for each in steps if not each.ok)
    assert "InvalidStorageClass" in failed.message
    assert left(moto_s3, settings.s3_bucket_name) == []
