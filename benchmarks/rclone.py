"""`rclone serve s3` on loopback, for measurements through a real server: a child process on a free port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.local_client import BUCKET
from s3dest_dagster.errors import StorageError
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.storage import Bucket, open_bucket

_KEYS = ("benchmark-access-key", "benchmark-secret-key")
_TIMEOUT_S = 20


@contextmanager
def serving(folder: Path) -> Iterator[Bucket]:
    """A bucket behind a server that keeps its objects under `folder`."""
    (folder / BUCKET).mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    rclone = Path(sys.executable).with_name("rclone")
    command = [str(rclone), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", ",".join(_KEYS)]
    server = subprocess.Popen(
        [*command, "--config", os.devnull, str(folder)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield _answering(server, port)
    finally:
        server.terminate()
        server.wait(timeout=10)


def _answering(server: subprocess.Popen[bytes], port: int) -> Bucket:
    """The bucket, as soon as the server answers from our folder."""
    connection = S3Connection(
        endpoint=f"http://127.0.0.1:{port}",
        access_key_id=_KEYS[0],
        secret_access_key=_KEYS[1],
        region="us-east-1",
        max_attempts=1,
    )
    bucket = open_bucket(connection, BUCKET)
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            bucket.put("answering", b"")
            return bucket
        except StorageError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
