"""Several streams of one source as one asset definition: a single run of the source lands all selected streams.

The step itself lands them side by side, because its outputs would reach an IO manager one after another. The IO manager
determines where to land, and loads the streams for downstream assets. Must not know: how a landing works.
"""

import inspect
import os
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import dagster as dg

from s3dest_dagster.batch import KnownState, is_of_one_stream, state_id
from s3dest_dagster.commit.head import ReachedState
from s3dest_dagster.commit.segment_builder import replaces_scope
from s3dest_dagster.commit.states import text_of
from s3dest_dagster.dagster.asset_metadata import (
    partition_scopes,
    partition_values_of,
    partitions_of_run,
    preview_rows_of,
    stream_id_of,
)
from s3dest_dagster.dagster.assets import AssetSettings, apply_settings, name_table, parameter_types, run_log
from s3dest_dagster.dagster.config import look_up
from s3dest_dagster.dagster.failures import as_dagster_failures, failure_of_streams
from s3dest_dagster.dagster.metadata import Preview
from s3dest_dagster.dagster.run_config import (
    StreamRunConfig,
    add_run_config,
    destination_of_run,
    for_stream,
    refuse_part,
    run_config_of,
    stream_of_run,
)
from s3dest_dagster.dagster.run_landing import (
    LandingResource,
    ProgressLines,
    StepReport,
    add_partition_metadata,
    landing_resource,
    new_sync,
    now,
)
from s3dest_dagster.dagster.run_plan import show_plan
from s3dest_dagster.dagster.run_start import check_start, given_state, run_metadata, state_to_continue
from s3dest_dagster.dagster.shared_streams import refuse_shared_streams
from s3dest_dagster.dagster.translator import S3DestinationTranslator, asset_name, check_distinct
from s3dest_dagster.errors import S3DestError, SettingsError, did_you_mean
from s3dest_dagster.ingest.landing import Landing
from s3dest_dagster.ingest.read_limit import ReadLimit
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.ingest.streams import StreamLandings, landing_streams
from s3dest_dagster.ingest.target import Target, open_target
from s3dest_dagster.printable import printable, printable_lines
from s3dest_dagster.sources import MultiStreamSource
from s3dest_dagster.sources.airbyte.states import Reached, Resumption, resumption
from s3dest_dagster.stream import Scope, Stream, StreamId

_RUN, _CONTEXT = "run", "context"


def build_multi_asset(
    source: MultiStreamSource,
    streams: Sequence[Stream],
    translator: S3DestinationTranslator,
    partitions: dg.PartitionsDefinition[Any] | None,
    settings: AssetSettings,
    name: str | None,
    body: Callable[..., Any] | None = None,
) -> dg.AssetsDefinition:
    """Builds one definition with an asset for each stream.

    Args:
        name: The step's name; None names it after the source.
        body: A function that lands the streams by its parameter `run`, and does what it wants before and after. None:
            the step only lands them.
    """
    io_manager_key = settings.get("io_manager_key") or "io_manager"
    step: dict[str, Any] = {}
    specs: list[dg.AssetSpec] = []
    for stream in streams:
        spec, step = apply_settings(translator.get_asset_spec(stream), settings)
        spec = name_table(spec, stream)
        specs.append(spec.with_io_manager_key(io_manager_key).replace_attributes(skippable=body is not None))
    check_distinct((stream, spec.key) for stream, spec in zip(streams, specs, strict=True))
    partitions = partitions or _common_partitions(specs)
    step.pop("io_manager_key", None)
    step = add_run_config(step, parameter_types(body) if body is not None else None)
    resource_keys = {io_manager_key, *step.pop("required_resource_keys", ())}
    keys = {stream.id: spec.key for stream, spec in zip(streams, specs, strict=True)}
    run = _SourceRun(name or _step_name(source, specs), source, streams, keys, partitions)
    read = _step_of(run, io_manager_key) if body is None else _step_with_body(run, io_manager_key, body, resource_keys)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=dg.BetaWarning)
        return dg.multi_asset(
            name=run.name,
            specs=[spec.replace_attributes(partitions_def=partitions) for spec in specs],
            can_subset=True,
            partitions_def=partitions,
            # Dagster refuses resource keys together with parameters that are resources.
            required_resource_keys=resource_keys if body is None else None,
            **step,
        )(read)


