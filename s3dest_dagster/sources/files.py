"""Files of records, on disk or in any store that pyarrow knows: JSON Lines, CSV, Parquet and Avro.

Types are not guessed. CSV cells are texts, and the stream's JSON schema determines their types. JSON Lines records keep
the text that is in the file. `_FORMATS`, after the readers, lists the formats.
Must not know: Dagster, or what becomes of the records.
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

from s3dest_dagster.batch import ArrowBatch, BadRecord, Batch, FiniteRecord, JsonBatch
from s3dest_dagster.columns.non_finite import field_of, finite_text
from s3dest_dagster.errors import S3DestError, SettingsError, SourceError
from s3dest_dagster.printable import amount
from s3dest_dagster.settings.fields import refuse_variables
from s3dest_dagster.sources import OverSlices, RequestedStream
from s3dest_dagster.sources.airbyte.protocol import are_single_line_objects, is_utf8
from s3dest_dagster.sources.lines import describe_json_error, read_blocks
from s3dest_dagster.sources.path_patterns import escape_wildcards, matching_files, parse_pattern
from s3dest_dagster.sources.python import arrow_batches, batches_and_bad_records
from s3dest_dagster.sources.templating import (
    PARTITION_VALUES,
    STREAM_VALUES,
    Values,
    is_template,
    placeholder_names,
    render_text,
    stream_values,
    with_stream,
)
from s3dest_dagster.stream import Stream, is_unicode

EmittedAt = Callable[[], int]
"""Returns milliseconds since 1970."""

FileFormat = Literal["jsonl", "csv", "parquet", "avro"]
"""The names of the formats in `_FORMATS`."""


class FoundFile(NamedTuple):
    """A file that a pattern matches."""

    path: str
    size: int
    modified_at: datetime | None
    captured: Mapping[str, str]
    """The text that each placeholder of the pattern matched (`partition_key`, `partition_key.region`)."""

    @property
    def partition(self) -> str | None:
        """The text that `{{ partition_key }}` matched."""
        return self.captured.get("partition_key")


@dataclass(frozen=True, slots=True)
class FileSource:
    """The records of all files that match a pattern, in the order of their paths.

    FileSource("inbox/{{ partition_key }}/*.csv", delimiter=";")
    """

    path: str = field(repr=False)
    """A pattern: `*` and `?` within a name, `**` across directories (but not through links to them), and `[…]`. It is
    absolute, relative to the working directory, or an address that pyarrow knows (`s3://bucket/inbox/*.csv`). It may
    name the partition (`inbox/{{ partition_key }}/*.csv`, see `templating.partition_values`)."""
    format: FileFormat | None = None
    """The format. None: the extension of each file determines it. Text formats may be compressed (.gz, .bz2, .zst,
    .lz4)."""
    _: KW_ONLY
    delimiter: str | None = None
    """The delimiter of CSV files. None: a tab for `.tsv`, otherwise a comma."""
    encoding: str = "utf8"
    """The encoding of CSV files."""
    filesystem: pyarrow.fs.FileSystem | None = field(default=None, repr=False)
    """The file system that `path` belongs to. None: the local one, or the one that the address names."""
    allow_missing: bool = False
    """Whether a read that finds no file returns no records. If False, it raises an error."""

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
        """The placeholders of the path, such as `partition_key` or `partition_key.region`.

        Raises SettingsError if something in its braces cannot be understood.
        """
        return placeholder_names(self.path)

    def read(
        self, values: Values | None = None, *, emitted_at: EmittedAt = lambda: int(time.time() * 1000)
    ) -> Iterator[Batch | BadRecord]:
        """Yields the records of the files, one batch at a time. A line or row that is not a record becomes a
        `BadRecord`.

        Args:
            values: The values of the path's placeholders.
            emitted_at: Returns the time at which a batch was read.

        Raises:
            SettingsError: for a placeholder that has no value.
            SourceError: if a file cannot be read, or if there is no file.
        """
        filesystem, files = self._list_files(values or {})
        if not files and not self.allow_missing:
            raise SourceError(
                f"No file matches {self._describe_path(values)}. Set allow_missing if that is no error: then a full "
                "refresh without a file empties the stream."
            )
        for file in files:
            yield from self._read_file(filesystem, file.path, emitted_at)

    def find(self) -> list[FoundFile]:
        """The existing files of all partitions, sorted by path. Raises SettingsError as `check_findable` does."""
        self.check_findable()
        return self._list_files(None)[1]

    def check_findable(self) -> None:
        """Raises SettingsError unless the partition of a file can be derived from its path.

        This requires a path with plain names only, because the result of a filter or a block cannot be reversed.
        """
        captured_names = parse_pattern(self.path, capture=True).names
        if is_template(self.path) and (set(captured_names) != set(self.names()) or "{%" in self.path):
            raise SettingsError(
                "The partition of a file can only be read out of a path that names it plainly, as {{ partition_key }} "
                "or {{ partition_key.region }}; this one has a filter, a method or a block.",
                setting="path",
            )

    def of_stream(self, stream: Stream) -> FileSource:
        """This source with the stream's name and namespace in its path. Placeholders of the partition stay."""
        return replace(self, path=with_stream(self.path, "path", stream, escape=self._escape_value))

    # ------------------------------------------------------------------ the methods of every `Source`

    @property
    def separates_streams(self) -> bool:
        """Whether the path names the stream."""
        return "stream_name" in self.names()

    def stream_names(self) -> Sequence[str]:
        """Raises SettingsError: files do not say which stream they are."""
        raise SettingsError("Files do not say which stream they are: name it in streams.", setting="streams")

    def describe_stream(self, requested: RequestedStream) -> Stream:
        """The stream that is asked for, since files know nothing about their stream."""
        return requested.stream()

    def asset_function(self, stream: Stream, over_slices: OverSlices) -> Callable[..., Any]:
        """A function that reads the files of each slice."""
        return over_slices(lambda part: self.read({**stream_values(stream), **(part.values or {})}))

    def as_multi_stream(self) -> None:
        """None: one read returns the records of one stream."""

    # ------------------------------------------------------------------ the files

    def _read_file(
        self, filesystem: pyarrow.fs.FileSystem, path: str, emitted_at: EmittedAt
    ) -> Iterator[Batch | BadRecord]:
        form = _FORMATS[self._format_of(path)]
        options = _CsvOptions(
            self.delimiter or ("\t" if ".tsv" in PurePosixPath(path).suffixes else ","), self.encoding
        )

        def open_file() -> BinaryIO:
            opened = filesystem.open_input_stream(path, compression="detect") if form.is_text else None
            return cast(BinaryIO, opened or filesystem.open_input_file(path))

        rows = 0
        try:
            for item in form.read(open_file, emitted_at, options):
                rows += 1 if isinstance(item, BadRecord) else item.num_rows
                yield replace(item, file=path) if isinstance(item, BadRecord) else item
        except S3DestError as error:
            raise type(error)(f"{path}: {error.message}", key=path, setting=error.setting) from error
        # The libraries that read a format raise errors of any class.
        except Exception as error:
            after = f", after {rows:,} records of it" if rows else ""
            raise SourceError(f"The file {path} cannot be read{after}: {error}", key=path) from error

    def _format_of(self, path: str) -> FileFormat:
        suffixes = [suffix.lower() for suffix in PurePosixPath(path).suffixes]
        ending = next((suffix for suffix in reversed(suffixes) if suffix not in _COMPRESSIONS), "")
        name = self.format or next((name for name, form in _FORMATS.items() if ending in form.endings), None)
        if name is None:
            raise SettingsError(
                f"The ending of {path} does not tell its format. Give it as format: jsonl, csv, parquet or avro.",
                setting="format",
                key=path,
            )
        return name

    def _list_files(self, values: Values | None) -> tuple[pyarrow.fs.FileSystem, list[FoundFile]]:
        """The file system, and the files of one partition or, if there are no values, of all partitions."""
        path, mark, query = self.path.partition("?") if "://" in self.path else (self.path, "", "")
        if values is not None:
            path = render_text(path, "path", values, escape=self._escape_value)
        pattern = parse_pattern(path, capture=values is None)
        filesystem, directory = self._open_directory(f"{pattern.directory}{mark}{query}")
        try:
            files = [
                FoundFile(info.path, info.size or 0, info.mtime, match.captured)
                for info, match in matching_files(filesystem, directory, pattern)
            ]
        except OSError as error:
            text = _hide_credentials(f"The files of {self.path} cannot be listed: {error}")
            raise SourceError(text, key=directory) from error
        return filesystem, sorted(files, key=lambda file: file.path)

    def _open_directory(self, address: str) -> tuple[pyarrow.fs.FileSystem, str]:
        """The file system of the address, and the directory under its name in that file system."""
        if self.filesystem is not None:
            return self.filesystem, address.rstrip("/")
        if "://" not in address:
            return pyarrow.fs.LocalFileSystem(), os.path.abspath(address or ".")
        try:
            filesystem, directory = pyarrow.fs.FileSystem.from_uri(address)
        except (ValueError, OSError) as error:
            text = _hide_credentials(f"pyarrow knows no file system for {address}: {error}")
            raise SettingsError(text, setting="path") from None
        return filesystem, directory.rstrip("/")

    def _escape_value(self, text: str) -> str:
        """Escapes a placeholder's value for use in the pattern. Raises SettingsError if it would lead to another
        directory."""
        if {"..", "."} & set(text.split("/")) or "\0" in text or not is_unicode(text):
            message = _hide_credentials(f"A value in it is {text!r}, which is no place for files of {self.path}.")
            raise SettingsError(message, setting="path")
        return escape_wildcards(text)

    def _describe_path(self, values: Values | None) -> str:
        names = self.names()
        described = [f"{name} {value!r}" for name, value in (values or {}).items() if name in names]
        return _hide_credentials(f"{self.path} ({', '.join(described)})" if described else self.path)


