"""Finds the destinations and streams of selected assets in Dagster definitions.

The command's `--module`, `--defs` and `--select` use it. Must not know: what is done with them.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import dagster as dg

from s3dest_dagster.commit.registry import owner_of
from s3dest_dagster.dagster.asset_metadata import partition_scopes, stream_of
from s3dest_dagster.dagster.code_location import CodeLocation
from s3dest_dagster.dagster.io_manager import S3DestinationIOManager
from s3dest_dagster.errors import SettingsError, did_you_mean
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.stream_settings import StreamSettings
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, StreamId


@dataclass(frozen=True, slots=True)
class SelectedStreams:
    """The streams that the selected assets of one IO manager land."""

    manager: str
    """The resource key of the IO manager."""
    destination: S3Destination
    bucket: Bucket
    connection: S3Connection | None
    """How the bucket is reached. None if the IO manager's `s3` only makes clients."""
    defined: tuple[Stream, ...]
    """The streams as they land: with the owner that each has as an asset."""
    partitions: Mapping[StreamId, dg.PartitionsDefinition[Any] | None]
    """The streams, with their names in the bucket, and the partitions of their definitions."""
    settings: Mapping[str, StreamSettings]
    """The settings of the streams, by their names in the source."""

    @property
    def streams(self) -> frozenset[StreamId]:
        """The streams, with their names in the bucket."""
        return frozenset(self.partitions)

    def scope_to_land(self, stream: Stream, partition: str | None, now: datetime) -> Scope | None:
        """What a run lands of a stream: this partition, or by default the newest one. None if it has no such partition.

        Raises:
            SettingsError: Only a running Dagster instance knows the partitions, and none is named.
        """
        partitions = self.partitions[stream.id.prefixed(self.destination.stream_prefix)]
        if partitions is None:
            return Scope(stream.id) if partition is None else None
        if partition is None and is_dynamic(partitions):
            raise SettingsError(
                f"Only Dagster knows the partitions of {stream.id}. Name one by --partition, or select other assets.",
                stream=str(stream.id),
                setting="partition",
            )
        known = None if is_dynamic(partitions) else partitions.get_partition_keys(current_time=now)
        if known == [] or (known is not None and partition is not None and partition not in known):
            return None
        key = partition if partition is not None else (known or [""])[-1]
        return partition_scopes(stream.id, partitions, [key])[key]

    def defines(self, scope: Scope) -> bool:
        """Whether the definition of a scope's stream has the scope. True if only a running Dagster instance knows."""
        partitions = self.partitions[scope.stream]
        return is_dynamic(partitions) or defines_partition(partitions, scope.partition)


def defines_partition(partitions: dg.PartitionsDefinition[Any] | None, partition: str | None) -> bool:
    """Whether a definition has this partition; None is what has no partitions."""
    if partitions is None or partition is None:
        return (partitions is None) == (partition is None)
    return partitions.has_partition_key(partition)


def is_dynamic(partitions: dg.PartitionsDefinition[Any] | None) -> bool:
    """Whether only a Dagster instance knows the partitions."""
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        return any(is_dynamic(each.partitions_def) for each in partitions.partitions_defs)
    return isinstance(partitions, dg.DynamicPartitionsDefinition)


def select_landed(location: CodeLocation, selection: str, manager: str | None = None) -> list[SelectedStreams]:
    """The streams that the selected assets of a code location land, one entry for each IO manager.

    Assets of any other IO manager are left out.

    Args:
        location: What has the definitions.
        selection: Assets, in Dagster's syntax of selections.
        manager: Only assets of the IO manager with this resource key. None: of all.

    Raises:
        SettingsError: If the definitions cannot be loaded, or if no selected asset lands a stream.
    """
    definitions = location.load()
    keys = _selected(definitions, location, selection)
    by_manager: defaultdict[str, dict[dg.AssetKey, dg.AssetsDefinition]] = defaultdict(dict)
    for key in sorted(keys):
        asset = definitions.resolve_assets_def(key)
        if asset.is_executable:
            by_manager[asset.get_io_manager_key_for_asset_key(key)][key] = asset
    found = [streams for name, assets in by_manager.items() for streams in _landed(definitions, name, assets)]
    if not found:
        raise SettingsError(
            f"{selection!r} selects no asset of {location} that an S3DestinationIOManager lands. "
            f"It has: {', '.join(key.to_user_string() for key in sorted(definitions.resolve_all_asset_keys()))}.",
            setting="select",
        )
    return found if manager is None else _of_manager(found, manager)


def _of_manager(found: list[SelectedStreams], manager: str) -> list[SelectedStreams]:
    own = [each for each in found if each.manager == manager]
    if not own:
        raise SettingsError(
            f"No selected asset is landed by an IO manager {manager!r}. "
            f"{did_you_mean(manager, [each.manager for each in found])}",
            setting="io_manager",
        )
    return own


def _selected(definitions: dg.Definitions, location: CodeLocation, selection: str) -> set[dg.AssetKey]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=dg.BetaWarning)
        try:
            return set(dg.AssetSelection.from_string(selection).resolve(definitions.resolve_asset_graph()))
        except dg.DagsterError as error:
            raise SettingsError(
                f"--select {selection!r} cannot be found in {location}: {error}", setting="select"
            ) from None


def _landed(
    definitions: dg.Definitions, manager_key: str, assets: dict[dg.AssetKey, dg.AssetsDefinition]
) -> Iterator[SelectedStreams]:
    resource = (definitions.resources or {}).get(manager_key)
    if not isinstance(resource, S3DestinationIOManager):
        return
    with dg.build_resources({manager_key: resource}) as resources:
        manager = getattr(resources, manager_key)
        destination, bucket, connection = manager.destination(), manager.bucket(), manager.connection()
    streams = {key: stream_of(key, asset.metadata_by_key[key]) for key, asset in assets.items()}
    landed = {
        streams[key].id.prefixed(destination.stream_prefix): asset.specs_by_key[key].partitions_def
        for key, asset in assets.items()
    }
    yield SelectedStreams(
        manager=manager_key,
        destination=destination,
        bucket=bucket,
        connection=connection,
        defined=tuple(_owned(stream, destination, key) for key, stream in streams.items()),
        partitions=landed,
        settings={str(each.id): each.settings for each in streams.values()},
    )


def _owned(stream: Stream, destination: S3Destination, key: dg.AssetKey) -> Stream:
    owner = owner_of(stream, destination, key.to_user_string())
    return replace(stream, settings=replace(stream.settings, owner=owner))
