"""Whether JSON text may hold numbers that a double does not give back, told from the bytes alone.

A number of at most 15 significant digits with an exponent of at most two digits below zero is given back by its double.
So only runs of 16 digits or dots, and exponents like e-123, are worth a second look. Never wrong in the safe direction.
It must not know records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s3dest_dagster.schema.json_texts import NO_ROWS, Rows

_CLASSES = bytes(
    1 if byte in b"0123456789." else 2 if byte in b"eE" else 3 if byte == ord("-") else 0 for byte in range(256)
)
_LONG_RUN = b"\1" * 16
_DEEP_EXPONENT = b"\2\3\1\1\1"
_LONG_NUMBER = r"[:,\[\s]-?[0-9.]{16}|[eE]-[0-9]{3}"


def rows_at_risk(block: bytes, raws: Sequence[Any]) -> Rows:
    """The rows of `raws` (joined by one byte each in `block`) that may hold a number that its double does not give
    back. Long runs of digits inside strings do not count where they begin like no number."""
    classes = block.translate(_CLASSES)
    if classes.find(_LONG_RUN) < 0 and classes.find(_DEEP_EXPONENT) < 0:
        return NO_ROWS
    offsets = np.zeros(len(raws) + 1, np.int32)
    np.cumsum([len(raw) + 1 for raw in raws], out=offsets[1:])
    offsets[-1] -= 1
    texts = pa.Array.from_buffers(pa.string(), len(raws), [None, pa.py_buffer(offsets), pa.py_buffer(block)])
    return np.flatnonzero(pc.match_substring_regex(texts, _LONG_NUMBER).to_numpy(zero_copy_only=False))
