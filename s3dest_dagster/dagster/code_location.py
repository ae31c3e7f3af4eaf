"""Loads Dagster definitions for the command: from a module, a Python file, or a project of components in YAML.

Must not know: what is done with them.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg

from s3dest_dagster.errors import SettingsError

_PROJECT_FILES = ("pyproject.toml", "dg.toml")


@dataclass(frozen=True, slots=True)
class CodeLocation:
    """Where definitions are: exactly one of the two is given."""

    module: str | None = None
    """A module, as Dagster imports it."""
    path: str | None = None
    """A Python file, or a project of components: its folder, or any file or folder in it."""

    def __str__(self) -> str:
        return self.module or self.path or ""

    def load(self) -> dg.Definitions:
        """The definitions.

        Raises:
            SettingsError: They cannot be loaded, or there are none.
        """
        if self.module is not None:
            return _of_module(self.module)
        path = Path(self.path or "").absolute()
        if not path.exists():
            raise SettingsError(f"--defs {self.path!r} does not exist.", setting="defs")
        return _of_file(path) if path.suffix == ".py" else _of_project(path)


def _of_module(name: str) -> dg.Definitions:
    """The definitions of a module. As in Dagster, the working directory is searched first."""
    with _searched_first([os.getcwd()]):
        try:
            loaded = import_module(name)
        except ImportError as error:
            raise SettingsError(f"--module {name!r} cannot be imported: {error}.", setting="module") from error
        return _only(loaded, f"--module {name!r}", "module")


def _of_file(path: Path) -> dg.Definitions:
    """The definitions of a Python file, whose folder is searched first for what it imports."""
    with _searched_first([str(path.parent)]):
        spec = spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        loaded = module_from_spec(spec)
        # Dagster looks up the modules of functions by their names.
        sys.modules[path.stem] = loaded
        try:
            spec.loader.exec_module(loaded)
        except ImportError as error:
            raise SettingsError(f"--defs {str(path)!r} cannot be imported: {error}.", setting="defs") from error
        return _only(loaded, f"--defs {str(path)!r}", "defs")


def _of_project(path: Path) -> dg.Definitions:
    """The definitions of the project that a path is in, as `dg` loads them."""
    folders = [path, *path.parents] if path.is_dir() else list(path.parents)
    root = next((each for each in folders if any((each / name).is_file() for name in _PROJECT_FILES)), None)
    if root is None:
        raise SettingsError(
            f"--defs {str(path)!r} is no Python file and in no project: no folder above it has a pyproject.toml or "
            "dg.toml. Name the folder of a project that dg can load, or a file with Definitions.",
            setting="defs",
        )
    with _searched_first([str(root / "src"), str(root)]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return dg.load_from_defs_folder(path_within_project=root)
        except Exception as error:  # whatever the project's own code raises
            raise SettingsError(
                f"--defs {str(path)!r}: the project in {root} cannot be loaded: {_reason(error)}", setting="defs"
            ) from error


def _reason(error: BaseException) -> str:
    """What went wrong in the first place. Dagster shows where in a tree of folders, around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def _only(module: ModuleType, described: str, setting: str) -> dg.Definitions:
    """The only definitions that a module has."""
    found = [definitions for value in vars(module).values() if (definitions := _as_definitions(value)) is not None]
    if len(found) != 1:
        raise SettingsError(
            f"{described} has {len(found)} Definitions, and one is needed. Name what has the code location's.",
            setting=setting,
        )
    return found[0]


def _as_definitions(value: Any) -> dg.Definitions | None:
    """A module's value if it is `Definitions`, or its result if `dg.definitions` created it."""
    if isinstance(value, dg.Definitions):
        return value
    return value() if type(value).__name__ == "LazyDefinitions" and not value.has_context_arg else None


@contextmanager
def _searched_first(folders: Sequence[str]) -> Iterator[None]:
    """Has imports search these folders first."""
    sys.path[:0] = folders
    try:
        yield
    finally:
        for folder in folders:
            sys.path.remove(folder)
