"""Files of records: which files a pattern finds, and exactly what each format yields."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from s3dest_dagster.batch import ArrowBatch, BadRecord, JsonBatch
from s3dest_dagster.errors import SettingsError, SourceError
from s3dest_dagster.sources.files import FileSource

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file, with its directories."""

    def written(name: str, content: bytes | str = '{"id": 1}\n') -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return written


def source(tmp_path: Path, pattern: str, **settings: Any) -> FileSource:
    return FileSource(f"{tmp_path}/{pattern}", **settings)


def raws(items: Any) -> list[bytes]:
    return [bytes(raw) for item in items if isinstance(item, JsonBatch) for raw in item.raws]


def rows(items: Any) -> list[dict[str, Any]]:
    return [row for item in items if isinstance(item, ArrowBatch) for row in item.data.to_pylist()]


def bad(items: Any) -> list[tuple[bytes, str]]:
    return [(item.raw, item.reason) for item in items if isinstance(item, BadRecord)]


class TestPatterns:
    FILES = ("a.jsonl", "b.jsonl", "c.csv", "2026/01/x.jsonl", "2026/02/y.jsonl", "2026/.z.jsonl", ".hidden/h.jsonl")

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("*.jsonl", ["a.jsonl", "b.jsonl"]),
            ("a.jsonl", ["a.jsonl"]),
            ("?.jsonl", ["a.jsonl", "b.jsonl"]),
            ("[!b].*", ["a.jsonl", "c.csv"]),
            ("2026/*/*.jsonl", ["2026/01/x.jsonl", "2026/02/y.jsonl"]),
            ("**/*.jsonl", ["2026/01/x.jsonl", "2026/02/y.jsonl", "a.jsonl", "b.jsonl"]),
            ("2026/**", ["2026/01/x.jsonl", "2026/02/y.jsonl"]),
            (".hidden/*.jsonl", [".hidden/h.jsonl"]),
            ("nowhere/*.jsonl", []),
        ],
    )
    def test_a_pattern_finds_its_files_in_order(self, tmp_path, write, pattern, expected):
        for name in self.FILES:
            write(name)
        found = [Path(each.path).relative_to(tmp_path).as_posix() for each in source(tmp_path, pattern).find()]
        assert found == expected

    def test_relative_patterns_start_at_the_working_directory(self, tmp_path, write, monkeypatch):
        write("inbox/a.jsonl")
        monkeypatch.chdir(tmp_path)
        assert [each.path for each in FileSource("inbox/*.jsonl").find()] == [f"{tmp_path}/inbox/a.jsonl"]
        monkeypatch.chdir(tmp_path / "inbox")
        assert len(FileSource("*.jsonl").find()) == 1

    def test_characters_of_regular_expressions_are_literal(self, tmp_path, write):
        write("a+b(1).jsonl")
        write("aab1.jsonl")
        assert [Path(each.path).name for each in source(tmp_path, "a+b(1)*").find()] == ["a+b(1).jsonl"]


class TestLinks:
    """As in a shell, `**` does not follow links to directories, and everything else does."""

    @pytest.fixture
    def inbox(self, tmp_path, write):
        for name in ("inbox/a.jsonl", "inbox/sub/b.jsonl", "elsewhere/c.jsonl", "elsewhere/deep/d.jsonl"):
            write(name)
        (tmp_path / "inbox" / "link").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "inbox" / "sub" / "circle").symlink_to(tmp_path / "inbox")
        return tmp_path / "inbox"

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("**/*.jsonl", ["a.jsonl", "sub/b.jsonl"]),
            ("**", ["a.jsonl", "sub/b.jsonl"]),
            ("*/*.jsonl", ["link/c.jsonl", "sub/b.jsonl"]),
            ("link/*.jsonl", ["link/c.jsonl"]),
            ("link/**/*.jsonl", ["link/c.jsonl", "link/deep/d.jsonl"]),
            ("**/*/c.jsonl", ["link/c.jsonl"]),
            ("*/*/*.jsonl", ["link/deep/d.jsonl", "sub/circle/a.jsonl"]),
        ],
    )
    def test_directories(self, inbox, pattern, expected):
        assert [Path(each.path).relative_to(inbox).as_posix() for each in source(inbox, pattern).find()] == expected

    def test_a_link_to_a_file_is_a_file_but_no_file_is_found_twice(self, inbox):
        (inbox / "c.jsonl").symlink_to(inbox.parent / "elsewhere" / "c.jsonl")
        (inbox / "z.jsonl").symlink_to("a.jsonl")
        (inbox / "gone.jsonl").symlink_to("nowhere")
        assert [Path(each.path).name for each in source(inbox, "*.jsonl").find()] == ["a.jsonl", "c.jsonl"]


