"""A connector renews its token in Dagster: the next run, and the next partition, begin with the new token."""

from __future__ import annotations

import json

import dagster as dg
import pytest
from scripted_source import ScriptedSource

from s3dest_dagster import ConfigFile, build_stream_assets

OLD, NEW = {"api": {"token": "old-hush-token"}}, {"api": {"token": "new-hush-token"}}


@pytest.fixture
def scripted(tmp_path) -> ScriptedSource:
    """A source of the stream `users` that renews its token on the first read."""
    source = ScriptedSource(tmp_path).stream("users").records("users", {"id": 1})
    source.on("read", 1).control(NEW).records("users", {"id": 1}).log("INFO", "using new-hush-token")
    return source


def users(scripted: ScriptedSource, config, partitions_def=None, **settings) -> dg.AssetsDefinition:
    (made,) = build_stream_assets(
        scripted.source(config, **settings),
        catalog=scripted.catalog,
        partitions_def=partitions_def,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    return made


def tokens(scripted: ScriptedSource) -> list[str]:
    """The token that each read received."""
    return [call["files"]["config"]["api"]["token"] for call in scripted.calls("read")]


@pytest.mark.parametrize("as_one_run", [False, True])
@pytest.mark.parametrize("is_kept", [False, True])
def test_the_materialization_names_what_has_changed_and_whether_it_is_kept(
    lake, scripted, tmp_path, metadata_of, as_one_run, is_kept
):
    file = tmp_path / "shop.json"
    file.write_text(json.dumps({**OLD, "since": "2026-01-01"}))
    config = ConfigFile(file) if is_kept else json.loads(file.read_text())
    (made,) = build_stream_assets(
        scripted.source(config), catalog=scripted.catalog, partitions_def=None, as_one_run=as_one_run
    )
    scripted.on("read", 1).control({**NEW, "since": "2026-01-05"}).records("users", {"id": 1})
    scripted.on("read").control({**NEW, "since": "2026-01-05"}).records("users", {"id": 1}).source()
    for again in (False, True):
        shown = metadata_of(lake.materialize(made), made.op.name)
        if again and is_kept:
            assert "config_changes" not in shown
            assert "config_kept" not in shown
        else:
            assert shown["config_changes"] == ["api.token", "since"]
            assert shown["config_kept"] is is_kept
        assert "hush" not in str(shown)


def test_only_the_first_of_many_changed_settings_are_named(lake, scripted, metadata_of):
    made = users(scripted, OLD)
    new = {f"setting_{number:02}_{'x' * 200}": number for number in range(70)}
    scripted.on("read", 1).control({**OLD, **new}).records("users", {"id": 1}).source()
    with dg.DagsterInstance.ephemeral() as instance:
        result = lake.materialize(made, instance=instance)
        (warning,) = [
            each.user_message
            for each in instance.all_logs(result.run_id)
            if "changed its configuration" in each.user_message
        ]
    shown = metadata_of(result, made.op.name)["config_changes"]
    assert shown[-1] == "… 20 more settings"
    assert [len(name) for name in shown[:-1]] == [120] * 50
    assert " and 20 more), and nothing keeps that" in warning
    assert len(warning) < 8000


def test_a_config_file_stores_the_token_for_the_next_run(lake, scripted, tmp_path):
    file = tmp_path / "shop.json"
    file.write_text(json.dumps(OLD))
    made = users(scripted, ConfigFile(file))
    for _ in range(2):
        lake.materialize(made)
    assert tokens(scripted) == ["old-hush-token", "new-hush-token"]
    assert json.loads(file.read_text()) == NEW


def test_a_custom_store_keeps_the_token(lake, scripted):
    store = {"shop": json.dumps(OLD)}
    made = users(
        scripted,
        lambda: json.loads(store["shop"]),
        on_config=lambda config: store.update(shop=json.dumps(config)),
    )
    for _ in range(2):
        lake.materialize(made)
    assert tokens(scripted) == ["old-hush-token", "new-hush-token"]


def test_the_next_partition_of_a_run_begins_with_the_new_token(lake, scripted, tmp_path):
    file = tmp_path / "shop.json"
    file.write_text(json.dumps({**OLD, "day": "{{ partition_key }}"}))
    made = users(scripted, ConfigFile(file), dg.DailyPartitionsDefinition("2026-01-01"))
    tags = {"dagster/asset_partition_range_start": "2026-01-05", "dagster/asset_partition_range_end": "2026-01-06"}
    scripted.on("read", 1).control({**NEW, "day": "2026-01-05"}).records("users", {"id": 1})
    scripted.source()
    lake.materialize(made, tags=tags)
    assert [call["files"]["config"] for call in scripted.calls("read")] == [
        {**OLD, "day": "2026-01-05"},
        {**NEW, "day": "2026-01-06"},
    ]
    assert json.loads(file.read_text()) == {**NEW, "day": "{{ partition_key }}"}


def test_variables_in_a_config_function_are_looked_up(lake, scripted, monkeypatch):
    monkeypatch.setenv("OUR_TOKEN", "from-the-environment")
    lake.materialize(users(scripted, lambda: {"api": {"token": dg.EnvVar("OUR_TOKEN")}}, on_config=lambda config: None))
    assert tokens(scripted) == ["from-the-environment"]


def test_a_token_that_is_not_stored_causes_a_warning_without_secrets_in_the_log_of_the_run(lake, scripted):
    with dg.DagsterInstance.ephemeral() as instance:
        result = lake.materialize(users(scripted, OLD), instance=instance)
        events = instance.all_logs(result.run_id)
    (warning,) = [each for each in events if "changed its configuration" in each.user_message]
    assert (warning.level, "(api.token)" in warning.user_message) == (30, True)
    assert "using ****" in [each.user_message for each in events]
    assert not [each for each in events if "hush" in each.to_json()]


def test_a_token_that_cannot_be_stored_fails_the_run_before_anything_lands(lake, scripted, tmp_path):
    missing = tmp_path / "gone" / "shop.json"
    with pytest.raises(dg.Failure, match=r"\(api\.token\), and keeping the change failed: FileNotFoundError"):
        lake.materialize(users(scripted, OLD, on_config=ConfigFile(missing).keep))
    assert lake.all_keys() == []
