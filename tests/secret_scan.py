"""Secrets that must not appear in certain locations: what counts as found, and where to search."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from scripted_source import ScriptedSource
from servers import S3Server


def found(canaries: Mapping[str, str], places: Iterable[tuple[str, bytes]]) -> set[tuple[str, str]]:
    """Which secret is in which location, in any of its spellings."""
    spelled = {name: list(_spellings(text)) for name, text in canaries.items()}
    return {
        (name, place)
        for place, content in places
        for name, spellings in spelled.items()
        if any(each in content for each in spellings)
    }


def _spellings(text: str) -> Iterator[bytes]:
    """The text unchanged, in JSON, in a URL, and in base64 with any alignment."""
    yield from {text.encode(), json.dumps(text)[1:-1].encode(), quote(text, safe="").encode()}
    for offset in range(3):
        # The first and last characters depend on the neighbours.
        yield base64.b64encode(b"\0" * offset + text.encode())[4:-4]


def files_under(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file as raw bytes, and the contents of the tables in an SQLite file, decompressed if necessary."""
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        name, content = str(path.relative_to(folder)), path.read_bytes()
        yield name, content
        if content.startswith(b"SQLite format 3\0"):
            yield f"{name} (unpacked)", b"\n".join(_cells(path))


def _cells(path: Path) -> Iterator[bytes]:
    with closing(sqlite3.connect(path)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in database.execute(f'SELECT * FROM "{table}"'):
                for cell in row:
                    content = cell if isinstance(cell, bytes) else str(cell).encode()
                    yield content
                    with suppress(zlib.error):
                        yield zlib.decompress(content)


def objects_of(server: S3Server, bucket: str) -> Iterator[tuple[str, bytes]]:
    """Every object with its key and headers, and every unfinished upload."""
    s3 = server.client()
    for each in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
        answer = s3.get_object(Bucket=bucket, Key=each["Key"])
        yield each["Key"], b"\n".join([each["Key"].encode(), repr(answer).encode(), answer["Body"].read()])
    yield "uploads", repr(s3.list_multipart_uploads(Bucket=bucket)).encode()


def command_lines() -> Iterator[tuple[str, bytes]]:
    """The arguments of this process's children and their children, as every user of the machine sees them."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    family = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    for pid in family - {os.getpid()}:
        with suppress(OSError):
            yield f"arguments of {pid}", Path(f"/proc/{pid}/cmdline").read_bytes()


@contextmanager
def processes_looked_at(source: ScriptedSource, folder: Path, *, during: str) -> Iterator[dict[str, bytes]]:
    """The arguments of all processes while the connector runs. The connector waits until they have been read."""
    seen: dict[str, bytes] = {}
    ended = threading.Event()

    def look() -> None:
        while not source.calls(during) and not ended.wait(0.01):
            pass
        seen.update(command_lines())
        (folder / "looked at").touch()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
