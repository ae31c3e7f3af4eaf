"""Results for a person's eyes: headings, facts and tables on a terminal. Only where standard output is one.

Long texts that somebody copies (keys, policies) stand outside of tables, where nothing but the terminal breaks them.
What is shown is told by plain values; it must not know what they mean.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

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

    def heading(self, title: str, remark: str = "") -> None:
        """A line that begins a paragraph."""
        self._line(Text.assemble((self._shown(title), "bold"), f"  {self._shown(remark)}"))

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
