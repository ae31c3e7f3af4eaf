"""Any Airbyte source connector, run as a process: spec, check, discover, read.

How a record travels: `AirbyteSource.read` starts the process (`process.run_connector`) and returns
`ConnectorSession.items`. The session reads standard output as blocks of whole lines (`lines.read_blocks`), and
`messages.MessageReader.read` turns a block into items: `protocol.decode_block` decodes its messages,
`messages.RecordBuffer` collects the records of a stream until they fill a batch.
Must not know: what becomes of the items.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, ClassVar

import msgspec

from s3dest_dagster.batch import SourceItem
from s3dest_dagster.errors import S3DestError, SettingsError, SourceError
from s3dest_dagster.settings.fields import refuse_variables
from s3dest_dagster.sources import (
    ConfigChange,
    DeferredRead,
    Log,
    LookUp,
    OnConfigChange,
    OverSlices,
    RequestedStream,
    Slice,
)
from s3dest_dagster.sources.airbyte.catalog import Catalog
from s3dest_dagster.sources.airbyte.config import ConfigFile, CurrentConfig, OnConfig, find_secrets
from s3dest_dagster.sources.airbyte.launch import AnyCommand, Executable, launcher_of
from s3dest_dagster.sources.airbyte.messages import BUFFER_MB
from s3dest_dagster.sources.airbyte.process import private_directory, run_connector
from s3dest_dagster.sources.airbyte.protocol import STATE
from s3dest_dagster.sources.airbyte.session import AnswerType, ConnectorSession
from s3dest_dagster.sources.airbyte.source_report import log_to_logging
from s3dest_dagster.sources.airbyte.specification import find_marked, plain_values
from s3dest_dagster.sources.lines import MAX_LINE_MB, STALL_TIMEOUT_S
from s3dest_dagster.sources.templating import PARTITION_VALUES, Values
from s3dest_dagster.stream import Stream

_specifications: dict[Any, Mapping[str, Any] | None] = {}
"""The specification of each command that this process has asked for it. None: it did not answer."""
_NUMBERS = ("max_line_mb", "buffer_mb", "stop_grace_s", "stall_timeout_s")


@dataclass(frozen=True, slots=True)
class AirbyteSource:
    """An Airbyte source connector: an executable with the verbs `spec`, `check`, `discover` and `read`.

        source = AirbyteSource("source-shop", config=ConfigFile("shop.json"), catalog=read_catalog("catalog.json"))
        with source.read(source.catalog.streams) as items:
            for item in items: ...

    Config, catalog and state are passed as files in a private directory, which is deleted afterwards. However the run
    ends, the connector's processes end too (see `process`). No secret of the config or of `env` appears in logs or
    errors (`config` defines what is secret).
    """

    command: AnyCommand
    """The executable and its first arguments: a list, or a text that is split as a shell would split it. Or a
    `DockerImage` or a `PyAirbyteConnector`, also as a text: `docker://airbyte/source-github:2.1.0`,
    `pyairbyte://source-faker==6.2.38`."""
    config: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = field(default=None, repr=False)
    """The connector's configuration: a mapping, a `ConfigFile`, or a function that each run of the connector calls. Its
    texts may name the partition (`{{ partition_start }}`, see `templating.partition_values`)."""
    _: KW_ONLY
    on_config: OnConfig | None = field(default=None, repr=False)
    """Receives the whole config as soon as the connector has changed it, for example to renew a token. Placeholders are
    still in it. A `ConfigFile` stores changes on its own. Without either, a warning names the changes."""
    env: Mapping[str, str] | None = field(default=None, repr=False)
    """Variables that are added to the environment of this process."""
    catalog: Catalog | None = field(default=None, repr=False)
    """The output of `discover`. If it is missing, each read runs `discover` first."""
    max_line_mb: int = MAX_LINE_MB
    """The longest line that the connector may write, in MB."""
    buffer_mb: int = BUFFER_MB
    """Limit for the records that wait for their batch to fill, over all streams, in MB."""
    stop_grace_s: float = 5.0
    """Seconds between SIGTERM and SIGKILL when the connector is stopped."""
    stall_timeout_s: float | None = STALL_TIMEOUT_S
    """A connector that writes nothing for this many seconds is stopped, and the read fails. None: never."""
    allow_empty: bool = False
    """Whether a full refresh empties a stream that the connector does not mention (no record, state or status). If
    False, the full refresh fails, so no data is deleted by mistake."""
    temporary_directory: str | None = None
    """Where the private directory is created. None: in the system's directory for temporary files."""
    start_date: str | None = None
    """Replaces `start_date` in the config that the connector receives, for one run. It is never kept."""

    run_placeholders: ClassVar[Mapping[str, Sequence[str]]] = {"config": PARTITION_VALUES}
    asset_kinds: ClassVar[frozenset[str]] = frozenset({"airbyte"})

    def __post_init__(self) -> None:
        for name in ("command", "temporary_directory", *_NUMBERS):
            refuse_variables(name, getattr(self, name))
        launcher = launcher_of(self.command)
        object.__setattr__(self, "command", launcher.arguments if isinstance(launcher, Executable) else launcher)
        if self.on_config is None and isinstance(self.config, ConfigFile):
            object.__setattr__(self, "on_config", self.config.keep)
        for name in _NUMBERS:
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be above zero, and is {getattr(self, name)!r}.", setting=name)

    @property
    def name(self) -> str:
        """The name of the executable, of the image, or of the connector to install, for messages."""
        return launcher_of(self.command).name

    def declared_version(self) -> str | None:
        """The connector's version, as far as it is known without running anything: that of the Python package of the
        executable, or the image's tag. None if nothing says it."""
        return launcher_of(self.command).declared_version()

    def reported_version(self) -> str | None:
        """The connector's version, once it has run: also the label of an image. None if nothing says it."""
        return launcher_of(self.command).reported_version()

    # ------------------------------------------------------------------ the connector's verbs

    def spec(self, *, log: Log = log_to_logging) -> dict[str, Any]:
        """The connector's specification as the connector writes it, with `connectionSpecification` and everything
        else."""
        return self._ask("spec", "SPEC", CurrentConfig({}, secrets=self._secrets()), log)

    def check(self, *, config_values: Values | None = None, log: Log = log_to_logging) -> None:
        """Raises SourceError, with the connector's own reason, if the connector cannot reach its source."""
        config = self._current_config(config_values)
        answer = self._ask("check", "CONNECTION_STATUS", config, log)
        if answer.get("status") != "SUCCEEDED":
            reason = config.mask(str(answer.get("message") or "it gave no reason"))
            raise SourceError(f"The source {self.name} cannot connect: {reason}")

    def discover(self, *, config_values: Values | None = None, log: Log = log_to_logging) -> Catalog:
        """The streams that the source has, each as a full refresh."""
        return self._discover(self._current_config(config_values), log)

    @contextmanager
    def read(
        self,
        streams: Sequence[Stream],
        *,
        state: Sequence[bytes] | None = None,
        config_values: Values | None = None,
        log: Log = log_to_logging,
        on_config_change: OnConfigChange | None = None,
    ) -> Iterator[Iterator[SourceItem]]:
        """Runs the connector and returns an iterator over the records, states and statuses of the streams.

        The items come in the order that `session.read_messages` promises. An append is read incrementally if the source
        supports it. At most a few MB are read ahead of the iteration. Leaving the `with` early or by an exception ends
        the connector and every process that it started.

        Args:
            streams: The streams to read, in their sync modes.
            state: The `State.state` texts of an earlier read; None: from the beginning.
            config_values: The values of the config's placeholders.
            log: Receives what the connector logs.
            on_config_change: Receives each change that the connector makes to its config.

        Raises:
            SettingsError: for a stream that the catalog lacks.
            SourceError: during the iteration, as in `session.read_messages`, and if the connector fails or dies.
        """
        if not streams:
            raise SettingsError("No stream to read: select at least one.", setting="streams")
        config = self._current_config(config_values, on_config_change)
        catalog = self.catalog or self._discover(config, log)
        files = {
            "config": _to_json(config.rendered, "config"),
            "catalog": _to_json(catalog.configure(streams), "catalog"),
        }
        if state:
            files["state"] = _state_file(state)
        with self._session("read", files, config, log) as session:
            hides_text = any(stream.selection for stream in streams)
            yield session.items([stream.id for stream in streams], self.buffer_mb, hides_text=hides_text)

    def _discover(self, config: CurrentConfig, log: Log) -> Catalog:
        return Catalog(self._ask("discover", "CATALOG", config, log))

    def _ask(self, verb: str, kind: AnswerType, config: CurrentConfig, log: Log) -> dict[str, Any]:
        files = {"config": _to_json(config.rendered, "config")} if kind != "SPEC" else {}
        with self._session(verb, files, config, log) as session:
            return session.answer(kind)

    @contextmanager
    def _session(
        self, verb: str, files: Mapping[str, bytes], config: CurrentConfig, log: Log
    ) -> Iterator[ConnectorSession]:
        """Runs the connector with this verb and these files, each passed by its option."""
        refuse_variables("env", self.env)
        launcher, grace_s = launcher_of(self.command), self.stop_grace_s
        with private_directory(self.temporary_directory, grace_s, launcher.cleanup) as (directory, watcher):
            command, environment = launcher.command(directory, self.env or {})
            arguments = [*command, verb, *_write_files(files, directory)]
            cleanup = launcher.cleanup(directory)
            with run_connector(
                arguments, watcher, environment=environment, grace_s=grace_s, cleanup=cleanup
            ) as process:
                yield ConnectorSession(
                    f"{self.name} {verb}",
                    process,
                    config,
                    log,
                    max_line_mb=self.max_line_mb,
                    stall_timeout_s=self.stall_timeout_s,
                )

    def _current_config(self, values: Values | None, on_change: OnConfigChange | None = None) -> CurrentConfig:
        """The config for one run of the connector."""
        return CurrentConfig(
            self._template(),
            values,
            secrets=self._secrets(),
            keep=self.on_config,
            on_change=on_change,
            start_date=self.start_date,
        )

    def _template(self) -> Mapping[str, Any]:
        """The config as it is set, with its placeholders."""
        template = self.config() if callable(self.config) else self.config or {}
        refuse_variables("config", template)
        return template

    def secrets_in(self, text: str) -> frozenset[str]:
        """The secrets of the config and the environment, with those that the specification marks (`airbyte_secret`).

        The connector is asked for its specification only if the text has a value of the config that is not known to be
        a secret, and once per process. If it does not answer, all values of the config are secret.
        """
        # The values of placeholders are those of a partition, and no secrets.
        template = self._template()
        secrets = frozenset({*find_secrets(template), *self._secrets()})
        exposed = [value for value in plain_values(template) if value in text and value not in secrets]
        if not exposed:
            return secrets
        known = self._specification()
        return secrets.union(exposed if known is None else find_marked(known, template))

    def _specification(self) -> Mapping[str, Any] | None:
        """The settings that the connector specifies. None if it does not answer. It is asked once per process."""
        if self.command not in _specifications:
            try:
                _specifications[self.command] = self.spec().get("connectionSpecification") or {}
            except S3DestError:
                _specifications[self.command] = None
        return _specifications[self.command]

    def _secrets(self) -> list[str]:
        """The secrets of the environment and, unless it is a function, of the config."""
        config = self.config if isinstance(self.config, Mapping) else {}
        return [*find_secrets(config), *find_secrets(self.env or {})]

    # ------------------------------------------------------------------ the methods of every `Source`

    @property
    def separates_streams(self) -> bool:
        """True: each record of a connector names its stream."""
        return True

    def stream_names(self) -> Sequence[str]:
        """The streams of the catalog, in its order. Raises SettingsError if the source has no catalog."""
        return [str(stream.id) for stream in self._known_catalog().streams]

    def describe_stream(self, requested: RequestedStream) -> Stream:
        """The catalog's stream, in the sync mode that is asked for, if any.

        Raises SettingsError for a schema or a description (both come from the catalog), if the catalog lacks the
        stream, or if there is no catalog.
        """
        for setting in ("json_schema", "description"):
            if getattr(requested, setting) is not None:
                raise SettingsError(
                    f"{setting} of {requested.name} has no effect: the connector's catalog says it.",
                    stream=requested.name,
                    setting=setting,
                )
        name = f"{requested.namespace}.{requested.name}" if requested.namespace else requested.name
        stream = self._known_catalog().find_stream(name)
        if requested.sync_mode is not None:
            # A given mode decides instead of the generations of the catalog.
            stream = replace(stream, sync_mode=requested.sync_mode, generation=None)  # type: ignore[arg-type]  # a text
        return replace(stream, settings=requested.settings)

    def asset_function(self, stream: Stream, over_slices: OverSlices) -> Callable[..., Any]:
        """A function that runs the connector for this stream, once for each slice."""
        return over_slices(lambda part: self._deferred_read(stream, part))

    def as_multi_stream(self) -> AirbyteSource:
        """This source: one run of a connector can read several streams."""
        return self

    def with_variables(self, look_up: LookUp) -> AirbyteSource:
        """This source with the variables in its config and environment looked up.

        If the config is a function, each run of the connector still calls it, because the previous run may have changed
        the config.
        """
        given = self.config
        config = (lambda: look_up(given(), "config")) if callable(given) else look_up(given, "config")
        env = {name: str(value) for name, value in (look_up(self.env, "env") or {}).items()}
        return replace(self, config=config, env=env)

    def starting_at(self, date: str) -> AirbyteSource:
        """This source, whose connector receives the date as the `start_date` of its config."""
        return replace(self, start_date=date)

    def is_incremental(self, stream: Stream) -> bool:
        """Whether only new records of the stream are requested from the connector. False without a catalog."""
        return self.catalog is not None and self.catalog.is_incremental(stream)

    def _deferred_read(self, stream: Stream, part: Slice) -> DeferredRead:
        source = self.with_variables(part.look_up)
        if part.start_date is not None:
            source = source.starting_at(part.start_date)

        changes: list[ConfigChange] = []

        def open_from(state: bytes | None) -> AbstractContextManager[Iterator[SourceItem]]:
            return source.read(
                [stream],
                state=None if state is None else [state],
                config_values=part.values,
                log=part.log,
                on_config_change=changes.append,
            )

        return DeferredRead(
            open_from,
            is_incremental=self.is_incremental(stream),
            allow_empty=self.allow_empty,
            start_date=part.start_date,
            source=source,
            config_changes=changes,
        )

    def _known_catalog(self) -> Catalog:
        if self.catalog is None:
            raise SettingsError(
                f"The streams of {self.name} are in its catalog, and it has none: write it once with "
                "`s3dest discover`, and give it to the source.",
                setting="source",
            )
        return self.catalog


def _to_json(value: Any, setting: str) -> bytes:
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        # The error's text names a type, never a value.
        raise SettingsError(f"The source's {setting} cannot be written as JSON: {error}.", setting=setting) from None


def _state_file(states: Sequence[bytes]) -> bytes:
    """The states as `--state` expects them: a list of state objects, or only the data of a LEGACY state."""
    try:
        last = STATE.decode(states[-1])
    except msgspec.DecodeError as error:
        raise SettingsError(f"The source's state is no Airbyte state: {error}.", setting="state") from None
    if last.type == "LEGACY":
        return bytes(last.data) or b"{}"
    return b"[" + b",".join(states) + b"]"


def _write_files(files: Mapping[str, bytes], directory: str) -> list[str]:
    """Writes files that only this user can read. Returns the options that pass them to the connector."""
    options: list[str] = []
    for option, content in files.items():
        path = os.path.join(directory, f"{option}.json")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        options += [f"--{option}", path]
    return options
