"""The settings of a destination: where objects go, under which names, in which format, and how S3 is reached.

Frozen values, validated when they are made; names, defaults and ranges are the connector's (specification 0.6.2), and
our own additions follow them. It must not know S3, Dagster or a file format's library.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.keys import DEFAULT_PATH_FORMAT, KeyTemplate


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
        _check_types(self)

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
        _check_types(self)
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
        _check_types(self)
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
        _check_types(self)
        for name in ("block_size_mb", "page_size_kb", "dictionary_page_size_kb"):
            _at_least(name, getattr(self, name), 1)
        _at_least("max_padding_size_mb", self.max_padding_size_mb, 0)

    @property
    def extension(self) -> str:
        """Ending of the objects' keys, whatever the codec."""
        return ".parquet"


FormatSettings = JsonlFormat | CsvFormat | AvroFormat | ParquetFormat


_MAX_PARTS = 10_000
"""Parts of one multipart upload (S3's limit)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Destination:
    """Where a sync lands and by which rules; how S3 is reached is `S3Connection`.

    The first five are the connector's. `stream_prefix` stands before every stream name. An object is closed once
    `object_size_mb` (10⁶ bytes, compressed) are full; parts of `part_size_mb` (2²⁰ bytes) leave on `upload_threads`
    threads; `encode_workers` threads encode batches. `on_type_mismatch`: what does not fit its declared type goes to
    the overflow column, or fails the sync. `on_bad_record`: a line that is no record fails the sync, or is kept with
    its reason beside the manifests. `on_rematerialize`: landing a partition of an append stream again replaces that
    partition's objects, or adds to them. `on_empty_refresh`: a full refresh without a record publishes the empty
    state, keeps the old, or fails. `publish_order`: replaced objects leave after the new ones are visible, or before.
    Uploads of a stream that no sync has pending are aborted when older than `abandoned_upload_age_s`.
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
    on_type_mismatch: Literal["overflow", "fail"] = "overflow"
    on_bad_record: Literal["fail", "quarantine"] = "fail"
    on_rematerialize: Literal["replace", "append"] = "replace"
    on_empty_refresh: Literal["publish", "keep", "fail"] = "publish"
    publish_order: Literal["add_first", "purge_first"] = "add_first"
    abandoned_upload_age_s: float = 7 * 86_400

    def __post_init__(self) -> None:
        _check_types(self)
        if not self.s3_bucket_name:
            raise SettingsError("s3_bucket_name is empty; name the bucket to land in.", setting="s3_bucket_name")
        object.__setattr__(self, "s3_path_format", self.s3_path_format or DEFAULT_PATH_FORMAT)
        for name in ("upload_threads", "encode_workers"):
            _at_least(name, getattr(self, name), 1)
        _at_least("part_size_mb", self.part_size_mb, 5)
        if self.object_size_mb * 1_000_000 > _MAX_PARTS * self.part_size_mb * (1 << 20):
            raise SettingsError(
                f"An object of {self.object_size_mb} MB has more than {_MAX_PARTS} parts of {self.part_size_mb} MB, "
                "and S3 takes no more. Raise part_size_mb, or lower object_size_mb.",
                setting="part_size_mb",
            )
        _above_zero("object_size_mb", self.object_size_mb)
        _at_least("abandoned_upload_age_s", self.abandoned_upload_age_s, 0)
        _ = self.template

    @property
    def template(self) -> KeyTemplate:
        """The rule for object keys; making it refuses wrong templates with TemplateError."""
        return KeyTemplate(self.s3_bucket_path, self.s3_path_format, self.file_name_pattern)


