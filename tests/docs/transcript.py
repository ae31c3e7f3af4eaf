"""Runs a page's `console` blocks as commands: the text after a `$ ` line is the answer of that command.

All blocks of a page run in one session: one folder and a fresh bucket of a real server. Blocks with a file name are
files of that folder. A block with the name of the page's bucket lists the keys that exist before. The bucket and
access key on the page represent those of the server.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from docs.warm_command import make_caller
from servers import S3Server

from docs import pages

BUCKET = "my-bucket"
ACCESS_KEY_ID = "AKIAIOSFODNN7EXAMPLE"
_DRAWN = re.compile(r"\.[0-9a-f]{8}(?=\.jsonl?\b)")
"""The random name of a segment that an attempt at a sync draws."""
_BLOCK = re.compile(r"(?<=^```console\n)(?P<text>.*?)(?=^```$)", re.MULTILINE | re.DOTALL)


class Sitting:
    """One folder, one bucket, and a shell that finds the warm command at this address."""

    def __init__(self, server: S3Server, folder: Path, command: str) -> None:
        make_caller(folder, command)
        self._server = server
        self._folder = folder
        self._bucket = server.new_bucket()

    def lay_out(self, block: pages.Block) -> None:
        """Writes a block that has a file name, or fills the bucket."""
        if block.name == BUCKET:
            self._server.fill(self._bucket, block.text.split())
            return
        path = self._folder / block.name
        path.write_text(self._configured(block.text) if block.name.endswith("config.json") else block.text)
        path.chmod(0o700)

    def _configured(self, text: str) -> str:
        """A destination's configuration that reaches the server. Any other text stays unchanged."""
        config = json.loads(text)
        if "s3_bucket_name" not in config:
            return text
        keys = {"access_key_id": self._server.access_key_id, "secret_access_key": self._server.secret_access_key}
        place = {"s3_bucket_name": self._bucket, "s3_endpoint": self._server.endpoint}
        return json.dumps({**config, **keys, **place})

    def answer(self, command: str) -> str:
        """The output of the command, including standard error, with the names on the page."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "WORKER_"))}
        path = f"{self._folder}:{os.environ['PATH']}"
        environment = {**inherited, "PATH": path, "AWS_EC2_METADATA_DISABLED": "true"}
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=100,
            text=True,
        )
        shown = done.stdout.replace(self._bucket, BUCKET).replace(self._server.access_key_id, ACCESS_KEY_ID)
        assert self._server.secret_access_key not in shown
        return _DRAWN.sub(".5f3a9c1e", shown)


def renewed(page: str, text: str, server: S3Server, folder: Path, command: str) -> str:
    """The page's text with the current answers of its commands."""
    sitting = Sitting(server, folder, command)
    for block in pages.blocks(page):
        if block.name:
            sitting.lay_out(block)
    return _BLOCK.sub(lambda match: _block(match["text"], sitting), text)


def _block(text: str, sitting: Sitting) -> str:
    commands = [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
    return "\n".join(f"$ {command}\n{sitting.answer(command)}" for command in commands)
