"""`S3DestinationIOManager`: a destination's settings in Dagster; lands and loads the records of assets.

Also finds a destination's bucket from the user's `s3`. dagster_aws is imported only when it is needed, because
importing it takes as long as importing Dagster itself. Must not know: how records are landed or read.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from os import PathLike
from typing import Any

import dagster as dg
from pydantic import Field, create_model

from s3dest_dagster.dagster.asset_metadata import preview_rows_of
from s3dest_dagster.dagster.config import (
    FormatConfig,
    as_format_config,
    check_variables,
    config_fields,
    format_config,
    format_settings,
    holds_variable,
)
from s3dest_dagster.dagster.failures import as_dagster_failures
from s3dest_dagster.dagster.loading import load_input
from s3dest_dagster.dagster.op_outputs import land_op_output
from s3dest_dagster.dagster.outputs import land_output
from s3dest_dagster.dagster.step_values import StepValue, keep_step_value
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.formats import format_of
from s3dest_dagster.printable import logger
from s3dest_dagster.settings import connector_config
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.connector_config import OWN_SETTINGS_KEY
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.fields import about, default_of, refuse_unknown
from s3dest_dagster.settings.schema_contract import SchemaContract
from s3dest_dagster.storage import Bucket, RetryPolicy, headers_of_all, open_bucket

_logger = logger("dagster")

_FORMAT = next(field for field in fields(S3Destination) if field.name == "format")
_SECRETS = tuple(field.name for field in fields(S3Destination) if about(field).secret)
_DEFAULT_FORMAT: Any = format_config(default_of(_FORMAT))
_DestinationSettings: Any = create_model(
    "_DestinationSettings",
    __base__=dg.ConfigurableIOManager,
    __module__=__name__,
    **config_fields(S3Destination, without=frozenset({"format"})),
)


class S3DestinationIOManager(_DestinationSettings):  # type: ignore[misc]
    """Lands the records of assets in S3, each partition as a whole or not at all, and loads them downstream.

    Each partition of an asset is a separate scope. Materializing it again replaces it, unless the stream appends. The
    materialization shows what landed. The settings have the connector's names, and `from_connector_config` accepts its
    `config.json`.

    Args:
        s3_bucket_name: The bucket; the only setting that is required.
        format: Frozen settings (`ParquetFormat(compression_codec="ZSTD")`), a format's name, or, in run config,
            `{"Parquet": {"compression_codec": "ZSTD"}}`; JSON Lines by default.
        s3: An `S3Resource`, anything else that has `get_client()`, or an `S3Connection`; by default the machine's own
            identity is used.
        settings: All others are described in docs/settings.md.

    Raises:
        SettingsError: If a setting is unknown or wrong, or if settings contradict each other.
        MissingExtraError: If the format needs an optional package that is not installed.

    Example:
        import dagster as dg
        from s3dest_dagster import ParquetFormat, S3DestinationIOManager, S3Resource, stream_asset

        @stream_asset
        def users():
            yield {"id": 1, "name": "Ada"}

        io_manager = S3DestinationIOManager(
            s3_bucket_name="my-bucket",
            s3_bucket_path="lake",
            format=ParquetFormat(compression_codec="ZSTD"),
            s3=S3Resource(region_name="eu-central-1"),
        )
        defs = dg.Definitions(assets=[users], resources={"io_manager": io_manager})
    """

    format: FormatConfig = Field(default=_DEFAULT_FORMAT, description=about(_FORMAT).description)
    s3_bucket_region: str = Field(default="", description="Region of the bucket; else the S3 resource's.")
    s3_endpoint: str = Field(default="", description="Endpoint of another S3 server; else the S3 resource's, or AWS.")
    preview_rows: int = Field(
        default=5,
        description="Records that a materialization shows, at most 50; 0 for none, where data is private. An asset's "
        "metadata s3dest/preview_rows says otherwise for its stream.",
    )
    s3: dg.ResourceDependency[Any] = None  # type: ignore[assignment]  # None: the machine's own identity

    def __init__(self, **settings: Any) -> None:
        # Dagster accepts any other name silently, and ignores it.
        refuse_unknown("S3DestinationIOManager", settings, type(self).model_fields)
        if settings.get("s3_bucket_name") is None:
            raise SettingsError("s3_bucket_name is missing; name the bucket to land in.", setting="s3_bucket_name")
        # Dagster 1.12 ignores the default of a union of configs, so it is always given.
        settings["format"] = as_format_config(settings.get("format", _DEFAULT_FORMAT))
        if isinstance(settings.get("schema_contract"), str) and not holds_variable(settings):
            settings["schema_contract"] = SchemaContract.of(settings["schema_contract"]).to_mapping()
        check_variables("S3DestinationIOManager", settings, type(self).model_fields)
        # Values that are passed on become defaults of the config schema, which the web interface shows and each run
        # stores.
        literal = {name: value for name in _SECRETS if (value := settings.get(name)) and not holds_variable(value)}
        super().__init__(**{name: value for name, value in settings.items() if name not in literal})
        self.__dict__.update(literal)
        if not holds_variable(settings):
            self.destination()
            preview_rows_of({}, self.preview_rows)

    def _with_updated_values(self, values: Mapping[str, Any] | None) -> Any:
        """Creates the IO manager of a run from the one in the code. Dagster calls this method.

        `values` come from the config schema, which does not contain literal secrets. They are kept unless the run has
        others.
        """
        given = dict(values or {})
        own = {name: getattr(self, name) for name in _SECRETS if not given.get(name)}
        return super()._with_updated_values(given | own)

    @classmethod
    def from_connector_config(
        cls, config: Mapping[str, Any] | str | PathLike[str], **settings: Any
    ) -> "S3DestinationIOManager":
        """Creates an IO manager from a connector's `config.json`. A warning names unknown keys.

        Args:
            config: The mapping, or the path of the file. Values of a mapping may be `dg.EnvVar`, except within
                `format`. Settings that the connector does not have go under "s3dest".
            settings: Further settings of this class, which take precedence.

        Raises:
            SettingsError: If the file cannot be read, or a setting is wrong.
        """
        raw = config if isinstance(config, Mapping) else connector_config.read_json_object(config, "configuration")
        raw, variables = _without_variables(raw)
        parsed = connector_config.from_connector_config(raw)
        if parsed.streams:
            raise SettingsError(
                "The connector's configuration has settings of single streams, and here streams are assets: give them "
                "to stream_asset, to build_stream_assets or to the component's streams instead.",
                setting=f"{OWN_SETTINGS_KEY}.{connector_config.STREAMS_KEY}",
            )
        if parsed.ignored:
            ignored = ", ".join(map(connector_config.with_suggestion, parsed.ignored))
            _logger.warning("These keys of the connector's configuration mean nothing here: %s", ignored)
        given = {field.name: getattr(parsed.destination, field.name) for field in fields(S3Destination)}
        later = {name: value for name, value in variables.items() if name in given}
        return cls(**{**given, **later, "s3": _connector_s3(parsed.connection, variables), **settings})

    def destination(self) -> S3Destination:
        """The destination as plain values.

        Raises SettingsError if settings contradict each other, and MissingExtraError if a codec's package is missing.
        """
        values = {field.name: getattr(self, field.name) for field in fields(S3Destination)}
        destination = S3Destination(**{**values, "format": format_settings(self.format)})
        format_of(destination.format).check_installed()
        return destination

    def bucket(self) -> Bucket:
        """The bucket that `s3` provides. Sends no request."""
        bucket = resolve_bucket(self.s3, self.s3_bucket_name, region=self.s3_bucket_region, endpoint=self.s3_endpoint)
        return bucket.with_headers(headers_of_all(self.destination()))

    def connection(self) -> S3Connection | None:
        """The connection that `s3` provides, with which the workers of an engine reach the bucket.

        None if `s3` is another resource, whose client cannot be sent to them.
        """
        return resolve_connection(self.s3, region=self.s3_bucket_region, endpoint=self.s3_endpoint)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Lands the records of an asset, or of an op's output that names a stream. None lands nothing.

        `obj` is any value that provides dicts, Arrow data or a source's items. For several partitions it is a mapping
        or pairs of a partition key and such records.
        """
        with as_dagster_failures():
            if isinstance(obj, StepValue):
                keep_step_value(context, obj, self.destination(), self.bucket())
                return
            land = land_output if context.has_asset_key else land_op_output
            land(
                context,
                obj,
                self.destination(),
                self.bucket(),
                preview_rows=self.preview_rows,
                connection=self.connection(),
            )

    def load_input(self, context: dg.InputContext) -> Any:
        """The records of the upstream asset, as the type that the parameter's annotation names."""
        with as_dagster_failures():
            return load_input(context, self.destination(), self.bucket(), self.connection())


