"""The page on changing schemas shows the names that columns get, and the verdicts of a contract."""

from __future__ import annotations

import pytest

from docs import pages
from s3dest_dagster.columns.column_names import styled_name, unique_names
from s3dest_dagster.settings.destination import NameStyle
from s3dest_dagster.settings.schema_contract import SchemaContract, Verdict

PAGE = "docs/schema-evolution.md"


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table of a section, without marks."""
    lines = [line for line in pages.section(PAGE, heading).splitlines() if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("style", NameStyle)
def test_the_table_shows_the_names_of_a_style(style):
    head, _, *body = rows("Names")
    (row,) = (row for row in body if row[0].removesuffix(" (default)") == style)
    assert row[1:4] == [styled_name(source, style) for source in head[1:4]]


def test_the_page_shows_the_digits_of_a_name():
    (_, second) = unique_names(["a_b", "a-b"])
    assert f"becomes `{second}`" in pages.section(PAGE, "Names").replace("\n", " ")


def test_the_table_of_the_contract_has_every_difference_and_verdict():
    head, _, *body = rows("Schema contract")
    assert [cell.removesuffix(" (default)") for cell in head[1:]] == list(Verdict)
    assert [row[0].partition(":")[0] for row in body] == list(SchemaContract().to_mapping())
