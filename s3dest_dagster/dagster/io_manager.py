"""The IO manager: a destination's settings as Dagster sees them, an asset's records in and out.

It translates settings and hands on; it must not know how records are landed or read.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from os import PathLike
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, create_model

from s3dest_dagster.dagster.asset_metadata import preview_rows_of
from s3dest_dagster.dagster.config import (
    FormatConfig,
    JsonlFormatConfig,
    as_format_config,
    check_variables,
    config_fields,
    format_settings,
    holds_variable,
)
from s3dest_dagster.dagster.failures import as_dagster_failures
from s3dest_dagster.dagster.loading import load_input
from s3dest_dagster.dagster.run_landing import land_output
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.formats import check_installed
from s3dest_dagster.printable import logger
from s3dest_dagster.settings import connector_config
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.connector_config import OWN_SETTINGS_KEY
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.fields import about, refuse_unknown
from s3dest_dagster.storage import Bucket, RetryPolicy, headers_of_all, open_bucket

_logger = logger("dagster")


_TEXTS = {each.name: about(each).description for each in fields(S3Destination)}
_DestinationSettings: Any = create_model(
    "_DestinationSettings",
    __base__=dg.ConfigurableIOManager,
    __module__=__name__,
    **config_fields(S3Destination, without=frozenset({"format"})),
)


class S3DestinationIOManager(_DestinationSettings):  # type: ignore[misc]
    """Lands the records that assets return or yield in S3, and loads them for the assets downstream.

    The settings have the connector's names; `from_connector_config` takes its `config.json` as it is. `format` is
    given as frozen settings (`format=ParquetFormat(compression_codec="ZSTD")`), or in run config as
    `{"Parquet": {"compression_codec": "ZSTD"}}`. `s3` is an `S3Resource` (or anything that has `get_client()`), or an
    `S3Connection`; without it the machine's own identity is used.

    Each partition of an asset is a scope of its own: it is landed as a whole or not at all, and materializing it again
    replaces it. What the landing was is told on the materialization.
    """

    format: FormatConfig = Field(default=JsonlFormatConfig(), description=_TEXTS["format"])
    s3_bucket_region: str = Field(default="", description="Region of the bucket; else the S3 resource's.")
    s3_endpoint: str = Field(default="", description="Endpoint of another S3 server; else the S3 resource's, or AWS.")
    preview_rows: int = Field(
        default=5,
        description="Records that a materialization shows, at most 50; 0 for none, where data is private. An asset's "
        "metadata s3dest/preview_rows says otherwise for its stream.",
    )
    s3: dg.ResourceDependency[Any] = None  # type: ignore[assignment]  # no resource: the machine's own identity

    def __init__(self, **settings: Any) -> None:
        # Dagster takes any other name without a word, and does nothing with it.
        refuse_unknown("S3DestinationIOManager", settings, type(self).model_fields)
        if settings.get("s3_bucket_name") is None:
            raise SettingsError("s3_bucket_name is missing; name the bucket to land in.", setting="s3_bucket_name")
        # Dagster 1.12 takes no default for a union of configs: it is given always.
        settings["format"] = as_format_config(settings.get("format", JsonlFormatConfig()))
        check_variables("S3DestinationIOManager", settings, type(self).model_fields)
        super().__init__(**settings)
        if not holds_variable(settings):
            self.destination()
            preview_rows_of({}, self.preview_rows)

    @classmethod
    def from_connector_config(
        cls, config: Mapping[str, Any] | str | PathLike[str], **settings: Any
    ) -> "S3DestinationIOManager":
        """An IO manager from a connector's `config.json`: the mapping, or the path of the file.

        Values of a mapping may be `dg.EnvVar`, but those within `format`. Keys that mean nothing here are named in a
        warning. `settings` are more settings of this class, which win; our own may also stand in the config under
        "s3dest". Raises SettingsError.
        """
        raw = config if isinstance(config, Mapping) else _read_config(Path(config))
        raw, variables = without_variables(raw)
        parsed = connector_config.from_connector_config(raw)
        if parsed.ignored:
            ignored = ", ".join(map(connector_config.with_suggestion, parsed.ignored))
            _logger.warning("These keys of the connector's configuration mean nothing here: %s", ignored)
        given = {each.name: getattr(parsed.destination, each.name) for each in fields(S3Destination)}
        later = {name: value for name, value in variables.items() if name in given}
        return cls(**{**given, **later, "s3": connector_access(parsed.connection, variables), **settings})

    def destination(self) -> S3Destination:
        """The destination in plain values.

        Raises SettingsError for settings that contradict each other, MissingExtraError where a codec's package lacks.
        """
        plain = {each.name: getattr(self, each.name) for each in fields(S3Destination) if each.name != "format"}
        destination = S3Destination(**plain, format=format_settings(self.format))
        check_installed(destination.format)
        return destination

    def bucket(self) -> Bucket:
        """The bucket, reached as `s3` says. Nothing is asked of the server."""
        bucket = reach(self.s3, self.s3_bucket_name, region=self.s3_bucket_region, endpoint=self.s3_endpoint)
        return bucket.with_headers(headers_of_all(self.destination()))

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Lands an asset's records: anything that gives dicts, Arrow data, a source's items, or, for several
        partitions, a mapping or pairs of a partition key and such records. None lands nothing."""
        with as_dagster_failures():
            land_output(context, obj, self.destination(), self.bucket(), preview_rows=self.preview_rows)

    def load_input(self, context: dg.InputContext) -> Any:
        """What the upstream asset holds, as the parameter's annotation asks for it."""
        with as_dagster_failures():
            return load_input(context, self.destination(), self.bucket())


def _read_config(path: Path) -> Mapping[str, Any]:
    """A configuration file; what stands in it is not repeated in errors, since it may be a secret."""
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The configuration {path} cannot be read: {error}.") from None
    except ValueError as error:
        line = getattr(error, "lineno", "?")
        raise SettingsError(f"The configuration {path} is no JSON: see line {line}.") from None
    if not isinstance(config, Mapping):
        raise SettingsError(f"The configuration {path} is not a JSON object.")
    return config


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
