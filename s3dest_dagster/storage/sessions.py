"""AWS SDK sessions that enforce a connection's rules, whichever link of the credential chain uses them.

Every client of such a session checks certificates, uses the connection's STS endpoint, refuses plain http to other
machines even if the environment or a profile names the endpoint, and connects to this machine without a proxy. Must not
log or show a secret.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import botocore.session
from botocore import exceptions as boto
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.loaders import Loader
from botocore.utils import get_environ_proxies

from s3dest_dagster.errors import CredentialsError, S3DestError, SettingsError
from s3dest_dagster.printable import logger
from s3dest_dagster.settings.connection import S3Connection, is_loopback
from s3dest_dagster.storage.error_mapping import describe_error

DEFAULT_REGION = "us-east-1"
_CONFIGURED_ENDPOINT = "endpoint_url of the profile in the AWS configuration"
_CONFIGURED_BUNDLE = "the ca_bundle of the AWS configuration (AWS_CA_BUNDLE, or a profile's)"
_SECRET_VARIABLES = ("SECRET", "TOKEN", "ACCESS_KEY", "EXTERNAL_ID")
_logger = logger("storage")


class ConnectionSession(botocore.session.Session):  # type: ignore[misc,unused-ignore]
    """A session whose clients follow the connection's rules, including the clients that its credential chain creates.

    Clients sign with `credentials` or, without them, with those of the SDK's chain.
    """

    def __init__(self, connection: S3Connection, credentials: Credentials | None = None) -> None:
        super().__init__()
        self._connection = connection
        if credentials is not None:
            self._credentials = credentials
        for name, value in (("profile", connection.profile_name), ("region", connection.region)):
            if value:
                self.set_config_variable(name, value)
        self.lazy_register_component("data_loader", lambda: _service_models(self.get_config_variable("data_path")))
        self.set_config_variable("ca_bundle", self._ca_bundle())

    def create_client(self, service_name: str, *arguments: Any, **options: Any) -> Any:
        """A client of the service, with the connection's timeouts, STS endpoint and certificates.

        Raises:
            SettingsError: the AWS configuration is wrong, or names a plain http endpoint on another machine.
            CredentialsError: the profile does not exist.
        """
        connection = self._connection
        timeouts = Config(connect_timeout=connection.connect_timeout_s, read_timeout=connection.read_timeout_s)
        options["config"] = _merge(timeouts, options.get("config"))
        if service_name == "sts":
            options |= self._sts_options(options.get("region_name"))
        with map_configuration_errors(connection):
            client = super().create_client(service_name, *arguments, **options)
            endpoint = client.meta.endpoint_url
            if connection.accepted(endpoint, self._origin_of_endpoint(service_name)).startswith("http://"):
                log_plain_http(endpoint)
            if is_loopback(endpoint) and get_environ_proxies(endpoint):
                # A proxy on another machine would look for the server on that machine, and read the data.
                options["config"] = _merge(options["config"], Config(proxies={}))
                client = super().create_client(service_name, *arguments, **options)
        return client

    def get_auth_token(self, **_: Any) -> None:
        """None: no service that is used here accepts a bearer token. botocore would look for one in the profile."""

    def _sts_options(self, region: str | None) -> dict[str, Any]:
        connection = self._connection
        region = connection.sts_region or region or self.get_config_variable("region") or DEFAULT_REGION
        return {"region_name": region} | ({"endpoint_url": connection.sts_endpoint} if connection.sts_endpoint else {})

    def _origin_of_endpoint(self, service_name: str) -> str:
        """The source of a service's endpoint if it is not in the settings."""
        for variable in (f"AWS_ENDPOINT_URL_{service_name.upper().replace('-', '_')}", "AWS_ENDPOINT_URL"):
            if os.environ.get(variable):
                return f"{variable} of the environment"
        return _CONFIGURED_ENDPOINT

    def _ca_bundle(self) -> str | bool:
        """The file of the certificate authorities to trust, or True for the public ones. Never empty.

        An empty setting counts as not set, because the SDK would stop checking certificates.
        """
        for name, path in (
            ("ca_bundle", self._connection.ca_bundle),
            (_CONFIGURED_BUNDLE, self.get_config_variable("ca_bundle")),
            ("REQUESTS_CA_BUNDLE", os.environ.get("REQUESTS_CA_BUNDLE")),
        ):
            if path and path.strip():
                return _check_bundle(path.strip(), name)
        return True


