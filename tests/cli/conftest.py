"""The command as a user runs it: in its own process, on a fresh bucket of a real server, with its output checked.

Every answer is searched for secrets and tracebacks, whatever the test is about.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from servers import S3Server
from terminals import terminal
from warm_process import WarmProcess

from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination

SCHEMAS = {
    "users": {"type": "object", "properties": {"id": {"type": "integer"}, "name": {"type": "string"}}},
    "orders": {"type": "object", "properties": {"id": {"type": "integer"}, "total": {"type": "number"}}},
}


@dataclass(frozen=True)
class Answer:
    """The results of one run of the command."""

    returncode: int
    stdout: str
    stderr: str


class WarmStart:
    """Runs the command in forks of one process that has already imported it.

    Args:
        entry: The module whose `run` is the command.
    """

    def __init__(self, entry: str = "s3dest_dagster.cli.entry") -> None:
        script = Path(__file__).with_name("warm_start.py")
        self._process = subprocess.Popen(
            [sys.executable, script, entry], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self,
        arguments: tuple[str, ...],
        stdin: str,
        environment: dict[str, str],
        folder: Path,
        terminals: Mapping[str, str] | None = None,
        connection: S3Connection | None = None,
    ) -> Answer:
        """Runs the command once, with standard input, output and error in files of the folder, or on terminals with
        these paths. A client for `connection` is made only once."""
        files = [folder / f"std{name}" for name in ("in", "out", "err")]
        for path, content in zip(files, (stdin, "", ""), strict=True):
            path.write_text(content)
        terminals = terminals or {}
        files = [Path(terminals.get(path.name, path)) for path in files]
        request = {"arguments": arguments, "environment": environment, "files": [str(each) for each in files]}
        code = self._ask({**request, "connection": connection and asdict(connection)})
        assert code is not None
        stdout, stderr = (path.read_text() if path.parent == folder else "" for path in files[1:])
        return Answer(code, stdout, stderr)

    def start(
        self, arguments: tuple[str, ...], environment: dict[str, str], folder: Path, files: Mapping[str, str]
    ) -> WarmProcess:
        """Starts the command, with its standard streams in named pipes in the folder, or in these files."""
        pipes = Path(tempfile.mkdtemp(dir=folder))
        paths = [files.get(name, str(pipes / name)) for name in ("stdin", "stdout", "stderr")]
        for path in map(Path, paths):
            if path.parent == pipes:
                os.mkfifo(path)
        request = {"arguments": arguments, "environment": environment, "files": paths, "connection": None}
        pid = self._ask({**request, "start": True})
        assert pid is not None
        return WarmProcess(self._ask, pid, pipes)

    def _ask(self, request: dict[str, Any]) -> int | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


class Lake:
    """A fresh bucket, the files that a user has for it, and the command."""

    def __init__(self, server: S3Server, warm_start: WarmStart, folder: Path) -> None:
        self.server = server
        self._warm_start = warm_start
        self.folder = folder
        self.bucket = server.new_bucket()
        self._prepared: set[str] = set()

    def file(self, name: str, content: Any) -> str:
        """The path of a file with this text, or with this value as JSON."""
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    def settings(self, **changes: Any) -> dict[str, Any]:
        """A connector's configuration for the bucket. A change to `None` leaves the key out."""
        values = {
            "access_key_id": self.server.access_key_id,
            "secret_access_key": self.server.secret_access_key,
            "s3_bucket_name": self.bucket,
            "s3_bucket_path": "data_output_path",
            "s3_bucket_region": "us-east-1",
            "s3_endpoint": self.server.endpoint,
            "format": {"format_type": "JSONL", "compression": {"compression_type": "No Compression"}},
            "s3dest": {"max_attempts": 1, "encode_workers": 1},
        }
        return {key: value for key, value in {**values, **changes}.items() if value is not None}

    def config(self, **changes: Any) -> str:
        """The path of a configuration file."""
        return self.file("config.json", self.settings(**changes))

    def catalog(self, *names: str, mode: str = "overwrite", namespace: str | None = "public") -> str:
        """The path of a configured catalog."""
        streams = [
            {
                "stream": {"name": name, "namespace": namespace, "json_schema": SCHEMAS[name]},
                "sync_mode": "full_refresh",
                "destination_sync_mode": mode,
            }
            for name in names
        ]
        return self.file("catalog.json", {"streams": streams})

    def run(self, *arguments: str, stdin: str = "", **environment: str) -> Answer:
        """Runs the command and checks its output."""
        if arguments[0] == "write" and not self._prepared:
            self.prepare()
        # The bucket retries, so its client does not.
        usual = None if environment else replace(self.server.connection, max_attempts=1)
        named = {**_environment(), **environment}
        answer = self._warm_start.run(arguments, stdin, named, self.folder, connection=usual)
        self.watch(answer.stdout, answer.stderr, verbose="--verbose" in arguments)
        return answer

    def on_terminal(
        self, *arguments: str, stdin: str = "", of: str = "stdout", columns: int = 100, **environment: str
    ) -> tuple[Answer, str]:
        """Runs the command with one of its streams on a terminal. Returns the answer together with what the terminal
        showed."""
        named = {**_environment(), "TERM": "xterm-256color", **environment}
        with terminal(columns) as (path, shown):
            answer = self._warm_start.run(arguments, stdin, named, self.folder, {of: path})
        self.watch(answer.stdout, answer.stderr, shown())
        return answer, shown()

    def run_into(self, files: Mapping[str, str], *arguments: str, stdin: str = "") -> Answer:
        """Runs the command with its `stdout` or `stderr` in files with these paths."""
        answer = self._warm_start.run(arguments, stdin, _environment(), self.folder, files)
        self.watch(answer.stdout, answer.stderr)
        return answer

    def write(self, messages: str, *options: str, streams: tuple[str, ...] = ("users",), **catalog: Any) -> Answer:
        """Runs `s3dest write` with these messages, with the plain configuration unless the options name another."""
        configured = options if "--config" in options else ("--config", self.config(), *options)
        return self.run("write", "--catalog", self.catalog(*streams, **catalog), *configured, stdin=messages)

    def start(self, *arguments: str, **files: str) -> WarmProcess:
        """Starts the command with its standard input open. `stdout` and `stderr` may name files instead of pipes."""
        environment = {**_environment(), "TERM": "xterm-256color"}
        return self._warm_start.start(arguments, environment, self.folder, files)

    def start_alone(
        self, *arguments: str, closed: int | None = None, starter: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """Starts the command in a process that has imported nothing else, perhaps without the standard stream with the
        number `closed`, or through another command, `starter`."""
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [*starter, sys.executable, "-m", "s3dest_dagster.cli", *arguments]
        begin = partial(os.close, closed) if closed is not None else None
        return subprocess.Popen(command, **pipes, env=_environment(), preexec_fn=begin)

    def await_line(self, process: WarmProcess, text: str) -> None:
        """Waits until a line with the text appears on the standard error of the process."""
        read = ""
        for line in process.stderr:
            read += line.decode()
            if text in read:
                return
        raise AssertionError(f"{text!r} did not come; this did: {read}")

    def watch(self, *texts: str, verbose: bool = False) -> None:
        """Checks that no answer shows a secret, or a traceback that nobody requested."""
        for text in texts:
            assert self.server.secret_access_key not in text
            assert verbose or "Traceback" not in text

    def prepare(self, endpoint: str | None = None) -> None:
        """Spares the first write to the bucket, perhaps through another endpoint, the requests that find out the
        abilities of the server."""
        usual = S3Destination(s3_bucket_name=self.bucket, s3_bucket_path="data_output_path")
        self._prepared.add(self.server.store_abilities(usual, endpoint))

    def data_keys(self) -> list[str]:
        """The visible data objects."""
        return [key for key in self.all_keys() if "/_s3dest/" not in f"/{key}"]

    def all_keys(self) -> list[str]:
        """All visible objects that commands have made."""
        listed = self.server.client().list_objects_v2(Bucket=self.bucket)
        return [each["Key"] for each in listed.get("Contents", []) if each["Key"] not in self._prepared]

    def uploads(self) -> int:
        """Multipart uploads that are neither completed nor aborted."""
        return len(self.server.client().list_multipart_uploads(Bucket=self.bucket).get("Uploads", []))

    def read(self, key: str) -> bytes:
        """The bytes of an object."""
        return self.server.client().get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def ids(self, stream: str = "users") -> list[int]:
        """The ids in all visible JSON Lines objects of a stream."""
        keys = [key for key in self.data_keys() if f"/{stream}/" in key]
        return sorted(json.loads(line)["_airbyte_data"]["id"] for key in keys for line in self.read(key).splitlines())


def _environment() -> dict[str, str]:
    """This environment without its own identity."""
    foreign = ("AWS_", "WORKER_", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "TTY_")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    return {
        **inherited,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@pytest.fixture(scope="session")
def warm_start() -> Iterator[WarmStart]:
    started = WarmStart()
    yield started
    started.close()


@pytest.fixture
def lake(moto_s3: S3Server, warm_start: WarmStart, tmp_path: Path) -> Lake:
    return Lake(moto_s3, warm_start, tmp_path)


@pytest.fixture
def rclone_lake(rclone_s3: S3Server, warm_start: WarmStart, tmp_path: Path) -> Lake:
    return Lake(rclone_s3, warm_start, tmp_path)


@pytest.fixture(params=["moto", "rclone"])
def any_lake(request: pytest.FixtureRequest, warm_start: WarmStart, tmp_path: Path) -> Lake:
    """A lake on each server in turn."""
    return Lake(request.getfixturevalue(f"{request.param}_s3"), warm_start, tmp_path)
