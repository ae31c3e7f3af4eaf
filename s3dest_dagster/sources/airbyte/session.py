"""One run of a connector: its messages as they come, its standard error, its end, and one clear error if it failed.

It knows the process and the protocol; it must not know settings, files or catalogs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Literal

import msgspec

from s3dest_dagster.batch import SourceItem
from s3dest_dagster.errors import SourceError
from s3dest_dagster.sources.airbyte.config import CurrentConfig
from s3dest_dagster.sources.airbyte.messages import MessageReader
from s3dest_dagster.sources.airbyte.process import ConnectorProcess
from s3dest_dagster.sources.airbyte.protocol import BadLine, Message, decode_block
from s3dest_dagster.sources.airbyte.transcript import Log, Transcript
from s3dest_dagster.sources.lines import read_blocks, refuse_silence
from s3dest_dagster.stream import StreamId

_EXIT_WAIT_S = 60.0
"""How long a connector may still run after it closed its output."""

_DEATH_WAIT_S = 0.5
"""How long a connector whose output broke off may take to be dead."""

AnswerType = Literal["SPEC", "CATALOG", "CONNECTION_STATUS"]
_PARTS: dict[AnswerType, str] = {"SPEC": "spec", "CATALOG": "catalog", "CONNECTION_STATUS": "connectionStatus"}


class Conversation:
    """Listens to a running connector. `config` takes what the connector changes of it, and the secrets out of whatever
    is logged or raised."""

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
        self._silent_before_s = 0.0
        self._exit_seen = False

    def items(self, streams: Collection[StreamId], buffer_mb: int) -> Iterator[SourceItem]:
        """What the connector says about the streams; SourceError at the end when it failed in whatever way."""
        transcript = Transcript(self._forward, streams, config=self._config)
        reader = MessageReader(streams, transcript, buffer_mb=buffer_mb)
        try:
            for block in self._blocks():
                yield from reader.read(block)
        except SourceError as error:
            raise self._broken_off(error) from None
        yield from reader.flush()
        self._conclude(transcript)
        yield from reader.bad_records()

    def answer(self, kind: AnswerType) -> dict[str, Any]:
        """The one message that was asked for, without its envelope.

        Raises SourceError when the connector did not give it, or reported an error. With the answer at hand
        the exit code does not count: a failed check may end with any.
        """
        transcript = Transcript(self._forward, config=self._config)
        found: msgspec.Raw | None = None
        try:
            for block in self._blocks():
                for message in decode_block(block):
                    if isinstance(message, BadLine):
                        transcript.take_printed(message)
                    elif isinstance(message, Message):
                        transcript.take(message)
                        found = getattr(message, _PARTS[kind]) if message.type == kind else found
        except SourceError as error:
            raise self._broken_off(error) from None
        transcript.delivered = found is not None
        self._conclude(transcript, answered=found is not None)
        if found is None:
            raise self._error(f"It ended without a {kind} message.")
        try:
            return msgspec.json.decode(found, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise self._error(f"Its {kind} message cannot be read: {error}.") from None

    def _broken_off(self, error: SourceError) -> SourceError:
        """The error, with the connector's end where that is what broke its last line."""
        died = self._process.wait(_DEATH_WAIT_S) and self._process.end() != 0
        self._forward_errors()
        told = f"{error} {self._process.describe_end()}" if died else str(error)
        return self._error(told, stream=error.stream, setting=error.setting)

    def _blocks(self) -> Iterator[bytes]:
        for block in read_blocks(self._process.output, max_line_mb=self._max_line_mb, idle=self._idle):
            yield block
            # Afterwards: a config that stands in the block tells what of these lines is secret.
            self._forward_errors()

    def _idle(self, silent_s: float) -> bool:
        """Whether nothing more can come: the connector had exited already when the reader last found nothing.

        Asking twice matters: a last line may be written, and the process exit, between a look and this question. The
        output itself may never end, since a stray child can hold it open. Raises SourceError when the connector has
        written nothing for too long, neither there nor on standard error.
        """
        if self._forward_errors():
            self._silent_before_s = silent_s
        self._silent_before_s = min(self._silent_before_s, silent_s)
        if self._exit_seen:
            return True
        self._exit_seen = self._process.has_exited()
        if not self._exit_seen:
            refuse_silence(silent_s - self._silent_before_s, self._stall_timeout_s)
        return False

    def _conclude(self, transcript: Transcript, *, answered: bool = False) -> None:
        """Wait for the connector's end and raise SourceError unless all is well."""
        exited = self._process.wait(_EXIT_WAIT_S)
        code = self._process.end()
        self._forward_errors()
        reasons = [] if (verdict := transcript.verdict()) is None else [verdict]
        if not exited:
            reasons.append(f"It closed its output, but did not end within {_EXIT_WAIT_S:.0f} s.")
        elif code != 0 and not answered:
            reasons.append(self._process.describe_end())
        elif not (transcript.spoke or reasons):
            reasons.append(f"It ended without a single Airbyte message. {self._process.describe_end()}")
        if reasons:
            raise self._error(" ".join(reasons))

    def _error(self, text: str, *, stream: str | None = None, setting: str | None = None) -> SourceError:
        return SourceError(
            f"The source failed ({self._title}). {self._config.masked(text)}", stream=stream, setting=setting
        )

    def _forward(self, level: str, message: str) -> None:
        self._log(level, self._config.masked(message))

    def _forward_errors(self) -> bool:
        """Logs what is new on standard error; whether there was something."""
        lines = self._process.new_error_lines()
        for line in lines:
            self._forward("INFO", line)
        return bool(lines)
