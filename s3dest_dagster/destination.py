"""The settings of a destination: where objects go, under which names, in which format.

Frozen values, validated when they are made; names, defaults and ranges are the connector's (specification 0.6.2), and
our own additions follow them. It must not know S3, how it is reached, Dagster or a file format's library.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.keys import DEFAULT_PATH_FORMAT, KeyTemplate
from s3dest_dagster.setting_types import above_zero, at_least, check_types


class Flattening(StrEnum):
    """Whether the fields of a record become columns of their own."""

    NONE = "No flattening"
    ROOT = "Root level flattening"


class TextCompression(StrEnum):
    """Compression of a whole CSV or JSON Lines object."""

    NONE = "No Compression"
    GZIP = "GZIP"


GzipEffort = Literal["fast", "balanced", "small"]
"""How hard GZIP tries: "fast" and "balanced" (the default) cost about the same, "small" makes objects as small as
zlib's level 6 or smaller, at about five times the cost of "balanced"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonlFormat:
    """JSON Lines. `emitted_at` "text" writes the emission time as the documented string, "number" as the connector."""

    flattening: Flattening = Flattening.NONE
    compression: TextCompression = TextCompression.GZIP
    gzip_effort: GzipEffort = "balanced"
    emitted_at: Literal["text", "number"] = "text"

    def __post_init__(self) -> None:
        check_types(self)

    @property
    def extension(self) -> str:
        """Ending of the objects' keys."""
        return ".jsonl.gz" if self.compression is TextCompression.GZIP else ".jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFormat:
    """Comma-separated values, RFC 4180. `additional_properties_column` keeps undeclared fields as JSON in a last
    column when the root level is flattened; without it they are counted and named, not landed."""

    flattening: Flattening = Flattening.NONE
    compression: TextCompression = TextCompression.GZIP
    gzip_effort: GzipEffort = "balanced"
    additional_properties_column: bool = False

    def __post_init__(self) -> None:
        check_types(self)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AvroFormat:
    """Avro object container files. `compression_level` None takes the codec's default: Deflate 0 (of 0 to 9), xz 6
    (of 0 to 9), zstandard 3 (of -5 to 22). `include_checksum` adds zstandard's content checksum to each block."""

    codec: AvroCodecName = "no compression"
    compression_level: int | None = None
    include_checksum: bool = False

    def __post_init__(self) -> None:
        check_types(self)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetFormat:
    """Parquet. Sizes in MB (1024²) and KB (1024). `max_padding_size_mb` is accepted and has no effect: padding aligns
    row groups to HDFS blocks, and S3 has none. `union_layout`: fields of several types become structs with members
    named after their types ("named"), or member0, member1… as the connector writes them ("member")."""

    compression_codec: ParquetCodec = "UNCOMPRESSED"
    block_size_mb: int = 128
    max_padding_size_mb: int = 8
    page_size_kb: int = 1024
    dictionary_page_size_kb: int = 1024
    dictionary_encoding: bool = True
    union_layout: Literal["named", "member"] = "named"

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("block_size_mb", "page_size_kb", "dictionary_page_size_kb"):
            at_least(name, getattr(self, name), 1)
        at_least("max_padding_size_mb", self.max_padding_size_mb, 0)

    @property
    def extension(self) -> str:
        """Ending of the objects' keys, whatever the codec."""
        return ".parquet"


FormatSettings = JsonlFormat | CsvFormat | AvroFormat | ParquetFormat


_MAX_PARTS = 10_000
"""Parts of one multipart upload (S3's limit)."""
_MIB = 1 << 20
_SOURCE_BYTES = 32 * _MIB
"""What a source may hold of records that wait for their batch to fill, over all streams."""
_BYTES_PER_WORKER = 16 * _MIB
"""What encoding a batch takes at its peak: its text, its columns and its bytes, several times over."""
_LEAST_OPEN_BYTES = 16 * _MIB
"""What must be left for open objects: less would end one with nearly every batch."""

