"""The first records of a landing as a small table of texts, for people who look at the asset.

Bounded in rows, columns and bytes, and without what is named or declared as a secret. It must not know where it is
shown, nor who chose how many rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import dagster as dg
import msgspec

from s3dest_dagster.batch import ArrowBatch, Batch, JsonBatch, SourceItem, StreamBatch
from s3dest_dagster.printable import amount, printable
from s3dest_dagster.sources.airbyte.config import MASK
from s3dest_dagster.stream import Stream

MOST_ROWS = 50
MOST_COLUMNS = 20
MOST_BYTES = 120
"""UTF-8 bytes of a cell."""
_SECRET = re.compile(
    r"(?:^|_)(?:pass(?:word|wd|phrase|code)?|pwd|pin|cvv|secrets?|(?:access|refresh|session|auth)?tokens?|credentials?"
    r"|auth|authorization|bearer|jwt|cookies?"
    r"|(?:api|access|private|secret|encryption|signing)_?keys?|connection_?string|dsn|signature)(?:_|$)"
)

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_UNIONS = ("oneOf", "anyOf", "allOf")
_LONGEST_JSON = 1_000_000
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")


class Preview:
    """Takes what is landed, and keeps the texts of its first `rows` records; nothing at all of 0.

    A cell and a name have at most 120 bytes, a record 20 columns. Values of fields that are called like secrets, or
    that the JSON schema marks as such (`airbyte_secret`, `writeOnly`, the format `password`), are struck out, however
    deep, also within texts that are JSON.
    """

    def __init__(self, stream: Stream, rows: int) -> None:
        self._left = rows
        self._masked = _Masked(stream.json_schema or {})
        self._records: list[dict[str, str | None]] = []

    def of(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items, each of them looked at on its way."""
        for item in items:
            self.take(item)
            yield item

    def take(self, item: SourceItem | Batch) -> None:
        """Looks at the next item, as long as records are wanted."""
        batch = item.batch if isinstance(item, StreamBatch) else item
        if self._left and isinstance(batch, JsonBatch | ArrowBatch):
            # Types have errors of their own. What cannot be shown may be landed; a landing says itself what it refuses.
            with suppress(Exception):
                self._records += [self._texts(each) for each in _first(batch, self._left)]
            self._left -= min(batch.num_rows, self._left)

    def metadata(self) -> dict[str, Any]:
        """The table as metadata `preview`; nothing where no record was seen."""
        names = list(dict.fromkeys(name for record in self._records for name in record))
        if not names:
            return {}
        shown, hidden = names[:MOST_COLUMNS], len(names) - MOST_COLUMNS
        more = {"…": amount(hidden, "more column")} if hidden > 0 else {}
        rows = [
            dg.TableRecord({**{name: _shown(record.get(name)) for name in shown}, **more}) for record in self._records
        ]
        schema = dg.TableSchema([dg.TableColumn(name, type="string") for name in (*shown, *more)])
        return {"preview": dg.MetadataValue.table(rows, schema=schema)}

    def _texts(self, record: Mapping[str, Any]) -> dict[str, str | None]:
        return {printable(_cut(str(name))): _text(value) for name, value in self._masked.record(record).items()}


def _first(batch: Batch, rows: int) -> list[Any]:
    if isinstance(batch, ArrowBatch):
        return list(batch.data.slice(0, rows).to_pylist())
    return [msgspec.json.decode(raw) for raw in batch.raws[:rows]]


class _Masked:
    """Values without secrets, by their names and by what a JSON schema says of them, also in unions and references."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema

    def record(self, record: Mapping[Any, Any]) -> dict[Any, Any]:
        return self._members(record, self._branches([self._root]))

    def _members(self, value: Mapping[Any, Any], declared: Sequence[Mapping[str, Any]]) -> dict[Any, Any]:
        properties = [each["properties"] for each in declared if isinstance(each.get("properties"), Mapping)]
        return {
            name: self._value(str(name), each, self._branches(within.get(name) for within in properties))
            for name, each in value.items()
        }

    def _value(self, name: str, value: Any, declared: Sequence[Mapping[str, Any]]) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if any(map(_marked, declared)) or _SECRET.search(_HUMP.sub("_", name).lower().replace("-", "_")):
            return MASK
        if isinstance(value, Mapping):
            return self._members(value, declared)
        if isinstance(value, list):
            items = self._branches(each.get("items") for each in declared)
            return [self._value("", each, items) for each in value]
        return self._in_text(value, declared) if isinstance(value, str) else value

    def _in_text(self, text: str, declared: Sequence[Mapping[str, Any]]) -> str:
        """The text, and where it is JSON, the same without secrets; nothing of one that is too long to be looked at."""
        if text.lstrip()[:1] in ("{", "["):
            if len(text) > _LONGEST_JSON:
                return "…"
            with suppress(ValueError, RecursionError):
                within = json.loads(text)
                if (masked := self._value("", within, declared)) != within:
                    return json.dumps(masked, ensure_ascii=False)
        return _URL_PASSWORD.sub(rf"\1{MASK}@", text)

    def _branches(self, declared: Iterable[Any]) -> list[Mapping[str, Any]]:
        """These schemas, and all that they refer to or are unions of."""
        found: list[Mapping[str, Any]] = []
        todo = list(declared)
        while todo:
            each = todo.pop()
            if isinstance(each, Mapping) and not any(each is known for known in found):
                found.append(each)
                todo += [branch for word in _UNIONS for branch in each.get(word) or ()]
                todo.append(self._referred(each.get("$ref")))
        return found

    def _referred(self, reference: Any) -> Any:
        place: Any = self._root
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return None
        for step in reference[2:].split("/"):
            place = place.get(step) if isinstance(place, Mapping) else None
        return place


def _marked(declared: Mapping[str, Any]) -> bool:
    return (
        declared.get("airbyte_secret") is True
        or declared.get("writeOnly") is True
        or declared.get("format") == "password"
    )


def _text(value: Any) -> str | None:
    """A value as a short text: texts as they are, all else as JSON."""
    if value is None:
        return None
    return _cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def _cut(text: str) -> str:
    data = text[: MOST_BYTES + 1].encode("utf-8", "replace")
    if len(data) <= MOST_BYTES:
        return text
    return data[: MOST_BYTES - len("…".encode())].decode("utf-8", "ignore") + "…"


def _shown(text: str | None) -> str:
    return "" if text is None else printable(text)
