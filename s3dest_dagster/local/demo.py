"""The parts of the demo: its folder, its connector, its project landed by Dagster, and the web interface.

Nothing is printed here. Must not know: the command line; Dagster is only started, as a process.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from s3dest_dagster.commit.scopes import scopes
from s3dest_dagster.errors import MissingExtraError, S3DestError, SettingsError, SourceError
from s3dest_dagster.inspection.read import LiveObject, live_objects
from s3dest_dagster.local.processes import lines_of, running
from s3dest_dagster.local.project import DAYS, Connector, project_files, write_project
from s3dest_dagster.local.s3_server import LocalS3
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.storage import open_bucket
from s3dest_dagster.stream import Scope

NAME = "shop"
FAKER = "source-faker"
_MARK = ".s3dest-demo"
_LANDED = " landed in "
_INSTANCE = "telemetry:\n  enabled: false\nnux:\n  enabled: false\n"
_NEEDS = {"duckdb": "duckdb", "dagster-webserver": "dagster_webserver"}


def check_packages() -> None:
    """Raises MissingExtraError if a package is missing that the demo needs."""
    missing = [name for name, module in _NEEDS.items() if find_spec(module) is None]
    if missing:
        raise MissingExtraError(
            f"The demo needs {', '.join(missing)}. Install what is missing: pip install 's3dest-dagster[demo]'"
        )


# ---------------------------------------------------------------------- the folder


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """Where the demo writes: the project, the bucket, Dagster's runs and the logs."""

    root: Path

    @property
    def project(self) -> Path:
        """The project that is landed."""
        return self.root / NAME

    @property
    def lake(self) -> Path:
        """The folder that is served as S3."""
        return self.root / "lake"

    @property
    def dagster_home(self) -> Path:
        """Dagster's instance."""
        return self.root / "dagster_home"

    def log(self, program: str) -> Path:
        """The file with what a program prints."""
        return self.root / f"{program}.log"


@contextmanager
def demo_folder(kept: Path | None) -> Iterator[DemoFolder]:
    """The folder of the demo while the block runs.

    Args:
        kept: A folder that stays: a new one, an empty one, or the one of an earlier demo. None: a temporary folder,
            which is deleted at the end of the block.

    Raises:
        SettingsError: The folder holds other files.
    """
    if kept is None:
        with TemporaryDirectory(prefix="s3dest-demo-", ignore_cleanup_errors=True) as temporary:
            yield _prepared(Path(temporary))
        return
    if kept.exists() and not (kept / _MARK).exists() and (not kept.is_dir() or any(kept.iterdir())):
        raise SettingsError(
            f"{kept} holds other files. Name a folder that does not exist, is empty, or is that of an earlier demo."
        )
    yield _prepared(kept.resolve())


def _prepared(root: Path) -> DemoFolder:
    folder = DemoFolder(root)
    folder.dagster_home.mkdir(parents=True, exist_ok=True)
    (root / _MARK).touch()
    (folder.dagster_home / "dagster.yaml").write_text(_INSTANCE, "utf-8")
    return folder


# ---------------------------------------------------------------------- the project


def connector(source: str | None) -> Connector:
    """The connector of the demo.

    Args:
        source: The executable of a connector with the streams of `source-faker`. None: `source-faker` if it is on the
            path, else the sample source of the library.

    Raises:
        SettingsError: There is no such executable.
        SourceError: The connector cannot list its streams, or lacks some.
    """
    command = source or (FAKER if shutil.which(FAKER) else None)
    if command is None:
        return Connector()
    config = {"count": 200, "seed": "{{ partition_start_epoch }}", "parallelism": 1}
    catalog = AirbyteSource(command, {"count": 200}).discover().raw
    names = {stream["name"] for stream in catalog["streams"]}
    if lacking := {"users", "purchases", "products"} - names:
        raise SourceError(f"{command} has no stream {', '.join(sorted(lacking))}. The demo needs one like {FAKER}.")
    return Connector(command, config, catalog)


