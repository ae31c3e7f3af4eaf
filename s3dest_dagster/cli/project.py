"""`s3dest init` writes a project, and `s3dest serve` is its S3 server on this machine.

Must not know: the command line.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

from s3dest_dagster.cli.output import Output
from s3dest_dagster.cli.signals import ended_by_ctrl_c
from s3dest_dagster.local.project import Connector, project_files, write_project
from s3dest_dagster.local.s3_server import local_s3
from s3dest_dagster.printable import amount


def init(output: Output, folder: Path, *, python: bool) -> int:
    """Writes a project.

    Args:
        output: Where the result goes.
        folder: The project's folder, whose name is that of its package.
        python: Whether the streams are defined in Python instead of YAML.

    Raises:
        SettingsError: The name is no package's, or a file exists.
    """
    name = folder.resolve().name
    files = project_files(name, datetime.now(UTC).date(), python=python, connector=Connector())
    write_project(folder, files)
    for path in files:
        output.show(f"  {folder / path}")
    output.show(f"{amount(len(files), 'file')} written. {folder / 'README.md'} says how to go on:")
    output.show(f"  cd {folder} && pip install --editable '.[dev]'")
    output.show("  s3dest serve lake --port 9710     in one terminal")
    output.show("  dg dev                            in another one")
    return 0


def serve(output: Output, folder: Path, port: int, bucket: str) -> int:
    """Serves a folder as S3 until a signal ends the command.

    Args:
        output: Where the result goes.
        folder: Holds a folder for each bucket.
        port: The port on this machine; 0 takes a free one.
        bucket: The bucket, which is created if it does not exist.
    """
    with local_s3(folder, bucket=bucket, port=port) as s3:
        output.show(f"{folder} is served as S3 at {s3.endpoint}, until Ctrl-C. Other programs reach it by")
        for name, value in s3.environment.items():
            output.show(f"export {name}={value}")
        with ended_by_ctrl_c():
            threading.Event().wait()
    return 0
