"""What an asset of a component does: reads one stream of its source.

It must not know YAML, nor where records go.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import dagster as dg

from s3dest_dagster.orchestration.assets import Body
from s3dest_dagster.orchestration.connector_runs import values_of
from s3dest_dagster.orchestration.declared import partitions_of_run
from s3dest_dagster.orchestration.source_assets import connector_body
from s3dest_dagster.sources.airbyte import AirbyteSource
from s3dest_dagster.sources.files import FileSource
from s3dest_dagster.stream import Stream

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
