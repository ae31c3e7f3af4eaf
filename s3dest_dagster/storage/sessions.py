"""Sessions of the AWS SDK that keep a connection's rules, whichever link of the credential chain uses them.

Every client of such a session checks certificates, reaches STS where the connection says, refuses plain http beyond
this machine, also to an endpoint that the environment or a profile names, and reaches this machine without a proxy. It
must not log or show a secret.
"""

from __future__ import annotations

import logging
import os
import ssl
from functools import lru_cache
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.loaders import Loader
from botocore.utils import get_environ_proxies

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.printable import logger
from s3dest_dagster.settings.connection import S3Connection, is_loopback
from s3dest_dagster.storage.credential_errors import mapped_configuration

DEFAULT_REGION = "us-east-1"
_CONFIGURED_ENDPOINT = "endpoint_url of the profile in the AWS configuration"
_CONFIGURED_BUNDLE = "the ca_bundle of the AWS configuration (AWS_CA_BUNDLE, or a profile's)"
_logger = logger("storage")


class ConnectionSession(botocore.session.Session):  # type: ignore[misc,unused-ignore]
    """A session whose clients keep the connection's rules, those included that its chain makes for itself.

    They sign by `credentials`; without them by what the SDK's chain gives.
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
        self.set_config_variable("ca_bundle", self._authorities())

    def create_client(self, service_name: str, *arguments: Any, **given: Any) -> Any:
        """A client of the service, with what the connection says of STS and of waiting."""
        connection = self._connection
        waiting = Config(connect_timeout=connection.connect_timeout_s, read_timeout=connection.read_timeout_s)
        given["config"] = _merged(waiting, given.get("config"))
        if service_name == "sts":
            given |= self._of_sts(given.get("region_name"))
        with mapped_configuration(self._connection):
            client = super().create_client(service_name, *arguments, **given)
            endpoint = client.meta.endpoint_url
            _accept(self._connection, endpoint, self._named_by(service_name))
            if is_loopback(endpoint) and get_environ_proxies(endpoint):
                # A proxy elsewhere would look for the server on its own machine, and read what is sent.
                given["config"] = _merged(given["config"], Config(proxies={}))
                client = super().create_client(service_name, *arguments, **given)
        return client

    def get_auth_token(self, **_: Any) -> None:
        """None: no service that is asked here takes a bearer token, which would be looked for in the profile."""

    def _of_sts(self, region: str | None) -> dict[str, Any]:
        connection = self._connection
        region = connection.sts_region or region or self.get_config_variable("region") or DEFAULT_REGION
        return {"region_name": region} | ({"endpoint_url": connection.sts_endpoint} if connection.sts_endpoint else {})

    def _named_by(self, service_name: str) -> str:
        """Who names the endpoint of a service where the settings do not."""
        for variable in (f"AWS_ENDPOINT_URL_{service_name.upper().replace('-', '_')}", "AWS_ENDPOINT_URL"):
            if os.environ.get(variable):
                return f"{variable} of the environment"
        return _CONFIGURED_ENDPOINT

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


def _merged(config: Config, wins: Config | None) -> Config:
    return config.merge(wins) if wins else config


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
