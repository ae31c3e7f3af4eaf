"""Results for a person's eyes, on a terminal, and for programs, in a pipe: the same is told, and nothing is cut off."""

import json
import re

import pytest
from airbyte_messages import record
from terminals import plain

from s3dest_dagster.inspection.plan import ACTIONS

LONG = "a_field_with_a_name_that_is_far_longer_than_any_column_of_a_narrow_terminal_would_hold_on_one_line"
SCHEMA = {
    "properties": {
        "id": {"type": "integer"},
        "first name": {"type": "string"},
        "address": {"type": "object", "properties": {"street name": {"type": "string"}}},
        "at": {"type": "string", "format": "date-time"},
        LONG: {"type": "string"},
        "[bold]": {"type": "string"},
    }
}
SIGNS = ("\x1b", "│", "╭")


def planned(lake) -> list[str]:
    """A plan that has everything to tell: renamed fields, a replaced object, a setting without effect."""
    lake.write(record("users", id=1), "--now", "2021-01-01T00:00:00Z")
    catalog = {"streams": [{"name": "users", "namespace": "public", "json_schema": SCHEMA}]}
    config = lake.config(format={"format_type": "Parquet", "max_padding_size_mb": 4})
    return ["plan", "--config", config, "--catalog", lake.file("wide.json", catalog), "--now", "2021-01-02T00:00:00Z"]


def told(lake) -> list[str]:
    """What must stand in every form of that plan."""
    root = f"s3://{lake.bucket}/data_output_path"
    return [
        f"{root}/${{NAMESPACE}}/${{STREAM_NAME}}/${{YEAR}}_${{MONTH}}_${{DAY}}_${{EPOCH}}_{{part_number}}{{format_extension}}",
        f"{root}/public/users/2021_01_02_1609545600000_0.parquet",
        f"{root}/public/users/2021_01_01_1609459200000_0.jsonl",
        "full refresh",
        "becomes first_name",
        "address.street name",
        "becomes street_name",
        "[bold]",
        "offset",
        "max_padding_size_mb has no effect",
        *ACTIONS,
    ]


def test_a_plan_in_a_pipe_is_plain_and_whole_whatever_width_the_environment_claims(lake):
    answer = lake.run(*planned(lake), COLUMNS="40", TERM="xterm-256color", FORCE_COLOR="1")
    assert answer.returncode == 0
    assert not any(sign in answer.stdout for sign in SIGNS)
    assert [part for part in [*told(lake), f"{LONG}  string"] if part not in answer.stdout] == []


@pytest.mark.parametrize("columns", [60, 200])
def test_a_plan_on_a_terminal_is_a_table_and_loses_no_letter(lake, columns):
    """Narrow cells are folded, so that a text is looked for without what stands between its letters."""
    answer, shown = lake.on_terminal(*planned(lake), columns=columns)
    assert answer.returncode == 0
    assert "╭" in shown
    assert "…" not in shown
    letters = folded(shown)
    assert [part for part in [*told(lake), LONG] if letter(part) not in letters] == []


def folded(shown: str) -> str:
    """All letters, those of a table column by column, so that a folded text is one text again."""
    lines = plain(shown).splitlines()
    columns: dict[int, str] = {}
    text = ""
    for line in lines:
        cells = line.strip()[1:-1].split("│") if line.startswith("│") else None
        if cells is None:
            text += "".join(columns.values()) + line
            columns = {}
        else:
            for number, cell in enumerate(cells):
                columns[number] = columns.get(number, "") + cell.strip()
    return letter(text + "".join(columns.values()))


def letter(text: str) -> str:
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colour_is_left_out_where_it_is_not_wanted(lake, environment):
    verify = ["verify", "--config", lake.config()]
    lake.write(record("users", id=1))
    _, shown = lake.on_terminal(*verify)
    assert "\x1b[32m✓" in shown
    _, shown = lake.on_terminal(*verify, **environment)
    assert "✓" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown)


def test_json_is_json_on_a_terminal_too(lake):
    answer, shown = lake.on_terminal(*planned(lake), "--json", columns=40)
    assert answer.returncode == 0
    assert set(json.loads(shown)) == {"key_template", "streams", "actions", "without_effect"}


def test_what_is_done_to_what_has_landed_is_a_table_of_its_streams(lake):
    lake.write(record("users", id=1) + record("orders", id=1), streams=("users", "orders"))
    config = ["--config", lake.config()]
    for verb, headings in (("verify", "problems"), ("recover", "nothing to finish"), ("sweep", "uploads aborted")):
        answer, shown = lake.on_terminal(verb, *config, columns=160)
        assert answer.returncode == 0
        assert headings in shown
        assert [shown.count(name) for name in ("public.users", "public.orders")] == [1, 1]


def test_what_is_wrong_stands_below_the_table_whole(lake):
    lake.write(record("users", id=1))
    (key,) = lake.data_keys()
    lake.server.client().delete_object(Bucket=lake.bucket, Key=key)
    answer, shown = lake.on_terminal("verify", "--config", lake.config(), columns=40)
    assert answer.returncode == 1
    assert f"✗ public.users: s3://{lake.bucket}/{key} is missing" in plain(shown).splitlines()
    answer, shown = lake.on_terminal("check", "--config", lake.config(s3_bucket_name="lake-nowhere"), columns=40)
    assert answer.returncode == 1
    assert "╭" in shown
    (told,) = [line for line in plain(shown).splitlines() if line.startswith("✗")]
    assert "list objects" in told
    assert "Create it" in told
