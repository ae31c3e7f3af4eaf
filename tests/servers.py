"""Real S3 servers for tests: moto in this process, with enforced signatures and IAM policies, and rclone as a child
process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import boto3
from botocore import useragent
from botocore.awsrequest import AWSResponse
from botocore.exceptions import BotoCoreError
from botocore.handlers import BUILTIN_HANDLERS
from cheroot.wsgi import Server
from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.botocore_stubber import MockRawResponse
from moto.core.exceptions import HTTPException
from moto.core.request import Request, normalize_request
from moto.moto_server.werkzeug_app import BackendRequest, DomainDispatcherApplication, create_backend_app
from moto.s3.responses import S3Response
from werkzeug.wrappers import Response

from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket, ServerAbilities, open_bucket
from s3dest_dagster.storage.abilities import with_abilities
from s3dest_dagster.storage.bucket import SERVER_FILE

SEED_ACTIONS = (
    "s3:PutObject",
    "s3:GetObject",
    "s3:DeleteObject",
    "s3:PutObjectAcl",
    "s3:ListBucket",
    "s3:ListBucketMultipartUploads",
    "s3:AbortMultipartUpload",
    "s3:GetBucketLocation",
)
"""The IAM policy of the documented destination. The identity of the tests has exactly these permissions."""

_numbers = count(1)


@dataclass(frozen=True)
class S3Server:
    """A running server. `connection` acts with the documented policy on buckets made by `new_bucket`."""

    endpoint: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    root: Path | None = None
    admin: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def connection(self) -> S3Connection:
        return S3Connection(
            endpoint=self.endpoint,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            region="us-east-1",
        )

    def client(self, **keys: str):
        """A plain boto3 client as the independent reader. With `**server.admin` it may do anything."""
        keys = keys or {"aws_access_key_id": self.access_key_id, "aws_secret_access_key": self.secret_access_key}
        return _client(self.endpoint, **keys)

    def fill(self, bucket: str, keys: Iterable[str]) -> None:
        """Creates many empty objects quickly, without going through the server's HTTP interface."""
        for key in keys:
            if self.root is None:
                get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket, key, b"")
            else:
                path = self.root / bucket / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()

    def new_bucket(self) -> str:
        """Makes a fresh bucket."""
        name = f"lake-{next(_numbers)}"
        self.client(**self.admin).create_bucket(Bucket=name)
        return name

    def store_abilities(self, destination: S3Destination, endpoint: str | None = None) -> str:
        """Stores what the library would find out about this server with some forty requests, as if the bucket had been
        used before, perhaps through another endpoint. Returns the key of the file."""
        key = f"{destination.template.manifest_root}{SERVER_FILE}"
        name = destination.s3_bucket_name
        body = with_abilities(None, endpoint or self.endpoint, name, _abilities(self))
        self.client().put_object(Bucket=name, Key=key, Body=body)
        return key

    def open(self, destination: S3Destination) -> Bucket:
        """The destination's bucket, as the library opens it."""
        return open_bucket(self.connection, destination)


@cache
def _client(endpoint: str, **keys: str):
    """One client for all tests of a server, because creating one costs more than ten requests."""
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)


_abilities_of: dict[str, ServerAbilities] = {}


def _abilities(server: S3Server) -> ServerAbilities:
    """What the library finds out about the server, which it is asked once in a process."""
    if server.endpoint not in _abilities_of:
        _abilities_of[server.endpoint] = open_bucket(server.connection, server.new_bucket()).abilities
    return _abilities_of[server.endpoint]


_of_this_process: set[str] = set()
"""The endpoints of moto in this process."""


def _answered_in_process(request, **_) -> AWSResponse | None:
    """moto's answer without the network, which costs as much again. Requests to other servers go over the network."""
    url = urlsplit(request.url)
    if f"{url.scheme}://{url.netloc}" not in _of_this_process:
        return None
    status, headers, body = _answer_of_s3(normalize_request(request))
    return AWSResponse(request.url, status, headers, MockRawResponse(body))


def _answer_of_s3(asked: Request) -> tuple[int, dict[str, str], bytes | str]:
    """moto's answer to a request to S3."""
    dispatch = S3Response.key_dispatch if "/" in urlsplit(asked.url).path.strip("/") else S3Response.bucket_dispatch
    try:
        return dispatch(asked, getattr(asked, "raw_url", asked.url), asked.headers)
    except HTTPException as refusal:
        return refusal.code, refusal.get_headers(), refusal.get_body()
    except (KeyError, AttributeError):  # a fault of moto's, told as its front door tells it
        return 500, {}, b""