def _hide_credentials(address: str) -> str:
    """The address without a user and password."""
    return re.sub(r"//[^/@\s]*@", "//…@", address)


# ---------------------------------------------------------------------- the readers of the formats

_OpenFile = Callable[[], BinaryIO]
"""Opens the file at its beginning."""

_PARQUET_BATCH_ROWS = 10_000
_json_lines = msgspec.json.Decoder(msgspec.Raw)


class _CsvOptions(NamedTuple):
    delimiter: str
    encoding: str


def _read_jsonl(open_file: _OpenFile, emitted_at: EmittedAt, _: _CsvOptions) -> Iterator[JsonBatch | BadRecord]:
    with open_file() as file:
        yield from read_json_lines(file, emitted_at)


def read_json_lines(file: BinaryIO, emitted_at: EmittedAt) -> Iterator[JsonBatch | BadRecord]:
    """Yields the objects of a file of JSON Lines, one per line, as they are in the file. Skips blank lines."""
    lines_before = 0
    for block in read_blocks(file):
        raws, bad_records = _parse_objects(block, lines_before, emitted_at)
        lines_before += block.count(b"\n")
        if raws:
            yield JsonBatch(raws, np.full(len(raws), emitted_at(), np.int64), sum(map(len, raws)))
        yield from bad_records


