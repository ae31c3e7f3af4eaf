"""SQL texts: queries with placeholders, quoted names, literals, and the conditions that a read adds to a query.

A value never becomes SQL: it is always a quoted literal, and a placeholder within a quoted text or a comment is
refused. Must not know: drivers, connections.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources.templating import Values, placeholder_names, render_text

ALIAS = "s3dest_rows"
"""The name of the query within the statement that reads it."""
_QUOTED = re.compile(
    r"""[eE]'(?:[^'\\]|\\.|'')*'      # PostgreSQL's texts with escapes
      | '(?:[^']|'')*'
      | "(?:[^"]|"")*"
      | `[^`]*`
      | --[^\n]*
      | /\*.*?\*/
      | \$(\w*)\$.*?\$\1\$            # PostgreSQL's and DuckDB's quotes of dollars
    """,
    re.VERBOSE | re.DOTALL,
)
_OPEN_QUOTE = re.compile(r"['\"`]|/\*")
_MARK = re.compile("\0([0-9]+)\0")
"""Where a value comes. No SQL text holds a NUL."""
_TABLE = re.compile(r"""(?:[^\W\d][\w$]*|"(?:[^"]|"")+"|`[^`]+`)(?:\.(?:[^\W\d][\w$]*|"(?:[^"]|"")+"|`[^`]+`)){0,2}""")


def render_query(query: str, values: Values | None, *, has_escapes: bool = False) -> str:
    """The query with a literal in place of every placeholder, and without a semicolon at its end.

    Args:
        values: The values of the placeholders.
        has_escapes: Whether a backslash has a meaning within the database's quoted texts.

    Raises:
        SettingsError: A placeholder has no value, or is within a quoted text or a comment.
    """
    if "\0" in query:
        raise SettingsError("The query has a NUL character, which no database accepts.", setting="query")
    literals: list[str] = []

    def marked(text: str) -> str:
        literals.append(quoted_text(text, has_escapes=has_escapes))
        return f"\0{len(literals) - 1}\0"

    text = render_text(query, "query", values, escape=marked)
    outside = _QUOTED.sub(" ", text)
    if literals and (len(_MARK.findall(outside)) != len(_MARK.findall(text)) or _OPEN_QUOTE.search(outside)):
        raise SettingsError(
            "The query has a placeholder within quotes or a comment. A placeholder becomes a quoted text; write "
            "{{ partition_key }} without quotes around it.",
            setting="query",
        )
    text = _MARK.sub(lambda match: literals[int(match[1])], text)
    return text.rstrip().removesuffix(";")


def query_of_table(table: str, values: Values | None, *, mark: str = '"') -> str:
    """The query of all rows of a table. Placeholders in its name become quoted names."""
    name = render_text(table, "table", values, escape=partial(quoted_name, mark=mark))
    return f"select * from {name}"


def check_table(table: str) -> None:
    """Raises SettingsError unless the text names a table: `orders`, `shop.orders`, `"Shop"."Orders"`."""
    placeholders = placeholder_names(table)
    without_placeholders = re.sub(r"\{\{.*?\}\}", "x", table) if placeholders else table
    if not _TABLE.fullmatch(without_placeholders):
        raise SettingsError(
            f'table is {table!r}. It names one table, as orders, shop.orders or "Shop"."Orders"; for anything else, '
            "give a query.",
            setting="table",
        )


def quoted_name(name: str, *, mark: str = '"') -> str:
    """The name of a column or table, quoted."""
    return mark + name.replace(mark, mark * 2) + mark


def quoted_text(text: str, *, has_escapes: bool = False) -> str:
    """The literal of a text. Raises SettingsError for a text that the database's literals cannot hold."""
    if "\0" in text or (has_escapes and "\\" in text):
        raise SettingsError(
            "A placeholder's value has a NUL or a backslash, which a literal of this database cannot hold.",
            setting="query",
        )
    return "'" + text.replace("'", "''") + "'"


def literal_of(value: int | str, *, has_escapes: bool = False) -> str:
    """The literal of a cursor's value or a key."""
    return str(value) if isinstance(value, int) else quoted_text(value, has_escapes=has_escapes)


def select(query: str, columns: str = "*", *, where: Sequence[str] = (), order_by: str | None = None) -> str:
    """The statement that reads columns of a query's rows. The query stands on lines of its own, since it may end with
    a comment."""
    text = f"select {columns} from (\n{query}\n) {ALIAS}"
    if where:
        text += f" where {' and '.join(f'({each})' for each in where)}"
    return text if order_by is None else f"{text} order by {order_by}"
