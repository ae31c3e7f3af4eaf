"""`S3DestinationComponent`: a source, its streams and where they land, as one component of a Dagster project.

It must not know how assets are made or landed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

import dagster as dg
from dagster.components import Scaffolder, ScaffoldRequest, scaffold_component
from dagster.components.resolved.core_models import (
    MultiRunBackfillPolicyModel,
    SingleRunBackfillPolicyModel,
    resolve_backfill_policy,
)
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import Field, TypeAdapter

from s3dest_dagster.dagster.assets import AssetSettings, asset_of
from s3dest_dagster.dagster.component.models import (
    DestinationModel,
    PartitionsModel,
    resolve_destination,
    resolve_partitions,
)
from s3dest_dagster.dagster.component.sources import (
    Chosen,
    ComponentStream,
    Source,
    SourceModel,
    StreamsModel,
    body_of,
    chosen_streams,
    resolve_source,
    resolve_streams,
)
from s3dest_dagster.dagster.component.yaml_values import NOWHERE, Place, as_said, by_kind
from s3dest_dagster.dagster.config import format_settings
from s3dest_dagster.dagster.multi_asset import asset_of_streams
from s3dest_dagster.dagster.translator import S3DestinationTranslator, asset_name, check_distinct
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.stream import Stream, StreamId, SyncMode

_BEGINNING = """\
type: {type_name}

