"""Runs `s3dest` without repeating its imports: a process that has imported everything forks for each caller.

A caller sends its arguments, environment and folder over a socket, with its three streams, and receives the exit
code. The fork runs the entry point of the command.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST = 1 << 16
_CALLER = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    request = {{"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd()}}
    socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
    sys.exit(int(server.recv(9)))
"""


@contextmanager
def warm_command(folder: Path) -> Iterator[str]:
    """Yields the address of a warm command that lives as long as the block. Its socket is in the folder."""
    address = str(folder / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        process = subprocess.Popen([sys.executable, __file__, str(listener.fileno())], pass_fds=[listener.fileno()])
    try:
        yield address
    finally:
        process.kill()
        process.wait()


def make_caller(folder: Path, address: str) -> None:
    """Makes `folder/s3dest` call the warm command at this address."""
    caller = folder / "s3dest"
    caller.write_text(_CALLER.format(python=sys.executable, address=address))
    caller.chmod(0o700)


def _serve(listener: socket.socket) -> None:
    while True:
        caller, _ = listener.accept()
        with caller:
            request, streams, _, _ = socket.recv_fds(caller, _LONGEST, 3)
            child = os.fork()
            if child == 0:
                os._exit(_run(json.loads(request), streams))
            for each in streams:
                os.close(each)
            caller.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())


def _run(request: dict, streams: list[int]) -> int:
    from s3dest_dagster.cli.entry import run

    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    code = run(request["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from warm_imports import import_library

    import_library()
    _serve(socket.socket(fileno=int(sys.argv[1])))
