"""Any Airbyte source connector, run as a process: spec, check, discover, read.

It knows connectors, their config and their catalog; it must not know what becomes of what they yield.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, ClassVar, Literal

import msgspec

from s3dest_dagster.batch import SourceItem
from s3dest_dagster.errors import SettingsError, SourceError
from s3dest_dagster.settings.fields import refuse_variables
from s3dest_dagster.sources import DeferredRead, LookUp, OverSlices, Slice
from s3dest_dagster.sources.airbyte.catalog import Catalog
from s3dest_dagster.sources.airbyte.config import ConfigFile, CurrentConfig, OnConfig, secret_texts
from s3dest_dagster.sources.airbyte.messages import BUFFER_MB, Log, MessageReader, Transcript, log_to_logging
from s3dest_dagster.sources.airbyte.process import ConnectorProcess, running, split_command, supervised_directory
from s3dest_dagster.sources.airbyte.protocol import STATE, BadLine, Message, decode_block
from s3dest_dagster.sources.lines import MAX_LINE_MB, STALL_TIMEOUT_S, read_blocks, refuse_silence
from s3dest_dagster.sources.templating import PARTITION_VALUES, Values
from s3dest_dagster.stream import Stream, StreamId, SyncMode

_NUMBERS = ("max_line_mb", "buffer_mb", "stop_grace_s", "stall_timeout_s")


@dataclass(frozen=True, slots=True)
class AirbyteSource:
    """An Airbyte source connector: an executable that takes `spec`, `check`, `discover` and `read`.

    `command` is the executable with its first arguments, as a list or as a text that is split like a shell does;
    `config` the connector's configuration, whose texts may name the partition (`{{ partition_start }}`, see
    `partition_values`): a mapping, a `ConfigFile`, or a function that each call asks anew. A connector may change its
    config, for instance when it renews a token: `on_config` gets all of it then, at once, with placeholders where they
    were; a `ConfigFile` keeps it by itself; without either a warning names what was changed. `env` is added to the
    process's environment. `catalog` is what `discover` would say; without it each read discovers first. A line may have
    `max_line_mb`, and records that wait for their batch `buffer_mb`. A connector that is left early gets SIGTERM, and
    SIGKILL after `stop_grace_s`; one that writes nothing for `stall_timeout_s` (a day; None: for ever) is ended, and
    the read fails. A full refresh of a stream of which it said nothing at all (no record, state or status) fails
    instead of deleting what is there, unless `allow_empty`. Config, catalog and state are handed over in files of a
    private directory, below `temporary_directory` if given, and deleted afterwards. Where this process is killed, the
    connector is ended and the directory deleted all the same.

    No secret of the config or of `env` is shown in logs or errors (what counts as one: `masking`).
    """

    command: str | Sequence[str]
    config: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = field(default=None, repr=False)
    _: KW_ONLY
    on_config: OnConfig | None = field(default=None, repr=False)
    env: Mapping[str, str] | None = field(default=None, repr=False)
    catalog: Catalog | None = field(default=None, repr=False)
    max_line_mb: int = MAX_LINE_MB
    buffer_mb: int = BUFFER_MB
    stop_grace_s: float = 5.0
    stall_timeout_s: float | None = STALL_TIMEOUT_S
    allow_empty: bool = False
    temporary_directory: str | None = None

    run_placeholders: ClassVar[Mapping[str, Sequence[str]]] = {"config": PARTITION_VALUES}
    asset_kinds: ClassVar[frozenset[str]] = frozenset({"airbyte"})

    def __post_init__(self) -> None:
        for name in ("command", "temporary_directory", *_NUMBERS):
            refuse_variables(name, getattr(self, name))
        object.__setattr__(self, "command", tuple(split_command(self.command)))
        if self.on_config is None and isinstance(self.config, ConfigFile):
            object.__setattr__(self, "on_config", self.config.keep)
        for name in _NUMBERS:
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be above zero, and is {getattr(self, name)!r}.", setting=name)

    @property
    def name(self) -> str:
        """The executable's name, for messages."""
        return os.path.basename(self.command[0])

    def spec(self, *, log: Log = log_to_logging) -> dict[str, Any]:
        """The connector's specification (`connectionSpecification` and the rest), as it says it."""
        return self._ask("spec", "SPEC", CurrentConfig({}, secrets=self._secrets()), log)

    def check(self, *, config_values: Values | None = None, log: Log = log_to_logging) -> None:
        """Return when the connector can reach its source; else SourceError with the connector's own reason."""
        config = self._current(config_values)
        answer = self._ask("check", "CONNECTION_STATUS", config, log)
        if answer.get("status") != "SUCCEEDED":
            reason = config.masked(str(answer.get("message") or "it gave no reason"))
            raise SourceError(f"The source {self.name} cannot connect: {reason}")

    def discover(self, *, config_values: Values | None = None, log: Log = log_to_logging) -> Catalog:
        """The streams that the source has, each a full refresh."""
        return self._discovered(self._current(config_values), log)

    @contextmanager
    def read(
        self,
        streams: Sequence[Stream],
        *,
        state: Sequence[bytes] | None = None,
        config_values: Values | None = None,
        log: Log = log_to_logging,
    ) -> Iterator[Iterator[SourceItem]]:
        """Run the connector, and give an iterator over what it says about the streams: see `read_messages`.

        `state` are the `State.state` texts of an earlier read. A stream that appends is read incrementally where the
        source can. Nothing is read ahead of the iteration but a few MB. Leaving the `with` early, or by an exception,
        ends the connector and every process that it started.

        Raises SettingsError for a stream that the catalog lacks; SourceError, while iterating, as `read_messages`
        does, and when the connector fails or dies.
        """
        if not streams:
            raise SettingsError("No stream to read: select at least one.", setting="streams")
        config = self._current(config_values)
        catalog = self.catalog or self._discovered(config, log)
        files = {"config": _json(config.rendered, "config"), "catalog": _json(catalog.configured(streams), "catalog")}
        if state:
            files["state"] = _state_file(state)
        with self._conversation("read", files, config, log) as conversation:
            yield conversation.items([stream.id for stream in streams], self.buffer_mb)

    # ------------------------------------------------------------------ the methods of every `Source`

    @property
    def separates_streams(self) -> bool:
        """True: each record of a connector names its stream."""
        return True

    def stream_names(self) -> Sequence[str]:
        """The streams of the catalog, in its order. Raises SettingsError if the source has no catalog."""
        return [str(stream.id) for stream in self._known_catalog().streams]

    def describe_stream(
        self,
        name: str,
        *,
        namespace: str | None = None,
        json_schema: Mapping[str, Any] | None = None,
        sync_mode: SyncMode | str | None = None,
        description: str | None = None,
    ) -> Stream:
        """The catalog's stream, in `sync_mode` if one is given.

        Raises SettingsError for a schema or a description, since the catalog has both; if the catalog lacks the
        stream; and if there is no catalog.
        """
        for setting, value in (("json_schema", json_schema), ("description", description)):
            if value is not None:
                raise SettingsError(
                    f"{setting} of {name} has no effect: the connector's catalog says it.", stream=name, setting=setting
                )
        stream = self._known_catalog().find_stream(f"{namespace}.{name}" if namespace else name)
        return replace(stream, sync_mode=sync_mode) if sync_mode else stream  # type: ignore[arg-type]  # or its text

    def asset_function(self, stream: Stream, over_slices: OverSlices) -> Callable[..., Any]:
        """A function that runs the connector for this stream, once for each slice."""
        return over_slices(lambda part: self._deferred_read(stream, part))

    def as_multi_stream(self) -> AirbyteSource:
        """This source: one run of a connector can read several streams."""
        return self

    def with_variables(self, look_up: LookUp) -> AirbyteSource:
        """This source with the variables in its config and environment looked up.

        A config that is a function is still called by each run of the connector, since the previous run may have
        changed it.
        """
        given = self.config
        config = (lambda: look_up(given(), "config")) if callable(given) else look_up(given, "config")
        env = {name: str(value) for name, value in (look_up(self.env, "env") or {}).items()}
        return replace(self, config=config, env=env)

    def is_incremental(self, stream: Stream) -> bool:
        """Whether the connector is asked only for what is new in the stream; False without a catalog."""
        return self.catalog is not None and self.catalog.is_incremental(stream)

    def _deferred_read(self, stream: Stream, part: Slice) -> DeferredRead:
        source = self.with_variables(part.look_up)

        def open_from(state: bytes | None) -> AbstractContextManager[Iterator[SourceItem]]:
            states = None if state is None else [state]
            return source.read([stream], state=states, config_values=part.values, log=part.log)

        return DeferredRead(open_from, is_incremental=self.is_incremental(stream), allow_empty=self.allow_empty)

    def _known_catalog(self) -> Catalog:
        if self.catalog is None:
            raise SettingsError(
                f"The streams of {self.name} are in its catalog, and it has none: write it once with "
                "`s3dest discover`, and give it to the source.",
                setting="source",
            )
        return self.catalog

    def _discovered(self, config: CurrentConfig, log: Log) -> Catalog:
        return Catalog(self._ask("discover", "CATALOG", config, log))

    def _ask(self, verb: str, kind: AnswerType, config: CurrentConfig, log: Log) -> dict[str, Any]:
        files = {"config": _json(config.rendered, "config")} if kind != "SPEC" else {}
        with self._conversation(verb, files, config, log) as conversation:
            return conversation.answer(kind)

    @contextmanager
    def _conversation(self, verb: str, files: _Files, config: CurrentConfig, log: Log) -> Iterator[Conversation]:
        refuse_variables("env", self.env)
        with supervised_directory(self.temporary_directory, self.stop_grace_s) as (directory, supervision):
            arguments = [*self.command, verb, *_written(files, directory)]
            with running(arguments, supervision, environment=self.env, grace_s=self.stop_grace_s) as process:
                yield Conversation(
                    f"{self.name} {verb}",
                    process,
                    config,
                    log,
                    max_line_mb=self.max_line_mb,
                    stall_timeout_s=self.stall_timeout_s,
                )

    def _current(self, values: Values | None) -> CurrentConfig:
        """The config for one call."""
        template = self.config() if callable(self.config) else self.config or {}
        refuse_variables("config", template)
        return CurrentConfig(template, values, secrets=self._secrets(), keep=self.on_config)

    def _secrets(self) -> list[str]:
        """Those of the environment, and of a config that is at hand without being asked for."""
        known = self.config if isinstance(self.config, Mapping) else {}
        return [*secret_texts(known), *secret_texts(self.env or {})]


_Files = Mapping[str, bytes]


def _json(value: Any, setting: str) -> bytes:
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        # The error's own words name a type, never a value.
        raise SettingsError(f"The source's {setting} cannot be written as JSON: {error}.", setting=setting) from None


def _state_file(states: Sequence[bytes]) -> bytes:
    """The states as `--state` wants them: a list of state objects, or a LEGACY state's data alone."""
    try:
        last = STATE.decode(states[-1])
    except msgspec.DecodeError as error:
        raise SettingsError(f"The source's state is no Airbyte state: {error}.", setting="state") from None
    if last.type == "LEGACY":
        return bytes(last.data) or b"{}"
    return b"[" + b",".join(states) + b"]"


def _written(files: _Files, directory: str) -> list[str]:
    """Writes the files where only this user can read them, and gives the options that name them."""
    options: list[str] = []
    for option, content in files.items():
        path = os.path.join(directory, f"{option}.json")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        options += [f"--{option}", path]
    return options


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
