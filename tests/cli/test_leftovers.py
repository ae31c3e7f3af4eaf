"""`s3dest transfer` gives a stream to a new owner, `s3dest retire` takes away what it holds, after it has shown it."""

from __future__ import annotations

import json

import pytest
from airbyte_messages import record, state

APPEND = {"mode": "append"}


def run(lake, verb: str, *arguments: str):
    return lake.run(verb, *arguments, "--config", lake.config())


def error_of(answer) -> str:
    (line,) = (line for line in answer.stderr.splitlines() if line.startswith("Error: "))
    return line


class TestTransfer:
    def test_the_new_owner_lands_and_the_former_is_refused(self, lake):
        assert lake.write(record("users", id=1), "--owner", "crm/users").returncode == 0
        refused = lake.write(record("users", id=2), "--owner", "shop/users")
        assert refused.returncode == 1
        assert "belongs to 'crm/users', and 'shop/users' would land it too" in error_of(refused)
        assert "s3dest transfer public.users --to shop/users" in error_of(refused)
        answer = run(lake, "transfer", "public.users", "--to", "shop/users")
        assert answer.stdout == "public.users: belongs to shop/users; before: crm/users\n"
        assert lake.write(record("users", id=3), "--owner", "shop/users").returncode == 0
        assert lake.write(record("users", id=4), "--owner", "crm/users").returncode == 1
        assert lake.ids() == [3]
        again = run(lake, "transfer", "public.users", "--to", "shop/users", "--json")
        assert json.loads(again.stdout) == {
            "stream": "users",
            "namespace": "public",
            "changed": False,
            "before": "shop/users",
            "owner": "shop/users",
        }

    def test_plan_and_check_answer_the_owner(self, lake):
        files = ("--catalog", lake.catalog("users"))
        assert lake.write(record("users", id=1), "--owner", "crm/users").returncode == 0
        for verb in ("plan", "check"):
            assert run(lake, verb, *files, "--owner", "crm/users").returncode == 0
            refused = run(lake, verb, *files)
            assert refused.returncode == 1
            assert "this landing names no owner" in refused.stdout + refused.stderr

    def test_an_owner_in_the_configuration_counts_and_the_option_replaces_it(self, lake):
        owned = lake.file("owned.json", lake.settings(s3dest={"owner": "crm/users", "max_attempts": 1}))
        assert lake.write(record("users", id=1), "--config", owned).returncode == 0
        assert "names no owner" in error_of(lake.write(record("users", id=2)))
        assert lake.write(record("users", id=3), "--owner", "crm/users").returncode == 0
        assert lake.write(record("users", id=4), "--config", owned, "--owner", "other").returncode == 1
        assert lake.ids() == [3]

    def test_an_unknown_stream_is_refused_with_the_known_ones(self, lake):
        lake.write(record("users", id=1))
        answer = run(lake, "transfer", "public.user", "--to", "me")
        assert answer.returncode == 2
        assert "No stream 'public.user' has landed here. Did you mean 'public.users'?" in error_of(answer)

    def test_a_name_with_a_dot_and_no_namespace_is_found(self, lake):
        lake.write(record("users", None, id=1), namespace=None)
        assert run(lake, "transfer", "users", "--to", "me").returncode == 0


