"""The commands that a newcomer types work word for word: the five-minute page, a new project's README, and the part of
our README about this project.

All shell blocks of a page run in one session of one shell. A block of plain text shows the output of the commands
before it: each of its lines, in this order, with any text in place of …
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from servers import rclone_server
from start.conftest import Type, free_port

from docs import pages

pytestmark = [pytest.mark.start, pytest.mark.timeout(900)]

START = "docs/start.md"
IN_A_CLONE = ("assets", "examples", "resources", "s3dest_dagster", "pyproject.toml", "workspace.yaml")
DONE_BEFORE = re.compile(r"^(make |pip install |python3 -m venv ).*\n", re.MULTILINE)
ACTIVATE = " && . .venv/bin/activate"
UNTIL_CTRL_C = re.compile(r"^(dg dev|dagster dev .*|s3dest demo --ui)\n", re.MULTILINE)
IN_ANOTHER_TERMINAL = re.compile(r"^s3dest serve .*$", re.MULTILINE)
FAILS = re.compile(r"^(?P<command>.*?) +# this fails$", re.MULTILINE)
ASK = "python -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}))'"


def typed(blocks: list[str], port: int | None = None) -> str:
    """The blocks as one script: commands that should fail must fail, and long-running ones run in the background.

    Args:
        blocks: The texts of the blocks.
        port: The port of the S3 server that the script starts; the pages name another one.
    """
    script = "\n".join(blocks).replace(ACTIVATE, "")
    script = FAILS.sub(r"if \g<command>; then exit 9; fi", UNTIL_CTRL_C.sub("", DONE_BEFORE.sub("", script)))
    if port is not None:
        wait = f"until {ASK.format(port=port)} 2>/dev/null; do kill -0 $!; sleep 0.1; done"
        served = re.sub(r"\b9[07][01]0\b", str(port), script)
        return IN_ANOTHER_TERMINAL.sub(lambda line: f"{line[0]} >/dev/null 2>&1 &\n{wait}", served)
    return script


def shells(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def assert_says(printed: str, text: str) -> None:
    """Fails unless the plain blocks of the text are what was printed."""
    blocks = re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    told = [line for block in blocks for line in block.splitlines()]
    lines = iter(printed.splitlines())
    assert told
    assert [line for line in told if not any(says(line, each) for each in lines)] == [], printed


def test_five_minutes(type_into_a_shell: Type, installed: Path, tmp_path: Path):
    demo, text = pages.section(START, "See it"), pages.read(START)
    (definitions,) = pages.blocks(START, "python")
    (tmp_path / "five-minutes").mkdir()
    (tmp_path / "five-minutes" / "definitions.py").write_text(definitions.text)
    # In a second terminal, one begins in the folder above.
    script = typed(shells(text), free_port()).replace("mkdir five-minutes && ", "", 1)
    first, second = script.split("cd five-minutes\n", 2)[1:]
    printed = type_into_a_shell(f"cd five-minutes\n{first}cd ..\ncd five-minutes\n{second}", installed)
    assert_says(printed, text.replace(demo, ""))


# ---------------------------------------------------------------------- the demo


@contextmanager
def demonstrated(installed: Path, folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The demo as a process that runs during the block, and the file with what it prints."""
    printed = folder / "printed.txt"
    environment = {"PATH": f"{installed}:{os.defpath}", "HOME": str(folder), "TMPDIR": str(folder)}
    with printed.open("wb") as stream:
        command = [installed / "s3dest", "demo", *options]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=stream, stderr=stream)
    try:
        yield process, printed
    finally:
        process.kill()
        process.wait()


def test_the_demo_ends_with_a_web_interface_in_which_everything_has_landed(installed: Path, tmp_path: Path):
    with demonstrated(installed, tmp_path, "--ui") as (process, printed):
        wait_until(lambda: "Ctrl-C" in printed.read_text(), process)
        assert_says(printed.read_text(), pages.section(START, "See it"))
        assert_says(printed.read_text(), pages.section("README.md", "See it work"))
        (address,) = re.findall(r"^  (http://127\.0\.0\.1:\d+)  \(Ctrl-C", printed.read_text(), re.MULTILINE)
        assert landed_partitions(address) == {"products": 1, "purchases": 7, "users": 7}
        started = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
        assert [pid for pid in started if is_running(pid)] == []
    assert list(tmp_path.glob("s3dest-demo-*")) == []


def landed_partitions(address: str) -> dict[str, int]:
    """How often each asset has landed, as the web interface shows it."""
    query = json.dumps({"query": "{assetNodes {assetKey {path} assetMaterializations {partition}}}"}).encode()
    request = urllib.request.Request(f"{address}/graphql", query, {"Content-Type": "application/json"})
    nodes = json.load(urllib.request.urlopen(request))["data"]["assetNodes"]
    return {each["assetKey"]["path"][-1]: len(each["assetMaterializations"]) for each in nodes}


def test_a_demo_that_is_stopped_while_it_lands_leaves_no_process_and_a_kept_folder(installed: Path, tmp_path: Path):
    with demonstrated(installed, tmp_path, "--keep", "kept") as (process, printed):
        wait_until(lambda: "Landing" in printed.read_text(), process)
        started = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
        assert [pid for pid in started if is_running(pid)] == []
    assert (tmp_path / "kept" / "shop" / "pyproject.toml").exists()


# ---------------------------------------------------------------------- projects


def test_a_new_project(type_into_a_shell: Type, installed: Path, tmp_path: Path):
    """Its definitions are valid, the commands of its README work, and its own test passes."""
    type_into_a_shell("s3dest init my_project", installed)
    folder, port = tmp_path / "my_project", free_port()
    blocks = shells((folder / "README.md").read_text())
    environment = folder / ".env"
    environment.write_text(environment.read_text().replace("9710", str(port)))
    install = "pip install --quiet --no-deps --editable .\npip install --quiet pytest"
    printed = type_into_a_shell(
        "\n".join(["cd my_project", install, "dg check defs", typed(blocks, port), "pytest"]), installed
    )
    assert "All definitions loaded successfully" in printed
    assert "1 passed" in printed
    assert len(list(folder.glob("lake/local/lake/*/**/*.parquet"))) == 3


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the contents of a clone after `make install`."""
    for name in IN_A_CLONE:
        (tmp_path / name).symlink_to(pages.ROOT / name)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    return tmp_path


def test_this_project(type_into_a_shell: Type, clone: Path, tmp_path_factory: pytest.TempPathFactory):
    blocks = [block.text for block in pages.blocks("README.md", "bash")]
    assert len(blocks) == 2
    root = tmp_path_factory.mktemp("lake")
    (root / "demo").mkdir()
    with rclone_server(root, ("demo-access-key", "demo-secret-key")) as server:
        printed = type_into_a_shell(typed(blocks), clone / ".venv" / "bin", S3DEST_DEMO_ENDPOINT=server.endpoint)
    assert "house/readings" in printed
    assert len(list(root.glob("demo/lake/house/readings/*.jsonl.gz"))) == 1


def says(told: str, printed: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, told.split("…"))), printed) is not None


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
