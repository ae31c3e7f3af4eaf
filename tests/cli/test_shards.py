"""`s3dest begin`, `stage`, `commit` and `abandon`: one sync from many processes, which know of each other by files."""

import json

RECORDS = '{"id": 1, "name": "Ada"}\n\n{"id": 2, "name": "Grace"}\n'


def begun(lake, *options: str, **settings) -> str:
    """The path of a new order."""
    lake.prepare()
    answer = lake.run("begin", "--config", lake.config(**settings), "--catalog", lake.catalog("users"), *options)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("\n") == 1
    return lake.file("order.json", answer.stdout)


def staged(lake, order: str, shard: str, records: str = RECORDS) -> str:
    """The path of a shard's receipt."""
    answer = lake.run("stage", "--config", lake.config(), "--order", order, "--shard", shard, stdin=records)
    assert answer.returncode == 0, answer.stderr
    return lake.file(f"{shard}.json", answer.stdout)


def test_processes_stage_shards_and_another_one_commits_them(lake):
    order = begun(lake, "--sync-id", "nightly", "--partition", "2026-01-05")
    receipts = [staged(lake, order, "a"), staged(lake, order, "b", '{"id": 3}\n')]
    assert lake.data_keys() == []
    answer = lake.run("commit", "--config", lake.config(), "--order", order, "--shards", "2", *receipts)
    assert answer.returncode == 0, answer.stderr
    assert "public.users [2026-01-05]: 3 rows, 2 objects" in answer.stderr
    assert lake.ids() == [1, 2, 3]
    again = lake.run("commit", "--config", lake.config(), "--order", order, "--json", *receipts)
    assert json.loads(again.stderr)["repeated"]
    assert lake.ids() == [1, 2, 3]


def test_an_order_has_no_secret_and_a_worker_may_have_its_own_identity(lake):
    order = begun(lake)
    keys = {"AWS_ACCESS_KEY_ID": lake.server.access_key_id, "AWS_SECRET_ACCESS_KEY": lake.server.secret_access_key}
    answer = lake.run("stage", "--order", order, "--shard", "a", stdin=RECORDS, **keys)
    assert answer.returncode == 0, answer.stderr
    receipt = lake.file("receipt.json", answer.stdout)
    answer = lake.run("commit", "--order", order, receipt, **keys)
    assert answer.returncode == 0, answer.stderr
    assert lake.ids() == [1, 2]


def test_a_missing_shard_fails_the_commit_and_nothing_is_left(lake):
    order = begun(lake)
    receipt = staged(lake, order, "a")
    answer = lake.run("commit", "--config", lake.config(), "--order", order, "--shards", "2", receipt)
    assert answer.returncode == 1
    assert "2 shards were expected, and 1 have a receipt" in answer.stderr
    assert (lake.ids(), lake.uploads()) == ([], 0)


def test_a_line_that_is_no_record_fails_its_shard_and_names_file_and_line(lake):
    order = begun(lake)
    path = lake.file("part.jsonl", '{"id": 1}\n{"id": \n')
    answer = lake.run("stage", "--config", lake.config(), "--order", order, "--shard", "a", path)
    assert answer.returncode == 1
    assert f"line 2 of {path} is no record" in answer.stderr
    assert (answer.stdout, lake.uploads()) == ("", 0)


def test_an_abandoned_order_leaves_no_upload(lake):
    order = begun(lake)
    staged(lake, order, "a")
    assert lake.uploads() == 1
    answer = lake.run("abandon", "--config", lake.config(), "--order", order)
    assert "1 upload aborted" in answer.stderr
    assert lake.uploads() == 0


def test_a_wrong_call_says_what_to_give(lake):
    lake.prepare()
    config, catalog = lake.config(), lake.catalog("users", "orders")
    several = lake.run("begin", "--config", config, "--catalog", catalog)
    assert (several.returncode, "name one by --stream" in several.stderr) == (2, True)
    unknown = lake.run("begin", "--config", config, "--catalog", catalog, "--stream", "public.user")
    assert "Did you mean 'public.users'?" in unknown.stderr
    missing = lake.run("commit", "--order", lake.file("order.json", "{}"), "receipt.json")
    assert (missing.returncode, "This is no order" in missing.stderr) == (2, True)
    order = begun(lake, "--sync-id", "x")
    answer = lake.run("stage", "--config", config, "--order", order, "--shard", "a", "nowhere.jsonl")
    assert (answer.returncode, "There is no file nowhere.jsonl" in answer.stderr) == (2, True)