class TestPartitions:
    def test_the_path_contains_the_partition(self, tmp_path, write):
        write("2026-01-05/a.jsonl", '{"id": 5}\n')
        write("2026-01-06/a.jsonl", '{"id": 6}\n')
        found = source(tmp_path, "{{ partition_key }}/*.jsonl")
        assert raws(found.read({"partition_key": "2026-01-06"})) == [b'{"id": 6}']

    def test_a_search_of_all_files_returns_the_partition_of_each(self, tmp_path, write):
        for name in ("eu/a.jsonl", "eu/b.jsonl", "us/a.jsonl"):
            write(name)
        found = source(tmp_path, "{{partition_key}}/*.jsonl").find()
        assert [each.partition for each in found] == ["eu", "eu", "us"]
        assert all(each.size == 10 and each.modified_at.tzinfo is not None for each in found)

    def test_a_placeholder_that_occurs_twice_has_one_value(self, tmp_path, write):
        write("eu/eu.jsonl")
        write("eu/us.jsonl")
        (found,) = source(tmp_path, "{{ partition_key }}/{{ partition_key }}.jsonl").find()
        assert Path(found.path).name == "eu.jsonl"

    def test_a_value_is_not_a_pattern(self, tmp_path, write):
        write("a*/a.jsonl", '{"id": 1}\n')
        write("ab/a.jsonl", '{"id": 2}\n')
        found = source(tmp_path, "{{ partition_key }}/*.jsonl")
        assert raws(found.read({"partition_key": "a*"})) == [b'{"id": 1}']

    @pytest.mark.parametrize("key", ["..", "a/../../b", "."])
    def test_a_value_cannot_leave_its_directory(self, tmp_path, key):
        with pytest.raises(SettingsError, match="partition_key"):
            list(source(tmp_path, "{{ partition_key }}/*.jsonl").read({"partition_key": key}))

    def test_a_placeholder_without_a_value_is_reported(self, tmp_path):
        with pytest.raises(SettingsError, match=r"\{\{ day \}\}"):
            list(source(tmp_path, "{{ day }}.jsonl").read({"partition_key": "x"}))


class TestMissing:
    def test_a_missing_file_is_an_error_with_pattern_and_partition(self, tmp_path):
        with pytest.raises(SourceError, match=r"No file matches .*\.csv \(partition_key '2026-01-05'\)"):
            list(source(tmp_path, "{{ partition_key }}.csv").read({"partition_key": "2026-01-05"}))

    def test_a_file_can_be_optional(self, tmp_path):
        assert list(source(tmp_path, "*.csv", allow_missing=True).read()) == []


class TestJsonLines:
    def test_the_text_stays_unchanged(self, tmp_path, write):
        lines = [b'{"a" : 1.10, "b": 12345678901234567890123}', '{"ü":"\\u00e9"}'.encode()]
        write("a.jsonl", b"\n\n".join(lines))
        assert raws(source(tmp_path, "*.jsonl").read()) == lines

    @pytest.mark.parametrize("ending", [".gz", ".bz2", ".zst"])
    def test_compressed_files_are_read(self, tmp_path, write, ending):
        pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": lambda data: bytes(pa.compress(data, "zstd"))}
        write(f"a.ndjson{ending}", pack[ending](b'{"id":1}\n{"id":2}\n'))
        assert raws(source(tmp_path, "*").read()) == [b'{"id":1}', b'{"id":2}']

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b"[1]", "not a JSON object"),
            (b'{"a":', "truncated"),
            (b'{"a":NaN}', "NaN at byte 5"),
            (b'{"a":"\xff"}', "UTF-8"),
            (b"[" * 100_000, "nested"),
        ],
    )
    def test_an_invalid_line_is_reported_separately(self, tmp_path, write, line, reason):
        write("a.jsonl", b'{"id":1}\n' + line + b'\n{"id":2}')
        items = list(source(tmp_path, "*.jsonl").read())
        assert raws(items) == [b'{"id":1}', b'{"id":2}']
        ((found, why),) = bad(items)
        assert found == line
        assert reason in why

    def test_windows_line_breaks_are_not_part_of_the_record(self, tmp_path, write):
        write("a.jsonl", b'{"id":1}\r\n{"id":2}\r\n')
        assert raws(source(tmp_path, "*.jsonl").read()) == [b'{"id":1}', b'{"id":2}']

    def test_large_files_come_in_batches(self, tmp_path, write):
        write("a.jsonl", b'{"id":1,"text":"' + b"x" * 1000 + b'"}\n')
        path = write("b.jsonl", (b'{"text":"' + b"x" * 1000 + b'"}\n') * 5_000)
        sizes = [item.nbytes for item in FileSource(str(path)).read()]
        assert len(sizes) > 3
        assert max(sizes) < 2 << 20


