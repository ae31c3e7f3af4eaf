"""Refuses, when a step begins, two assets of a code location that land one stream.

The registry of a stream refuses a second owner, too, once the first has landed. Here the first run is refused, before
anything is written, and also if both assets name the same owner. Must not know: how streams are landed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import dagster as dg
from dagster_shared.check import CheckError

from s3dest_dagster.dagster.asset_metadata import stream_id_of
from s3dest_dagster.errors import OwnershipError
from s3dest_dagster.stream import StreamId


def refuse_shared_streams(execution: dg.AssetExecutionContext | None, keys: Iterable[dg.AssetKey]) -> None:
    """Raises OwnershipError, with both assets, if another asset lands the stream of one of these assets of a step.

    Only assets with the same IO manager are compared. Whether two IO managers land in one directory is known only to
    the registry there. Outside of a code location, as in `dg.materialize`, the registry alone refuses.

    Args:
        execution: The step's context. None outside of a step.
        keys: The assets that the step lands.
    """
    if execution is None:
        return
    others = dict[tuple[str, StreamId], list[dg.AssetKey]]()
    for key, landed in _landed(_assets_of_location(execution)):
        others.setdefault(landed, []).append(key)
    for key in keys:
        for landed in (landed for own, landed in _landed([execution.assets_def]) if own == key):
            for other in others.get(landed, ()):
                if other != key:
                    raise _shared(landed[1], *sorted((key, other)))


def _assets_of_location(execution: dg.AssetExecutionContext) -> list[dg.AssetsDefinition]:
    """The asset definitions of the step's code location. Empty if the run has none."""
    try:
        return list(set(execution.repository_def.assets_defs_by_key.values()))
    except CheckError:
        return []


def _landed(assets: Iterable[dg.AssetsDefinition]) -> Iterator[tuple[dg.AssetKey, tuple[str, StreamId]]]:
    """Yields each asset that a step makes, with its IO manager and its stream."""
    for asset in assets:
        for key in asset.keys if asset.is_executable else ():
            yield key, (asset.get_io_manager_key_for_asset_key(key), stream_id_of(key, asset.metadata_by_key[key]))


def _shared(stream: StreamId, one: dg.AssetKey, other: dg.AssetKey) -> OwnershipError:
    return OwnershipError(
        f"The assets {one.to_user_string()} and {other.to_user_string()} would both land the stream {str(stream)!r}: "
        "one would replace what the other landed. Nothing was written. Give one of them another namespace "
        "(namespace=… of stream_asset, or the metadata s3dest/namespace), another name, or an IO manager with another "
        "s3_bucket_path.",
        stream=str(stream),
    )
