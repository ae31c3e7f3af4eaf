"""What a source says besides its records and states: logs, errors, statuses, estimates, and changes of its config.

`SourceReport` logs it, and says at the end whether the source succeeded. Must not know: records, states, processes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

import msgspec

from s3dest_dagster.batch import StreamEstimate, StreamNotice, StreamStatus
from s3dest_dagster.errors import ConnectorError, ReportedError, SourceError
from s3dest_dagster.printable import amount, logger, printable_lines, size
from s3dest_dagster.sources import Log
from s3dest_dagster.sources.airbyte.config import CurrentConfig
from s3dest_dagster.sources.airbyte.protocol import (
    CONTROL,
    LOG,
    TRACE,
    BadLine,
    ErrorTrace,
    EstimateTrace,
    Message,
    StatusTrace,
    StreamDescriptor,
)
from s3dest_dagster.stream import StreamId, join_names

LOG_LEVELS = {
    "FATAL": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
    "TRACE": logging.DEBUG,
}
"""The protocol's levels as Python's."""

_logger = logger("sources")


def log_to_logging(level: str, message: str) -> None:
    """Logs to the Python logger `s3dest_dagster.sources`."""
    _logger.log(LOG_LEVELS[level], "%s", message)


_MAX_QUOTED_LINES = 3
_MAX_QUOTED_CHARACTERS = 300
_MAX_COUNTED_ERRORS = 100
"""The number of different errors that are counted."""
_MAX_REPORTED_ERRORS = 20
_MAX_INTERNAL_CHARACTERS = 2000
_MAX_TRACE_CHARACTERS = 8000

_T = TypeVar("_T")


class SourceReport:
    """Receives and logs each message that is neither record nor state. Says at the end whether the sync failed.

    Args:
        hides_text: Whether lines that are not messages are not shown, since they may hold fields that must not land.
    """

    def __init__(
        self,
        log: Log,
        streams: Collection[StreamId] = (),
        *,
        config: CurrentConfig | None = None,
        hides_text: bool = False,
    ) -> None:
        self.log = log
        self._hides_text = hides_text
        self._config = config or CurrentConfig({})
        self._streams = frozenset(streams)
        self._errors: set[str] = set()
        self._first_error = ""
        self._reported: list[ErrorTrace] = []
        self._statuses: dict[StreamId, str] = {}
        self._text_lines: list[str] = []
        self.has_messages = False
        """Whether any message of the protocol has arrived."""
        self.has_data = False
        """Whether a record or a state has arrived. The reader sets it."""

    def receive(self, message: Message) -> StreamNotice | None:
        """Logs the message, or applies a changed config. Returns what the message says about one of the streams: its
        status, or an estimate of its records."""
        self.has_messages = True
        if message.type == "LOG":
            self._receive_log(message.log)
        elif message.type == "TRACE":
            return self._receive_trace(message.trace)
        elif message.type == "CONTROL":
            self._receive_control(message.control)
        return None

    def receive_text(self, line: BadLine) -> None:
        """Logs a line that is not a message. If the sync fails, the error quotes the first few."""
        text = line.raw.decode("utf-8", "replace")
        if self._hides_text:
            text = f"({amount(len(line.raw), 'byte')} that are no message, not shown: they may be a part of a record)"
        self.log("INFO", text)
        if len(self._text_lines) < _MAX_QUOTED_LINES:
            self._text_lines.append(text[:_MAX_QUOTED_CHARACTERS])

    def _receive_control(self, raw: msgspec.Raw) -> None:
        control = self._decode(raw, CONTROL)
        if control is not None and control.connectorConfig is not None:
            self._config.change(control.connectorConfig.config, self.log)
        elif control is not None:
            self.log("WARN", f"The source wrote a CONTROL message of the type {control.type!r}, which is not known.")

    def _receive_log(self, raw: msgspec.Raw) -> None:
        if (entry := self._decode(raw, LOG)) is None:
            return
        level = entry.level.upper()
        self.log(level if level in LOG_LEVELS else "INFO", entry.message)
        if entry.stack_trace:
            self.log("DEBUG", entry.stack_trace)

    def _receive_trace(self, raw: msgspec.Raw) -> StreamNotice | None:
        trace = self._decode(raw, TRACE)
        if trace is not None and trace.error is not None:
            self._receive_error(trace.error)
        if trace is not None and trace.stream_status is not None:
            return self._receive_status(trace.stream_status)
        return None if trace is None or trace.estimate is None else self._receive_estimate(trace.estimate)

    def _receive_error(self, error: ErrorTrace) -> None:
        text = error.message or error.internal_message or "it gave no reason"
        if error.internal_message and error.internal_message not in text:
            text = f"{text} ({error.internal_message})"
        if error.stream_descriptor is not None:
            text = f"stream {error.stream_descriptor.id}: {text}"
        self._first_error = self._first_error or text
        if len(self._reported) < _MAX_REPORTED_ERRORS:
            self._reported.append(error)
        if len(self._errors) < _MAX_COUNTED_ERRORS:
            self._errors.add(text[:_MAX_QUOTED_CHARACTERS])
        self.log("ERROR", text)
        if error.stack_trace:
            self.log("DEBUG", error.stack_trace)

    def _receive_status(self, status: StatusTrace) -> StreamStatus | None:
        stream = status.stream_descriptor.id
        if stream not in self._streams:
            return None
        if self._statuses.get(stream) != status.status:
            self.log("DEBUG", f"The source reported {status.status} for the stream {stream}.")
        self._statuses[stream] = status.status
        return StreamStatus(stream, status.status)

    def _receive_estimate(self, estimate: EstimateTrace) -> StreamEstimate | None:
        name = None if estimate.type == "SYNC" else estimate.name
        stream = None if name is None else StreamDescriptor(name, estimate.namespace).id
        if stream is not None and stream not in self._streams:
            return None
        known = [amount(estimate.row_estimate, "record")] if estimate.row_estimate is not None else []
        known += [size(estimate.byte_estimate)] if estimate.byte_estimate is not None else []
        if known:
            self.log("INFO", f"The source expects about {' and '.join(known)} of {stream or 'all streams'}.")
        return (
            None if stream is None or estimate.row_estimate is None else StreamEstimate(stream, estimate.row_estimate)
        )

    def _decode(self, raw: msgspec.Raw, decoder: msgspec.json.Decoder[_T]) -> _T | None:
        """Decodes the content of a message. Returns None, and logs a warning, if it does not follow the protocol."""
        try:
            return decoder.decode(raw)
        except msgspec.DecodeError as error:
            self.log("WARN", f"The source wrote a {decoder.type.__name__} that does not follow the protocol: {error}")
            return None

    def failure(self) -> str | None:
        """The reasons why the sync failed, as sentences. None if it is complete.

        A source that reports stream statuses must have reported COMPLETE for each stream. A source that wrote lines
        that are not messages must also have written records, states or statuses.
        """
        sentences = [*self._error_sentences(), *self._status_sentences(), *self._text_sentences()]
        return " ".join(sentences) or None

    def error(
        self, text: str, *, mask: Callable[[str], str] = str, stream: str | None = None, setting: str | None = None
    ) -> SourceError:
        """The error with this text, and with the errors that the source reported.

        Args:
            text: What happened, without secrets.
            mask: Replaces the secrets in what the source reported.
        """
        if not self._reported:
            return SourceError(text, stream=stream, setting=setting)
        reported = tuple(_reported_error(error, mask) for error in self._reported)
        streams = {error.stream for error in reported}
        return ConnectorError(
            text, reported=reported, stream=stream or (streams.pop() if len(streams) == 1 else None), setting=setting
        )

    def _error_sentences(self) -> Iterator[str]:
        if self._errors:
            others = "many" if len(self._errors) == _MAX_COUNTED_ERRORS else len(self._errors) - 1
            end = "" if self._first_error.endswith((".", "!", "?")) else "."
            yield f"The source reported: {self._first_error}{end}{f' ({others} more in the log.)' if others else ''}"

    def _status_sentences(self) -> Iterator[str]:
        if not self._statuses:
            return
        complete = {stream for stream, status in self._statuses.items() if status == "COMPLETE"}
        incomplete = {stream for stream, status in self._statuses.items() if status == "INCOMPLETE"}
        if incomplete:
            yield f"The source could not read these streams to their end (INCOMPLETE): {join_names(incomplete)}."
        if missing := self._streams - complete - incomplete:
            yield f"The source ended without reporting COMPLETE for: {join_names(missing)}."

    def _text_sentences(self) -> Iterator[str]:
        if self._text_lines and not self.has_data and not self._statuses:
            lines = " | ".join(self._text_lines)
            yield f"The source gave no record and no state, but wrote lines that are no Airbyte messages: {lines}"


def _reported_error(error: ErrorTrace, mask: Callable[[str], str]) -> ReportedError:
    def shown(text: str | None) -> str | None:
        return None if text is None else printable_lines(mask(text))

    internal, trace = shown(error.internal_message), shown(error.stack_trace)
    return ReportedError(
        message=(shown(error.message) or "")[:_MAX_INTERNAL_CHARACTERS],
        failure_type=shown(error.failure_type),
        internal_message=None if internal is None else internal[:_MAX_INTERNAL_CHARACTERS],
        stack_trace=None if trace is None else trace[-_MAX_TRACE_CHARACTERS:],
        stream=None if error.stream_descriptor is None else str(error.stream_descriptor.id),
    )
