"""What a source said beside its records: logs, errors, stream statuses, and whether all that is a complete sync.

It knows the protocol's words; it must not know processes, nor who reads the records.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import TypeVar

import msgspec

from s3dest_dagster.batch import StreamStatus
from s3dest_dagster.printable import logger
from s3dest_dagster.sources.airbyte.config import CurrentConfig
from s3dest_dagster.sources.airbyte.protocol import CONTROL, LOG, TRACE, BadLine, ErrorTrace, Message, StatusTrace
from s3dest_dagster.stream import StreamId

Log = Callable[[str, str], None]
"""Takes a level of the protocol (FATAL, ERROR, WARN, INFO, DEBUG, TRACE) and a message."""

LOG_LEVELS = {
    "FATAL": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
    "TRACE": logging.DEBUG,
}

_logger = logger("sources")
_SHOWN_LINES = 3
_SHOWN_CHARACTERS = 300
_COUNTED_ERRORS = 100
"""Different errors that are told apart."""

_T = TypeVar("_T")


def log_to_logging(level: str, message: str) -> None:
    """Log to the Python logger `s3dest_dagster.sources`."""
    _logger.log(LOG_LEVELS[level], "%s", message)


class Transcript:
    """Takes each message that is neither record nor state; `verdict` tells at the end what was wrong."""

    def __init__(self, log: Log, streams: Collection[StreamId] = (), *, config: CurrentConfig | None = None) -> None:
        self.log = log
        self._config = config or CurrentConfig({})
        self._streams = frozenset(streams)
        self._errors: set[str] = set()
        self._first_error = ""
        self._statuses: dict[StreamId, str] = {}
        self._printed: list[str] = []
        self.spoke = False
        """Whether any message of the protocol came."""
        self.delivered = False
        """Whether a record or a state came; the reader sets it."""

    def take(self, message: Message) -> StreamStatus | None:
        """Note and log the message; a status of one of the streams is also handed back."""
        self.spoke = True
        if message.type == "LOG":
            self._take_log(message.log)
        elif message.type == "TRACE":
            return self._take_trace(message.trace)
        elif message.type == "CONTROL":
            self._take_control(message.control)
        return None

    def take_printed(self, line: BadLine) -> None:
        """Log something that is no message; the first few are kept for the verdict."""
        text = line.raw.decode("utf-8", "replace")
        self.log("INFO", text)
        if len(self._printed) < _SHOWN_LINES:
            self._printed.append(text[:_SHOWN_CHARACTERS])

    def _take_control(self, raw: msgspec.Raw) -> None:
        control = self._part(raw, CONTROL)
        if control is not None and control.connectorConfig is not None:
            self._config.change(control.connectorConfig.config, self.log)
        elif control is not None:
            self.log("WARN", f"The source wrote a CONTROL message of the type {control.type!r}, which is not known.")

    def _take_log(self, raw: msgspec.Raw) -> None:
        if (entry := self._part(raw, LOG)) is None:
            return
        level = entry.level.upper()
        self.log(level if level in LOG_LEVELS else "INFO", entry.message)
        if entry.stack_trace:
            self.log("DEBUG", entry.stack_trace)

    def _take_trace(self, raw: msgspec.Raw) -> StreamStatus | None:
        trace = self._part(raw, TRACE)
        if trace is not None and trace.error is not None:
            self._take_error(trace.error)
        if trace is not None and trace.stream_status is not None:
            return self._take_status(trace.stream_status)
        return None

    def _take_error(self, error: ErrorTrace) -> None:
        told = error.message or error.internal_message or "it gave no reason"
        if error.internal_message and error.internal_message not in told:
            told = f"{told} ({error.internal_message})"
        if error.stream_descriptor is not None:
            told = f"stream {error.stream_descriptor.id}: {told}"
        self._first_error = self._first_error or told
        if len(self._errors) < _COUNTED_ERRORS:
            self._errors.add(told[:_SHOWN_CHARACTERS])
        self.log("ERROR", told)
        if error.stack_trace:
            self.log("DEBUG", error.stack_trace)

    def _take_status(self, status: StatusTrace) -> StreamStatus | None:
        stream = status.stream_descriptor.id
        if stream not in self._streams:
            return None
        self._statuses[stream] = status.status
        return StreamStatus(stream, status.status)

    def _part(self, raw: msgspec.Raw, decoder: msgspec.json.Decoder[_T]) -> _T | None:
        """The part of a message, or None, with a warning, where the source built it wrongly."""
        try:
            return decoder.decode(raw)
        except msgspec.DecodeError as error:
            self.log("WARN", f"The source wrote a {decoder.type.__name__} that is not as the protocol has it: {error}")
            return None

    def verdict(self) -> str | None:
        """What was wrong with the whole of it, as sentences; None when it is a complete sync.

        A source that reports stream statuses must have reported COMPLETE for each stream, and a source that printed
        something else must have given records, states or statuses too.
        """
        found = [*self._error_sentences(), *self._status_sentences(), *self._printed_sentences()]
        return " ".join(found) or None

    def _error_sentences(self) -> list[str]:
        if not self._errors:
            return []
        more = len(self._errors) - 1
        many = "many" if len(self._errors) == _COUNTED_ERRORS else more
        also = f" ({many} more in the log.)" if more else ""
        return [f"The source reported: {_sentence(self._first_error)}{also}"]

    def _status_sentences(self) -> list[str]:
        if not self._statuses:
            return []
        failed = {stream for stream, status in self._statuses.items() if status == "INCOMPLETE"}
        missing = self._streams - failed - {stream for stream, status in self._statuses.items() if status == "COMPLETE"}
        sentences = []
        if failed:
            sentences.append(f"The source could not read these streams to their end (INCOMPLETE): {_names(failed)}.")
        if missing:
            sentences.append(f"The source ended without reporting COMPLETE for: {_names(missing)}.")
        return sentences

    def _printed_sentences(self) -> list[str]:
        if not self._printed or self.delivered or self._statuses:
            return []
        shown = " | ".join(self._printed)
        return [f"The source gave no record and no state, but wrote lines that are no Airbyte messages: {shown}"]


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _names(streams: Collection[StreamId]) -> str:
    return ", ".join(sorted(map(str, streams)))
