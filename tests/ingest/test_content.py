"""The checksum of the content is the same for the same records, no matter how they are split into batches, and the
manifest records it."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from land_and_read import batch_of, batches_of, destination, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.batch import TARGET_BATCH_BYTES, ArrowBatch, JsonBatch
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.segment_writer import ContentChecksum


def text_of(*batches) -> str:
    checksum = ContentChecksum()
    for batch in batches:
        checksum.update(batch)
    return checksum.text


records = st.lists(st.dictionaries(st.text(), st.integers() | st.text()), max_size=6)


@given(records, st.integers(0, 6))
def test_the_checksum_does_not_depend_on_the_batches(given, cut):
    assert text_of(batch_of(given[:cut]), batch_of(given[cut:])) == text_of(batch_of(given))


@given(records, records)
def test_different_records_have_different_checksums(left, right):
    as_written = [[json.dumps(each) for each in records] for records in (left, right)]
    assert (text_of(batch_of(left)) == text_of(batch_of(right))) == (as_written[0] == as_written[1])


def test_a_large_batch_has_the_checksum_of_small_ones():
    raws = [b'{"text":"%b"}' % (b"x" * TARGET_BATCH_BYTES) for _ in range(3)]
    apart = [JsonBatch([raw], np.zeros(1, np.int64), len(raw)) for raw in raws]
    assert text_of(JsonBatch(raws, np.zeros(3, np.int64), sum(map(len, raws)))) == text_of(*apart)


def test_the_checksum_covers_names_types_and_values_of_arrow_columns():
    def of(**columns) -> str:
        return text_of(ArrowBatch(pa.record_batch(columns), np.zeros(2, np.int64)))

    texts = [of(id=pa.array([1, 2])), of(id=pa.array([1, 2], pa.int32())), of(no=pa.array([1, 2])), of(id=[1, 3])]
    assert of(id=pa.array([0, 1, 2])[1:]) == texts[0]
    assert len(set(texts)) == len(texts)
    indices = pa.array([0, 1], pa.int8())
    words = [of(word=pa.DictionaryArray.from_arrays(indices, values)) for values in (["a", "b"], ["a", "c"])]
    assert len(set(words)) == 2


def test_a_landing_records_the_checksum_whatever_its_time_and_ids(moto_s3: S3Server):
    settings = destination(moto_s3.new_bucket())
    receipts = []
    for name in ("monday", "tuesday"):
        with target(moto_s3, settings) as opened:
            receipts.append(land(batches_of(users(1, 3), users(4, 5)), opened, stream(), sync(name)))
    assert receipts[0].content == receipts[1].content == text_of(batch_of(users(1, 5)))
