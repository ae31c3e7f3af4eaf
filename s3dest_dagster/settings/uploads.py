"""The settings of uploads: sizes, threads and memory, and how much memory of a landing is left for its open objects.

Must not know: other settings of a destination, S3's client.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.fields import Settings, documented, setting

_MB = 1_000_000
_MIB = 1 << 20
_MAX_PARTS = 10_000
"""The most parts of one multipart upload (S3's limit)."""
_SOURCE_BYTES = 32 * _MIB
"""The size of the records of all streams that wait in a source until their batch is full."""
_BYTES_PER_WORKER = 16 * _MIB
"""The peak memory for encoding a batch: several times its text, its columns and its bytes."""
_LEAST_OPEN_BYTES = 16 * _MIB
"""The least memory for open objects. With less, nearly every batch would end an object."""


@documented
@dataclass(frozen=True, kw_only=True)
class UploadSettings(Settings):
    """Uploads: sizes, threads and memory."""

    object_size_mb: float = setting(
        "An object is closed when this many MB (10⁶ bytes) have been written, measured after compression. It may be "
        "larger by a batch or a row group.",
        default=200,
        above=0,
    )
    part_size_mb: float = setting(
        "Size of the parts of an upload, in MB of 2²⁰ bytes; at least 5.", default=8, at_least=5
    )
    upload_threads: int = setting("Threads that begin uploads and send parts.", default=4, at_least=1)
    publish_threads: int = setting(
        "Objects that become visible at a time when a sync is published.", default=8, at_least=1
    )
    encode_workers: int = setting(
        "Threads that encode and compress, including the one that reads: 1 means only that one.",
        default=2,
        at_least=1,
    )
    memory_mb: int = setting(
        "Memory for all data in progress, in MB of 2²⁰, for all streams together. When it is used up, the largest row "
        'group or object ends early; the log, the manifest (`reason` "memory", `short_row_groups`) and the receipt '
        "say so. A single record may need more.",
        default=512,
    )
    abandoned_upload_age_s: float = setting(
        "Unfinished uploads of a stream that belong to no sync are aborted when they are older than this. A landing "
        "looks for them at most once a day; `s3dest sweep` looks immediately.",
        default=7 * 86_400,
        at_least=0,
    )
    abort_grace_s: float = setting(
        "A sync that fails or is stopped aborts its uploads, and waits at most this many seconds for that. Uploads "
        "that are not aborted by then stay invisible, and the sweep aborts them.",
        default=10,
        at_least=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.object_bytes > _MAX_PARTS * self.part_bytes:
            raise SettingsError(
                f"An object of {self.object_size_mb} MB has more than {_MAX_PARTS} parts of {self.part_size_mb} MB, "
                "and S3 allows no more. Raise part_size_mb, or lower object_size_mb.",
                setting="part_size_mb",
            )
        if self.open_bytes < (least := max(_LEAST_OPEN_BYTES, self.part_bytes)):
            needed = self.memory_mb + math.ceil((least - self.open_bytes) / _MIB)
            raise SettingsError(
                f"memory_mb is {self.memory_mb}, and with upload_threads={self.upload_threads}, part_size_mb="
                f"{self.part_size_mb} and encode_workers={self.encode_workers} a landing needs {needed}. Raise it, or "
                "lower one of the others.",
                setting="memory_mb",
            )

    @property
    def object_bytes(self) -> float:
        """The size at which an object is closed."""
        return self.object_size_mb * _MB

    @property
    def part_bytes(self) -> int:
        """The size of an upload's parts."""
        return int(self.part_size_mb * _MIB)

    @property
    def open_bytes(self) -> int:
        """The memory for all open objects together.

        It is `memory_mb` less the most that is in progress between the source and the parts that are being sent.
        """
        parts = (self.upload_threads + 2) * self.part_bytes
        return self.memory_mb * _MIB - _SOURCE_BYTES - self.encode_workers * _BYTES_PER_WORKER - parts
