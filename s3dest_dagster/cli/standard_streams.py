"""Standard input, output and error where whoever started the command has closed one of them.

Their numbers must not be given to something else, to a connection or a file: what is read or written would be that. It
must not know what is read or written.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

_STDIN, _STDOUT, _STDERR = range(3)


def occupy_closed() -> None:
    """What is closed stays taken. Writing to standard output, or reading standard input, fails then as before; what is
    said on standard error is lost."""
    for number, flags in ((_STDIN, os.O_WRONLY), (_STDOUT, os.O_RDONLY), (_STDERR, os.O_WRONLY)):
        if not _is_open(number):
            _onto(number, flags)
    if sys.stdout is None:
        sys.stdout = open(_STDOUT, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(_STDERR, "w", closefd=False)  # noqa: SIM115


def discard(number: int) -> None:
    """What is written there from now on is lost, instead of failing; also what waits to be written."""
    _onto(number, os.O_WRONLY)


def _onto(number: int, flags: int) -> None:
    nowhere = os.open(os.devnull, flags)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)


def _is_open(number: int) -> bool:
    with suppress(OSError):
        os.fstat(number)
        return True
    return False
