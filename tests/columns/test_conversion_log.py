"""Tallies do not depend on the order of entries, and stay small."""

from __future__ import annotations

from collections import Counter

from s3dest_dagster.batch import Tally
from s3dest_dagster.columns.conversion_log import Outcome, tally_of


def test_entries_are_counted_by_outcome_and_name():
    entries = [(Outcome.COERCED, "a"), (Outcome.OVERFLOWED, "a"), (Outcome.UNDECLARED, "b"), (Outcome.COERCED, "a")]
    assert tally_of(Counter(entries)) == Tally({"a": 2}, {"a": 1}, {"b": 1})


def test_names_beyond_the_limit_are_summed():
    entries = [(Outcome.UNDECLARED, f"name {i:04}") for i in range(Tally.MAX_NAMES + 50)]
    tally = tally_of(Counter(reversed(entries)))
    assert tally == tally_of(Counter(entries))
    assert len(tally.undeclared) == Tally.MAX_NAMES + 1
    assert tally.undeclared[Tally.OTHERS] == 50
    assert sum(tally.undeclared.values()) == len(entries)
