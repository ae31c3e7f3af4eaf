"""A container engine for tests: `docker run`, `rm` and `image inspect`, with a process in place of a container.

As with Docker, the container is not in the client's process group. The client passes SIGTERM on to it, and a client
that is killed leaves it running, until `rm --force` ends it. It sees no variable that `--env` does not name.

    docker = FakeDocker(tmp_path, command=["python", "connector.py"], label="2.1.0")
    monkeypatch.setenv("PATH", docker.path)
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


class FakeDocker:
    """Installs an executable `docker` in the directory, whose images all run `command`. `label`: their version."""

    def __init__(self, directory: Path, command: list[str], label: str = "<no value>") -> None:
        self.directory = directory / "docker"
        self.directory.mkdir()
        self.path = f"{self.directory}{os.pathsep}{os.environ['PATH']}"
        (self.directory / "settings.json").write_text(json.dumps({"command": command, "label": label}))
        executable = self.directory / "docker"
        executable.write_text(f'#!/bin/sh\nexec {sys.executable} -S {__file__} {self.directory} "$@"\n')
        executable.chmod(0o755)

    def calls(self, verb: str) -> list[list[str]]:
        """The arguments of each call of this verb."""
        log = self.directory / "calls"
        calls = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [call for call in calls if call[0] == verb]

    def containers(self) -> list[int]:
        """The process ids of the containers that have been started."""
        return [int(each.read_text()) for each in self.directory.glob("*.pid")]


def main() -> int:
    directory, arguments = Path(sys.argv[1]), sys.argv[2:]
    settings = json.loads((directory / "settings.json").read_text())
    with (directory / "calls").open("a") as log:
        log.write(json.dumps(arguments) + "\n")
    if arguments[0] == "run":
        return run(directory, settings, arguments[1:])
    if arguments[0] == "rm":
        pid = int((directory / f"{arguments[-1]}.pid").read_text())
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    if arguments[0] == "image":
        print(settings["label"])
    return 0


def run(directory: Path, settings: dict[str, Any], arguments: list[str]) -> int:
    options: dict[str, list[str]] = {}
    while arguments[0].startswith("-"):
        name, *rest = arguments.pop(0).split("=", 1)
        if name not in ("--rm", "-i"):
            options.setdefault(name, []).append(rest[0] if rest else arguments.pop(0))
    _, *verb = arguments  # the image, and what the connector receives
    environment = {name: os.environ[name] for name in ("PATH", *options.get("--env", []))}
    container = subprocess.Popen([*settings["command"], *verb], env=environment, start_new_session=True)
    (directory / f"{options['--name'][0]}.pid").write_text(str(container.pid))
    signal.signal(signal.SIGTERM, lambda *_: container.send_signal(signal.SIGTERM))
    code = container.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
