"""Files of records, found by a pattern, on disk or in any store that pyarrow knows.

It knows paths; it must not know streams, Dagster, or what becomes of the records.
"""

from __future__ import annotations

import csv
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import datetime
from io import TextIOWrapper
from pathlib import PurePosixPath
from typing import Any, BinaryIO, ClassVar, Literal, NamedTuple, cast, get_args

import fastavro
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet

from s3dest_dagster.batch import ArrowBatch, BadRecord, Batch, JsonBatch
from s3dest_dagster.errors import S3DestError, SettingsError, SourceError
from s3dest_dagster.printable import amount
from s3dest_dagster.settings.fields import refuse_variables
from s3dest_dagster.sources import OverSlices, StreamSettings
from s3dest_dagster.sources.airbyte.protocol import are_single_line_objects, is_utf8
from s3dest_dagster.sources.lines import describe_json_error, read_blocks
from s3dest_dagster.sources.path_patterns import Match, PathPattern, as_it_is, matching_files, path_pattern
from s3dest_dagster.sources.python import arrow_batches, batches
from s3dest_dagster.sources.templating import (
    PARTITION_VALUES,
    STREAM_VALUES,
    Values,
    is_template,
    names_in,
    render_text,
    stream_values,
)
from s3dest_dagster.stream import Stream, is_unicode

Open = Callable[[], BinaryIO]
"""Opens a file at its beginning."""
EmittedAt = Callable[[], int]
"""Gives milliseconds since 1970."""

_ROWS_AT_ONCE = 10_000
_lines = msgspec.json.Decoder(msgspec.Raw)


def read_jsonl(open_file: Open, emitted_at: EmittedAt) -> Iterator[JsonBatch | BadRecord]:
    """A JSON object on each line, as it is written; a line that is none is a bad record. Blank lines are left out."""
    lines_before = 0
    with open_file() as file:
        for block in read_blocks(file):
            raws, bad = _objects(block, lines_before)
            lines_before += block.count(b"\n")
            if raws:
                yield JsonBatch(raws, np.full(len(raws), emitted_at(), np.int64), sum(map(len, raws)))
            yield from bad


def _objects(block: bytes, lines_before: int) -> tuple[Sequence[bytes], list[BadRecord]]:
    """The objects of a block of lines; line by line only where something in it is wrong."""
    try:
        raws = _lines.decode_lines(block)
        if is_utf8(block) and are_single_line_objects(raws):
            return raws, []
    except (msgspec.DecodeError, RecursionError):
        pass
    good: list[bytes] = []
    bad: list[BadRecord] = []
    for number, line in enumerate(map(bytes.strip, block.split(b"\n")), lines_before + 1):
        if not line:
            continue
        if reason := _why_no_object(line):
            bad.append(BadRecord(None, line, reason, number))
        else:
            good.append(line if b"\r" not in line else msgspec.json.format(line, indent=-1))
    return good, bad


def _why_no_object(line: bytes) -> str | None:
    if not is_utf8(line):
        return "it is not valid UTF-8"
    try:
        _lines.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        return describe_json_error(line, error)
    return None if line.startswith(b"{") else "it is not a JSON object"


