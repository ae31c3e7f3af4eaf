"""Processes that are started for a while leave nothing behind, and silence is noticed."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from s3dest_dagster.local import processes

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    """Whether a process works. One that has ended and waits to be collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def until_written(path: Path) -> str:
    while not path.read_text().endswith("\n"):
        time.sleep(0.02)
    return path.read_text()


def test_leaving_the_block_ends_the_process_and_its_children(tmp_path):
    log = tmp_path / "log"
    with processes.running([sys.executable, "-c", PARENT], log) as process:
        child = int(until_written(log))
        assert is_running(child)
    assert process.returncode is not None
    assert not is_running(child)


def test_a_process_that_ignores_sigterm_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_GRACES_S", tuple((number, 0.3) for number, _ in processes._GRACES_S))
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
    log = tmp_path / "log"
    with processes.running([sys.executable, "-c", script], log) as process:
        until_written(log)
    assert process.returncode == -9


def test_lines_arrive_with_a_mark_for_silence(monkeypatch):
    monkeypatch.setattr(processes, "QUIET_S", 0.1)
    script = "import time; print('one', flush=True); time.sleep(0.5); print('two')"
    with processes.lines_of([sys.executable, "-c", script]) as (process, lines):
        found = list(lines)
    assert [line for line in found if line is not None] == ["one", "two"]
    assert None in found[1:-1]
    assert process.returncode == 0


def test_an_error_in_the_block_ends_the_process(tmp_path):
    with (
        pytest.raises(ZeroDivisionError),
        processes.running([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log") as process,
    ):
        raise ZeroDivisionError
    assert process.returncode is not None
