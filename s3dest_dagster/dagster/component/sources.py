"""Sources as YAML says them, told apart by `type`: a connector, a Python function, or files.

It must not know what is done with their records.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import dagster as dg
from dagster.components.utils.translation import TranslatorResolvingInfo
from pydantic import Field, TypeAdapter

from s3dest_dagster.dagster.asset_metadata import check_record_schema, partitions_of_run, values_of
from s3dest_dagster.dagster.assets import Body
from s3dest_dagster.dagster.component.models import PartitionsModel, resolve_partitions
from s3dest_dagster.dagster.component.yaml_values import NOWHERE, PARTITION, STREAM, Place, as_said, rendered
from s3dest_dagster.dagster.connector_assets import connector_body, named_stream
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources.airbyte.catalog import Catalog, read_catalog
from s3dest_dagster.sources.airbyte.config import ConfigFile
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.sources.files import FileFormat, FileSource
from s3dest_dagster.stream import Stream, SyncMode

_STREAM = "stream"

Source = AirbyteSource | FileSource | Callable[..., Any]


def body_of(source: Source, stream: Stream, partitions: dg.PartitionsDefinition[Any] | None) -> Body:
    """The function that gives the records of the stream, as `stream_asset` takes it."""
    if isinstance(source, AirbyteSource):
        return connector_body(source, stream, partitions)
    if isinstance(source, FileSource):
        return _file_body(source, stream, partitions)
    return _bound(source, stream)


def takes_stream(function: Callable[..., Any]) -> bool:
    """Whether the function asks which stream it is for."""
    return _STREAM in inspect.signature(function).parameters


def _file_body(source: FileSource, stream: Stream, partitions: dg.PartitionsDefinition[Any] | None) -> Body:
    named: Mapping[str, str | int] = {"stream_name": stream.name, "stream_namespace": stream.namespace or ""}

    def read(context: dg.AssetExecutionContext) -> Any:
        if partitions is None:
            return source.read(named)
        keys = partitions_of_run(context, stream.id)
        return {key: source.read({**named, **values_of(partitions, key)}) for key in keys}

    return read


def _bound(function: Callable[..., Any], stream: Stream) -> Body:
    """The function with its stream, if it asks for one; its other parameters are Dagster's to give."""
    if not takes_stream(function):
        return function

    @wraps(function)
    def bound(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs, stream=stream)

    signature = inspect.signature(function)
    rest = [each for name, each in signature.parameters.items() if name != _STREAM]
    bound.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined]
    bound.__annotations__ = {name: kind for name, kind in function.__annotations__.items() if name != _STREAM}
    return bound


Translation = Callable[[dg.AssetSpec, Stream], dg.AssetSpec]
"""Changes the asset spec of a stream."""


class StreamModel(dg.Model):
    """One stream, with what is said of it alone."""

    name: str = Field(description="Name of the stream; with its namespace where that is needed, as public.users.")
    namespace: str | None = Field(default=None, description="Namespace, of files and functions.")
    sync_mode: Literal["full_refresh", "append"] | None = Field(default=None, description="As the component's.")
    json_schema: Mapping[str, Any] | str | None = Field(
        default=None, description="JSON schema of a record, or a file of it beside this one; of files and functions."
    )
    description: str | None = Field(default=None, description="What the stream is; of files and functions.")
    partitions_def: as_said(PartitionsModel | str | None) = Field(  # type: ignore[valid-type]
        default=None, description="Partitions of this stream; null for none."
    )
    io_manager_key: str | None = Field(default=None, description="IO manager of this stream.")
    translation: dg.AssetAttributesModel | None = Field(  # type: ignore[valid-type]  # made by Dagster
        default=None, description="Attributes of this stream's asset, over those of the component."
    )


StreamsModel = list[StreamModel | str]
_list: TypeAdapter[Any] = TypeAdapter(list[Mapping[str, Any] | str])
_stream_model: TypeAdapter[Any] = TypeAdapter(StreamModel)


@dataclass(frozen=True)
class ComponentStream:
    """A stream of a component, with what is said of it alone; None where the component's holds.

    `unpartitioned` says that it has no partitions, whatever the component has.
    """

    name: str
    namespace: str | None = None
    sync_mode: str | None = None
    json_schema: Mapping[str, Any] | None = None
    description: str | None = None
    partitions_def: dg.PartitionsDefinition[Any] | None = None
    unpartitioned: bool = False
    io_manager_key: str | None = None
    translation: Translation | None = None
    place: Place = NOWHERE


