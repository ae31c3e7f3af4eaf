"""Who asks S3: sessions and clients from a connection's settings.

Access keys win over a role; without either the default chain of the AWS SDK decides (environment, profile, web
identity, container, instance profile). An assumed role refreshes itself. It must not log or show a secret.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import BotoCoreError

from s3dest_dagster.connection import S3Connection
from s3dest_dagster.errors import CredentialsError
from s3dest_dagster.storage.bucket import Bucket

EXTERNAL_ID_VARIABLE = "AWS_ASSUME_ROLE_EXTERNAL_ID"
_POOL_CONNECTIONS = 32
_DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Identity:
    """Where the credentials came from, in words, and the access key id that they act with (never a secret)."""

    source: str
    access_key_id: str


def open_bucket(connection: S3Connection, name: str) -> Bucket:
    """The bucket over a client for this connection. Nothing is asked of the server yet."""
    return Bucket(open_client(connection), name)


def identity(connection: S3Connection) -> Identity:
    """Which link of the chain gave the identity. Raises CredentialsError when none did, or a role is refused."""
    try:
        credentials = _session(connection).get_credentials()
        frozen = credentials and credentials.get_frozen_credentials()
    except (BotoCoreError, botocore.exceptions.ClientError) as error:
        raise CredentialsError(
            f"No identity: {error}. Check role_arn, external_id and the base credentials."
        ) from error
    if not credentials or not frozen or not frozen.access_key:
        raise CredentialsError(
            "No identity: neither access keys, nor a role, nor the default chain (environment, profile, web identity, "
            "container, instance profile) gave credentials. Set access_key_id and secret_access_key, or role_arn."
        )
    source = "access keys of the settings" if connection.access_key_id else str(credentials.method)
    if connection.role_arn and not connection.access_key_id:
        source = f"assumed role {connection.role_arn}"
    return Identity(source, frozen.access_key)


@lru_cache(maxsize=16)
def open_client(connection: S3Connection) -> Any:
    """An S3 client; equal settings share one, since a session costs about 70 ms and a role an AssumeRole call."""
    return _session(connection).client("s3", **_client_arguments(connection))


def _client_arguments(connection: S3Connection) -> dict[str, Any]:
    custom = bool(connection.endpoint)
    path_style = custom if connection.path_style is None else connection.path_style
    options: dict[str, Any] = {
        "signature_version": "s3v4",
        "s3": {"addressing_style": "path" if path_style else "auto"},
        "retries": {"mode": "standard", "total_max_attempts": connection.max_attempts},
        "connect_timeout": connection.connect_timeout_s,
        "read_timeout": connection.read_timeout_s,
        "max_pool_connections": _POOL_CONNECTIONS,
        "tcp_keepalive": True,
    }
    if custom:
        # Servers other than AWS fail on checksum trailers: radosgw 16 answers 411 over TLS, rclone on ranged reads.
        options |= {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    arguments: dict[str, Any] = {"config": Config(**options), "verify": connection.ca_bundle or None}
    if custom:
        arguments |= {"endpoint_url": connection.endpoint, "region_name": connection.region or _DEFAULT_REGION}
    return arguments


def _session(connection: S3Connection) -> boto3.Session:
    base = _base_session(connection)
    if connection.role_arn and not connection.access_key_id:
        return _assumed(base, connection)
    return base


def _base_session(connection: S3Connection) -> boto3.Session:
    try:
        return boto3.Session(
            aws_access_key_id=connection.access_key_id,
            aws_secret_access_key=connection.secret_access_key,
            aws_session_token=connection.session_token,
            profile_name=connection.profile_name,
            region_name=connection.region or None,
        )
    except BotoCoreError as error:
        raise CredentialsError(f"No session for S3: {error}.", setting="profile_name") from error


def _assumed(base: boto3.Session, connection: S3Connection) -> boto3.Session:
    """A session that acts as the role and assumes it again before its credentials end."""
    extra: dict[str, Any] = {
        "RoleSessionName": connection.role_session_name,
        "DurationSeconds": connection.role_duration_s,
    }
    external_id = connection.external_id or os.environ.get(EXTERNAL_ID_VARIABLE)
    if external_id:
        extra["ExternalId"] = external_id
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=lambda service, **given: base.client(service, **given, **_sts_arguments(connection)),
        source_credentials=base.get_credentials(),
        role_arn=connection.role_arn,
        extra_args=extra,
        cache={},
    )
    session = botocore.session.get_session()
    session.register_component("credential_provider", CredentialResolver([_RoleProvider(fetcher)]))
    return boto3.Session(botocore_session=session, region_name=connection.region or base.region_name)


def _sts_arguments(connection: S3Connection) -> dict[str, Any]:
    arguments: dict[str, Any] = {"verify": connection.ca_bundle or None}
    if connection.sts_endpoint:
        arguments |= {"endpoint_url": connection.sts_endpoint, "region_name": connection.region or _DEFAULT_REGION}
    return arguments


class _RoleProvider(CredentialProvider):  # type: ignore[misc,unused-ignore]
    """The one link of an assumed session's chain."""

    METHOD = "assume-role"
    CANONICAL_NAME = "AssumeRole"

    def __init__(self, fetcher: AssumeRoleCredentialFetcher) -> None:
        super().__init__()
        self._fetcher = fetcher

    def load(self) -> DeferredRefreshableCredentials:
        return DeferredRefreshableCredentials(refresh_using=self._fetcher.fetch_credentials, method=self.METHOD)
