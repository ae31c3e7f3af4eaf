"""What the directories of a stream's objects tell: how many there are, how large the objects are, and how to get larger
ones.

Must not know: how objects were written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median_low

from s3dest_dagster.commit.landed_objects import LandedObject
from s3dest_dagster.printable import amount, size

SMALL_BYTES = 1_000_000
"""Readers spend more time on opening a smaller object than on reading it."""
FEW_OBJECTS = 10
"""So few objects are no burden, however small they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionSummary:
    """The objects of a stream with `partition_by`."""

    directories: int
    """Directories with objects."""
    objects: int
    """Objects."""
    smallest: int
    """Bytes of the smallest object."""
    median: int
    """Bytes of the object of median size."""
    null_rows: Mapping[str, int]
    """Records without a value, by the name of the directory. Names without such records are left out."""

    @classmethod
    def of(cls, objects: Iterable[LandedObject]) -> PartitionSummary | None:
        """The summary of these objects. None if none of them has directories."""
        having = [(each, each.partition_values) for each in objects if each.partition_values is not None]
        if not having:
            return None
        nulls: dict[str, int] = {}
        for each, values in having:
            for name, value in values.items():
                if value is None:
                    nulls[name] = nulls.get(name, 0) + each.rows
        sizes = [each.bytes for each, _ in having]
        return cls(
            directories=len({tuple(values.items()) for _, values in having}),
            objects=len(having),
            smallest=min(sizes),
            median=median_low(sizes),
            null_rows=nulls,
        )

    @property
    def has_small_objects(self) -> bool:
        """Whether the objects are so small and so many that readers suffer."""
        return self.objects >= FEW_OBJECTS and self.median < SMALL_BYTES

    def advice(self, ended_early: int = 0) -> str:
        """A sentence on small objects, with the cure. Empty if the objects are not small.

        Args:
            ended_early: Objects and row groups that ended because the memory was used up.
        """
        if not self.has_small_objects:
            return ""
        memory = f" {ended_early:,} of them ended early for want of memory: raise memory_mb." if ended_early else ""
        return (
            f"Half of its {amount(self.objects, 'object')} in {amount(self.directories, 'directory', 'directories')} "
            f"have at most {size(self.median)}, so that readers spend most of their time on opening objects.{memory} "
            "Take a longer time in partition_by (month in place of day) or fewer fields, or land more records at "
            "a time."
        )
