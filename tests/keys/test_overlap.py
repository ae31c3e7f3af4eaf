"""Patterns of keys, as regular expressions and in an exact comparison."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.keys.overlap import Choice, OverlapSearch, Run, numbers, regex

A, AB, DIGIT = frozenset("a"), frozenset("ab"), frozenset("01")
runs = st.builds(
    lambda chars, least, more: Run(chars, least, None if more is None else least + more),
    st.sampled_from([A, AB, DIGIT]),
    st.integers(0, 2),
    st.none() | st.integers(0, 2),
)
plain_patterns = st.lists(st.one_of(st.text("ab01.", min_size=1, max_size=3), runs), max_size=3).map(tuple)
patterns = st.lists(
    st.one_of(
        st.text("ab01.", min_size=1, max_size=3),
        runs,
        st.lists(plain_patterns, min_size=1, max_size=3).map(lambda options: Choice(tuple(options))),
    ),
    max_size=4,
).map(tuple)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (("user", Run(DIGIT, 1, None)), ("user1", Run(DIGIT, 1, None)), "user10"),
        (("user_", Run(DIGIT, 1, None)), ("user_s", Run(DIGIT, 1, None)), None),
        ((Run(AB, 1, None), "b"), ("a", Run(A, 0, None), "b"), "ab"),
        ((Choice(((), ("x",))), "y"), ("y",), "y"),
        (("a" * 3,), (Run(A, 1, 2),), None),
        ((), (), ""),
        ((Run(DIGIT, 4, 4), "ab", Run(A, 1, 1)), (Run(DIGIT, 4, 4), "aba"), "0000aba"),
        ((Run(DIGIT, 4, 4), "ab"), (Run(DIGIT, 4, 4), "b"), None),
        ((Run(DIGIT, 1, 2), "1"), (Run(DIGIT, 1, 2), "0"), None),
        ((Run(DIGIT, 1, 2), "1b"), (Run(DIGIT, 1, 2), "b"), "01b"),
    ],
)
def test_shared_key(one, other, shared):
    assert OverlapSearch().shared_key(one, other) == shared


@given(patterns, patterns)
def test_a_shared_key_matches_both_patterns(one, other):
    shared = OverlapSearch().shared_key(one, other)
    if shared is not None:
        assert re.fullmatch(regex(one), shared)
        assert re.fullmatch(regex(other), shared)


@given(patterns, patterns, st.text("ab01.", max_size=6))
def test_without_a_shared_key_no_text_matches_both_patterns(one, other, text):
    if OverlapSearch().shared_key(one, other) is None:
        assert not (re.fullmatch(regex(one), text) and re.fullmatch(regex(other), text))


@given(patterns)
def test_a_pattern_shares_a_key_with_itself(pattern):
    assert OverlapSearch().shared_key(pattern, pattern) is not None


@given(st.integers(0, 400), st.integers(0, 400), st.integers(1, 4))
def test_the_pattern_of_numbers_matches_exactly_these_numbers(one, other, width):
    least, most = sorted((one, other))
    matches = re.compile(regex(numbers(least, most, width))).fullmatch
    wanted = {f"{number:0{width}d}" for number in range(least, most + 1)}
    tried = {f"{number:0{size}d}" for number in range(1500) for size in range(1, 6)}
    assert {each for each in tried if matches(each)} == wanted
