"""Creates S3 clients and buckets for the settings of a connection, with credentials that stay current.

Access keys take precedence over a role. Without either, the default chain of the AWS SDK is used (environment, profile,
web identity, container, instance profile). Clients are cached, but credentials are not: they are resolved when they are
first needed, and again when they are no longer valid. Must not log or show a secret.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError

from s3dest_dagster.errors import S3DestError, SettingsError
from s3dest_dagster.printable import logger
from s3dest_dagster.settings.connection import S3Connection, is_aws
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage.bucket import Bucket
from s3dest_dagster.storage.credentials import ResolvedCredentials, assumes_role, aws_variables, resolve_credentials
from s3dest_dagster.storage.error_mapping import refuse_redirect, refuses_identity
from s3dest_dagster.storage.requests import RetryPolicy
from s3dest_dagster.storage.sessions import DEFAULT_REGION, ConnectionSession, map_configuration_errors

_POOL_CONNECTIONS = 200
_LONGEST_WAIT_FOR_STS_S = 3
_SIGNED_BY = "s3dest_signed_by"
"""Entry of a request's context: the number of the search whose credentials signed it. None after it was signed
again."""
_logger = logger("storage")


def open_bucket(connection: S3Connection, where: S3Destination | str) -> Bucket:
    """Opens the bucket with a client for this connection. Sends nothing yet.

    Args:
        connection: the endpoint and identity to use.
        where: a bucket's name, or a destination, whose headers every object in the bucket gets.

    Raises:
        CredentialsError, SettingsError: as `open_client`; also for an endpoint that names the bucket.

    Example:
        bucket = open_bucket(S3Connection(), destination)
    """
    if isinstance(where, S3Destination):
        _check_endpoint(connection.endpoint, where.s3_bucket_name)
        return _open_named(connection, where.s3_bucket_name).for_destination(where)
    return _open_named(connection, where)


def _open_named(connection: S3Connection, name: str) -> Bucket:
    retry_policy = RetryPolicy(max_attempts=connection.max_attempts, deadline_s=connection.retry_deadline_s)
    return _bucket(open_client(replace(connection, max_attempts=1)), name, retry_policy)


def _check_endpoint(endpoint: str, bucket: str) -> None:
    """Raises SettingsError if the endpoint also names the bucket: requests would look for the bucket inside itself."""
    url = urlsplit(endpoint)
    if url.path.rstrip("/").endswith(f"/{bucket}") or (url.hostname or "").startswith(f"{bucket}."):
        raise SettingsError(
            f"s3_endpoint {endpoint!r} names the bucket {bucket!r}, which s3_bucket_name does already. Write the "
            "endpoint without it.",
            setting="s3_endpoint",
        )


@lru_cache(maxsize=64)
def _bucket(client: Any, name: str, retry_policy: RetryPolicy) -> Bucket:
    """Returns one bucket for equal settings, because it caches the server's abilities."""
    return Bucket(client, name, retry_policy)


def open_client(connection: S3Connection) -> Any:
    """Creates a boto3 S3 client that retries on its own. Its first request looks for the identity.

    Equal settings share one client while the AWS variables of the environment stay the same, because this saves
    connections and requests that assume roles.

    Raises:
        SettingsError: the ca_bundle cannot be read, or the AWS configuration is wrong or names a plain http endpoint.
        CredentialsError: the profile does not exist.
    """
    variables = aws_variables()
    _credentials(_identity_settings(connection), variables).drop_other_environment(variables)
    return _client(connection, variables)


@lru_cache(maxsize=16)
def _client(connection: S3Connection, variables: frozenset[tuple[str, str]]) -> Any:
    credentials = _credentials(_identity_settings(connection), variables)
    with map_configuration_errors(connection):
        session = boto3.Session(botocore_session=ConnectionSession(connection, credentials))
        client = session.client("s3", **_client_arguments(connection))
    endpoint = client.meta.endpoint_url
    if connection.endpoint:
        client.meta.events.register("before-parse.s3", refuse_redirect)
    if connection.endpoint or is_aws(endpoint):
        _sign_again_if_refused(client, credentials)
        return client
    # The AWS configuration names another server. It is treated like an endpoint in the settings.
    return _client(replace(connection, endpoint=endpoint), variables)


def _identity_settings(connection: S3Connection) -> S3Connection:
    """The settings that determine the identity. All other settings have fixed values."""
    return replace(connection, endpoint="", path_style=None, max_attempts=1)


