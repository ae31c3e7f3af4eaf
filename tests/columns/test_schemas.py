"""The envelope: ids are UUIDs made from the given random bytes, and emission times are in UTC."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.columns.schemas import emitted_at_column, record_id_column, record_ids


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=5))
def test_ids_are_version_4_uuids_of_their_random_bytes(entropy):
    column = record_id_column(record_ids(b"".join(entropy)))
    assert column.to_pylist() == [str(uuid.UUID(bytes=random, version=4)) for random in entropy]


def test_ids_are_ascii_rows_of_36():
    assert record_ids(bytes(48)).shape == (3, 36)
    assert record_ids(b"").shape == (0, 36)
    assert record_ids(bytes(16)).tobytes() == b"00000000-0000-4000-8000-000000000000"


def test_entropy_of_another_length_is_refused():
    with pytest.raises(ValueError, match="reshape"):
        record_ids(bytes(17))


def test_a_slice_of_ids_is_a_column_too():
    ids = record_ids(bytes(range(64)))
    assert record_id_column(ids[1:3]).to_pylist() == record_id_column(ids).to_pylist()[1:3]


def test_emission_times_are_milliseconds_in_utc():
    column = emitted_at_column(np.array([0, 1622135805123], np.int64))
    assert column.type == pa.timestamp("ms", "UTC")
    assert column[1].as_py() == datetime(2021, 5, 27, 17, 16, 45, 123000, UTC)
