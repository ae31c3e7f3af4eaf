"""Reports what a step lands to its run: the sync's id, log lines, metadata, data versions, events.

The IO manager (`outputs`) and one run of a connector (`source_run`) both report here. Must not know: where records
come from.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, runtime_checkable

import dagster as dg

from s3dest_dagster.dagster.former_streams import FormerStreams
from s3dest_dagster.dagster.lineage import column_lineage
from s3dest_dagster.dagster.metadata import digest, receipt_metadata
from s3dest_dagster.dagster.preview import Preview
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.ingest.receipt import Progress, Receipt, Sample, StreamProgress
from s3dest_dagster.ingest.target import resident_bytes
from s3dest_dagster.printable import amount, printable, size
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.connector_config import JOB_ID_VARIABLE
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import WITHOUT_CONDITIONS, Bucket
from s3dest_dagster.stream import Stream, StreamId, Sync

# ---------------------------------------------------------------------- the run and its syncs

_PARENT = "dagster/parent_run_id"
_RETRY_NUMBER = "dagster/retry_number"
_RESUMED = ("dagster/is_resume_retry", "dagster/is_asset_resume_retry")

FindRun = Callable[[str], dg.DagsterRun | None]


def now() -> datetime:
    """The current time."""
    return datetime.now(UTC)


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(now().timestamp() * 1000)


def current_execution() -> dg.AssetExecutionContext | None:
    """The execution context of the asset that a step runs. None outside of a step."""
    try:
        return dg.AssetExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return None


def new_sync(asset_key: dg.AssetKey, partition: str | None) -> Sync:
    """A sync of this asset or partition that begins now. A retry of the run has the same sync id."""
    identity = sync_id(_current_run_id(), asset_key, partition)
    return Sync(identity, now(), str(uuid.uuid4()), os.environ.get(JOB_ID_VARIABLE, ""))


def sync_id(run_id: str, asset_key: dg.AssetKey, partition: str | None) -> str:
    """The run's id and a digest of asset and partition, in printable ASCII."""
    scope = "\n".join([*asset_key.path, "" if partition is None else f"[{partition}]"])
    return f"{run_id}-{hashlib.sha256(scope.encode()).hexdigest()[:12]}"


def _current_run_id() -> str:
    """The id of the run that this step's run continues. A random id outside of a run."""
    execution = current_execution()
    if execution is None:
        return str(uuid.uuid4())
    return original_run_id(execution.run, execution.instance.get_run_by_id)


def original_run_id(run: dg.DagsterRun, find_run: FindRun) -> str:
    """The id of the run that owns the syncs: the run itself, or the run that it continues.

    A run continues its parent if Dagster retries it, or if a person re-executes it from failure. A run that is
    re-executed as a whole starts new syncs, which its own retries then continue.
    """
    while _continues_parent(run) and (parent_id := run.tags.get(_PARENT)):
        parent = find_run(parent_id)
        if parent is None:
            return parent_id
        run = parent
    return run.run_id


def _continues_parent(run: dg.DagsterRun) -> bool:
    return _RETRY_NUMBER in run.tags or any(run.tags.get(tag) == "true" for tag in _RESUMED)


# ---------------------------------------------------------------------- where streams land


@runtime_checkable
class LandingResource(Protocol):
    """Where streams land: an IO manager of this library, or another resource with these methods.

    If it has `preview_rows`, that is the number of records shown on a materialization.
    """

    def destination(self) -> S3Destination: ...

    def bucket(self) -> Bucket: ...


def landing_resource(context: dg.AssetExecutionContext | dg.OpExecutionContext, key: str) -> LandingResource:
    """The resource with this key. Raises SettingsError if it does not say where to land."""
    return as_landing_resource(getattr(context.resources, key), key)


def as_landing_resource(resource: Any, key: str) -> LandingResource:
    """The resource with this key. Raises SettingsError if it does not say where to land."""
    if isinstance(resource, LandingResource):
        return resource
    raise SettingsError(
        f"The resource {key!r} is a {type(resource).__name__}, which does not say where to land. Such streams "
        "are landed by an S3DestinationIOManager: give its key as io_manager_key.",
        setting="io_manager_key",
    )


def connection_of_workers(connection: S3Connection | None, stream: str) -> S3Connection:
    """The connection with which the workers of an engine reach the bucket of a stream.

    Raises:
        SettingsError: There is none, because the IO manager's `s3` only makes clients for its own process.
    """
    if connection is not None:
        return connection
    raise SettingsError(
        f"{stream}: the workers of an engine sign in themselves, and the IO manager's s3 only makes clients for its "
        "own process. Give s3dest_dagster's S3Resource or an S3Connection instead, or give the resource a method "
        "connection() that returns an S3Connection (S3Connection() if the workers' machines have their own identity).",
        stream=stream,
        setting="s3",
    )


