"""Looks for the programs of `make test-servers` and `make test-storm`, and installs Debian's if that is allowed.

    python tests/real_servers/packages.py [SERVER …]     prints nothing, or says what to install and exits with 1

Imports only the standard library, so that it runs before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROGRAMS = {
    "radosgw": {"radosgw": "radosgw", "ceph-mon": "ceph-mon", "ceph-osd": "ceph-osd", "ceph": "ceph-common"},
    "swift": {
        "swift-proxy-server": "swift-proxy",
        "swift-object-server": "swift-object",
        "swift-container-server": "swift-container",
        "swift-account-server": "swift-account",
        "swift-ring-builder": "swift",
    },
}
"""The programs of the servers that come from Debian, with their packages."""
NAMES = ("moto", "rclone", "seaweedfs", *PROGRAMS)
_APT = ("apt-get", "-o", "Acquire::http::Timeout=60", "-o", "Acquire::Retries=2", "-qq")


def missing(names: list[str]) -> list[str]:
    """The Debian packages of these servers' programs that are not on the path."""
    needed = {program: package for name in names for program, package in PROGRAMS.get(name, {}).items()}
    return sorted({package for program, package in needed.items() if shutil.which(program) is None})


def _may_install() -> bool:
    """Whether this user may install packages, without systemd starting their services."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return root and shutil.which("apt-get") is not None and not Path("/run/systemd/system").exists()


def _install(packages: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        print(f"apt-get {' '.join(words)}", flush=True)
        done = subprocess.run(
            [*_APT, *words], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if done.returncode != 0:
            print(done.stdout.decode(errors="replace")[-2000:])
            return


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        print(f"No server is called {', '.join(unknown)}. There are {', '.join(NAMES)}.")
        return 1
    wanted = names or list(NAMES)
    if (packages := missing(wanted)) and _may_install():
        _install(packages)
        packages = missing(wanted)
    if packages:
        others = " ".join(name for name in wanted if not missing([name]))
        print(
            f"These packages of Debian are missing: {' '.join(packages)}. Install them (they bring services that the "
            f"tests do not need and that you may disable), or leave their servers out: SERVERS={others!r}."
        )
    return 1 if packages else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
