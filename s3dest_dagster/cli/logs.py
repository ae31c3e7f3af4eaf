"""Warnings of the libraries on the way to the command's standard error: as sentences, without secrets.

It must not know who warns of what.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from s3dest_dagster.cli.output import Output

_OURS = "s3dest_dagster"


@contextmanager
def warnings_told(output: Output) -> Iterator[None]:
    """While it lasts, warnings are said; those of other libraries, with their tracebacks, to the curious only.

    What they warn of comes as an error of ours where it matters.
    """
    handler = _Told(output)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


class _Told(logging.Handler):
    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        if self._output.verbose:
            self._output.say_lines(self.format(record))
        elif record.name.partition(".")[0] == _OURS:
            self._output.say_lines(record.getMessage())
