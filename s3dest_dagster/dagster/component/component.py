"""`S3DestinationComponent`: a source, its streams and their destination, as one component of a Dagster project.

Must not know: how assets are built or landed.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import dagster as dg
from dagster.components import (
    DefsStateConfig,
    DefsStateConfigArgs,
    ResolvedDefsStateConfig,
)
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver

from s3dest_dagster.dagster.assets import AssetSettings
from s3dest_dagster.dagster.component.discovery import is_discovered, with_discovered, write_discovered
from s3dest_dagster.dagster.component.models import (
    BackfillPolicyModel,
    DestinationModel,
    PartitionsModel,
    RetryPolicyModel,
    resolve_backfill,
    resolve_destination,
    resolve_partitions,
    resolve_retry,
)
from s3dest_dagster.dagster.component.scaffolding import S3DestinationScaffolder
from s3dest_dagster.dagster.component.sources import (
    ComponentStream,
    SourceModel,
    StreamsModel,
    resolve_source,
    resolve_streams,
)
from s3dest_dagster.dagster.component.stream_selection import SelectedStream, select_streams
from s3dest_dagster.dagster.component.yaml_values import NOWHERE, SourcePosition, as_given, by_kind
from s3dest_dagster.dagster.config import format_settings
from s3dest_dagster.dagster.lineage import SourceAssets
from s3dest_dagster.dagster.multi_asset import build_multi_asset
from s3dest_dagster.dagster.source_assets import build_source_asset
from s3dest_dagster.dagster.translator import S3DestinationTranslator, asset_name, check_distinct
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources import Source, as_source
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.stream import Stream, StreamId, SyncMode


@dg.scaffold_with(S3DestinationScaffolder)
@dataclass
class S3DestinationComponent(dg.StateBackedComponent, dg.Resolvable):
    """Streams of a source as assets that land in S3, each partition as a whole or not at all.

    The source is an Airbyte connector, a database, a Python function, or files. Each stream is an asset with its own
    sync mode and partitions. The destination is given here, as in a connector's config.json, or is the IO manager that
    io_manager_key names.

    The streams of a connector without a catalog are the component's state: `dg utils refresh-defs-state` discovers
    them. Until then, the component has no assets.

    Example (defs.yaml):
        type: s3dest_dagster.S3DestinationComponent
        attributes:
          source:
            type: files
            path: inbox/*.jsonl
          streams: [visits]
          destination:
            s3_bucket_name: my-bucket
    """

    source: Annotated[
        Source | Callable[..., Any],
        dg.Resolver(
            resolve_source,
            model_field_type=as_given(SourceModel),
            description="Where records come from.",
        ),
    ]
    streams: Annotated[
        Sequence[ComponentStream | str] | None,
        dg.Resolver(
            resolve_streams,
            model_field_type=as_given(StreamsModel | None),
            description="Which streams are synced, by name or pattern, with settings of their own; !name leaves a "
            "stream out. By default all of a connector's catalog.",
            examples=[["users", {"name": "orders", "sync_mode": "append"}], ["*", "!internal_*"]],
        ),
    ] = None
    sync_mode: Annotated[
        Literal["full_refresh", "append"] | None,
        dg.Resolver.default(
            description="Of streams without one of their own: full_refresh replaces what a stream or partition holds, "
            "append adds to a stream. By default that of a connector's catalog, else full_refresh."
        ),
    ] = None
    # An S3DestinationIOManager or None. Dagster refuses that annotation, since the class is a pydantic model.
    destination: Annotated[
        Any,
        dg.Resolver(
            resolve_destination,
            model_field_type=as_given(DestinationModel | str | None),
            description="Where the streams land: a connector's config.json, pasted, or the path of the file next to "
            "this one. Only s3_bucket_name is required. It becomes an IO manager.",
        ),
    ] = None
    io_manager_key: Annotated[
        str | None,
        dg.Resolver.default(
            description="The IO manager that lands the streams: one that is defined elsewhere (io_manager by default), "
            "or, with a destination, the key that it gets."
        ),
    ] = None
    partitions_def: Annotated[
        dg.PartitionsDefinition[Any] | None,
        dg.Resolver(
            resolve_partitions,
            model_field_type=as_given(PartitionsModel | None),
            description="Partitions of the streams, each landed on its own; none by default.",
        ),
    ] = None
    translation: Annotated[
        TranslationFn[Stream] | None,
        TranslationFnResolver[Stream](lambda stream: {"stream": stream}),
    ] = None
    """Attributes of the assets."""
    backfill_policy: Annotated[
        dg.BackfillPolicy | None,
        dg.Resolver(
            resolve_backfill,
            model_field_type=as_given(BackfillPolicyModel | None),
            description="Whether a backfill has one run for all partitions, or several of a given size.",
        ),
    ] = None
    retry_policy: Annotated[
        dg.RetryPolicy | None,
        dg.Resolver(
            resolve_retry,
            model_field_type=as_given(RetryPolicyModel | None),
            description="How often a sync that failed is tried again; what it has published is not landed again.",
        ),
    ] = None
    pool: Annotated[str | None, dg.Resolver.default(description="Pool that limits how many run at once.")] = None
    op_tags: Annotated[Mapping[str, Any] | None, dg.Resolver.default(description="Tags of the steps.")] = None
    as_one_run: Annotated[
        bool | str,
        dg.Resolver.default(
            description="One run of a connector for all of its selected streams, landed side by side; a text names the "
            "step."
        ),
    ] = False
    defs_state: ResolvedDefsStateConfig = field(default_factory=DefsStateConfigArgs.local_filesystem)
    """Where Dagster keeps the catalog of a connector that has none."""

    source_assets: Annotated[
        bool | str,
        dg.Resolver.default(
            description="External assets of a connector's streams as they are in its source, upstream of what lands; a "
            "text is the prefix of their keys, true takes the connector's name."
        ),
    ] = False

    def __post_init__(self) -> None:
        self.position = NOWHERE
        self._name: str | None = None

    @classmethod
    def load(cls, attributes: Any, context: dg.ComponentLoadContext) -> "S3DestinationComponent":
        if attributes is None:
            with SourcePosition(context.resolution_context).located():
                raise SettingsError(
                    "The component has no attributes. It needs at least a source: attributes: {source: {type: files, "
                    "path: …}, streams: […]}."
                )
        component: S3DestinationComponent = super().load(attributes, context)
        return component

    @classmethod
    def resolve_from_model(cls, context: dg.ResolutionContext, model: Any) -> "S3DestinationComponent":
        SourcePosition(context).check_keys()
        component: S3DestinationComponent = super().resolve_from_model(context, model)
        component.position = SourcePosition(context)
        load_context = dg.ComponentLoadContext.from_resolution_context(context)
        component._name = "_".join(_path_of(load_context)) or cls.__name__
        return component

    @classmethod
    def get_model_cls(cls) -> Any:
        return _with_schema_by_kind(super().get_model_cls())

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        return dg.ComponentTypeSpec(tags=["s3", "airbyte", "ingestion"])

    def get_asset_spec(self, stream: Stream) -> dg.AssetSpec:
        """The spec of a stream's asset. Override this method to change the spec that it returns."""
        format = format_settings(self.destination.format) if self.destination else None
        spec = (
            S3DestinationTranslator(format).get_asset_spec(stream).merge_attributes(kinds=set(self._source.asset_kinds))
        )
        return self.translation(spec, stream) if self.translation else spec

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The assets, and the IO manager if the component has a destination."""
        if not is_discovered(self._source):
            return self._build_defs(context, self._source)
        with self.position.located("source"):
            if self._state_key is None:
                raise SettingsError(
                    "The connector has no catalog. Write it once with `s3dest discover`, and give it to the source; or "
                    "give defs_state a key, under which `dg utils refresh-defs-state` keeps what it discovers.",
                    setting="catalog",
                )
            return super().build_defs(context)

    def build_defs_from_state(self, context: dg.ComponentLoadContext, state_path: Path | None) -> dg.Definitions:
        """The definitions with the streams of a discovered catalog. Without one there are no assets, and a warning."""
        if state_path is not None:
            return self._build_defs(context, with_discovered(self._source, state_path))
        warnings.warn(
            f"{self._state_key} has no assets, because the streams of its connector are not discovered yet: run "
            "`dg utils refresh-defs-state`.",
            stacklevel=2,
        )
        return dg.Definitions()

    def write_state_to_path(self, state_path: Path) -> None:
        """Runs the connector's `discover`, and writes its catalog. Dagster calls it to refresh the state."""
        of_streams = (each.partitions_def for each in self.streams or () if isinstance(each, ComponentStream))
        with self.position.located("source"):
            write_discovered(self._source, (self.partitions_def, *of_streams), state_path)

    @property
    def defs_state_config(self) -> DefsStateConfig:
        """Where Dagster keeps the state. By default, its key is the path of the component in the project."""
        return DefsStateConfig.from_args(self.defs_state, default_key=self._state_key or type(self).__name__)

    @property
    def _state_key(self) -> str | None:
        return self.defs_state.key or (self._name and f"{type(self).__name__}[{self._name}]")

    def _build_defs(self, context: dg.ComponentLoadContext, source: Source) -> dg.Definitions:
        key = self.io_manager_key or (_key_of(context) if self.destination else "io_manager")
        with self.position.located():
            self._check_sync_mode()
            assets = self._assets(source, key)
        return dg.Definitions(assets=assets, resources={key: self.destination} if self.destination else {})

    def _check_sync_mode(self) -> None:
        known = [mode.value for mode in SyncMode]
        if self.sync_mode is not None and self.sync_mode not in known:
            raise SettingsError(f"sync_mode is {self.sync_mode!r}. Use {' or '.join(known)}.", setting="sync_mode")

    # ------------------------------------------------------------------ the assets

    @property
    def _source(self) -> Source:
        source = as_source(self.source)
        assert source is not None, "the component has a source or a function"
        return source

    def _assets(self, source: Source, key: str) -> list[dg.AssetsDefinition]:
        selected = select_streams(source, self.streams, self.sync_mode)
        specs = {stream.id: self._spec(own, stream) for own, stream in selected}
        self._check_distinct(selected, specs)
        upstream = self._source_assets()
        external = [upstream.definition([stream for _, stream in selected])] if upstream and selected else []
        if self.as_one_run and selected:
            return [self._multi_asset(source, selected, specs, key), *external]
        return [*(self._asset(source, own, stream, specs, key) for own, stream in selected), *external]

    def _asset(
        self, source: Source, own: ComponentStream, stream: Stream, specs: Mapping[StreamId, dg.AssetSpec], key: str
    ) -> dg.AssetsDefinition:
        partitions = self._partitions(own, specs[stream.id])
        settings = self._settings(own.io_manager_key or key)
        with own.position.located():
            return build_source_asset(source, stream, _KnownSpecs(specs), partitions, settings)

    def _multi_asset(
        self,
        source: Source,
        selected: Sequence[SelectedStream],
        specs: Mapping[StreamId, dg.AssetSpec],
        key: str,
    ) -> dg.AssetsDefinition:
        multi_stream = source.as_multi_stream()
        if multi_stream is None:
            raise SettingsError(
                "as_one_run is for connectors, which can be asked for several streams at once.", setting="as_one_run"
            )
        partitions = [self._partitions(own, specs[stream.id]) for own, stream in selected]
        keys = [own.io_manager_key or key for own, _ in selected]
        for (own, stream), its_partitions, its_key in zip(selected, partitions, keys, strict=True):
            if (its_partitions, its_key) != (partitions[0], keys[0]):
                with own.position.located():
                    raise SettingsError(
                        f"One run of a connector has one partition and one IO manager, and {stream.id} has another "
                        f"than {selected[0][1].id}. Give it the same, or a component of its own.",
                        stream=str(stream.id),
                    )
        streams = [stream for _, stream in selected]
        name = self.as_one_run if isinstance(self.as_one_run, str) else None
        return build_multi_asset(
            multi_stream, streams, _KnownSpecs(specs), partitions[0], self._settings(keys[0]), name
        )

    def _spec(self, own: ComponentStream, stream: Stream) -> dg.AssetSpec:
        with own.position.located():
            spec = self.get_asset_spec(stream)
            spec = own.translation(spec, stream) if own.translation else spec
            if (upstream := self._source_assets()) is not None:
                spec = upstream.upstream_of(spec, stream)
            return spec.merge_attributes(metadata=own.position.code_reference(f"stream {stream.id}"))

    def _source_assets(self) -> SourceAssets | None:
        if not self.source_assets:
            return None
        if not isinstance(self._source, AirbyteSource):
            raise SettingsError(
                "source_assets is for connectors, and this source is none. Leave it out.", setting="source_assets"
            )
        return SourceAssets(self._source, self.source_assets)

    def _partitions(self, own: ComponentStream, spec: dg.AssetSpec) -> dg.PartitionsDefinition[Any] | None:
        return spec.partitions_def or (None if own.unpartitioned else own.partitions_def or self.partitions_def)

    def _settings(self, io_manager_key: str) -> AssetSettings:
        return AssetSettings(
            io_manager_key=io_manager_key,
            backfill_policy=self.backfill_policy,
            retry_policy=self.retry_policy,
            pool=self.pool,
            op_tags=self.op_tags,
        )

    def _check_distinct(self, selected: Sequence[SelectedStream], specs: Mapping[StreamId, dg.AssetSpec]) -> None:
        try:
            check_distinct((stream, specs[stream.id].key) for _, stream in selected)
        except SettingsError as error:
            position = [own.position for own, stream in selected if str(stream.id) == error.stream][-1]
            with position.located():
                raise


@cache
def _with_schema_by_kind(model: Any) -> Any:
    """The model with its schema `by_kind`. Dagster makes each field a union, because it may also be a template text."""
    original = model.model_json_schema

    def schema(*arguments: Any, **options: Any) -> Any:
        generated = original(*arguments, **options)
        return {**generated, "properties": {name: by_kind(field) for name, field in generated["properties"].items()}}

    model.model_json_schema = schema
    return model


class _KnownSpecs(S3DestinationTranslator):
    """A translator that returns given specs."""

    def __init__(self, specs: Mapping[StreamId, dg.AssetSpec]) -> None:
        super().__init__()
        self._specs = specs

    def get_asset_spec(self, stream: Stream) -> dg.AssetSpec:
        return self._specs[stream.id]


def _key_of(context: dg.ComponentLoadContext) -> str:
    """The key of the component's own IO manager: its path in the project, and its number if a file has several."""
    return "_".join([*_path_of(context), "destination"])


def _path_of(context: Any) -> list[str]:
    """The parts of the component's path, with its number if a file has several. Empty if it is created in Python."""
    # Dagster 1.12 has `component_path`.
    location = getattr(context, "component_loc", None) or context.component_path
    path = getattr(location, "file_path", None)
    if path is None:
        return []
    if path.is_relative_to(context.defs_module_path):
        path = path.relative_to(context.defs_module_path)
    parts = [*path.parts, *([str(location.instance_key)] if location.instance_key else [])]
    return [asset_name(part) for part in parts if part != path.anchor]
