"""The credential chain of a connection: which link gives the identity, asked once and from the beginning.

The links are the AWS SDK's, with bounds of our own: a program ends in time and reads nothing that is piped in, and the
metadata of this machine is never asked of a proxy. It must not keep what it finds, nor show a secret.
"""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import botocore.session
from botocore.credentials import (
    AssumeRoleProvider,
    CredentialProvider,
    Credentials,
    InstanceMetadataProvider,
    ProcessProvider,
    ProfileProviderBuilder,
    ReadOnlyCredentials,
    RefreshableCredentials,
    create_credential_resolver,
)
from botocore.exceptions import CredentialRetrievalError
from botocore.httpsession import URLLib3Session

from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.storage.credential_errors import (
    Link,
    link,
    mapped_configuration,
    mapped_link,
    mapped_role,
    no_identity,
    nobody_for,
)
from s3dest_dagster.storage.sessions import ConnectionSession

EXTERNAL_ID_VARIABLE = "AWS_ASSUME_ROLE_EXTERNAL_ID"
_ENDED = datetime(1970, 1, 1, tzinfo=UTC)


class RoleProvider(CredentialProvider):  # type: ignore[misc,unused-ignore]
    """The one link of the chain of a session that acts as a role. `base` is the session that assumes it."""

    METHOD = "assume-role"
    CANONICAL_NAME = "AssumeRole"

    def __init__(self, base: botocore.session.Session, connection: S3Connection) -> None:
        super().__init__()
        self._base = base
        self._connection = connection

    def load(self) -> RefreshableCredentials:
        """Credentials that have ended: whoever needs them first assumes the role.

        A quarter of their life before they end they are renewed where that succeeds, a sixth before it must: for a role
        of an hour the SDK's own 15 and 10 minutes, which would have a role of 15 minutes assumed for each request.
        """
        duration = self._connection.role_duration_s
        return RefreshableCredentials(
            access_key="",
            secret_key="",
            token="",
            expiry_time=_ENDED,
            refresh_using=self._assume,
            method=self.METHOD,
            advisory_timeout=min(900, duration // 4),
            mandatory_timeout=min(600, duration // 6),
        )

    def _assume(self) -> dict[str, str]:
        with mapped_role(str(self._connection.role_arn)):
            answer = self._base.create_client("sts").assume_role(**self._request())["Credentials"]
        return {
            "access_key": answer["AccessKeyId"],
            "secret_key": answer["SecretAccessKey"],
            "token": answer["SessionToken"],
            "expiry_time": answer["Expiration"].isoformat(),
        }

    def _request(self) -> dict[str, Any]:
        connection = self._connection
        external_id = connection.external_id or os.environ.get(EXTERNAL_ID_VARIABLE)
        return {
            "RoleArn": connection.role_arn,
            "RoleSessionName": connection.role_session_name,
            "DurationSeconds": connection.role_duration_s,
            **({"ExternalId": external_id} if external_id else {}),
        }


_VARIABLES = ("AWS_", "BOTO_CONFIG", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
FileState = tuple[str, int, int, int] | tuple[str]


def aws_variables() -> frozenset[tuple[str, str]]:
    """What the AWS SDK looks at in the environment."""
    return frozenset(each for each in os.environ.items() if each[0].upper().startswith(_VARIABLES))


class FoundCredentials(Credentials):  # type: ignore[misc,unused-ignore]
    """Credentials with where they came from.

    `source` says it in words; `variables` and `files` are the environment and the states of the files that the chain
    looked at. Whatever goes wrong while they renew themselves is a CredentialsError.
    """

    def __init__(self, credentials: Credentials, found_by: Link, files: Iterable[str] = ()) -> None:
        super().__init__("", "", method="found")
        self.source = found_by.words
        self.variables = aws_variables()
        self.files = _states(files)
        self.has_given_keys = False
        self._credentials = credentials
        self._link = found_by

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        with mapped_link(self._link):
            frozen = self._credentials.get_frozen_credentials()
        if not frozen.access_key or not frozen.secret_key:
            raise no_identity()
        self.has_given_keys = True
        return frozen

    def is_of_former_files(self) -> bool:
        """Whether one of the files that the chain looked at has changed since."""
        return self.files != _states(each[0] for each in self.files)

    def keep_in_spite_of_files(self) -> None:
        """Takes the files as they are now for those that these credentials came from."""
        self.files = _states(each[0] for each in self.files)


def assumes_role(connection: S3Connection) -> bool:
    """Whether the role is assumed: access keys win over it."""
    return bool(connection.role_arn) and not connection.access_key_id


def find(connection: S3Connection) -> FoundCredentials:
    """The credentials that the first link gives which has any, or those of the role that they assume.

    Raises CredentialsError where no link has any or one fails, SettingsError for a wrong AWS configuration.
    """
    base = _base(connection)
    if not assumes_role(connection):
        if base is None:
            raise no_identity()
        return base
    if base is None:
        raise nobody_for(str(connection.role_arn))
    role = RoleProvider(ConnectionSession(connection, base), connection).load()
    by = Link(f"role {connection.role_arn}, assumed by the {base.source}", "")
    return FoundCredentials(role, by, (each[0] for each in base.files))


def _base(connection: S3Connection) -> FoundCredentials | None:
    """The credentials of the settings, or of the chain's first link that has any."""
    if connection.access_key_id:
        keys = Credentials(connection.access_key_id, connection.secret_access_key, connection.session_token)
        return FoundCredentials(keys, link("explicit", ""))
    with mapped_configuration(connection):
        session = ConnectionSession(connection)
        profile = session.get_config_variable("profile") or "default"
        files = [session.get_config_variable(name) for name in ("config_file", "credentials_file")]
        providers = _providers(session, connection)
    for provider in providers:
        asked = link(provider.METHOD, profile)
        with mapped_link(asked):
            credentials = provider.load()
        if credentials is not None:
            return FoundCredentials(credentials, asked, files)
    return None


def _states(paths: Iterable[str]) -> tuple[FileState, ...]:
    return tuple(_state(os.path.expanduser(each)) for each in paths)


def _state(path: str) -> FileState:
    """What changes when a file is written anew, or replaced."""
    try:
        found = Path(path).stat()
    except OSError:
        return (path,)
    return path, found.st_mtime_ns, found.st_size, found.st_ino


# ---------------------------------------------------------------------- the SDK's links, with bounds


def _providers(session: ConnectionSession, connection: S3Connection) -> list[CredentialProvider]:
    """The links of the chain, in the SDK's order."""
    cache: dict[str, Any] = {}
    providers: list[CredentialProvider] = create_credential_resolver(session, cache=cache).providers
    for provider in providers:
        if isinstance(provider, ProcessProvider):
            provider._popen = partial(_Program, limit_s=connection.read_timeout_s)
        elif isinstance(provider, AssumeRoleProvider):
            provider._prompter = _code_from_terminal
            provider._profile_provider_builder = _ProfileLinks(session, cache, limit_s=connection.read_timeout_s)
        elif isinstance(provider, InstanceMetadataProvider):
            # The role of `credential_source` is looked for by the same one.
            fetcher = provider._role_fetcher
            fetcher._session = URLLib3Session(timeout=fetcher._timeout, proxies={})
    return providers


class _ProfileLinks(ProfileProviderBuilder):  # type: ignore[misc,unused-ignore]
    """The links of a `source_profile`."""

    def __init__(self, session: ConnectionSession, cache: dict[str, Any], *, limit_s: float) -> None:
        super().__init__(session, cache)
        self._limit_s = limit_s

    def _create_process_provider(self, profile_name: str) -> ProcessProvider:
        provider = super()._create_process_provider(profile_name)
        provider._popen = partial(_Program, limit_s=self._limit_s)
        return provider


class _Program(subprocess.Popen[bytes]):
    """A `credential_process`. Standard input stays the records'; one that takes longer than `limit_s` is killed."""

    def __init__(self, command: list[str], *, limit_s: float, **given: Any) -> None:
        super().__init__(command, stdin=subprocess.DEVNULL, **given)
        self._limit_s = limit_s

    def communicate(self, input: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:
        try:
            return super().communicate(input, timeout or self._limit_s)
        except subprocess.TimeoutExpired as error:
            self.kill()
            self.wait()
            # What the program has started itself may hold the other ends open.
            for pipe in (self.stdout, self.stderr):
                if pipe is not None:
                    pipe.close()
            raise CredentialRetrievalError(
                provider=ProcessProvider.METHOD, error_msg=f"it did not end within {self._limit_s:g} s (read_timeout_s)"
            ) from error


def _code_from_terminal(prompt: str) -> str:
    """The code of a second factor, asked at the terminal: standard input may be the records'."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError as error:
        raise CredentialRetrievalError(
            provider=AssumeRoleProvider.METHOD,
            error_msg="it wants a code of a second factor (mfa_serial), and there is no terminal to ask at",
        ) from error
    return getpass.getpass(prompt)