def read_csv(
    open_file: Open, emitted_at: EmittedAt, *, delimiter: str = ",", encoding: str = "utf8"
) -> Iterator[ArrowBatch | BadRecord]:
    """Rows under a header line, every cell a text; an empty cell is null, and an empty text where it is quoted.

    A row with too many or too few cells is a bad record.
    """
    names = _header(open_file, delimiter, encoding)
    if not names:
        return
    bad: list[BadRecord] = []
    lines = _CsvLines(open_file, delimiter, encoding)

    def refuse(row: Any) -> str:
        reason = f"it has {amount(row.actual_columns, 'cell')}, and the header has {row.expected_columns}"
        bad.append(BadRecord(None, (row.text or "").encode(), reason, lines.of_row(row.number)))
        return "skip"

    with open_file() as file:
        reader = pyarrow.csv.open_csv(
            file,
            read_options=pyarrow.csv.ReadOptions(use_threads=False, encoding=encoding, block_size=1 << 20),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=refuse
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        for batch in reader:
            yield from arrow_batches(batch, emitted_at=emitted_at)
            yield from bad
            bad.clear()
    yield from bad


class _CsvLines:
    """On which line a row begins: its number alone does not tell, since cells may hold line breaks. The file is read
    once more for it, as far as it must be."""

    def __init__(self, open_file: Open, delimiter: str, encoding: str) -> None:
        self._open_file = open_file
        self._delimiter = delimiter
        self._encoding = encoding
        self._reader: Any = None
        self._row = 0
        self._line = 0

    def of_row(self, number: int | None) -> int | None:
        """The line of the row of this number, counted from 1 with the header; of rising numbers."""
        if number is None:
            return None
        if self._reader is None:
            text = TextIOWrapper(self._open_file(), encoding=self._encoding, newline="")
            self._reader = csv.reader(text, delimiter=self._delimiter)
        while self._row < number:
            before = self._reader.line_num
            if (cells := next(self._reader, None)) is None:
                return None
            if cells:
                self._row, self._line = self._row + 1, before + 1
        return self._line


def _header(open_file: Open, delimiter: str, encoding: str) -> list[str]:
    """The names of the columns; none for an empty file. Raises SourceError for a name that stands there twice."""
    with open_file() as file:
        text = TextIOWrapper(file, encoding="utf-8-sig" if encoding == "utf8" else encoding, newline="")
        names = next(csv.reader(text, delimiter=delimiter), [])
        text.detach()
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise SourceError(f"The header names the column {sorted(twice)[0]!r} more than once.")
    return names


def read_parquet(open_file: Open, emitted_at: EmittedAt) -> Iterator[ArrowBatch]:
    """The rows, a part of a row group at a time."""
    with open_file() as file:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(_ROWS_AT_ONCE):
            yield from arrow_batches(batch, emitted_at=emitted_at)


def read_avro(open_file: Open, emitted_at: EmittedAt) -> Iterator[Batch]:
    """The records of an object container file, logical types as Python values."""
    with open_file() as file:
        yield from batches(fastavro.reader(file), emitted_at=emitted_at)


FileFormat = Literal["jsonl", "csv", "parquet", "avro"]
_ENDINGS: dict[str, FileFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".avro": "avro",
}
_COMPRESSIONS = (".gz", ".bz2", ".zst", ".lz4")


class FoundFile(NamedTuple):
    """A file that a pattern matches. `caught` is what stands in the places of the pattern's placeholders, by their
    names (`partition_key`, `partition_key.region`)."""

    path: str
    size: int
    modified_at: datetime | None
    caught: Mapping[str, str]

    @property
    def partition(self) -> str | None:
        """What stands in the place of `{{ partition_key }}`."""
        return self.caught.get("partition_key")


@dataclass(frozen=True, slots=True)
class FileSource:
    """The records of all files that match a pattern, in the order of their paths.

    `path` is a pattern (`*` and `?` within a name, `**` over directories but not over links to them, `[…]`), absolute,
    relative to the working directory, or an address that pyarrow knows (`s3://bucket/inbox/*.csv`). It may name the
    partition (`inbox/{{ partition_key }}/*.csv`, see `partition_values`). `format` is told by the endings unless it is
    given; text formats may be compressed (.gz, .bz2, .zst, .lz4). `delimiter` and `encoding` are of CSV files.
    `filesystem` is a `pyarrow.fs.FileSystem` that `path` belongs to. Without `allow_missing`, a read that finds no file
    is an error.
    """

    path: str = field(repr=False)
    format: FileFormat | None = None
    _: KW_ONLY
    delimiter: str | None = None
    encoding: str = "utf8"
    filesystem: pyarrow.fs.FileSystem | None = field(default=None, repr=False)
    allow_missing: bool = False

    run_placeholders: ClassVar[Mapping[str, Sequence[str]]] = {"path": (*PARTITION_VALUES, *STREAM_VALUES)}
    asset_kinds: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        for setting in ("path", "format", "delimiter", "encoding"):
            refuse_variables(setting, getattr(self, setting))
        if self.format is not None and self.format not in get_args(FileFormat):
            known = ", ".join(get_args(FileFormat))
            raise SettingsError(f"The file format {self.format!r} is not known. Known are {known}.", setting="format")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise SettingsError(f"delimiter is {self.delimiter!r}; it is one character.", setting="delimiter")
        if not self.path:
            raise SettingsError("A file source needs a path; it is empty.", setting="path")

    def names(self) -> tuple[str, ...]:
        """The values that the path names, as `partition_key` or `partition_key.region`. SettingsError where what it has
        in braces cannot be understood."""
        return names_in(self.path)

    def read(
        self, values: Values | None = None, *, emitted_at: EmittedAt = lambda: int(time.time() * 1000)
    ) -> Iterator[Batch | BadRecord]:
        """Yield the records of the files, a batch at a time; a line or row that is none as a bad record.

        `values` are what the path's placeholders stand for. Raises SettingsError for one that is not among them, and
        SourceError where a file cannot be read, or none is there.
        """
        filesystem, found = self._found(values or {})
        if not found and not self.allow_missing:
            raise SourceError(
                f"No file matches {self._told(values)}. Set allow_missing if that is no error: then a full refresh "
                "without a file empties the stream."
            )
        for file in found:
            yield from self._records(filesystem, file.path, emitted_at)

    # ------------------------------------------------------------------ the methods of every `Source`

    @property
    def separates_streams(self) -> bool:
        """Whether the path names the stream."""
        return "stream_name" in self.names()

    def stream_names(self) -> Sequence[str]:
        """Raises SettingsError: files do not say which stream they are."""
        raise SettingsError("Files do not tell which stream they are: name it in streams.", setting="streams")

    def describe_stream(self, settings: StreamSettings) -> Stream:
        """The stream of the settings, since files know nothing about their stream."""
        return settings.stream()

    def asset_function(self, stream: Stream, over_slices: OverSlices) -> Callable[..., Any]:
        """A function that reads the files of each slice."""
        return over_slices(lambda part: self.read({**stream_values(stream), **(part.values or {})}))

    def as_multi_stream(self) -> None:
        """None: one read gives the records of one stream."""

    def find(self) -> list[FoundFile]:
        """The files that are there now, of all partitions, by path. SettingsError where the path says what to put in
        its place otherwise than by a plain name, which cannot be read out of the paths of files."""
        self.check_findable()
        return self._found(None)[1]

    def check_findable(self) -> None:
        """Returns when `find` can tell the partition of a file: the path names values plainly, if it names any."""
        plain = path_pattern(self.path, catching=True).names
        if is_template(self.path) and (set(plain) != set(self.names()) or "{%" in self.path):
            raise SettingsError(
                "The partition of a file can only be read out of a path that names it plainly, as {{ partition_key }} "
                "or {{ partition_key.region }}; this one has a filter, a method or a block.",
                setting="path",
            )

    def _records(
        self, filesystem: pyarrow.fs.FileSystem, path: str, emitted_at: EmittedAt
    ) -> Iterator[Batch | BadRecord]:
        kind, is_text = self._format_of(path)

        def open_file() -> BinaryIO:
            opened = filesystem.open_input_stream(path, compression="detect") if is_text else None
            return cast(BinaryIO, opened or filesystem.open_input_file(path))

        rows = 0
        try:
            for item in self._items(kind, PurePosixPath(path), open_file, emitted_at):
                rows += 1 if isinstance(item, BadRecord) else item.num_rows
                yield replace(item, file=path) if isinstance(item, BadRecord) else item
        except S3DestError as error:
            raise type(error)(f"{path}: {error.message}", key=path, setting=error.setting) from error
        # Whatever the libraries that read the format raise on what is none.
        except Exception as error:
            after = f", after {rows:,} records of it" if rows else ""
            raise SourceError(f"The file {path} cannot be read{after}: {error}", key=path) from error

    def _items(
        self, kind: FileFormat, path: PurePosixPath, open_file: Callable[[], BinaryIO], emitted_at: EmittedAt
    ) -> Iterator[Batch | BadRecord]:
        if kind == "jsonl":
            yield from read_jsonl(open_file, emitted_at)
        elif kind == "csv":
            delimiter = self.delimiter or ("\t" if ".tsv" in path.suffixes else ",")
            yield from read_csv(open_file, emitted_at, delimiter=delimiter, encoding=self.encoding)
        else:
            yield from (read_parquet if kind == "parquet" else read_avro)(open_file, emitted_at)

    def _format_of(self, path: str) -> tuple[FileFormat, bool]:
        """The file's format, and whether it is text, which may be compressed."""
        suffixes = [each.lower() for each in PurePosixPath(path).suffixes]
        ending = next((each for each in reversed(suffixes) if each not in _COMPRESSIONS), "")
        kind = self.format or _ENDINGS.get(ending)
        if kind is None:
            raise SettingsError(
                f"The ending of {path} does not tell its format. Give it as format: jsonl, csv, parquet or avro.",
                setting="format",
                key=path,
            )
        return kind, kind in ("jsonl", "csv")

    def _found(self, values: Values | None) -> tuple[pyarrow.fs.FileSystem, list[FoundFile]]:
        """The files of one partition, or of all where there are no values, and where they lie."""
        path, question, query = self.path.partition("?") if "://" in self.path else (self.path, "", "")
        if values is not None:
            path = render_text(path, "path", values, escape=self._placed)
        pattern = path_pattern(path, catching=values is None)
        filesystem, directory = self._directory(f"{pattern.directory}{question}{query}")
        try:
            found = [
                FoundFile(info.path, info.size or 0, info.mtime, match.caught)
                for info, match in _matching(filesystem, directory, pattern)
                if info.type is pyarrow.fs.FileType.File
            ]
        except OSError as error:
            told = _without_keys(f"The files of {self.path} cannot be listed: {error}")
            raise SourceError(told, key=directory) from error
        return filesystem, sorted(found, key=lambda each: each.path)

    def _directory(self, address: str) -> tuple[pyarrow.fs.FileSystem, str]:
        """The file system, and the directory as it calls it."""
        if self.filesystem is not None:
            return self.filesystem, address.rstrip("/")
        if "://" not in address:
            return pyarrow.fs.LocalFileSystem(), os.path.abspath(address or ".")
        try:
            filesystem, directory = pyarrow.fs.FileSystem.from_uri(address)
        except (ValueError, OSError) as error:
            told = _without_keys(f"pyarrow knows no file system for {address}: {error}")
            raise SettingsError(told, setting="path") from None
        return filesystem, directory.rstrip("/")

    def _placed(self, text: str) -> str:
        """A value as it stands in the pattern: no wildcard, and nothing that leads elsewhere."""
        if {"..", "."} & set(text.split("/")) or "\0" in text or not is_unicode(text):
            told = _without_keys(f"A value in it is {text!r}, which is no place for files of {self.path}.")
            raise SettingsError(told, setting="path")
        return as_it_is(text)

    def _told(self, values: Values | None) -> str:
        names = self.names()
        named = [f"{name} {value!r}" for name, value in (values or {}).items() if name in names]
        return _without_keys(f"{self.path} ({', '.join(named)})" if named else self.path)


def _matching(
    filesystem: pyarrow.fs.FileSystem, directory: str, pattern: PathPattern
) -> Iterator[tuple[pyarrow.fs.FileInfo, Match]]:
    """What lies where the pattern looks, and how it matches."""
    if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        for path, match in matching_files(directory, pattern):
            yield filesystem.get_file_info(path), match
        return
    selector = pyarrow.fs.FileSelector(directory, recursive=pattern.is_deep, allow_not_found=True)
    for info in filesystem.get_file_info(selector):
        if (found := pattern.match(info.path[len(directory) :].lstrip("/"))) is not None:
            yield info, found


def _without_keys(address: str) -> str:
    """The address without the identity that may stand in it."""
    return re.sub(r"//[^/@\s]*@", "//…@", address)
