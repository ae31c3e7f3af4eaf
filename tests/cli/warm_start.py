"""Runs a command without repeating its imports: a process that has imported everything, and has made a client for the
server, forks.

Reads one JSON object per line: arguments, environment, the files for standard input, output and error, and perhaps the
connection for which a client is made before the fork. Answers with the exit code, or at once with the process if the
request says `"start"`; then `{"ended": PID}` asks for its exit code. The fork calls `run` of the module that the only
argument names.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.storage import open_client

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from warm_imports import import_library


def main() -> None:
    import_library()
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


def _answer(request: dict[str, Any]) -> int | None:
    if "ended" in request:
        ended, status = os.waitpid(request["ended"], os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if ended else None
    os.environ.clear()
    os.environ.update(request["environment"])
    if request["connection"]:
        open_client(S3Connection(**request["connection"]))
    child = os.fork()
    if child == 0:
        os._exit(_run(request))
    return child if "start" in request else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run(request: dict[str, Any]) -> int:
    for number, flags in enumerate((os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT)):
        os.dup2(os.open(request["files"][number], flags | os.O_CLOEXEC, 0o600), number)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    code = importlib.import_module(sys.argv[1]).run(request["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    main()
