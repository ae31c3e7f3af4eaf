"""Results for people on a terminal, and for programs in a pipe: both contain the same, and nothing is cut off."""

import json
import re

import pytest
from airbyte_messages import record
from terminals import plain, terminal

from s3dest_dagster.cli.scope_results import ScopeProgress
from s3dest_dagster.inspection.plan import ACTIONS
from s3dest_dagster.stream import Scope, StreamId

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
    """A plan with every kind of content: renamed fields, a replaced object, a setting without effect."""
    lake.write(record("users", id=1), "--now", "2021-01-01T00:00:00Z")
    catalog = {"streams": [{"name": "users", "namespace": "public", "json_schema": SCHEMA}]}
    config = lake.config(format={"format_type": "Parquet", "max_padding_size_mb": 4})
    return ["plan", "--config", config, "--catalog", lake.file("wide.json", catalog), "--now", "2021-01-02T00:00:00Z"]


def expected_parts(lake) -> list[str]:
    """The texts that every form of that plan contains."""
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


def test_a_plan_in_a_pipe_is_plain_and_complete_at_any_terminal_width(lake):
    answer = lake.run(*planned(lake), COLUMNS="40", TERM="xterm-256color", FORCE_COLOR="1")
    assert answer.returncode == 0
    assert not any(sign in answer.stdout for sign in SIGNS)
    assert [part for part in [*expected_parts(lake), f"{LONG}  string"] if part not in answer.stdout] == []


@pytest.mark.parametrize("columns", [60, 200])
def test_a_plan_on_a_terminal_is_a_complete_table(lake, columns):
    """Narrow cells are wrapped, so the test searches for a text without the characters between its letters."""
    answer, shown = lake.on_terminal(*planned(lake), columns=columns)
    assert answer.returncode == 0
    assert "╭" in shown
    assert "…" not in shown
    letters = unwrapped(shown)
    assert [part for part in [*expected_parts(lake), LONG] if letter(part) not in letters] == []


def unwrapped(shown: str) -> str:
    """All letters, those of a table column by column, so that wrapped text becomes continuous again."""
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
def test_colour_is_left_out_if_it_is_disabled(lake, environment):
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


def test_the_results_of_maintenance_are_a_table_of_streams(lake):
    lake.write(record("users", id=1) + record("orders", id=1), streams=("users", "orders"))
    config = ["--config", lake.config()]
    for verb, headings in (("verify", "problems"), ("recover", "nothing to finish"), ("sweep", "uploads aborted")):
        answer, shown = lake.on_terminal(verb, *config, columns=160)
        assert answer.returncode == 0
        assert headings in shown
        assert [shown.count(name) for name in ("public.users", "public.orders")] == [1, 1]


def test_problems_are_shown_completely_below_the_table(lake):
    lake.write(record("users", id=1))
    (key,) = lake.data_keys()
    lake.server.client().delete_object(Bucket=lake.bucket, Key=key)
    answer, shown = lake.on_terminal("verify", "--config", lake.config(), columns=40)
    assert answer.returncode == 1
    assert f"✗ public.users: s3://{lake.bucket}/{key} is missing" in plain(shown).splitlines()
    answer, shown = lake.on_terminal("check", "--config", lake.config(s3_bucket_name="lake-nowhere"), columns=40)
    assert answer.returncode == 1
    assert "╭" in shown
    (problem,) = [line for line in plain(shown).splitlines() if line.startswith("✗")]
    assert "list objects" in problem
    assert "Create it" in problem


def test_a_terminal_shows_how_many_scopes_of_how_many_are_done(monkeypatch):
    stream = StreamId("public", "users")
    scopes, progress = [Scope(stream, f"2021-01-0{day}") for day in range(1, 4)], ScopeProgress()
    monkeypatch.setenv("TERM", "xterm-256color")
    with terminal(100) as (path, shown), open(path, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        with progress.shown():
            done = list(progress.results(stream, str, scopes))
    assert done == [str(scope) for scope in scopes]
    assert "[####################] public.users: 3 of 3 scopes" in plain(shown())
    assert list(progress.results(stream, str, scopes)) == done


def test_a_terminal_shows_how_many_scopes_a_sweep_has_looked_through(monkeypatch):
    stream, progress = StreamId("public", "users"), ScopeProgress()
    monkeypatch.setenv("TERM", "xterm-256color")
    with terminal(100) as (path, shown), open(path, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        with progress.shown():
            done = progress.counting(stream)
            for _ in range(250):
                done()
    assert "public.users: 200 scopes" in plain(shown())
