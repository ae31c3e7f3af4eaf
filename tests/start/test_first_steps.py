"""The commands that a newcomer types work word for word: the five-minute page, and the README's part about this
project.

All shell blocks of a page run in one session of one shell, in a folder that looks like a clone. A block of plain
text shows the output of the commands before it: each of its lines, in this order, with any text in place of …
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import rclone_server

from docs import pages

pytestmark = [pytest.mark.start, pytest.mark.timeout(600)]

IN_A_CLONE = ("assets", "examples", "resources", "s3dest_dagster", "pyproject.toml", "workspace.yaml")
MADE_BEFORE = re.compile(r"^make .*\n", re.MULTILINE)
IN_A_BROWSER = re.compile(r"^dagster dev .*\n", re.MULTILINE)
IN_ANOTHER_TERMINAL = re.compile(r"^rclone serve .*$", re.MULTILINE)
FAILS = re.compile(r"^(?P<command>.*?) +# this fails$", re.MULTILINE)
ASK = "{python} -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}))'"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the contents of a clone after `make install`."""
    for name in IN_A_CLONE:
        (tmp_path / name).symlink_to(pages.ROOT / name)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    return tmp_path


Type = Callable[..., str]


@pytest.fixture
def type_into_a_shell(clone: Path) -> Iterator[Type]:
    """Types a script, and returns its output. Everything that it has started ends with the test."""
    inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG", "TMPDIR")}
    shells: list[subprocess.Popen[str]] = []

    def type_(script: str, **environment: str) -> str:
        printed = clone / "printed.txt"
        with printed.open("w", encoding="utf-8") as stream:
            shell = subprocess.Popen(
                ["bash", "-e", "-c", script],
                cwd=clone,
                env={**inherited, "HOME": str(clone), "DAGSTER_DISABLE_TELEMETRY": "yes", **environment},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )
            shells.append(shell)
            code = shell.wait()
        text = printed.read_text("utf-8")
        assert code == 0, text
        return text

    yield type_
    for shell in shells:
        try:
            os.killpg(shell.pid, signal.SIGTERM)
        except ProcessLookupError:
            continue


def typed(blocks: list[pages.Block]) -> str:
    """The blocks as one script: commands that should fail must fail, and long-running ones run in the background."""
    script = "\n".join(block.text for block in blocks)
    script = IN_A_BROWSER.sub("", MADE_BEFORE.sub("", script))
    return FAILS.sub(r"if \g<command>; then exit 9; fi", script)


def test_five_minutes(type_into_a_shell: Type):
    port = free_port()
    script = typed(pages.blocks("docs/start.md", "sh")).replace("127.0.0.1:9000", f"127.0.0.1:{port}")
    wait = f"until {ASK.format(python=sys.executable, port=port)} 2>/dev/null; do kill -0 $!; sleep 0.1; done"
    script = IN_ANOTHER_TERMINAL.sub(lambda line: f"{line[0]} >/dev/null 2>&1 &\n{wait}\ncd ..", script)
    printed = type_into_a_shell(script)
    told = [line for block in pages.blocks("docs/start.md", "text") for line in block.text.splitlines()]
    lines = iter(printed.splitlines())
    assert [line for line in told if not any(says(line, each) for each in lines)] == [], printed


def says(told: str, printed: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, told.split("…"))), printed) is not None


def test_this_project(type_into_a_shell: Type, tmp_path_factory: pytest.TempPathFactory):
    blocks = pages.blocks("README.md", "bash")
    assert len(blocks) == 2
    root = tmp_path_factory.mktemp("lake")
    (root / "demo").mkdir()
    with rclone_server(root, ("demo-access-key", "demo-secret-key")) as server:
        printed = type_into_a_shell(typed(blocks), S3DEST_DEMO_ENDPOINT=server.endpoint)
    assert "house/readings" in printed
    assert len(list(root.glob("demo/lake/house/readings/*.jsonl.gz"))) == 1


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name)
def test_the_web_interface_of_make_ui_ends_with_all_of_its_servers(clone: Path, stop: signal.Signals):
    shutil.copytree(pages.ROOT / "demo", clone / "demo")
    s3, web = free_port(), free_port()
    environment = {**os.environ, "S3DEST_DEMO_PORT": str(s3), "S3DEST_UI_PORT": str(web), "FAKER_RECORDS": "1"}
    command = [sys.executable, "demo/run.py", "--ui"]
    with (clone / "printed.txt").open("wb") as printed:
        demo = subprocess.Popen(command, cwd=clone, env=environment, stdout=printed, stderr=printed)
    try:
        wait_until(lambda: answers(s3) and answers(web), demo)
        started = descendants(demo.pid)
        demo.send_signal(stop)
        demo.wait(timeout=60)
        assert not answers(s3)
        assert not answers(web)
        assert [pid for pid in started if is_running(pid)] == []
    finally:
        demo.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not ready():
        assert process.poll() is None, "it ended early"
        time.sleep(0.2)


def descendants(pid: int) -> list[int]:
    """The processes that this one has started, and their descendants."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], stdout=subprocess.PIPE, text=True, check=True)
    pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    found = [pid]
    for parent in found:
        found += [child for child, above in pairs if above == parent]
    return found[1:]


def is_running(pid: int) -> bool:
    """Whether the process is still working. A process that has ended and waits to be collected is not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], stdout=subprocess.PIPE, text=True)
    return state.stdout.strip()[:1] not in ("", "Z")
