"""A connector and its secrets do not outlive the process that started it, even if that process is killed."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripted_source import ScriptedSource, is_running, is_soon_gone

from s3dest_dagster.sources.airbyte import supervisor
from s3dest_dagster.sources.airbyte.process import remove_abandoned

SECRET = "correct horse battery staple"
READS = """
import json, os, sys
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.stream import Stream
command, config, temporary, grace = json.loads(sys.argv[1])
source = AirbyteSource(command, config, temporary_directory=temporary, stop_grace_s=grace)
with source.read([Stream(name="users")]) as items:
    next(items)
    if "fork" in sys.argv:
        if os.fork() == 0:
            os.close(1)
            import time
            time.sleep(20)
            os._exit(0)
    print("reading", flush=True)
    for _ in items:
        pass
"""


@pytest.fixture
def scripted(tmp_path: Path) -> ScriptedSource:
    return ScriptedSource(tmp_path).stream("users")


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    directory = tmp_path / "temporary"
    directory.mkdir()
    return directory


def killed_while_reading(scripted: ScriptedSource, temporary: Path, *more: str, grace_s: float = 5) -> int:
    """The connector's pid, after the process that reads it was killed with SIGKILL."""
    command = scripted.source().command
    arguments = json.dumps([command, {"password": SECRET}, str(temporary), grace_s])
    with subprocess.Popen([sys.executable, "-c", READS, arguments, *more], stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"reading\n"
        assert [each.read_text() for each in temporary.rglob("config.json")] == [json.dumps({"password": SECRET})]
        pid = scripted.calls("read")[0]["pid"]
        assert is_running(pid)
        reader.kill()
    return pid


def is_soon_empty(directory: Path) -> bool:
    deadline = time.monotonic() + 10
    while list(directory.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not list(directory.iterdir())


def test_a_kill_of_the_reader_ends_the_connector_and_removes_its_secrets(scripted, temporary):
    scripted.records("users", {"id": 1}).state("users", {}).sleeps(600)
    assert is_soon_gone(killed_while_reading(scripted, temporary))
    assert is_soon_empty(temporary)


def test_a_connector_that_ignores_sigterm_is_killed_with_all_its_children(scripted, temporary, tmp_path):
    noted = tmp_path / "grandchild"
    scripted.ignores_sigterm().spawns_grandchild(noted).records("users", {"id": 1}).state("users", {}).sleeps(600)
    assert is_soon_gone(killed_while_reading(scripted, temporary, grace_s=0.2))
    assert is_soon_gone(int(noted.read_text()))


def test_a_forked_process_of_the_reader_does_not_keep_the_connector_alive(scripted, temporary):
    """The forked process also holds the pipe open."""
    scripted.records("users", {"id": 1}).state("users", {}).sleeps(600)
    assert is_soon_gone(killed_while_reading(scripted, temporary, "fork"))
    assert is_soon_empty(temporary)


def test_the_supervisor_ends_the_connector_of_a_reader_that_died_before_it_started():
    command = [sys.executable, "-I", "-S", supervisor.__file__, str(os.getpid() + 1), "5", ""]
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as connector:
        subprocess.run(command, input=f"{connector.pid}\n".encode(), check=True)
        assert connector.wait(timeout=60) == -signal.SIGTERM


def left_behind(parent: Path, name: str, age_s: float = 3600) -> Path:
    """A directory like that of a connector, created this many seconds ago."""
    directory = parent / name
    directory.mkdir(mode=0o700)
    for file in (".lock", "config.json"):
        (directory / file).write_text(SECRET)
    os.utime(directory, (time.time() - age_s,) * 2)
    return directory


def test_the_next_call_removes_directories_that_a_crashed_machine_left(scripted, temporary):
    abandoned = left_behind(temporary, "s3dest-abandoned")
    scripted.source(temporary_directory=str(temporary)).check()
    assert not abandoned.exists()


def test_only_unused_directories_are_removed(temporary, tmp_path):
    held, young, foreign = (
        left_behind(temporary, "s3dest-held"),
        left_behind(temporary, "s3dest-young", age_s=0),
        left_behind(temporary, "another-program"),
    )
    without_lock = left_behind(temporary, "s3dest-without")
    (without_lock / ".lock").unlink()
    elsewhere = left_behind(tmp_path, "elsewhere")
    (temporary / "s3dest-link").symlink_to(elsewhere)
    os.utime(without_lock, (0, 0))
    with (held / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.utime(held, (0, 0))
        remove_abandoned(str(temporary))
    assert all((each / "config.json").exists() for each in (held, young, foreign, without_lock, elsewhere))
