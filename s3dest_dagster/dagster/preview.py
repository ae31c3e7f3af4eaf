"""A preview of landed records for a materialization: bounded, and without secrets.

Must not know: when it is reported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import dagster as dg
import msgspec

from s3dest_dagster.batch import ArrowBatch, Batch
from s3dest_dagster.columns.json_schema import resolve
from s3dest_dagster.printable import MASK, amount, printable
from s3dest_dagster.stream import Stream

MAX_ROWS = 50
MAX_COLUMNS = 20
MAX_BYTES = 120
"""The maximum number of UTF-8 bytes in a cell."""
_SECRET = re.compile(
    r"(?:^|_)(?:pass(?:word|wd|phrase|code)?|pwd|pin|cvv|secrets?|(?:access|refresh|session|auth)?tokens?|credentials?"
    r"|auth|authorization|bearer|jwt|cookies?"
    r"|(?:api|access|private|secret|encryption|signing)_?keys?|connection_?string|dsn|signature)(?:_|$)"
)

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_UNIONS = ("oneOf", "anyOf", "allOf")
_MAX_JSON = 1_000_000
"""The maximum length of a JSON text that is searched for secrets, in characters."""
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")


def without_secrets(value: Any) -> Any:
    """The value without what is named like a secret, at any depth, and without passwords in URLs."""
    return _Mask({}).record({"": value})[""]


class Preview:
    """The first records of a landing as a small table of texts, bounded and without secrets.

    A cell and a name have at most 120 bytes, a record 20 columns. A value is masked if its field is named like a
    secret, or if the JSON schema marks it as one (`airbyte_secret`, `writeOnly`, the format `password`), at any depth,
    also within texts that are JSON.

    Args:
        rows: Number of records to keep; 0 for no preview.
    """

    def __init__(self, stream: Stream, rows: int) -> None:
        self._left = rows
        self._mask = _Mask(stream.json_schema or {})
        self._records: list[dict[str, str | None]] = []

    def add(self, batch: Batch) -> None:
        """Keeps the records of a batch, as long as more are needed. The batch is as it lands (see `Landing`)."""
        if self._left:
            # A preview must never fail a landing: a value that cannot be shown may still land, and types raise their
            # own errors when they are converted.
            with suppress(Exception):
                self._records += [self._texts(record) for record in _first(batch, self._left)]
            self._left -= min(batch.num_rows, self._left)

    def metadata(self) -> dict[str, Any]:
        """The table as metadata `preview`. Empty if there were no records."""
        names = list(dict.fromkeys(name for record in self._records for name in record))
        if not names:
            return {}
        shown, hidden = names[:MAX_COLUMNS], len(names) - MAX_COLUMNS
        more = {"…": amount(hidden, "more column")} if hidden > 0 else {}
        rows = [
            dg.TableRecord({**{name: printable(record.get(name) or "") for name in shown}, **more})
            for record in self._records
        ]
        schema = dg.TableSchema([dg.TableColumn(name, type="string") for name in (*shown, *more)])
        return {"preview": dg.MetadataValue.table(rows, schema=schema)}

    def _texts(self, record: Mapping[str, Any]) -> dict[str, str | None]:
        return {printable(_shortened(str(name))): _text(value) for name, value in self._mask.record(record).items()}


def _first(batch: Batch, rows: int) -> list[Any]:
    if isinstance(batch, ArrowBatch):
        return list(batch.data.slice(0, rows).to_pylist())
    return [msgspec.json.decode(raw) for raw in batch.raws[:rows]]


class _Mask:
    """Masks secrets by their names and their JSON schemas, including unions and references."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema

    def record(self, record: Mapping[Any, Any]) -> dict[Any, Any]:
        return self._members(record, self._branches([self._root]))

    def _members(self, value: Mapping[Any, Any], schemas: Sequence[Mapping[str, Any]]) -> dict[Any, Any]:
        properties = [schema["properties"] for schema in schemas if isinstance(schema.get("properties"), Mapping)]
        return {
            name: self._value(str(name), member, self._branches(fields.get(name) for fields in properties))
            for name, member in value.items()
        }

    def _value(self, name: str, value: Any, schemas: Sequence[Mapping[str, Any]]) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if any(map(_is_marked_secret, schemas)) or _SECRET.search(_HUMP.sub("_", name).lower().replace("-", "_")):
            return MASK
        if isinstance(value, Mapping):
            return self._members(value, schemas)
        if isinstance(value, list):
            items = self._branches(schema.get("items") for schema in schemas)
            return [self._value("", element, items) for element in value]
        return self._in_text(value, schemas) if isinstance(value, str) else value

    def _in_text(self, text: str, schemas: Sequence[Mapping[str, Any]]) -> str:
        """The text, without secrets if it is JSON. "…" if it looks like JSON and is too long to be searched."""
        if text.lstrip()[:1] in ("{", "["):
            if len(text) > _MAX_JSON:
                return "…"
            with suppress(ValueError, RecursionError):
                value = json.loads(text)
                if (masked := self._value("", value, schemas)) != value:
                    return json.dumps(masked, ensure_ascii=False)
        return _URL_PASSWORD.sub(rf"\1{MASK}@", text)

    def _branches(self, schemas: Iterable[Any]) -> list[Mapping[str, Any]]:
        """These schemas, and all schemas that they refer to or are unions of."""
        branches: list[Mapping[str, Any]] = []
        left = list(schemas)
        while left:
            schema = left.pop()
            if isinstance(schema, Mapping) and not any(schema is known for known in branches):
                branches.append(schema)
                left += [branch for word in _UNIONS for branch in schema.get(word) or ()]
                reference = schema.get("$ref")
                if isinstance(reference, str) and reference.startswith("#/"):
                    left.append(resolve(self._root, reference))
        return branches


def _is_marked_secret(schema: Mapping[str, Any]) -> bool:
    return schema.get("airbyte_secret") is True or schema.get("writeOnly") is True or schema.get("format") == "password"


def _text(value: Any) -> str | None:
    """A value as a short text: a text as it is, anything else as JSON."""
    if value is None:
        return None
    return _shortened(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def _shortened(text: str) -> str:
    data = text[: MAX_BYTES + 1].encode("utf-8", "replace")
    if len(data) <= MAX_BYTES:
        return text
    return data[: MAX_BYTES - len("…".encode())].decode("utf-8", "ignore") + "…"
