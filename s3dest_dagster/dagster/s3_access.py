"""How a destination reaches its bucket: from whatever a user gives as `s3`.

It must not import dagster_aws before somebody needs it, since that costs as much as Dagster itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from s3dest_dagster.dagster.variables import holds_variable
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.connector_config import OWN_SETTINGS_KEY
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket, RetryPolicy, open_bucket

_RESOURCE_NAMES = {
    "region": "region_name",
    "endpoint": "endpoint_url",
    "access_key_id": "aws_access_key_id",
    "secret_access_key": "aws_secret_access_key",
    "session_token": "aws_session_token",
}
"""What `S3Resource` calls the settings of `S3Connection`, where it has another name for them."""
_BESIDE_THE_CLIENTS_OWN = RetryPolicy(max_attempts=3)
"""A client that is not ours tries again by itself, but for answers that are cut short."""
_CONNECTOR_NAMES = {"s3_bucket_region": "region", "s3_endpoint": "endpoint"}
_SETTINGS = frozenset(each.name for owner in (S3Destination, S3Connection) for each in fields(owner))
_MEANWHILE = {
    "s3_bucket_name": "later",
    "s3_bucket_path": "",
    "s3_bucket_region": "",
    "access_key_id": "later",
    "secret_access_key": "later",
    "role_arn": "arn:aws:iam::000000000000:role/later",
}
"""What stands in the place of a variable until a run starts, where something must."""


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


def without_variables(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """A connector's config as it can be understood now, and what it has from variables, by our names of the settings.

    Raises SettingsError for a variable within a format, where none is looked up.
    """
    own = config.get(OWN_SETTINGS_KEY)
    if not isinstance(own, Mapping):
        return _parted(config)
    known, variables = _parted({name: value for name, value in config.items() if name != OWN_SETTINGS_KEY})
    known_own, own_variables = _parted(own)
    return {**known, OWN_SETTINGS_KEY: known_own}, variables | own_variables


def _parted(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    known, variables = dict(config), dict[str, Any]()
    for name, value in config.items():
        if not holds_variable(value):
            continue
        if name == "format":
            raise SettingsError(
                "format holds a dg.EnvVar, which is not looked up there. Give the format beside the config, as "
                'format={"Parquet": {"page_size_kb": dg.EnvVar.int(…)}}, or its value.',
                setting="format",
            )
        setting = _CONNECTOR_NAMES.get(name, name)
        if setting in _SETTINGS:
            variables[setting] = known.pop(name)
            known |= {name: _MEANWHILE[name]} if name in _MEANWHILE else {}
    return known, variables


def connector_access(connection: S3Connection, variables: Mapping[str, Any]) -> Any:
    """What to give as `s3` for a connector's config: its connection, or, where some of it comes from variables, a
    resource that looks there when a run starts."""
    names = {each.name for each in fields(S3Connection)}
    later = {name: value for name, value in variables.items() if name in names}
    if not later:
        return connection
    from s3dest_dagster.dagster.resource import S3Resource

    settings = {name: getattr(connection, name) for name in names} | later
    return S3Resource(**{_RESOURCE_NAMES.get(name, name): value for name, value in settings.items() if value != ""})
