"""The settings of a destination, in groups: keys, records, uploads, checkpoints, publication, object headers.

They are frozen values, which are checked when they are created. If the connector has a setting (specification 0.6.2),
its name, default and range are the connector's. Must not know: S3's client, how S3 is reached, Dagster, a file format's
library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Literal

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.keys import DEFAULT_PATH_FORMAT, KeyTemplate
from s3dest_dagster.settings.fields import Settings, documented, refuse_variables, setting
from s3dest_dagster.settings.formats import (
    Decimals,
    EnvelopeName,
    FormatSettings,
    JsonlFormat,
    NaiveMoments,
    OpenObjects,
    Parity,
    ParquetFormat,
    TypeRules,
    format_named,
)
from s3dest_dagster.settings.partition_fields import FieldPartitionSettings, FieldsStyle, PartitionRule
from s3dest_dagster.settings.publication import PublicationSettings
from s3dest_dagster.settings.schema_contract import SchemaContract
from s3dest_dagster.settings.uploads import UploadSettings
from s3dest_dagster.stream import Stream, StreamId

_MB = 1_000_000

SYNC_METADATA = "s3dest-sync"
"""The name of the user metadata that says which segment an object belongs to."""
_MAX_METADATA = 1536
"""The most bytes of a user's own metadata: S3 allows 2048 per object, and the sync's id needs some of them."""
_MIN_HASH_KEY = 16
"""The fewest characters of a key of hashed fields."""
_METADATA_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_METADATA_VALUE = re.compile(r"([!-~]([ -~]*[!-~])?)?")
_DIRECTORY_BUCKETS = ("--x-s3", "--xa-s3")
"""Endings of the names of directory buckets, and of access points to them."""
_BUCKET_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}|arn:[^\s]+")
"""A name, or the ARN of an access point."""
_template = lru_cache(256)(KeyTemplate)


@documented
@dataclass(frozen=True, kw_only=True)
class KeySettings(Settings):
    """Keys: where objects are stored, and under which names."""

    s3_bucket_name: str = setting("The bucket. It must exist.", connector="s3_bucket_name")
    s3_bucket_path: str = setting(
        "Directory in the bucket for everything that is written. It may contain variables.",
        default="",
        connector="s3_bucket_path",
    )
    s3_path_format: str = setting(
        "Beginning of the keys under the bucket path, see [paths](paths.md).",
        default=DEFAULT_PATH_FORMAT,
        connector="s3_path_format",
    )
    file_name_pattern: str = setting(
        "End of the keys. Empty: `{part_number}{format_extension}`.", default="", connector="file_name_pattern"
    )
    fields_style: FieldsStyle = setting(
        'The directories that take the place of `${FIELDS}`: `"hive"` makes `dt=2026-01-05/region=eu`, which readers '
        'understand, and `"plain"` the values alone, see [partitions by field](partitions-by-field.md).',
        default="hive",
    )
    stream_prefix: str = setting("Prefix of every stream name, in keys and manifests.", default="")

    def __post_init__(self) -> None:
        super().__post_init__()
        if problem := _bucket_problem(self.s3_bucket_name):
            raise SettingsError(f"s3_bucket_name {problem}", setting="s3_bucket_name")
        object.__setattr__(self, "s3_path_format", self.s3_path_format or DEFAULT_PATH_FORMAT)
        _ = self.template

    @property
    def template(self) -> KeyTemplate:
        """The rule for object keys, parsed once per text. Raises TemplateError if it is wrong.

        It does not know the directories of a stream with `partition_by` (see `template_of`).
        """
        return _template(self.s3_bucket_path, self.s3_path_format, self.file_name_pattern, self.fields_style)

    def template_of(self, stream: Stream) -> KeyTemplate:
        """The rule for the keys of one stream. Raises SettingsError if it has no place for its directories."""
        rule = stream.settings.partition_by
        if rule and not self.template.names_fields:
            raise SettingsError(
                f"Stream {str(stream.id)!r} has partition_by, and s3_path_format {self.s3_path_format!r} has no place "
                "for its directories. Put ${FIELDS} there, as in ${NAMESPACE}/${STREAM_NAME}/${FIELDS}/.",
                stream=str(stream.id),
                setting="s3_path_format",
            )
        return _template(self.s3_bucket_path, self.s3_path_format, self.file_name_pattern, self.fields_style, rule)


def _bucket_problem(name: str) -> str:
    if not name:
        return "is empty; name the bucket to land in."
    if not _BUCKET_NAME.fullmatch(name):
        return (
            f"{name!r} is not the name of a bucket. Write the name alone, like my-bucket, without s3:// and without a "
            "path; a directory in it is s3_bucket_path."
        )
    if name.endswith(_DIRECTORY_BUCKETS):
        return (
            f"{name!r} is a directory bucket (S3 Express One Zone). It lists whole directories only, in no order, and "
            "its ETags say nothing about the content; finding and replacing objects needs both. Name a general purpose "
            "bucket."
        )
    return ""


class NameStyle(StrEnum):
    """The style of the names that columns get."""

    CONNECTOR = "connector"
    """The connector's: letters, digits and `_`; case is kept."""
    SNAKE = "snake"
    """The same in lower case, with `_` between the words of a name like `userId`."""
    LOWER = "lower"
    """The same in lower case."""
    KEEP = "keep"
    """The source's name as it is."""


