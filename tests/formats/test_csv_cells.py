"""Cells of many records together equal the cell of each value alone."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.formats.csv import cell_rows

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


def _cell(text: str) -> str:
    """A cell by the rule, one value at a time."""
    if text in ("", "null"):
        return ""
    if text[0] in "{[":
        text = json.dumps(json.loads(text), separators=(",", ":"))
    elif text[0] == '"':
        text = json.loads(text)
    else:
        return text
    return '"' + text.replace('"', '""') + '"'


@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
        lambda shape: st.tuples(
            st.just(shape[0]),
            st.lists(
                st.lists(PLAIN | STRINGS | NESTED, min_size=shape[0], max_size=shape[0]),
                min_size=shape[1],
                max_size=shape[1],
            ),
        )
    )
)
def test_every_cell_follows_the_rule_for_its_value_alone(table):
    columns, rows = table
    texts = "".join("\n" + text for row in rows for text in row) + "\n"
    characters = np.frombuffer(texts.encode(), np.uint8)
    found = cell_rows(characters, np.flatnonzero(characters == ord("\n")), columns)
    assert found.to_pylist() == ["".join("," + _cell(text) for text in row).encode() for row in rows]
