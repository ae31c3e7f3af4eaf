"""The S3 resource: dagster-aws's, with an assumed role, a private authority, and secrets that stay secret.

The only module that imports dagster_aws, which costs as much as Dagster itself. It must not know what is landed.
"""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import dagster as dg
import dagster_aws.s3
from pydantic import Field
from pydantic.config import JsonDict

from s3dest_dagster.connection import S3Connection
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.setting_types import refuse_unknown
from s3dest_dagster.storage import open_client

_SECRET: JsonDict = {"dagster__is_secret": True}
_SECRETS_OF = {"aws_access_key_id": ("aws_secret_access_key", "aws_session_token"), "role_arn": ("external_id",)}
_SECRETS = tuple(chain.from_iterable(_SECRETS_OF.values()))


class S3Resource(dagster_aws.s3.S3Resource):
    """S3 with access keys, with an assumed role, or with the machine's own identity.

    Takes the place of dagster-aws's resource wherever that one is asked for: `get_client()` gives a client of this
    connection. Access keys win over `role_arn`; without either the default chain gives the identity (environment,
    profile, web identity, container, instance profile). An assumed role refreshes itself. Equal configurations share
    one client in a process. Give secrets as `dg.EnvVar`: a literal one would stand in your code, though nowhere else.
    """

    max_attempts: int = Field(default=8, ge=1, description="How often a request is tried, the first time included.")
    aws_secret_access_key: str | None = Field(
        default=None, repr=False, json_schema_extra=_SECRET, description="Secret that belongs to aws_access_key_id."
    )
    aws_session_token: str | None = Field(
        default=None, repr=False, json_schema_extra=_SECRET, description="Session token of temporary access keys."
    )
    role_arn: str | None = Field(default=None, description="Role to assume; access keys win over it.")
    external_id: str | None = Field(
        default=None,
        repr=False,
        json_schema_extra=_SECRET,
        description="External id that the role's trust policy asks for; else AWS_ASSUME_ROLE_EXTERNAL_ID.",
    )
    role_session_name: str = Field(default="s3dest", description="Name of the role's sessions, as CloudTrail shows it.")
    role_duration_s: int = Field(default=3600, description="Life of the role's credentials, 900 to 43200 seconds.")
    sts_endpoint: str | None = Field(default=None, description="Endpoint of STS; else AWS's own.")
    sts_region: str | None = Field(default=None, description="Region of STS; else the region of the bucket.")
    allow_plain_http: bool = Field(default=False, description="Accept an http:// endpoint beyond this machine.")
    ca_bundle: str | None = Field(default=None, description="Path of a private certificate authority's certificates.")
    path_style: bool | None = Field(
        default=None, description="Bucket in the path; by default for custom endpoints only, not for AWS."
    )
    retry_deadline_s: float = Field(
        default=300, gt=0, description="Seconds after which a request that failed is not tried again."
    )
    connect_timeout_s: float = Field(default=10, gt=0, description="Seconds to wait for a connection.")
    read_timeout_s: float = Field(default=60, gt=0, description="Seconds to wait for the next bytes of an answer.")

    def __init__(self, **data: Any) -> None:
        refuse_unknown("S3Resource", data, type(self).model_fields)
        # What is given here becomes a default of the config schema, which the code location shows and every run stores.
        literal = {name: value for name in _SECRETS if (value := data.get(name)) and not isinstance(value, dg.EnvVar)}
        super().__init__(**{name: value for name, value in data.items() if name not in literal})
        self.__dict__.update(literal)
        if not self.use_unsigned_session and not any(isinstance(value, dg.EnvVar) for value in data.values()):
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
        return S3Connection(
            region=self.region_name or "",
            endpoint=self._endpoint(),
            access_key_id=self.aws_access_key_id,
            secret_access_key=self.aws_secret_access_key,
            session_token=self.aws_session_token,
            profile_name=self.profile_name,
            role_arn=self.role_arn,
            external_id=self.external_id,
            role_session_name=self.role_session_name,
            role_duration_s=self.role_duration_s,
            sts_endpoint=self.sts_endpoint or "",
            sts_region=self.sts_region or "",
            allow_plain_http=self.allow_plain_http,
            ca_bundle=self.ca_bundle,
            path_style=self.path_style,
            max_attempts=self.max_attempts,
            retry_deadline_s=self.retry_deadline_s,
            connect_timeout_s=self.connect_timeout_s,
            read_timeout_s=self.read_timeout_s,
        )

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
