"""A source connector whose run a test scripts. It runs as a real process (`scripted_connector.py`).

    source = ScriptedSource(tmp_path).stream("users").records("users", {"id": 1}).state("users", {"at": 1}).source()

Each method adds a step to what the connector does at `read`, in this order, and returns the object.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airbyte_messages import RECORD_EMITTED_AT, descriptor, message_line, record_line, state_line

from s3dest_dagster.sources.airbyte.connector import AirbyteSource

CONNECTOR = Path(__file__).parent / "scripted_connector.py"


class ScriptedSource:
    """Writes the script and makes the source. `spec`, `check` and `discover` succeed unless scripted otherwise."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "script.json"
        self._catalog: list[dict[str, Any]] = []
        self._verb = "read"
        self._script: dict[str, list[list[Any]]] = {
            "spec": [["lines", [message_line("SPEC", "spec", {"connectionSpecification": {"type": "object"}})]]],
            "check": [["lines", [message_line("CONNECTION_STATUS", "connectionStatus", {"status": "SUCCEEDED"})]]],
            "read": [],
        }

    # What the source has

    def stream(
        self,
        name: str,
        *,
        namespace: str | None = None,
        properties: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> ScriptedSource:
        """Add a stream to the catalog; `more` are members of the discovered stream (`supported_sync_modes`, …)."""
        schema = {"type": "object", "properties": dict(properties or {"id": {"type": "integer"}})}
        stream = {"name": name, "json_schema": schema, "supported_sync_modes": ["full_refresh", "incremental"]}
        if namespace is not None:
            stream["namespace"] = namespace
        self._catalog.append(stream | more)
        return self

    # Which call the following steps belong to

    def on(self, verb: str, call: int | None = None) -> ScriptedSource:
        """Script this verb with the following steps, instead of its own; or only its call of this number."""
        self._verb = verb if call is None else f"{verb}#{call}"
        self._script[self._verb] = []
        return self

    # What it writes

    def records(
        self, stream: str, *data: Any, namespace: str | None = None, emitted_at: int = RECORD_EMITTED_AT
    ) -> ScriptedSource:
        return self._write_lines(
            *(record_line(stream, record, namespace=namespace, emitted_at=emitted_at) for record in data)
        )

    def generated(
        self, stream: str, count: int, *, first: int = 0, namespace: str | None = None, **fields: Any
    ) -> ScriptedSource:
        """`count` records whose `id` counts from `first`, all with the same other fields."""
        prefix, suffix = record_line(stream, "HERE", namespace=namespace).split('"HERE"')
        return self._add_step("generate", prefix, fields, suffix, first, count)

    def state(self, stream: str, value: Mapping[str, Any], *, namespace: str | None = None) -> ScriptedSource:
        """A per-stream state."""
        return self._write_lines(state_line(stream, value, namespace=namespace))

    def counting(self, stream: str, until: int, *, namespace: str | None = None) -> ScriptedSource:
        """Records whose `id` continues from the state that the call was given, or from 1; each with its state `at`."""
        record = record_line(stream, {"id": "NUMBER"}, namespace=namespace)
        return self._add_step("count_on", record, state_line(stream, {"at": "NUMBER"}, namespace=namespace), until)

    def global_state(self, value: Mapping[str, Any]) -> ScriptedSource:
        return self._write_lines(message_line("STATE", "state", {"type": "GLOBAL", "global": {"shared_state": value}}))

    def legacy_state(self, value: Mapping[str, Any]) -> ScriptedSource:
        return self._write_lines(message_line("STATE", "state", {"data": value}))

    def status(self, stream: str, status: str, *, namespace: str | None = None) -> ScriptedSource:
        content = {"stream_descriptor": descriptor(stream, namespace), "status": status}
        return self._write_lines(
            message_line("TRACE", "trace", {"type": "STREAM_STATUS", "emitted_at": 1.5, "stream_status": content})
        )

    def log(self, level: str, message: str, **more: Any) -> ScriptedSource:
        return self._write_lines(message_line("LOG", "log", {"level": level, "message": message, **more}))

    def error(self, message: str, internal: str | None = None, **more: Any) -> ScriptedSource:
        content = {"message": message, "internal_message": internal, "failure_type": "system_error", **more}
        return self._write_lines(message_line("TRACE", "trace", {"type": "ERROR", "emitted_at": 1.5, "error": content}))

    def control(self, config: Mapping[str, Any]) -> ScriptedSource:
        """A changed config, all of it."""
        content = {"type": "CONNECTOR_CONFIG", "emitted_at": 1.5, "connectorConfig": {"config": config}}
        return self._write_lines(message_line("CONTROL", "control", content))

    def message(self, message: Mapping[str, Any]) -> ScriptedSource:
        """Any message."""
        return self._write_lines(json.dumps(message))

    def prints(self, *lines: str) -> ScriptedSource:
        """Any lines."""
        return self._write_lines(*lines)

    def writes(self, data: bytes) -> ScriptedSource:
        """Any bytes, without a line break."""
        return self._add_step("write_hex", data.hex())

    def stderr(self, text: str, times: int | None = None) -> ScriptedSource:
        return self._add_step("stderr", text) if times is None else self._add_step("repeat_stderr", text, times)

    # What it does

    def sleeps(self, seconds: float) -> ScriptedSource:
        return self._add_step("sleep", seconds)

    def waits_for(self, path: Path) -> ScriptedSource:
        return self._add_step("wait_for", str(path))

    def touches(self, path: Path) -> ScriptedSource:
        return self._add_step("touch", str(path))

    def exits(self, code: int) -> ScriptedSource:
        return self._add_step("exit", code)

    def dies(self, signal_number: int) -> ScriptedSource:
        return self._add_step("kill", int(signal_number))

    def ignores_sigterm(self) -> ScriptedSource:
        return self._add_step("ignore_sigterm")

    def notes_sigterm(self, path: Path) -> ScriptedSource:
        """SIGTERM makes it touch the file and leave."""
        return self._add_step("note_sigterm", str(path))

    def spawns_grandchild(self, pid_file: Path) -> ScriptedSource:
        """A child that holds the pipes open for ten minutes and ignores SIGTERM."""
        return self._add_step("grandchild", str(pid_file))

    def closes_stdout(self) -> ScriptedSource:
        return self._add_step("close_stdout")

    # The source

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-S", str(CONNECTOR), str(self.path)]

    @property
    def catalog(self) -> dict[str, Any]:
        """The discovered catalog."""
        return {"streams": self._catalog}

    def source(self, config: Any = None, **settings: Any) -> AirbyteSource:
        """Write the script and make the source; `settings` are those of `AirbyteSource`."""
        script = {"discover": [["lines", [message_line("CATALOG", "catalog", self.catalog)]]]} | self._script
        self.path.write_text(json.dumps(script))
        return AirbyteSource(self.command, config, **settings)

    def calls(self, verb: str | None = None) -> list[dict[str, Any]]:
        """The calls so far: `verb`, `argv`, `pid`, and the content of the `files` by option."""
        log = self.path.with_name(f"{self.path.name}.calls")
        calls = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [call for call in calls if verb in (None, call["verb"])]

    def _write_lines(self, *lines: str) -> ScriptedSource:
        return self._add_step("lines", list(lines))

    def _add_step(self, step: str, *arguments: Any) -> ScriptedSource:
        self._script[self._verb].append([step, *arguments])
        return self


def is_running(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_soon_gone(pid: int) -> bool:
    """Whether the process, which was sent a signal, ends within ten seconds."""
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_running(pid)


def is_known(pid: int) -> bool:
    """Whether the system still knows the process, even as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
