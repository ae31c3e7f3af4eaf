"""Users and roles of a moto server, and the sources of an identity on a machine: instance metadata and container
credentials."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from recording_proxy import Forward, Rule, sent_form, sts_answer, sts_refusal
from servers import SEED_ACTIONS, S3Server
from werkzeug.wrappers import Request, Response

LAKES = ("arn:aws:s3:::lake-*", "arn:aws:s3:::lake-*/*")
ACCOUNT = "123456789012"
_numbers = count(1)


def aws_client(server: S3Server, service: str, **keys: str) -> Any:
    """A plain client of another service of the server; by default it may do anything."""
    direct = Config(proxies={})
    return boto3.client(
        service, endpoint_url=server.endpoint, region_name="us-east-1", config=direct, **(keys or server.admin)
    )


def policy(actions: Sequence[str], resources: Sequence[str], **more: Any) -> str:
    """A policy with one statement."""
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": list(resources), **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def policy_of_prefix(bucket: str, prefix: str) -> dict[str, Any]:
    """A policy for a user who may access the bucket only below a prefix."""
    objects = ("s3:PutObject", "s3:GetObject", "s3:DeleteObject", "s3:PutObjectAcl", "s3:AbortMultipartUpload")
    listings = ("s3:ListBucket", "s3:ListBucketMultipartUploads")
    below = {"Effect": "Allow", "Action": list(objects), "Resource": f"arn:aws:s3:::{bucket}/{prefix}/*"}
    condition = {"StringLike": {"s3:prefix": f"{prefix}/*"}}
    within = {"Effect": "Allow", "Action": list(listings), "Resource": f"arn:aws:s3:::{bucket}", "Condition": condition}
    return {"Version": "2012-10-17", "Statement": [below, within]}


def new_user(
    server: S3Server, actions: Sequence[str] = SEED_ACTIONS, resources: Sequence[str] = LAKES
) -> tuple[str, dict[str, str]]:
    """A user with only these permissions: its name, and its keys under the names of a connection's settings."""
    iam, name = aws_client(server, "iam"), f"user-{next(_numbers)}"
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="policy", PolicyDocument=policy(actions, resources))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return name, {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}


def revoke(server: S3Server, user: str, keys: dict[str, str]) -> None:
    """Makes the keys of a user unknown to the server."""
    aws_client(server, "iam").delete_access_key(UserName=user, AccessKeyId=keys["access_key_id"])


def new_role(server: S3Server, external_id: str | None = None) -> str:
    """The ARN of a role with the documented policy. Users who know the external id may assume it."""
    iam, name = aws_client(server, "iam"), f"role-{next(_numbers)}"
    condition = {"Condition": {"StringEquals": {"sts:ExternalId": external_id}}} if external_id else {}
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole", **condition}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="policy", PolicyDocument=policy(SEED_ACTIONS, LAKES))
    return str(arn)


def acting_as(role: str, session: str) -> str:
    """The ARN that STS returns for a session of the role."""
    return f"arn:aws:sts::{ACCOUNT}:assumed-role/{role.rpartition('/')[2]}/{session}"


def web_identities(server: S3Server, token: str) -> Rule:
    """A security token service that accepts this web identity. moto's own service accepts no call without a
    signature."""

    def answer(request: Request, forward: Forward) -> Response:
        form = sent_form(request)
        if form["Action"] != "AssumeRoleWithWebIdentity":
            return forward()
        if form["WebIdentityToken"] != token:
            return sts_refusal("InvalidIdentityToken", "The token is not known")
        given = aws_client(server, "sts").assume_role(RoleArn=form["RoleArn"], RoleSessionName=form["RoleSessionName"])[
            "Credentials"
        ]
        return sts_answer(form["Action"], {**given, "Expiration": given["Expiration"].isoformat()})

    return answer


def machine_keys(server: S3Server, role: str) -> dict[str, str]:
    """Keys of the role as a machine provides them."""
    answer = aws_client(server, "sts").assume_role(RoleArn=role, RoleSessionName="i-1")["Credentials"]
    return {
        "AccessKeyId": answer["AccessKeyId"],
        "SecretAccessKey": answer["SecretAccessKey"],
        "Token": answer["SessionToken"],
        "Expiration": (datetime.now(UTC) + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


@contextmanager
def single_sign_on(keys: dict[str, str], token: str) -> Iterator[str]:
    """The URL of a single sign-on portal, which returns these keys to requests with the token of a sign-in."""
    ends = int((datetime.now(UTC) + timedelta(hours=6)).timestamp() * 1000)
    names = {"AccessKeyId": "accessKeyId", "SecretAccessKey": "secretAccessKey", "Token": "sessionToken"}
    given = {"roleCredentials": {**{theirs: keys[ours] for ours, theirs in names.items()}, "expiration": ends}}

    class Portal(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Says nothing."""

        def do_GET(self) -> None:
            is_known = self.headers["x-amz-sso_bearer_token"] == token
            text = json.dumps(given) if is_known else "{}"
            self.send_response(200 if is_known else 401)
            self.send_header("Content-Length", str(len(text)))
            if not is_known:
                self.send_header("x-amzn-ErrorType", "UnauthorizedException")
            self.end_headers()
            self.wfile.write(text.encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), Portal) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


SIGN_IN = "https://example.awsapps.com/start"


def sign_in(folder: Path, token: str, until: int) -> None:
    """The file that `aws sso login` leaves in its token folder, with a token that is valid until this year."""
    cached = folder / f"{hashlib.sha1(SIGN_IN.encode()).hexdigest()}.json"
    cached.write_text(json.dumps({"accessToken": token, "expiresAt": f"{until}-01-01T00:00:00Z"}))


def sign_in_profile(folder: Path) -> None:
    """Makes the default profile of the configuration file a single sign-on profile."""
    keys = {"sso_start_url": SIGN_IN, "sso_region": "us-east-1", "sso_account_id": ACCOUNT, "sso_role_name": "lander"}
    (folder / "config").write_text("[default]\n" + "".join(f"{name}={value}\n" for name, value in keys.items()))


@contextmanager
def machine(keys: dict[str, str], *, token: str = "pod-token", port: int = 0) -> Iterator[tuple[str, list[str]]]:
    """An instance metadata service (only version 2) and container credentials under /container (for requests with
    the token). Yields the URL, and the requests that were answered so far. Changes to `keys` change the answers."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Says nothing."""

        def do_PUT(self) -> None:
            asks_for_token = self.path == "/latest/api/token" and self.headers["x-aws-ec2-metadata-token-ttl-seconds"]
            self._answer(*((200, "session-token") if asks_for_token else (404, "")))

        def do_GET(self) -> None:
            roles = "/latest/meta-data/iam/security-credentials/"
            if self.path == "/container":
                shown = self.headers["Authorization"] == token
                self._answer(*((200, json.dumps(keys)) if shown else (401, "")))
            elif self.headers["x-aws-ec2-metadata-token"] != "session-token":
                self._answer(401, "")
            elif self.path == roles:
                self._answer(200, "role")
            elif self.path == f"{roles}role":
                self._answer(200, json.dumps({"Code": "Success", "Type": "AWS-HMAC", **keys}))
            else:
                self._answer(404, "")

        def _answer(self, status: int, text: str) -> None:
            asked.append(f"{self.command} {self.path} {status}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.send_header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
            self.end_headers()
            self.wfile.write(text.encode())

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
