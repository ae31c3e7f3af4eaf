"""A connector's streams as one asset definition: one run of the connector for all of them that are selected.

The body lands them itself, side by side, since outputs would reach an IO manager one after another; the IO manager says
where, and loads for the assets downstream. It must not know how a landing works.
"""

import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import dagster as dg

from s3dest_dagster.batch import StreamBatch
from s3dest_dagster.commit.head import ReachedState
from s3dest_dagster.commit.states import text_of
from s3dest_dagster.dagster.asset_metadata import partition_scopes, partitions_of_run, preview_rows_of, values_of
from s3dest_dagster.dagster.assets import AssetSettings, described
from s3dest_dagster.dagster.config import looked_up
from s3dest_dagster.dagster.failures import as_dagster_failures, failure_of_streams
from s3dest_dagster.dagster.metadata import Preview, common_version, data_version, receipt_metadata, version_before
from s3dest_dagster.dagster.run_landing import (
    LandedPartition,
    ProgressLines,
    checkpoint_sentence,
    delivery_id,
    landed_sentence,
    new_sync,
    now,
    report_landed,
    sync_id,
    warn_of_second_writers,
)
from s3dest_dagster.dagster.translator import S3DestinationTranslator, asset_name, check_distinct
from s3dest_dagster.errors import S3DestError, SettingsError
from s3dest_dagster.ingest.landing import Landing
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.ingest.streams import StreamLandings, landing_streams
from s3dest_dagster.ingest.target import Target, open_target
from s3dest_dagster.printable import printable, printable_lines
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.sources.airbyte.messages import LOG_LEVELS, Log
from s3dest_dagster.sources.airbyte.states import Reached, resumption
from s3dest_dagster.sources.templating import Values
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, StreamId, SyncMode


@runtime_checkable
class Place(Protocol):
    """Where streams are landed: an IO manager of this library, or another resource that answers the same. Its
    `preview_rows`, if it has that, says how many records are shown."""

    def destination(self) -> S3Destination: ...

    def bucket(self) -> Bucket: ...


def asset_of_streams(
    source: AirbyteSource,
    streams: Sequence[Stream],
    translator: S3DestinationTranslator,
    partitions: dg.PartitionsDefinition[Any] | None,
    settings: AssetSettings,
    name: str | None,
) -> dg.AssetsDefinition:
    """One definition with an asset for each stream; its step is called `name`, by default after the connector."""
    io_manager_key = settings.get("io_manager_key") or "io_manager"
    step: dict[str, Any] = {}
    specs: list[dg.AssetSpec] = []
    for stream in streams:
        spec, step = described(translator.get_asset_spec(stream), settings)
        specs.append(spec.with_io_manager_key(io_manager_key))
    check_distinct((stream, spec.key) for stream, spec in zip(streams, specs, strict=True))
    partitions = partitions or _common_partitions(specs)
    step.pop("io_manager_key", None)
    needed = {io_manager_key, *step.pop("required_resource_keys", ())}
    keys = {stream.id: spec.key for stream, spec in zip(streams, specs, strict=True)}
    run = ConnectorRun(name or _step_name(source, specs), source, streams, keys, partitions)

    def read(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        with as_dagster_failures():
            yield from run.landed(context, _place(context, io_manager_key))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=dg.BetaWarning)
        return dg.multi_asset(
            name=run.name,
            specs=[each.replace_attributes(partitions_def=partitions) for each in specs],
            can_subset=True,
            partitions_def=partitions,
            required_resource_keys=needed,
            **step,
        )(read)


def _step_name(source: AirbyteSource, specs: Sequence[dg.AssetSpec]) -> str:
    """The connector's name and that of its first asset, which no other step has."""
    return f"{asset_name(source.name)}__{specs[0].key.to_python_identifier()}"


def _common_partitions(specs: Sequence[dg.AssetSpec]) -> dg.PartitionsDefinition[Any] | None:
    """The partitions that the translator says, where it says them: one run of a connector has one partition."""
    first = specs[0].partitions_def
    for spec in specs:
        if spec.partitions_def != first:
            raise SettingsError(
                f"{specs[0].key.to_user_string()} and {spec.key.to_user_string()} have different partitions, and one "
                "run of a connector reads one. Give them the same, or build them apart.",
                setting="partitions_def",
            )
    return first


