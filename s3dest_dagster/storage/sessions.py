"""Sessions of the AWS SDK that keep a connection's rules, whichever link of the credential chain uses them.

Every client of such a session checks certificates, reaches STS where the connection says, and refuses plain http
beyond this machine, also to an endpoint that the environment or a profile names. It must not log or show a secret.
"""

from __future__ import annotations

import logging
import os
import ssl
from functools import lru_cache
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import CredentialResolver
from botocore.loaders import Loader

from s3dest_dagster.connection import S3Connection, is_loopback
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.storage.faults import mapped_session
from s3dest_dagster.storage.role import RoleProvider

DEFAULT_REGION = "us-east-1"
_CONFIGURED_ENDPOINT = "the endpoint in the AWS configuration (AWS_ENDPOINT_URL, or a profile's)"
_CONFIGURED_BUNDLE = "the ca_bundle of the AWS configuration (AWS_CA_BUNDLE, or a profile's)"
_logger = logging.getLogger("s3dest_dagster.storage")


def base_session(connection: S3Connection) -> boto3.Session:
    """The session of the access keys, or of the default chain. CredentialsError where a profile is not there."""
    with mapped_session():
        return boto3.Session(
            aws_access_key_id=connection.access_key_id,
            aws_secret_access_key=connection.secret_access_key,
            aws_session_token=connection.session_token,
            region_name=connection.region or None,
            botocore_session=_Session(connection),
        )


def acting_session(connection: S3Connection, base: boto3.Session) -> boto3.Session:
    """The session that requests are signed by: `base`, or one that acts as the role which `base` assumes."""
    if not assumes_role(connection):
        return base
    session = _Session(connection)
    session.register_component("credential_provider", CredentialResolver([RoleProvider(base, connection)]))
    return boto3.Session(botocore_session=session, region_name=connection.region or base.region_name)


def assumes_role(connection: S3Connection) -> bool:
    """Whether the role is assumed: access keys win over it."""
    return bool(connection.role_arn) and not connection.access_key_id


class _Session(botocore.session.Session):  # type: ignore[misc,unused-ignore]
    """A session whose clients keep the connection's rules, those included that its chain makes for itself."""

    def __init__(self, connection: S3Connection) -> None:
        super().__init__()
        self._connection = connection
        if connection.profile_name:
            self.set_config_variable("profile", connection.profile_name)
        self.lazy_register_component("data_loader", lambda: _service_models(self.get_config_variable("data_path")))
        self.set_config_variable("ca_bundle", self._authorities())

    def create_client(self, service_name: str, *arguments: Any, **given: Any) -> Any:
        """A client of the service, with what the connection says of STS."""
        if service_name == "sts":
            given |= self._of_sts(given.get("region_name"), given.get("config"))
        client = super().create_client(service_name, *arguments, **given)
        _accept(self._connection, client.meta.endpoint_url, _CONFIGURED_ENDPOINT)
        return client

    def _of_sts(self, region: str | None, config: Config | None) -> dict[str, Any]:
        connection = self._connection
        region = connection.sts_region or region or self.get_config_variable("region") or DEFAULT_REGION
        ours = Config(connect_timeout=connection.connect_timeout_s, read_timeout=connection.read_timeout_s)
        settings: dict[str, Any] = {"region_name": region, "config": ours.merge(config) if config else ours}
        return settings | ({"endpoint_url": connection.sts_endpoint} if connection.sts_endpoint else {})

    def _authorities(self) -> str | bool:
        """The file of the certificate authorities to trust, or True for the public ones: never nothing.

        What is set empty is as good as not set: the SDK would take it for a wish not to check.
        """
        for name, path in (
            ("ca_bundle", self._connection.ca_bundle),
            (_CONFIGURED_BUNDLE, self.get_config_variable("ca_bundle")),
            ("REQUESTS_CA_BUNDLE", os.environ.get("REQUESTS_CA_BUNDLE")),
        ):
            if path and path.strip():
                return _readable(path.strip(), name)
        return True


class _ServiceModels(Loader):  # type: ignore[misc,unused-ignore]
    """The descriptions of AWS's services, read once; what a session adds to the places to look in stays out."""

    @property
    def search_paths(self) -> list[str]:
        return list(super().search_paths)


@lru_cache(maxsize=8)
def _service_models(data_path: str | None) -> Loader:
    """One for all sessions of a process, since reading them is most of what a client costs."""
    paths = data_path.split(os.pathsep) if data_path else []
    return _ServiceModels(extra_search_paths=[os.path.expanduser(os.path.expandvars(each)) for each in paths])


def _readable(path: str, setting: str) -> str:
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        raise SettingsError(
            f"{setting} names {path!r}, which cannot be read as certificates: {error.strerror or error}. Name a file "
            "with the PEM certificates of the authority.",
            setting="ca_bundle",
        ) from error
    return path


def _accept(connection: S3Connection, endpoint: str, named_by: str) -> None:
    """Returns when requests may go to this endpoint; what travels unencrypted is told once."""
    if connection.accepted(endpoint, named_by).startswith("http://"):
        tell_once(endpoint)


@lru_cache(maxsize=64)
def tell_once(endpoint: str) -> None:
    """Tells that what is sent to this endpoint travels unencrypted; a warning where it leaves the machine."""
    level = logging.INFO if is_loopback(endpoint) else logging.WARNING
    _logger.log(level, "%s does not use HTTPS: data and signatures travel unencrypted.", endpoint)