# ---------------------------------------------------------------------- the bucket that `s3` provides

_RETRY_BESIDE_FOREIGN_CLIENT = RetryPolicy(max_attempts=3)
"""A foreign client retries on its own, except after truncated answers."""


def resolve_bucket(s3: Any, bucket: str, *, region: str, endpoint: str) -> Bucket:
    """The bucket that `s3` provides.

    Args:
        s3: None (the machine's own identity), an S3Connection, an S3Resource, or anything with `get_client()`.
        region: The destination's region; "" for none.
        endpoint: The destination's endpoint; "" for none.

    Raises:
        SettingsError: If region or endpoint contradict `s3`, or `s3` cannot provide a client.
    """
    connection = resolve_connection(s3, region=region, endpoint=endpoint)
    if connection is not None:
        return open_bucket(connection, bucket)
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
    return Bucket(s3.get_client(), bucket, _RETRY_BESIDE_FOREIGN_CLIENT)


def resolve_connection(s3: Any, *, region: str, endpoint: str) -> S3Connection | None:
    """The connection that `s3` provides. None if it only provides a client. See `resolve_bucket`."""
    if s3 is None:
        s3 = S3Connection()
    elif _describes_its_client(s3):
        s3 = s3.connection()
    return _joined(s3, region, endpoint) if isinstance(s3, S3Connection) else None


