"""The settings of partitions by field: what happens to records without a value, and how many directories are too many.

Must not know: which fields a stream is partitioned by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from s3dest_dagster.settings.fields import Settings, documented, setting


@documented
@dataclass(frozen=True, kw_only=True)
class FieldPartitionSettings(Settings):
    """Partitions by field: what happens to records without a value, and how many values a field may have."""

    on_null: Literal["default", "fail"] = setting(
        "A record of a stream with `partition_by` whose field has no value, or none that can be a directory, lands "
        'under `__HIVE_DEFAULT_PARTITION__`, which readers take for null; `"fail"` fails the sync.',
        default="default",
    )
    max_partition_values: int = setting(
        "A sync in which a field of `partition_by` has more different values than this fails before anything is "
        "published: every value costs an object.",
        default=1_000,
        at_least=1,
    )
