"""Records as Airbyte messages in files, made once and kept under `.bench/data`.

A file's name holds a checksum of the code that made it, so that records of changed code are never mistaken for these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.connectors import SCHEMAS as CONNECTOR_SCHEMAS
from benchmarks.connectors import connector_records
from benchmarks.dirt import DIRT, dirty_users
from benchmarks.users import SCHEMA as USERS_SCHEMA
from benchmarks.users import users
from benchmarks.wide import SCHEMA as WIDE_SCHEMA
from benchmarks.wide import wide

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / ".bench" / "data"
USERS, WIDE = "users", "wide"
EMITTED_AT = 1_795_748_970_993
STREAM = "users"
"""The name of the stream in every message, whatever the records."""
_SOURCES = ("users.py", "wide.py", "dirt.py", "connectors.py", "messages.py")
_RECORDS_PER_MILLISECOND = 10
FEW = 100
"""Records that warm a contestant up."""


@dataclass(frozen=True)
class MessageFile:
    """A file of Airbyte RECORD messages, one a line, all of one stream."""

    path: Path
    kind: str
    records: int
    schema: dict[str, Any]

    @property
    def task(self) -> dict[str, Any]:
        """What a contestant needs to know about the file."""
        few = message_file(self.kind, FEW, self.path.parent)
        return {"messages": str(self.path), "few_messages": str(few.path), "schema": self.schema}

    @property
    def bare_task(self) -> dict[str, Any]:
        """The same for a contestant that reads the records alone, one JSON object per line."""
        few = message_file(self.kind, FEW, self.path.parent)
        return {"messages": str(self._bare()), "few_messages": str(few._bare()), "schema": self.schema}

    def _bare(self) -> Path:
        """The file of the records alone. It is written if it does not exist yet."""
        path = self.path.with_suffix(".records")
        if not path.exists():
            unfinished = path.with_suffix(".part")
            encode = msgspec.json.Encoder().encode
            with unfinished.open("wb") as file:
                file.writelines(encode(record) + b"\n" for record in records_of(self.kind, self.records))
            unfinished.rename(path)
        return path

    @property
    def nbytes(self) -> int:
        return self.path.stat().st_size


def messages(records: Iterable[dict[str, Any]], stream: str = STREAM) -> Iterator[bytes]:
    """Each record as a RECORD message, with its line break."""
    head = b'{"type":"RECORD","record":{"stream":"%b","data":' % stream.encode()
    encode = msgspec.json.Encoder().encode
    for number, record in enumerate(records):
        yield b'%b%b,"emitted_at":%d}}\n' % (head, encode(record), EMITTED_AT + number // _RECORDS_PER_MILLISECOND)


def records_of(kind: str, count: int) -> Iterator[dict[str, Any]]:
    """Users, wide records, records of a connector, or users with a kind of dirt."""
    if kind == USERS:
        return users(count)
    if kind in CONNECTOR_SCHEMAS:
        return connector_records(kind, count)
    return wide(count) if kind == WIDE else dirty_users(kind, count)


def message_file(kind: str, count: int, folder: Path = DATA) -> MessageFile:
    """The file of these messages; it is written if it does not exist yet."""
    name = f"{kind.replace(' ', '-').replace(',', '')}-{count}-{_code_checksum()}.jsonl"
    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            file.writelines(messages(records_of(kind, count)))
        unfinished.rename(path)
    return MessageFile(path, kind, count, schema_of(kind))


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON schema that is declared for records of this kind; dirty records have the schema of clean ones."""
    if kind not in (USERS, WIDE, *DIRT, *CONNECTOR_SCHEMAS):
        raise KeyError(kind)
    return CONNECTOR_SCHEMAS.get(kind) or (WIDE_SCHEMA if kind == WIDE else USERS_SCHEMA)


@cache
def _code_checksum() -> str:
    texts = [(Path(__file__).parent / name).read_bytes() for name in _SOURCES]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:8]
