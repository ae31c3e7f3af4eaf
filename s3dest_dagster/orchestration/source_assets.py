"""A connector's streams as assets, one for each; each runs the connector for its stream alone.

It knows connectors and partitions; it must not know where records go.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import EllipsisType
from typing import Any, Unpack

import dagster as dg

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.orchestration.assets import AssetSettings, asset_of
from s3dest_dagster.orchestration.delivery import DeferredRead
from s3dest_dagster.orchestration.translator import S3DestinationTranslator, check_distinct
from s3dest_dagster.sources.airbyte import AirbyteSource
from s3dest_dagster.sources.catalog import Catalog, read_catalog
from s3dest_dagster.sources.templating import Values, partition_values
from s3dest_dagster.sources.transcript import LOG_LEVELS, Log
from s3dest_dagster.stream import Stream, SyncMode


def build_stream_assets(
    source: AirbyteSource,
    *,
    start_date: str | None = None,
    partitions_def: dg.PartitionsDefinition[Any] | EllipsisType | None = ...,
    catalog: Catalog | Mapping[str, Any] | str | PathLike[str] | None = None,
    streams: Sequence[str] | Mapping[str, SyncMode | str] | None = None,
    translator: S3DestinationTranslator | None = None,
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

    Raises SettingsError for streams that the catalog lacks, and when two streams would be the same asset.
    """
    partitions = _partitions(start_date, partitions_def)
    known = _catalog(catalog, source)
    chosen = _chosen(known.streams, streams)
    translator = translator or S3DestinationTranslator()
    source = replace(source, catalog=known)
    asset["kinds"] = {"airbyte", *(asset.get("kinds") or ())}
    made = [asset_of(each, _body(source, each, partitions), translator, partitions, asset) for each in chosen]
    check_distinct((stream, definition.key) for stream, definition in zip(chosen, made, strict=True))
    return made


def _partitions(
    start_date: str | None, partitions_def: dg.PartitionsDefinition[Any] | EllipsisType | None
) -> dg.PartitionsDefinition[Any] | None:
    """Daily partitions from the start date, or those that are given."""
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
    found = {name: _named(known, name) for name in wanted}
    return [_in_mode(each, modes.get(name)) for name, each in found.items()]


def _in_mode(stream: Stream, mode: SyncMode | str | None) -> Stream:
    return stream if mode is None else replace(stream, sync_mode=mode)  # type: ignore[arg-type]  # it takes the text


def _named(known: Sequence[Stream], name: str) -> Stream:
    """The stream of this name, with its namespace or, where that is enough, without."""
    exact = [each for each in known if str(each.id) == name]
    found = exact or [each for each in known if each.name == name]
    if len(found) == 1:
        return found[0]
    names = sorted(str(each.id) for each in known)
    if found:
        same = ", ".join(str(each.id) for each in found)
        raise SettingsError(f"The catalog has several streams {name!r}: {same}. Name one.", setting="streams")
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"It has: {', '.join(names) or 'none'}."
    raise SettingsError(f"The catalog has no stream {name!r}. {hint}", stream=name, setting="streams")


# ---------------------------------------------------------------------- the body of such an asset


def _body(
    source: AirbyteSource, stream: Stream, partitions: dg.PartitionsDefinition[Any] | None
) -> Callable[[dg.AssetExecutionContext], Any]:
    def read(context: dg.AssetExecutionContext) -> Any:
        ready = replace(source, config=looked_up(source.config), env=looked_up(source.env))
        log = _log_to(context)
        if partitions is None:
            return _deferred(ready, stream, None, log)
        return {key: _deferred(ready, stream, values_of(partitions, key), log) for key in context.partition_keys}

    return read


def _deferred(source: AirbyteSource, stream: Stream, values: Values | None, log: Log) -> DeferredRead:
    def open_from(state: str | None) -> Any:
        states = None if state is None else [state.encode()]
        return source.read([stream], state=states, config_values=values, log=log)

    return DeferredRead(open_from)


def values_of(partitions: dg.PartitionsDefinition[Any], key: str) -> dict[str, str | int]:
    """What a connector's config can name of this partition: its key, its dimensions, its time window."""
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        many = partitions.get_partition_key_from_str(key)
        window = partitions.time_window_for_partition_key(many) if partitions.has_time_window_dimension else None
        dimensions = dict(many.keys_by_dimension)
    else:
        window = _window(partitions, key)
        dimensions = {}
    if window is None:
        return partition_values(str(key), dimensions=dimensions)
    return partition_values(str(key), dimensions=dimensions, start=window.start, end=window.end)


def _window(partitions: dg.PartitionsDefinition[Any], key: str) -> dg.TimeWindow | None:
    return (
        partitions.time_window_for_partition_key(key)
        if isinstance(partitions, dg.TimeWindowPartitionsDefinition)
        else None
    )


def looked_up(value: Any) -> Any:
    """A config with every `dg.EnvVar` in it replaced by the variable's value. SettingsError for one that is not set."""
    if isinstance(value, dg.EnvVar):
        found = value.get_value()
        if found is None:
            raise SettingsError(
                f"The environment variable {value.env_var_name} is not set, and the source's config names it.",
                setting=value.env_var_name,
            )
        return found
    if isinstance(value, Mapping):
        return {name: looked_up(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [looked_up(inner) for inner in value]
    return value


def _log_to(context: dg.AssetExecutionContext) -> Log:
    """Takes what the connector logs into the run's log, at its level."""
    return lambda level, message: context.log.log(LOG_LEVELS[level], "%s", message)
