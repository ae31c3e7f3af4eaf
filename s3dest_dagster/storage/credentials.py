"""Finds the credentials of a connection by calling the links of the AWS SDK's chain once, from the beginning.

The links have additional limits: a program must end in time and cannot read standard input, and the metadata service is
never reached through a proxy. Must not keep the credentials (see `clients`), nor show a secret.
"""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError
from botocore.httpsession import URLLib3Session

from s3dest_dagster.errors import CredentialsError, S3DestError
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.storage.error_mapping import describe_error, no_identity
from s3dest_dagster.storage.sessions import ConnectionSession, map_configuration_errors

_EXTERNAL_ID_VARIABLE = "AWS_ASSUME_ROLE_EXTERNAL_ID"
_EXPIRED = datetime(1970, 1, 1, tzinfo=UTC)
_VARIABLES = ("AWS_", "BOTO_CONFIG", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
FileState = tuple[str, int, int, int] | tuple[str]


def aws_variables() -> frozenset[tuple[str, str]]:
    """The environment variables that the AWS SDK reads, with their values."""
    return frozenset(item for item in os.environ.items() if item[0].upper().startswith(_VARIABLES))


# ---------------------------------------------------------------------- the links of the chain


@dataclass(frozen=True, slots=True)
class ChainLink:
    """A link of the credential chain, described for people."""

    name: str
    cure: str
    """What to do if it fails."""


_PROFILE_KEYS = "Give {profile} both aws_access_key_id and aws_secret_access_key."
_LINKS = {
    "explicit": ChainLink("access keys of the settings", "Set access_key_id and secret_access_key."),
    "env": ChainLink(
        "environment (AWS_ACCESS_KEY_ID)", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY both, or neither of them."
    ),
    "assume-role": ChainLink(
        "role of {profile}",
        "Check role_arn, source_profile or credential_source, and external_id of {profile}, that the source may "
        "sts:AssumeRole, sts_endpoint and sts_region.",
    ),
    "assume-role-with-web-identity": ChainLink(
        "web identity",
        "Check AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN (or web_identity_token_file and role_arn of {profile}), "
        "the role's trust policy, sts_endpoint and sts_region.",
    ),
    "sso": ChainLink(
        "single sign-on of {profile}",
        "Sign in with `aws sso login --profile {name}`; if that does not help, check the sso_ keys of {profile}.",
    ),
    "login": ChainLink("sign-in of {profile}", "Sign in with `aws login --profile {name}`."),
    "shared-credentials-file": ChainLink("{profile} of the credentials file", _PROFILE_KEYS),
    "custom-process": ChainLink(
        "program of {profile} (credential_process)",
        "Run the credential_process of {profile} by hand: it must end with exit code 0 and print one JSON object with "
        '"Version": 1, AccessKeyId and SecretAccessKey.',
    ),
    "config-file": ChainLink("{profile} of the configuration file", _PROFILE_KEYS),
    "ec2-credentials-file": ChainLink("file of AWS_CREDENTIAL_FILE", "Check the file that AWS_CREDENTIAL_FILE names."),
    "boto-config": ChainLink("configuration file of boto 2", "Check the file that BOTO_CONFIG names, or remove it."),
    "container-role": ChainLink(
        "container",
        "Check AWS_CONTAINER_CREDENTIALS_FULL_URI or AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, and "
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE or AWS_CONTAINER_AUTHORIZATION_TOKEN, which the container's platform "
        "sets.",
    ),
    "iam-role": ChainLink(
        "instance profile",
        "Check that the instance has a role, and that its metadata service answers (AWS_EC2_METADATA_SERVICE_ENDPOINT, "
        "AWS_METADATA_SERVICE_TIMEOUT).",
    ),
}
"""The links, by the METHOD of botocore's providers."""


def _link(method: str, profile: str) -> ChainLink:
    """The link of a botocore provider, with the name of the profile."""
    link = _LINKS.get(method) or ChainLink(f"{method} of the AWS chain", "Check the AWS configuration.")
    names = {"profile": f"profile {profile!r}", "name": profile}
    return ChainLink(link.name.format(**names), link.cure.format(**names))


@contextmanager
def _map_link_errors(link: ChainLink) -> Iterator[None]:
    """Maps any error of a link to a CredentialsError that names the link and its cure.

    A link runs foreign programs, reads foreign files and calls foreign servers, and does not catch their exceptions.
    """
    try:
        yield
    except S3DestError:
        raise
    except Exception as error:
        text = f"No identity: the {link.name} gives none: {describe_error(error)} {link.cure}"
        raise CredentialsError(text) from error


# ---------------------------------------------------------------------- the result of the chain


class ResolvedCredentials(Credentials):  # type: ignore[misc,unused-ignore]
    """The credentials of a link, and their origin. A failure to renew the credentials raises CredentialsError."""

    def __init__(self, credentials: Credentials, link: ChainLink, files: Iterable[str] = ()) -> None:
        super().__init__("", "", method="found")
        self.source = link.name
        """The link, described for people."""
        self.variables = aws_variables()
        """The environment that the chain read."""
        self.files = _file_states(files)
        """The states of the files that the chain read."""
        self.has_given_keys = False
        self._credentials = credentials
        self._link = link

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        with _map_link_errors(self._link):
            frozen = self._credentials.get_frozen_credentials()
        if not frozen.access_key or not frozen.secret_key:
            raise no_identity()
        self.has_given_keys = True
        return frozen

    def are_files_changed(self) -> bool:
        """Whether one of the files that the chain read has changed since then."""
        return self.files != _file_states(state[0] for state in self.files)

    def accept_files(self) -> None:
        """Treats the files in their current state as the ones that these credentials came from."""
        self.files = _file_states(state[0] for state in self.files)


def _file_states(paths: Iterable[str]) -> tuple[FileState, ...]:
    return tuple(_file_state(os.path.expanduser(path)) for path in paths)


def _file_state(path: str) -> FileState:
    """A value that changes when a file is rewritten or replaced."""
    try:
        stat = Path(path).stat()
    except OSError:
        return (path,)
    return path, stat.st_mtime_ns, stat.st_size, stat.st_ino


def assumes_role(connection: S3Connection) -> bool:
    """Whether the role is assumed. Access keys take precedence over it."""
    return bool(connection.role_arn) and not connection.access_key_id


def resolve_credentials(connection: S3Connection) -> ResolvedCredentials:
    """Returns the credentials of the first link that has any, or of the role that is assumed with them.

    Raises:
        CredentialsError: no link has any, or one fails.
        SettingsError: the AWS configuration is wrong.
    """
    base = _base_credentials(connection)
    if not assumes_role(connection):
        if base is None:
            raise no_identity()
        return base
    if base is None:
        raise CredentialsError(
            f"No identity: there is nobody who could assume {connection.role_arn}. Give the identity that assumes it "
            "as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, as profile_name, or as the machine's "
            "own; access_key_id among the settings would win over the role.",
            setting="role_arn",
        )
    role = _RoleProvider(ConnectionSession(connection, base), connection).load()
    link = ChainLink(f"role {connection.role_arn}, assumed by the {base.source}", "")
    return ResolvedCredentials(role, link, (state[0] for state in base.files))


def _base_credentials(connection: S3Connection) -> ResolvedCredentials | None:
    """The credentials of the settings, or of the chain's first link that has any."""
    if connection.access_key_id:
        keys = Credentials(connection.access_key_id, connection.secret_access_key, connection.session_token)
        return ResolvedCredentials(keys, _link("explicit", ""))
    with map_configuration_errors(connection):
        session = ConnectionSession(connection)
        profile = session.get_config_variable("profile") or "default"
        files = [session.get_config_variable(name) for name in ("config_file", "credentials_file")]
        providers = _providers(session, connection)
    for provider in providers:
        link = _link(provider.METHOD, profile)
        with _map_link_errors(link):
            credentials = provider.load()
        if credentials is not None:
            return ResolvedCredentials(credentials, link, files)
    return None


class _RoleProvider(CredentialProvider):  # type: ignore[misc,unused-ignore]
    """Assumes the role of the settings. `base` is the session that assumes it."""

    METHOD = "assume-role"
    CANONICAL_NAME = "AssumeRole"

    def __init__(self, base: botocore.session.Session, connection: S3Connection) -> None:
        super().__init__()
        self._base = base
        self._connection = connection

    def load(self) -> RefreshableCredentials:
        """Expired credentials: the first use assumes the role.

        In the last quarter of their lifetime a renewal is tried, and in the last sixth it must succeed. For a role of
        an hour these are the SDK's own 15 and 10 minutes. With the SDK's values, a role of 15 minutes would be renewed
        at each request.
        """
        duration = self._connection.role_duration_s
        return RefreshableCredentials(
            access_key="",
            secret_key="",
            token="",
            expiry_time=_EXPIRED,
            refresh_using=self._assume,
            method=self.METHOD,
            advisory_timeout=min(900, duration // 4),
            mandatory_timeout=min(600, duration // 6),
        )

    def _assume(self) -> dict[str, str]:
        try:
            answer = self._base.create_client("sts").assume_role(**self._request())["Credentials"]
        except (ClientError, BotoCoreError) as error:
            raise CredentialsError(
                f"No identity: {self._connection.role_arn} could not be assumed: {describe_error(error)} Check "
                "role_arn, external_id, the role's trust policy, that the base identity may sts:AssumeRole, "
                "sts_endpoint and sts_region.",
                setting="role_arn",
            ) from error
        return {
            "access_key": answer["AccessKeyId"],
            "secret_key": answer["SecretAccessKey"],
            "token": answer["SessionToken"],
            "expiry_time": answer["Expiration"].isoformat(),
        }

    def _request(self) -> dict[str, Any]:
        connection = self._connection
        external_id = connection.external_id or os.environ.get(_EXTERNAL_ID_VARIABLE)
        return {
            "RoleArn": connection.role_arn,
            "RoleSessionName": connection.role_session_name,
            "DurationSeconds": connection.role_duration_s,
            **({"ExternalId": external_id} if external_id else {}),
        }


# ---------------------------------------------------------------------- botocore's providers, with bounds


def _providers(session: ConnectionSession, connection: S3Connection) -> list[CredentialProvider]:
    """The providers of the chain, in the SDK's order. botocore has no public way to give them these bounds."""
    cache: dict[str, Any] = {}
    providers: list[CredentialProvider] = create_credential_resolver(session, cache=cache).providers
    for provider in providers:
        if isinstance(provider, ProcessProvider):
            provider._popen = partial(_BoundedProcess, limit_s=connection.read_timeout_s)
        elif isinstance(provider, AssumeRoleProvider):
            provider._prompter = _ask_at_terminal
            provider._profile_provider_builder = _BoundedBuilder(session, cache, limit_s=connection.read_timeout_s)
        elif isinstance(provider, InstanceMetadataProvider):
            # The role of a profile's `credential_source` uses the same fetcher.
            fetcher = provider._role_fetcher
            fetcher._session = URLLib3Session(timeout=fetcher._timeout, proxies={})
    return providers


class _BoundedBuilder(ProfileProviderBuilder):  # type: ignore[misc,unused-ignore]
    """Builds the providers of a `source_profile`."""

    def __init__(self, session: ConnectionSession, cache: dict[str, Any], *, limit_s: float) -> None:
        super().__init__(session, cache)
        self._limit_s = limit_s

    def _create_process_provider(self, profile_name: str) -> ProcessProvider:
        provider = super()._create_process_provider(profile_name)
        provider._popen = partial(_BoundedProcess, limit_s=self._limit_s)
        return provider


class _BoundedProcess(subprocess.Popen[bytes]):
    """A `credential_process` without standard input, because records may arrive there. Killed after `limit_s`."""

    def __init__(self, command: list[str], *, limit_s: float, **options: Any) -> None:
        super().__init__(command, stdin=subprocess.DEVNULL, **options)
        self._limit_s = limit_s

    def communicate(self, input: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:
        try:
            return super().communicate(input, timeout or self._limit_s)
        except subprocess.TimeoutExpired as error:
            self.kill()
            self.wait()
            # Child processes of the program may hold the other ends open.
            for pipe in (self.stdout, self.stderr):
                if pipe is not None:
                    pipe.close()
            raise CredentialRetrievalError(
                provider=ProcessProvider.METHOD, error_msg=f"it did not end within {self._limit_s:g} s (read_timeout_s)"
            ) from error


def _ask_at_terminal(prompt: str) -> str:
    """Asks for the code of a second factor. Never reads standard input, because records may arrive there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError as error:
        raise CredentialRetrievalError(
            provider=AssumeRoleProvider.METHOD,
            error_msg="it needs the code of a second factor (mfa_serial), and there is no terminal to ask for it",
        ) from error
    return getpass.getpass(prompt)