_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1|.*\.localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Connection:
    """How S3 is reached, and as whom.

    Access keys win over `role_arn`; without either the default chain gives the identity (environment, profile, web
    identity, container, instance profile). `external_id` falls back to AWS_ASSUME_ROLE_EXTERNAL_ID where the session
    is made. `endpoint` "" means AWS; without a scheme it is https, and plain http is refused but for loopback hosts
    or with `allow_plain_http`. `ca_bundle` is the path of a private certificate authority. `path_style` None means:
    path style for custom endpoints, virtual hosts for AWS.
    """

    region: str = ""
    endpoint: str = ""
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    profile_name: str | None = None
    role_arn: str | None = None
    external_id: str | None = field(default=None, repr=False)
    role_session_name: str = "s3dest"
    role_duration_s: int = 3600
    sts_endpoint: str = ""
    allow_plain_http: bool = False
    ca_bundle: str | None = None
    path_style: bool | None = None
    max_attempts: int = 8
    connect_timeout_s: float = 10
    read_timeout_s: float = 60

    def __post_init__(self) -> None:
        _check_types(self)
        for name in ("access_key_id", "secret_access_key", "session_token", "profile_name", "role_arn", "external_id"):
            object.__setattr__(self, name, getattr(self, name) or None)
        if bool(self.access_key_id) != bool(self.secret_access_key):
            given, missing = ("access_key_id", "secret_access_key")[:: 1 if self.access_key_id else -1]
            raise SettingsError(f"{given} is set and {missing} is not. Set both, or neither.", setting=missing)
        if MASKED_SECRET in (self.secret_access_key, self.session_token, self.external_id):
            raise SettingsError(
                "A secret is '********': that is the placeholder which Dagster's launchpad shows instead of a secret. "
                "Remove it from the run config, so that the resource's own value is used.",
                setting="secret_access_key",
            )
        for name in ("endpoint", "sts_endpoint"):
            object.__setattr__(self, name, self._checked_endpoint(name, getattr(self, name)))
        _at_least("max_attempts", self.max_attempts, 1)
        _at_least("role_duration_s", self.role_duration_s, 900)
        for name in ("connect_timeout_s", "read_timeout_s"):
            _above_zero(name, getattr(self, name))

    def _checked_endpoint(self, setting: str, text: str) -> str:
        """The endpoint with its scheme; refuses what is no host, and plain http beyond this machine."""
        text = text.strip().rstrip("/")
        if not text:
            return ""
        url = urlsplit(text if "://" in text else f"https://{text}")
        if url.scheme not in ("http", "https") or not url.hostname:
            raise SettingsError(
                f"{setting} {text!r} is no URL. Write it like https://minio.example.com:9000.", setting=setting
            )
        if url.scheme == "http" and not (self.allow_plain_http or _LOOPBACK.fullmatch(url.hostname)):
            raise SettingsError(
                f"{setting} {text!r} does not use HTTPS: data and signatures would travel unencrypted. Use https://, "
                "or set allow_plain_http when the network is yours.",
                setting=setting,
            )
        return url.geturl()


MASKED_SECRET = "********"


def caseless(setting: str, value: Any, allowed: Any) -> str:
    """The allowed spelling of a value whose case does not matter; SettingsError when there is none."""
    for each in allowed:
        if str(value).lower() == str(each).lower():
            return str(each)
    raise SettingsError(f"{setting} is {value!r}. Known are {', '.join(map(repr, allowed))}.", setting=setting)


@cache
def _types(settings: type) -> Mapping[str, tuple[Any, ...]]:
    """The types that each field may have, as its annotation says."""
    hints = get_type_hints(settings)
    return {name: get_args(hint) if get_origin(hint) in _UNIONS else (hint,) for name, hint in hints.items()}


def _check_types(settings: Any) -> None:
    """Returns when every field has the type of its annotation; a text has become the enumeration's member.

    Raises SettingsError for any other: a "false" where a truth is asked for would count as true.
    """
    for name, types in _types(settings.__class__).items():
        value = getattr(settings, name)
        if _is_enumeration(types[0]):
            object.__setattr__(settings, name, types[0](caseless(name, value, [each.value for each in types[0]])))
        elif not any(_is_of(type_, value) for type_ in types):
            raise SettingsError(_wrong_type(name, value, types), setting=name)


def _is_enumeration(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, StrEnum)


def _is_of(type_: Any, value: Any) -> bool:
    if get_origin(type_) is Literal:
        return value in get_args(type_)
    if isinstance(value, bool):
        return type_ is bool
    if type_ is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, type_)


def _wrong_type(setting: str, value: Any, types: tuple[Any, ...]) -> str:
    """What a field must be. A wrong text is not repeated, since it may be a secret."""
    if get_origin(types[0]) is Literal:
        return f"{setting} is {value!r}. Known are {', '.join(map(repr, get_args(types[0])))}."
    if types[0] is str:
        return f"{setting} is not a text."
    wanted = _WORDS.get(types[0]) or " or ".join(each.__name__ for each in types)
    return f"{setting} is {value!r}. It must be {wanted}."


_UNIONS = (Union, UnionType)
_WORDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number"}


def _at_least(setting: str, value: float, lowest: float) -> None:
    if value < lowest:
        raise SettingsError(f"{setting} is {value!r}. It must be at least {lowest}.", setting=setting)


def _above_zero(setting: str, value: float) -> None:
    if value <= 0:
        raise SettingsError(f"{setting} is {value!r}. It must be above 0.", setting=setting)
