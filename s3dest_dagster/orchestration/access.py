"""How a destination reaches its bucket: from whatever a user gives as `s3`.

It must not import dagster_aws before somebody needs it, since that costs as much as Dagster itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import dagster as dg

from s3dest_dagster.connection import S3Connection
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.storage import Bucket, Patience, open_bucket

_RESOURCE_NAMES = {
    "region": "region_name",
    "endpoint": "endpoint_url",
    "access_key_id": "aws_access_key_id",
    "secret_access_key": "aws_secret_access_key",
    "session_token": "aws_session_token",
}
"""What `S3Resource` calls the settings of `S3Connection`, where it has another name for them."""
_BESIDE_THE_CLIENTS_OWN = Patience(max_attempts=3)
"""A client that is not ours tries again by itself, but for answers that are cut short."""
_CONNECTOR_NAMES = {"s3_bucket_region": "region", "s3_endpoint": "endpoint"}


def reach(s3: Any, bucket: str, *, region: str, endpoint: str) -> Bucket:
    """The bucket as `s3` reaches it: None (the machine's own identity), an S3Connection, an S3Resource, or anything
    with `get_client()`. `region` and `endpoint` are the destination's own, "" for none.

    Raises SettingsError where they contradict `s3`.
    """
    if s3 is None:
        s3 = S3Connection()
    elif hasattr(s3, "connection"):
        s3 = s3.connection()
    if isinstance(s3, S3Connection):
        return open_bucket(_joined(s3, region, endpoint), bucket)
    if not hasattr(s3, "get_client"):
        raise SettingsError(
            f"s3 is a {type(s3).__name__}, which cannot reach a bucket. Give an S3Resource or an S3Connection.",
            setting="s3",
        )
    if region or endpoint:
        setting = "s3_bucket_region" if region else "s3_endpoint"
        raise SettingsError(
            f"{setting} has no effect on the client of a {type(s3).__name__}: set it there, or give s3dest_dagster's "
            "S3Resource.",
            setting=setting,
        )
    return Bucket(s3.get_client(), bucket, _BESIDE_THE_CLIENTS_OWN)


def _joined(connection: S3Connection, region: str, endpoint: str) -> S3Connection:
    """The connection with the destination's own region and endpoint, where it says them."""
    own = replace(connection, region=region or connection.region, endpoint=endpoint or connection.endpoint)
    for setting, theirs, ours in (
        ("s3_bucket_region", connection.region, own.region),
        ("s3_endpoint", connection.endpoint, own.endpoint),
    ):
        if theirs and theirs != ours:
            raise SettingsError(
                f"{setting} is {ours!r}, and the S3 resource says {theirs!r}. Say it in one place.", setting=setting
            )
    return own


def connector_access(config: Mapping[str, Any], connection: S3Connection) -> Any:
    """What to give as `s3` for a connector's config: its connection, or, where some of it comes from the environment
    (`dg.EnvVar`), a resource that looks there when a run starts."""
    names = {each.name for each in fields(S3Connection)}
    given = {_CONNECTOR_NAMES.get(key, key): value for key, value in config.items()}
    variables = {name: value for name, value in given.items() if name in names and isinstance(value, dg.EnvVar)}
    if not variables:
        return connection
    from s3dest_dagster.orchestration.resource import S3Resource

    settings = {name: getattr(connection, name) for name in names} | variables
    return S3Resource(**{_RESOURCE_NAMES.get(name, name): value for name, value in settings.items() if value != ""})
