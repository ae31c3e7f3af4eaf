"""When an object is closed: asked after every batch, answered with a reason or with None for "keep".

It must not know what the object is made of.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why an object was closed; it stands in the manifest."""

    SIZE = "size"
    """The object reached the size that the settings aim at."""
    END = "end"
    """The source gave no more records."""
    MEMORY = "memory"
    """The open objects held more than the settings allow, and this one held the most."""


def reason_to_close(size: int, object_bytes: float) -> Reason | None:
    """Answers for an object of which `size` bytes are written; `object_bytes` is the size aimed at."""
    return Reason.SIZE if size >= object_bytes else None
