"""S3 servers for tests, on this machine, and the addresses by which tests reach them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

DOCUMENTED_ACTIONS = [
    "s3:PutObject",
    "s3:GetObject",
    "s3:DeleteObject",
    "s3:PutObjectAcl",
    "s3:ListBucket",
    "s3:ListBucketMultipartUploads",
    "s3:AbortMultipartUpload",
    "s3:GetBucketLocation",
]
"""All that a user of the destination is asked to allow."""

_STARTING_S = 20.0


@dataclass(frozen=True)
class S3Server:
    """An S3 server and an identity on it. `root` is the directory of its buckets, where it has one."""

    endpoint: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    root: Path | None
    make_bucket: Callable[[str], None] = field(repr=False)

    def fresh_bucket(self, prefix: str = "lake") -> str:
        """The name of a new and empty bucket."""
        name = f"{prefix}-{secrets.token_hex(6)}"
        self.make_bucket(name)
        return name

    def client(self, **options: Any) -> Any:
        """A boto3 client of the server's identity."""
        return _client(self.endpoint, "s3", self.access_key_id, self.secret_access_key, **options)


def _client(endpoint: str, service: str, access_key_id: str, secret_access_key: str, **options: Any) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 2}, **options),
    )


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[S3Server]:
    """A server that checks signatures and policies; its user may do what the documentation asks for, and no more."""
    moto_server = pytest.importorskip("moto.server")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield _with_enforced_policy(f"http://{host}:{port}")
    finally:
        server.stop()


def _with_enforced_policy(endpoint: str) -> S3Server:

    admin = _client(endpoint, "iam", "admin", "admin")
    admin.create_user(UserName="s3dest")
    policy = {
        "Effect": "Allow",
        "Action": DOCUMENTED_ACTIONS,
        "Resource": ["arn:aws:s3:::lake-*", "arn:aws:s3:::lake-*/*"],
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [policy]})
    admin.put_user_policy(UserName="s3dest", PolicyName="documented", PolicyDocument=document)
    key = admin.create_access_key(UserName="s3dest")["AccessKey"]
    return S3Server(endpoint, key["AccessKeyId"], key["SecretAccessKey"], None, lambda name: None)