# ---------------------------------------------------------------------- what Dagster records


@dataclass(frozen=True, slots=True)
class _LandedScope:
    partition: str | None
    metadata: dict[str, Any]
    version: str


class StepReport:
    """Reports each scope that a step lands to the run.

    Dagster records no materialization for a step that fails, although its partitions are published. Therefore, leaving
    the `with` reports every landed partition of an asset that was not finished.

    Args:
        context: The context of the step or of its output.
        bucket: The bucket in which the step lands.
        partitions: The partitions of the step's assets; None if they have none.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext | dg.OutputContext,
        bucket: Bucket,
        partitions: dg.PartitionsDefinition[Any] | None,
    ) -> None:
        self._context = context
        self._bucket = bucket
        self._partitions = partitions
        self._unfinished: dict[dg.AssetKey, list[_LandedScope]] = {}
        self._former = FormerStreams(_last_materialization, context.log)

    def __enter__(self) -> StepReport:
        return self

    def __exit__(self, *_: object) -> None:
        for key, scopes in self._unfinished.items():
            for scope in scopes:
                if scope.partition is not None:
                    self._context.log_event(self._materialization(key, scope.partition, scope))

    def log_checkpoint(self, receipt: Receipt) -> None:
        """Logs what a checkpoint has published."""
        self._context.log.info(checkpoint_sentence(receipt))

    def add(
        self,
        key: dg.AssetKey,
        partition: str | None,
        stream: Stream,
        receipt: Receipt,
        *,
        seconds: float,
        preview: Preview,
        settings: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Logs a landed scope, and returns the metadata of its materialization, with that of the run's settings."""
        self._context.log.info(landed_sentence(receipt, seconds))
        warn_of_second_writers(self._context.log, receipt, self._bucket)
        left = self._former.left_elsewhere(key, receipt, self._bucket)
        metadata = {
            **receipt_metadata(
                receipt, stream, bucket=self._bucket, seconds=seconds, preview=preview, left_elsewhere=left
            ),
            **column_lineage(receipt.columns, self._definition(key)),
            **(settings or {}),
        }
        version = data_version(receipt, partial(version_before, key, partition))
        self._unfinished.setdefault(key, []).append(_LandedScope(partition, metadata, version))
        return metadata

    def _definition(self, key: dg.AssetKey) -> Mapping[str, Any]:
        """The metadata of the definition of one of the step's assets."""
        if isinstance(self._context, dg.OutputContext):
            return self._context.definition_metadata or {}
        metadata: Mapping[str, Any] = self._context.assets_def.metadata_by_key[key]
        return metadata

    def finish(self, key: dg.AssetKey) -> dg.DataVersion:
        """The data version of everything that the step landed of an asset. Dagster now reports the asset as
        materialized."""
        return common_version(scope.version for scope in self._unfinished.pop(key, ()))

    def _materialization(self, key: dg.AssetKey, partition: str, scope: _LandedScope) -> dg.AssetMaterialization:
        if isinstance(self._partitions, dg.MultiPartitionsDefinition):
            # Dagster finds the dimensions on the key, not in its text.
            partition = self._partitions.get_partition_key_from_str(partition)
        return dg.AssetMaterialization(
            asset_key=key, partition=partition, metadata=scope.metadata, tags={DATA_VERSION_TAG: scope.version}
        )


def add_partition_metadata(key: dg.AssetKey, partition: str | None, metadata: dict[str, Any]) -> None:
    """Adds metadata to the materialization of one of the step's partitions."""
    if (execution := current_execution()) is not None:
        execution.add_asset_metadata(metadata, asset_key=key, partition_key=partition)


def set_data_version(key: dg.AssetKey, version: dg.DataVersion) -> None:
    """Records the data version of what the step landed."""
    if (execution := current_execution()) is not None:
        execution.set_data_version(key, version)


# ---------------------------------------------------------------------- data versions

DATA_VERSION_TAG = "dagster/data_version"
"""The tag of a materialization in which Dagster keeps its data version."""


def data_version(receipt: Receipt, version_before: Callable[[], str | None]) -> str:
    """The data version of a landed scope. Equal versions mean equal data.

    - A sync that replaces the scope has a version derived from its records as the source provided them, in their order
      (see `ContentChecksum`), its columns, and the format's settings. The ids and times of the landing are ignored.
    - A sync that added records has a new version, because the scope now holds more.
    - A sync that changed nothing keeps the scope's version, which `version_before` returns.
    """
    if receipt.replaces and receipt.content is not None:
        return digest(receipt.content, receipt.fingerprint, dict(receipt.format))
    if not receipt.replaces and not receipt.objects and not receipt.removed:
        return unchanged_version(version_before())
    return digest(receipt.sync_id)


def unchanged_version(before: str | None) -> str:
    """The previous version, or the version of no data if there was none."""
    return before or digest()


