"""The messages that a destination writes: SPEC, CONNECTION_STATUS, STATE, TRACE and LOG, each on a line.

Must not know: what a verb does.

Rules: https://docs.airbyte.com/understanding-airbyte/airbyte-protocol
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import msgspec

from s3dest_dagster.airbyte.standard_output import StandardOutput
from s3dest_dagster.cli.output import Output
from s3dest_dagster.stream import StreamId

_EARLY_LOG_BYTES = 8 << 10
"""The size of all LOG messages before the end of the input. A pipe that nobody reads yet holds 64 KiB."""

FailureType = Literal["config_error", "system_error"]


class LogOutput(Output):
    """Messages for people: sentences become LOG messages, everything else goes to standard error.

    Before `end_input`, only few sentences become messages: some clients read nothing before they have written
    everything.

    Args:
        standard_output: Receives the LOG messages.
    """

    def __init__(self, standard_output: StandardOutput) -> None:
        super().__init__()
        self._standard_output = standard_output
        self._early_bytes: int | None = _EARLY_LOG_BYTES

    def end_input(self) -> None:
        """Notes that the client has written everything, so that every sentence may become a message."""
        self._early_bytes = None

    def say(self, sentence: str) -> None:
        """Writes a LOG message, or a line on standard error."""
        line = _line("LOG", "log", {"level": "INFO", "message": self.safe(sentence)})
        if self._early_bytes is not None:
            self._early_bytes -= len(line)
            if self._early_bytes < 0:
                super().say(sentence)
                return
        self._standard_output.write(line)


class Messages:
    """Writes the messages of one run. Texts are without secrets.

    Args:
        standard_output: Receives the messages.
        output: Strikes out secrets, and writes sentences for people.
        clock: Returns seconds since 1970.
    """

    def __init__(self, standard_output: StandardOutput, output: LogOutput, clock: Callable[[], float]) -> None:
        self._standard_output = standard_output
        self._output = output
        self._clock = clock
        self._streams: dict[str, StreamId] = {}

    def name_streams(self, streams: Iterable[StreamId]) -> None:
        """Notes the streams that an error may name."""
        self._streams = {str(each): each for each in streams}

    def end_input(self) -> None:
        """See `LogOutput.end_input`."""
        self._output.end_input()

    def spec(self, specification: Mapping[str, Any]) -> None:
        """Writes the SPEC message."""
        self._standard_output.write(_line("SPEC", "spec", specification))

    def connection_status(self, problem: str) -> None:
        """Writes the CONNECTION_STATUS message: FAILED if there is a problem, otherwise SUCCEEDED."""
        status = {"status": "FAILED", "message": self._output.safe(problem)} if problem else {"status": "SUCCEEDED"}
        self._standard_output.write(_line("CONNECTION_STATUS", "connectionStatus", status))

    def state(self, message: bytes) -> None:
        """Writes a STATE message as it is."""
        self._standard_output.write(message)

    def stream_status(self, stream: StreamId, *, complete: bool) -> None:
        """Writes the status with which a stream ended."""
        status = {"stream_descriptor": _descriptor(stream), "status": "COMPLETE" if complete else "INCOMPLETE"}
        self._trace("STREAM_STATUS", "stream_status", status)

    def error(self, message: str, failure_type: FailureType, internal_message: str, stream: str | None = None) -> None:
        """Writes the message about the failure of the verb.

        Args:
            message: What happened and what to do, for people.
            failure_type: Whether the user's configuration is wrong.
            internal_message: More for developers. It may have several lines.
            stream: The name of the stream that failed; None if it is not one of them.
        """
        error: dict[str, Any] = {
            "message": self._output.safe(message),
            "internal_message": self._output.safe(internal_message),
            "failure_type": failure_type,
        }
        if (known := self._streams.get(stream or "")) is not None:
            error["stream_descriptor"] = _descriptor(known)
        self._trace("ERROR", "error", error)

    def _trace(self, type_: str, member: str, content: Mapping[str, Any]) -> None:
        trace = {"type": type_, "emitted_at": float(round(self._clock() * 1000)), member: content}
        self._standard_output.write(_line("TRACE", "trace", trace))


def with_record_count(message: bytes, records: int) -> bytes:
    """A STATE message with `destinationStats.recordCount`. Everything else is as the source wrote it.

    Args:
        message: The line with the STATE message.
        records: The records that the state covers and the states before it do not.

    Example:
        >>> with_record_count(b'{"type":"STATE","state":{"data":{}}}', 2)
        b'{"type":"STATE","state":{"data":{},"destinationStats":{"recordCount":2}}}'
    """
    members = msgspec.json.decode(message, type=dict[str, msgspec.Raw])
    state = msgspec.json.decode(members["state"], type=dict[str, msgspec.Raw])
    state["destinationStats"] = msgspec.Raw(b'{"recordCount":%d}' % records)
    members["state"] = msgspec.Raw(msgspec.json.encode(state))
    return msgspec.json.encode(members)


def _descriptor(stream: StreamId) -> dict[str, str]:
    namespace = {"namespace": stream.namespace} if stream.namespace is not None else {}
    return {"name": stream.name, **namespace}


def _line(type_: str, member: str, content: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": type_, member: content}, separators=(",", ":")).encode()