class TestRename:
    """`transfer --to-stream`."""

    def test_it_is_shown_before_it_is_done_and_the_new_name_goes_on(self, lake):
        assert lake.write(record("users", id=1) + state("users", 1), "--owner", "users", **APPEND).returncode == 0
        before = sorted(lake.all_keys())
        shown = run(lake, "transfer", "public.users", "--to-stream", "public.orders")
        assert shown.stdout.startswith("public.users: 1 object, 1 row, ")
        assert shown.stdout.endswith(", its state would be given to public.orders\n")
        assert "Nothing was changed. Add --yes to do it." in shown.stderr
        assert sorted(lake.all_keys()) == before
        rename = ("transfer", "public.users", "--to-stream", "public.orders", "--to", "orders", "--yes")
        done = run(lake, *rename)
        assert done.stdout.endswith(", its state given to public.orders\n")
        assert run(lake, *rename).stdout == "public.users: nothing to give to public.orders\n"
        assert "s3dest state set" in done.stderr
        shown = run(lake, "state", "show").stdout
        assert json.loads(shown)[0]["stream"]["stream_state"] == {"cursor": 1}
        given = lake.file("state.json", shown.replace('"users"', '"orders"'))
        assert "public.orders: state set" in run(lake, "state", "set", "--state", given).stdout
        more = lake.write(record("orders", id=2), "--owner", "orders", streams=("orders",), **APPEND)
        assert more.returncode == 0
        listed = json.loads(run(lake, "ls", "--json").stdout)
        assert [(each["stream"], each["rows"]) for each in listed] == [("orders", 1), ("orders", 1)]
        assert run(lake, "verify").returncode == 0

    def test_json_names_both_streams(self, lake):
        lake.write(record("users", id=1))
        (step,) = json.loads(run(lake, "transfer", "public.users", "--to-stream", "shop.people", "--json").stdout)
        assert step.pop("bytes") > 0
        assert step == {
            "stream": "users",
            "namespace": "public",
            "partition": None,
            "objects": 1,
            "rows": 1,
            "not_counted": 0,
            "state": False,
            "to_stream": "people",
            "to_namespace": "shop",
            "done": False,
        }

    def test_a_name_that_cannot_have_it_is_refused(self, lake):
        lake.write(record("users", id=1) + record("orders", id=2), streams=("users", "orders"))
        for target, why in (
            ("public.users", "has this name already"),
            ("public.orders", "holds objects or a state already"),
            ("", "names no stream"),
        ):
            answer = run(lake, "transfer", "public.users", "--to-stream", target, "--yes")
            assert why in error_of(answer)
            assert answer.returncode in (1, 2)
        assert "--to-stream" in error_of(run(lake, "transfer", "public.users"))


class TestRetire:
    @pytest.fixture
    def landed(self, lake):
        """Two append streams with states."""
        messages = record("users", id=1) + state("users", 1) + record("orders", id=2) + state("orders", 2)
        assert lake.write(messages, streams=("users", "orders"), **APPEND).returncode == 0
        return lake

    def test_it_is_shown_before_it_is_done_and_can_be_undone(self, landed):
        before = sorted(landed.all_keys())
        shown = run(landed, "retire", "public.users")
        assert shown.returncode == 0
        assert shown.stdout.startswith("public.users: 1 object, 1 row, ")
        assert shown.stdout.endswith(", its state would be retired\n")
        assert "Nothing was changed. Add --yes to do it." in shown.stderr
        assert sorted(landed.all_keys()) == before
        done = run(landed, "retire", "public.users", "--yes")
        assert done.stdout.endswith(", its state retired\n")
        assert "users" not in run(landed, "ls").stdout
        assert run(landed, "retire", "public.users", "--yes").stdout == "public.users: nothing to retire\n"
        assert "would be brought back; kept until" in run(landed, "retire", "public.users", "--undo").stdout
        back = run(landed, "retire", "public.users", "--undo", "--yes")
        assert back.stdout.endswith(", its state brought back\n")
        assert "/users/" in run(landed, "ls").stdout
        assert json.loads(run(landed, "state", "show").stdout)[1]["stream"]["stream_state"] == {"cursor": 1}
        assert run(landed, "retire", "public.users", "--undo").stdout == "public.users: nothing to bring back\n"

    def test_a_sweep_deletes_what_was_retired_and_nothing_else(self, landed):
        run(landed, "retire", "public.users", "--yes")
        assert landed.ids() == [1]
        assert run(landed, "sweep", "--now", "2100-01-01T00:00:00Z").returncode == 0
        assert (landed.ids(), landed.ids("orders")) == ([], [2])
        assert run(landed, "verify").returncode == 0

    def test_json_names_what_would_go(self, landed):
        answer = run(landed, "retire", "public.orders", "--json")
        (step,) = json.loads(answer.stdout)
        assert step.pop("bytes") > 0
        assert step == {
            "stream": "orders",
            "namespace": "public",
            "partition": None,
            "objects": 1,
            "rows": 1,
            "not_counted": 0,
            "state": True,
            "kept_until": None,
            "done": False,
        }

    def test_a_scope_that_does_not_exist_is_refused(self, landed):
        answer = run(landed, "retire", "public.users", "--scope", "2026-01-05")
        assert answer.returncode == 2
        assert "has no partition '2026-01-05'" in error_of(answer)

    def test_an_empty_scope_is_what_has_no_partition(self, landed):
        assert run(landed, "retire", "public.users", "--scope", "", "--yes").stdout.endswith("retired\n")