def common_version(versions: Iterable[str]) -> dg.DataVersion:
    """The common version of all scopes of a step, in their order. Dagster records one version per step and asset."""
    found = list(versions)
    return dg.DataVersion(found[0] if len(found) == 1 else digest(found))


def version_before(key: dg.AssetKey, partition: str | None) -> str | None:
    """The data version of the last materialization of an asset or of its partition. None if there is none."""
    records: Any = key
    if partition is not None:
        records = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
    last = _last_materialization(records)
    return (last.tags or {}).get(DATA_VERSION_TAG) if last is not None else None


def _last_materialization(records: dg.AssetKey | dg.AssetRecordsFilter) -> dg.AssetMaterialization | None:
    """The last materialization of an asset, or of some of its partitions. None if there is none."""
    execution = current_execution()
    latest = execution.instance.fetch_materializations(records, limit=1).records if execution is not None else ()
    return latest[0].asset_materialization if latest else None


# ---------------------------------------------------------------------- the run's log

_EVERY_S = 5.0
_warned: set[tuple[str, str]] = set()
"""The servers and buckets for which a warning was logged."""


class ProgressLines:
    """Logs at most one line every five seconds for all streams of a landing together.

    Writing a line to the run's log takes as long as landing many records. The rates are measured since the previous
    line.
    """

    def __init__(
        self,
        title: str,
        log: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        memory: Callable[[], int | None] = resident_bytes,
    ) -> None:
        self._title = title
        self._log = log
        self._clock = clock
        self._progress = StreamProgress(clock, memory=memory, window_s=_EVERY_S)
        self._logged_at = clock()

    def update(self, stream: StreamId, progress: Progress) -> None:
        """Notes the progress of one stream, and logs that of all streams if a line is due."""
        self._progress.update(stream, progress)
        now = self._clock()
        if now - self._logged_at >= _EVERY_S:
            self._logged_at = now
            self._log(self._line(self._progress.sample()))

    def _line(self, sample: Sample) -> str:
        parts = [
            amount(sample.total.rows, "record") + _expected(sample.total),
            amount(sample.total.objects, "object"),
            size(sample.total.bytes),
            f"{sample.rows_per_s:,.0f} records/s",
            f"{sample.bytes_per_s / 1e6:,.1f} MB/s",
        ]
        if sample.memory is not None:
            parts.append(f"memory {sample.memory / 1e6:,.0f} MB")
        return printable(f"{self._title}: {', '.join(parts)}")


def _expected(progress: Progress) -> str:
    """What is expected of the source, for a line of progress. Empty if it does not say."""
    return "" if progress.expected_rows is None else f" of about {progress.expected_rows:,}"


def checkpoint_sentence(receipt: Receipt) -> str:
    """What a checkpoint has published, for the run's log."""
    return printable(
        f"{receipt.scope}: checkpoint, {amount(receipt.rows, 'row')} in {amount(len(receipt.objects), 'object')} "
        "published with the state that they reach; a retry, or the next run, goes on from there."
    )


def landed_sentence(receipt: Receipt, seconds: float) -> str:
    """What was landed, for the run's log."""
    if receipt.discarded is not None:
        return printable(
            f"{receipt.scope}: {amount(receipt.discarded, 'record')} not landed: the schema contract discards new "
            "streams."
        )
    if receipt.repeated:
        return printable(
            f"{receipt.scope}: landed already by this run before it was retried; nothing was landed again."
        )
    return printable(
        f"{receipt.scope}: {amount(receipt.rows, 'row')} in {amount(len(receipt.objects), 'object')}, "
        f"{size(receipt.bytes)}, landed in {seconds:,.1f} s{''.join(_details(receipt))}. {receipt.manifest}"
    )


def _details(receipt: Receipt) -> Iterable[str]:
    if receipt.earlier is not None:
        yield f", {receipt.earlier.landed:,} of them by earlier attempts"
    if receipt.removed:
        yield f", {amount(len(receipt.removed), 'object')} replaced"
    if receipt.counts.quarantined:
        yield f", {amount(receipt.counts.quarantined, 'line')} quarantined"
    if receipt.ended_early:
        groups = amount(receipt.ended_early, "row group or object", "row groups and objects")
        yield f", {groups} ended early for memory"


def warn_of_second_writers(log: logging.Logger, receipt: Receipt, bucket: Bucket) -> None:
    """Warns, once per process and bucket, if the server does not detect two writers of one scope."""
    location = (bucket.endpoint, bucket.name)
    # A repeated sync has put no object, so the server's abilities are unknown.
    if receipt.repeated or location in _warned or bucket.abilities.detects_concurrent_writers:
        return
    _warned.add(location)
    log.warning(f"{bucket.endpoint}: {WITHOUT_CONDITIONS}")