def write_demo_project(folder: DemoFolder, connector: Connector, today: date) -> None:
    """Writes the project, unless an earlier demo has left it."""
    if not folder.project.exists():
        write_project(folder.project, project_files(NAME, today, python=False, connector=connector))


def days(today: date) -> tuple[str, str]:
    """The first and the last day that the demo lands: a week that ends yesterday."""
    return (today - timedelta(days=DAYS)).isoformat(), (today - timedelta(days=1)).isoformat()


def environment(folder: DemoFolder, s3: LocalS3) -> dict[str, str]:
    """The variables of Dagster's processes: the bucket, Dagster's instance, and where programs are found."""
    # The commands of this environment work even if it is not activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    modules = os.pathsep.join(filter(None, [str(folder.project), os.environ.get("PYTHONPATH")]))
    ours = {"DAGSTER_HOME": str(folder.dagster_home), "PATH": path, "PYTHONPATH": modules}
    return {**os.environ, **s3.environment, **ours}


def land(folder: DemoFolder, variables: Mapping[str, str], first: str, last: str) -> Iterator[str | None]:
    """Lands the project in one run of Dagster, and yields a line for each partition that has landed.

    None stands for a few seconds of silence.

    Raises:
        SourceError: The run failed.
    """
    command = [sys.executable, "-m", "s3dest_dagster.dagster.range_run", f"{NAME}.definitions", first, last]
    printed: list[str] = []
    with lines_of(command, cwd=folder.root, environment=variables) as (process, lines):
        for line in lines:
            if line is None:
                yield None
                continue
            printed.append(line)
            if _LANDED in line:
                yield line.split(" - ")[-1].partition(_LANDED)[0].rstrip(",")
        code = process.wait()
    if code != 0:
        log = folder.log("run")
        log.write_text("\n".join(printed), "utf-8")
        reason = next((line for line in reversed(printed) if "Error" in line), "it gave no reason")
        raise SourceError(f"The run failed: {reason.strip()} (with --keep, {log.name} in the folder has all of it).")


# ---------------------------------------------------------------------- what has landed


def destination(s3: LocalS3) -> S3Destination:
    """Where the project lands, for reading it."""
    return S3Destination(s3_bucket_name=s3.bucket, s3_bucket_path="lake")


def landed(s3: LocalS3) -> Iterator[tuple[Scope, LiveObject]]:
    """The objects that the streams hold, with their partitions, ordered by both."""
    bucket, template = open_bucket(s3.connection, s3.bucket), destination(s3).template
    for scope in sorted(scopes(bucket, template), key=lambda each: (str(each.stream), each.partition or "")):
        for each in live_objects(bucket, template, scope):
            yield scope, each


# ---------------------------------------------------------------------- the web interface


@contextmanager
def web_interface(folder: DemoFolder, variables: Mapping[str, str]) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Runs Dagster's web interface and its daemon while the block runs; the value is the address, and the process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "dagster", "dev", "-m", f"{NAME}.definitions", "-h", "127.0.0.1", "-p", str(port)]
    # Not in the project, whose .env names another port of the S3 server.
    with running(command, folder.log("dagster"), cwd=folder.root, environment=variables) as process:
        yield f"http://127.0.0.1:{port}", process


def is_served(address: str) -> bool:
    """Whether a web server answers at the address."""
    client = http.client.HTTPConnection(address.removeprefix("http://"), timeout=5)
    try:
        client.request("GET", "/server_info")
        return client.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        client.close()


def wait_until_served(address: str, process: subprocess.Popen[bytes], log: Path) -> Iterator[None]:
    """Waits until the web interface answers, and yields every few seconds.

    Raises:
        S3DestError: It has ended.
    """
    reported = time.monotonic()
    while not is_served(address):
        if process.poll() is not None:
            last = log.read_text("utf-8", errors="replace").strip().splitlines()[-5:]
            raise S3DestError(f"Dagster's web interface has ended: {' '.join(last)}")
        time.sleep(0.3)
        if time.monotonic() - reported > 8:
            reported = time.monotonic()
            yield
