"""`dg` in a process of its own that answers one command after another, since importing it takes seconds."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection

from click.testing import CliRunner
from dagster_dg_cli.cli import cli


def answer_commands(folder: str, connection: Connection) -> None:
    """Runs each command that the connection gives in the folder, and sends what it printed; None ends it."""
    os.chdir(folder)
    while (arguments := connection.recv()) is not None:
        connection.send(CliRunner().invoke(cli, list(arguments)).output)
