"""The settings of every format that objects can have, and the table of formats.

To add a format, write its settings class here, name it in `__all__` and in `FORMATS`, and implement it in a module of
`formats/`. Names, defaults and ranges are the connector's (specification 0.6.2). Our own settings come after those.
Must not know: S3, Dagster, a file format's library.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Literal

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.fields import allowed_spelling, check_settings, documented, refuse_variables, setting

__all__ = ["AvroFormat", "CsvFormat", "JsonlFormat", "ParquetFormat"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatSettings:
    """The base of the settings classes of all formats.

    A setting whose name in the connector's `format` object has two parts, such as `"compression.compression_type"`, is
    in an inner object there. The first setting of such an object determines which other settings belong to it.
    """

    format_type: ClassVar[str]
    """The format's name in `config.json` and in run configs. It is case-insensitive."""
    title: ClassVar[str]
    """The connector's name for the format in a form."""
    is_typed: ClassVar[bool] = True
    """Whether the columns have the types that the schema declares. If not, they hold text."""
    allows_any_name: ClassVar[bool] = True
    """Whether a column can have any name."""
    has_metadata: ClassVar[bool] = True
    """Whether an object has a place for data besides the records."""
    required_in_config: ClassVar[tuple[str, ...]] = ()
    """Names that the connector's specification requires. They may still be left out."""

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def extension(self) -> str:
        """The end of the objects' keys, with the leading dot."""
        return f".{self.format_type.lower()}"

    @property
    def kind(self) -> str:
        """The word for this format in data catalogs, in lower case."""
        return self.format_type.lower()

    @classmethod
    def extensions(cls) -> tuple[str, ...]:
        """Every extension that objects of this format can have."""
        return (f".{cls.format_type.lower()}",)

    @classmethod
    def options_beside(cls, choice: str) -> Mapping[str, Mapping[str, Any]]:
        """The settings in the same object as this choice, with additional JSON schema for them."""
        return {}


# ---------------------------------------------------------------------- text


class Flattening(StrEnum):
    """Whether the fields of a record become separate columns."""

    NONE = "No flattening"
    ROOT = "Root level flattening"


class TextCompression(StrEnum):
    """Compression of a whole CSV or JSON Lines object."""

    NONE = "No Compression"
    GZIP = "GZIP"


