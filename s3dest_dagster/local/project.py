"""Writes a new project: streams, a bucket on this machine, a test, a CI workflow, a Dockerfile.

The files are those of `templates/`, with values in place of `my_project`, `FIRST_DAY`, `COMMAND` and `CONFIG`. Must not
know: Dagster.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.local import sample_source

DAYS = 7
"""How many days a new project begins before today."""
_NAME, _FIRST_DAY, _COMMAND, _CONFIG = "my_project", "FIRST_DAY", "COMMAND", "CONFIG"
_FILES = {
    ".env": "env",
    ".github/workflows/ci.yml": "ci.yml",
    ".gitignore": "gitignore",
    "Dockerfile": "Dockerfile",
    "README.md": "README.md",
    "pyproject.toml": "pyproject.toml",
    f"{_NAME}/definitions.py": "definitions.py.txt",
    "tests/test_landing.py": "test_landing.py.txt",
}
_YAML = {f"{_NAME}/defs/shop/defs.yaml": "defs.yaml"}
_PYTHON = {f"{_NAME}/defs/shop/streams.py": "shop.py.txt"}
_CATALOG = f"{_NAME}/defs/shop/catalog.json"
_SCHEMA = ".s3dest/defs.schema.json"
"""The schema that the `defs.yaml` names for editors. `dg scaffold defs` writes it to the same place."""
_PACKAGES = {
    f"{_NAME}/__init__.py": '"""The streams of this project."""\n',
    f"{_NAME}/defs/__init__.py": '"""What is defined here, Dagster loads."""\n',
}
_PACKAGE_OF_PYTHON = {f"{_NAME}/defs/shop/__init__.py": '"""A shop."""\n'}


@dataclass(frozen=True, slots=True)
class Connector:
    """The connector that a project reads from.

    Args:
        command: Its executable, with its first arguments.
        config: Its configuration, which may name the partition.
        catalog: What it answers to `discover`. It has the streams users, purchases and products.
    """

    command: str = sample_source.COMMAND
    config: Mapping[str, Any] = field(default_factory=lambda: {"count": 200, "day": "{{ partition_start_date }}"})
    catalog: Mapping[str, Any] = field(default_factory=sample_source.catalog)


def first_day(today: date) -> date:
    """The first day of a project that is written today."""
    return today - timedelta(days=DAYS)


def project_files(name: str, today: date, *, python: bool, connector: Connector) -> dict[str, str]:
    """The files of a new project: their texts, by their paths in the project.

    Args:
        name: The project's name, which is the name of its package, too.
        today: The day; the partitions begin a week before it.
        python: Whether the streams are defined in Python instead of YAML.
        connector: The connector that the streams are read from.

    Raises:
        SettingsError: The name cannot be that of a Python package.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise SettingsError(
            f"{name!r} cannot be the name of a project, because it is the name of its Python package, too. Use small "
            "letters, digits and _, such as my_project."
        )
    templates = files("s3dest_dagster.local") / "templates"
    texts = {
        **_PACKAGES,
        **(_PACKAGE_OF_PYTHON if python else {}),
        **{
            path: (templates / template).read_text("utf-8")
            for path, template in {**_FILES, **(_PYTHON if python else _YAML)}.items()
        },
        _CATALOG: json.dumps(connector.catalog, indent=2) + "\n",
    }
    values = {
        _NAME: name,
        _FIRST_DAY: first_day(today).isoformat(),
        _COMMAND: connector.command,
        # JSON is YAML, too, and Python, as long as it has no true, false or null.
        _CONFIG: json.dumps(dict(connector.config)),
    }
    schema = (files("s3dest_dagster.settings") / "schemas" / "defs.json").read_text("utf-8")
    filled = {_filled(path, values): _filled(text, values) for path, text in texts.items()}
    return dict(sorted({**filled, **({} if python else {_SCHEMA: schema})}.items()))


def _filled(text: str, values: Mapping[str, str]) -> str:
    for word, value in values.items():
        text = text.replace(word, value)
    return text


def write_project(folder: Path, texts: Mapping[str, str]) -> None:
    """Writes the files. None that exists is overwritten, and then nothing at all is written.

    Args:
        folder: The project's folder, which may exist.
        texts: The files, by their paths in the folder.

    Raises:
        SettingsError: Some of the files exist, or cannot be written.
    """
    existing = [path for path in texts if (folder / path).exists() or (folder / path).is_symlink()]
    if existing:
        raise SettingsError(
            f"{folder} has {', '.join(existing[:3])}{' and more' if len(existing) > 3 else ''} already. Nothing was "
            "written. Choose another name, or a folder without these files."
        )
    try:
        for path, text in texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            # Fails if somebody has made the file in the meantime.
            with (folder / path).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise SettingsError(f"The project cannot be written to {folder}: {error.strerror or error}.") from None