def _step_of(run: "_SourceRun", io_manager_key: str) -> Callable[..., Any]:
    """The function of a step that lands the selected streams."""

    def read(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        with as_dagster_failures():
            resource, config = landing_resource(context, io_manager_key), run_config_of(context)
            if config.plan:
                show_plan(context, run.selected(context), resource, config)
            else:
                yield from run.land(context, resource, config)

    return read


def _step_with_body(
    run: "_SourceRun", io_manager_key: str, body: Callable[..., Any], resource_keys: Set[str]
) -> Callable[..., Any]:
    """The function of a step that runs the body, unless the run only shows its plan.

    Its parameters are those of the body without `run`, and resources.
    """
    own = dict(inspect.signature(body).parameters)
    if _RUN not in own:
        raise SettingsError(
            f"{body.__name__} has no parameter 'run', so that it cannot land anything. Add it, and "
            "`yield from run(context)`.",
            setting=_RUN,
        )

    def read(context: dg.AssetExecutionContext, **given: Any) -> Iterator[Any]:
        with as_dagster_failures():
            resource, config = landing_resource(context, io_manager_key), run_config_of(context)
            if config.plan:
                show_plan(context, run.selected(context), resource, config)
                return

            def land(context: dg.AssetExecutionContext, streams: Collection[str] | None = None) -> Iterator[Any]:
                return run.land(context, resource, config, only=streams)

            known = {**given, _CONTEXT: context, _RUN: land}
            yield from body(**{name: known[name] for name in own if name in known}) or ()

    types = {name: kind for name, kind in parameter_types(body).items() if name not in (_CONTEXT, _RUN)}
    types |= dict.fromkeys(resource_keys - own.keys(), cast(Any, dg.ResourceParam)[Any])
    names = dict.fromkeys([*(name for name in own if name not in (_CONTEXT, _RUN)), *types])
    named = partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
    rest = [named(name, annotation=types.get(name, inspect.Parameter.empty)) for name in names]
    first = inspect.Parameter(_CONTEXT, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    read.__signature__ = inspect.Signature([first, *rest])  # type: ignore[attr-defined]
    read.__annotations__ = types
    read.__doc__ = body.__doc__
    return read


def _step_name(source: MultiStreamSource, specs: Sequence[dg.AssetSpec]) -> str:
    """A unique step name, from the names of the source and its first asset."""
    return f"{asset_name(source.name)}__{specs[0].key.to_python_identifier()}"


def _common_partitions(specs: Sequence[dg.AssetSpec]) -> dg.PartitionsDefinition[Any] | None:
    """The translator's partitions. They must be the same for all assets, because one run reads one partition."""
    first = specs[0].partitions_def
    for spec in specs:
        if spec.partitions_def != first:
            raise SettingsError(
                f"{specs[0].key.to_user_string()} and {spec.key.to_user_string()} have different partitions, and one "
                "run of a connector reads one. Give them the same, or build them apart.",
                setting="partitions_def",
            )
    return first


@dataclass(frozen=True)
class _SourceRun:
    """The work of the step: one run of the source for each partition of the step."""

    name: str
    source: MultiStreamSource
    streams: Sequence[Stream]
    keys: Mapping[StreamId, dg.AssetKey]
    partitions: dg.PartitionsDefinition[Any] | None

    def selected(
        self, context: dg.AssetExecutionContext, only: Collection[str] | None = None
    ) -> dict[dg.AssetKey, Stream]:
        """The streams that the run selects, of those that `only` names; None means all of them."""
        keys = context.selected_asset_keys
        return {self.keys[stream.id]: stream for stream in self._named(only) if self.keys[stream.id] in keys}

    def land(
        self,
        context: dg.AssetExecutionContext,
        resource: LandingResource,
        config: StreamRunConfig,
        only: Collection[str] | None = None,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        """Lands the selected streams, and reports each as materialized once all of its partitions are published.

        `only` names those of them that are landed; None means all of them.

        A stream that fails is not read for the remaining partitions. Its partitions that landed before are reported as
        materialized, however the step ends. Raises `dg.Failure` at the end if any stream failed.
        """
        refuse_shared_streams(context, context.selected_asset_keys)
        selected = list(self.selected(context, only).values())
        if not selected:
            return
        destination = destination_of_run(config, resource.destination())
        partitions = self._partitions_of(context, selected)
        failed: dict[Scope, S3DestError] = {}
        with (
            open_target(destination, resource.bucket(), clock=now, entropy=os.urandom) as target,
            StepReport(context, target.bucket, self.partitions) as report,
        ):
            for partition in partitions:
                failed_streams = {scope.stream for scope in failed}
                streams = [stream for stream in selected if self.landed(context, stream) not in failed_streams]
                rows = getattr(resource, "preview_rows", 0)
                part = _PartitionRun(self, context, target, report, partition, streams, rows, config)
                for stream, metadata in part.land(failed):
                    key = self.keys[stream]
                    if partition is not None:
                        add_partition_metadata(key, partition, metadata)
                    if partition == partitions[-1]:
                        own = metadata if partition is None else {}
                        yield dg.MaterializeResult(asset_key=key, metadata=own, data_version=report.finish(key))
        if failed:
            raise failure_of_streams(failed, landed=len(selected) - len(failed))

    def _named(self, only: Collection[str] | None) -> list[Stream]:
        """The streams with these names. Raises SettingsError for an unknown name."""
        for name in only or ():
            if not any(name in (stream.name, str(stream.id)) for stream in self.streams):
                raise SettingsError(
                    f"run was asked for the stream {name!r}. {did_you_mean(name, map(str, self.keys))}",
                    setting="streams",
                )
        return [each for each in self.streams if only is None or {each.name, str(each.id)} & set(only)]

    def landed(self, context: dg.AssetExecutionContext, stream: Stream) -> StreamId:
        """The stream under the namespace in which it lands."""
        key = self.keys[stream.id]
        return stream_id_of(key, context.assets_def.metadata_by_key[key])

    def _partitions_of(self, context: dg.AssetExecutionContext, selected: Sequence[Stream]) -> Sequence[str | None]:
        return [None] if self.partitions is None else partitions_of_run(context, selected[0].id)


@dataclass(frozen=True)
class _PartitionRun:
    """One run of the source: it reads streams of one partition, or unpartitioned streams."""

    run: _SourceRun
    context: dg.AssetExecutionContext
    target: Target
    report: StepReport
    partition: str | None
    streams: Sequence[Stream]
    preview_rows: int
    config: StreamRunConfig

    def land(self, failed: dict[Scope, S3DestError]) -> Iterator[tuple[StreamId, dict[str, Any]]]:
        """Yields each published stream with the metadata of its materialization. Puts the other streams into
        `failed`."""
        if not self.streams:
            return
        scopes = {stream.id: self._scope(stream) for stream in self.streams}
        sources = {scope.stream: stream for stream, scope in scopes.items()}

        def record_failure(stream: StreamId, error: S3DestError) -> None:
            failed[scopes[stream]] = error
            self.context.log.error(printable_lines(f"{scopes[stream]} failed: {error.message}"))

        previews = {stream.id: Preview(stream, self._preview_rows_of(stream.id)) for stream in self.streams}
        started = time.monotonic()
        limit = ReadLimit(self.config.record_limit, self.config.time_limit_s, time.monotonic)
        with landing_streams(
            self.target,
            [self._in_this_run(stream, scopes[stream.id]) for stream in self.streams],
            new_sync(dg.AssetKey(self.run.name), self.partition),
            scopes=scopes,
            assets={stream.id: self.run.keys[stream.id].to_user_string() for stream in self.streams},
            allow_empty=self.run.source.allow_empty,
            on_batch=lambda stream, batch: previews[stream].add(batch),
            on_progress=ProgressLines(self._title(), self.context.log.info).update,
            on_checkpoint=self.report.log_checkpoint,
            on_failure=record_failure,
        ) as landings:
            self._read(landings, limit)
            for receipt in landings.publish():
                stream, seconds = sources[receipt.scope.stream], time.monotonic() - started
                settings = run_metadata(self._config_of(stream), limit, stream)
                yield stream, self._add_to_report(stream, receipt, seconds, previews[stream], settings)

    def _in_this_run(self, stream: Stream, scope: Scope) -> Stream:
        """The stream as this run lands it. Raises SettingsError if the settings of the run do not suit it."""
        config = self._config_of(stream.id)
        if self.config.start_date != config.start_date:
            raise SettingsError(
                f"start_date holds for all streams that one run of {self.run.source.name} reads, and the run reads "
                f"{scope.stream} as well. Select the streams that begin there in a run of their own, or let streams be "
                "empty.",
                stream=str(scope.stream),
                setting="start_date",
            )
        stream = stream_of_run(config, stream, self.target.destination)
        check_start(config, stream, scope)
        refuse_part(config, str(scope.stream), replaces=replaces_scope(self.target.destination, stream, scope))
        return stream

    def _config_of(self, stream: StreamId) -> StreamRunConfig:
        """The settings of the run that hold for a stream of the source."""
        declared = next(known for known in self.streams if known.id == stream)
        return for_stream(self.config, self.run.landed(self.context, declared))

    def _add_to_report(
        self, stream: StreamId, receipt: Receipt, seconds: float, preview: Preview, settings: Mapping[str, Any]
    ) -> dict[str, Any]:
        declared_stream = next(known for known in self.streams if known.id == stream)
        key = self.run.keys[stream]
        return self.report.add(
            key, self.partition, declared_stream, receipt, seconds=seconds, preview=preview, settings=settings
        )

    def _preview_rows_of(self, stream: StreamId) -> int:
        definition = self.context.assets_def.metadata_by_key[self.run.keys[stream]]
        return preview_rows_of(definition, self.preview_rows)

    def _read(self, landings: StreamLandings, limit: ReadLimit) -> None:
        """Passes the source's items to the landings until the source ends or no stream needs more."""
        unread = landings.unread
        if not unread:
            return
        try:
            resumed = self._resumption(unread)
            if resumed.warning is not None:
                self.context.log.warning(printable(resumed.warning))
            for landing in unread:
                landing.continue_from(resumed.lineage)
            source = self.run.source.with_variables(look_up)
            if self.config.start_date is not None:
                source = source.starting_at(self.config.start_date)
            reading = source.read(
                [self._as_read(landing) for landing in unread],
                state=resumed.states,
                config_values=self._values(),
                log=run_log(self.context),
            )
            with reading as items:
                for item in items:
                    if (part := limit.apply(item, item.stream)) is not None:
                        landings.append(part)  # type: ignore[arg-type]  # an item of the same kind
                    if limit.is_over([landing.stream.id for landing in landings.unread]):
                        return
        except S3DestError as error:
            landings.source_failed(error)

    def _as_read(self, landing: Landing) -> Stream:
        """The stream as the source reads it: a full refresh of this run is still read as an append, with its states."""
        declared = next(stream for stream in self.streams if stream.id == landing.stream.id)
        return replace(landing.stream, sync_mode=declared.sync_mode)

    def _resumption(self, landings: Sequence[Landing]) -> Resumption:
        """Where the source continues. Partitions and full refreshes start from the beginning."""
        in_full = [each.stream.id for each in landings if not self.run.source.is_incremental(self._as_read(each))]
        configs = {each.stream.id: self._config_of(each.stream.id) for each in landings}
        anew = {stream for stream, config in configs.items() if config.full_refresh or config.start_date is not None}
        reached = {each.stream.id: self._reached(each, configs[each.stream.id]) for each in landings}
        are_some = len(anew) < len(self.run.streams)
        resumed = resumption(
            {stream: None if stream in anew else state for stream, state in reached.items()},
            partial(text_of, self.target.bucket),
            in_full=in_full,
            are_all=len(landings) == len(self.run.streams),
            restarted={stream: reached[stream] for stream in anew} if are_some else None,
        )
        self._check_given_states(resumed, configs)
        is_given = any(config.state is not None for config in configs.values())
        # No segment holds a state that the run sets, so that no later read could look it up as an ancestor.
        return replace(resumed, lineage=()) if is_given else resumed

    def _check_given_states(self, resumed: Resumption, configs: Mapping[StreamId, StreamRunConfig]) -> None:
        """Raises SettingsError if the source does not go on from the states that the run sets."""
        for stream, config in configs.items():
            if config.state is None:
                continue
            state = given_state(config, stream)
            is_whole = is_of_one_stream(state.decode()) or all(other.state is not None for other in configs.values())
            if state not in resumed.states or not is_whole:
                raise SettingsError(
                    f"{stream} cannot go on from the state that the run sets: it must be of the kind of state that the "
                    "source's other streams have, and a state of all streams must be set for all of them.",
                    stream=str(stream),
                    setting="state",
                )

    def _reached(self, landing: Landing, config: StreamRunConfig) -> Reached | None:
        """The state of a stream: the one that the run sets, or the one that its records have reached."""
        if config.state is not None:
            text = given_state(config, landing.stream.id).decode()
            return Reached(text, (KnownState(state_id(text), 0, ""),))
        if config.full_refresh:
            return None if landing.last_state is None else _reached_of(landing.last_state)
        state = state_to_continue(landing, is_incremental=self.run.source.is_incremental(landing.stream))
        return None if state is None else _reached_of(state)

    def _scope(self, stream: Stream) -> Scope:
        """What the stream lands, under its namespace in the bucket."""
        landed = self.run.landed(self.context, stream)
        if self.run.partitions is None or self.partition is None:
            return Scope(landed)
        return partition_scopes(landed, self.run.partitions, [self.partition])[self.partition]

    def _values(self) -> dict[str, str | int] | None:
        """The values that the source's placeholders can use. None without partitions."""
        if self.run.partitions is None or self.partition is None:
            return None
        return partition_values_of(self.run.partitions, self.partition)

    def _title(self) -> str:
        return self.run.source.name if self.partition is None else f"{self.run.source.name} [{self.partition}]"


def _reached_of(state: ReachedState) -> Reached:
    return Reached(state.text, state.lineage)
