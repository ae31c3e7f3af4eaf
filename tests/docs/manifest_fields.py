"""The JSON schema of the documents in a bucket, made from their classes and the docstrings under their fields."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from typing import Any

import msgspec

from s3dest_dagster import batch
from s3dest_dagster.commit import (
    collection,
    commit_log,
    documents,
    head,
    landed_objects,
    object_lists,
    registry,
    registry_document,
    segment,
)
from s3dest_dagster.settings.config_schema import DIALECT, closed

DOCUMENTS = (
    head.Head,
    segment.Segment,
    object_lists.ObjectList,
    object_lists.UploadList,
    commit_log.SyncMark,
    registry.StreamRegistry,
    collection.UnusedSegments,
)
_MODULES = (
    batch,
    collection,
    commit_log,
    documents,
    head,
    landed_objects,
    object_lists,
    registry,
    registry_document,
    segment,
)


def manifest_schema() -> str:
    """The JSON schema as a block of the documentation. Raises KeyError for a field without a docstring."""
    return f"```json\n{json.dumps({'$defs': _definitions()[1]}, indent=1)}\n```\n"


def document_schema() -> dict[str, Any]:
    """The JSON schema of any document: it is one of those of `DOCUMENTS`."""
    documents, definitions = _definitions()
    title = "A manifest of s3dest_dagster"
    return {"$schema": DIALECT, "title": title, "anyOf": documents, "$defs": closed(definitions)}


def _definitions() -> tuple[list[Any], dict[str, Any]]:
    """A reference to the schema of each document, and the schemas of all classes."""
    documents, definitions = msgspec.json.schema_components(DOCUMENTS, ref_template="#/$defs/{name}")
    return list(documents), {name: _described(_class(name), each) for name, each in definitions.items()}


def _class(name: str) -> type:
    return next(vars(module)[name] for module in _MODULES if name in vars(module))


def _described(cls: type, definition: dict[str, Any]) -> dict[str, Any]:
    texts: dict[str, str] = {}
    for each in reversed(cls.__mro__[:-1]):
        texts |= field_docstrings(each)
    properties = {name: {"description": texts[name], **kind} for name, kind in definition["properties"].items()}
    summary = (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")
    return {**definition, "description": summary, "properties": properties}


def field_docstrings(cls: type) -> dict[str, str]:
    """The docstring under each field of a class."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }
