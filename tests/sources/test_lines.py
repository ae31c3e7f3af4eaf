"""Line breaks are counted, whatever else a block holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.sources.lines import BLOCK_BYTES, count_line_breaks


@given(st.binary() | st.text("\n\r a", max_size=20).map(str.encode))
def test_all_line_breaks_are_counted(block):
    assert count_line_breaks(block) == block.count(b"\n")


@pytest.mark.parametrize("length", [BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES])
def test_line_breaks_of_large_blocks_are_counted(length):
    assert count_line_breaks(b"\n" * length) == length