class TestCsv:
    def test_every_cell_is_a_text_and_an_empty_one_is_null(self, tmp_path, write):
        write("a.csv", 'id,name,"a ""b"""\r\n007,"x,\ny",\r\n1.10,"",ü\r\n')
        assert rows(source(tmp_path, "*.csv").read()) == [
            {"id": "007", "name": "x,\ny", 'a "b"': None},
            {"id": "1.10", "name": "", 'a "b"': "ü"},
        ]

    def test_other_delimiters_and_encodings_are_supported(self, tmp_path, write):
        write("a.tsv", "id\tname\n1\tA\n")
        write("b.csv", "id;name\n2;Ö\n".encode("latin-1"))
        assert rows(source(tmp_path, "a.*").read()) == [{"id": "1", "name": "A"}]
        found = source(tmp_path, "b.*", delimiter=";", encoding="latin-1")
        assert rows(found.read()) == [{"id": "2", "name": "Ö"}]

    def test_a_byte_order_mark_is_not_part_of_the_first_name(self, tmp_path, write):
        write("a.csv", "﻿id\n1\n")
        assert rows(source(tmp_path, "a.csv").read()) == [{"id": "1"}]

    def test_a_row_of_another_length_is_reported_separately(self, tmp_path, write):
        write("a.csv", "id,name\n1,A\n2\n3,C,c\n4,D\n")
        items = list(source(tmp_path, "*.csv").read())
        assert [row["id"] for row in rows(items)] == ["1", "4"]
        assert bad(items) == [
            (b"2", "it has 1 cell, and the header has 2"),
            (b"3,C,c", "it has 3 cells, and the header has 2"),
        ]

    @pytest.mark.parametrize("content", ["", "id,name\n"])
    def test_a_file_without_rows_has_no_records(self, tmp_path, write, content):
        write("a.csv.gz", gzip.compress(content.encode()))
        assert rows(source(tmp_path, "*").read()) == []

    def test_a_repeated_name_is_reported(self, tmp_path, write):
        write("a.csv", "id,id\n1,2\n")
        with pytest.raises(SourceError, match="'id' more than once"):
            list(source(tmp_path, "*.csv").read())


def test_parquet_keeps_its_types(tmp_path):
    table = pa.table({"id": [1, None], "at": pa.array([date(2026, 1, 5), None]), "tags": [["a"], []]})
    pq.write_table(table, tmp_path / "a.parquet")
    (batch,) = source(tmp_path, "*.parquet").read()
    assert batch.data.to_pylist() == table.to_pylist()
    assert batch.data.schema.equals(table.schema)


def test_avro_keeps_its_logical_types(tmp_path):
    logical = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    fields = [
        {"name": "id", "type": ["null", "long"]},
        {"name": "price", "type": logical},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ]
    schema = {"type": "record", "name": "r", "fields": fields}
    record = {"id": 2**62, "price": Decimal("1.10"), "at": datetime(2026, 1, 5, 1, 2, 3, 4, UTC)}
    with (tmp_path / "a.avro").open("wb") as file:
        fastavro.writer(file, schema, [record])
    (raw,) = raws(source(tmp_path, "*.avro").read())
    assert raw == b'{"id":4611686018427387904,"price":1.10,"at":"2026-01-05T01:02:03.000004Z"}'


