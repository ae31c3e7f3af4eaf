"""What the command prints, and where: results on standard output, messages on standard error.

Secrets are struck out, and text from outside cannot steer a terminal. rich is imported once there is a terminal: that
takes longer than all of `s3dest --help`. Must not know: what the text is about.
"""

from __future__ import annotations

import errno
import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from s3dest_dagster.cli.signals import Interruption
from s3dest_dagster.errors import S3DestError, with_help
from s3dest_dagster.printable import Masking, printable, printable_json, printable_lines

if TYPE_CHECKING:
    from rich.text import Text

LABEL_WIDTH = 14
_COLOURS = {"✓": "green", "✗": "bold red"}
_QUIET_LEVELS = frozenset({"DEBUG", "TRACE"})
_STDIN, _STDOUT, _STDERR = range(3)


class OutputClosedError(Exception):
    """Standard output accepts nothing more: its reader has gone, or its disk is full."""


# ---------------------------------------------------------------------- closed standard streams


def open_closed_streams() -> None:
    """Opens standard streams that the caller has closed, so that no connection or file gets their number.

    Writing to standard output and reading from standard input still fail; text for standard error is lost.
    """
    for number, flags in ((_STDIN, os.O_WRONLY), (_STDOUT, os.O_RDONLY), (_STDERR, os.O_WRONLY)):
        if not _is_open(number):
            _redirect_to_null(number, flags)
    if sys.stdout is None:
        sys.stdout = open(_STDOUT, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(_STDERR, "w", closefd=False)  # noqa: SIM115


def discard(number: int) -> None:
    """Drops what is written to a file descriptor from now on, and what it still buffers, instead of failing."""
    _redirect_to_null(number, os.O_WRONLY)


def _redirect_to_null(number: int, flags: int) -> None:
    null = os.open(os.devnull, flags)
    if null != number:
        os.dup2(null, number)
        os.close(null)


def _is_open(number: int) -> bool:
    with suppress(OSError):
        os.fstat(number)
        return True
    return False


# ---------------------------------------------------------------------- terminals


@dataclass(frozen=True, slots=True)
class Table:
    """A table for people."""

    headings: tuple[str, ...]
    """One heading for each column; it may be empty."""
    rows: Sequence[Sequence[str]]
    numbers: frozenset[str] = frozenset()
    """The headings of the columns that are aligned to the right."""


def check_mark(ok: bool) -> str:
    """The mark in a table for what is well, or is not."""
    return "✓" if ok else "✗"


class Screen:
    """Standard output as a terminal. Colours follow NO_COLOR and TERM.

    Args:
        safe: Makes a text fit to be displayed.
    """

    def __init__(self, safe: Callable[[str], str]) -> None:
        from rich.console import Console

        self._safe = safe
        self._console = Console(file=sys.stdout, highlight=False)

    def heading(self, title: str, note: str = "") -> None:
        """Prints the line that begins a paragraph."""
        self._line((self._safe(title), "bold"), f"  {self._safe(note)}")

    def header(self, line: str) -> None:
        """Prints the line above the lines of a list."""
        self._line((self._safe(line), "dim"))

    def fact(self, label: str, value: str) -> None:
        """Prints a value behind its label, however long it is."""
        self._line((f"  {label:{LABEL_WIDTH}}", "dim"), self._safe(value))

    def sentence(self, text: str) -> None:
        """Prints a line of text. A ✓ or ✗ at its beginning has a colour."""
        self._line(self._coloured(text[:1]), self._safe(text[1:]))

    def table(self, table: Table) -> None:
        """Prints a table as wide as it has to be. On a narrower terminal cells are folded, never cut."""
        from rich import box
        from rich.table import Table as RichTable

        rich_table = RichTable(box=box.ROUNDED, border_style="dim", header_style="dim")
        for heading in table.headings:
            rich_table.add_column(heading, justify="right" if heading in table.numbers else "left", overflow="fold")
        for row in table.rows:
            rich_table.add_row(*map(self._coloured, row))
        self._console.print(rich_table)

    def _coloured(self, text: str) -> Text:
        from rich.text import Text

        return Text(self._safe(text), _COLOURS.get(text, ""))

    def _line(self, *parts: Text | str | tuple[str, str]) -> None:
        from rich.text import Text

        self._console.print(Text.assemble(*parts), soft_wrap=True)


@contextmanager
def status_line() -> Iterator[Callable[[str], None]]:
    """Shows a status on standard error while the block runs, if that is a terminal; the block's value sets its text."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stderr, highlight=False)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status("") as status:
        yield lambda text: status.update(Text(printable(text), "dim"))


# ---------------------------------------------------------------------- both streams


class Output:
    """The two output streams of the command. `verbose` and `json` hold what the caller asked for."""

    def __init__(self) -> None:
        self.verbose = False
        self.json = False
        self._secrets: list[str] = []
        self._mask = Masking(())
        self._display: Callable[[str], None] | None = None
        self._pause_display: Callable[[], AbstractContextManager[None]] | None = None
        for stream in (sys.stdout, sys.stderr):
            # A terminal that has no glyph for a character gets its number instead of an error.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]

    @property
    def screen(self) -> Screen | None:
        """The terminal for results; None if a program reads them or a file keeps them."""
        return None if self.json or not sys.stdout.isatty() else Screen(self.safe)

    def keep_secret(self, texts: Iterable[str]) -> None:
        """Strikes these texts out of everything that is printed from now on, except for messages of `pass_on`."""
        self._secrets += texts
        self._mask = Masking(self._secrets)

    def safe(self, text: str) -> str:
        """The text on one line, without secrets and without anything that steers a terminal."""
        return printable(self._mask(text))

    def share_terminal(
        self, display: Callable[[str], None] | None, pause: Callable[[], AbstractContextManager[None]] | None
    ) -> None:
        """Lets a moving display have the terminal: it prints the messages, and pauses for results.

        Args:
            display: Prints a message above the display; None ends the sharing.
            pause: Takes the display away while its block runs.
        """
        self._display = display
        self._pause_display = pause if sys.stdout.isatty() else None

    # ------------------------------------------------------------------ standard error

    def say(self, sentence: str) -> None:
        """Prints a line for people. If nobody can read it any more, the work goes on all the same."""
        self._print_message(self.safe(sentence))

    def say_lines(self, text: str) -> None:
        """Like `say`, but keeps the text's lines; all but the first are marked as continued."""
        self._print_message(printable_lines(self._mask(text)))

    def say_json(self, value: Any) -> None:
        """Prints a report for programs, in one line among the messages."""
        self.say(printable_json(json.dumps(value)))

    def log(self, level: str, message: str) -> None:
        """Prints a log line of a source; debug lines only with --verbose."""
        if self.verbose or level not in _QUIET_LEVELS:
            self.say_lines(f"{level}: {message}")

    def say_error(self, error: BaseException) -> None:
        """Prints the error and its notes as sentences; with --verbose, its traceback first."""
        if self.verbose:
            self.say_lines("".join(traceback.format_exception(error)).rstrip())
        self.say_lines(f"Error: {full_text(error)}")

    def say_usage(self, error: click.ClickException) -> None:
        """Prints what is wrong with a call, and how to call the verb."""
        usage = io.StringIO()
        error.show(usage)
        for line in usage.getvalue().splitlines():
            self.say(line)

    def _print_message(self, text: str) -> None:
        try:
            if self._display is not None:
                self._display(text)
            else:
                print(text, file=sys.stderr, flush=True)
        except OSError:
            discard(sys.stderr.fileno())

    # ------------------------------------------------------------------ standard output

    def show(self, line: str) -> None:
        """Prints a line of the result. Raises OutputClosedError if nobody reads it any more."""
        self._print_result(self.safe(line))

    def show_header(self, line: str) -> None:
        """Prints the line above the lines of the result, which a terminal shows dim. Raises as `show` does."""
        if (screen := self.screen) is not None:
            screen.header(line)
        else:
            self.show(line)

    def show_document(self, text: str) -> None:
        """Prints a JSON document in its own lines. Raises OutputClosedError if nobody reads it any more."""
        self._print_result(printable_json(self._mask(text)))

    def show_json(self, value: Any) -> None:
        """Prints the result for programs. Raises OutputClosedError if nobody reads it any more."""
        self.show_document(json.dumps(value, indent=2))

    def pass_on(self, message: bytes) -> None:
        """Prints a JSON message exactly as it came; on a terminal, unprintable characters become JSON escapes.

        Raises:
            OutputClosedError: Nobody reads it any more.
        """
        if sys.stdout.isatty():
            message = printable_json(message.decode()).encode()
        with self._pause_display() if self._pause_display is not None else nullcontext(), _detect_closed_output():
            sys.stdout.buffer.write(message + b"\n")
            sys.stdout.buffer.flush()

    def _print_result(self, text: str) -> None:
        with _detect_closed_output():
            print(text, flush=True)


def full_text(error: BaseException) -> str:
    """The text of an error and its notes, as sentences, and where the documentation explains it."""
    text = " ".join(map(_sentence, (str(error), *getattr(error, "__notes__", ()))))
    return with_help(text, [error] if isinstance(error, S3DestError) else [])


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?", ")", "}")) else f"{text}."


@contextmanager
def _detect_closed_output() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # The interpreter flushes standard output once more at its end, which must not fail again.
        discard(sys.stdout.fileno())
        if isinstance(error, BrokenPipeError) or error.errno == errno.EBADF:
            raise OutputClosedError("Standard output was closed before everything was written to it.") from None
        raise OutputClosedError(f"Standard output cannot be written to: {error.strerror}.") from None


@dataclass(frozen=True, slots=True)
class Session:
    """What every verb gets besides its options."""

    output: Output
    interruption: Interruption
    limits: dict[str, Any] = field(default_factory=dict)
    """The limits for reading standard input, by name."""
