"""Looks for the servers of `make test-scale` and `make test-sql`, and installs Debian's packages if that is allowed.

    python3 tests/scale/packages.py postgresql redis-server     prints nothing, or says what to install and exits with 1

Imports only the standard library, so that it runs before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

APT = ("apt-get", "-o", "Acquire::http::Timeout=60", "-o", "Acquire::Retries=2", "-qq")


def postgres_program(name: str) -> Path | None:
    """A program of PostgreSQL's server: Debian keeps them off the path, in a folder for each version."""
    if found := shutil.which(name):
        return Path(found)
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    return versions[-1] if versions else None


def missing(wanted: list[str]) -> list[str]:
    """Which of these packages of Debian have no program on this machine."""
    found = {
        "postgresql": postgres_program("initdb") and postgres_program("postgres"),
        "redis-server": shutil.which("redis-server"),
        "mariadb-server": shutil.which("mariadbd") and shutil.which("mariadb-install-db"),
    }
    return [package for package in wanted if found[package] is None]


def _may_install() -> bool:
    """Whether this user may install packages, without systemd starting their services."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return root and shutil.which("apt-get") is not None and not Path("/run/systemd/system").exists()


def _install(packages: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        print(f"apt-get {' '.join(words)}", flush=True)
        done = subprocess.run(
            [*APT, *words], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if done.returncode != 0:
            print(done.stdout.decode(errors="replace")[-2000:])
            return


def main(wanted: list[str]) -> int:
    if (packages := missing(wanted)) and _may_install():
        _install(packages)
        packages = missing(wanted)
    if packages:
        print(
            f"These packages of Debian are missing: {' '.join(packages)}. Install them; they bring services that the "
            "test does not need and that you may disable."
        )
    return 1 if packages else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
