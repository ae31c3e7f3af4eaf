"""PyAirbyte with the destination and a real source, each in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers import S3Server

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = Path(os.environ.get("S3DEST_CLIENTS", ROOT / ".clients"))
FAKER = ROOT / ".connectors" / "source-faker" / "bin" / "source-faker"


class Client:
    """A PyAirbyte, and a bucket."""

    def __init__(self, python: Path, server: S3Server, folder: Path) -> None:
        self._python = python
        self._server = server
        self._folder = folder
        self.bucket = server.new_bucket()

    def talk(self, *calls: dict[str, Any], source: str | None = None, **settings: Any) -> dict[str, Any]:
        """Lets PyAirbyte check the destination and write once for each call. See `conversation.py`.

        Args:
            calls: The arguments of PyAirbyte's `write`.
            source: The executable of the source. Default: airbyte-source-faker.
            settings: Settings of the destination under `s3dest`.
        """
        config = {
            "access_key_id": self._server.access_key_id,
            "secret_access_key": self._server.secret_access_key,
            "s3_bucket_name": self.bucket,
            "s3_bucket_path": "lake",
            "s3_bucket_region": "us-east-1",
            "s3_endpoint": self._server.endpoint,
            "format": {"format_type": "JSONL", "compression": {"compression_type": "No Compression"}},
            "s3dest": settings,
        }
        executable = str(Path(sys.executable).with_name("destination-s3dest"))
        request = {
            "destination": {"executable": executable, "config": config},
            "source": {
                "executable": source or str(FAKER),
                "config": {"count": 20, "seed": 1, "parallelism": 1, "always_updated": False},
            },
            "calls": calls,
        }
        path = self._folder / "request.json"
        path.write_text(json.dumps(request))
        script = Path(__file__).with_name("conversation.py")
        environment = {**os.environ, "DO_NOT_TRACK": "1", "AIRBYTE_OFFLINE_MODE": "1", "PYTHONPATH": ""}
        done = subprocess.run(
            [self._python, script, path], cwd=self._folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-4000:]
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def chatty_source(self, log_lines: int) -> str:
        """The executable of a source with the streams `users` and `products`, which logs that many lines before each
        state. Every stream has 20 records and, at its end, a state."""
        path = self._folder / "chatty-source"
        script = Path(__file__).with_name("chatty_source.py")
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" {log_lines} "$@"\n')
        path.chmod(0o755)
        return str(path)

    def rows(self, stream: str) -> int:
        """The records in all objects of a stream, read without the library."""
        client = self._server.client()
        listed = client.list_objects_v2(Bucket=self.bucket, Prefix=f"lake/{stream}/").get("Contents", [])
        bodies = [client.get_object(Bucket=self.bucket, Key=each["Key"])["Body"].read() for each in listed]
        return sum(len(body.splitlines()) for body in bodies)


@pytest.fixture(params=["pinned", "newest"])
def client(request: pytest.FixtureRequest, moto_s3: S3Server, tmp_path: Path) -> Client:
    python = ENVIRONMENTS / request.param / "bin" / "python"
    return Client(python, moto_s3, tmp_path)
