"""What the command says, and where: results on standard output, sentences on standard error, never a secret, and
nothing from outside that would steer a terminal.

It must not know what it shows.
"""

from __future__ import annotations

import errno
import io
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from s3dest_dagster.cli.standard_streams import discard
from s3dest_dagster.printable import printable, printable_json, printable_lines
from s3dest_dagster.sources.airbyte.config import Masking

if TYPE_CHECKING:
    pass


_LABEL_WIDTH = 14
_STYLES = {"✓": "green", "✗": "bold red"}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings; those of `numbers` stand at the right. A heading may be empty."""

    headings: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[str] = frozenset()


class Screen:
    """Standard output, a terminal. `shown` makes a text one that may be shown. Colours follow NO_COLOR and TERM."""

    def __init__(self, shown: Callable[[str], str]) -> None:
        self._shown = shown
        self._console = Console(file=sys.stdout, highlight=False)

    def heading(self, title: str, diagnostic: str = "") -> None:
        """A line that begins a paragraph."""
        self._line(Text.assemble((self._shown(title), "bold"), f"  {self._shown(diagnostic)}"))

    def fact(self, label: str, value: str) -> None:
        """A value behind its label, however long."""
        self._line(Text.assemble((f"  {label:{_LABEL_WIDTH}}", "dim"), self._shown(value)))

    def sentence(self, text: str) -> None:
        """A line of text; one that begins with ✓ or ✗ has its colour."""
        self._line(Text.assemble(self._signed(text[:1]), self._shown(text[1:])))

    def table(self, table: Table) -> None:
        """The table, as wide as it must be. Cells are folded where the terminal is narrower, and never cut."""
        shown = RichTable(box=box.ROUNDED, border_style="dim", header_style="dim")
        for heading in table.headings:
            shown.add_column(heading, justify="right" if heading in table.numbers else "left", overflow="fold")
        for row in table.rows:
            shown.add_row(*map(self._signed, row))
        self._console.print(shown)

    def _signed(self, text: str) -> Text:
        return Text(self._shown(text), _STYLES.get(text, ""))

    def _line(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)


@contextmanager
def waiting() -> Iterator[Callable[[str], None]]:
    """While it lasts, a line on standard error tells whom it is the turn of, and is gone afterwards. A terminal only:
    elsewhere nothing is said."""
    console = Console(file=sys.stderr, highlight=False)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status("") as status:
        yield lambda text: status.update(Text(text, "dim"))


_QUIET_LEVELS = frozenset({"DEBUG", "TRACE"})


class OutputClosedError(Exception):
    """Standard output takes no more: whoever read it has gone, or its disk is full."""


class Output:
    """The two streams of the command. `verbose` and `json` are what the caller asked for."""

    def __init__(self) -> None:
        self.verbose = False
        self.json = False
        self._secrets: list[str] = []
        self._masked = Masking(())
        self._say_by: Callable[[str], None] | None = None
        self._aside: Callable[[], AbstractContextManager[None]] | None = None
        for stream in (sys.stdout, sys.stderr):
            # A terminal that cannot show a sign gets its number instead of an error.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]

    @property
    def screen(self) -> Screen | None:
        """The terminal that results are shown on; None where they are read by a program, or kept in a file."""
        if self.json or not sys.stdout.isatty():
            return None

        return Screen(self.shown)

    def keep_secret(self, texts: Iterable[str]) -> None:
        """From now on these texts are struck out of whatever is shown, except of what is passed on."""
        self._secrets += texts
        self._masked = Masking(self._secrets)

    def shown(self, text: str) -> str:
        """The text on one line as a terminal may show it, with every secret that is known by now struck out."""
        return printable(self._masked(text))

    def share_terminal(
        self, say: Callable[[str], None] | None, aside: Callable[[], AbstractContextManager[None]] | None
    ) -> None:
        """From now on sentences are said by `say`, and results written while `aside` lasts, since a display that moves
        has the terminal; None ends it."""
        self._say_by = say
        self._aside = aside if sys.stdout.isatty() else None

    def say(self, sentence: str) -> None:
        """A line on standard error, for people. Where nobody can read it any more, the work goes on all the same."""
        self._write_error(self.shown(sentence))

    def say_lines(self, text: str) -> None:
        """As `say`, with the text's own lines: the second and later ones are marked as such."""
        self._write_error(printable_lines(self._masked(text)))

    def _write_error(self, text: str) -> None:
        try:
            if self._say_by is not None:
                self._say_by(text)
            else:
                print(text, file=sys.stderr, flush=True)
        except OSError:
            discard(sys.stderr.fileno())

    def show(self, line: str) -> None:
        """A line of the result on standard output. Raises OutputClosedError when nobody reads it any more."""
        self._write_result(self.shown(line))

    def show_document(self, text: str) -> None:
        """A JSON document on standard output, in its own lines. Raises OutputClosedError as `show` does."""
        self._write_result(printable_json(self._masked(text)))

    def show_json(self, value: Any) -> None:
        """The result for programs."""
        self.show_document(json.dumps(value, indent=2))

    def _write_result(self, text: str) -> None:
        with _closing_told():
            print(text, flush=True)

    def say_json(self, value: Any) -> None:
        """A report for programs that shares standard error with sentences: one line."""
        self.say(printable_json(json.dumps(value)))

    def pass_on(self, message: bytes) -> None:
        """A JSON message on standard output exactly as it came; on a terminal, with JSON's escapes for what cannot be
        printed. Raises OutputClosedError when nobody reads it any more."""
        if sys.stdout.isatty():
            message = printable_json(message.decode()).encode()
        with self._aside() if self._aside is not None else nullcontext(), _closing_told():
            sys.stdout.buffer.write(message + b"\n")
            sys.stdout.buffer.flush()

    def log(self, level: str, message: str) -> None:
        """What a source logs; details only when the caller is curious."""
        if self.verbose or level not in _QUIET_LEVELS:
            self.say_lines(f"{level}: {message}")

    def say_error(self, error: BaseException) -> None:
        """The error as sentences; with its traceback when the caller wants to know everything."""
        if self.verbose:
            self.say_lines("".join(traceback.format_exception(error)).rstrip())
        parts = [str(error), *getattr(error, "__notes__", ())]
        self.say_lines(" ".join(["Error:", *map(_sentence, parts)]))

    def say_usage(self, error: click.ClickException) -> None:
        """What is wrong with a call, and how the verb is called."""
        told = io.StringIO()
        error.show(told)
        for line in told.getvalue().splitlines():
            self.say(line)


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?", ")", "}")) else f"{text}."


@contextmanager
def _closing_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # The interpreter's last flush must not fail again.
        discard(sys.stdout.fileno())
        if isinstance(error, BrokenPipeError) or error.errno == errno.EBADF:
            raise OutputClosedError("Standard output was closed before everything was written to it.") from None
        raise OutputClosedError(f"Standard output cannot be written to: {error.strerror}.") from None
