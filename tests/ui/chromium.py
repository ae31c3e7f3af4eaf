"""The browser of `make test-ui`: a Chromium of the system that starts, Debian's installed where that is allowed.

    python tests/ui/chromium.py     prints its path, or says what to install and ends with 1

CHROMIUM=… names another one. The browsers that Playwright has come from no package registry.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
MISSING = (
    "The test of the web interface needs a Chromium that starts: install the package chromium of your system, or name "
    "another program in CHROMIUM=…"
)
_APT = ("apt-get", "-o", "Acquire::http::Timeout=60", "-o", "Acquire::Retries=2", "-qq")
_PATIENCE_S = 300


def executable() -> str | None:
    """The path of the Chromium to use; None where there is none that starts."""
    named = os.environ.get("CHROMIUM")
    found = [named] if named else [path for name in NAMES if (path := shutil.which(name))]
    return next((path for path in found if _starts(path)), None)


def _starts(path: str) -> bool:
    """Whether the program shows a page: Ubuntu's package of this name is a note, and some containers forbid it."""
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]
        command = [path, *options, f"--user-data-dir={profile}", "about:blank"]
        try:
            done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_PATIENCE_S)
        except (OSError, subprocess.TimeoutExpired):
            return False
    return b"<html" in done.stdout


def _install() -> None:
    """Debian's Chromium, where this user may install packages; elsewhere nothing happens."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
        print(f"apt-get {' '.join(words)}", flush=True)
        if subprocess.run([*_APT, *words], env=environment, stdin=subprocess.DEVNULL).returncode != 0:
            return


def main() -> int:
    found = executable()
    if found is None and "CHROMIUM" not in os.environ:
        _install()
        found = executable()
    print(found or MISSING)
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
