"""An environment as a newcomer has it: what `pip install 's3dest-dagster[demo]'` brings, from this tree's wheel."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from docs import pages

BUILT_FROM = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "s3dest_dagster")
Type = Callable[..., str]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel, its extra `demo` (which has all of `ui`), and `create-dagster`."""
    root = tmp_path_factory.mktemp("newcomer")
    copy, wheels, made = root / "copy", root / "wheels", root / "environment"
    copy.mkdir()
    for name in BUILT_FROM:
        source = pages.ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(copy)], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(made)], check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([made / "bin" / "pip", "install", "--quiet", "create-dagster", f"{wheel}[demo]"], check=True)
    return made / "bin"


@pytest.fixture
def type_into_a_shell(tmp_path: Path) -> Iterator[Type]:
    """Types a script into a shell in an empty folder, and returns what it prints. What it starts ends with the test."""
    inherited = {name: value for name, value in os.environ.items() if name in ("PYTHONPATH", "LANG", "TMPDIR")}
    shells: list[subprocess.Popen[str]] = []

    def type_(script: str, programs: Path, **environment: str) -> str:
        printed = tmp_path / "printed.txt"
        variables = {"PATH": f"{programs}:{os.defpath}", "HOME": str(tmp_path), "DAGSTER_DISABLE_TELEMETRY": "yes"}
        with printed.open("w", encoding="utf-8") as stream:
            shell = subprocess.Popen(
                ["bash", "-e", "-c", script],
                cwd=tmp_path,
                env={**inherited, **variables, **environment},
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
