"""A connector's config contains placeholders for the partition."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.sources.templating import Verbatim, partition_values, render_config

VALUES = {"partition_key": "2024-01-31", "partition_start": "2024-01-31T00:00:00Z"}


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{{ partition_key }}", "2024-01-31"),
        ("{{partition_key}}", "2024-01-31"),
        ("a {{ partition_key }} b {{ partition_start }}", "a 2024-01-31 b 2024-01-31T00:00:00Z"),
        ("no placeholder } {", "no placeholder } {"),
    ],
)
def test_a_placeholder_becomes_its_value(text, rendered):
    assert render_config({"start": text}, VALUES) == {"start": rendered}


def test_placeholders_are_found_at_any_depth_and_other_values_keep_their_type():
    config = {"a": {"b": [{"c": "{{ partition_key }}"}, 1]}, "n": 1.5, "t": True, "x": None, "{{ key }}": 1}
    rendered = {"a": {"b": [{"c": "2024-01-31"}, 1]}, "n": 1.5, "t": True, "x": None, "{{ key }}": 1}
    assert render_config(config, VALUES) == rendered
    assert config["a"]["b"][0]["c"] == "{{ partition_key }}"


def test_a_value_that_looks_like_a_number_or_a_placeholder_stays_text():
    values = {"partition_key": "7", "partition_start": "{{ partition_key }}"}
    assert render_config({"a": "{{ partition_key }}", "b": "{{ partition_start }}"}, values) == {
        "a": "7",
        "b": "{{ partition_key }}",
    }


def test_an_unknown_name_is_refused_with_its_location_and_the_known_ones():
    with pytest.raises(
        SettingsError, match=r"partiton_key .* at a\.b\[0\].*Known here: partition_key, partition_start"
    ):
        render_config({"a": {"b": ["{{ partiton_key }}"]}}, VALUES)


@pytest.mark.parametrize("values", [None, {}])
def test_without_a_partition_every_placeholder_is_refused(values):
    with pytest.raises(SettingsError, match="no partitions"):
        render_config({"a": "{{ partition_key }}"}, values)


def test_the_manifest_of_a_low_code_connector_keeps_its_own_templates():
    manifest = {"path": "{{ config['x'] }}", "list": ["{{ y }}"]}
    config = {"__injected_declarative_manifest": manifest, "nested": {"__injected_components_py": "{{ z }}"}}
    assert render_config(config, None) == config


def test_a_placeholder_alone_keeps_the_values_type():
    values = {"seconds": 1706659200, "day": "2024-01-31"}
    config = {"seed": "{{ seconds }}", "text": "at {{ seconds }}", "day": "{{day}}"}
    assert render_config(config, values) == {"seed": 1706659200, "text": "at 1706659200", "day": "2024-01-31"}


# Values


def test_a_partition_without_a_window_has_its_key():
    assert partition_values("eu") == {"partition_key": "eu"}


def test_a_window_has_instants_and_dates():
    values = partition_values(
        "2024-01-31", start=datetime(2024, 1, 31, tzinfo=UTC), end=datetime(2024, 2, 1, tzinfo=UTC)
    )
    assert values == {
        "partition_key": "2024-01-31",
        "partition_start": "2024-01-31T00:00:00Z",
        "partition_end": "2024-02-01T00:00:00Z",
        "partition_start_epoch": 1706659200,
        "partition_end_epoch": 1706745600,
        "partition_start_date": "2024-01-31",
        "partition_end_date": "2024-02-01",
        "partition_last_date": "2024-01-31",
    }


def test_instants_are_in_utc_and_dates_in_the_windows_own_zone():
    zone = ZoneInfo("Asia/Tokyo")
    values = partition_values("k", start=datetime(2024, 1, 31, tzinfo=zone), end=datetime(2024, 1, 31, 5, tzinfo=zone))
    assert values["partition_start"] == "2024-01-30T15:00:00Z"
    assert values["partition_start_date"] == "2024-01-31"
    assert values["partition_end_date"] == values["partition_last_date"] == "2024-01-31"


def test_each_dimension_has_a_value():
    values = partition_values("2024-01-31|eu", dimensions={"date": "2024-01-31", "region": "eu"})
    assert render_config({"r": "{{ partition_key.region }}"}, values) == {"r": "eu"}


# Allowed and forbidden templates


DAY = {"partition_key": "2026-01-05", "partition_start_epoch": 1767571200, "partition_key.region": "eu"}


@pytest.mark.parametrize(
    ("template", "rendered"),
    [
        ("{{ partition_key | replace('-', '/') }}.jsonl", "2026/01/05.jsonl"),
        ("{{ partition_key.replace('-', '/') }}", "2026/01/05"),
        ("{{ partition_key.split('-') | join('/') }}", "2026/01/05"),
        ("{{ partition_key[:4] }}/{{ partition_key.split('-')[1] }}", "2026/01"),
        ("{% if partition_key == '2026-01-05' %}a{% else %}b{% endif %}", "a"),
        ("{{ 'first' if partition_key < '2026-01-06' else 'later' }}", "first"),
        ("{{ partition_key.split('-')[0] | int }}", 2026),
        ("{{ partition_start_epoch * 1000 }}", 1767571200000),
        ("{{ 'a b' ~ partition_key.region | urlencode }}", "a beu"),
        ("{{ 'ä/' | urlencode }}", "%C3%A4/"),
        ("{{ partition_key['region'] | upper }}", "EU"),
        ("{{- partition_key -}}", "2026-01-05"),
        ("{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
        ("no {# comment #}", "no {# comment #}"),
        ("a line\n{{ partition_key }}\n", "a line\n2026-01-05\n"),
    ],
)
def test_a_template_is_rendered_with_the_values_of_the_partition(template, rendered):
    assert render_config({"a": template}, DAY) == {"a": rendered}


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ partition_key.__class__ }}", "asks for the attribute '__class__'"),
        ("{{ ''.__class__.__mro__ }}", "asks for the attribute"),
        ("{{ partition_key['__class__'] }}", "is not known"),
        ("{{ partition_key | attr('__class__') }}", "the filter 'attr'"),
        ("{{ partition_key.format(1) }}", "calls what is no method"),
        ("{{ lipsum() }}", "calls what is no method"),
        ("{{ range(10**9) }}", "calls what is no method"),
        ("{% for x in partition_key %}a{% endfor %}", "for"),
        ("{% set x = 1 %}", "assign"),
        ("{% include '/etc/passwd' %}", "include"),
        ("{{ 10 ** 10 }}", "pow"),
        ("{{ 'x' * 1000000000 }}", r"\* is for numbers"),
        ("{{ '%1000000000d' % 5 }}", "% is for numbers"),
        ("{{ 'x' | center(1000000000) }}", "the filter 'center'"),
        ("{{ partition_key" + "|replace('2', '2222222222')" * 20 + " }}", "more than 65,536 characters"),
        ("{{ partition_key | int }}", "'2026-01-05' is no number"),
        ("{{ partition_key.split('-') }}", "a text or a number is needed"),
        ("x{{ partition_key.split('-') }}", "puts a list into a text"),
        ("{{ partition_key + 1 }}", "cannot be rendered"),
        ("{{ partition_kye | default('x') }}", "partition_kye .* is not known"),
        ("{{ partition_key", "not in Jinja's syntax"),
        ("{{ " * 20_000, "nests too deeply"),
        ("{{ partition_key" + "|upper" * 10_000 + " }}", "nests too deeply"),
        ("{{ partition_key }}" + "x" * 70_000, "65,536 are the most"),
    ],
    ids=lambda each: each[:40],
)
def test_a_template_that_could_run_long_grow_large_or_escape_the_sandbox_is_refused(template, reason):
    with pytest.raises(SettingsError, match=reason) as caught:
        render_config({"a": {"b": template}}, DAY)
    assert caught.value.setting == "a.b"


def test_an_error_does_not_repeat_a_possible_secret():
    with pytest.raises(SettingsError) as caught:
        render_config({"password": "hun{{ter2"}, DAY)
    assert "ter2" not in str(caught.value)
    assert "password" in str(caught.value)


def test_a_looked_up_text_is_not_a_template():
    assert render_config({"password": Verbatim("a{{ b }}{% c")}, DAY) == {"password": "a{{ b }}{% c"}


def test_each_dimension_with_a_window_has_its_own_values():
    may, june = (datetime(2026, month, 1, tzinfo=UTC) for month in (5, 6))
    values = partition_values("x", windows={"month": (may, june), "day": (may, may)})
    config = {"a": "{{ partition_start.month }} {{ partition_end_date.month }}", "b": "{{ partition_end_epoch.day }}"}
    assert render_config(config, values) == {"a": "2026-05-01T00:00:00Z 2026-06-01", "b": 1777593600}
    with pytest.raises(SettingsError, match=r"partition_start .* not known"):
        render_config({"a": "{{ partition_start }}"}, values)
