"""The settings of the formats that objects are written in.

Frozen values, checked when they are made; names, defaults and ranges are the connector's (specification 0.6.2), and
our own additions follow them. Must not know: S3, Dagster, a file format's library.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.fields import caseless, check_settings, documented, setting


class Flattening(StrEnum):
    """Whether the fields of a record become columns of their own."""

    NONE = "No flattening"
    ROOT = "Root level flattening"


class TextCompression(StrEnum):
    """Compression of a whole CSV or JSON Lines object."""

    NONE = "No Compression"
    GZIP = "GZIP"


GzipEffort = Literal["fast", "balanced", "small"]
_COMPRESSION = '`"GZIP"` or `"No Compression"`. In `config.json` it is an object: `{"compression_type": "GZIP"}`.'
_EFFORT = (
    'How hard GZIP tries. `"fast"` and `"balanced"` cost about the same. `"small"` makes objects at most as large as '
    "zlib's level 6 does, at about five times the cost."
)


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class JsonlFormat:
    """JSON Lines: one JSON object per line."""

    flattening: Flattening = setting(
        'The record under `_airbyte_data`, or with `"Root level flattening"` its fields beside the envelope.',
        default=Flattening.NONE,
        connector="flattening",
    )
    compression: TextCompression = setting(
        _COMPRESSION,
        default=TextCompression.GZIP,
        connector="compression",
    )
    gzip_effort: GzipEffort = setting(
        _EFFORT,
        default="balanced",
    )
    emitted_at: Literal["text", "number"] = setting(
        '`_airbyte_emitted_at` as text; `"number"` as a number.',
        default="text",
    )

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def extension(self) -> str:
        """Ending of the objects' keys."""
        return ".jsonl.gz" if self.compression is TextCompression.GZIP else ".jsonl"


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFormat:
    """Comma-separated values, as RFC 4180 has them."""

    flattening: Flattening = setting(
        'A column with the record as JSON, or with `"Root level flattening"` one for each field of the root.',
        default=Flattening.NONE,
        connector="flattening",
    )
    compression: TextCompression = setting(
        _COMPRESSION,
        default=TextCompression.GZIP,
        connector="compression",
    )
    gzip_effort: GzipEffort = setting(
        _EFFORT,
        default="balanced",
    )
    additional_properties_column: bool = setting(
        "Keeps undeclared fields as JSON in a last column. Needs flattening.",
        default=False,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.additional_properties_column and self.flattening is Flattening.NONE:
            raise SettingsError(
                "additional_properties_column has no meaning without flattening: the data column keeps every field. "
                "Set flattening to 'Root level flattening', or leave additional_properties_column out.",
                setting="additional_properties_column",
            )

    @property
    def extension(self) -> str:
        """Ending of the objects' keys."""
        return ".csv.gz" if self.compression is TextCompression.GZIP else ".csv"


AvroCodecName = Literal["no compression", "Deflate", "bzip2", "xz", "zstandard", "snappy"]
AVRO_LEVELS: dict[str, tuple[int, int, int]] = {"Deflate": (0, 9, 0), "xz": (0, 9, 6), "zstandard": (-5, 22, 3)}
"""Lowest, highest and default compression level of the codecs that have one."""


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class AvroFormat:
    """Avro object container files."""

    codec: AvroCodecName = setting(
        '`"no compression"`, `"Deflate"`, `"bzip2"`, `"xz"`, `"zstandard"` or `"snappy"`.',
        default="no compression",
        connector="codec",
    )
    compression_level: int | None = setting(
        "Deflate 0 to 9, xz 0 to 9, zstandard -5 to 22. `None`: 0, 6 and 3.",
        default=None,
        connector="compression_level",
    )
    include_checksum: bool = setting(
        "zstandard: a checksum in each block.",
        default=False,
        connector="include_checksum",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        levels = AVRO_LEVELS.get(self.codec)
        if levels is None:
            if self.compression_level is not None:
                raise SettingsError(
                    f"Avro codec {self.codec!r} has no compression level; leave compression_level out.",
                    setting="compression_level",
                )
        else:
            lowest, highest, default = levels
            level = default if self.compression_level is None else self.compression_level
            if not lowest <= level <= highest:
                raise SettingsError(
                    f"Invalid compression level: {level}, expected an integer in range [{lowest}, {highest}]",
                    setting="compression_level",
                )
            object.__setattr__(self, "compression_level", level)
        if self.include_checksum and self.codec != "zstandard":
            raise SettingsError(
                f"Avro codec {self.codec!r} has no checksum; include_checksum belongs to zstandard.",
                setting="include_checksum",
            )

    @property
    def extension(self) -> str:
        """Ending of the objects' keys, whatever the codec."""
        return ".avro"


ParquetCodec = Literal["UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD"]


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetFormat:
    """Parquet files."""

    compression_codec: ParquetCodec = setting(
        '`"UNCOMPRESSED"`, `"SNAPPY"`, `"GZIP"`, `"LZO"`, `"BROTLI"`, `"LZ4"` or `"ZSTD"`.',
        default="UNCOMPRESSED",
        connector="compression_codec",
    )
    block_size_mb: int = setting(
        "Size of a row group in memory, in MB of 2²⁰. Each open object needs 1.75 times as much of `memory_mb`; "
        "`s3dest plan` says so where there is no room for that, since row groups end early then.",
        default=128,
        at_least=1,
        connector="block_size_mb",
    )
    max_padding_size_mb: int = setting(
        "None: S3 has no blocks to pad to. `s3dest plan` says so where it is not the default.",
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
        "Size at which a column's dictionary is given up.",
        default=1024,
        at_least=1,
        connector="dictionary_page_size_kb",
    )
    dictionary_encoding: bool = setting(
        "Whether columns begin with a dictionary.",
        default=True,
        connector="dictionary_encoding",
    )
    union_layout: Literal["named", "member"] = setting(
        'Members of fields of several types are named after the types; `"member"` names them as the connector does.',
        default="named",
    )

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def extension(self) -> str:
        """Ending of the objects' keys, whatever the codec."""
        return ".parquet"


FormatSettings = JsonlFormat | CsvFormat | AvroFormat | ParquetFormat


def format_named(name: str) -> FormatSettings:
    """The format of this name, in any case, with its defaults. SettingsError for a name of none."""
    named: dict[str, FormatSettings] = {
        "jsonl": JsonlFormat(),
        "csv": CsvFormat(),
        "avro": AvroFormat(),
        "parquet": ParquetFormat(),
    }
    return named[caseless("format", name, named)]