_COMPRESSED_EXTENSIONS = {TextCompression.NONE: "", TextCompression.GZIP: ".gz"}
GzipEffort = Literal["fast", "balanced", "small"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFormat(FormatSettings):
    """The settings that all formats of lines share."""

    is_typed: ClassVar[bool] = False
    has_metadata: ClassVar[bool] = False

    flattening: Flattening = setting(
        "Whether the fields of a record become separate columns.",
        default=Flattening.NONE,
        connector="flattening",
    )
    compression: TextCompression = setting(
        '`"GZIP"` or `"No Compression"`. With `"GZIP"` the keys end with `.gz`. In `config.json` it is an object: '
        '`{"compression_type": "GZIP"}`.',
        default=TextCompression.GZIP,
        connector="compression.compression_type",
    )
    gzip_effort: GzipEffort = setting(
        'Effort of GZIP. `"fast"` and `"balanced"` cost about the same. `"small"` makes objects at most as large as '
        "zlib's level 6, at about five times the cost.",
        default="balanced",
    )

    @property
    def extension(self) -> str:
        """The end of the objects' keys, with the leading dot."""
        return f".{self.format_type.lower()}{_COMPRESSED_EXTENSIONS[self.compression]}"

    @classmethod
    def extensions(cls) -> tuple[str, ...]:
        """Every extension that objects of this format can have."""
        return tuple(f".{cls.format_type.lower()}{ending}" for ending in _COMPRESSED_EXTENSIONS.values())


CsvQuoting = Literal["strings", "minimal", "nonnumeric", "all"]
_NOT_DELIMITERS = re.compile(r'[A-Za-z0-9+.\-"\r\n\0]')
"""Characters of numbers, of booleans and of quoting."""


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFormat(TextFormat):
    """Comma-separated values, as RFC 4180 defines them."""

    format_type: ClassVar[str] = "CSV"
    title: ClassVar[str] = "CSV: Comma-Separated Values"
    required_in_config: ClassVar[tuple[str, ...]] = ("flattening",)

    flattening: Flattening = setting(
        'One column with the record as JSON, or with `"Root level flattening"` one column per root field.',
        default=Flattening.NONE,
        connector="flattening",
    )
    additional_properties_column: bool = setting(
        "Whether the last column keeps undeclared fields as JSON. It needs flattening.",
        default=False,
    )
    column_order: Literal["source", "sorted"] = setting(
        'Flattened: the columns are in the order of the schema, new ones last; `"sorted"` sorts them by their UTF-16 '
        'code units, as the connector does. The default in a connector\'s `config.json` is `"sorted"`.',
        default="source",
        connector_default="sorted",
    )
    delimiter: str = setting(
        "The character between two cells, in ASCII: no letter, digit, quote, line break, `+`, `-` or `.`.",
        default=",",
    )
    quoting: CsvQuoting = setting(
        'Which cells are quoted: `"strings"` (texts and JSON), `"minimal"` (only those that could be mistaken without '
        'quotes), `"nonnumeric"` (all but numbers) or `"all"`. Nulls are never quoted.',
        default="strings",
    )
    null_text: str = setting(
        "The cell of a null or missing value, without quotes. Not a number, `true` or `false`, and not with quoting "
        '`"nonnumeric"`.',
        default="",
    )
    header: bool = setting("Whether every object begins with the names of its columns.", default=True)

    def __post_init__(self) -> None:
        check_settings(self)
        _check_delimiter(self.delimiter)
        _check_null_text(self)
        if self.additional_properties_column and self.flattening is Flattening.NONE:
            raise SettingsError(
                "additional_properties_column has no meaning without flattening: the data column keeps every field. "
                "Set flattening to 'Root level flattening', or leave additional_properties_column out.",
                setting="additional_properties_column",
            )


def _check_delimiter(delimiter: str) -> None:
    if len(delimiter) != 1 or not delimiter.isascii():
        problem = "It must be one ASCII character, since most readers accept nothing else"
    elif _NOT_DELIMITERS.match(delimiter):
        problem = (
            "Numbers, booleans, quotes or line breaks contain this character, so that cells could not be distinguished"
        )
    else:
        return
    raise SettingsError(
        f"delimiter is {delimiter!r}. {problem}. Use for example ';', '|' or a tab.", setting="delimiter"
    )


def _check_null_text(settings: CsvFormat) -> None:
    """Refuses a text for null that another value's cell could equal, or that does not stay one cell."""
    text, problem = settings.null_text, ""
    if not text:
        return
    if '"' in text or settings.delimiter in text or not text.isprintable():
        problem = "It contains a quote, the delimiter or a character that is not printed, and would not stay one cell"
    elif text != text.strip():
        problem = "It begins or ends with a blank, which many readers remove"
    elif _is_value(text):
        problem = "A number or a boolean has the same cell"
    elif settings.quoting == "nonnumeric":
        problem = "With quoting 'nonnumeric', every cell without quotes is a number, and null is an empty cell"
    if problem:
        raise SettingsError(
            f"null_text is {text!r}. {problem}. Use for example 'NULL' or '\\N', or leave null_text out, which means "
            "an empty cell without quotes.",
            setting="null_text",
        )


def _is_value(text: str) -> bool:
    """Whether readers may take a text without quotes for a number or a boolean."""
    with suppress(ValueError):
        return math.isfinite(float(text))
    return text.casefold() in ("true", "false")


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class JsonlFormat(TextFormat):
    """JSON Lines: one JSON object per line."""

    format_type: ClassVar[str] = "JSONL"
    title: ClassVar[str] = "JSON Lines: Newline-delimited JSON"

    flattening: Flattening = setting(
        'The record under `_airbyte_data`, or with `"Root level flattening"` its fields next to the envelope. Without '
        "an envelope, a line is the record alone.",
        default=Flattening.NONE,
        connector="flattening",
    )
    emitted_at: Literal["text", "number"] = setting(
        '`_airbyte_emitted_at`, or `_airbyte_extracted_at`, as text; `"number"` as a number.',
        default="text",
    )

    @property
    def kind(self) -> str:
        """The word "json", since JSON Lines is a kind of JSON."""
        return "json"


# ---------------------------------------------------------------------- Avro

AvroCodecName = Literal["no compression", "Deflate", "bzip2", "xz", "zstandard", "snappy"]
_AVRO_LEVELS: dict[str, tuple[int, int, int]] = {"Deflate": (0, 9, 0), "xz": (0, 9, 6), "zstandard": (-5, 22, 3)}
"""The lowest, highest and default compression level of the codecs that have levels."""
_CHECKSUM_CODEC = "zstandard"


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class AvroFormat(FormatSettings):
    """Avro object container files."""

    format_type: ClassVar[str] = "Avro"
    title: ClassVar[str] = "Avro: Apache Avro"
    allows_any_name: ClassVar[bool] = False
    required_in_config: ClassVar[tuple[str, ...]] = ("compression_codec",)

    codec: AvroCodecName = setting(
        '`"no compression"`, `"Deflate"`, `"bzip2"`, `"xz"`, `"zstandard"` or `"snappy"`.',
        default="no compression",
        connector="compression_codec.codec",
    )
    compression_level: int | None = setting(
        "Deflate 0 to 9, xz 0 to 9, zstandard -5 to 22. `None`: 0, 6 and 3.",
        default=None,
        connector="compression_codec.compression_level",
    )
    include_checksum: bool = setting(
        "zstandard: whether every block has a checksum.",
        default=False,
        connector="compression_codec.include_checksum",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        levels = _AVRO_LEVELS.get(self.codec)
        if levels is not None:
            object.__setattr__(self, "compression_level", _checked_level(self.compression_level, *levels))
        elif self.compression_level is not None:
            raise SettingsError(
                f"Avro codec {self.codec!r} has no compression level; leave compression_level out.",
                setting="compression_level",
            )
        if self.include_checksum and self.codec != _CHECKSUM_CODEC:
            raise SettingsError(
                f"Avro codec {self.codec!r} has no checksum; include_checksum belongs to {_CHECKSUM_CODEC}.",
                setting="include_checksum",
            )

    @classmethod
    def options_beside(cls, choice: str) -> Mapping[str, Mapping[str, Any]]:
        options: dict[str, Mapping[str, Any]] = {}
        if choice in _AVRO_LEVELS:
            lowest, highest, default = _AVRO_LEVELS[choice]
            options["compression_level"] = {
                "title": "Deflate Level" if choice == "Deflate" else "Compression Level",
                "description": f"{lowest} is the fastest, {highest} makes the smallest objects.",
                "default": default,
                "minimum": lowest,
                "maximum": highest,
            }
        if choice == _CHECKSUM_CODEC:
            options["include_checksum"] = {}
        return options


def _checked_level(level: int | None, lowest: int, highest: int, default: int) -> int:
    if level is None:
        return default
    if not lowest <= level <= highest:
        raise SettingsError(
            f"Invalid compression level: {level}, expected an integer in range [{lowest}, {highest}]",
            setting="compression_level",
        )
    return level


# ---------------------------------------------------------------------- Parquet

ParquetCodec = Literal["UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD"]


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetFormat(FormatSettings):
    """Parquet files."""

    format_type: ClassVar[str] = "Parquet"
    title: ClassVar[str] = "Parquet: Columnar Storage"

    compression_codec: ParquetCodec = setting(
        '`"UNCOMPRESSED"`, `"SNAPPY"`, `"GZIP"`, `"LZO"`, `"BROTLI"`, `"LZ4"` or `"ZSTD"`.',
        default="UNCOMPRESSED",
        connector="compression_codec",
    )
    block_size_mb: int = setting(
        "Size of a row group in memory, in MB of 2²⁰. Every open object needs 1.75 times this size of `memory_mb`. If "
        "there is no room for that, row groups end early, and `s3dest plan` says so.",
        default=128,
        at_least=1,
        connector="block_size_mb",
    )
    max_padding_size_mb: int = setting(
        "Has no effect: S3 has no blocks to pad to. `s3dest plan` says so if it is not the default.",
        default=8,
        at_least=0,
        connector="max_padding_size_mb",
    )
    page_size_kb: int = setting(
        "Size of a data page, in KB of 2¹⁰.",
        default=1024,
        at_least=1,
        connector="page_size_kb",
    )
    dictionary_page_size_kb: int = setting(
        "Size at which a column's dictionary is abandoned, in KB of 2¹⁰.",
        default=1024,
        at_least=1,
        connector="dictionary_page_size_kb",
    )
    dictionary_encoding: bool = setting(
        "Whether columns whose values repeat begin with a dictionary.",
        default=True,
        connector="dictionary_encoding",
    )
    union_layout: Literal["named", "typed", "member"] = setting(
        'Members of fields of several types are named after the types; `"typed"` and `"member"` are the layouts of the '
        "connector's versions 1 and 0.",
        default="named",
    )
    field_ids: bool = setting(
        "Whether every field has an id, by which readers find it. Iceberg maps columns by name only in files without "
        "ids.",
        default=True,
    )


# ---------------------------------------------------------------------- the table

FORMATS: Mapping[type[FormatSettings], str] = {
    CsvFormat: "s3dest_dagster.formats.csv:Csv",
    JsonlFormat: "s3dest_dagster.formats.jsonl:Jsonl",
    AvroFormat: "s3dest_dagster.formats.avro:Avro",
    ParquetFormat: "s3dest_dagster.formats.parquet:Parquet",
}
"""Every format, and the class that implements it, which is imported on first use."""


def extensions() -> tuple[str, ...]:
    """Every extension that objects of any format can have."""
    return tuple(extension for each in FORMATS for extension in each.extensions())


def format_class(name: Any) -> type[FormatSettings]:
    """The settings class of the format with this case-insensitive name. Raises SettingsError if there is none."""
    refuse_variables("format", name)
    known = {each.format_type: each for each in FORMATS}
    return known[allowed_spelling("format", name, known)]


def format_named(name: Any) -> FormatSettings:
    """The format with this case-insensitive name, and with its defaults. Raises SettingsError if there is none."""
    return format_class(name)()


# ---------------------------------------------------------------------- types of columns

UnknownTypes = Literal["fail", "text"]
OpenObjects = Literal["map", "text"]
OpenLists = Literal["list", "text"]
NaiveMoments = Literal["utc", "keep"]
Decimals = Literal["exact", "connector"]
Parity = Literal["0.6", "1"]
"""Versions of the connector."""
EnvelopeName = Literal["airbyte_0", "airbyte_1", "none"]
"""The columns that every record has besides its own fields, named after the connector's eras."""


@dataclass(frozen=True, slots=True)
class TypeRules:
    """The rules for types that a JSON schema leaves open. The defaults are the connector's rules, but for decimals."""

    unknown_types: UnknownTypes = "text"
    """What happens to a field whose declared type is not known."""
    open_objects: OpenObjects = "map"
    """Whether an object without declared properties is a map of texts, or its JSON text."""
    open_lists: OpenLists = "list"
    """Whether an array without a declared type of items is a list of texts, or its JSON text."""
    naive_moments: NaiveMoments = "utc"
    """Whether a moment that is declared to have no zone is taken as UTC, or stays without a zone."""
    decimals: Decimals = "exact"
    """Whether `multipleOf` and `airbyte_type: big_number` declare decimals, or nothing, as in the connector."""
    envelope: EnvelopeName = "airbyte_0"
    """The columns before those of the record, whose names no field can have."""


CONNECTOR_TYPES = TypeRules()
