"""A program that outlives its parent for a moment, to end the connector that the parent can end no more.

`python -I -S supervisor.py PARENT GRACE DIRECTORY`: standard input is a pipe that the parent alone can write to, which
names the connector's process group. When the parent is gone, however it went, the directory with the connector's
secrets is removed and the group ended: SIGTERM, and SIGKILL after GRACE seconds. It imports nothing of this library, so
that it starts within milliseconds.
"""

import os
import select
import signal
import sys
import time

_LOOK_EVERY_S = 1.0
"""How often it looks for its parent: a process that the parent has forked may hold the pipe open."""


def main() -> None:
    parent, grace_s, directory = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    group = _until_gone(parent)
    if directory:
        _remove(directory)
    if group:
        _end(group, grace_s)


def _until_gone(parent: int) -> int:
    """Returns when the parent is gone; the group that it named, or 0."""
    said = b""
    while True:
        if select.select([0], [], [], _LOOK_EVERY_S)[0]:
            if not (chunk := os.read(0, 64)):
                break
            said += chunk
        elif os.getppid() != parent:
            break
    return int(said) if said.endswith(b"\n") else 0


def _remove(directory: str) -> None:
    """The directory and the files in it; what is gone already is fine."""
    try:
        for each in os.scandir(directory):
            os.unlink(each.path)
        os.rmdir(directory)
    except OSError:
        pass


def _end(group: int, grace_s: float) -> None:
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
