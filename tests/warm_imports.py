"""The library's modules by name, for processes of tests that import everything once and then fork."""

from __future__ import annotations

import importlib
import pkgutil

ROOMS = ("airbyte", "cli", "columns", "commit", "formats", "ingest", "inspection", "settings", "sources", "storage")
"""The rooms that a sync without Dagster needs."""


def library_modules() -> list[str]:
    """Every module of these rooms, including those that the library imports only when they are first used."""
    return [
        module.name
        for room in ROOMS
        for module in pkgutil.walk_packages(
            importlib.import_module(f"s3dest_dagster.{room}").__path__, f"s3dest_dagster.{room}."
        )
        # Importing it runs the command.
        if not module.name.endswith(".__main__")
    ]


def import_library() -> None:
    """Imports them."""
    for name in library_modules():
        importlib.import_module(name)
