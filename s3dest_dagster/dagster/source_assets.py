"""The asset of a source's stream: one step that reads it, or a step for each of its shards.

Must not know: what kinds of sources there are, where records go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dagster as dg

from s3dest_dagster.dagster.asset_metadata import partition_values_of
from s3dest_dagster.dagster.assets import AssetBody, AssetSettings, build_asset, over_slices, run_log
from s3dest_dagster.dagster.config import look_up
from s3dest_dagster.dagster.sharded_asset import build_sharded_asset
from s3dest_dagster.dagster.source_metadata import versioned
from s3dest_dagster.dagster.translator import S3DestinationTranslator
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources import ShardedSource, Slice, Source
from s3dest_dagster.stream import Stream


def build_source_asset(
    source: Source,
    stream: Stream,
    translator: S3DestinationTranslator,
    partitions: dg.PartitionsDefinition[Any] | None,
    settings: AssetSettings,
    body: AssetBody | None = None,
) -> dg.AssetsDefinition:
    """Builds the asset of one stream of a source. If the source has several shards, each of them is a step.

    `body` is what the step does; None: it only lands. Raises SettingsError if there are a body and several steps.
    """
    if isinstance(source, ShardedSource) and source.shards > 1:
        if body is not None:
            raise SettingsError(
                f"{stream.id} is read by several steps, one for each shard, so that there is no one step whose body "
                "could be replaced. Leave shards out, or do not override execute.",
                stream=str(stream.id),
                setting="shards",
            )
        return _sharded(source, stream, translator, partitions, settings)
    function = source.asset_function(stream, over_slices(stream, partitions))
    if settings.get("code_version") is None:
        settings = {**settings, "code_version": versioned(translator.get_asset_spec(stream), source).code_version}
    return build_asset(stream, function, translator, partitions, settings, body)


def _sharded(
    source: ShardedSource,
    stream: Stream,
    translator: S3DestinationTranslator,
    partitions: dg.PartitionsDefinition[Any] | None,
    settings: AssetSettings,
) -> dg.AssetsDefinition:
    def slice_of(context: dg.OpExecutionContext) -> Slice:
        if partitions is None:
            return Slice(None, run_log(context), look_up)
        # A sharded asset refuses a run of several partitions before this is called.
        return Slice(partition_values_of(partitions, context.partition_key), run_log(context), look_up)

    def read_shard(context: dg.OpExecutionContext, shard: str) -> Iterable[Any]:
        return source.read_shard(stream, slice_of(context), shard)

    return build_sharded_asset(
        stream,
        read_shard,
        lambda context: source.shards_of(stream, slice_of(context)),
        translator,
        partitions,
        settings,
        json_schema=lambda context: source.schema_of(stream, slice_of(context)),
    )
