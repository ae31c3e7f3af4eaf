"""One read of a source: it lands streams of one partition, or unpartitioned streams, side by side.

Must not know: which partitions the step reads, and how its streams are reported as materialized (`source_run`).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import dagster as dg

from s3dest_dagster.commit.segment_builder import replaces_scope
from s3dest_dagster.dagster.assets import run_log
from s3dest_dagster.dagster.config import look_up
from s3dest_dagster.dagster.preview import Preview
from s3dest_dagster.dagster.run_config import StreamRunConfig, for_stream, refuse_part, stream_of_run
from s3dest_dagster.dagster.run_landing import ProgressLines, StepReport, new_sync
from s3dest_dagster.dagster.run_start import check_start, run_metadata
from s3dest_dagster.dagster.source_metadata import ReadReport
from s3dest_dagster.dagster.source_start import start_of_read
from s3dest_dagster.dagster.source_step import SourceStep
from s3dest_dagster.errors import S3DestError, SettingsError
from s3dest_dagster.ingest.landing import Landing
from s3dest_dagster.ingest.read_limit import ReadLimit
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.ingest.streams import StreamLandings, landing_streams
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.printable import printable, printable_lines
from s3dest_dagster.sources import ConfigChange, MultiStreamSource, ObservedSource, OnConfigChange
from s3dest_dagster.stream import Scope, Stream, StreamId


@dataclass(frozen=True)
class PartitionRun:
    """One read of the source of a step.

    Args:
        step: The source, and all streams that it can read.
        context: The context of the step.
        target: Where the streams land.
        report: Receives what was landed.
        partition: The partition that is read. None without partitions.
        streams: The streams that are read.
        preview_rows: How many records of a stream its materialization shows, if its definition does not say it.
        config: The settings of the run.
    """

    step: SourceStep
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
        scopes = {stream.id: self.step.scope(self.context, stream, self.partition) for stream in self.streams}
        sources = {scope.stream: stream for stream, scope in scopes.items()}
        previews = {stream.id: Preview(stream, self._preview_rows_of(stream)) for stream in self.streams}
        started = time.monotonic()
        limit = ReadLimit(self.config.record_limit, self.config.time_limit_s, time.monotonic)
        with self._landings(scopes, previews, failed) as landings:
            states = {each.stream.id: each.last_state.text if each.last_state else None for each in landings.unread}
            changes: list[ConfigChange] = []
            self._read(landings, limit, changes.append)
            observed = ReadReport(self._observed, states, changes)
            for receipt in landings.publish():
                stream, seconds = sources[receipt.scope.stream], time.monotonic() - started
                settings = {
                    **observed.metadata(stream, receipt.state),
                    **run_metadata(self._config_of(stream), limit, stream),
                }
                yield stream, self._add_to_report(stream, receipt, seconds, previews[stream], settings)

    def _landings(
        self, scopes: Mapping[StreamId, Scope], previews: Mapping[StreamId, Preview], failed: dict[Scope, S3DestError]
    ) -> AbstractContextManager[StreamLandings]:
        def record_failure(stream: StreamId, error: S3DestError) -> None:
            failed[scopes[stream]] = error
            self.context.log.error(printable_lines(f"{scopes[stream]} failed: {error.message}"))

        return landing_streams(
            self.target,
            [self._in_this_run(stream, scopes[stream.id]) for stream in self.streams],
            new_sync(dg.AssetKey(self.step.name), self.partition),
            scopes=scopes,
            assets={stream.id: self.step.keys[stream.id].to_user_string() for stream in self.streams},
            allow_empty=self.step.source.allow_empty,
            on_batch=lambda stream, batch: previews[stream].add(batch),
            on_progress=ProgressLines(self.step.title(self.partition), self.context.log.info).update,
            on_checkpoint=self.report.log_checkpoint,
            on_failure=record_failure,
        )

    def _in_this_run(self, stream: Stream, scope: Scope) -> Stream:
        """The stream as this run lands it. Raises SettingsError if the settings of the run do not suit it."""
        config = self._config_of(stream.id)
        if self.config.start_date != config.start_date:
            raise SettingsError(
                f"start_date holds for all streams that one run of {self.step.source.name} reads, and the run reads "
                f"{scope.stream} as well. Select the streams that begin there in a run of their own, or let streams be "
                "empty.",
                stream=str(scope.stream),
                setting="start_date",
            )
        stream = stream_of_run(config, stream, self.target.destination)
        check_start(config, stream, scope)
        refuse_part(config, str(scope.stream), replaces=replaces_scope(self.target.destination, stream, scope))
        return stream

    def _declared(self, stream: StreamId) -> Stream:
        return next(known for known in self.streams if known.id == stream)

    def _config_of(self, stream: StreamId) -> StreamRunConfig:
        """The settings of the run that hold for a stream of the source."""
        return for_stream(self.config, self.step.landed(self.context, self._declared(stream)))

    def _preview_rows_of(self, stream: Stream) -> int:
        return self.step.preview_rows(self.context, stream, self.preview_rows)

    def _add_to_report(
        self, stream: StreamId, receipt: Receipt, seconds: float, preview: Preview, settings: Mapping[str, Any]
    ) -> dict[str, Any]:
        key, declared = self.step.keys[stream], self._declared(stream)
        return self.report.add(
            key, self.partition, declared, receipt, seconds=seconds, preview=preview, settings=settings
        )

    def _read(self, landings: StreamLandings, limit: ReadLimit, on_config_change: OnConfigChange) -> None:
        """Passes the source's items to the landings until the source ends or no stream needs more."""
        unread = landings.unread
        if not unread:
            return
        try:
            configs = {landing.stream.id: self._config_of(landing.stream.id) for landing in unread}
            start = start_of_read(self.step.source, self.step.streams, unread, configs, self.target.bucket)
            if start.warning is not None:
                self.context.log.warning(printable(start.warning))
            for landing in unread:
                landing.continue_from(start.lineage)
            source = self._source
            if self.config.start_date is not None:
                source = source.starting_at(self.config.start_date)
            reading = source.read(
                [self._as_read(landing) for landing in unread],
                state=start.states,
                config_values=self.step.values(self.partition),
                log=run_log(self.context),
                on_config_change=on_config_change,
            )
            with reading as items:
                for item in items:
                    if (part := limit.apply(item, item.stream)) is not None:
                        landings.append(part)  # type: ignore[arg-type]  # an item of the same kind
                    if limit.is_over([landing.stream.id for landing in landings.unread]):
                        return
        except S3DestError as error:
            landings.source_failed(error)

    @cached_property
    def _source(self) -> MultiStreamSource:
        return self.step.source.with_variables(look_up)

    @property
    def _observed(self) -> ObservedSource | None:
        return self._source if isinstance(self._source, ObservedSource) else None

    def _as_read(self, landing: Landing) -> Stream:
        """The stream as the source reads it: a full refresh of this run is still read as an append, with its states."""
        return replace(landing.stream, sync_mode=self._declared(landing.stream.id).sync_mode)
