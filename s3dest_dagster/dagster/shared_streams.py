"""Refuses two assets of a code location that would land one stream, when the definitions are loaded.

Dagster checks for each job whether its resources are there. The ops of stream assets add one requirement to that check:
that no two assets of the job land the same stream. Must not know: how streams are landed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster._core.definitions.resource_requirement import ResourceRequirement

from s3dest_dagster.dagster.asset_metadata import stream_of
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.keys import KeyTemplate
from s3dest_dagster.settings.connection import is_aws
from s3dest_dagster.stream import StreamId


def refuse_shared_streams(definition: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The definition, which Dagster refuses to load together with an asset that lands the same stream."""
    # Dagster has no hook for a check of all assets. An op of this class is an op in every other respect.
    next(_ops_of(definition)).__class__ = _StreamOp
    return definition


def _ops_of(asset: dg.AssetsDefinition) -> Iterator[dg.OpDefinition]:
    """The asset's op, or those of its graph."""
    return iter(asset.node_def.iterate_op_defs())


class _StreamOp(dg.OpDefinition):
    """The op of an asset that lands streams."""

    def get_resource_requirements(self, handle: Any, asset_layer: Any) -> Iterator[ResourceRequirement]:
        yield from super().get_resource_requirements(handle, asset_layer)
        if asset_layer is None:
            return
        # An asset that the job does not run, or that nothing in this location makes, has no op.
        assets = (asset for asset in asset_layer.asset_graph.assets_defs if asset.is_executable)
        ops = (op for asset in assets for op in _ops_of(asset))
        # One op checks all assets of the job.
        if next((op for op in ops if isinstance(op, _StreamOp)), None) is self:
            yield _DistinctStreams(asset_layer.asset_graph)


class _DistinctStreams(ResourceRequirement):
    """The requirement that no two assets land the same stream. It is met by whatever resources Dagster finds."""

    def __init__(self, asset_graph: Any) -> None:
        self._assets = asset_graph

    @property
    def expected_type(self) -> type:
        return object

    def is_satisfied(self, resource_defs: Mapping[str, dg.ResourceDefinition]) -> bool:
        return True

    def ensure_satisfied(self, resource_defs: Mapping[str, dg.ResourceDefinition]) -> None:
        """Raises SettingsError, with both assets, if two land the same stream."""
        landed: dict[tuple[Any, StreamId], dg.AssetKey] = {}
        for key in sorted(self._assets.executable_asset_keys):
            asset = self._assets.get(key).assets_def
            manager_key = asset.get_io_manager_key_for_asset_key(key)
            manager = asset.resource_defs.get(manager_key) or resource_defs.get(manager_key)
            if manager is None or not _lands_streams(manager):
                continue
            settings = _settings_of(manager)
            stream = stream_of(key, asset.metadata_by_key[key]).id.prefixed(settings.get("stream_prefix") or "")
            other = landed.setdefault((_destination_of(manager, settings), stream), key)
            if other != key:
                raise _shared(stream, other, key)


def _lands_streams(manager: dg.ResourceDefinition) -> bool:
    kind = getattr(manager, "configurable_resource_cls", None)
    return hasattr(kind, "destination") and hasattr(kind, "bucket")


def _settings_of(manager: dg.ResourceDefinition) -> Mapping[str, Any]:
    schema = manager.config_schema
    values = schema.default_value if schema is not None and schema.default_provided else None
    return values if isinstance(values, Mapping) else {}


def _destination_of(manager: Any, settings: Mapping[str, Any]) -> Any:
    """A value that is equal for IO managers that land in the same directory."""
    if "s3_bucket_name" not in settings:
        return id(manager)
    path = _spelled(settings.get("s3_bucket_path") or "")
    return _spelled(settings["s3_bucket_name"]), _literal_root(path), _server_of(manager, settings)


def _literal_root(path: str) -> str:
    """The part of a bucket path that decides which manifests are shared: what comes before its placeholders."""
    try:
        return KeyTemplate(path, "", "").literal_root
    except SettingsError:
        return path


def _server_of(manager: Any, settings: Mapping[str, Any]) -> str:
    """A text that is equal for IO managers that use the same server. Who connects, and how, makes no difference."""
    s3 = manager.nested_resources.get("s3")
    known = [getattr(s3, name) for name in ("endpoint", "endpoint_url") if hasattr(s3, name)]
    if s3 is not None and not known:
        return repr(s3)
    endpoint = _spelled(settings.get("s3_endpoint") or next(filter(None, known), "")).strip().rstrip("/")
    return "" if is_aws(endpoint) else endpoint


def _spelled(value: Any) -> str:
    """A setting's value, or the name of the variable that has it: variables are read only when a run starts."""
    return f"${{{value.env_var_name}}}" if isinstance(value, dg.EnvVar) else str(value)


def _shared(stream: StreamId, one: dg.AssetKey, other: dg.AssetKey) -> SettingsError:
    return SettingsError(
        f"The assets {one.to_user_string()} and {other.to_user_string()} would both land the stream {str(stream)!r}: "
        "one would replace what the other landed. Give one of them another namespace (namespace=… of stream_asset, "
        "or the metadata s3dest/namespace), another name, or an IO manager with another s3_bucket_path.",
        stream=str(stream),
        setting="namespace",
    )
