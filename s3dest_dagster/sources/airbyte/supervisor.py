"""A program that briefly outlives its parent, to end the connector that the parent can no longer end.

Usage: `python -I -S supervisor.py PARENT GRACE DIRECTORY [COMMAND…]`. Standard input is a pipe that only the
parent writes to; the parent writes the number of the connector's process group. Once the parent is gone, for any
reason, this program removes the directory with the connector's secrets and ends the group: SIGTERM, then SIGKILL after
GRACE seconds. At last it becomes the COMMAND, which ends what is not in the group, such as a container.

It imports nothing from this library, so that it starts within milliseconds. `process` explains when it is used.
"""

import os
import select
import signal
import sys
import time

_PARENT_CHECK_INTERVAL_S = 1.0
"""Waiting for the end of the pipe is not enough: a process that the parent has forked may hold the pipe open."""


def main() -> None:
    parent, grace_s, directory = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    group = _wait_for_end_of(parent)
    if directory:
        _remove(directory)
    if group:
        _end_group(group, grace_s)
        if command := sys.argv[4:]:
            os.execvp(command[0], command)


def _wait_for_end_of(parent: int) -> int:
    """Waits until the parent is gone. Returns the process group that it wrote, or 0."""
    received = b""
    while True:
        if select.select([0], [], [], _PARENT_CHECK_INTERVAL_S)[0]:
            if not (chunk := os.read(0, 64)):
                break
            received += chunk
        elif os.getppid() != parent:
            break
    return int(received) if received.endswith(b"\n") else 0


def _remove(directory: str) -> None:
    """Removes the directory and its files, if they still exist."""
    try:
        for entry in os.scandir(directory):
            os.unlink(entry.path)
        os.rmdir(directory)
    except OSError:
        pass


def _end_group(group: int, grace_s: float) -> None:
    try:
        os.killpg(group, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.02)
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass


if __name__ == "__main__":
    main()