@documented
@dataclass(frozen=True, kw_only=True)
class RecordSettings(Settings):
    """Records: the format in which they land, and what happens to records that do not fit."""

    format: FormatSettings = setting(
        "Format of the objects, see [formats](formats.md).", factory=JsonlFormat, connector="format"
    )
    on_type_mismatch: Literal["overflow", "fail"] = setting(
        'Avro and Parquet: a value that does not fit its declared type goes to the overflow column; `"fail"` fails '
        "the sync.",
        default="overflow",
    )
    on_unknown_type: Literal["fail", "text"] = setting(
        'Avro and Parquet: a field whose declared type is not known (`"datetime"`, `"any"`, a reference without a '
        'target) fails the sync; `"text"` lands it as text. CSV and JSON Lines keep its values unchanged, and '
        "`s3dest plan` names the field.",
        default="fail",
    )
    open_objects: OpenObjects = setting(
        'Avro and Parquet: an object without declared properties lands as its exact JSON text; `"map"` lands it as the '
        'connector does, as a map of texts without nulls. The default in a connector\'s `config.json` is `"map"`.',
        default="text",
        connector_default="map",
    )
    parity: Parity = setting(
        'Avro and Parquet: the version of the connector whose types the columns have. `"1"`: objects without declared '
        "properties and lists without declared items are JSON texts, all numbers are int64 or double, and Parquet's "
        '`union_layout` is `"typed"`, see [version 1](compatibility.md#types-of-version-1).',
        default="0.6",
    )
    naive_moments: NaiveMoments = setting(
        "Avro and Parquet: a date and time that is declared to have no zone (`airbyte_type: "
        'timestamp_without_timezone`, a naive Arrow timestamp) is taken as UTC; `"keep"` lands it without a zone.',
        default="utc",
    )
    decimals: Decimals = setting(
        'Avro and Parquet: what `multipleOf` and `airbyte_type: big_number` declare is a decimal; `"connector"` lands '
        "it as the connector does, numbers as doubles and texts as texts. `x-decimal`, and decimals of Python and "
        "Arrow, are decimals in any case.",
        default="exact",
    )
    name_style: NameStyle = setting(
        'The names of new columns. `"connector"`: in Avro and Parquet letters, digits and `_`, as the connector has '
        'them, and in CSV and JSON Lines the source\'s names; `"snake"`: letters, digits and `_` in lower case, with '
        '`_` between words (`userId` becomes `user_id`); `"lower"`: the same without `_` between words; `"keep"`: the '
        "source's names, not in Avro. A column that has a name keeps it, see [names](schema-evolution.md#names).",
        default=NameStyle.CONNECTOR,
    )
    schema_contract: Mapping[str, str] | None = setting(
        "What happens if a source brings another schema than its stream has: `new_column`, `new_type`, "
        '`missing_column`, `new_stream` and `undeclared_field` mapped to `"evolve"`, `"freeze"` or `"discard"`, or one '
        "word for all. By default, streams evolve, see [schema contract](schema-evolution.md#schema-contract).",
        default=None,
        hash=False,
    )
    envelope: EnvelopeName = setting(
        'The columns that every record has besides its own: `"airbyte_0"` is `_airbyte_ab_id` and '
        '`_airbyte_emitted_at`, `"airbyte_1"` is `_airbyte_raw_id`, `_airbyte_extracted_at`, `_airbyte_meta` and '
        '`_airbyte_generation_id`, and `"none"` is none of them, see [envelope](formats.md#the-envelope).',
        default="airbyte_0",
    )
    on_bad_record: Literal["fail", "quarantine"] = setting(
        'A line that should be a record but is not fails the sync; `"quarantine"` keeps it, with the reason, next to '
        "the manifests.",
        default="fail",
    )

    on_file: Literal["copy", "fail"] = setting(
        "A file that a source sends with a record (`file_reference`) is copied into the bucket, next to the manifests, "
        'and the record is no row; with `"fail"`, it fails the sync.',
        default="copy",
    )
    hash_key: str | None = setting(
        "Secret key of hashed fields, see [private fields](private-fields.md): at least 16 characters, and the same "
        "for good, since a stream keeps the key with which it was first hashed.",
        default=None,
        secret=True,
    )
    on_non_finite: Literal["fail", "quarantine", "null"] | None = setting(
        'A record with a number that is NaN or infinite fails the sync, is quarantined, or with `"null"` lands with '
        "null in place of such numbers, which are counted. `None`: it is a bad record (`on_bad_record`), but Avro and "
        "Parquet keep such numbers of Arrow data.",
        default=None,
    )

    def __post_init__(self) -> None:
        if not isinstance(self.format, FormatSettings):
            object.__setattr__(self, "format", format_named(self.format))
        refuse_variables("schema_contract", self.schema_contract)
        if self.schema_contract is not None:
            object.__setattr__(self, "schema_contract", SchemaContract.of(self.schema_contract).to_mapping())
        super().__post_init__()
        if self.parity == "1":
            self._use_newer_types()
        if self.name_style is NameStyle.KEEP and not self.format.allows_any_name:
            raise SettingsError(
                f"name_style is 'keep', and {self.format.title} allows only letters, digits and '_' in names. Use "
                "'connector', 'snake' or 'lower', or land the streams in Parquet.",
                setting="name_style",
            )
        if self.hash_key is not None and len(self.hash_key) < _MIN_HASH_KEY:
            raise SettingsError(
                f"hash_key has fewer than {_MIN_HASH_KEY} characters, so that hashed values could be guessed. Use a "
                "long random text.",
                setting="hash_key",
            )

    def _use_newer_types(self) -> None:
        """Sets what `parity` decides. Raises SettingsError if another setting says something else."""
        layout = getattr(self.format, "union_layout", "typed")
        problem = "open_objects is 'map'" if self.open_objects == "map" else ""
        if layout == "member":
            problem = "union_layout is 'member'"
        if problem:
            raise SettingsError(
                f"parity is '1' and {problem}, as version 0 of the connector has it. Leave one of the two out.",
                setting="parity",
            )
        if layout == "named":
            assert isinstance(self.format, ParquetFormat), "only Parquet has layouts of unions"
            object.__setattr__(self, "format", replace(self.format, union_layout="typed"))

    @property
    def contract(self) -> SchemaContract:
        """The schema contract of streams that have none of their own."""
        return SchemaContract.of(self.schema_contract)

    @property
    def non_finite_policy(self) -> Literal["fail", "quarantine", "null"]:
        """What happens to a record with a number that is NaN or infinite."""
        return self.on_non_finite or self.on_bad_record

    @property
    def tells_changes(self) -> bool:
        """Whether a record tells what was changed in it."""
        return self.envelope == "airbyte_1"

    @property
    def searches_arrow(self) -> bool:
        """Whether Arrow data is searched for such numbers. Text formats refuse them anyway."""
        if self.format.is_typed:
            return self.on_non_finite is not None
        return self.non_finite_policy != "fail"

    @property
    def type_rules(self) -> TypeRules:
        """The types of what a schema leaves open. Untyped formats keep every value, also that of an unknown type."""
        return TypeRules(
            unknown_types=self.on_unknown_type if self.format.is_typed else "text",
            open_objects=self.open_objects,
            open_lists="text" if self.parity == "1" else "list",
            naive_moments=self.naive_moments,
            decimals="connector" if self.parity == "1" else self.decimals,
            envelope=self.envelope,
        )


