"""Finds the destinations and streams of selected assets in the definitions of a module.

The command's `--module` and `--select` use it. Must not know: what is done with them.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import dagster as dg

from s3dest_dagster.dagster.asset_metadata import stream_of
from s3dest_dagster.dagster.io_manager import S3DestinationIOManager
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.stream_settings import StreamSettings
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId


@dataclass(frozen=True, slots=True)
class SelectedStreams:
    """The streams that the selected assets of one IO manager land."""

    destination: S3Destination
    bucket: Bucket
    partitions: Mapping[StreamId, dg.PartitionsDefinition[Any] | None]
    """The streams, with their names in the bucket, and the partitions of their definitions."""
    settings: Mapping[str, StreamSettings]
    """The settings of the streams, by their names in the source."""

    @property
    def streams(self) -> frozenset[StreamId]:
        """The streams, with their names in the bucket."""
        return frozenset(self.partitions)

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


def select_landed(module: str, selection: str) -> list[SelectedStreams]:
    """The streams that the selected assets of a module land, one entry for each IO manager.

    Assets of any other IO manager are left out.

    Args:
        module: The module that has `Definitions`, as Dagster imports it.
        selection: Assets, in Dagster's syntax of selections.

    Raises:
        SettingsError: If the module cannot be imported or has no definitions, or if no selected asset lands a stream.
    """
    definitions = _definitions(module)
    keys = _selected(definitions, module, selection)
    by_manager: defaultdict[str, dict[dg.AssetKey, dg.AssetsDefinition]] = defaultdict(dict)
    for key in sorted(keys):
        asset = definitions.resolve_assets_def(key)
        if asset.is_executable:
            by_manager[asset.get_io_manager_key_for_asset_key(key)][key] = asset
    found = [streams for name, assets in by_manager.items() for streams in _landed(definitions, name, assets)]
    if not found:
        raise SettingsError(
            f"{selection!r} selects no asset of {module} that an S3DestinationIOManager lands. "
            f"It has: {', '.join(key.to_user_string() for key in sorted(definitions.resolve_all_asset_keys()))}.",
            setting="select",
        )
    return found


def _selected(definitions: dg.Definitions, module: str, selection: str) -> set[dg.AssetKey]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=dg.BetaWarning)
        try:
            return set(dg.AssetSelection.from_string(selection).resolve(definitions.resolve_asset_graph()))
        except dg.DagsterError as error:
            raise SettingsError(
                f"--select {selection!r} cannot be found in {module}: {error}", setting="select"
            ) from None


def _landed(
    definitions: dg.Definitions, manager_key: str, assets: dict[dg.AssetKey, dg.AssetsDefinition]
) -> Iterator[SelectedStreams]:
    resource = (definitions.resources or {}).get(manager_key)
    if not isinstance(resource, S3DestinationIOManager):
        return
    with dg.build_resources({manager_key: resource}) as resources:
        manager = getattr(resources, manager_key)
        destination, bucket = manager.destination(), manager.bucket()
    streams = {key: stream_of(key, asset.metadata_by_key[key]) for key, asset in assets.items()}
    landed = {
        streams[key].id.prefixed(destination.stream_prefix): asset.specs_by_key[key].partitions_def
        for key, asset in assets.items()
    }
    yield SelectedStreams(destination, bucket, landed, {str(each.id): each.settings for each in streams.values()})


def _definitions(module: str) -> dg.Definitions:
    """The definitions of a module. As in Dagster, the working directory is searched first."""
    with _working_directory_first():
        try:
            loaded = import_module(module)
        except ImportError as error:
            raise SettingsError(f"--module {module!r} cannot be imported: {error}.", setting="module") from error
        found = [definitions for value in vars(loaded).values() if (definitions := _as_definitions(value)) is not None]
    if len(found) != 1:
        raise SettingsError(
            f"--module {module!r} has {len(found)} Definitions, and one is needed. Name the code location's module.",
            setting="module",
        )
    return found[0]


def _as_definitions(value: Any) -> dg.Definitions | None:
    """A module's value if it is `Definitions`, or its result if `dg.definitions` created it."""
    if isinstance(value, dg.Definitions):
        return value
    return value() if type(value).__name__ == "LazyDefinitions" and not value.has_context_arg else None


@contextmanager
def _working_directory_first() -> Iterator[None]:
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path.remove(os.getcwd())
