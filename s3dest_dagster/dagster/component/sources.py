"""Sources and their streams in YAML. The `type` of a source determines its kind (see `SOURCE_KINDS`).

To add a kind, write its source in a module of `sources/` (see `sources.Source`), and add its model and its entry in
`SOURCE_KINDS` here. Must not know: what happens to the records.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union

import dagster as dg
from dagster.components.utils.translation import TranslatorResolvingInfo
from pydantic import Field, TypeAdapter

from s3dest_dagster.dagster.component.models import PartitionsModel, resolve_partitions
from s3dest_dagster.dagster.component.yaml_values import NOWHERE, SourcePosition, as_given, render
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.fields import about
from s3dest_dagster.settings.stream_settings import STREAM_SETTINGS, FieldSelection, OnDeselected, StreamSettings
from s3dest_dagster.sources import FunctionSource, RequestedStream, Source, as_source
from s3dest_dagster.sources.airbyte.catalog import read_catalog
from s3dest_dagster.sources.airbyte.config import ConfigFile
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.sources.files import FileFormat, FileSource
from s3dest_dagster.sources.sql.address import Engine
from s3dest_dagster.sources.sql.source import SqlSource
from s3dest_dagster.stream import Stream


class AirbyteSourceModel(dg.Model):
    """An Airbyte source connector, run as a process."""

    type: Literal["airbyte"]
    command: str | Sequence[str] = Field(description="The executable, with its first arguments.")
    config: Mapping[str, Any] | str | None = Field(
        default=None,
        description="The connector's configuration. It may name the partition, as {{ partition_start }}, and variables "
        "that are looked up when a run starts, as {{ env_var('API_KEY') }}. Or a JSON file with it next to this one, "
        "which each run reads, and into which the connector's changes are written.",
    )
    catalog: Mapping[str, Any] | str | None = Field(
        default=None,
        description="What `s3dest discover` printed: a file next to this one, or the catalog itself. By default "
        "`dg utils refresh-defs-state` discovers it.",
    )
    discovered_catalog: Mapping[str, Any] | str | None = Field(
        default=None,
        description="What `s3dest discover` printed, if the catalog is a configured one that was made from it. Fields "
        "that only it has do not land.",
    )
    env: Mapping[str, str] | None = Field(default=None, description="Variables for the connector's environment.")
    max_line_mb: int | None = Field(default=None, description="Longest line of the connector, in MB.")
    buffer_mb: int | None = Field(default=None, description="Records that wait for their batch, in MB.")
    stop_grace_s: float | None = Field(default=None, description="Seconds between SIGTERM and SIGKILL.")
    allow_empty: bool | None = Field(
        default=None, description="Whether a stream that the connector never mentions has no records."
    )
    temporary_directory: str | None = Field(default=None, description="Directory for the connector's temporary files.")


def _airbyte_source(
    position: SourcePosition,
    *,
    catalog: Mapping[str, Any] | str | None = None,
    discovered_catalog: Mapping[str, Any] | str | None = None,
    config: Mapping[str, Any] | str | None = None,
    **settings: Any,
) -> AirbyteSource:
    known = None
    if catalog is not None:
        with position.located("catalog"):
            known = read_catalog(_beside(position, catalog))
    if discovered_catalog is not None:
        with position.located("discovered_catalog"):
            if known is None:
                raise SettingsError("discovered_catalog has no effect without the configured catalog: give both.")
            known = replace(known, discovered=read_catalog(_beside(position, discovered_catalog)).raw)
    given = ConfigFile(position.path_of(config)) if isinstance(config, str) else config
    return AirbyteSource(config=given, **settings, catalog=known)


def _beside(position: SourcePosition, catalog: Mapping[str, Any] | str) -> Mapping[str, Any] | str:
    return catalog if isinstance(catalog, Mapping) else position.path_of(catalog)


class PythonSourceModel(dg.Model):
    """A Python function that returns or yields records."""

    type: Literal["python"]
    function: str = Field(
        description="Where it is imported from, as package.module.function. Its parameters are those of any asset; a "
        "parameter `stream` gets the stream.",
        examples=["my_project.feeds.readings"],
    )


def _function_source(position: SourcePosition, *, function: str) -> FunctionSource:
    module, _, name = function.rpartition(".")
    with position.located("function"):
        try:
            imported = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise SettingsError(f"{function} cannot be imported: {error}. Write package.module.function.") from None
        if not callable(imported):
            raise SettingsError(f"{function} is a {type(imported).__name__}, and not a function.")
        return FunctionSource(imported)


class FilesSourceModel(dg.Model):
    """Files of JSON Lines, CSV, Parquet or Avro."""

    type: Literal["files"]
    path: str = Field(
        description="A pattern: relative to this file, absolute, or an address. It may name the partition, as "
        "{{ partition_key }}, and the stream, as {{ stream_name }}.",
        examples=["inbox/{{ partition_key }}/*.csv"],
    )
    format: FileFormat | None = Field(default=None, description="By default from the file's extension.")
    delimiter: str | None = Field(default=None, description="Delimiter of CSV files.")
    encoding: str = Field(default="utf8", description="Encoding of CSV files.")
    allow_missing: bool = Field(
        default=False, description="Whether a missing file means no records instead of an error."
    )


def _file_source(position: SourcePosition, *, path: str, **settings: Any) -> FileSource:
    return FileSource(position.path_of(path), **settings)


class SqlSourceModel(dg.Model):
    """A query or a table of PostgreSQL, DuckDB, SQLite, MySQL or MariaDB."""

    type: Literal["sql"]
    uri: str = Field(
        description="The database. Since it may hold a password, look it up when a run starts, as "
        "{{ env_var('SHOP_DATABASE') }}.",
        examples=["{{ env_var('SHOP_DATABASE') }}", "duckdb:///shop.duckdb"],
    )
    query: str | None = Field(
        default=None,
        description="A query of the rows. It may name the partition, as {{ partition_key }}, and the stream, as "
        "{{ stream_name }}; each becomes a quoted text.",
    )
    table: str | None = Field(
        default=None, description="A table, instead of a query. It may name the stream, as shop.{{ stream_name }}."
    )
    cursor: str | None = Field(
        default=None, description="The column by which an append without partitions continues after its last value."
    )
    shard_by: str | None = Field(default=None, description="A column of integers, whose ranges are steps of the run.")
    shards: int | None = Field(default=None, description="The number of these ranges.")
    engine: Engine | None = Field(default=None, description="The driver; by default the one for the uri.")


def _sql_source(position: SourcePosition, *, uri: str, **settings: Any) -> SqlSource:
    return SqlSource(uri, **{name: value for name, value in settings.items() if value is not None})


class SourceKind(NamedTuple):
    """How a kind of source is built from YAML."""

    model: type[dg.Model]
    """The YAML keys, with `type` among them."""
    source_class: type[Source]
    """The class, whose `run_placeholders` may occur in the settings."""
    build: Callable[..., Source]
    """Builds the source from a position in YAML and the settings."""


SOURCE_KINDS: Mapping[str, SourceKind] = {
    "airbyte": SourceKind(AirbyteSourceModel, AirbyteSource, _airbyte_source),
    "python": SourceKind(PythonSourceModel, FunctionSource, _function_source),
    "files": SourceKind(FilesSourceModel, FileSource, _file_source),
    "sql": SourceKind(SqlSourceModel, SqlSource, _sql_source),
}
"""Every kind of source, by the `type` that names it in YAML."""
SourceModel: Any = Annotated[Union[tuple(kind.model for kind in SOURCE_KINDS.values())], Field(discriminator="type")]  # noqa: UP007
_source_adapter: TypeAdapter[Any] = TypeAdapter(SourceModel)


def resolve_source(context: dg.ResolutionContext, given: Any) -> Source:
    """The source that YAML describes, or that a template returns."""
    if isinstance(given, str):
        given = context.resolve_value(given)
    if (source := as_source(given)) is not None:
        return source
    position = SourcePosition(context)
    if not isinstance(given, Mapping):
        with position.located():
            raise SettingsError(
                f"A source is an object with a type: {', '.join(SOURCE_KINDS)}; or a template that makes a source. "
                f"This is {'nothing' if given is None else repr(given)}."
            )
    model = position.validated(_source_adapter, given)
    kind = SOURCE_KINDS[model.type]
    with position.located():
        settings = {
            name: render(context.at_path(name), value, at_run=kind.source_class.run_placeholders.get(name, ()))
            for name, value in model.model_dump(exclude_unset=True, exclude={"type"}).items()
        }
        return kind.build(position, **settings)


# ---------------------------------------------------------------------- streams

Translation = Callable[[dg.AssetSpec, Stream], dg.AssetSpec]
"""Changes the asset spec of a stream."""


def _setting_field(settings: type, name: str) -> Any:
    """An optional field of a model, with the text of the setting."""
    field = next(each for each in fields(settings) if each.name == name)
    return Field(default=None, description=about(field).description)


_PathsModel = list[str | list[str]]
"""The paths of fields: dotted names, or lists of names."""


class FieldsModel(dg.Model):
    """Which fields of a stream leave the source."""

    include: _PathsModel | None = _setting_field(FieldSelection, "include")
    exclude: _PathsModel | None = _setting_field(FieldSelection, "exclude")
    hash: _PathsModel | None = _setting_field(FieldSelection, "hash")
    mask: _PathsModel | None = _setting_field(FieldSelection, "mask")


class StreamModel(dg.Model):
    """One stream, with its own settings."""

    name: str = Field(
        description="Name of the stream; with its namespace where that is needed, as public.users. Or a pattern of "
        "names with * and ?, for streams that the source lists.",
        examples=["users", "public.*"],
    )
    exclude: bool | None = Field(default=None, description="Whether these streams are left out.")
    namespace: str | None = Field(default=None, description="Namespace, of files and functions.")
    sync_mode: Literal["full_refresh", "append"] | None = Field(default=None, description="By default the component's.")
    json_schema: Mapping[str, Any] | str | None = Field(
        default=None, description="JSON schema of a record, or a file with it next to this one; of files and functions."
    )
    description: str | None = Field(default=None, description="What the stream is; of files and functions.")
    partitions_def: as_given(PartitionsModel | str | None) = Field(  # type: ignore[valid-type]
        default=None, description="Partitions of this stream; null for none."
    )
    io_manager_key: str | None = Field(default=None, description="IO manager of this stream.")
    translation: dg.AssetAttributesModel | None = Field(  # type: ignore[valid-type]  # Dagster builds it
        default=None, description="Attributes of this stream's asset, over those of the component."
    )

    owner: str | None = _setting_field(StreamSettings, "owner")
    rename: Mapping[str, str] | None = _setting_field(StreamSettings, "rename")
    fields: as_given(FieldsModel | None) = _setting_field(StreamSettings, "fields")  # type: ignore[valid-type]
    deselected_fields: OnDeselected | None = _setting_field(StreamSettings, "deselected_fields")
    schema_contract: Mapping[str, str] | str | None = _setting_field(StreamSettings, "schema_contract")
    partition_by: list[str | list[str] | Mapping[str, Any]] | None = _setting_field(StreamSettings, "partition_by")
    expire_partitions_after: int | None = _setting_field(StreamSettings, "expire_partitions_after")


StreamsModel = list[StreamModel | str]
_streams_adapter: TypeAdapter[Any] = TypeAdapter(list[Mapping[str, Any] | str])
_stream_adapter: TypeAdapter[Any] = TypeAdapter(StreamModel)


@dataclass(frozen=True)
class ComponentStream(RequestedStream):
    """A stream of a component, or a pattern of streams, with what is set for them. None leaves a setting to the
    component."""

    exclude: bool = False
    """Whether the streams are left out."""
    partitions_def: dg.PartitionsDefinition[Any] | None = None
    unpartitioned: bool = False
    """Whether the stream has no partitions even if the component has."""
    io_manager_key: str | None = None
    translation: Translation | None = None
    stated: frozenset[str] = frozenset()
    """The names of the `settings` that are stated. Those of a less specific entry do not replace them."""
    position: SourcePosition = NOWHERE

    def __post_init__(self) -> None:
        defaults = StreamSettings()
        differing = {name for name in STREAM_SETTINGS if getattr(self.settings, name) != getattr(defaults, name)}
        object.__setattr__(self, "stated", self.stated | differing)


def stream_entry(text: str) -> ComponentStream:
    """The entry of a text: a name, a pattern, or either after a `!`, which leaves the streams out."""
    return ComponentStream(text.removeprefix("!"), exclude=text.startswith("!"))


def resolve_streams(context: dg.ResolutionContext, given: Any) -> Sequence[ComponentStream] | None:
    """The streams of a list in YAML. None without a list."""
    if given is None:
        return None
    entries = SourcePosition(context).validated(_streams_adapter, given)
    return [_resolve_stream(context.at_path(number), entry) for number, entry in enumerate(entries)]


def _resolve_stream(context: dg.ResolutionContext, given: Any) -> ComponentStream:
    position = SourcePosition(context)
    if isinstance(given, str):
        return replace(stream_entry(render(context, given)), position=position)
    model = position.validated(_stream_adapter, given)
    given = model.model_dump(exclude_unset=True, exclude={"partitions_def", "translation", "json_schema"})
    with position.located():
        rendered = render(context, given)
        stated = {name: rendered.pop(name) for name in STREAM_SETTINGS if name in rendered}
        return ComponentStream(
            **rendered,
            settings=StreamSettings(**{name: value for name, value in stated.items() if value is not None}),
            stated=frozenset(stated),
            json_schema=_read_schema(model.json_schema, position),
            partitions_def=resolve_partitions(context.at_path("partitions_def"), model.partitions_def),
            unpartitioned="partitions_def" in model.model_fields_set and model.partitions_def is None,
            translation=_translation(context, model.translation),
            position=position,
        )


def _read_schema(given: Mapping[str, Any] | str | None, position: SourcePosition) -> Mapping[str, Any] | None:
    if not isinstance(given, str):
        return given
    path = Path(position.path_of(given))
    try:
        schema: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"The JSON schema {path} cannot be read: {error}.", setting="json_schema") from None
    return schema


def _translation(context: dg.ResolutionContext, model: Any) -> Translation | None:
    if model is None:
        return None
    info = TranslatorResolvingInfo(asset_attributes=model, resolution_context=context, model_key="translation")
    return lambda spec, stream: info.get_asset_spec(spec, {"stream": stream, "spec": spec})