def _place(context: dg.AssetExecutionContext, key: str) -> Place:
    place = getattr(context.resources, key)
    if isinstance(place, Place):
        return place
    raise SettingsError(
        f"The resource {key!r} is a {type(place).__name__}, which does not say where to land. Streams of one run are "
        "landed by an S3DestinationIOManager: give its key as io_manager_key.",
        setting="io_manager_key",
    )


@dataclass(frozen=True)
class ConnectorRun:
    """What the step of such a definition does: one run of the connector for each partition of the step."""

    name: str
    source: AirbyteSource
    streams: Sequence[Stream]
    keys: Mapping[StreamId, dg.AssetKey]
    partitions: dg.PartitionsDefinition[Any] | None

    def landed(self, context: dg.AssetExecutionContext, place: Place) -> Iterator[dg.MaterializeResult[Any]]:
        """Lands the selected streams; each is told as materialized once all of its partitions are published.

        A stream that fails is left out of the partitions that follow; those of its partitions that landed are reported
        as materialized, however the step ends. Raises `dg.Failure` at the end when any stream failed.
        """
        chosen = [each for each in self.streams if self.keys[each.id] in context.selected_asset_keys]
        partitions = self._partitions(context, chosen)
        failed: dict[Scope, S3DestError] = {}
        versions: dict[StreamId, list[str]] = {each.id: [] for each in chosen}
        unreported: dict[StreamId, list[LandedPartition]] = {each.id: [] for each in chosen}
        try:
            with open_target(place.destination(), place.bucket(), clock=now, entropy=os.urandom) as target:
                for partition in partitions:
                    gone = {scope.stream for scope in failed}
                    left = [each for each in chosen if each.id not in gone]
                    part = _Part(self, context, target, partition, left, getattr(place, "preview_rows", 0))
                    for stream, receipt, metadata in part.landed(failed):
                        key = self.keys[stream]
                        before = partial(version_before, context.instance, key, partition)
                        versions[stream].append(data_version(receipt, before))
                        if partition is not None:
                            context.add_asset_metadata(metadata, asset_key=key, partition_key=partition)
                            landed = LandedPartition(key, str(partition), metadata, versions[stream][-1])
                            unreported[stream].append(landed)
                        if partition == partitions[-1]:
                            unreported.pop(stream)
                            told = metadata if partition is None else {}
                            version = common_version(versions[stream])
                            yield dg.MaterializeResult(asset_key=key, metadata=told, data_version=version)
        finally:
            report_landed(chain.from_iterable(unreported.values()), self.partitions, context.log_event)
        if failed:
            raise failure_of_streams(failed, landed=len(chosen) - len(failed))

    def _partitions(self, context: dg.AssetExecutionContext, chosen: Sequence[Stream]) -> Sequence[str | None]:
        return [None] if self.partitions is None else partitions_of_run(context, chosen[0].id)


