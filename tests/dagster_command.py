"""`dagster` as the only thing that a process does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from dagster._cli import create_dagster_cli


def run_dagster(arguments: Sequence[str], variables: Mapping[str, str]) -> None:
    """Runs the command with these variables of the environment, and exits with its code."""
    os.environ.update(variables)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    create_dagster_cli().main(list(arguments))