CannedAcl = Literal[
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
]
ServerSideEncryption = Literal["AES256", "aws:kms", "aws:kms:dsse"]
SYNC_METADATA = "s3dest-sync"
"""Name of the user metadata that tells which segment an object belongs to."""
_MAX_METADATA = 1536
"""Bytes of a user's own metadata: S3 takes 2048 of an object, and the sync's id needs some."""
_BUCKET_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}|arn:[^\s]+")
"""A name, or the ARN of an access point."""
_METADATA_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_METADATA_VALUE = re.compile(r"([!-~]([ -~]*[!-~])?)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Destination:
    """Where a sync lands and by which rules; how S3 is reached is `S3Connection`.

    The first five are the connector's. `stream_prefix` stands before every stream name. An object is closed once
    `object_size_mb` (10⁶ bytes, compressed) are full; parts of `part_size_mb` (2²⁰ bytes) leave on `upload_threads`
    threads; `encode_workers` threads encode and compress, the one that reads among them. `memory_mb` (2²⁰ bytes) bounds
    what the landings of a process hold in memory together: when it is used up, row groups and objects end early, the
    largest first.

    `on_type_mismatch`: what does not fit its declared type goes to the overflow column, or fails the sync.
    `on_unknown_type`: in Avro and Parquet a field whose declared type is not known fails the sync, or lands as text;
    CSV and JSON Lines keep its values as they came.
    `on_bad_record`: a line that is no record fails the sync, or is kept with its reason beside the manifests.
    `on_rematerialize`: landing a partition of an append stream again replaces that
    partition's objects, or adds to them. `on_template_change`: a stream that has landed under another template is
    refused, or lands under this one from now on. `on_empty_refresh`: a full refresh without a record publishes the
    empty state, keeps the old, or fails. `publish_order`: replaced objects leave after the new ones are visible, or
    before. `delete_grace_s`: seconds that they stay after that, so that readers of what was before can finish; the next
    sync of the scope, `recover` or `sweep` deletes them. Not with "purge_first".
    An append of an unpartitioned stream commits its records with the state that they reach, so that a failed sync goes
    on from there: at the first state after `checkpoint_interval_s` seconds, or after `checkpoint_mb` (10⁶ bytes, as the
    source gives them) of records; 0 says that this one is no reason, both 0 that the sync commits once, at its end.
    Uploads of a stream that no sync has pending are aborted when older than `abandoned_upload_age_s`. A sync that is
    given up aborts its own, and waits for that at most `abort_grace_s`.

    Headers of the objects, None for what the bucket does by itself: `server_side_encryption` with the key `kms_key_id`
    (None: the account's own key) for data and manifests; `acl`, `storage_class` and `object_metadata` (user metadata,
    ASCII, 1536 bytes of names and values; names become lower case) for data only, but for an `acl` that gives the
    bucket's owner rights, which manifests get too.
    """

    s3_bucket_name: str
    s3_bucket_path: str = ""
    s3_path_format: str = DEFAULT_PATH_FORMAT
    file_name_pattern: str = ""
    format: FormatSettings = field(default_factory=JsonlFormat)
    stream_prefix: str = ""
    object_size_mb: float = 200
    part_size_mb: float = 8
    upload_threads: int = 4
    encode_workers: int = 2
    memory_mb: int = 512
    on_type_mismatch: Literal["overflow", "fail"] = "overflow"
    on_unknown_type: Literal["fail", "text"] = "fail"
    on_bad_record: Literal["fail", "quarantine"] = "fail"
    on_rematerialize: Literal["replace", "append"] = "replace"
    on_empty_refresh: Literal["publish", "keep", "fail"] = "publish"
    on_template_change: Literal["fail", "accept"] = "fail"
    publish_order: Literal["add_first", "purge_first"] = "add_first"
    delete_grace_s: float = 0
    checkpoint_interval_s: float = 900
    checkpoint_mb: float = 10_000
    abandoned_upload_age_s: float = 7 * 86_400
    abort_grace_s: float = 10
    acl: CannedAcl | None = None
    server_side_encryption: ServerSideEncryption | None = None
    kms_key_id: str | None = None
    storage_class: str | None = None
    object_metadata: Mapping[str, str] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        check_types(self)
        if not self.s3_bucket_name:
            raise SettingsError("s3_bucket_name is empty; name the bucket to land in.", setting="s3_bucket_name")
        if not _BUCKET_NAME.fullmatch(self.s3_bucket_name):
            raise SettingsError(
                f"s3_bucket_name {self.s3_bucket_name!r} is no name of a bucket. Write the name alone, like my-bucket, "
                "without s3:// and without a path; a directory in it is s3_bucket_path.",
                setting="s3_bucket_name",
            )
        object.__setattr__(self, "s3_path_format", self.s3_path_format or DEFAULT_PATH_FORMAT)
        for name in ("upload_threads", "encode_workers"):
            at_least(name, getattr(self, name), 1)
        at_least("part_size_mb", self.part_size_mb, 5)
        if self.object_size_mb * 1_000_000 > _MAX_PARTS * self.part_bytes:
            raise SettingsError(
                f"An object of {self.object_size_mb} MB has more than {_MAX_PARTS} parts of {self.part_size_mb} MB, "
                "and S3 takes no more. Raise part_size_mb, or lower object_size_mb.",
                setting="part_size_mb",
            )
        above_zero("object_size_mb", self.object_size_mb)
        for name in (
            "delete_grace_s",
            "checkpoint_interval_s",
            "checkpoint_mb",
            "abandoned_upload_age_s",
            "abort_grace_s",
        ):
            at_least(name, getattr(self, name), 0)
        if self.delete_grace_s and self.publish_order == "purge_first":
            raise SettingsError(
                "delete_grace_s keeps replaced objects after the new ones are visible, and publish_order 'purge_first' "
                "deletes them before. Leave one of the two out.",
                setting="delete_grace_s",
            )
        self._check_headers()
        if self.open_bytes < (least := max(_LEAST_OPEN_BYTES, self.part_bytes)):
            needed = self.memory_mb + math.ceil((least - self.open_bytes) / _MIB)
            raise SettingsError(
                f"memory_mb is {self.memory_mb}, and with upload_threads={self.upload_threads}, part_size_mb="
                f"{self.part_size_mb} and encode_workers={self.encode_workers} a landing needs {needed}. Raise it, or "
                "lower one of the others.",
                setting="memory_mb",
            )
        _ = self.template

    def _check_headers(self) -> None:
        for name in ("kms_key_id", "storage_class"):
            object.__setattr__(self, name, getattr(self, name) or None)
        if self.kms_key_id and not self.encrypts_by_kms:
            raise SettingsError(
                "kms_key_id needs server_side_encryption 'aws:kms' or 'aws:kms:dsse'. Set it, or leave kms_key_id out.",
                setting="kms_key_id",
            )
        object.__setattr__(self, "object_metadata", _checked_metadata(self.object_metadata or {}) or None)

    @property
    def encrypts_by_kms(self) -> bool:
        """Whether the objects are encrypted with a key of AWS KMS."""
        return (self.server_side_encryption or "").startswith("aws:kms")

    @property
    def part_bytes(self) -> int:
        """Size of an upload's parts."""
        return int(self.part_size_mb * _MIB)

    @property
    def open_bytes(self) -> int:
        """What all open objects may hold together: `memory_mb` without what is under way at most, from the source to
        the parts that are being sent."""
        parts = (self.upload_threads + 2) * self.part_bytes
        return self.memory_mb * _MIB - _SOURCE_BYTES - self.encode_workers * _BYTES_PER_WORKER - parts

    @property
    def unknown_types(self) -> Literal["fail", "text"]:
        """What a declared type that is not known becomes in this format; without types every value is kept as text."""
        return self.on_unknown_type if isinstance(self.format, AvroFormat | ParquetFormat) else "text"

    @property
    def template(self) -> KeyTemplate:
        """The rule for object keys; making it refuses wrong templates with TemplateError."""
        return KeyTemplate(self.s3_bucket_path, self.s3_path_format, self.file_name_pattern)


def _checked_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """The user metadata with names as S3 keeps them, in lower case."""
    setting = "object_metadata"
    lowered = {name.lower(): value for name, value in metadata.items()}
    for name, value in metadata.items():
        if not _METADATA_NAME.fullmatch(name) or not _METADATA_VALUE.fullmatch(value):
            raise SettingsError(
                f"object_metadata {name!r} cannot be a header: names are ASCII letters, digits and -_., values are "
                "printable ASCII without blanks at their ends. Encode other texts, for example as base64.",
                setting=setting,
            )
    if len(lowered) < len(metadata):
        raise SettingsError("object_metadata has one name in two cases; S3 keeps lower case only.", setting=setting)
    if SYNC_METADATA in lowered:
        raise SettingsError(
            f"object_metadata {SYNC_METADATA!r} is the library's own, by which an object tells its sync. Take another "
            "name.",
            setting=setting,
        )
    size = sum(len(name) + len(value) for name, value in lowered.items())
    if size > _MAX_METADATA:
        raise SettingsError(
            f"object_metadata has {size:,} bytes of names and values. At most {_MAX_METADATA:,} fit: S3 takes 2,048, "
            "of which the sync's id needs some.",
            setting=setting,
        )
    return lowered
