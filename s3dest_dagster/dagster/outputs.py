"""The IO manager's output: splits the value that an asset returned by partition, and lands it.

Must not know: how a landing works.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from inspect import isgenerator
from itertools import chain
from typing import Any

import dagster as dg

from s3dest_dagster.batch import Batch, SourceItem
from s3dest_dagster.commit.segment_builder import replaces_scope
from s3dest_dagster.dagster.asset_metadata import preview_rows_of, scopes_of, stream_of
from s3dest_dagster.dagster.failures import located
from s3dest_dagster.dagster.preview import Preview
from s3dest_dagster.dagster.run_config import (
    StreamRunConfig,
    destination_of_run,
    for_stream,
    refuse_part,
    refuse_settings,
    run_config_of,
    stream_of_run,
)
from s3dest_dagster.dagster.run_landing import (
    ProgressLines,
    StepReport,
    add_partition_metadata,
    common_version,
    connection_of_workers,
    current_execution,
    new_sync,
    now,
    now_ms,
    set_data_version,
    unchanged_version,
    version_before,
)
from s3dest_dagster.dagster.run_start import check_start, refuse_start, run_metadata, state_of_read
from s3dest_dagster.dagster.shared_streams import refuse_shared_streams
from s3dest_dagster.dagster.source_metadata import ReadReport
from s3dest_dagster.dagster.step_values import StagedShards
from s3dest_dagster.engines import Engine, engine_of
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.ingest.landing import Landing
from s3dest_dagster.ingest.read_limit import ReadLimit
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.ingest.target import Target, open_target
from s3dest_dagster.printable import amount
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.shards import begin, commit
from s3dest_dagster.sources import DeferredRead
from s3dest_dagster.sources.items import is_iterated, items_of
from s3dest_dagster.sources.python import is_arrow
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream

_EVENTS = (dg.Output, dg.MaterializeResult, dg.AssetCheckResult, dg.AssetMaterialization, dg.AssetObservation)
_NOTHING = object()


def land_output(
    context: dg.OutputContext,
    value: Any,
    destination: S3Destination,
    bucket: Bucket,
    *,
    preview_rows: int = 0,
    connection: S3Connection | None = None,
) -> None:
    """Lands the value that an asset returned, each scope as a whole or not at all. None lands nothing.

    Scopes are landed one after another. If one fails, those before it stay and are reported as materialized, and a
    retry of the run does not land them again.
    """
    key = context.asset_key
    refuse_shared_streams(current_execution(), [key])
    stream = stream_of(key, context.definition_metadata, context.output_metadata)
    config = for_stream(run_config_of(current_execution()), stream.id)
    if config.plan:
        refuse_settings(config, ["plan"], str(stream.id), "Its asset has read its records already. Use stream_asset.")
    destination = destination_of_run(config, destination)
    stream = stream_of_run(config, stream, destination)
    scopes = scopes_of(context, stream.id)
    if value is None:
        _keep_what_is_there(context, scopes)
        return
    rows = preview_rows_of(context.definition_metadata, preview_rows)
    partitions = context.asset_partitions_def if context.has_asset_partitions else None
    # A generator may not have been read to its end. Closing it releases its resources now.
    release: AbstractContextManager[Any] = closing(value) if isgenerator(value) else nullcontext()
    with (
        release,
        open_target(destination, bucket, clock=now, entropy=os.urandom) as target,
        StepReport(context, target.bucket, partitions) as report,
    ):
        output = ScopeOutput(context, stream, target, report, rows, connection, config, key, key.to_user_string())
        for scope, records in split_by_scope(value, scopes):
            metadata = output.land(scope, records)
            if len(scopes) == 1:
                context.add_output_metadata(metadata)
            else:
                add_partition_metadata(key, scope.partition, metadata)
        set_data_version(key, report.finish(key))


def _keep_what_is_there(context: dg.OutputContext, scopes: Iterable[str | None]) -> None:
    """Lands nothing: the asset keeps the data version that its partitions have."""
    key = context.asset_key
    context.log.info("The asset gave nothing (None), so nothing was landed. An empty list empties what is there.")
    set_data_version(key, common_version(unchanged_version(version_before(key, partition)) for partition in scopes))


@dataclass(frozen=True, slots=True)
class ScopeOutput:
    """One output of a step, whose scopes are landed one after another."""

    context: dg.OutputContext
    stream: Stream
    target: Target
    report: StepReport
    preview_rows: int
    connection: S3Connection | None
    """How the workers of an engine reach S3. None: they cannot."""
    config: StreamRunConfig
    """The settings of the run."""
    key: dg.AssetKey
    """What tells the output's syncs from those of other outputs of the run."""
    asset: str | None
    """The asset that lands the stream. None: no asset does."""

    def land(self, scope: Scope, records: Any) -> dict[str, Any]:
        """Lands the records of one scope. Returns the metadata of its materialization."""
        preview, started = Preview(self.stream, self.preview_rows), time.monotonic()
        limit = ReadLimit(self.config.record_limit, self.config.time_limit_s, time.monotonic)
        observed: dict[str, Any] = {}
        if isinstance(records, StagedShards):
            receipt = self._commit(scope, records)
        elif (engine := engine_of(records)) is not None:
            receipt = self._write(scope, records, engine)
        else:
            receipt, observed = self._publish(scope, records, preview, limit)
        seconds = time.monotonic() - started
        settings = {**observed, **run_metadata(self.config, limit, scope.stream)}
        return self.report.add(
            self.key, scope.partition, self.stream, receipt, seconds=seconds, preview=preview, settings=settings
        )

    def _commit(self, scope: Scope, staged: StagedShards) -> Receipt:
        """Publishes what other steps have staged."""
        plan = staged.plan
        with located(scope):
            return commit(plan.order, staged.receipts, shards=plan.shards, s3=self.target.bucket)

    def _write(self, scope: Scope, dataset: Any, engine: Engine) -> Receipt:
        """Has the workers of an engine stage its dataset, and publishes it."""
        hash_key = self.target.destination.hash_key
        connection = connection_of_workers(self.connection, str(scope.stream))
        reason = "The workers of an engine read its records, each a part of them. Limit the dataset."
        refuse_settings(self.config, ["start_date", "state", "record_limit", "time_limit_s"], str(scope.stream), reason)
        schema = engine.arrow_schema(dataset) if self.stream.json_schema is None else None
        with located(scope):
            sync = new_sync(self.key, scope.partition)
            order = begin(self.target, self.stream, sync, scope, schema=schema, asset=self.asset)
            if order.complete:
                return commit(order, (), s3=self.target.bucket)
            options = {"s3": connection, **({"hash_key": hash_key} if hash_key is not None else {})}
            return engine.write(dataset, order, **options)

    def _publish(
        self, scope: Scope, records: Any, preview: Preview, limit: ReadLimit
    ) -> tuple[Receipt, dict[str, Any]]:
        """Lands records. Returns the receipt, and the metadata of the source."""
        stream = str(scope.stream)
        check_start(self.config, self.stream, scope)
        refuse_start(self.config, records, stream)
        refuse_part(self.config, stream, replaces=replaces_scope(self.target.destination, self.stream, scope))
        with (
            located(scope),
            Landing(
                self.target,
                self.stream,
                new_sync(self.key, scope.partition),
                scope=scope,
                asset=self.asset,
                allow_empty=records.allow_empty if isinstance(records, DeferredRead) else True,
                on_batch=preview.add,
                on_progress=partial(ProgressLines(str(scope), self.context.log.info).update, scope.stream),
                on_checkpoint=self.report.log_checkpoint,
            ) as landing,
        ):
            before = None if landing.last_state is None else landing.last_state.text
            if not landing.recorded:
                with _opened(records, landing, self.config) as items:
                    for item in limit.limited(items, scope.stream):
                        landing.append(item)
            receipt = landing.commit()
        source, changes = (records.source, records.config_changes) if isinstance(records, DeferredRead) else (None, ())
        report = ReadReport(source, {self.stream.id: before}, changes)
        return receipt, report.metadata(self.stream.id, receipt.state)


