"""The environment by which a process of a test reaches a bucket of a test's server."""

from __future__ import annotations

import os

from servers import S3Server

from s3dest_dagster.settings.connection import S3Connection


def server_variables(server: S3Server, bucket: str) -> dict[str, str]:
    """What a test gives its process."""
    return {
        "ENDPOINT": server.endpoint,
        "KEY": server.access_key_id,
        "SECRET": server.secret_access_key,
        "BUCKET": bucket,
    }


def server_of_environment() -> tuple[S3Connection, str]:
    """The connection and the bucket that the process finds there."""
    connection = S3Connection(
        endpoint=os.environ["ENDPOINT"],
        access_key_id=os.environ["KEY"],
        secret_access_key=os.environ["SECRET"],
        region="us-east-1",
    )
    return connection, os.environ["BUCKET"]