class _ServiceModels(Loader):  # type: ignore[misc,unused-ignore]
    """The descriptions of AWS's services, read once. A session that adds a search path does not change them."""

    @property
    def search_paths(self) -> list[str]:
        return list(super().search_paths)


@lru_cache(maxsize=8)
def _service_models(data_path: str | None) -> Loader:
    """One loader for all sessions of a process: reading the models is the largest part of a client's cost."""
    paths = data_path.split(os.pathsep) if data_path else []
    return _ServiceModels(extra_search_paths=[os.path.expanduser(os.path.expandvars(path)) for path in paths])


def _merge(config: Config, wins: Config | None) -> Config:
    return config.merge(wins) if wins else config


def _check_bundle(path: str, setting: str) -> str:
    """Returns the path if the file can be read as certificates. Otherwise raises SettingsError."""
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        raise SettingsError(
            f"{setting} names {path!r}, which cannot be read as certificates: {error.strerror or error}. Name a file "
            "with the PEM certificates of the authority.",
            setting="ca_bundle",
        ) from error
    return path


@lru_cache(maxsize=64)
def log_plain_http(endpoint: str) -> None:
    """Logs, once per endpoint, that data travels unencrypted: a warning if it leaves this machine."""
    level = logging.INFO if is_loopback(endpoint) else logging.WARNING
    _logger.log(level, "%s does not use HTTPS: data and signatures travel unencrypted.", endpoint)


# ---------------------------------------------------------------------- a wrong AWS configuration


@contextmanager
def map_configuration_errors(connection: S3Connection) -> Iterator[None]:
    """Maps the errors of botocore when it creates a session or a client, which reads the AWS configuration.

    A missing profile becomes a CredentialsError. Any other mistake becomes a SettingsError that names the setting, the
    environment variable, or the files.
    """
    try:
        yield
    except S3DestError:
        raise
    except boto.ProfileNotFound as error:
        raise CredentialsError(
            f"No identity: {describe_error(error)} Correct profile_name or AWS_PROFILE, or add the profile to the "
            "files of AWS_CONFIG_FILE or AWS_SHARED_CREDENTIALS_FILE (~/.aws/config and ~/.aws/credentials without "
            "them).",
            setting="profile_name",
        ) from error
    except (boto.BotoCoreError, ValueError, OSError) as error:
        raise _map_configuration_error(error, connection) from error


def _map_configuration_error(error: Exception, connection: S3Connection) -> SettingsError:
    text = describe_error(error)
    settings = {
        "s3_endpoint": connection.endpoint,
        "sts_endpoint": connection.sts_endpoint,
        "s3_bucket_region": connection.region,
        "sts_region": connection.sts_region,
    }
    if (name := _named_in(text, settings)) is not None:
        return SettingsError(f"{name} is wrong: {text} Correct it.", setting=name)
    variables = {name: value for name, value in os.environ.items() if _may_be_shown(name)}
    if (name := _named_in(text, variables)) is not None:
        form = ", and write it like https://minio.example.com:9000" if "ENDPOINT" in name else ""
        return SettingsError(f"{name} of the environment is wrong: {text} Correct it{form}, or unset it.", setting=name)
    return SettingsError(
        f"The AWS configuration is wrong: {text} Correct the AWS variables of the environment, or the profile in the "
        "files of AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE (~/.aws/config and ~/.aws/credentials without them)."
    )


def _may_be_shown(variable: str) -> bool:
    """Whether it is an SDK variable that does not hold a secret."""
    return variable.startswith("AWS_") and not any(part in variable for part in _SECRET_VARIABLES)


def _named_in(text: str, values: dict[str, str]) -> str | None:
    """The name whose value the text quotes. If there are several, the longest value. The surrounding wording does not
    matter."""
    quoted = [(len(value), name) for name, value in values.items() if value and value in text]
    return max(quoted)[1] if quoted else None
