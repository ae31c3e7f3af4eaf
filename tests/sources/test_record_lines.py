"""Lines of records that another process decodes are the same items as those that one process decodes."""

from __future__ import annotations

import io
import json
import pickle
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from airbyte_messages import status
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.batch import BadRecord, JsonBatch, SourceItem, StreamBatch, StreamStatus
from s3dest_dagster.errors import SourceError
from s3dest_dagster.sources.airbyte.record_lines import RecordLines
from s3dest_dagster.sources.airbyte.session import read_messages, read_record_lines
from s3dest_dagster.sources.items import items_of
from s3dest_dagster.stream import StreamId

USERS = StreamId(None, "users")


def record(number: int, **other: Any) -> bytes:
    return json.dumps(
        {"type": "RECORD", "record": {"stream": "users", "data": {"id": number}, "emitted_at": number} | other}
    ).encode()


LOG = b'{"type":"LOG","log":{"level":"INFO","message":"page 2"}}'
BROKEN = b'{"type": "RECORD", "record": {"stream": "users", "data": {"id": }}}'
TEXT = b"loading"
QUOTES_A_RECORD = json.dumps({"type": "LOG", "log": {"level": "INFO", "message": record(7).decode()}}).encode()
OTHER_SPELLING = record(9).replace(b": ", b":")
OTHER_ORDER = b'{"record": {"stream": "users", "data": {"id": 10}, "emitted_at": 10}, "type": "RECORD"}'
LINES = [
    record(1),
    record(2, namespace=""),
    record(3) + b"\r",
    LOG,
    BROKEN,
    TEXT,
    QUOTES_A_RECORD,
    OTHER_SPELLING,
    OTHER_ORDER,
    b"",
]


def undecoded(lines: Sequence[bytes], *, end: bytes = b"\n") -> list[Any]:
    return list(read_record_lines(io.BytesIO(b"\n".join(lines) + end), [USERS], log=lambda level, text: None))


def decoded(items: Sequence[Any]) -> Iterator[SourceItem]:
    """The items, as a process decodes them that received their pickles."""
    for item in items:
        if not isinstance(item, RecordLines):
            yield item
            continue
        buffers: list[pickle.PickleBuffer] = []
        text = pickle.dumps(item, protocol=5, buffer_callback=buffers.append)
        assert len(text) < 500
        yield from pickle.loads(text, buffers=[bytes(each) for each in buffers]).items()


def contents(items: Iterator[SourceItem]) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for item in items:
        if isinstance(item, StreamBatch):
            assert isinstance(item.batch, JsonBatch)
            found.update(
                (item.stream, bytes(raw), int(at))
                for raw, at in zip(item.batch.raws, item.batch.emitted_at, strict=True)
            )
        else:
            found[item] += 1
    return found


@given(st.lists(st.sampled_from(LINES), min_size=1, max_size=60))
def test_every_line_is_read_as_by_one_process(lines: list[bytes]) -> None:
    lines = [record(0), *lines]
    expected = contents(read_messages(io.BytesIO(b"\n".join(lines) + b"\n"), [USERS], log=lambda level, text: None))
    assert contents(decoded(undecoded(lines))) == expected


def test_lines_of_records_stay_undecoded_around_other_messages() -> None:
    items = undecoded(
        [LOG, record(1), record(2), LOG, TEXT, record(3), status("users", "COMPLETE", None).strip().encode()]
    )
    assert [item.text for item in items if isinstance(item, RecordLines)] == [
        record(1) + b"\n" + record(2) + b"\n",
        record(3) + b"\n",
    ]
    assert [item for item in items if not isinstance(item, RecordLines)] == [StreamStatus(USERS, "COMPLETE")]


def test_many_cuts_are_decoded_by_the_reader() -> None:
    items = undecoded([record(1), LOG] * 100)
    assert not any(isinstance(item, RecordLines) for item in items)
    assert sum(contents(decoded(items)).values()) == 100


def test_a_bad_record_has_its_line_in_the_whole_input() -> None:
    bad = [item for item in decoded(undecoded([LOG, record(1), BROKEN, TEXT, BROKEN])) if isinstance(item, BadRecord)]
    assert [each.line_number for each in bad] == [3, 5]


def test_an_incomplete_last_line_is_an_error() -> None:
    with pytest.raises(SourceError, match="last line is incomplete"):
        undecoded([record(1), record(2)[:-9]], end=b"")


def test_a_last_line_without_a_break_is_read() -> None:
    assert sum(contents(decoded(undecoded([record(1), record(2)], end=b""))).values()) == 2


def test_a_source_that_did_not_complete_is_an_error() -> None:
    with pytest.raises(SourceError, match="COMPLETE"):
        undecoded([record(1), status("users", "STARTED", None).strip().encode()])


def test_records_of_another_stream_are_an_error_where_they_are_decoded() -> None:
    items = undecoded([record(1, stream="others")])
    with pytest.raises(SourceError, match="the stream others, which is not in the catalog"):
        list(decoded(items))


def test_a_shard_decodes_the_lines() -> None:
    items = items_of(undecoded([record(1), record(2)]), emitted_at=lambda: 0)
    assert [type(item) for item in items] == [StreamBatch]
