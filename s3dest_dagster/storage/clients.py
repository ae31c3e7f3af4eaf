"""Clients of S3 from a connection's settings.

Access keys win over a role; without either the default chain of the AWS SDK decides (environment, profile, web
identity, container, instance profile). Clients are kept, the identity is not: see `current`. It must not log or show a
secret.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.keys import manifest_root
from s3dest_dagster.settings.connection import S3Connection, is_aws
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage.bucket import Bucket
from s3dest_dagster.storage.credential_chain import aws_variables, find
from s3dest_dagster.storage.credential_errors import mapped_configuration
from s3dest_dagster.storage.credentials import CurrentCredentials, sign_anew_when_refused
from s3dest_dagster.storage.error_mapping import refuse_redirect
from s3dest_dagster.storage.headers import headers_of_all
from s3dest_dagster.storage.retry import RetryPolicy
from s3dest_dagster.storage.sessions import DEFAULT_REGION, ConnectionSession

_POOL_CONNECTIONS = 32


def open_bucket(connection: S3Connection, where: S3Destination | str) -> Bucket:
    """The bucket over a client for this connection. Nothing is asked of the server yet.

    `where` is a bucket's name, or a destination, whose headers everything gets that is written to the bucket. Raises as
    `open_client`.
    """
    if isinstance(where, S3Destination):
        _refuse_bucket_in(connection.endpoint, where.s3_bucket_name)
        bucket = open_bucket(connection, where.s3_bucket_name)
        return bucket.at(manifest_root(where.template.literal_root)).with_headers(headers_of_all(where))
    retry_policy = RetryPolicy(max_attempts=connection.max_attempts, deadline_s=connection.retry_deadline_s)
    return _bucket(open_client(replace(connection, max_attempts=1)), where, retry_policy)


def _refuse_bucket_in(endpoint: str, bucket: str) -> None:
    """Raises SettingsError for an endpoint that names the bucket, too: it would be looked for in itself."""
    url = urlsplit(endpoint)
    if url.path.rstrip("/").endswith(f"/{bucket}") or (url.hostname or "").startswith(f"{bucket}."):
        raise SettingsError(
            f"s3_endpoint {endpoint!r} names the bucket {bucket!r}, which s3_bucket_name does already. Write the "
            "endpoint without it.",
            setting="s3_endpoint",
        )


@lru_cache(maxsize=64)
def _bucket(client: Any, name: str, retry_policy: RetryPolicy) -> Bucket:
    """One for equal settings, since it remembers what it has found out about its server."""
    return Bucket(client, name, retry_policy)


def open_client(connection: S3Connection) -> Any:
    """An S3 client that tries again by itself; equal settings share one while the environment's AWS variables stay the
    same, since a role costs an AssumeRole call, and connections are kept.

    The identity is looked for by the first request, and again when it has ended or is refused. Raises SettingsError for
    a ca_bundle that cannot be read, for a wrong AWS configuration and for plain http by way of it, CredentialsError
    where a profile is not there.
    """
    variables = aws_variables()
    _credentials(_identity_of(connection), variables).drop_those_of_another_environment(variables)
    return _client(connection, variables)


@lru_cache(maxsize=16)
def _client(connection: S3Connection, variables: frozenset[tuple[str, str]]) -> Any:
    credentials = _credentials(_identity_of(connection), variables)
    with mapped_configuration(connection):
        session = boto3.Session(botocore_session=ConnectionSession(connection, credentials))
        client = session.client("s3", **_client_arguments(connection))
    endpoint = client.meta.endpoint_url
    if connection.endpoint:
        client.meta.events.register("before-parse.s3", refuse_redirect)
    if connection.endpoint or is_aws(endpoint):
        sign_anew_when_refused(client, credentials)
        return client
    # The AWS configuration names another server, to which everything applies that does to one of the settings.
    return _client(replace(connection, endpoint=endpoint), variables)


def _identity_of(connection: S3Connection) -> S3Connection:
    """The settings that an identity depends on, with others at fixed values."""
    return replace(connection, endpoint="", path_style=None, max_attempts=1)


@lru_cache(maxsize=16)
def _credentials(connection: S3Connection, variables: frozenset[tuple[str, str]]) -> CurrentCredentials:
    """One for clients that try a request once and for those that try it again: a role is assumed once for both."""
    return CurrentCredentials(partial(find, connection))


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
    if not custom:
        return {"config": Config(**options)}
    # Servers other than AWS fail on checksum trailers: radosgw 16 answers 411 over TLS, rclone on ranged reads.
    options |= {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    return {
        "config": Config(**options),
        "endpoint_url": connection.endpoint,
        "region_name": connection.region or DEFAULT_REGION,
    }
