"""Which streams a component has: those that are said, as its source knows them.

It must not know assets.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.orchestration.components.bodies import Source, takes_stream
from s3dest_dagster.orchestration.components.streams import ComponentStream
from s3dest_dagster.orchestration.record_schema import check_record_schema
from s3dest_dagster.orchestration.source_assets import named_stream
from s3dest_dagster.sources.airbyte import AirbyteSource
from s3dest_dagster.sources.catalog import Catalog
from s3dest_dagster.sources.files import FileSource
from s3dest_dagster.stream import Stream, SyncMode

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
