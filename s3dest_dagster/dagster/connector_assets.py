"""A connector's streams as assets: each runs the connector for its stream alone, or all are landed by one run of it.

It knows connectors and partitions; it must not know where records go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import EllipsisType
from typing import Any, Unpack

import dagster as dg

from s3dest_dagster.commit.head import ReachedState
from s3dest_dagster.dagster.asset_metadata import partitions_of_run, values_of
from s3dest_dagster.dagster.assets import AssetSettings, asset_of
from s3dest_dagster.dagster.multi_asset import asset_of_streams, log_to, reads_on, ready
from s3dest_dagster.dagster.outputs import DeferredRead
from s3dest_dagster.dagster.translator import S3DestinationTranslator, check_distinct
from s3dest_dagster.errors import SettingsError, did_you_mean
from s3dest_dagster.settings.fields import refuse_variables
from s3dest_dagster.sources.airbyte.catalog import Catalog, read_catalog
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.sources.airbyte.messages import Log
from s3dest_dagster.sources.templating import Values
from s3dest_dagster.stream import Stream, SyncMode


def build_stream_assets(
    source: AirbyteSource,
    *,
    start_date: str | None = None,
    partitions_def: dg.PartitionsDefinition[Any] | EllipsisType | None = ...,
    catalog: Catalog | Mapping[str, Any] | str | PathLike[str] | None = None,
    streams: Sequence[str] | Mapping[str, SyncMode | str] | None = None,
    translator: S3DestinationTranslator | None = None,
    as_one_run: bool | str = False,
    **asset: Unpack[AssetSettings],
) -> list[dg.AssetsDefinition]:
    """The streams of a connector as assets.

    `catalog` is what `s3dest discover` printed, as a file or a mapping; without it the source's own. `streams` selects
    some by name ("users" or "public.users"), and in a mapping says their sync modes; without it all are taken, in the
    catalog's order and modes. `asset` are arguments of `dg.asset` for each of them, see `AssetSettings`.

    Each stream is partitioned by day from `start_date` on ("2026-01-31"), or as `partitions_def` says, or not at all
    when that is None. Each partition is read by a run of the connector, whose config names the slice
    (`{{ partition_start }}`, see `sources.templating.partition_values`); no state is kept. Without partitions a
    stream is one scope, and one that appends goes on from the state that it last reached. Values of the source's
    config and `env` may be `dg.EnvVar`; they are looked up when a run starts.

    `as_one_run` makes one definition of them, whose step starts the connector once for all streams that are selected
    and lands them side by side: for sources that are slow to begin, or that tell all streams' changes at once. A text
    is the step's name. A stream that fails does not hold up the others, and a retry reads only what failed.

    Raises SettingsError for streams that the catalog lacks, and when two streams would be the same asset.
    """
    partitions = _partitions(start_date, partitions_def)
    known = _catalog(catalog, source)
    chosen = _chosen(known.streams, streams)
    translator = translator or S3DestinationTranslator()
    source = replace(source, catalog=known)
    asset["kinds"] = {"airbyte", *(asset.get("kinds") or ())}
    if as_one_run and chosen:
        name = as_one_run if isinstance(as_one_run, str) else None
        return [asset_of_streams(source, chosen, translator, partitions, asset, name)]
    made = []
    for each in chosen:
        its_partitions = partitions or translator.get_asset_spec(each).partitions_def
        body = connector_body(source, each, its_partitions)
        made.append(asset_of(each, body, translator, its_partitions, asset))
    check_distinct((stream, definition.key) for stream, definition in zip(chosen, made, strict=True))
    return made


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
    if isinstance(catalog, Catalog):
        return catalog
    return read_catalog(catalog if isinstance(catalog, Mapping) else Path(catalog))


def _chosen(known: Sequence[Stream], wanted: Sequence[str] | Mapping[str, SyncMode | str] | None) -> list[Stream]:
    if wanted is None:
        return list(known)
    modes = wanted if isinstance(wanted, Mapping) else {}
    found = {name: named_stream(known, name) for name in wanted}
    return [_in_mode(each, modes.get(name)) for name, each in found.items()]


def _in_mode(stream: Stream, mode: SyncMode | str | None) -> Stream:
    return stream if mode is None else replace(stream, sync_mode=mode)  # type: ignore[arg-type]  # it takes the text


def named_stream(known: Sequence[Stream], name: str) -> Stream:
    """The stream of this name, with its namespace or, where that is enough, without."""
    exact = [each for each in known if str(each.id) == name]
    found = exact or [each for each in known if each.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        same = ", ".join(str(each.id) for each in found)
        raise SettingsError(f"The catalog has several streams {name!r}: {same}. Name one.", setting="streams")
    hint = did_you_mean(name, (str(each.id) for each in known))
    raise SettingsError(f"The catalog has no stream {name!r}. {hint}", stream=name, setting="streams")


# ---------------------------------------------------------------------- the body of such an asset


def connector_body(
    source: AirbyteSource, stream: Stream, partitions: dg.PartitionsDefinition[Any] | None
) -> Callable[[dg.AssetExecutionContext], Any]:
    """Reads the stream by a run of the connector for each partition of the step."""

    def read(context: dg.AssetExecutionContext) -> Any:
        now, log = ready(source), log_to(context)
        if partitions is None:
            return _deferred(now, stream, None, log)
        keys = partitions_of_run(context, stream.id)
        return {key: _deferred(now, stream, values_of(partitions, key), log) for key in keys}

    return read


def _deferred(source: AirbyteSource, stream: Stream, values: Values | None, log: Log) -> DeferredRead:
    def open_from(state: ReachedState | None) -> Any:
        states = [state.text.encode()] if state is not None and reads_on(source, stream, state) else None
        return source.read([stream], state=states, config_values=values, log=log)

    return DeferredRead(open_from, allow_empty=source.allow_empty)