class TestFormat:
    def test_the_format_can_be_set(self, tmp_path, write):
        write("a.log")
        assert raws(source(tmp_path, "*.log", format="jsonl").read()) == [b'{"id": 1}']

    def test_an_unknown_format_must_be_set(self, tmp_path, write):
        write("a.log")
        with pytest.raises(SettingsError, match=r"a\.log does not tell its format"):
            list(source(tmp_path, "*.log").read())

    @pytest.mark.parametrize("name", ["a.parquet", "a.avro", "a.csv.gz", "a.csv"])
    def test_a_file_of_another_format_is_named(self, tmp_path, write, name):
        write(name, b"\xff\xfenonsense")
        with pytest.raises(SourceError, match=r"The file .*/a\.\S+ cannot be read") as caught:
            list(source(tmp_path, "*").read())
        assert caught.value.key.endswith(name)

    def test_bad_lines_and_rows_name_their_file_and_line(self, tmp_path, write):
        write("a.jsonl", '{"id": 1}\n')
        write("b.jsonl", '{"id": 1}\n\n{"id": oops}\n')
        write("c.csv", 'id,name\n\n1,"two\nlines"\n2\n3,x\n\n4,x,y\n')
        bad = [each for each in source(tmp_path, "*").read() if isinstance(each, BadRecord)]
        assert [(Path(each.file).name, each.line_number) for each in bad] == [
            ("b.jsonl", 3),
            ("c.csv", 5),
            ("c.csv", 8),
        ]
        assert "byte" in bad[0].reason

    def test_errors_name_their_file(self, tmp_path, write):
        write("good.csv", "id\n1\n")
        write("twice.csv", "id,id\n1,2\n")
        with pytest.raises(
            SourceError, match=r"/twice\.csv: The header names the column 'id' more than once"
        ) as caught:
            list(source(tmp_path, "*.csv").read())
        assert caught.value.key == str(tmp_path / "twice.csv")

    def test_an_error_in_a_truncated_file_reports_how_much_was_read(self, tmp_path, write):
        with (tmp_path / "a.avro").open("wb") as file:
            fastavro.writer(
                file, {"type": "record", "name": "r", "fields": [{"name": "x", "type": "long"}]}, [{"x": 1}]
            )
            file.write(b"cut")
        with pytest.raises(SourceError, match=r"/a\.avro cannot be read"):
            list(source(tmp_path, "*").read())

    def test_a_number_that_is_not_finite_makes_a_record_bad_and_can_be_left_out(self, tmp_path):
        schema = {"type": "record", "name": "r", "fields": [{"name": "x", "type": "double"}]}
        with (tmp_path / "a.avro").open("wb") as file:
            fastavro.writer(file, schema, [{"x": float("nan")}])
        (bad,) = source(tmp_path, "*").read()
        assert (bad.raw, bad.finite.raw, bad.finite.fields) == (b'{"x":NaN}', b'{"x":null}', ("x",))
        assert bad.file.endswith("/a.avro")
        assert bad.reason.startswith("Record 1, field x: it is not a finite number")

    @pytest.mark.parametrize(
        ("settings", "reason"),
        [
            ({"path": ""}, "path"),
            ({"path": "a", "format": "xml"}, "xml"),
            ({"path": "a", "delimiter": "||"}, "one char"),
        ],
    )
    def test_wrong_settings_are_refused(self, settings, reason):
        with pytest.raises(SettingsError, match=reason):
            FileSource(**settings)


class TestOtherLocations:
    def test_any_file_system_of_pyarrow_is_supported(self, tmp_path, write):
        write("root/inbox/a.jsonl")
        inside = pyarrow.fs.SubTreeFileSystem(str(tmp_path / "root"), pyarrow.fs.LocalFileSystem())
        assert raws(FileSource("inbox/*.jsonl", filesystem=inside).read()) == [b'{"id": 1}']

    def test_an_address_is_supported(self, tmp_path, write):
        write("inbox/a.jsonl")
        assert raws(FileSource(f"file://{tmp_path}/inbox/*.jsonl").read()) == [b'{"id": 1}']

    def test_an_unsupported_address_is_refused(self):
        with pytest.raises(SettingsError, match="no file system for gopher://"):
            FileSource("gopher://host/*.csv").find()

    def test_keys_in_an_address_are_not_shown(self):
        found = FileSource("gopher://key:hush-secret@host/{{ partition_key }}/*.csv")
        with pytest.raises(SettingsError) as caught:
            list(found.read({"partition_key": "x"}))
        assert "hush-secret" not in str(caught.value) + repr(found)

    def test_a_bucket_is_supported(self, rclone_s3):
        bucket = rclone_s3.new_bucket()
        rclone_s3.client().put_object(Bucket=bucket, Key="inbox/a.jsonl", Body=b'{"id": 1}\n')
        identity = f"{rclone_s3.access_key_id}:{rclone_s3.secret_access_key}"
        address = rclone_s3.endpoint.removeprefix("http://")
        query = f"scheme=http&endpoint_override={address.replace(':', '%3A')}&region=us-east-1"
        found = FileSource(f"s3://{identity}@{bucket}/inbox/*.jsonl?{query}")
        assert [each.path for each in found.find()] == [f"{bucket}/inbox/a.jsonl"]
        assert raws(found.read()) == [b'{"id": 1}']


@pytest.mark.parametrize("key", ["a\0b", "\ud800", "..", "a/../b"], ids=ascii)
def test_a_partition_that_no_path_can_hold_is_refused(tmp_path, key):
    source = FileSource(str(tmp_path / "{{ partition_key }}" / "*.csv"), allow_missing=True)
    with pytest.raises(SettingsError, match="no place for files"):
        list(source.read({"partition_key": key}))