@dataclass(frozen=True)
class _Part:
    """One partition of a step, or an unpartitioned step: its streams read by one run of the connector."""

    run: ConnectorRun
    context: dg.AssetExecutionContext
    target: Target
    partition: str | None
    streams: Sequence[Stream]
    preview_rows: int

    def landed(self, failed: dict[Scope, S3DestError]) -> Iterator[tuple[StreamId, Receipt, dict[str, Any]]]:
        """The published streams, one after the other, each with its receipt and what is told of it; the others are put
        in `failed`."""
        if not self.streams:
            return
        scopes = {each.id: self._scope(each.id) for each in self.streams}
        sync = new_sync(sync_id(delivery_id(), dg.AssetKey(self.run.name), self.partition))
        log, bucket = self.context.log, self.target.bucket
        progress = ProgressLines(self._title(), log.info)

        def give_up(stream: StreamId, error: S3DestError) -> None:
            failed[scopes[stream]] = error
            log.error(printable_lines(f"{scopes[stream]} failed: {error.message}"))

        started = time.monotonic()

        def on_checkpoint(receipt: Receipt) -> None:
            log.info(checkpoint_sentence(receipt))

        with landing_streams(
            self.target,
            self.streams,
            sync,
            scopes=scopes,
            allow_empty=self.run.source.allow_empty,
            on_progress=progress.take,
            on_checkpoint=on_checkpoint,
            on_failure=give_up,
        ) as landings:
            previews = {each.id: Preview(each, self._rows_of(each.id)) for each in self.streams}
            self._read(landings, previews)
            declared = {each.id: each for each in self.streams}
            for receipt in landings.publish():
                stream = receipt.scope.stream
                seconds = time.monotonic() - started
                log.info(landed_sentence(receipt, seconds))
                warn_of_second_writers(log, receipt, bucket)
                metadata = receipt_metadata(
                    receipt, declared[stream], bucket=bucket, seconds=seconds, preview=previews[stream]
                )
                yield stream, receipt, metadata

    def _rows_of(self, stream: StreamId) -> int:
        definition = self.context.assets_def.metadata_by_key[self.run.keys[stream]]
        return preview_rows_of(definition, self.preview_rows)

    def _read(self, landings: StreamLandings, previews: Mapping[StreamId, Preview]) -> None:
        """Hands on what the connector says of the streams that want it, until its end or until none wants more."""
        wanted = landings.unread
        if not wanted:
            return
        try:
            reading = ready(self.run.source).read(
                [each.stream for each in wanted],
                state=self._states(wanted),
                config_values=self._values(),
                log=log_to(self.context),
            )
            with reading as items:
                for item in items:
                    if isinstance(item, StreamBatch) and item.stream in previews:
                        previews[item.stream].take(item)
                    landings.append(item)
                    if not landings.unread:
                        return
        except S3DestError as error:
            landings.source_failed(error)

    def _states(self, landings: Sequence[Landing]) -> Sequence[bytes]:
        """What the connector goes on from; none for partitions and full refreshes, which begin anew."""
        found = resumption(
            {each.stream.id: self._reached(each) for each in landings},
            partial(text_of, self.target.bucket),
            in_full=[each.stream.id for each in landings if not self._is_incremental(each)],
            are_all=len(landings) == len(self.run.streams),
        )
        if found.warning is not None:
            self.context.log.warning(printable(found.warning))
        for each in landings:
            each.continue_from(found.lineage)
        return found.states

    def _is_incremental(self, landing: Landing) -> bool:
        catalog = self.run.source.catalog
        return catalog is not None and catalog.is_incremental(landing.stream)

    def _reached(self, landing: Landing) -> Reached | None:
        if landing.scope.partition is not None or landing.stream.sync_mode is not SyncMode.APPEND:
            return None
        state = landing.last_state
        if state is None or not reads_on(self.run.source, landing.stream, state):
            return None
        return Reached(state.text, state.lineage)

    def _scope(self, stream: StreamId) -> Scope:
        if self.run.partitions is None or self.partition is None:
            return Scope(stream)
        return partition_scopes(stream, self.run.partitions, [self.partition])[self.partition]

    def _values(self) -> Values | None:
        """What the connector's config can name of the partition."""
        if self.run.partitions is None or self.partition is None:
            return None
        return values_of(self.run.partitions, self.partition)

    def _title(self) -> str:
        return self.run.source.name if self.partition is None else f"{self.run.source.name} [{self.partition}]"


def ready(source: AirbyteSource) -> AirbyteSource:
    """The source with what its config and environment have from the environment of this run; a config that is asked
    for is asked by each call of the connector, since the one before may have changed it."""
    given = source.config
    config = (lambda: looked_up(given())) if callable(given) else looked_up(given)
    env = {name: str(value) for name, value in (looked_up(source.env, "env") or {}).items()}
    return replace(source, config=config, env=env)


def reads_on(source: AirbyteSource, stream: Stream, state: ReachedState) -> bool:
    """Whether the source goes on from the state. One that reads the stream in full does so only where the last sync
    broke off: the state at the end of a full read says that nothing is left."""
    return not state.complete or (source.catalog is not None and source.catalog.is_incremental(stream))


def log_to(context: dg.AssetExecutionContext) -> Log:
    """Takes what the connector logs into the run's log, at its level."""
    return lambda level, message: context.log.log(LOG_LEVELS[level], "%s", printable_lines(message))
