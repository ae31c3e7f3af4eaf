"""Sources in YAML. The `type` of a source determines its kind (see `SOURCE_KINDS`).

To add a kind, write its source in a module of `sources/` (see `sources.Source`), and add its model and its entry in
`SOURCE_KINDS` here. Must not know: what happens to the records.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple, Union

import dagster as dg
from pydantic import Field, TypeAdapter

from s3dest_dagster.dagster.component.yaml_values import SourcePosition, imported, render
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources import FunctionSource, Source, as_source
from s3dest_dagster.sources.airbyte.catalog import read_catalog
from s3dest_dagster.sources.airbyte.config import ConfigFile
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.sources.files import FileFormat, FileSource
from s3dest_dagster.sources.sql.address import Engine
from s3dest_dagster.sources.sql.source import SqlSource


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
    with position.located("function"):
        found = imported(function)
        if not callable(found):
            raise SettingsError(f"{function} is a {type(found).__name__}, and not a function.")
        return FunctionSource(found)


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
