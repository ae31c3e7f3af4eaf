"""Text from outside cannot control a terminal, log or page."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.errors import SourceError
from s3dest_dagster.printable import amount, logger, markdown, printable, printable_json, printable_lines, size

STEERING = [
    "\x1b]52;c;cm0gLXJm\x07",
    "\x1b[2J",
    "\x00",
    "\x08",
    "\x7f",
    "\x9b31m",
    "\u202e",
    "\u2066",
    "\u200b",
    "\u2028",
    "\u2029",
    "\ufeff",
    "\U000e0041",
    "\ud800",
]


@pytest.mark.parametrize("text", STEERING, ids=ascii)
@pytest.mark.parametrize("shown_by", [printable, printable_lines, markdown])
def test_control_characters_are_escaped(shown_by, text):
    shown = shown_by(f"a{text}b")
    assert shown.isprintable()
    assert shown.startswith("a")
    assert shown.endswith("b")


@given(st.text(st.characters()))
def test_a_line_stays_a_line(text):
    assert len(printable(text).splitlines()) <= 1


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_letters_digits_signs_and_spaces_stay(text):
    assert printable(text) == text


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n"], ids=ascii)
def test_no_line_of_a_text_looks_like_a_separate_message(line_break):
    assert printable_lines(f"ready{line_break}Error: all is lost\x1b") == "ready\n  | Error: all is lost\\x1b"


@given(st.text(st.characters()))
def test_escaping_twice_equals_escaping_once(text):
    assert printable(printable(text)) == printable(text)
    assert printable_lines(printable_lines(text)) == printable_lines(text)


@given(st.recursive(st.text(st.characters()) | st.integers(), lambda inner: st.dictionaries(st.text(), inner)))
def test_a_json_document_stays_the_same(value):
    for indent in (None, 2):
        text = json.dumps(value, indent=indent, ensure_ascii=False)
        shown = printable_json(text)
        assert json.loads(shown) == value
        assert all(line.isprintable() or max(line) >= "\xa0" for line in shown.split("\n"))


def test_every_error_is_printable():
    error = SourceError("The source said: \x1b]0;title\x07\nError: all is lost.")
    assert str(error) == error.message == "The source said: \\x1b]0;title\\x07\n  | Error: all is lost."


def test_a_log_line_is_printable():
    kept: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: kept.append(record.getMessage())  # type: ignore[method-assign]
    ours = logger("tests.printable")
    ours.addHandler(handler)
    # Levels and handlers of the whole process belong to whoever runs it.
    ours.setLevel(logging.WARNING)
    ours.warning("%s: swept", "us\x1bers\nERROR forged")
    assert kept == ["us\\x1bers\n  | ERROR forged: swept"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<b>x</b> a > b", r"\<b>x\</b> a > b"),
        ("![x](http://a.b/c.png)", r"!\[x\](http\://a.b/c.png)"),
        ("www.a.b, a@b.c", r"www\.a.b, a\@b.c"),
        ("# a\n- b\n 1. c\n===\n> d", "\\# a\n\\- b\n 1\\. c\n\\===\n\\> d"),
        ("*a* _b_ c_d `e` ~~f~~", r"\*a\* \_b\_ c_d \`e\` \~\~f\~\~"),
        ("a | b &lt; c & d", r"a \| b \&lt; c & d"),
        ("The id, e.g. 5 (a-b). Really!", "The id, e.g. 5 (a-b). Really!"),
    ],
)
def test_markdown_shows_markup_as_text_and_leaves_plain_text_alone(text, shown):
    assert markdown(text) == shown


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1_000, "1,000 rows")],
)
def test_a_noun_agrees_with_its_number(number, words):
    assert amount(number, "row") == words


def test_an_irregular_plural_is_given():
    assert [amount(number, "query", "queries") for number in (1, 2)] == ["1 query", "2 queries"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (3_400_000, "3.4 MB"),
        (2 * 10**15, "2,000.0 TB"),
    ],
)
def test_bytes_have_a_readable_unit(number, words):
    assert size(number) == words
