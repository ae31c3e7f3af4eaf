"""Names are counted in JSON text: never too few, and exactly if no string looks like the end of a name."""

from __future__ import annotations

import msgspec
import pyarrow as pa
import pytest
from columns.test_json_texts import OBJECTS, STYLES, spelled
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.columns.json_losses import DuplicateNameCheck, count_names, count_names_closely, count_pattern


def names_with_values(value) -> int:
    if isinstance(value, tuple):
        return sum((inner is not None) + names_with_values(inner) for _, inner in value)
    return sum(map(names_with_values, value)) if isinstance(value, list) else 0


@given(st.lists(OBJECTS, max_size=3), STYLES)
def test_never_too_few_names_are_counted(objects, style):
    texts = "\n".join(spelled(each, style) for each in objects).encode()
    written = sum(map(names_with_values, objects))
    assert count_names(texts) >= written
    assert count_names_closely(texts) >= written


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b'{"a":1,"b":{"c":[{"d":2}]}}', 4),
        (b'{"a":null,"b":1}', 1),
        (b'{"a": null, "b": 1}', 1),
        (rb'{"a":"{\"x\":1}","b\\":1}', 2),
        (b'{"a":"x : y, :)"}', 1),
        (b'{"a" : 1,"b"\t:2}', 2),
        (b"{}", 0),
    ],
)
def test_a_close_count_is_exact(text, names):
    assert count_names_closely(text) == names


@given(OBJECTS, STYLES)
def test_a_check_passes_only_if_no_name_with_a_value_is_repeated(members, style):
    text = spelled(members, style).encode()
    read = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    duplicates = DuplicateNameCheck()
    duplicates.add_texts(list(read.values()))
    if duplicates.passes(text):
        values = [name for name, value in members if value is not None]
        assert len(set(values)) == len(values)


def test_values_read_by_type_and_as_text_are_added_up():
    text = b'{"a":1,"b":{"x":1,"x":2},"c":"d"}\n{"a":null,"b":null,"c":"e"}\n{"c":"f"}'
    duplicates = DuplicateNameCheck()
    duplicates.add_column(pa.array(["d", "e", "f"]))
    duplicates.add_column(pa.array([1, None, None]))
    duplicates.add_texts([b'{"x":1,"x":2}', b"null", b""])
    assert duplicates.passes(text)
    assert not duplicates.passes(text + b'\n{"c":"g"}')


@given(st.binary(max_size=60), st.sampled_from([b"ab", b"abab", b"aa"]))
def test_patterns_are_counted_at_every_position(text, pattern):
    text = text.replace(b"c", b"ab")
    assert count_pattern(text, pattern) == sum(text.startswith(pattern, position) for position in range(len(text)))
