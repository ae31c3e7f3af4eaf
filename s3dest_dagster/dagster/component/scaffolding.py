"""`dg scaffold defs s3dest_dagster.S3DestinationComponent NAME …`: writes a `defs.yaml` that loads.

Must not know: how the component reads it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import warnings
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from dagster.components import Scaffolder, ScaffoldRequest, scaffold_component
from pydantic import BaseModel, Field

from s3dest_dagster.errors import S3DestError
from s3dest_dagster.sources.airbyte.connector import AirbyteSource

_COMMENTS = """\
  # source:
  #   type: airbyte
  #   command: source-shop
  #   config:
  #     api_key: "{{ env_var('SHOP_API_KEY') }}"
  #     start_date: "{{ partition_start }}"
  #   catalog: catalog.json  # by default, `dg utils refresh-defs-state` discovers the streams

  # partitions_def:
  #   type: daily
  #   start_date: 2026-01-01

  # A connector's config.json can be pasted here, or named: destination: config.json
"""
_FILES = "inbox/*.jsonl"
_SCHEMA = Path(".s3dest", "defs.schema.json")
"""Where a project has the schema of a `defs.yaml`: that of the installed version, which needs no network."""


class ScaffoldParams(BaseModel):
    """The options of `dg scaffold defs s3dest_dagster.S3DestinationComponent`. `--format` is Dagster's own."""

    source: str = Field(
        default=_FILES,
        description="A connector's executable (source-github), a pattern of files, package.module.function, or sql.",
    )
    file_format: Literal["avro", "csv", "jsonl", "parquet"] = Field(
        default="parquet", description="Format of the objects."
    )
    bucket: str = Field(default="my-bucket", description="The bucket to land in.")
    path: str = Field(default="lake", description="The path in the bucket.")
    region: str | None = Field(default=None, description="The region of the bucket.")
    endpoint: str | None = Field(default=None, description="The address of a server other than AWS.")


class S3DestinationScaffolder(Scaffolder[ScaffoldParams]):
    """Writes a `defs.yaml` that loads, and adds the names of its variables to `.env` as comments, without values.

    A connector is asked for its specification: its required settings become the config. Those that only the user knows,
    secrets among them, become variables.
    """

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        return ScaffoldParams

    def scaffold(self, request: ScaffoldRequest[ScaffoldParams]) -> None:
        if request.scaffold_format != "yaml":
            scaffold_component(request)
            return
        params = request.params if isinstance(request.params, ScaffoldParams) else ScaffoldParams()
        attributes = _attributes(request.target_path.name, params)
        source, rest = (
            _indented({name: value for name, value in attributes.items() if (name == "source") is first})
            for first in (True, False)
        )
        text = f"type: {request.type_name}\n\nattributes:\n{source}{_COMMENTS}{rest}"
        path = request.target_path if request.append else request.target_path / "defs.yaml"
        with path.open("a" if request.append else "w", encoding="utf-8") as file:
            file.write(f"---\n{text}" if request.append else f"{_schema_line(request.project_root, path)}{text}")
        if request.project_root is not None:
            _add_names(request.project_root / ".env", sorted(set(re.findall(r'env_var\("(\w+)"\)', source))))


def _schema_line(root: Path | None, path: Path) -> str:
    """The line that tells editors the schema, of which the project gets a copy. Empty outside of a project."""
    if root is None or not path.resolve().is_relative_to(root.resolve()):
        return ""
    copy = root.resolve() / _SCHEMA
    copy.parent.mkdir(exist_ok=True)
    copy.write_text(files("s3dest_dagster.settings").joinpath("schemas", "defs.json").read_text("utf-8"), "utf-8")
    return f"# yaml-language-server: $schema={os.path.relpath(copy, path.resolve().parent)}\n"


def _indented(attributes: Mapping[str, Any]) -> str:
    text = yaml.safe_dump(dict(attributes), sort_keys=False, allow_unicode=True, width=1000)
    return "".join(f"  {line}\n" for line in text.splitlines())


def _add_names(file: Path, names: list[str]) -> None:
    """Adds a comment for each variable that the file does not name yet. An empty value would look like a secret."""
    before = file.read_text("utf-8") if file.exists() else ""
    missing = [name for name in names if not re.search(rf"^\W*{name}\b", before, re.MULTILINE)]
    if missing:
        separator = "" if before.endswith("\n") or not before else "\n"
        file.write_text(before + separator + "".join(f"# {name}=\n" for name in missing), "utf-8")


# ---------------------------------------------------------------------- the attributes


def _attributes(name: str, params: ScaffoldParams) -> dict[str, Any]:
    source = _source(name, params.source)
    # Each run reads everything anew: an append would add it again.
    streams = {} if source["type"] == "airbyte" else {"streams": [{"name": name, "sync_mode": "full_refresh"}]}
    destination = {
        "s3_bucket_name": params.bucket,
        "s3_bucket_path": params.path,
        "s3_bucket_region": params.region,
        "s3_endpoint": params.endpoint,
        "format": params.file_format,
    }
    given = {key: value for key, value in destination.items() if value is not None}
    return {"source": source, **streams, "destination": given}


def _source(name: str, given: str) -> dict[str, Any]:
    if given == "sql":
        return {"type": "sql", "uri": _variable(f"{name}_database"), "table": name}
    is_command = shutil.which(shlex.split(given)[0]) is not None
    if not is_command and any(mark in given for mark in "*/"):
        return {"type": "files", "path": given}
    if not is_command and re.fullmatch(r"\w+(\.\w+)+", given):
        return {"type": "python", "function": given}
    config = _config(name, given)
    return {"type": "airbyte", "command": given, **({"config": config} if config else {})}


def _config(name: str, command: str) -> dict[str, Any]:
    """The required settings of the connector. Empty, with a note, if it does not say which it has."""
    try:
        specification = AirbyteSource(command).spec().get("connectionSpecification", {})
    except S3DestError as error:
        warnings.warn(f"The config has to be written by hand: {error.message}", stacklevel=2)
        return {}
    return dict(_required(name, specification))


def _required(prefix: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The required properties of an object, and of the first form that it may have."""
    first: Mapping[str, Any] = next(iter(schema.get("oneOf") or ()), {})
    properties = {**schema.get("properties", {}), **first.get("properties", {})}
    required = {*schema.get("required", ()), *first.get("required", ())}
    for key, inner in properties.items():
        if key in required or "const" in inner:
            yield key, _value(f"{prefix}_{key}", inner)


def _value(name: str, schema: Mapping[str, Any]) -> Any:
    """A constant or a default if there is one, unless it is a secret; else a variable."""
    for known in ("const", "default"):
        if known in schema and not schema.get("airbyte_secret"):
            return schema[known]
    kind = schema.get("type")
    if "oneOf" in schema or "properties" in schema:
        return dict(_required(name, schema))
    if kind == "array":
        return [_value(name, schema.get("items", {}))]
    return _variable(name, " | int" if kind == "integer" else "")


def _variable(name: str, as_int: str = "") -> str:
    variable = re.sub(r"\W+", "_", name).upper()
    return f'{{{{ env_var("{variable}"){as_int} }}}}'