def _parse_objects(block: bytes, lines_before: int, emitted_at: EmittedAt) -> tuple[Sequence[bytes], list[BadRecord]]:
    """The objects of a block of lines. It is parsed line by line only if something in it is wrong."""
    try:
        raws = _json_lines.decode_lines(block)
        if is_utf8(block) and are_single_line_objects(raws):
            return raws, []
    except (msgspec.DecodeError, RecursionError):
        pass
    good: list[bytes] = []
    bad: list[BadRecord] = []
    for number, line in enumerate(map(bytes.strip, block.split(b"\n")), lines_before + 1):
        if not line:
            continue
        if reason := _why_not_an_object(line):
            bad.append(BadRecord(None, line, reason, number, finite=_finite_object(line, emitted_at)))
        else:
            good.append(line if b"\r" not in line else msgspec.json.format(line, indent=-1))
    return good, bad


def _finite_object(line: bytes, emitted_at: EmittedAt) -> FiniteRecord | None:
    """The object of a line without its NaN and infinite numbers; None if anything else is wrong with the line."""
    text, paths = finite_text(line)
    if not paths or _why_not_an_object(text):
        return None
    return FiniteRecord(msgspec.json.format(text, indent=-1), emitted_at(), tuple(map(field_of, paths)))


def _why_not_an_object(line: bytes) -> str | None:
    if not is_utf8(line):
        return "it is not valid UTF-8"
    try:
        _json_lines.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        return describe_json_error(line, error)
    return None if line.startswith(b"{") else "it is not a JSON object"


