"""Cells of many records together equal the cell of each value alone."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.formats.csv_cells import DEFAULT_DIALECT, Dialect, cell_rows

CHARACTERS = st.sampled_from('ab,"\\\n\r\t\0\x1e é{[ \U0001f600')
TEXTS = st.text(CHARACTERS, max_size=6)
PLAIN = st.sampled_from(["", "null", "true", "-0", "1.50", '""', '"null"', '"{"'])
STRINGS = st.builds(lambda text, ascii: json.dumps(text, ensure_ascii=ascii), TEXTS, st.booleans())
NESTED = st.builds(
    lambda value, separators: json.dumps(value, separators=separators),
    st.lists(TEXTS | st.none() | st.lists(st.integers(), max_size=2), max_size=3)
    | st.dictionaries(TEXTS, TEXTS | st.none(), max_size=3),
    st.sampled_from([(",", ":"), (", ", " : ")]),
)


DIALECTS = [
    DEFAULT_DIALECT,
    Dialect(delimiter=b";", null=b"\\N"),
    Dialect(delimiter=b"\t", null=b"b", quotes_plain_texts=False),
    Dialect(quotes_booleans=True),
    Dialect(delimiter=b"|", null=b"NULL", quotes_numbers=True, quotes_booleans=True),
]


def _cell(text: str, dialect: Dialect) -> str:
    """A cell by the rule, one value at a time."""
    if text in ("", "null"):
        return dialect.null.decode()
    plain = False
    if text[0] in "{[":
        text = json.dumps(json.loads(text), separators=(",", ":"))
    elif text[0] == '"':
        plain = not dialect.quotes_plain_texts and _is_plain(text, dialect)
        text = json.loads(text)
    elif text[0] in "tf":
        plain = not dialect.quotes_booleans
    else:
        plain = not dialect.quotes_numbers
    return text if plain else '"' + text.replace('"', '""') + '"'


def _is_plain(text: str, dialect: Dialect) -> bool:
    inner = text[1:-1]
    others = ("true", "false", "null", dialect.null.decode())
    starts_well = bool(inner) and (not inner[0].isascii() or inner[0].isalpha())
    return (
        starts_well
        and inner[-1] != " "
        and "\\" not in inner
        and dialect.delimiter.decode() not in inner
        and (inner not in others)
    )


@given(
    st.sampled_from(DIALECTS),
    st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
        lambda shape: st.tuples(
            st.just(shape[0]),
            st.lists(
                st.lists(PLAIN | STRINGS | NESTED, min_size=shape[0], max_size=shape[0]),
                min_size=shape[1],
                max_size=shape[1],
            ),
        )
    ),
)
def test_every_cell_follows_the_rule_for_its_value_alone(dialect, table):
    columns, rows = table
    texts = "".join("\n" + text for row in rows for text in row) + "\n"
    characters = np.frombuffer(texts.encode(), np.uint8)
    found = cell_rows(characters, np.flatnonzero(characters == ord("\n")), columns, dialect)
    delimiter = dialect.delimiter.decode()
    assert found.to_pylist() == ["".join(delimiter + _cell(text, dialect) for text in row).encode() for row in rows]
