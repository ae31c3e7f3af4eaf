"""`S3DestinationComponent`: a source, its streams and their destination, as one component of a Dagster project.

Must not know: how assets are built or landed.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
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

from s3dest_dagster.dagster.assets import AssetBody
from s3dest_dagster.dagster.checks import LandingChecks
from s3dest_dagster.dagster.component.automation import (
    Described,
    SchedulesModel,
    SensorsModel,
    build_schedules,
    build_sensors,
    resolve_schedules,
    resolve_sensors,
)
from s3dest_dagster.dagster.component.discovery import is_discovered, with_discovered, write_discovered
from s3dest_dagster.dagster.component.landing_checks import ChecksModel, resolve_checks
from s3dest_dagster.dagster.component.models import (
    DestinationModel,
    PartitionsModel,
    resolve_destination,
    resolve_partitions,
)
from s3dest_dagster.dagster.component.scaffolding import S3DestinationScaffolder
from s3dest_dagster.dagster.component.sources import SourceModel, resolve_source
from s3dest_dagster.dagster.component.steps import (
    BackfillPolicyModel,
    HooksModel,
    RetryPolicyModel,
    StepSettings,
    resolve_backfill,
    resolve_hooks,
    resolve_retry,
)
from s3dest_dagster.dagster.component.stream_assets import StreamAssets
from s3dest_dagster.dagster.component.stream_selection import select_streams
from s3dest_dagster.dagster.component.streams import ComponentStream, StreamsModel, resolve_streams
from s3dest_dagster.dagster.component.yaml_values import NOWHERE, SourcePosition, as_given, by_kind
from s3dest_dagster.dagster.config import format_settings
from s3dest_dagster.dagster.step_body import refuse_async
from s3dest_dagster.dagster.translator import S3DestinationTranslator, asset_name
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources import Source, as_source
from s3dest_dagster.stream import Stream, SyncMode


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
            description="Partitions of the streams, each landed on its own: hourly, daily, weekly, monthly, "
            "time_window, static, dynamic or multi; none by default.",
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
            description="Whether a backfill has one run for all partitions (single_run), or several of a given size "
            "(multi_run).",
        ),
    ] = None
    retry_policy: Annotated[
        dg.RetryPolicy | None,
        dg.Resolver(
            resolve_retry,
            model_field_type=as_given(RetryPolicyModel | None),
            description="How often a sync that failed is tried again (max_retries, delay, backoff, jitter); what it "
            "has published is not landed again.",
        ),
    ] = None
    pool: Annotated[str | None, dg.Resolver.default(description="Pool that limits how many run at once.")] = None
    op_tags: Annotated[
        Mapping[str, Any] | None, dg.Resolver.default(description="Tags of the steps; those of a stream replace them.")
    ] = None
    hooks: Annotated[
        Set[dg.HookDefinition] | None,
        dg.Resolver(
            resolve_hooks,
            model_field_type=as_given(HooksModel | None),
            description="Hooks of the steps, as package.module.name, or as templates that return a hook.",
        ),
    ] = None
    checks: Annotated[
        LandingChecks | None,
        dg.Resolver(
            resolve_checks,
            model_field_type=as_given(ChecksModel | None),
            description="Asset checks of what the streams have landed; none by default.",
            examples=[["counts", {"quarantine": {"max_ratio": 0.01}}, {"freshness": {"hours": 26}}, "schema"]],
        ),
    ] = None
    schedules: Annotated[
        Sequence[Described],
        dg.Resolver(
            resolve_schedules,
            model_field_type=as_given(SchedulesModel | None),
            description="Runs of the streams at fixed times; of partitions by time, the last one that is over.",
            examples=[[{"cron_schedule": "0 2 * * *"}]],
        ),
    ] = ()
    sensors: Annotated[
        Sequence[Described],
        dg.Resolver(
            resolve_sensors,
            model_field_type=as_given(SensorsModel | None),
            description="Sensors: of files that arrive, or of the streams' automation conditions.",
            examples=[[{"type": "files"}]],
        ),
    ] = ()
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

    def execute(self, context: dg.AssetExecutionContext, run: Callable[..., Iterator[Any]]) -> Iterable[Any]:
        """What the step of each stream does, or the one step of a connector with `as_one_run`.

        `run(context)` lands the streams of the step, and yields their results. Override this method to do things before
        and after, and yield what it yields. With `as_one_run`, `run(context, streams=[…])` lands some of the streams.

        Example:
            class Watched(S3DestinationComponent):
                def execute(self, context, run):
                    context.log.info("The source is read.")
                    yield from run(context)
                    context.log.info("All has landed.")
        """
        yield from run(context)

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
            streams = self._stream_assets(source, key)
            selected = select_streams(source, self.streams, self.sync_mode)
            assets, name = streams.build(selected), self._name or type(self).__name__
            return dg.Definitions(
                assets=[*dict.fromkeys(asset.definition for asset in assets), *streams.upstream(selected)],
                asset_checks=streams.checks_of(assets),
                schedules=build_schedules(self.schedules, assets, name),
                sensors=build_sensors(self.sensors, assets, source, name),
                resources={key: self.destination} if self.destination else {},
            )

    def _check_sync_mode(self) -> None:
        known = [mode.value for mode in SyncMode]
        if self.sync_mode is not None and self.sync_mode not in known:
            raise SettingsError(f"sync_mode is {self.sync_mode!r}. Use {' or '.join(known)}.", setting="sync_mode")

    @property
    def _source(self) -> Source:
        source = as_source(self.source)
        assert source is not None, "the component has a source or a function"
        return source

    @property
    def _body(self) -> AssetBody | None:
        """`execute`, if a subclass overrides it. Raises SettingsError if it is asynchronous."""
        if type(self).execute is S3DestinationComponent.execute:
            return None
        refuse_async(self.execute, "Make it a plain generator that yields what run(context) yields")

        def execute(context: dg.AssetExecutionContext, run: Callable[..., Iterator[Any]]) -> Iterable[Any]:
            return self.execute(context, run)

        execute.__qualname__ = f"{type(self).__qualname__}.execute"
        return execute

    def _stream_assets(self, source: Source, key: str) -> StreamAssets:
        return StreamAssets(
            source=source,
            get_asset_spec=self.get_asset_spec,
            io_manager_key=key,
            partitions_def=self.partitions_def,
            step=StepSettings(self.backfill_policy, self.retry_policy, self.pool, self.op_tags, self.hooks),
            checks=self.checks,
            as_one_run=self.as_one_run,
            source_assets=self.source_assets,
            body=self._body,
        )


@cache
def _with_schema_by_kind(model: Any) -> Any:
    """The model with its schema `by_kind`. Dagster makes each field a union, because it may also be a template text."""
    original = model.model_json_schema

    def schema(*arguments: Any, **options: Any) -> Any:
        generated = original(*arguments, **options)
        return {**generated, "properties": {name: by_kind(field) for name, field in generated["properties"].items()}}

    model.model_json_schema = schema
    return model


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