def _read_csv(open_file: _OpenFile, emitted_at: EmittedAt, options: _CsvOptions) -> Iterator[ArrowBatch | BadRecord]:
    """Yields the rows below a header line. Every cell is a text. An empty cell is null or, if it is quoted, an empty
    text.

    A row with too many or too few cells is a bad record.
    """
    names = _read_header(open_file, options)
    if not names:
        return
    bad_records: list[BadRecord] = []
    row_lines = _RowLines(open_file, options)

    def skip_row(row: Any) -> str:
        reason = f"it has {amount(row.actual_columns, 'cell')}, and the header has {row.expected_columns}"
        bad_records.append(BadRecord(None, (row.text or "").encode(), reason, row_lines.line_of(row.number)))
        return "skip"

    with open_file() as file:
        reader = pyarrow.csv.open_csv(
            file,
            read_options=pyarrow.csv.ReadOptions(use_threads=False, encoding=options.encoding, block_size=1 << 20),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=options.delimiter, newlines_in_values=True, invalid_row_handler=skip_row
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
            yield from bad_records
            bad_records.clear()
    yield from bad_records


class _RowLines:
    """Finds the line of a CSV file on which a row begins.

    The row's number is not enough, because cells may contain line breaks. The file is therefore read a second time, as
    far as needed.
    """

    def __init__(self, open_file: _OpenFile, options: _CsvOptions) -> None:
        self._open_file = open_file
        self._options = options
        self._reader: Any = None
        self._row = 0
        self._line = 0

    def line_of(self, row: int | None) -> int | None:
        """The line of a row. Rows are counted from 1, including the header, and must be requested in ascending
        order."""
        if row is None:
            return None
        if self._reader is None:
            text = TextIOWrapper(self._open_file(), encoding=self._options.encoding, newline="")
            self._reader = csv.reader(text, delimiter=self._options.delimiter)
        while self._row < row:
            before = self._reader.line_num
            if (cells := next(self._reader, None)) is None:
                return None
            if cells:
                self._row, self._line = self._row + 1, before + 1
        return self._line


def _read_header(open_file: _OpenFile, options: _CsvOptions) -> list[str]:
    """The names of the columns. Empty for an empty file. Raises SourceError for a name that occurs twice."""
    with open_file() as file:
        encoding = "utf-8-sig" if options.encoding == "utf8" else options.encoding
        text = TextIOWrapper(file, encoding=encoding, newline="")
        names = next(csv.reader(text, delimiter=options.delimiter), [])
        text.detach()
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise SourceError(f"The header names the column {sorted(repeated)[0]!r} more than once.")
    return names


def _read_parquet(open_file: _OpenFile, emitted_at: EmittedAt, _: _CsvOptions) -> Iterator[ArrowBatch]:
    """Yields the rows, a part of a row group at a time."""
    with open_file() as file:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(_PARQUET_BATCH_ROWS):
            yield from arrow_batches(batch, emitted_at=emitted_at)


def _read_avro(open_file: _OpenFile, emitted_at: EmittedAt, _: _CsvOptions) -> Iterator[Batch | BadRecord]:
    """Yields the records of an object container file, with logical types as Python values."""
    with open_file() as file:
        yield from batches_and_bad_records(fastavro.reader(file), emitted_at=emitted_at)


class _Format(NamedTuple):
    endings: tuple[str, ...]
    is_text: bool
    """Whether the whole file may be compressed."""
    read: Callable[[_OpenFile, EmittedAt, _CsvOptions], Iterator[Batch | BadRecord]]


_FORMATS: Mapping[FileFormat, _Format] = {
    "jsonl": _Format((".jsonl", ".ndjson", ".json"), True, _read_jsonl),
    "csv": _Format((".csv", ".tsv"), True, _read_csv),
    "parquet": _Format((".parquet",), False, _read_parquet),
    "avro": _Format((".avro",), False, _read_avro),
}
_COMPRESSIONS = (".gz", ".bz2", ".zst", ".lz4")
