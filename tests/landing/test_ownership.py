"""What a refresh deletes: its own scope's objects and what the connector left; never anything of anybody else."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from faults import CountedClient
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from keys.test_key_template import UUID, moments, parts, streams, tags, templates, usable
from landed import START, batches_of, data_keys, destination, ids_by_listing, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.errors import KeyCollisionError, TemplateError
from s3dest_dagster.keys import KeyTemplate, scope_root, stream_root
from s3dest_dagster.landing import land
from s3dest_dagster.landing.manifest import Head, to_json
from s3dest_dagster.landing.manifest_keys import head_key, quarantine_key, register_key, segment_key
from s3dest_dagster.landing.register import Registration
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId, SyncMode

NAMES = [
    "user",
    "users",
    "user1",
    "u.er",
    "u(se)r+",
    "用户表",
    "支付表",
    "a/b",
    "a",
    "a_b",
    "head.json",
    "x_s3dest",
    "~",
]
NAMESPACES = [None, "public", "用户表", "a", "a_b", "_"]


# ---------------------------------------------------------------------- by keys alone


@settings(max_examples=200, deadline=None)
@given(templates, streams, streams, st.none() | st.text(max_size=5), moments, parts, tags)
def test_no_manifest_and_no_file_of_another_make_is_taken_for_an_object(
    template, one, other, partition, moment, part, tag
):
    usable(template, one)
    matches = template.matcher(one).fullmatch
    root = scope_root(template, Scope(other, partition))
    register = register_key(stream_root(template, other))
    for manifest in (head_key(root), segment_key(root, "s.1"), quarantine_key(root, "s.1"), register):
        assert not matches(manifest)
    keys = template.bind(Scope(one), now=moment, uuid=UUID, sync_id="7")
    made = keys.key(part, ".csv", uploaded_at=moment, tag=tag)
    assert matches(made)
    for foreign in (f"{made}.bak", f"{made}\n", f"{made}/0.csv", f"x{made}", f"x/{made}", made.replace(".csv", ".txt")):
        assert not matches(foreign)


# ---------------------------------------------------------------------- on a server

scope_names = st.builds(StreamId, st.sampled_from(NAMESPACES), st.sampled_from(NAMES))
landings = st.lists(st.tuples(scope_names, st.sampled_from([None, None, "2026-01-05"])), min_size=2, max_size=4)


@settings(
    max_examples=4,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(templates, landings, landings)
def test_a_refresh_touches_nothing_of_any_other_scope(moto_s3: S3Server, template: KeyTemplate, first, again):
    """Every landing under one path, of streams that nobody has compared; some twice, so that they replace."""
    settings = destination(
        moto_s3.new_bucket(),
        s3_bucket_path=template.bucket_path,
        s3_path_format=template.path_format,
        file_name_pattern=template.file_name_pattern,
    )
    foreign = {f"{template.example('.csv')}{end}" for end in (".bak", "/notes.txt")}
    moto_s3.fill(settings.s3_bucket_name, sorted(foreign))
    held: dict[Scope, set[str]] = {}
    landed = 0
    with target(moto_s3, settings) as opened:
        for number, (name, partition) in enumerate([*first, *again, *first[:2]]):
            scope = Scope(name, partition)
            refreshed = stream(name.name, namespace=name.namespace)
            manifests = _manifests(moto_s3, settings.s3_bucket_name)
            try:
                receipt = land(batches_of(users(number, number)), opened, refreshed, sync(f"s{number}"), scope=scope)
            except (TemplateError, KeyCollisionError):
                continue
            landed += 1
            held[scope] = {each.key for each in receipt.objects}
            assert set(data_keys(moto_s3, settings.s3_bucket_name)) == foreign.union(*held.values())
            assert manifests <= _manifests(moto_s3, settings.s3_bucket_name)
    assume(landed)


def _orders(bucket: Bucket, settings: Any, partitions: int) -> StreamId:
    """Heads of so many partitions of another stream, as they stand in a bucket."""
    orders = StreamId("public", "orders")
    for number in range(partitions):
        scope = Scope(orders, f"day-{number}")
        head = Head(path="data", stream=orders.name, namespace=orders.namespace, partition=scope.partition)
        bucket.put(head_key(scope_root(settings.template, scope)), to_json(head))
    return orders


def _reads_of_a_refresh(server: S3Server, settings: Any) -> int:
    """How many objects a full refresh of `users` reads that meets a file of the connector."""
    server.fill(settings.s3_bucket_name, ["data/public/users/2022_04_04_123456789_0.csv.gz"])
    client = CountedClient(server.client())
    with target(server, settings, Bucket(client, settings.s3_bucket_name)) as opened:
        receipt = land(batches_of(users(1, 1)), opened, stream(), sync("refresh"))
    assert receipt.removed == ("data/public/users/2022_04_04_123456789_0.csv.gz",)
    return client.calls.count("get_object")


def test_a_refresh_reads_the_heads_of_those_alone_who_could_own_what_it_finds(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    bucket = moto_s3.open(settings)
    orders = _orders(bucket, settings, 50)
    Registration(bucket, settings, orders).enter(START)
    assert _reads_of_a_refresh(moto_s3, settings) < 10


def test_a_stream_whose_register_is_lost_is_asked_about_every_scope(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    _orders(moto_s3.open(settings), settings, 50)
    assert 50 < _reads_of_a_refresh(moto_s3, settings) < 60


LAYOUTS = [
    {"s3_bucket_path": "", "s3_path_format": "lake/${NAMESPACE}/${STREAM_NAME}/${EPOCH}_"},
    {"s3_bucket_path": "lake", "s3_path_format": "${NAMESPACE}/${STREAM_NAME}/${EPOCH}_"},
    {"s3_bucket_path": "lake/public", "s3_path_format": "${STREAM_NAME}/${EPOCH}_"},
    {"s3_bucket_path": "lake/public/users", "s3_path_format": "${EPOCH}_"},
    {"s3_bucket_path": "lake/public/users", "s3_path_format": "${EPOCH}_", "stream_prefix": "other "},
]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [*permutations(LAYOUTS[:3], 2), (LAYOUTS[1], LAYOUTS[4]), (LAYOUTS[4], LAYOUTS[1]), (LAYOUTS[2], LAYOUTS[3])],
)
def test_destinations_whose_keys_look_alike_leave_each_others_objects(moto_s3: S3Server, ours, theirs) -> None:
    """One bucket, two destinations whose bucket paths lie in each other: the keys do not tell whose they are."""
    name = moto_s3.new_bucket()
    for number, layout in enumerate((theirs, ours, theirs, ours)):
        with target(moto_s3, destination(name, **layout)) as opened:
            land(batches_of(users(number, number)), opened, stream(), sync(f"s{number}"))
    assert ids_by_listing(moto_s3, name) == [2, 3]


def test_what_was_landed_under_an_earlier_template_stays_its_streams(moto_s3: S3Server) -> None:
    """`orders` once stood where `users` is landed now, and its register remembers."""
    name = moto_s3.new_bucket()
    before = destination(name, s3_path_format="public/users/${EPOCH}_")
    now = destination(name, s3_path_format="${NAMESPACE}/${STREAM_NAME}/${EPOCH}_", on_template_change="accept")
    with target(moto_s3, before) as opened:
        land(batches_of(users(1, 1)), opened, stream("orders", SyncMode.APPEND), sync("s1"))
    with target(moto_s3, now) as opened:
        land(batches_of(users(2, 2)), opened, stream("orders", SyncMode.APPEND), sync("s2"))
        land(batches_of(users(3, 3)), opened, stream("users"), sync("s3"))
        land(batches_of(users(4, 4)), opened, stream("users"), sync("s4"))
    assert ids_by_listing(moto_s3, name) == [1, 2, 4]


def _manifests(server: S3Server, bucket: str) -> set[str]:
    pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = {each["Key"] for page in pages for each in page.get("Contents", ())}
    return {key for key in keys if "_s3dest" in key.split("/")}
