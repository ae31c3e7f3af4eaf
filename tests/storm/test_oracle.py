"""The storm finds every fault. Each fault is made by hand in an intact bucket."""

from __future__ import annotations

import random
from multiprocessing import Pipe

from servers import S3Server
from storm.acts import Outcome, Verb, carry_out
from storm.driver import drawn_acts
from storm.history import Attempt, History
from storm.kinds import BY_NAME, KINDS
from storm.oracle import faults_of, put_foreign, recover_all


def _calm(server: S3Server) -> tuple[str, History]:
    """A bucket with at least one sync of each kind, one after another."""
    bucket, history = server.new_bucket(), History()
    put_foreign(server, bucket)
    acts = drawn_acts(server, bucket, 200, random.Random(1), sweeps=False)
    chosen = acts[: len(KINDS)]
    for kind in KINDS:
        later = [each for each in acts[len(KINDS) :] if (each.kind, each.verb) == (kind.name, Verb.WRITE)]
        chosen += [each for each in later if each.day == kind.days[0]][:1]
    for moment, act in enumerate(chosen):
        heard, said = Pipe(duplex=False)
        carry_out(act, said)
        assert heard.recv() == "ready"
        outcome, word = heard.recv()
        history.attempts.append(Attempt(act, moment, moment + 0.5, outcome, word))
    assert {each.outcome for each in history.attempts} <= {Outcome.DONE, Outcome.REPEATED}
    return bucket, history


def _keys(server: S3Server, bucket: str) -> list[str]:
    pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [each["Key"] for page in pages for each in page.get("Contents", ())]


def _data(keys: list[str], kind: str) -> list[str]:
    foreign = ("notes.txt", "archive/0.csv", "latest.txt")
    return [each for each in keys if each.startswith(BY_NAME[kind].prefix) and not each.endswith(foreign)]


def _lose(server: S3Server, bucket: str, keys: list[str]) -> None:
    server.client().delete_object(Bucket=bucket, Key=_data(keys, "append")[0])


def _double(server: S3Server, bucket: str, keys: list[str]) -> None:
    key = _data(keys, "refresh")[0]
    server.client().copy_object(Bucket=bucket, Key=f"{key[:-8]}1.parquet", CopySource={"Bucket": bucket, "Key": key})


def _leave(server: S3Server, bucket: str, keys: list[str]) -> None:
    server.client().create_multipart_upload(Bucket=bucket, Key=f"{BY_NAME['days'].prefix}left.csv")


def _touch(server: S3Server, bucket: str, keys: list[str]) -> None:
    server.client().delete_object(Bucket=bucket, Key=f"{BY_NAME['latest'].prefix}notes.txt")


def _forget(server: S3Server, bucket: str, keys: list[str]) -> None:
    head = "data/_s3dest/public/checkpoints/~/head.json"
    server.client().delete_object(Bucket=bucket, Key=head)


def test_an_intact_bucket_passes_and_each_fault_is_found(moto_s3: S3Server) -> None:
    bucket, history = _calm(moto_s3)
    assert recover_all(moto_s3, bucket, sweeps=False)[1] == []
    assert faults_of(moto_s3, bucket, history, sweeps=False) == []

    refused = [Attempt(e.act, e.began, e.ended, Outcome.SUPERSEDED) for e in history.attempts]
    assert "left nothing" in "; ".join(faults_of(moto_s3, bucket, History(refused), sweeps=False))
    turned = [Attempt(e.act, -e.began, -e.began + 0.5, e.outcome, e.word) for e in history.attempts]
    assert "a later one was acknowledged" in "; ".join(faults_of(moto_s3, bucket, History(turned), sweeps=False))

    for spoil in (_lose, _double, _leave, _touch, _forget):
        spoil(moto_s3, bucket, _keys(moto_s3, bucket))
    found = "; ".join(faults_of(moto_s3, bucket, history, sweeps=False))
    for fault in ("append: lost", "doubled", "uploads are pending", "notes.txt is not ours", "the state is None"):
        assert fault in found
