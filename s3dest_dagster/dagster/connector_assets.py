"""`build_stream_assets` and `connector_assets`: the streams of a source as assets, each read alone or all by one run.

Must not know: where records go.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import EllipsisType
from typing import Any, Unpack

import dagster as dg

from s3dest_dagster.dagster.assets import AssetSettings
from s3dest_dagster.dagster.lineage import SourceAssets, WithSourceAssets
from s3dest_dagster.dagster.multi_asset import build_multi_asset
from s3dest_dagster.dagster.source_assets import build_source_asset
from s3dest_dagster.dagster.translator import S3DestinationTranslator, check_distinct
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.fields import refuse_unknown, refuse_variables
from s3dest_dagster.settings.stream_settings import STREAM_SETTINGS, StreamSettings
from s3dest_dagster.sources import RequestedStream, Source
from s3dest_dagster.sources.airbyte.catalog import Catalog, read_catalog
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.stream import Stream, SyncMode


def build_stream_assets(
    source: AirbyteSource | Source,
    *,
    start_date: str | None = None,
    partitions_def: dg.PartitionsDefinition[Any] | EllipsisType | None = ...,
    catalog: Catalog | Mapping[str, Any] | str | PathLike[str] | None = None,
    streams: Sequence[str] | Mapping[str, SyncMode | str | Mapping[str, Any] | None] | None = None,
    translator: S3DestinationTranslator | None = None,
    as_one_run: bool | str = False,
    source_assets: bool | str = False,
    **asset: Unpack[AssetSettings],
) -> list[dg.AssetsDefinition]:
    """Builds an asset for each stream of a connector or another source, with daily partitions by default.

    Each partition is read by a run of the connector, whose config names the slice (`{{ partition_start }}`, see
    `sources.templating.partition_values`); no state is kept. Without partitions a stream is one scope, and an append
    continues from the state that it last reached. Values of the source's config and `env` may be `dg.EnvVar`; they are
    looked up when a run starts.

    Args:
        source: The connector, or another source, such as a `SqlSource`.
        start_date: The first day of the daily partitions, as "2026-01-31".
        partitions_def: Other partitions, or None for no partitions. Use it instead of `start_date`.
        catalog: The output of `s3dest discover`, as a file or a mapping; by default the source's own catalog. If it is
            a configured catalog, and the source has the discovered one, the fields that it leaves out do not land.
        streams: Names of streams to select ("users" or "public.users"), or a mapping of them to their sync modes
            (full_refresh, append) or settings: `sync_mode`, `namespace`, those of `StreamSettings`, such as
            `{"users": {"fields": {"exclude": ["mail"]}}}`, and, unless a catalog has them, `json_schema` and
            `description`; by default all streams, in the catalog's order and modes.
        translator: Maps each stream to an asset.
        as_one_run: Whether to build one definition, whose step starts the connector once for all selected streams and
            lands them side by side. This is for sources that are slow to start, or that return the changes of all
            streams together. A text sets the name of the step. A stream that fails does not stop the others, and a
            retry reads only the failed streams.
        source_assets: Whether the list ends with external assets of the streams as they are in the connector's source,
            on which the others depend, so that Dagster shows the lineage of assets and columns. A text is the prefix of
            their keys; True takes the connector's name. An automation condition that waits for all dependencies, such
            as `on_cron`, never holds with them; let it ignore their keys.
        asset: Arguments of `dg.asset` for each of the assets (see `AssetSettings`).

    Raises:
        SettingsError: If the catalog lacks a stream, if a setting of a stream is wrong, if two streams would be the
            same asset, or if neither `start_date` nor `partitions_def` is given.

    Example:
        import dagster as dg
        from s3dest_dagster import AirbyteSource, S3DestinationIOManager, build_stream_assets

        shop = AirbyteSource(
            "source-shop", {"api_key": dg.EnvVar("SHOP_API_KEY"), "start_date": "{{ partition_start }}"}
        )
        defs = dg.Definitions(
            assets=build_stream_assets(shop, start_date="2026-01-01", catalog="catalog.json", streams=["users"]),
            resources={"io_manager": S3DestinationIOManager(s3_bucket_name="my-bucket")},
        )
    """
    partitions = _partitions(start_date, partitions_def)
    if isinstance(source, AirbyteSource):
        known = _catalog(catalog, source)
        source = replace(source, catalog=known)
        selected = known.streams if streams is None else _select_streams(source, streams)
    else:
        _refuse_connector_settings(catalog, as_one_run, source_assets)
        selected = _select_streams(source, source.stream_names() if streams is None else streams)
    translator = translator or S3DestinationTranslator()
    external = list[dg.AssetsDefinition]()
    if source_assets and isinstance(source, AirbyteSource):
        upstream = SourceAssets(source, source_assets)
        translator, external = WithSourceAssets(translator, upstream), [upstream.definition(selected)]
    asset["kinds"] = {*source.asset_kinds, *(asset.get("kinds") or ())}
    if as_one_run and selected and (several := source.as_multi_stream()) is not None:
        name = as_one_run if isinstance(as_one_run, str) else None
        return [build_multi_asset(several, selected, translator, partitions, asset, name), *external]
    definitions = []
    for stream in selected:
        its_partitions = partitions or translator.get_asset_spec(stream).partitions_def
        definitions.append(build_source_asset(source, stream, translator, its_partitions, asset))
    check_distinct((stream, definition.key) for stream, definition in zip(selected, definitions, strict=True))
    return [*definitions, *external]


def connector_assets(
    *,
    source: AirbyteSource,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
    catalog: Catalog | Mapping[str, Any] | str | PathLike[str] | None = None,
    streams: Sequence[str] | Mapping[str, SyncMode | str | Mapping[str, Any] | None] | None = None,
    translator: S3DestinationTranslator | None = None,
    name: str | None = None,
    **asset: Unpack[AssetSettings],
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """One definition of a connector's streams, whose step runs the decorated function.

    The function has a parameter `run`. `yield from run(context)` reads the connector once and lands the selected
    streams; `run(context, streams=["users"])` only these of them, and the others are not materialized. Before and
    after, the function may do anything. It may also have `context`, config, and resources. If a stream fails, `run`
    raises after the others have landed.

    Args:
        source, catalog, streams, translator: See `build_stream_assets`.
        partitions_def: The partitions of all streams; none by default.
        name: The step's name; by default the function's.
        asset: Arguments of `dg.asset` for each of the assets (see `AssetSettings`).

    Raises:
        SettingsError: The function has no parameter `run`, or as for `build_stream_assets`.

    Example:
        import dagster as dg
        from s3dest_dagster import AirbyteSource, connector_assets

        @connector_assets(source=AirbyteSource("source-shop", {}), catalog="catalog.json", streams=["users"])
        def shop(context: dg.AssetExecutionContext, run):
            context.log.info("The shop is open.")
            yield from run(context)
    """
    known = _catalog(catalog, source)
    source = replace(source, catalog=known)
    selected = known.streams if streams is None else _select_streams(source, streams)
    if not selected:
        raise SettingsError("connector_assets has no stream to land. Name at least one.", setting="streams")
    asset["kinds"] = {*source.asset_kinds, *(asset.get("kinds") or ())}

    def decorate(body: Callable[..., Any]) -> dg.AssetsDefinition:
        own = translator or S3DestinationTranslator()
        return build_multi_asset(source, selected, own, partitions_def, asset, name or body.__name__, body)

    return decorate


def _partitions(
    start_date: str | None, partitions_def: dg.PartitionsDefinition[Any] | EllipsisType | None
) -> dg.PartitionsDefinition[Any] | None:
    """Daily partitions from the start date, or those that are given."""
    refuse_variables("start_date", start_date)
    if isinstance(partitions_def, EllipsisType):
        if start_date is None:
            raise SettingsError(
                "Streams are partitioned by day unless partitions_def says otherwise: give the first day as "
                'start_date="2026-01-31", or partitions_def, or partitions_def=None for no partitions.',
                setting="start_date",
            )
        return dg.DailyPartitionsDefinition(start_date=start_date)
    if start_date is not None:
        raise SettingsError(
            "start_date and partitions_def both say how the streams are partitioned; give one of them.",
            setting="start_date",
        )
    return partitions_def


def _catalog(catalog: Any, source: AirbyteSource) -> Catalog:
    if catalog is None:
        catalog = source.catalog
    if catalog is None:
        raise SettingsError(
            f"build_stream_assets needs the catalog of {source.name}: write it once with `s3dest discover`, and give "
            "the file as catalog.",
            setting="catalog",
        )
    known: Catalog = catalog if isinstance(catalog, Catalog) else _read_catalog(catalog)
    if source.catalog is None or known.discovered is not None:
        return known
    return replace(known, discovered=source.catalog.raw)


def _read_catalog(catalog: Any) -> Catalog:
    return read_catalog(catalog if isinstance(catalog, Mapping) else Path(catalog))


def _refuse_connector_settings(catalog: Any, as_one_run: bool | str, source_assets: bool | str) -> None:
    """Raises SettingsError for an argument that is for connectors only."""
    settings = (("catalog", catalog is not None), ("as_one_run", as_one_run), ("source_assets", source_assets))
    for name, given in settings:
        if given:
            raise SettingsError(f"{name} is for connectors, and this source is none. Leave it out.", setting=name)


def _select_streams(source: Source, selection: Sequence[str] | Mapping[str, Any]) -> Sequence[Stream]:
    given = selection if isinstance(selection, Mapping) else {}
    return [source.describe_stream(_requested(name, given.get(name))) for name in dict.fromkeys(selection)]


_OF_REQUEST = ("sync_mode", "namespace", "json_schema", "description")
"""What is asked of a stream of any source. A connector's catalog has its own schemas and descriptions."""


def _requested(name: str, given: Any) -> RequestedStream:
    """The stream that is asked for by its name, with its sync mode or its settings."""
    if not isinstance(given, Mapping):
        return RequestedStream(name, sync_mode=given)
    refuse_unknown(f"Stream {name!r}", given, (*_OF_REQUEST, *STREAM_SETTINGS))
    request = {key: value for key, value in given.items() if key in _OF_REQUEST}
    own = {key: value for key, value in given.items() if key not in _OF_REQUEST}
    return RequestedStream(name, **request, settings=StreamSettings(**own))
