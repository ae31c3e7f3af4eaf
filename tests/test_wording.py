"""Messages count as people do: one row, two rows, and bytes in a unit that can be read."""

import pytest

from s3dest_dagster.printable import amount, size


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