# ---------------------------------------------------------------------- which records land in which scope


def split_by_scope(value: Any, scopes: Mapping[str | None, Scope]) -> Iterator[tuple[Scope, Any]]:
    """Yields each scope with its records, in the order of the value.

    A mapping of partition keys to records, or (partition key, records) pairs, may cover several partitions, one after
    another. Partitions of the run that are left out come last, without records. Any other value is the records of the
    run's only scope.

    Raises:
        SettingsError: If the value names a partition that the run does not have, or the same one twice, or if it names
            none although the run has several.
    """
    if isinstance(value, Mapping) and None not in scopes:
        value = value.items()
    pairs, records = _pairs_or_records(value)
    if pairs is not None:
        yield from _by_partition(pairs, scopes)
        return
    if len(scopes) != 1:
        raise _several_partitions(scopes)
    yield next(iter(scopes.values())), records


def _pairs_or_records(value: Any) -> tuple[Iterable[tuple[str, Any]] | None, Any]:
    """Returns pairs or, if there are no pairs, records. Reads the first element of a value that must be iterated."""
    if not is_iterated(value) or engine_of(value) is not None:
        return None, value
    elements = iter(value)
    first = next(elements, _NOTHING)
    whole = () if first is _NOTHING else chain([first], elements)
    return (whole, None) if first is _NOTHING or _is_pair(first) else (None, whole)


