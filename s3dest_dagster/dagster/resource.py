"""The S3 resource: dagster-aws's, with an assumed role, a private authority, and secrets that stay secret.

The only module that imports dagster_aws, which costs as much as Dagster itself. It must not know what is landed.
"""

from collections.abc import Mapping
from dataclasses import Field, fields
from itertools import chain
from typing import Any

import dagster_aws.s3
from pydantic import create_model

from s3dest_dagster.dagster.config import check_variables, config_fields, holds_variable
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.fields import about, refuse_unknown
from s3dest_dagster.storage import open_client

_SECRETS_OF = {"aws_access_key_id": ("aws_secret_access_key", "aws_session_token"), "role_arn": ("external_id",)}
_SECRETS = tuple(chain.from_iterable(_SECRETS_OF.values()))


_OF_DAGSTER_AWS = ("region_name", "endpoint_url", "aws_access_key_id", "profile_name")
"""Settings of a connection that are as dagster-aws has them."""


def resource_name(setting: Field[Any]) -> str:
    """What the resource calls a setting of a connection."""
    return about(setting).resource or setting.name


def _fields() -> dict[str, Any]:
    """The settings of a connection as the resource's; None stands for a text that is not given, as in dagster-aws."""
    found = config_fields(S3Connection, name=resource_name, without=_OF_DAGSTER_AWS)
    return {name: (kind | None if kind is str else kind, field) for name, (kind, field) in found.items()}


_ConnectionSettings: Any = create_model(
    "_ConnectionSettings", __base__=dagster_aws.s3.S3Resource, __module__=__name__, **_fields()
)


class S3Resource(_ConnectionSettings):  # type: ignore[misc]
    """S3 with access keys, with an assumed role, or with the machine's own identity.

    Takes the place of dagster-aws's resource wherever that one is asked for: `get_client()` gives a client of this
    connection. Access keys win over `role_arn`; without either the default chain gives the identity (environment,
    profile, web identity, container, instance profile). An assumed role refreshes itself. Equal configurations share
    one client in a process. Give secrets as `dg.EnvVar`: a literal one would stand in your code, though nowhere else.
    """

    def __init__(self, **data: Any) -> None:
        refuse_unknown("S3Resource", data, type(self).model_fields)
        check_variables("S3Resource", data, type(self).model_fields)
        # What is given here becomes a default of the config schema, which the code location shows and every run stores.
        literal = {name: value for name in _SECRETS if (value := data.get(name)) and not holds_variable(value)}
        super().__init__(**{name: value for name, value in data.items() if name not in literal})
        self.__dict__.update(literal)
        if not self.use_unsigned_session and not holds_variable(data):
            self.connection()

    def _with_updated_values(self, values: Mapping[str, Any] | None) -> Any:
        """Dagster's way from the resource of the code to the one of a run. `values` are the schema's, which know no
        literal secret: those stay with the identity that they belong to, unless the run gives it others."""
        given, own = dict(values or {}), dict[str, Any]()
        for identity, names in _SECRETS_OF.items():
            same = given.get(identity, getattr(self, identity)) == getattr(self, identity)
            if same and not any(given.get(name) for name in names):
                own |= {name: getattr(self, name) for name in names}
        return super()._with_updated_values(given | own)

    def connection(self) -> S3Connection:
        """The connection in plain values. Raises SettingsError when the settings contradict each other."""
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
        values = {each.name: getattr(self, resource_name(each)) for each in fields(S3Connection)}
        given = {name: value for name, value in values.items() if value is not None}
        return S3Connection(**{**given, "endpoint": self._endpoint()})

    def get_client(self) -> Any:
        """A boto3 S3 client of this connection; an unsigned one is dagster-aws's own."""
        return super().get_client() if self.use_unsigned_session else open_client(self.connection())

    def _endpoint(self) -> str:
        """The endpoint, with the scheme that `use_ssl` asks for where it has none."""
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
