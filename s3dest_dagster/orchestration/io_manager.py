"""The IO manager: a destination's settings as Dagster sees them, an asset's records in and out.

It translates settings and hands on; it must not know how records are landed or read.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from s3dest_dagster import connector_config
from s3dest_dagster.destination import S3Destination
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.formats import check_installed
from s3dest_dagster.keys import DEFAULT_PATH_FORMAT
from s3dest_dagster.orchestration.access import connector_access, reach
from s3dest_dagster.orchestration.declared import preview_rows_of
from s3dest_dagster.orchestration.failures import told_as_failures
from s3dest_dagster.orchestration.format_config import (
    FormatConfig,
    JsonlFormatConfig,
    as_format_config,
    format_settings,
)
from s3dest_dagster.orchestration.loading import load_input
from s3dest_dagster.orchestration.output import land_output
from s3dest_dagster.printable import logger
from s3dest_dagster.setting_types import refuse_unknown
from s3dest_dagster.storage import Bucket, headers_of_all

_logger = logger("orchestration")


class S3DestinationIOManager(dg.ConfigurableIOManager):
    """Lands the records that assets return or yield in S3, and loads them for the assets downstream.

    The settings have the connector's names; `from_connector_config` takes its `config.json` as it is. `format` is
    given as frozen settings (`format=ParquetFormat(compression_codec="ZSTD")`), or in run config as
    `{"Parquet": {"compression_codec": "ZSTD"}}`. `s3` is an `S3Resource` (or anything that has `get_client()`), or an
    `S3Connection`; without it the machine's own identity is used.

    Each partition of an asset is a scope of its own: it is landed as a whole or not at all, and materializing it again
    replaces it. What the landing was is told on the materialization.
    """

    s3_bucket_name: str = Field(description="Bucket to land in.")
    s3_bucket_path: str = Field(default="", description="Directory in the bucket under which everything stands.")
    s3_bucket_region: str = Field(default="", description="Region of the bucket; else the S3 resource's.")
    s3_endpoint: str = Field(default="", description="Endpoint of another S3 server; else the S3 resource's, or AWS.")
    s3_path_format: str = Field(
        default=DEFAULT_PATH_FORMAT,
        description="Path of the objects under the bucket path, with ${NAMESPACE}, ${STREAM_NAME}, ${PARTITION}, "
        "${YEAR}, ${MONTH}, ${DAY}, ${HOUR}, ${MINUTE}, ${SECOND}, ${MILLISECOND}, ${EPOCH}, ${UUID}.",
    )
    file_name_pattern: str = Field(
        default="",
        description="Name of the objects, with {date}, {date:yyyy_MM}, {timestamp}, {timestamp:millis}, "
        "{timestamp:micros}, {part_number}, {sync_id}, {format_extension}.",
    )
    format: FormatConfig = Field(default=JsonlFormatConfig(), description="File format and its options.")
    stream_prefix: str = Field(default="", description="Stands before every stream name.")
    object_size_mb: float = Field(default=200, description="An object is closed once it has this many MB (10^6).")
    part_size_mb: float = Field(default=8, description="Size of an upload's parts in MB (2^20), at least 5.")
    upload_threads: int = Field(default=4, description="Threads that send parts.")
    encode_workers: int = Field(
        default=2, description="Threads that encode and compress, the one that reads among them."
    )
    memory_mb: int = Field(
        default=512,
        description="Memory in MB (2^20) that landings may hold; beyond it row groups and objects end early.",
    )
    on_type_mismatch: Literal["overflow", "fail"] = Field(
        default="overflow", description="A value that does not fit its declared type: kept as text, or an error."
    )
    on_unknown_type: Literal["fail", "text"] = Field(
        default="fail", description="In Avro and Parquet, a declared type that is not known: an error, or text."
    )
    on_bad_record: Literal["fail", "quarantine"] = Field(
        default="fail", description="A line that is no record: an error, or kept aside with its reason."
    )
    on_rematerialize: Literal["replace", "append"] = Field(
        default="replace", description="A partition that is landed again: replaces its objects, or adds to them."
    )
    on_empty_refresh: Literal["publish", "keep", "fail"] = Field(
        default="publish", description="A full refresh without a record: empties, keeps what was there, or fails."
    )
    on_template_change: Literal["fail", "accept"] = Field(
        default="fail", description="A stream that has landed under another template: refused, or goes on under this."
    )
    publish_order: Literal["add_first", "purge_first"] = Field(
        default="add_first", description="Replaced objects leave after the new ones are visible, or before."
    )
    delete_grace_s: float = Field(
        default=0, description="Seconds that replaced objects stay longer for their readers; not with purge_first."
    )
    checkpoint_interval_s: float = Field(
        default=900,
        description="An append without partitions is published with the state it reached every so many seconds; 0: "
        "not by time.",
    )
    checkpoint_mb: float = Field(
        default=10_000, description="The same after so many MB (10^6) of records; 0: not by size."
    )
    abandoned_upload_age_s: float = Field(
        default=7 * 86_400, description="Age in seconds at which uploads that belong to no sync are aborted."
    )
    abort_grace_s: float = Field(
        default=10, description="Seconds that a sync which is given up waits at most for its uploads to be aborted."
    )
    preview_rows: int = Field(
        default=5,
        description="Records that a materialization shows, at most 50; 0 for none, where data is private. An asset's "
        "metadata s3dest/preview_rows says otherwise for its stream.",
    )
    # Dagster's config knows no choice that may be left out; the settings know which texts may stand here.
    acl: str | None = Field(
        default=None, description="Canned ACL of the data objects, like bucket-owner-full-control; else the bucket's."
    )
    server_side_encryption: str | None = Field(
        default=None, description="Encryption of all objects: AES256, aws:kms or aws:kms:dsse; else the bucket's."
    )
    kms_key_id: str | None = Field(default=None, description="KMS key of the encryption; else the account's own.")
    storage_class: str | None = Field(default=None, description="Storage class of the data objects; else STANDARD.")
    object_metadata: dict[str, str] | None = Field(default=None, description="User metadata of the data objects.")
    s3: dg.ResourceDependency[Any] = None  # type: ignore[assignment]  # no resource: the machine's own identity

    def __init__(self, **settings: Any) -> None:
        # Dagster takes any other name without a word, and does nothing with it.
        refuse_unknown("S3DestinationIOManager", settings, type(self).model_fields)
        if settings.get("s3_bucket_name") is None:
            raise SettingsError("s3_bucket_name is missing; name the bucket to land in.", setting="s3_bucket_name")
        # Dagster 1.12 takes no default for a union of configs: it is given always.
        settings["format"] = as_format_config(settings.get("format", JsonlFormatConfig()))
        super().__init__(**settings)
        if not any(isinstance(value, dg.EnvVar) for value in settings.values()):
            self.destination()
            preview_rows_of({}, self.preview_rows)

    @classmethod
    def from_connector_config(
        cls, config: Mapping[str, Any] | str | PathLike[str], **settings: Any
    ) -> "S3DestinationIOManager":
        """An IO manager from a connector's `config.json`: the mapping, or the path of the file.

        Values of a mapping may be `dg.EnvVar`. Keys that mean nothing here are named in a warning. `settings` are more
        settings of this class, which win; our own may also stand in the config under "s3dest". Raises SettingsError.
        """
        raw = config if isinstance(config, Mapping) else _read_config(Path(config))
        parsed = connector_config.from_connector_config(raw)
        if parsed.ignored:
            ignored = ", ".join(map(connector_config.doubted, parsed.ignored))
            _logger.warning("These keys of the connector's configuration mean nothing here: %s", ignored)
        given = {each.name: getattr(parsed.destination, each.name) for each in fields(S3Destination)}
        return cls(**{**given, "s3": connector_access(raw, parsed.connection), **settings})

    def destination(self) -> S3Destination:
        """The destination in plain values.

        Raises SettingsError for settings that contradict each other, MissingExtraError where a codec's package lacks.
        """
        plain = {each.name: getattr(self, each.name) for each in fields(S3Destination) if each.name != "format"}
        destination = S3Destination(**plain, format=format_settings(self.format))
        check_installed(destination.format)
        return destination

    def bucket(self) -> Bucket:
        """The bucket, reached as `s3` says. Nothing is asked of the server."""
        bucket = reach(self.s3, self.s3_bucket_name, region=self.s3_bucket_region, endpoint=self.s3_endpoint)
        return bucket.with_headers(headers_of_all(self.destination()))

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Lands an asset's records: anything that gives dicts, Arrow data, a source's items, or, for several
        partitions, a mapping or pairs of a partition key and such records. None lands nothing."""
        with told_as_failures():
            land_output(context, obj, self.destination(), self.bucket(), preview_rows=self.preview_rows)

    def load_input(self, context: dg.InputContext) -> Any:
        """What the upstream asset holds, as the parameter's annotation asks for it."""
        with told_as_failures():
            return load_input(context, self.destination(), self.bucket())


def _read_config(path: Path) -> Mapping[str, Any]:
    """A configuration file; what stands in it is not repeated in errors, since it may be a secret."""
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The configuration {path} cannot be read: {error}.") from None
    except ValueError as error:
        line = getattr(error, "lineno", "?")
        raise SettingsError(f"The configuration {path} is no JSON: see line {line}.") from None
    if not isinstance(config, Mapping):
        raise SettingsError(f"The configuration {path} is not a JSON object.")
    return config