@documented
@dataclass(frozen=True, kw_only=True)
class CheckpointSettings(Settings):
    """Checkpoints: when a long sync publishes the records that it has read so far."""

    checkpoint_interval_s: float = setting(
        "An append to a stream without partitions is published at the first state after this many seconds, together "
        "with that state, see [checkpoints](guarantees.md#checkpoints). 0: not by time.",
        default=900,
        at_least=0,
    )
    checkpoint_mb: float = setting(
        "The same, after this many MB of records (10⁶ bytes, as the source wrote them). 0: not by size.",
        default=10_000,
        at_least=0,
    )

    @property
    def checkpoint_bytes(self) -> float:
        """The size of the records after which a checkpoint is due; 0: not by size."""
        return self.checkpoint_mb * _MB


CannedAcl = Literal[
    "private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read", "bucket-owner-read",
    "bucket-owner-full-control",
]  # fmt: skip


@documented
@dataclass(frozen=True, kw_only=True)
class ObjectHeaders(Settings):
    """Object headers: access, encryption, storage class and user metadata."""

    acl: CannedAcl | None = setting(
        'Canned ACL of the data objects: `"private"`, `"public-read"`, `"public-read-write"`, '
        '`"authenticated-read"`, `"aws-exec-read"`, `"bucket-owner-read"` or `"bucket-owner-full-control"`. '
        "The last two, which give the bucket's owner rights, also apply to manifests.",
        default=None,
    )
    server_side_encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = setting(
        'Encryption of every object, including manifests: `"AES256"`, `"aws:kms"` or `"aws:kms:dsse"`. `None`: '
        "the bucket's default.",
        default=None,
    )
    kms_key_id: str | None = setting(
        "Key of AWS KMS for the two `aws:kms` encryptions: its id, ARN or alias. `None`: the account's own key for S3.",
        default=None,
    )
    storage_class: str | None = setting(
        'Storage class of the data objects, such as `"STANDARD_IA"` or `"INTELLIGENT_TIERING"`, or a name that your '
        "server uses.",
        default=None,
    )
    object_metadata: Mapping[str, str] | None = setting(
        "User metadata of the data objects: names and texts in ASCII, at most 1536 bytes in total.",
        default=None,
        hash=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kms_key_id and not self.encrypts_by_kms:
            raise SettingsError(
                "kms_key_id needs server_side_encryption 'aws:kms' or 'aws:kms:dsse'. Set it, or leave kms_key_id out.",
                setting="kms_key_id",
            )
        object.__setattr__(self, "object_metadata", _lowered_metadata(self.object_metadata or {}) or None)

    @property
    def encrypts_by_kms(self) -> bool:
        """Whether the objects are encrypted with a key of AWS KMS."""
        return (self.server_side_encryption or "").startswith("aws:kms")


def _lowered_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata with names in lower case, as S3 keeps them. Raises SettingsError if it cannot be sent as headers."""
    lowered = {name.lower(): value for name, value in metadata.items()}
    unfit = [n for n, text in metadata.items() if not (_METADATA_NAME.fullmatch(n) and _METADATA_VALUE.fullmatch(text))]
    size = sum(len(name) + len(value) for name, value in lowered.items())
    problem = ""
    if unfit:
        problem = (
            f" {unfit[0]!r} cannot be a header: names are ASCII letters, digits and -_., values are printable ASCII "
            "without blanks at their ends. Encode other texts, for example as base64."
        )
    elif len(lowered) < len(metadata):
        problem = " has one name in two cases; S3 keeps lower case only."
    elif SYNC_METADATA in lowered:
        problem = f" {SYNC_METADATA!r} is the library's own: it says which sync an object belongs to. Use another name."
    elif size > _MAX_METADATA:
        problem = (
            f" has {size:,} bytes of names and values. At most {_MAX_METADATA:,} fit: S3 allows 2,048, of which the "
            "sync's id needs some."
        )
    if problem:
        raise SettingsError(f"object_metadata{problem}", setting="object_metadata")
    return lowered


# The order of the fields is that of the bases from last to first.
@documented
@dataclass(frozen=True, kw_only=True)
class S3Destination(
    ObjectHeaders,
    PublicationSettings,
    CheckpointSettings,
    UploadSettings,
    RecordSettings,
    FieldPartitionSettings,
    KeySettings,
):
    """Where a sync lands, and by which rules. `S3Connection` says how to reach S3.

    Raises SettingsError for a value of another type or outside its bounds, and for settings that contradict each other.
    The error names the setting and says what to do.

    Example:
        S3Destination(s3_bucket_name="my-bucket", s3_bucket_path="lake", format=ParquetFormat(compression_codec="ZSTD"))
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.envelope == "none" and self.template.keys_recur and not self.format.has_metadata:
            raise SettingsError(
                "Without an envelope, a text file holds nothing but the records, so that the objects of two syncs can "
                "be equal. A template whose keys recur tells them apart by their content. Give the keys a part number, "
                "${UUID} or a time in milliseconds, land Avro or Parquet, or keep the envelope.",
                setting="envelope",
            )

    @property
    def allows_checkpoints(self) -> bool:
        """Whether the template allows checkpoints: a sync with only one key cannot have a second object."""
        return self.template.tells_objects_apart

    def check_streams(self, streams: Iterable[StreamId], rules: Mapping[StreamId, PartitionRule] | None = None) -> None:
        """Refuses streams that could have the same key, see `KeyTemplate.check_streams`."""
        self.template.check_streams(streams, self.format.extension, rules)
