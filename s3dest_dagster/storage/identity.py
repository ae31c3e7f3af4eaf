"""As whom a connection acts: which link of the chain gave the identity, in people's words, and what STS calls it.

It shows access key ids and ARNs, never a secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from s3dest_dagster.connection import S3Connection, is_aws
from s3dest_dagster.errors import CredentialsError
from s3dest_dagster.storage.credentials import open_client
from s3dest_dagster.storage.faults import mapped_session
from s3dest_dagster.storage.sessions import acting_session, assumes_role, base_session

_LINKS = {
    "explicit": "access keys of the settings",
    "env": "environment (AWS_ACCESS_KEY_ID)",
    "assume-role": "role of {profile}",
    "assume-role-with-web-identity": "web identity",
    "sso": "single sign-on of {profile}",
    "login": "sign-in of {profile}",
    "shared-credentials-file": "{profile} of the credentials file",
    "custom-process": "program of {profile} (credential_process)",
    "config-file": "{profile} of the configuration file",
    "ec2-credentials-file": "file of AWS_CREDENTIAL_FILE",
    "boto-config": "configuration file of boto 2",
    "container-role": "container",
    "iam-role": "instance profile",
}
"""The links of the SDK's chain by its own names for them."""
_LONGEST_WAIT_S = 3


@dataclass(frozen=True, slots=True)
class Identity:
    """Where the credentials came from, in words, and the access key id that they act with (never a secret).

    `arn` is whom they act as, None when it is not known; `unknown` then says why.
    """

    source: str
    access_key_id: str
    arn: str | None = None
    unknown: str = ""


def identity(connection: S3Connection) -> Identity:
    """Which link of the chain gave the identity, and as whom it acts: STS is asked once, for a few seconds at most.

    Raises CredentialsError when no link gave one, or a role is refused.
    """
    base = base_session(connection)
    session = acting_session(connection, base)
    with mapped_session():
        credentials = session.get_credentials()
        frozen = credentials and credentials.get_frozen_credentials()
        if not frozen or not frozen.access_key:
            raise CredentialsError(
                "No identity: neither access keys, nor a role, nor the default chain (environment, profile, web "
                "identity, container, instance profile) gave credentials. Set access_key_id and secret_access_key, or "
                "role_arn."
            )
        source = _link(base, base.get_credentials().method)
        if assumes_role(connection):
            source = f"role {connection.role_arn}, assumed by the {source}"
        return Identity(source, frozen.access_key, *_caller(session, connection))


def _link(session: boto3.Session, method: str) -> str:
    return _LINKS.get(method, f"{method} of the AWS chain").format(profile=f"profile {session.profile_name!r}")


def _caller(session: boto3.Session, connection: S3Connection) -> tuple[str | None, str]:
    """The ARN of who asks, or why it is not known. It needs no permission."""
    sts = _impatient(session, connection)
    endpoint = sts.meta.endpoint_url
    if is_aws(endpoint) and not assumes_role(connection) and not is_aws(open_client(connection).meta.endpoint_url):
        return None, "sts_endpoint is not set"
    try:
        return str(sts.get_caller_identity()["Arn"]), ""
    except ClientError as error:
        return None, f"{endpoint} refused to tell: {error.response.get('Error', {}).get('Code', 'without a reason')}"
    except BotoCoreError:
        return None, f"{endpoint} did not answer"


def _impatient(session: boto3.Session, connection: S3Connection) -> Any:
    config = Config(
        connect_timeout=min(_LONGEST_WAIT_S, connection.connect_timeout_s),
        read_timeout=min(_LONGEST_WAIT_S, connection.read_timeout_s),
        retries={"total_max_attempts": 1},
    )
    return session.client("sts", config=config)
