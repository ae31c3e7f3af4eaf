"""The JSON schemas that editors use, made from the component, the settings and the classes of the manifests.

`renew.py` writes them into the package; the site shows them, too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docs.manifest_fields import document_schema
from docs.pages import ROOT

from s3dest_dagster.dagster.component.component import S3DestinationComponent
from s3dest_dagster.settings.config_schema import DIALECT, config_schema

FOLDER = ROOT / "s3dest_dagster" / "settings" / "schemas"


def defs_schema() -> dict[str, Any]:
    """The schema of a `defs.yaml` with the component: Dagster's keys around the component's attributes."""
    attributes = S3DestinationComponent.get_model_cls().model_json_schema()
    definitions = attributes.pop("$defs", {})
    return {
        "$schema": DIALECT,
        "title": "A defs.yaml with a component of s3dest_dagster",
        "type": "object",
        "required": ["type", "attributes"],
        "additionalProperties": False,
        "properties": {
            "type": {"const": "s3dest_dagster.S3DestinationComponent"},
            "attributes": attributes,
            "requirements": {"type": "object"},
            "post_processing": {"type": "object"},
            "template_vars_module": {"type": "string"},
        },
        "$defs": definitions,
    }


SCHEMAS = {"config": config_schema, "defs": defs_schema, "manifests": document_schema}
"""The schemas by the names of their files."""


def text_of(name: str) -> str:
    """The file with this schema, on one line: programs read it."""
    return json.dumps(SCHEMAS[name](), separators=(",", ":"), ensure_ascii=False) + "\n"


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.json"