def _describes_its_client(s3: Any) -> bool:
    """Whether `s3.connection()` says what `s3.get_client()` does.

    A subclass of an S3Resource that makes its own client, and says nothing of its connection, makes another one.
    """
    kinds = type(s3).__mro__
    own = next((kind for kind in kinds if {"connection", "get_client"} & vars(kind).keys()), None)
    return own is not None and callable(vars(own).get("connection"))


def _joined(connection: S3Connection, region: str, endpoint: str) -> S3Connection:
    """The connection with the destination's own region and endpoint, if it has them."""
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


# ---------------------------------------------------------------------- variables in a connector's config

_SETTINGS = frozenset(field.name for owner in (S3Destination, S3Connection) for field in fields(owner))
_PLACEHOLDERS = {
    "s3_bucket_name": "later",
    "s3_bucket_path": "",
    "s3_bucket_region": "",
    "access_key_id": "later",
    "secret_access_key": "later",
    "role_arn": "arn:aws:iam::000000000000:role/later",
}
"""The values of required settings until a run looks up their variables."""


def _without_variables(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """A connector's config as far as it is known now, and its variables by the library's names of the settings.

    Raises SettingsError for a variable within `format`, where variables are not looked up.
    """
    own = config.get(OWN_SETTINGS_KEY)
    if not isinstance(own, Mapping):
        return _split_variables(config)
    known, variables = _split_variables({name: value for name, value in config.items() if name != OWN_SETTINGS_KEY})
    known_own, own_variables = _split_variables(own)
    return {**known, OWN_SETTINGS_KEY: known_own}, variables | own_variables


def _split_variables(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    known, variables = dict(config), dict[str, Any]()
    for name, value in config.items():
        if not holds_variable(value):
            continue
        if name == "format":
            raise SettingsError(
                "format holds a dg.EnvVar, which is not looked up there. Give the format outside of the config, as "
                'format={"Parquet": {"page_size_kb": dg.EnvVar.int(…)}}, or its value.',
                setting="format",
            )
        setting = connector_config.CONNECTION_KEYS.get(name, name)
        if setting in _SETTINGS:
            variables[setting] = known.pop(name)
            known |= {name: _PLACEHOLDERS[name]} if name in _PLACEHOLDERS else {}
    return known, variables


def _connector_s3(connection: S3Connection, variables: Mapping[str, Any]) -> Any:
    """The `s3` of a connector's config: its connection or, if it contains variables, a resource that looks them up when
    a run starts."""
    resource_names = {field.name: about(field).resource or field.name for field in fields(S3Connection)}
    later = {name: value for name, value in variables.items() if name in resource_names}
    if not later:
        return connection
    from s3dest_dagster.dagster.resource import S3Resource

    settings = {name: getattr(connection, name) for name in resource_names} | later
    return S3Resource(**{resource_names[name]: value for name, value in settings.items() if value != ""})
