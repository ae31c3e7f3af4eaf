"""The demo's S3 server: `rclone serve s3` on loopback, keeping objects as plain files under `./lake`.

A child process of the demo or of the UI. Not part of the library.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

ROOT = Path(__file__).resolve().parent.parent
LAKE = ROOT / "lake"
LOG = ROOT / ".demo" / "rclone.log"
BUCKET = "demo"
ACCESS_KEY_ID, SECRET_ACCESS_KEY = "demo-access-key", "demo-secret-key"
PORT = int(os.environ.get("S3DEST_DEMO_PORT", "9710"))
ENDPOINT = f"http://127.0.0.1:{PORT}"
_TIMEOUT_S = 20


@contextmanager
def serving(lake: Path = LAKE) -> Iterator[bool]:
    """Serves the lake while the block runs, or uses a running server of this demo (`make ui`).

    The value is whether it was started here.
    """
    (lake / BUCKET).mkdir(parents=True, exist_ok=True)
    if _port_in_use():
        if not _answers():
            raise SystemExit(
                f"Port {PORT} is taken by another program. Stop it, or choose a port: S3DEST_DEMO_PORT=9711 make demo"
            )
        print(f"Using the S3 server that already runs at {ENDPOINT}")
        yield False
        return
    server = _start(lake)
    try:
        _wait_for(server)
        print(f"S3 server at {ENDPOINT}, objects as plain files under {lake.relative_to(ROOT)}/{BUCKET}")
        yield True
    finally:
        server.terminate()
        server.wait(timeout=10)


def _start(lake: Path) -> subprocess.Popen[bytes]:
    rclone = Path(sys.executable).with_name("rclone")
    command = [
        rclone,
        "serve",
        "s3",
        "--addr",
        f"127.0.0.1:{PORT}",
        "--auth-key",
        f"{ACCESS_KEY_ID},{SECRET_ACCESS_KEY}",
    ]
    LOG.parent.mkdir(exist_ok=True)
    quiet = ["--config", os.devnull, "--log-file", str(LOG)]
    return subprocess.Popen([*command, *quiet, str(lake)], stdin=subprocess.DEVNULL)


def _wait_for(server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"The S3 server ended at once with exit code {server.returncode}; see {LOG}.")
        if _answers():
            return
        time.sleep(0.1)
    raise SystemExit(f"The S3 server did not answer at {ENDPOINT} within {_TIMEOUT_S} seconds.")


def _port_in_use() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


def _answers() -> bool:
    """Whether a server answers that accepts the demo's keys and has its bucket."""
    quick = Config(
        connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}
    )
    client = boto3.client(
        "s3",
        endpoint_url=ENDPOINT,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        region_name="us-east-1",
        config=quick,
    )
    try:
        client.list_objects_v2(Bucket=BUCKET, MaxKeys=1)
    except (BotoCoreError, ClientError):
        return False
    return True
