"""As whom a connection acts: which link of the chain gave the identity, in people's words, and what STS calls it.

It shows access key ids and ARNs, never a secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from s3dest_dagster.settings.connection import S3Connection, is_aws
from s3dest_dagster.storage.clients import open_client
from s3dest_dagster.storage.credential_chain import assumes_role, find
from s3dest_dagster.storage.sessions import ConnectionSession

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
    found = find(connection)
    keys = found.get_frozen_credentials()
    return Identity(found.source, keys.access_key, *_caller(ConnectionSession(connection, found), connection))


def _caller(session: ConnectionSession, connection: S3Connection) -> tuple[str | None, str]:
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


def _impatient(session: ConnectionSession, connection: S3Connection) -> Any:
    config = Config(
        connect_timeout=min(_LONGEST_WAIT_S, connection.connect_timeout_s),
        read_timeout=min(_LONGEST_WAIT_S, connection.read_timeout_s),
        retries={"mode": "standard", "total_max_attempts": 1},
    )
    return session.create_client("sts", config=config)
