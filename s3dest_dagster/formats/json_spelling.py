"""JSON texts without blanks between their tokens; every value keeps the source's spelling. It must not know records."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from s3dest_dagster.schema.characters import table_of

_BEFORE_BLANK, _AFTER_BLANK = b"{[,:", b",:]}"


def compact(text: bytes) -> bytes:
    """One JSON text without blanks outside of its strings."""
    return msgspec.json.format(text, indent=-1)


def compact_lines(raws: Sequence[bytes]) -> bytes:
    """JSON texts without raw line breaks, each compact, joined by line breaks."""
    lines = b"\n".join(raws)
    suspects = _lines_with_suspicious_blanks(lines)
    if not len(suspects):
        return lines
    texts = list(raws)
    for number in suspects.tolist():
        texts[number] = compact(texts[number])
    return b"\n".join(texts)


def _lines_with_suspicious_blanks(lines: bytes) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Numbers of the lines that may have a blank outside of strings.

    Between two tokens of which none is punctuation JSON has no blanks, so a run of them begins behind punctuation or
    ends before it. Blanks within strings can look like that too, which only costs time.
    """
    characters = np.frombuffer(lines, np.uint8)
    blank = characters == ord(" ")
    for other in (b"\t", b"\r"):
        if other in lines:
            blank |= characters == other[0]
    places = np.flatnonzero(blank)
    suspicious = _IS_BEFORE[characters[places - 1]] | _IS_AFTER[characters[places + 1]]
    if not suspicious.any():
        return np.zeros(0, np.int64)
    line_ends = np.flatnonzero(characters == ord("\n"))
    return np.unique(np.searchsorted(line_ends, places[suspicious]))


_IS_BEFORE, _IS_AFTER = table_of(_BEFORE_BLANK), table_of(_AFTER_BLANK)
