"""`S3Resource`: dagster-aws's resource plus an assumed role, a private certificate authority, and protected secrets.

The only module that imports dagster_aws, because importing it takes as long as importing Dagster itself. Must not know:
what lands.
"""

from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any

import dagster_aws.s3
from pydantic import create_model

from s3dest_dagster.dagster.config import check_variables, config_fields, holds_variable
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.fields import about, refuse_unknown
from s3dest_dagster.storage import open_client

_OF_DAGSTER_AWS = ("region_name", "endpoint_url", "aws_access_key_id", "profile_name")
"""Settings that dagster-aws already has."""


def _resource_name(setting: Field[Any]) -> str:
    return about(setting).resource or setting.name


_RESOURCE_NAMES = {setting.name: _resource_name(setting) for setting in fields(S3Connection)}
_IDENTITIES = {
    _resource_name(setting): _RESOURCE_NAMES[about(setting).needs]
    for setting in fields(S3Connection)
    if about(setting).secret
}
"""Each secret with the setting that says whose it is."""


def _fields() -> dict[str, Any]:
    """The settings of a connection as fields of the resource. As in dagster-aws, None means that a text is not
    given."""
    own = config_fields(S3Connection, name=_resource_name, without=_OF_DAGSTER_AWS)
    return {name: (kind | None if kind is str else kind, field) for name, (kind, field) in own.items()}


_ConnectionSettings: Any = create_model(
    "_ConnectionSettings", __base__=dagster_aws.s3.S3Resource, __module__=__name__, **_fields()
)


class S3Resource(_ConnectionSettings):  # type: ignore[misc]
    """S3 with access keys, an assumed role that refreshes itself, or the machine's own identity.

    It works wherever dagster-aws's resource does: `get_client()` returns a client of this connection. Access keys take
    precedence over `role_arn`. Without either, the default chain provides the identity (environment, profile, web
    identity, container, instance profile). Equal configurations share one client in a process. Give secrets as
    `dg.EnvVar`: a literal secret is in your code, although it is shown and stored nowhere else.

    Args:
        data: The settings of dagster-aws's resource and of `S3Connection`, described in docs/credentials.md.

    Raises:
        SettingsError: If a setting is unknown or wrong, or if settings contradict each other.

    Example:
        import dagster as dg
        from s3dest_dagster import S3DestinationIOManager, S3Resource

        s3 = S3Resource(region_name="eu-central-1", role_arn="arn:aws:iam::123456789012:role/landing")
        io_manager = S3DestinationIOManager(s3_bucket_name="my-bucket", s3=s3)
        defs = dg.Definitions(resources={"io_manager": io_manager, "s3": s3})
    """

    def __init__(self, **data: Any) -> None:
        refuse_unknown("S3Resource", data, type(self).model_fields)
        check_variables("S3Resource", data, type(self).model_fields)
        # Values that are passed on become defaults of the config schema, which the web interface shows and each run
        # stores.
        literal = {name: value for name in _IDENTITIES if (value := data.get(name)) and not holds_variable(value)}
        super().__init__(**{name: value for name, value in data.items() if name not in literal})
        self.__dict__.update(literal)
        if not self.use_unsigned_session and not holds_variable(data):
            self.connection()

    def _with_updated_values(self, values: Mapping[str, Any] | None) -> Any:
        """Creates the resource of a run from the resource in the code. Dagster calls this method.

        `values` come from the config schema, which does not contain the literal secrets. These are kept if the run has
        the identity that they belong to, and no other secrets for it.
        """
        given, own = dict(values or {}), dict[str, Any]()
        for identity in set(_IDENTITIES.values()):
            names = [secret for secret, whose in _IDENTITIES.items() if whose == identity]
            same = given.get(identity, getattr(self, identity)) == getattr(self, identity)
            if same and not any(given.get(name) for name in names):
                own |= {name: getattr(self, name) for name in names}
        return super()._with_updated_values(given | own)

    def connection(self) -> S3Connection:
        """The connection as plain values. Raises SettingsError if the settings contradict each other."""
        if self.use_unsigned_session:
            raise SettingsError(
                "use_unsigned_session is for reading public buckets; landing needs an identity. Leave it out.",
                setting="use_unsigned_session",
            )
        if self.verify is False:
            raise SettingsError(
                "verify=False would accept any server. For a private certificate authority set ca_bundle to the path "
                "of its certificates; for a server without TLS write an http:// endpoint_url.",
                setting="verify",
            )
        values = {name: getattr(self, own) for name, own in _RESOURCE_NAMES.items()}
        given = {name: value for name, value in values.items() if value is not None}
        return S3Connection(**{**given, "endpoint": self._endpoint()})

    def get_client(self) -> Any:
        """A boto3 S3 client of this connection. An unsigned client comes from dagster-aws."""
        return super().get_client() if self.use_unsigned_session else open_client(self.connection())

    def _endpoint(self) -> str:
        """The endpoint. If it has no scheme, `use_ssl` determines the scheme."""
        endpoint = (self.endpoint_url or "").strip()
        if self.use_ssl or endpoint.startswith("http://"):
            return endpoint
        if not endpoint or "://" in endpoint:
            raise SettingsError(
                "use_ssl=False needs an endpoint_url that speaks plain http; AWS and https:// endpoints do not. "
                "Leave use_ssl out.",
                setting="use_ssl",
            )
        return f"http://{endpoint}"