@lru_cache(maxsize=16)
def _credentials(connection: S3Connection, variables: frozenset[tuple[str, str]]) -> RefreshingCredentials:
    """The credentials that clients with and without retries share, so that a role is assumed once."""
    return RefreshingCredentials(partial(resolve_credentials, connection))


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
    # Other servers fail on checksum trailers: radosgw 16 answers 411 over TLS, rclone fails on ranged reads.
    options |= {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    return {
        "config": Config(**options),
        "endpoint_url": connection.endpoint,
        "region_name": connection.region or DEFAULT_REGION,
    }


# ---------------------------------------------------------------------- credentials that stay current


class RefreshingCredentials(Credentials):  # type: ignore[misc,unused-ignore]
    """The result of `resolve` for as long as it is valid. Safe to use from several threads, which share one search.

    Searches again if the last search failed, if the credentials could not be renewed, if the configuration files have
    changed, or if a server has refused the keys. A client therefore never captures anything that can expire.
    """

    def __init__(self, resolve: Callable[[], ResolvedCredentials]) -> None:
        super().__init__("", "", method="current")
        self._resolve = resolve
        self._resolved: ResolvedCredentials | None = None
        self._frozen: ReadOnlyCredentials | None = None
        self._lock = Lock()
        self._searches = 0

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """The keys to sign with. Raises CredentialsError if there are none. The next call then searches again."""
        while True:
            resolved = self._current()
            try:
                self._frozen = resolved.get_frozen_credentials()
            except S3DestError:
                self._drop(resolved)
                if not resolved.has_given_keys:
                    raise
            else:
                return self._frozen

    def search(self) -> int:
        """The number of the search that found the current credentials."""
        self._current()
        return self._searches

    def drop_other_environment(self, variables: frozenset[tuple[str, str]]) -> None:
        """Forgets credentials that were found with other AWS variables than these."""
        resolved = self._resolved
        if resolved is not None and resolved.variables != variables:
            self._drop(resolved)

    def replace_refused(self, search: int) -> bool:
        """Returns whether there are keys other than those of this search, which a server has refused."""
        with self._lock:
            # If many requests are refused, only the first one searches.
            if self._searches != search:
                return True
            refused, self._resolved = self._frozen, None
        return bool(self.get_frozen_credentials() != refused)

    def _current(self) -> ResolvedCredentials:
        with self._lock:
            resolved = self._resolved
            if resolved is None:
                return self._search()
            if not resolved.are_files_changed():
                return resolved
            try:
                return self._search()
            except S3DestError as error:
                # The files may be being written at this moment. The old keys may still be valid.
                _logger.debug("The files of the credentials have changed: %s", error)
                resolved.accept_files()
                return resolved

    def _search(self) -> ResolvedCredentials:
        self._resolved = self._resolve()
        self._searches += 1
        return self._resolved

    def _drop(self, resolved: ResolvedCredentials) -> None:
        with self._lock:
            if self._resolved is resolved:
                self._resolved = None


def _sign_again_if_refused(client: Any, credentials: RefreshingCredentials) -> None:
    """Makes the client send a request once more if the server refused its keys and there are other keys by now."""

    def note_search(request: Any, **_: Any) -> None:
        request.context.setdefault(_SIGNED_BY, credentials.search())

    def retry(response: tuple[Any, dict[str, Any]] | None, request_dict: dict[str, Any], **_: Any) -> float | None:
        search = request_dict["context"].get(_SIGNED_BY)
        if response is None or search is None or not refuses_identity(response[1], request_dict["method"]):
            return None
        request_dict["context"][_SIGNED_BY] = None
        return 0.0 if credentials.replace_refused(search) else None

    service = client.meta.service_model.service_id.hyphenize()
    client.meta.events.register_first(f"before-sign.{service}", note_search)
    client.meta.events.register_first(f"needs-retry.{service}", retry)


# ---------------------------------------------------------------------- the identity of a connection


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a connection, without any secret."""

    source: str
    """Where the credentials came from, described for people."""
    access_key_id: str
    arn: str | None = None
    """The ARN of the identity according to STS. None if it is unknown."""
    unknown: str = ""
    """Why `arn` is unknown."""


def identity(connection: S3Connection) -> Identity:
    """The identity of a connection, and the link of the chain that provided it. Asks STS once, for at most 3 seconds.

    Raises:
        CredentialsError: no link provided an identity, or the role is refused.
    """
    resolved = resolve_credentials(connection)
    keys = resolved.get_frozen_credentials()
    return Identity(resolved.source, keys.access_key, *_caller(ConnectionSession(connection, resolved), connection))


def _caller(session: ConnectionSession, connection: S3Connection) -> tuple[str | None, str]:
    """The ARN of the caller, or the reason why it is unknown. STS shows callers their own ARN, whatever their
    policy."""
    config = Config(
        connect_timeout=min(_LONGEST_WAIT_FOR_STS_S, connection.connect_timeout_s),
        read_timeout=min(_LONGEST_WAIT_FOR_STS_S, connection.read_timeout_s),
        retries={"mode": "standard", "total_max_attempts": 1},
    )
    sts = session.create_client("sts", config=config)
    endpoint = sts.meta.endpoint_url
    if is_aws(endpoint) and not assumes_role(connection) and not is_aws(open_client(connection).meta.endpoint_url):
        # AWS does not know the keys of another server, and must not see them.
        return None, "sts_endpoint is not set"
    try:
        return str(sts.get_caller_identity()["Arn"]), ""
    except ClientError as error:
        return None, f"{endpoint} refused to tell: {error.response.get('Error', {}).get('Code', 'without a reason')}"
    except BotoCoreError:
        return None, f"{endpoint} did not answer"
