"""Sources as YAML says them, told apart by `type`: a connector, a Python function, or files.

It must not know what is done with their records.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import Field, TypeAdapter

from s3dest_dagster.dagster.component.streams import Source
from s3dest_dagster.dagster.component.yaml_values import PARTITION, STREAM, Place, rendered
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources.airbyte.catalog import read_catalog
from s3dest_dagster.sources.airbyte.config import ConfigFile
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.sources.files import FileFormat, FileSource


class AirbyteSourceModel(dg.Model):
    """An Airbyte source connector, run as a process."""

    type: Literal["airbyte"]
    command: str | Sequence[str] = Field(description="The executable, with its first arguments.")
    config: Mapping[str, Any] | str | None = Field(
        default=None,
        description="The connector's configuration. It may name the partition, as {{ partition_start }}, and variables "
        "that are looked up when a run starts, as {{ env_var('API_KEY') }}. Or a JSON file with it beside this one, "
        "which is read by each run, and into which the connector's changes are written.",
    )
    catalog: Mapping[str, Any] | str = Field(
        description="What `s3dest discover` printed: a file beside this one, or the catalog itself."
    )
    env: Mapping[str, str] | None = Field(default=None, description="Variables for the connector's environment.")
    max_line_mb: int | None = Field(default=None, description="Longest line of the connector, in MB.")
    buffer_mb: int | None = Field(default=None, description="Records that wait for their batch, in MB.")
    stop_grace_s: float | None = Field(default=None, description="Seconds between SIGTERM and SIGKILL.")
    allow_empty: bool | None = Field(
        default=None, description="Whether a stream of which the connector says nothing at all is one without a record."
    )
    temporary_directory: str | None = Field(default=None, description="Where the connector's files are kept for it.")


class PythonSourceModel(dg.Model):
    """A Python function that returns or yields records."""

    type: Literal["python"]
    function: str = Field(
        description="Where it is imported from, as package.module.function. Its parameters are those of any asset; a "
        "parameter `stream` gets the stream.",
        examples=["my_project.feeds.readings"],
    )


class FilesSourceModel(dg.Model):
    """Files of JSON Lines, CSV, Parquet or Avro."""

    type: Literal["files"]
    path: str = Field(
        description="A pattern, beside this file, absolute, or an address. It may name the partition, as "
        "{{ partition_key }}, and the stream, as {{ stream_name }}.",
        examples=["inbox/{{ partition_key }}/*.csv"],
    )
    format: FileFormat | None = Field(default=None, description="Told by the endings when left out.")
    delimiter: str | None = Field(default=None, description="Of CSV files.")
    encoding: str = Field(default="utf8", description="Of CSV files.")
    allow_missing: bool = Field(default=False, description="Whether no file is no record, instead of an error.")


SourceModel = Annotated[AirbyteSourceModel | PythonSourceModel | FilesSourceModel, Field(discriminator="type")]
_model: TypeAdapter[Any] = TypeAdapter(SourceModel)


def resolve_source(context: dg.ResolutionContext, given: Any) -> Source:
    """The source that is said; one that a template has made stays as it is."""
    if isinstance(given, str):
        given = context.resolve_value(given)
    if isinstance(given, AirbyteSource | FileSource) or (callable(given) and not isinstance(given, str)):
        return given
    place = Place(context)
    if not isinstance(given, Mapping):
        with place.told():
            raise SettingsError(
                f"A source is an object with a type: {', '.join(_MAKERS)}; or a template that makes a source. This is "
                f"{'nothing' if given is None else repr(given)}."
            )
    model = place.validated(_model, given)
    with place.told():
        given = model.model_dump(exclude_unset=True, exclude={"type"})
        known = _AT_RUN.get(model.type, {})
        settings = {
            name: rendered(context.at_path(name), value, at_run=known.get(name, ())) for name, value in given.items()
        }
        return _MAKERS[model.type](place, **settings)


def _connector(
    place: Place, *, catalog: Mapping[str, Any] | str, config: Mapping[str, Any] | str | None = None, **settings: Any
) -> AirbyteSource:
    with place.told("catalog"):
        known = read_catalog(catalog if isinstance(catalog, Mapping) else place.path_of(catalog))
    given = ConfigFile(place.path_of(config)) if isinstance(config, str) else config
    return AirbyteSource(config=given, **settings, catalog=known)


def _files(place: Place, *, path: str, **settings: Any) -> FileSource:
    return FileSource(place.path_of(path), **settings)


def _function(place: Place, *, function: str) -> Callable[..., Any]:
    module, _, name = function.rpartition(".")
    with place.told("function"):
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise SettingsError(f"{function} cannot be imported: {error}. Write package.module.function.") from None
        if not callable(found):
            raise SettingsError(f"{function} is a {type(found).__name__}, and not a function.")
        return found  # type: ignore[no-any-return]


_AT_RUN: Mapping[str, Mapping[str, Sequence[str]]] = {
    "airbyte": {"config": PARTITION},
    "files": {"path": (*PARTITION, *STREAM)},
}
"""What each setting may leave to be known when a run starts."""
_MAKERS: Mapping[str, Callable[..., Source]] = {"airbyte": _connector, "files": _files, "python": _function}
