"""Servers as child processes, which end with the block that uses them, and with this process however it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError
from servers import S3Server

HOST = "127.0.0.1"
START_TIMEOUT_S = 120
"""How long a server may take to start: Ceph needs 15 seconds on an idle machine."""
_PARENT_DIED = 1  # PR_SET_PDEATHSIG of prctl(2)
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def free_ports(number: int) -> list[int]:
    """Unused ports of this machine, all different."""
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@contextmanager
def child(
    command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen]:
    """A process in its own group, whose output goes to `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*map(str, command)],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent if _prctl is not None else None,
        )
    try:
        yield process
    finally:
        _end(process)


def _end_with_parent() -> None:
    _prctl(_PARENT_DIED, signal.SIGKILL)


def _end(process: subprocess.Popen) -> None:
    """Kills the process and all that it started. Nobody reads its data afterwards."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> str:
    """The output of a command, which must succeed."""
    done = subprocess.run(
        [*map(str, command)],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
    )
    assert done.returncode == 0, (
        f"{command[0]} ended with {done.returncode}: {done.stdout[-1000:]}{done.stderr[-2000:]}"
    )
    return done.stdout


def await_answer(server: S3Server, processes: Sequence[subprocess.Popen], log: Path) -> None:
    """Waits until the server stores an object in a new bucket."""

    def answers() -> bool:
        bucket, s3 = server.new_bucket(), server.client()
        s3.put_object(Bucket=bucket, Key="ready", Body=b"")
        s3.delete_object(Bucket=bucket, Key="ready")
        s3.delete_bucket(Bucket=bucket)
        return True

    wait_for(answers, processes, log)


def wait_for(ready: Callable[[], bool], processes: Sequence[subprocess.Popen], log: Path) -> None:
    """Waits until `ready`, which may raise refusals before that. Fails with the end of the log."""
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until:
        assert all(each.poll() is None for each in processes), f"a server ended at once: {_tail(log)}"
        try:
            if ready():
                return
        except (BotoCoreError, ClientError):
            pass
        time.sleep(0.1)
    raise AssertionError(f"a server did not answer within {START_TIMEOUT_S} seconds: {_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-3000:]