# This applies to every client of this process, including the library's: requests are signed and checked as usual.
# The parts of a user agent never change. Cleaning them for each request takes a tenth of the request's time.
useragent.sanitize_user_agent_string_component = cache(useragent.sanitize_user_agent_string_component)
BUILTIN_HANDLERS.append(("before-send.s3", _answered_in_process))


def moto_application():
    """moto, which expects the path as it was sent, and signed, under the name that its own server uses."""
    moto = DomainDispatcherApplication(create_backend_app)

    def answer(environ, start_response):
        environ = {**environ, "RAW_URI": environ["REQUEST_URI"]}
        if "/s3/aws4_request" not in environ.get("HTTP_AUTHORIZATION", ""):
            return moto(environ, start_response)
        # Flask, which moto asks which of its services is meant, costs as much again.
        status, headers, body = _answer_of_s3(BackendRequest(environ))
        answered = Response(body, status, headers)
        if environ["REQUEST_METHOD"] == "HEAD" and "content-length" in headers:
            answered.headers["Content-Length"] = headers["content-length"]
        return answered(environ, start_response)

    return answer


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """moto with enforcement on: the identity holds the documented policy for buckets named lake-*."""
    # moto's own server opens a connection for every request and lingers 10 ms on each.
    server = Server(("127.0.0.1", 0), moto_application(), numthreads=16)
    # A fault of moto is answered with 500. Its traceback would hide the messages of the tests.
    server.error_log = lambda *_, **__: None
    server.prepare()
    threading.Thread(target=server.serve, name="moto", daemon=True).start()
    endpoint = "http://{}:{}".format(*server.bind_addr)
    _enforce(endpoint, "inf")
    admin = {"aws_access_key_id": "setup", "aws_secret_access_key": "setup"}
    iam = boto3.client("iam", endpoint_url=endpoint, region_name="us-east-1", **admin)
    keys = _user(iam, "loader", SEED_ACTIONS, ["arn:aws:s3:::lake-*", "arn:aws:s3:::lake-*/*"])
    admin_keys = _user(iam, "admin", ("*",), ["*"])
    _enforce(endpoint, "0")
    _of_this_process.add(endpoint)
    try:
        yield S3Server(endpoint, *keys, admin=dict(zip(admin, admin_keys, strict=True)))
    finally:
        _of_this_process.remove(endpoint)
        _enforce(endpoint, "inf")
        server.stop()


def _user(iam, name: str, actions: tuple[str, ...], resources: list[str]) -> tuple[str, str]:
    iam.create_user(UserName=name)
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resources}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=name, PolicyName="policy", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def _enforce(endpoint: str, unauthenticated_calls: str) -> None:
    """Tells moto after how many calls it checks signatures and policies."""
    request = urllib.request.Request(
        f"{endpoint}/moto-api/reset-auth",
        data=unauthenticated_calls.encode(),
        headers={"Content-Type": "text/plain"},
        method="POST",
    )
    urllib.request.urlopen(request).read()


@contextmanager
def rclone_server(root: Path, keys: tuple[str, str] = ("rclone-access-key", "rclone-secret-key")) -> Iterator[S3Server]:
    """`rclone serve s3` over plain files: multipart uploads, but no conditional puts and no policies."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    rclone = Path(sys.executable).with_name("rclone")
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", ",".join(keys), str(root)]
    process = subprocess.Popen([*command, "--config", os.devnull], stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    server = S3Server(f"http://127.0.0.1:{port}", *keys, root=root)
    try:
        _await_ours(server, process)
        yield server
    finally:
        process.kill()
        process.wait()


def _await_ours(server: S3Server, process: subprocess.Popen) -> None:
    """Waits until the server answers, and answers from our folder, because another program may have taken the port."""
    for _ in range(200):
        assert process.poll() is None, "rclone ended at once"
        try:
            bucket = server.new_bucket()
        except BotoCoreError:
            time.sleep(0.05)
            continue
        assert (server.root / bucket).is_dir(), "another server answers at this port"
        return
    raise AssertionError("rclone did not answer")
