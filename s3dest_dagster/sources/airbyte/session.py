"""Reads one sequence of Airbyte messages to its end, from a connector's process or from any stream of bytes.

Both raise one clear error if the source failed. Must not know: settings, files, catalogs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, BinaryIO, Literal

import msgspec

from s3dest_dagster.batch import SourceItem
from s3dest_dagster.errors import SourceError
from s3dest_dagster.sources import Log
from s3dest_dagster.sources.airbyte.config import CurrentConfig
from s3dest_dagster.sources.airbyte.messages import BUFFER_MB, MessageReader
from s3dest_dagster.sources.airbyte.process import ConnectorProcess
from s3dest_dagster.sources.airbyte.protocol import BadLine, Message, decode_block
from s3dest_dagster.sources.airbyte.record_lines import LineDivider, RecordLines
from s3dest_dagster.sources.airbyte.source_report import SourceReport, log_to_logging
from s3dest_dagster.sources.lines import MAX_LINE_MB, check_stall, read_blocks
from s3dest_dagster.stream import StreamId


def read_messages(
    source: int | BinaryIO,
    streams: Collection[StreamId],
    *,
    log: Log = log_to_logging,
    config: CurrentConfig | None = None,
    max_line_mb: int = MAX_LINE_MB,
    buffer_mb: int = BUFFER_MB,
    stall_timeout_s: float | None = None,
    hides_text: bool = False,
) -> Iterator[SourceItem]:
    """Yields the items of the streams from Airbyte messages, one message per line.

    A state comes after every record that it covers: the records of its stream or, if it names no stream, of all
    streams. The same holds for a status that ends a stream. Bad records come before both. Between two of these items,
    records come in batches of 0.5 MB or more per stream. A line that looks like a record but is not a valid one becomes
    a `BadRecord`.

    Args:
        source: A descriptor, or a binary file from which nothing has been read.
        streams: The streams of the catalog.
        log: Receives logs, and lines that are not messages.
        config: Receives the source's changes of its config.
        max_line_mb: The longest line, in MB.
        buffer_mb: Limit for the records that wait for their batch to fill, in MB.
        stall_timeout_s: Seconds for which the source may write nothing. None: forever.
        hides_text: See `SourceReport`.

    Raises:
        SourceError: immediately for records of another stream, a broken state, a line longer than `max_line_mb`, a
            silence of `stall_timeout_s`, and an incomplete last line; at the end of the input if the source reported an
            error, reported statuses but not COMPLETE for each stream, or wrote only lines that are not messages.
    """
    report = SourceReport(log, streams, config=config, hides_text=hides_text)
    reader = MessageReader(streams, report, buffer_mb=buffer_mb)
    for block in _blocks(source, max_line_mb, stall_timeout_s):
        yield from reader.read(block)
    yield from _rest(reader, report)


def read_record_lines(
    source: int | BinaryIO,
    streams: Collection[StreamId],
    *,
    log: Log = log_to_logging,
    config: CurrentConfig | None = None,
    max_line_mb: int = MAX_LINE_MB,
    stall_timeout_s: float | None = None,
) -> Iterator[SourceItem | RecordLines]:
    """Yields the same as `read_messages`, with lines of records that the receiver decodes, such as the processes of
    `land_in_processes`.

    Everything else, from logs to the end of the source, is checked here. Records come in no certain order to bad ones.

    Args:
        source, streams, log, config, max_line_mb, stall_timeout_s: See `read_messages`.

    Raises:
        SourceError: As `read_messages`. What is wrong with a record is raised where its line is decoded.

    Example:
        lines = read_record_lines(sys.stdin.fileno(), [stream.id])
        receipt = land_in_processes(target, stream, sync, lines, processes=2)
    """
    report = SourceReport(log, streams, config=config)
    reader = MessageReader(streams, report)
    divider = LineDivider(streams, reader)
    for block in _blocks(source, max_line_mb, stall_timeout_s):
        yield from divider.read(block)
    yield from _rest(reader, report)


def _rest(reader: MessageReader, report: SourceReport) -> Iterator[SourceItem]:
    """Yields what comes after the last block. Raises SourceError if the source failed."""
    yield from reader.flush()
    if (failure := report.failure()) is not None:
        raise report.error(failure)
    yield from reader.bad_records()


def _blocks(source: int | BinaryIO, max_line_mb: int, stall_timeout_s: float | None) -> Iterator[bytes]:
    def on_idle(silent_s: float) -> bool:
        check_stall(silent_s, stall_timeout_s)
        return False

    return read_blocks(source, max_line_mb=max_line_mb, on_idle=on_idle)


_EXIT_WAIT_S = 60.0
"""How long a connector may keep running after it has closed its output."""

_BROKEN_LINE_WAIT_S = 0.5
"""How long a connector may take to exit after its output broke off."""

AnswerType = Literal["SPEC", "CATALOG", "CONNECTION_STATUS"]
_ANSWER_MEMBERS: dict[AnswerType, str] = {
    "SPEC": "spec",
    "CATALOG": "catalog",
    "CONNECTION_STATUS": "connectionStatus",
}


class ConnectorSession:
    """One run of a connector: its messages, its standard error and its exit.

    Args:
        title: The connector and the verb, for errors.
        process: The running connector.
        config: Receives the connector's changes of the config, and masks secrets in everything that is logged or
            raised.
        log: Receives the connector's logs and its standard error.
        max_line_mb: The longest line, in MB.
        stall_timeout_s: Seconds for which the connector may write nothing. None: forever.
    """

    def __init__(
        self,
        title: str,
        process: ConnectorProcess,
        config: CurrentConfig,
        log: Log,
        *,
        max_line_mb: int,
        stall_timeout_s: float | None,
    ) -> None:
        self._title = title
        self._process = process
        self._config = config
        self._log = log
        self._max_line_mb = max_line_mb
        self._stall_timeout_s = stall_timeout_s
        self._last_error_output_s = 0.0
        self._exit_seen = False

    def items(self, streams: Collection[StreamId], buffer_mb: int, *, hides_text: bool = False) -> Iterator[SourceItem]:
        """Yields the items of the streams as `read_messages` does. Raises SourceError at the end if the connector
        failed."""
        report = SourceReport(self._log_masked, streams, config=self._config, hides_text=hides_text)
        reader = MessageReader(streams, report, buffer_mb=buffer_mb)
        try:
            for block in self._blocks():
                yield from reader.read(block)
        except SourceError as error:
            raise self._with_exit(error) from None
        yield from reader.flush()
        self._check_end(report)
        yield from reader.bad_records()

    def answer(self, kind: AnswerType) -> dict[str, Any]:
        """The content of the one message that the verb requests.

        Raises SourceError if the connector did not write it, or reported an error. If it wrote the answer, its exit
        code is ignored: a failed check may exit with any code.
        """
        report = SourceReport(self._log_masked, config=self._config)
        answer: msgspec.Raw | None = None
        try:
            for block in self._blocks():
                for message in decode_block(block):
                    if isinstance(message, BadLine):
                        report.receive_text(message)
                    elif isinstance(message, Message):
                        report.receive(message)
                        answer = getattr(message, _ANSWER_MEMBERS[kind]) if message.type == kind else answer
        except SourceError as error:
            raise self._with_exit(error) from None
        report.has_data = answer is not None
        self._check_end(report, is_answered=answer is not None)
        if answer is None:
            raise self._error(f"It ended without a {kind} message.")
        try:
            return msgspec.json.decode(answer, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise self._error(f"Its {kind} message cannot be read: {error}.") from None

    def _blocks(self) -> Iterator[bytes]:
        for block in read_blocks(self._process.output, max_line_mb=self._max_line_mb, on_idle=self._on_idle):
            yield block
            # Not earlier: a config in the block may determine which texts of these lines are secret.
            self._log_error_output()

    def _on_idle(self, silent_s: float) -> bool:
        """Whether no more output can come, because the connector had already exited at the previous call.

        One check is not enough: the connector may write its last line and exit after the reader has polled the pipe and
        before this call. The pipe itself may never end, because a stray child process can hold it open. Raises
        SourceError if the connector has written nothing for too long, neither to the pipe nor to standard error.
        """
        if self._log_error_output():
            self._last_error_output_s = silent_s
        self._last_error_output_s = min(self._last_error_output_s, silent_s)
        if self._exit_seen:
            return True
        self._exit_seen = self._process.has_exited()
        if not self._exit_seen:
            check_stall(silent_s - self._last_error_output_s, self._stall_timeout_s)
        return False

    def _check_end(self, report: SourceReport, *, is_answered: bool = False) -> None:
        """Waits for the connector to end. Raises SourceError if anything went wrong."""
        exited = self._process.wait(_EXIT_WAIT_S)
        code = self._process.stop()
        self._log_error_output()
        reasons = [] if (failure := report.failure()) is None else [failure]
        if not exited:
            reasons.append(f"It closed its output, but did not end within {_EXIT_WAIT_S:.0f} s.")
        elif code != 0 and not is_answered:
            reasons.append(self._process.describe_end())
        elif not (report.has_messages or reasons):
            reasons.append(f"It ended without a single Airbyte message. {self._process.describe_end()}")
        if reasons:
            raise report.error(self._text(" ".join(reasons)), mask=self._config.mask)

    def _with_exit(self, error: SourceError) -> SourceError:
        """The error, with the connector's exit if that explains the broken last line."""
        has_failed = self._process.wait(_BROKEN_LINE_WAIT_S) and self._process.stop() != 0
        self._log_error_output()
        text = f"{error} {self._process.describe_end()}" if has_failed else str(error)
        return self._error(text, stream=error.stream, setting=error.setting)

    def _error(self, text: str, *, stream: str | None = None, setting: str | None = None) -> SourceError:
        return SourceError(self._text(text), stream=stream, setting=setting)

    def _text(self, text: str) -> str:
        return f"The source failed ({self._title}). {self._config.mask(text)}"

    def _log_masked(self, level: str, message: str) -> None:
        self._log(level, self._config.mask(message))

    def _log_error_output(self) -> bool:
        """Logs the new lines of standard error. Returns whether there were any."""
        lines = self._process.new_error_lines()
        for line in lines:
            self._log_masked("INFO", line)
        return bool(lines)