def _is_pair(element: Any) -> bool:
    return type(element) is tuple and len(element) == 2 and isinstance(element[0], str)


def _by_partition(pairs: Iterable[tuple[str, Any]], scopes: Mapping[str | None, Scope]) -> Iterator[tuple[Scope, Any]]:
    left = dict(scopes)
    for partition, records in pairs:
        scope = left.pop(partition, None)
        if scope is None:
            raise _unexpected_partition(partition, scopes)
        yield scope, records
    for scope in left.values():
        yield scope, ()


def _unexpected_partition(partition: Any, scopes: Mapping[str | None, Scope]) -> SettingsError:
    stream = str(next(iter(scopes.values())).stream)
    if None in scopes:
        return SettingsError(
            f"{stream} has no partitions, and its body gave records of the partition {partition!r}. Give the records "
            "alone; put a single record in a list.",
            stream=stream,
        )
    reason = "twice; give all of its records at once" if partition in scopes else "and this run does not have it"
    return SettingsError(
        f"The body of {stream} gave the partition {partition!r} {reason}. The run has {_range(scopes)}.",
        stream=stream,
        partition=str(partition),
    )


def _several_partitions(scopes: Mapping[str | None, Scope]) -> SettingsError:
    stream = str(next(iter(scopes.values())).stream)
    return SettingsError(
        f"This run has {amount(len(scopes), 'partition')} of {stream} ({_range(scopes)}), and its body gave "
        "records without saying of which. Yield (partition key, records) pairs, as itertools.groupby does, or return "
        "a dict of them; or let each partition have its own run (without BackfillPolicy.single_run()).",
        stream=stream,
    )


def _range(scopes: Mapping[str | None, Scope]) -> str:
    keys = [str(key) for key in scopes]
    return repr(keys[0]) if len(keys) == 1 else f"{keys[0]!r} to {keys[-1]!r}"


# ---------------------------------------------------------------------- the records of one scope


@contextmanager
def _opened(records: Any, landing: Landing, config: StreamRunConfig) -> Iterator[Iterable[SourceItem | Batch]]:
    """The items of one scope's records, valid inside the `with`."""
    if isinstance(records, DeferredRead):
        records = records.open(state_of_read(landing, config, is_incremental=records.is_incremental))
    if isinstance(records, AbstractContextManager) and not (isinstance(records, Iterable) or is_arrow(records)):
        with records as items:
            yield items_of(items, emitted_at=now_ms, check_first=_refuse_event)
    else:
        yield items_of(records, emitted_at=now_ms, check_first=_refuse_event)


def _refuse_event(element: Any) -> None:
    """Raises SettingsError for a Dagster event among the records."""
    if not isinstance(element, _EVENTS):
        return
    name = type(element).__name__
    if isinstance(element, dg.AssetCheckResult):
        raise SettingsError(
            f"The body gave an {name} among its records, and the asset declares no check: name it in "
            'check_specs=[dg.AssetCheckSpec("…", asset="…")].',
            setting="check_specs",
        )
    raise SettingsError(
        f"The body gave a {name} among its records. Return one {name} around all of them (value=records), and add what "
        "is known later with context.add_asset_metadata."
    )