attributes:
  source:
    type: files  # or python, or airbyte
    path: inbox/*.jsonl
  # source:
  #   type: airbyte
  #   command: source-shop
  #   config:
  #     api_key: "{{{{ env_var('SHOP_API_KEY') }}}}"
  #     start_date: "{{{{ partition_start }}}}"
  #   catalog: catalog.json  # s3dest discover --source source-shop --config source.json > catalog.json

  streams:
    - name: {name}
      sync_mode: full_refresh  # each run reads all files; append would add them again

  # partitions_def:
  #   type: daily
  #   start_date: 2026-01-01

  # A connector's config.json can be pasted here, or named: destination: config.json
  destination:
    s3_bucket_name: my-bucket
    s3_bucket_path: lake
    format:
      format_type: Parquet
"""


class S3DestinationScaffolder(Scaffolder[Any]):
    """Writes `defs.yaml` with files as the source, and the other sources as comments."""

    def scaffold(self, request: ScaffoldRequest[Any]) -> None:
        if request.scaffold_format != "yaml":
            scaffold_component(request)
            return
        text = _BEGINNING.format(type_name=request.type_name, name=request.target_path.name)
        path = request.target_path if request.append else request.target_path / "defs.yaml"
        with path.open("a" if request.append else "w", encoding="utf-8") as file:
            file.write(f"---\n{text}" if request.append else text)


class RetryPolicyModel(dg.Model):
    """How often a failed step is tried again."""

    max_retries: int = 1
    delay: float | None = None
    backoff: Literal["LINEAR", "EXPONENTIAL"] | None = None
    jitter: Literal["FULL", "PLUS_MINUS"] | None = None


BackfillPolicyModel = Annotated[SingleRunBackfillPolicyModel | MultiRunBackfillPolicyModel, Field(discriminator="type")]
_retry_model: TypeAdapter[Any] = TypeAdapter(RetryPolicyModel)
_backfill_model: TypeAdapter[Any] = TypeAdapter(BackfillPolicyModel)


def _made(context: dg.ResolutionContext, given: Any, kind: Any, model: TypeAdapter[Any]) -> Any:
    """The model of what is said; None and what a template has made stay as they are."""
    given = context.resolve_value(given)
    return given if given is None or isinstance(given, kind) else Place(context).validated(model, given)


def _backfill_policy(context: dg.ResolutionContext, given: Any) -> dg.BackfillPolicy | None:
    model = _made(context, given, dg.BackfillPolicy, _backfill_model)
    return model if isinstance(model, dg.BackfillPolicy) else resolve_backfill_policy(context, model)


def _retry_policy(context: dg.ResolutionContext, given: Any) -> dg.RetryPolicy | None:
    model = _made(context, given, dg.RetryPolicy, _retry_model)
    if model is None or isinstance(model, dg.RetryPolicy):
        return model
    return dg.RetryPolicy(
        max_retries=model.max_retries,
        delay=model.delay,
        backoff=dg.Backoff[model.backoff] if model.backoff else None,
        jitter=dg.Jitter[model.jitter] if model.jitter else None,
    )


@dg.scaffold_with(S3DestinationScaffolder)
@dataclass
class S3DestinationComponent(dg.Component, dg.Resolvable):
    """Streams of a source as assets that land in S3.

    The source is an Airbyte connector, a Python function, or files. Each stream is an asset with its own sync mode and
    partitions, landed all at once or not at all. Where they land is said here, as a connector's config.json says it, or
    by the IO manager that io_manager_key names.
    """

    source: Annotated[
        Source,
        dg.Resolver(
            resolve_source,
            model_field_type=as_said(SourceModel),
            description="Where records come from.",
        ),
    ]
    streams: Annotated[
        Sequence[ComponentStream | str] | None,
        dg.Resolver(
            resolve_streams,
            model_field_type=as_said(StreamsModel | None),
            description="Which streams are synced, by name or with what is said of one alone; all of a connector's "
            "catalog when left out.",
            examples=[["users", {"name": "orders", "sync_mode": "append"}]],
        ),
    ] = None
    sync_mode: Annotated[
        Literal["full_refresh", "append"] | None,
        dg.Resolver.default(
            description="Of streams that do not say theirs: full_refresh replaces what a stream or partition holds, "
            "append adds to a stream. When left out, a connector's catalog says it, else it is full_refresh."
        ),
    ] = None
    # An S3DestinationIOManager or None; Dagster refuses the annotation, since it is a pydantic model of its own kind.
    destination: Annotated[
        Any,
        dg.Resolver(
            resolve_destination,
            model_field_type=as_said(DestinationModel | str | None),
            description="Where the streams land: a connector's config.json, pasted, or the path of the file beside "
            "this one. Only s3_bucket_name is required. It becomes an IO manager.",
        ),
    ] = None
    io_manager_key: Annotated[
        str | None,
        dg.Resolver.default(
            description="The IO manager that lands the streams: one that is defined elsewhere (io_manager when left "
            "out), or, with a destination, the key that it gets."
        ),
    ] = None
    partitions_def: Annotated[
        dg.PartitionsDefinition[Any] | None,
        dg.Resolver(
            resolve_partitions,
            model_field_type=as_said(PartitionsModel | None),
            description="Partitions of the streams, each landed for itself; none when left out.",
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
            _backfill_policy,
            model_field_type=as_said(BackfillPolicyModel | None),
            description="Whether a backfill has one run for all partitions, or runs of so many.",
        ),
    ] = None
    retry_policy: Annotated[
        dg.RetryPolicy | None,
        dg.Resolver(
            _retry_policy,
            model_field_type=as_said(RetryPolicyModel | None),
            description="How often a sync that failed is tried again; what it has published is not landed again.",
        ),
    ] = None
    pool: Annotated[str | None, dg.Resolver.default(description="Pool that limits how many run at once.")] = None
    op_tags: Annotated[Mapping[str, Any] | None, dg.Resolver.default(description="Tags of the steps.")] = None
    as_one_run: Annotated[
        bool | str,
        dg.Resolver.default(
            description="One run of a connector for all of its streams that are selected, landed side by side; a text "
            "names the step."
        ),
    ] = False

    def __post_init__(self) -> None:
        self.place = NOWHERE

    @classmethod
    def load(cls, attributes: Any, context: dg.ComponentLoadContext) -> "S3DestinationComponent":
        if attributes is None:
            with Place(context.resolution_context).told():
                raise SettingsError(
                    "The component has no attributes. It needs at least a source: attributes: {source: {type: files, "
                    "path: …}, streams: […]}."
                )
        made: S3DestinationComponent = super().load(attributes, context)
        return made

    @classmethod
    def resolve_from_model(cls, context: dg.ResolutionContext, model: Any) -> "S3DestinationComponent":
        Place(context).check_keys()
        made: S3DestinationComponent = super().resolve_from_model(context, model)
        made.place = Place(context)
        return made

    @classmethod
    def get_model_cls(cls) -> Any:
        return _told_by_kind(super().get_model_cls())

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        return dg.ComponentTypeSpec(tags=["s3", "airbyte", "ingestion"])

    def get_asset_spec(self, stream: Stream) -> dg.AssetSpec:
        """The asset that a stream is. Override it to say it otherwise, and begin with what this one gives."""
        form = format_settings(self.destination.format) if self.destination else None
        spec = S3DestinationTranslator(form).get_asset_spec(stream)
        if isinstance(self.source, AirbyteSource):
            spec = spec.merge_attributes(kinds={"airbyte"})
        return self.translation(spec, stream) if self.translation else spec

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The assets, and the IO manager of a destination that is said here."""
        key = self.io_manager_key or (_key_of(context) if self.destination else "io_manager")
        with self.place.told():
            self._check_sync_mode()
            assets = self._assets(key)
        return dg.Definitions(assets=assets, resources={key: self.destination} if self.destination else {})

    def _check_sync_mode(self) -> None:
        known = [each.value for each in SyncMode]
        if self.sync_mode is not None and self.sync_mode not in known:
            raise SettingsError(f"sync_mode is {self.sync_mode!r}. Use {' or '.join(known)}.", setting="sync_mode")

    # ------------------------------------------------------------------ the assets

    def _assets(self, key: str) -> list[dg.AssetsDefinition]:
        chosen = chosen_streams(self.source, self.streams, self.sync_mode)
        specs = {stream.id: self._spec(said, stream) for said, stream in chosen}
        self._check_distinct(chosen, specs)
        if self.as_one_run and chosen:
            return [self._one_run(chosen, specs, key)]
        return [self._asset(said, stream, specs, key) for said, stream in chosen]

    def _asset(
        self, said: ComponentStream, stream: Stream, specs: Mapping[StreamId, dg.AssetSpec], key: str
    ) -> dg.AssetsDefinition:
        partitions = self._partitions(said, specs[stream.id])
        body = body_of(self.source, stream, partitions)
        with said.place.told():
            return asset_of(stream, body, _Decided(specs), partitions, self._settings(said.io_manager_key or key))

    def _one_run(
        self,
        chosen: Sequence[Chosen],
        specs: Mapping[StreamId, dg.AssetSpec],
        key: str,
    ) -> dg.AssetsDefinition:
        if not isinstance(self.source, AirbyteSource):
            raise SettingsError(
                "as_one_run is for connectors, which can be asked for several streams at once.", setting="as_one_run"
            )
        partitions = [self._partitions(said, specs[stream.id]) for said, stream in chosen]
        keys = [said.io_manager_key or key for said, _ in chosen]
        for (said, stream), its_partitions, its_key in zip(chosen, partitions, keys, strict=True):
            if (its_partitions, its_key) != (partitions[0], keys[0]):
                with said.place.told():
                    raise SettingsError(
                        f"One run of a connector has one partition and one IO manager, and {stream.id} has another "
                        f"than {chosen[0][1].id}. Give it the same, or a component of its own.",
                        stream=str(stream.id),
                    )
        streams = [stream for _, stream in chosen]
        name = self.as_one_run if isinstance(self.as_one_run, str) else None
        settings = self._settings(keys[0])
        return asset_of_streams(self.source, streams, _Decided(specs), partitions[0], settings, name)

    def _spec(self, said: ComponentStream, stream: Stream) -> dg.AssetSpec:
        with said.place.told():
            spec = self.get_asset_spec(stream)
            return said.translation(spec, stream) if said.translation else spec

    def _partitions(self, said: ComponentStream, spec: dg.AssetSpec) -> dg.PartitionsDefinition[Any] | None:
        return spec.partitions_def or (None if said.unpartitioned else said.partitions_def or self.partitions_def)

    def _settings(self, io_manager_key: str) -> AssetSettings:
        return AssetSettings(
            io_manager_key=io_manager_key,
            backfill_policy=self.backfill_policy,
            retry_policy=self.retry_policy,
            pool=self.pool,
            op_tags=self.op_tags,
        )

    def _check_distinct(self, chosen: Sequence[Chosen], specs: Mapping[StreamId, dg.AssetSpec]) -> None:
        try:
            check_distinct((stream, specs[stream.id].key) for _, stream in chosen)
        except SettingsError as error:
            place = [said.place for said, stream in chosen if str(stream.id) == error.stream][-1]
            with place.told():
                raise


@cache
def _told_by_kind(model: Any) -> Any:
    """The model with a schema whose unions are told apart: Dagster lets a text stand for each field, as a template."""

    def schema(*arguments: Any, **options: Any) -> Any:
        found = plain(*arguments, **options)
        return {**found, "properties": {name: by_kind(each) for name, each in found["properties"].items()}}

    plain = model.model_json_schema
    model.model_json_schema = schema
    return model


class _Decided(S3DestinationTranslator):
    """Gives the specs that have been decided on."""

    def __init__(self, specs: Mapping[StreamId, dg.AssetSpec]) -> None:
        super().__init__()
        self._specs = specs

    def get_asset_spec(self, stream: Stream) -> dg.AssetSpec:
        return self._specs[stream.id]


def _key_of(context: dg.ComponentLoadContext) -> str:
    """The key of a component's own IO manager: its path in the project, and its number beyond the first of a file."""
    # Before 1.13 every component had a path; one that is made in Python alone has none.
    place = getattr(context, "component_loc", None) or context.component_path
    path = getattr(place, "file_path", None)
    if path is None:
        return "destination"
    if path.is_relative_to(context.defs_module_path):
        path = path.relative_to(context.defs_module_path)
    parts = [*path.parts, *([str(place.instance_key)] if place.instance_key else [])]
    return "_".join([*(asset_name(part) for part in parts if part != path.anchor), "destination"])