def resolve_streams(context: dg.ResolutionContext, given: Any) -> Sequence[ComponentStream] | None:
    """The streams of a list in YAML; None where there is no list."""
    if given is None:
        return None
    entries = Place(context).validated(_list, given)
    return [_resolved(context.at_path(number), each) for number, each in enumerate(entries)]


def _resolved(context: dg.ResolutionContext, given: Any) -> ComponentStream:
    place = Place(context)
    if isinstance(given, str):
        return ComponentStream(rendered(context, given), place=place)
    model = place.validated(_stream_model, given)
    plain = model.model_dump(exclude_unset=True, exclude={"partitions_def", "translation", "json_schema"})
    with place.told():
        return ComponentStream(
            **rendered(context, plain),
            json_schema=_json_schema(model.json_schema, place),
            partitions_def=resolve_partitions(context.at_path("partitions_def"), model.partitions_def),
            unpartitioned="partitions_def" in model.model_fields_set and model.partitions_def is None,
            translation=_translation(context, model.translation),
            place=place,
        )


def _json_schema(given: Mapping[str, Any] | str | None, place: Place) -> Mapping[str, Any] | None:
    if not isinstance(given, str):
        return given
    path = Path(place.path_of(given))
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


Chosen = tuple[ComponentStream, Stream]
"""What is said of a stream, and the stream."""


def chosen_streams(
    source: Source, streams: Sequence[ComponentStream | str] | None, sync_mode: str | None
) -> list[Chosen]:
    """The streams that are said, or all that the source tells of; in `sync_mode` where they say none of their own.

    Raises SettingsError for streams that the source has not, and for several that it could not tell apart.
    """
    said = _all(source) if streams is None else [_said(each) for each in streams]
    if len(said) > 1 and not _tells_streams_apart(source):
        raise SettingsError(
            "The source would give the same records for each of several streams. Let the function have a parameter "
            "`stream`, or the path a placeholder {{ stream_name }}; or name one stream.",
            setting="streams",
        )
    chosen = []
    for each in said:
        with each.place.told():
            chosen.append((each, _stream(source, each, each.sync_mode or sync_mode)))
    return chosen


def _said(stream: ComponentStream | str) -> ComponentStream:
    return ComponentStream(stream) if isinstance(stream, str) else stream


def _all(source: Source) -> list[ComponentStream]:
    """The streams of a source of which none was named."""
    if isinstance(source, AirbyteSource):
        return [ComponentStream(str(each.id)) for each in _catalog(source).streams]
    if isinstance(source, FileSource):
        raise SettingsError("Files do not tell which stream they are: name it in streams.", setting="streams")
    return [ComponentStream(source.__name__)]


def _tells_streams_apart(source: Source) -> bool:
    if isinstance(source, FileSource):
        return "stream_name" in source.names()
    return isinstance(source, AirbyteSource) or takes_stream(source)


def _stream(source: Source, said: ComponentStream, sync_mode: str | None) -> Stream:
    if isinstance(source, AirbyteSource):
        found = named_stream(_catalog(source).streams, _full_name(said))
        return replace(found, sync_mode=sync_mode) if sync_mode else found  # type: ignore[arg-type]  # it takes the text
    check_record_schema(said.json_schema, said.name)
    return Stream(
        name=said.name,
        namespace=said.namespace,
        json_schema=said.json_schema,
        sync_mode=sync_mode or SyncMode.FULL_REFRESH,  # type: ignore[arg-type]  # it takes the text
        description=said.description or (None if isinstance(source, FileSource) else inspect.getdoc(source)),
    )


def _full_name(said: ComponentStream) -> str:
    """The name by which a catalog knows the stream. SettingsError for what the catalog says already."""
    for name in ("json_schema", "description"):
        if getattr(said, name) is not None:
            raise SettingsError(
                f"{name} of {said.name} has no effect: the connector's catalog says it.", stream=said.name, setting=name
            )
    return f"{said.namespace}.{said.name}" if said.namespace else said.name


def _catalog(source: AirbyteSource) -> Catalog:
    if source.catalog is None:
        raise SettingsError(
            f"The streams of {source.name} are in its catalog, and it has none: write it once with `s3dest discover`, "
            "and give it to the source.",
            setting="source",
        )
    return source.catalog


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
