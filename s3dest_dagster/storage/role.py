"""A role's credentials, assumed when they are first needed and again before they end.

It must not know what the role may do, and never shows the external id.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import botocore.session
from botocore.credentials import CredentialProvider, RefreshableCredentials

from s3dest_dagster.connection import S3Connection
from s3dest_dagster.storage.chain_faults import mapped_role

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
