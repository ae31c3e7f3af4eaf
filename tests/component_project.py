"""Components in YAML: loads the definitions of a folder, and finds the assets and messages in them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster.components.core.component_tree import ComponentTree
from dagster.components.resolved.errors import ResolutionException

TYPE = "type: s3dest_dagster.S3DestinationComponent\n\nattributes:\n"

FILES = """\
  source:
    type: files
    path: "*.jsonl"
  streams:
    - name: visits
"""

Load = Callable[[str], dg.Definitions]


def tree(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ComponentTree:
    """The project that contains the folder."""
    monkeypatch.syspath_prepend(folder.parent.parent)
    return ComponentTree.from_module(importlib.import_module(folder.parent.name), folder.parent.parent)


def assets(defs: dg.Definitions) -> dict[str, dg.AssetsDefinition]:
    return {spec.key.to_user_string(): made for made in defs.assets or () for spec in made.specs}


def specs(defs: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {key: made.specs_by_key[dg.AssetKey.from_user_string(key)] for key, made in assets(defs).items()}


def materialize(lake: Any, defs: dg.Definitions, **options: Any) -> dg.ExecuteInProcessResult:
    """Materializes the assets into the lake, with the IO manager of the tests unless the definitions have their own."""
    return lake.materialize(*defs.assets, resources=dict(defs.resources or {}), **options)


def message_of(error: BaseException) -> str:
    """The message with the line, wherever Dagster has put it."""
    while error.__cause__ is not None and not isinstance(error, ResolutionException):
        error = error.__cause__
    return str(error)
