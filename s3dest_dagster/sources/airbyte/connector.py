"""Any Airbyte source connector, run as a process: spec, check, discover, read.

It knows connectors, their config and their catalog; it must not know what becomes of what they yield.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import msgspec

from s3dest_dagster.batch import SourceItem
from s3dest_dagster.errors import SettingsError, SourceError
from s3dest_dagster.settings.fields import refuse_variables
from s3dest_dagster.sources.airbyte.catalog import Catalog
from s3dest_dagster.sources.airbyte.config import ConfigFile, CurrentConfig, OnConfig
from s3dest_dagster.sources.airbyte.masking import secret_texts
from s3dest_dagster.sources.airbyte.messages import BUFFER_MB
from s3dest_dagster.sources.airbyte.process import running, split_command
from s3dest_dagster.sources.airbyte.protocol import STATE
from s3dest_dagster.sources.airbyte.session import AnswerType, Conversation
from s3dest_dagster.sources.airbyte.supervision import supervised_directory
from s3dest_dagster.sources.airbyte.templating import Values
from s3dest_dagster.sources.airbyte.transcript import Log, log_to_logging
from s3dest_dagster.sources.lines import MAX_LINE_MB, STALL_TIMEOUT_S
from s3dest_dagster.stream import Stream

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
