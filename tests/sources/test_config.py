"""A connector changes its config, for example to renew a token: the change is stored immediately, or a warning says
that it is not."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_source import ScriptedSource

from s3dest_dagster.errors import SettingsError, SourceError
from s3dest_dagster.sources.airbyte.config import ConfigFile, restore_placeholders
from s3dest_dagster.sources.templating import render_config
from s3dest_dagster.stream import Stream

USERS = Stream(name="users")
OLD = {"shop": "example", "credentials": {"refresh_token": "old-hush-token", "client_id": "me"}}
NEW = {"shop": "example", "credentials": {"refresh_token": "new-hush-token", "client_id": "me"}, "expires": "soon"}


@pytest.fixture
def scripted(tmp_path) -> ScriptedSource:
    return ScriptedSource(tmp_path).stream("users")


def read(source, **options) -> list:
    with source.read([USERS], **options) as items:
        return list(items)


def configs(scripted: ScriptedSource) -> list:
    """The configs of the calls, by verb."""
    return [(call["verb"], call["files"]["config"]) for call in scripted.calls()]


# Passed on


def test_a_change_is_passed_on_immediately_and_not_at_the_end(scripted, tmp_path):
    """The connector continues only after the change was stored. Otherwise the test would hang."""
    seen, kept = tmp_path / "seen", []
    scripted.control(NEW).waits_for(seen).records("users", {"id": 1})

    def keep(config):
        kept.append(config)
        seen.touch()

    assert len(read(scripted.source(OLD, on_config=keep))) == 1
    assert kept == [NEW]


def test_a_change_is_stored_although_the_read_fails_later(scripted):
    kept = []
    scripted.control(NEW).records("users", {"id": 1}).error("no more").exits(1)
    with pytest.raises(SourceError, match="no more"):
        read(scripted.source(OLD, on_config=kept.append))
    assert kept == [NEW]


@pytest.mark.parametrize("verb", ["check", "discover"])
def test_other_calls_pass_a_change_on_too(scripted, verb):
    kept = []
    answers = {"check": ("connectionStatus", {"status": "SUCCEEDED"}), "discover": ("catalog", scripted.catalog)}
    part, answer = answers[verb]
    kind = {"check": "CONNECTION_STATUS", "discover": "CATALOG"}[verb]
    scripted.on(verb).control(NEW).message({"type": kind, part: answer})
    getattr(scripted.source(OLD, on_config=kept.append), verb)()
    assert kept == [NEW]


def test_a_read_that_discovers_first_uses_the_changed_config(scripted):
    """A refresh token may be valid for only one use."""
    scripted.on("discover").control(NEW).message({"type": "CATALOG", "catalog": scripted.catalog})
    scripted.on("read").records("users", {"id": 1})
    read(scripted.source(OLD, on_config=lambda config: None))
    assert configs(scripted) == [("discover", OLD), ("read", NEW)]


def test_an_equal_config_is_not_a_change(scripted):
    kept, heard = [], []
    scripted.control(OLD).control(NEW).control(NEW).records("users")
    read(scripted.source(OLD, on_config=kept.append), log=lambda *entry: heard.append(entry))
    assert kept == [NEW]
    assert [message for _, message in heard] == [
        "The source has changed its configuration (credentials.refresh_token, expires); the change is kept."
    ]


def test_placeholders_of_the_partition_stay_placeholders(scripted):
    kept = []
    template = {
        "from": "{{ partition_start }}",
        "days": ["{{ partition_key }}"],
        "auth": {"token": "{{ partition_key }}"},
    }
    scripted.control({"from": "2026-01-05", "days": ["x"], "auth": {"token": "new"}, "more": 1}).records("users")
    values = {"partition_start": "2026-01-05", "partition_key": "x"}
    read(scripted.source(template, on_config=kept.append), config_values=values)
    assert kept == [{**template, "auth": {"token": "new"}, "more": 1}]


names = st.text("abc", min_size=1, max_size=2)
texts = st.sampled_from(["x", "{{ a }}", "at {{ a }}", "{{ b }}"])
configs_of_any_shape = st.dictionaries(
    names,
    st.recursive(texts | st.integers() | st.none(), lambda inner: st.dictionaries(names, inner) | st.lists(inner)),
)


@given(configs_of_any_shape)
def test_unchanged_values_are_restored_as_they_were_set(template):
    rendered = render_config(template, {"a": 1, "b": "x"})
    assert restore_placeholders(template, rendered, json.loads(json.dumps(rendered))) == template


# Not stored


def test_without_a_store_a_warning_names_the_change_and_the_remedy(scripted):
    heard = []
    scripted.control(NEW).records("users", {"id": 1})
    assert len(read(scripted.source(OLD), log=lambda *entry: heard.append(entry))) == 1
    ((level, message),) = heard
    assert level == "WARN"
    assert "(credentials.refresh_token, expires)" in message
    assert "ConfigFile" in message
    assert "hush" not in message


def test_a_failing_store_fails_the_read_and_shows_no_secret(scripted):
    def keep(config):
        raise OSError(f"the vault refused {config['credentials']['refresh_token']}")

    scripted.control(NEW).records("users", {"id": 1})
    with pytest.raises(SourceError) as caught:
        read(scripted.source(OLD, on_config=keep))
    message = str(caught.value)
    assert "(credentials.refresh_token, expires)" in message
    assert "OSError: the vault refused ****" in message
    assert "hush" not in message


@pytest.mark.parametrize(
    "control",
    [{"type": "CONNECTOR_CONFIG", "connectorConfig": {"config": ["hush"]}}, {"type": "OTHER"}, {}],
    ids=["no object", "another type", "none"],
)
def test_a_malformed_message_causes_a_warning(scripted, control):
    heard = []
    scripted.message({"type": "CONTROL", "control": control}).records("users")
    read(scripted.source(OLD), log=lambda *entry: heard.append(entry))
    assert [level for level, _ in heard] == ["WARN"]
    assert "hush" not in heard[0][1]


def test_new_secrets_are_in_no_later_log_and_no_later_error(scripted):
    heard = []
    scripted.control(NEW).log("INFO", "using new-hush-token").stderr("stderr: new-hush-token, old-hush-token\n")
    scripted.error("denied: new-hush-token").exits(1)
    with pytest.raises(SourceError) as caught:
        read(scripted.source(OLD, on_config=lambda config: None), log=lambda _, message: heard.append(message))
    assert "using ****" in heard
    assert "denied: ****" in str(caught.value)
    assert not [text for text in [*heard, str(caught.value)] if "hush" in text]


# In a file


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "shop.json"
    path.write_text(json.dumps(OLD))
    return path


def test_a_config_file_stores_changes_for_the_next_call(scripted, file):
    scripted.on("read", 1).control(NEW).records("users", {"id": 1})
    scripted.on("read", 2).records("users", {"id": 2})
    source = scripted.source(ConfigFile(file), catalog=None)
    read(source)
    assert json.loads(file.read_text()) == NEW
    read(source)
    assert [config for verb, config in configs(scripted) if verb == "read"] == [OLD, NEW]


def test_an_explicit_store_overrides_the_file(scripted, file):
    kept = []
    scripted.control(NEW).records("users")
    read(scripted.source(ConfigFile(file), on_config=kept.append))
    assert (kept, json.loads(file.read_text())) == ([NEW], OLD)


def test_each_call_can_request_the_config_again(scripted):
    tokens = iter(["first", "second"])
    scripted.records("users")
    source = scripted.source(lambda: {"token": next(tokens)})
    source.check()
    source.check()
    assert [config for _, config in configs(scripted)] == [{"token": "first"}, {"token": "second"}]


def test_the_secrets_of_a_requested_config_are_masked(scripted, file):
    heard = []
    scripted.log("INFO", "using old-hush-token").records("users")
    read(scripted.source(ConfigFile(file)), log=lambda _, message: heard.append(message))
    assert heard == ["using ****"]


class TestConfigFile:
    def test_only_the_owner_can_read_the_stored_config(self, file):
        file.chmod(0o644)
        ConfigFile(file).keep(NEW)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert ConfigFile(str(file))() == NEW

    def test_a_link_stays_a_link(self, file, tmp_path):
        link = tmp_path / "link.json"
        link.symlink_to(file)
        ConfigFile(link).keep(NEW)
        assert link.is_symlink()
        assert json.loads(file.read_text()) == NEW

    def test_a_failed_write_leaves_the_file_unchanged(self, file):
        with pytest.raises(TypeError):
            ConfigFile(file).keep({"a": object()})
        assert json.loads(file.read_text()) == OLD
        assert os.listdir(file.parent) == [file.name]

    def test_every_character_is_preserved(self, file):
        ConfigFile(file).keep({"ключ": "ü\u2028"})
        assert ConfigFile(file)() == {"ключ": "ü\u2028"}

    @pytest.mark.parametrize(
        ("content", "reason"),
        [(None, "No such file"), (b"\xff", "UTF-8"), (b'{"hush', "line 1"), (b'["hush"]', "not an object")],
    )
    def test_an_unreadable_file_is_reported_without_its_contents(self, tmp_path, content, reason):
        path = tmp_path / "bad.json"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(SettingsError, match=reason) as caught:
            ConfigFile(path)()
        assert "bad.json" in str(caught.value)
        assert "hush" not in str(caught.value)
