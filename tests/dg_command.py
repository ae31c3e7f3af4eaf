"""`dg` in a process of its own that says what was printed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from multiprocessing.connection import Connection

from click.testing import CliRunner
from dagster_dg_cli.cli import cli


def run_dg(folder: str, arguments: Sequence[str], told: Connection) -> None:
    """Runs the command in the folder, and sends what it has printed."""
    os.chdir(folder)
    told.send(CliRunner().invoke(cli, list(arguments)).output)
