"""The first records of a landing as a small table of texts, for people who look at the asset.

Bounded in rows, columns and bytes, and without what is named or declared as a secret. It must not know where it is
shown, nor who chose how many rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import dagster as dg
import msgspec

from s3dest_dagster.batch import ArrowBatch, Batch, JsonBatch, SourceItem, StreamBatch
from s3dest_dagster.sources.masking import MASK
from s3dest_dagster.stream import Stream

MOST_ROWS = 50
MOST_COLUMNS = 20
MOST_BYTES = 120
"""UTF-8 bytes of a cell."""
_SECRET = re.compile(
    r"(?:^|_)(?:pass(?:word|wd|phrase|code)?|pwd|pin|cvv|secrets?|tokens?|credentials?|authorization|bearer|cookies?"
    r"|(?:api|access|private|secret|encryption|signing)_?keys?|connection_?string|dsn|signature)(?:_|$)"
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")


class Preview:
    """Takes what is landed, and keeps the texts of its first `rows` records; nothing at all of 0.

    A cell has at most 120 bytes, a record 20 columns. Values of fields that are called like secrets, or that the JSON
    schema marks as such (`airbyte_secret`, `writeOnly`, the format `password`), are struck out, however deep.
    """

    def __init__(self, stream: Stream, rows: int) -> None:
        self._left = rows
        self._declared = stream.json_schema or {}
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
        more = {"…": f"{hidden} more columns"} if hidden > 0 else {}
        rows = [
            dg.TableRecord({**{name: _shown(record.get(name)) for name in shown}, **more}) for record in self._records
        ]
        schema = dg.TableSchema([dg.TableColumn(name, type="string") for name in (*shown, *more)])
        return {"preview": dg.MetadataValue.table(rows, schema=schema)}

    def _texts(self, record: Mapping[str, Any]) -> dict[str, str | None]:
        properties = _properties(self._declared)
        return {str(name): _text(_masked(name, value, properties.get(name))) for name, value in record.items()}


def _first(batch: Batch, rows: int) -> list[Any]:
    if isinstance(batch, ArrowBatch):
        return list(batch.data.slice(0, rows).to_pylist())
    return [msgspec.json.decode(raw) for raw in batch.raws[:rows]]


def _masked(name: str, value: Any, declared: Any) -> Any:
    """The value without secrets."""
    if value is None or isinstance(value, bool):
        return value
    if _is_secret(name, declared):
        return MASK
    if isinstance(value, Mapping):
        within = _properties(declared)
        return {key: _masked(str(key), each, within.get(key)) for key, each in value.items()}
    if isinstance(value, list):
        items = declared.get("items") if isinstance(declared, Mapping) else None
        return [_masked("", each, items) for each in value]
    return _URL_PASSWORD.sub(rf"\1{MASK}@", value) if isinstance(value, str) else value


def _is_secret(name: str, declared: Any) -> bool:
    marks = declared if isinstance(declared, Mapping) else {}
    if marks.get("airbyte_secret") is True or marks.get("writeOnly") is True or marks.get("format") == "password":
        return True
    return _SECRET.search(_HUMP.sub("_", name).lower().replace("-", "_")) is not None


def _properties(declared: Any) -> Mapping[str, Any]:
    found = declared.get("properties") if isinstance(declared, Mapping) else None
    return found if isinstance(found, Mapping) else {}


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
    return "" if text is None else text
