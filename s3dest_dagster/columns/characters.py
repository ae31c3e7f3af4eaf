"""Text looked at byte by byte, all bytes at once: what the scans of JSON text share. It must not know JSON."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
"""The bytes of a text as numbers."""
Places = NDArray[np.int64]
"""Where something stands in a text, or the numbers of its pieces."""


def table_of(members: bytes) -> NDArray[np.bool_]:
    """For each byte whether it is one of the members: indexed by bytes, it answers for all of them at once."""
    table = np.zeros(256, np.bool_)
    table[list(members)] = True
    return table
