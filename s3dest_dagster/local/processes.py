"""Processes that are started for a while: each leads a group of its own, which ends as a whole.

A signal from the terminal does not reach such a group, so that whoever started it decides when it ends. Must not know:
what the processes do.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

QUIET_S = 8.0
"""The longest silence of `lines_of`, in seconds."""
_GRACES_S = ((signal.SIGTERM, 20.0), (signal.SIGKILL, 10.0))


@contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command while the block runs. At the end of the block, nothing that it has started is left.

    Args:
        command: The executable and its arguments.
        log: Gets what the command prints; it is created or emptied.
        cwd: Its working directory; by default this process's.
        environment: Its variables; by default this process's.
    """
    with log.open("wb") as written:
        process = subprocess.Popen(
            [os.fspath(part) for part in command],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end_group(process)


@contextmanager
def lines_of(
    command: Sequence[str | Path], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], Iterator[str | None]]]:
    """Runs a command while the block runs, and yields the lines that it prints, until it has ended.

    The value is the process and its lines. None among the lines stands for `QUIET_S` seconds without one.
    """
    process = subprocess.Popen(
        [os.fspath(part) for part in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    try:
        yield process, _lines(process.stdout, process.wait)
    finally:
        end_group(process)


def _lines(stream: IO[str], wait: Callable[[], int]) -> Iterator[str | None]:
    """The lines of a stream. A thread reads them, so that silence can be noticed."""
    waiting: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in stream:
            waiting.put(line.rstrip("\n"))
        waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = waiting.get(timeout=QUIET_S)
        except queue.Empty:
            yield None
            continue
        if line is None:
            wait()
            return
        yield line


def end_group(leader: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Asks every process of the leader's group to end, and kills what has not ended in time."""
    for signal_number, grace_s in _GRACES_S:
        # macOS refuses what Linux does not find.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader.pid, signal_number)
            deadline = time.monotonic() + grace_s
            while time.monotonic() < deadline:
                leader.poll()
                os.killpg(leader.pid, 0)
                time.sleep(0.05)
            continue
        break
    leader.wait()
