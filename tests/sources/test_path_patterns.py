"""Patterns of paths: what they match and capture, and that matching time stays in proportion to the pattern's
length."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from work_counter import assert_linear

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources.path_patterns import escape_wildcards, parse_pattern

MEANING = {"**/": r"(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]", "[ab]": "[ab]", "[!a]": "[^a]"}
"""What each wildcard means, as a regular expression."""
CAUGHT = "{{ partition_key }}"


def matched(pattern: str, path: str):
    found = parse_pattern(pattern, capture=True)
    return None if not path.startswith(found.directory) else found.match(path[len(found.directory) :])


def expected(pieces: list[str], path: str):
    text, caught = "", False
    for piece in pieces:
        if piece == CAUGHT:
            text += "(?P=caught)" if caught else "(?P<caught>[^/]+)"
            caught = True
        else:
            text += MEANING.get(piece) or re.escape(piece)
    return re.fullmatch(text, path, re.DOTALL)


@settings(max_examples=10 * settings().max_examples)  # they are cheap
@given(
    st.lists(st.sampled_from([*MEANING, "a", "b", "/", CAUGHT]), min_size=1, max_size=6),
    st.lists(st.sampled_from(["a", "b", "ab", "aa", "ba"]), min_size=1, max_size=4),
)
def test_a_pattern_matches_and_captures_like_its_regular_expression(pieces, directories):
    pattern, path = "".join(pieces), "/".join(directories)
    if pattern.startswith("/") or "//" in pattern or "***" in pattern or "**" in "".join(pieces).replace("**/", ""):
        return
    pieces = re.findall(r"\{\{ \w+ \}\}|\*\*/|\*\*|\[!?\w+\]|.", pattern)
    found, wanted = matched(pattern, path), expected(pieces, path)
    assert (found is None) == (wanted is None)
    if found is not None and wanted is not None:
        assert found.captured.get("partition_key") == wanted.groupdict().get("caught")


def test_the_last_of_several_positions_is_captured():
    assert matched("in/*_{{ partition_key }}.csv", "in/a_b_c.csv").captured == {"partition_key": "c"}


def test_two_placeholders_capture_their_parts():
    caught = matched("{{ year }}/{{ month }}/x_{{ year }}*.csv", "2024/05/x_20245.csv").captured
    assert caught == {"year": "2024", "month": "05"}


@given(st.text("ab*?[]", min_size=1))
def test_an_escaped_text_matches_only_itself(text):
    assert matched(escape_wildcards(text), text) is not None
    assert matched(escape_wildcards(text), f"{text}a") is None


@pytest.mark.parametrize("hidden", ["in/.a.csv", "in/.b/a.csv"])
def test_hidden_names_are_not_found(hidden):
    assert matched("in/**/*.csv", hidden) is None


@pytest.mark.parametrize("wrong", ["[z-a].csv", "[!z-a].csv"])
def test_an_invalid_class_is_refused(wrong):
    with pytest.raises(SettingsError, match=r"has the class \[!?z-a\], which is none"):
        parse_pattern(wrong, capture=True)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        (r"[\].csv", "\\.csv", True),
        ("[^a].csv", "b.csv", True),
        ("[[].csv", "[.csv", True),
        ("[a&&b].csv", "&.csv", True),
        ("[a", "[a", True),
        ("[]", "[]", True),
        ("[a-c].csv", "d.csv", False),
    ],
)
def test_a_class_can_contain_any_characters(pattern, path, matches):
    assert (matched(pattern, path) is not None) == matches


LONG: dict[str, tuple] = {
    "stars": (lambda n: "*a" * n + "b.csv", lambda n: "a" * 60),
    "deep stars": (lambda n: "**a" * n + "b", lambda n: "a/" * 30),
    "directories": (lambda n: "**/" * n + "y.csv", lambda n: "a/" * 30 + "x.csv"),
    "directories and names": (lambda n: "**/a/" * n + "y.csv", lambda n: "a/" * 30 + "x.csv"),
    "a long name": (lambda n: "*a*a*a*ab", lambda n: "a" * n * 8),
    "a long path": (lambda n: "**/a/**/a/**/a/b", lambda n: "a/" * n * 8),
    "a placeholder": (lambda n: "*a" * n + CAUGHT + "b", lambda n: "a" * 60),
}


@pytest.mark.parametrize("construct", LONG)
def test_the_work_for_a_pattern_grows_with_its_length_and_the_paths(construct):
    pattern, path = LONG[construct]
    assert_linear(lambda n: lambda: matched(pattern(n), path(n)), 20)


@pytest.mark.parametrize("text", ["{{ " * 20_000, "{{" + " " * 60_000, "{{" * 30_000, "{{ a " * 12_000, "{" * 60_000])
def test_brackets_without_an_end_are_literal_and_fast(text):
    assert parse_pattern(text, capture=True).match(text) is not None
