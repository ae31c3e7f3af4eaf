"""Dagster's web interface and daemon over this project's code location, as children of a test.

The home is the test's own folder. Nothing stays behind, because the whole process group is ended.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
TIME_LIMIT_S = 300
"""The time limit for one operation on a busy machine."""


@dataclass(frozen=True)
class Instance:
    """A Dagster instance in a folder, and the environment of every command on it."""

    home: Path
    environment: Mapping[str, str]

    @property
    def log(self) -> Path:
        """The output of `dagster dev` and its children."""
        return self.home / "dagster-dev.log"

    def run(self, *command: str) -> None:
        """Runs a command of Dagster to its end. If it fails, then its output is the text of the error."""
        done = subprocess.run(
            [BIN / command[0], *command[1:]],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=2 * TIME_LIMIT_S,
        )
        assert done.returncode == 0, done.stdout


def new_instance(home: Path, **environment: str) -> Instance:
    """An instance in an empty folder, as the project's `make` would create it."""
    shutil.copyfile(ROOT / "resources" / "dagster.yaml", home / "dagster.yaml")
    return Instance(home, {**os.environ, "DAGSTER_HOME": str(home), **environment})


@contextmanager
def dagster_dev(instance: Instance, *location: str) -> Iterator[str]:
    """Serves the web interface of the instance, with its daemon, for the duration of the block. Yields its address.

    Args:
        instance: The instance.
        *location: The options that name the code location. Default: this project's workspace.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = location or ("-w", "workspace.yaml")
    command = [BIN / "dagster", "dev", *where, "-h", "127.0.0.1", "-p", str(port)]
    with instance.log.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=instance.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _await_answer(process, f"{url}/server_info", instance.log)
        yield url
    finally:
        _end(process)


def _await_answer(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + TIME_LIMIT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"dagster dev ended with {process.returncode}:\n{tail(log)}"
        try:
            urllib.request.urlopen(url, timeout=10).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"dagster dev did not answer within {TIME_LIMIT_S} s:\n{tail(log)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the process gracefully, and then the rest of its group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=30)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tail(path: Path, lines: int = 60) -> str:
    """The last lines of a text file, or nothing if the file does not exist."""
    text: Sequence[str] = path.read_text(errors="replace").splitlines() if path.exists() else ()
    return "\n".join(text[-lines:])
