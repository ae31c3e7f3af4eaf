"""A refresh deletes the objects of its own scope and those of the connector, and never anything else."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from failing_clients import CountedClient
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from keys.test_template import UUID, moments, parts, streams, tags, templates, usable
from land_and_read import (
    START,
    batch_of,
    batches_of,
    data_keys,
    destination,
    ids_by_listing,
    stream,
    sync,
    target,
    users,
)
from servers import S3Server

from s3dest_dagster.batch import StreamBatch
from s3dest_dagster.commit.documents import head_key, location_of, quarantine_key, registry_key, segment_key
from s3dest_dagster.commit.head import HEADS, Head
from s3dest_dagster.commit.registry import RegistryEntry
from s3dest_dagster.errors import KeyCollisionError, TemplateError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.streams import landing_streams
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.inspection.plan import plan
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.keys import KeyTemplate, key_name, scope_root, stream_root
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, StreamId, SyncMode

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


# ---------------------------------------------------------------------- by keys only


@settings(max_examples=5 * settings().max_examples, deadline=None)
@given(templates, streams, streams, st.none() | st.text(max_size=5), moments, parts, tags)
def test_manifests_and_files_of_other_tools_are_not_recognized_as_objects(
    template, one, other, partition, moment, part, tag
):
    usable(template, one)
    matches = template.matcher(one).fullmatch
    root = scope_root(template.literal_root, Scope(other, partition))
    register = registry_key(stream_root(template.literal_root, other))
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
    max_examples=settings().max_examples // 4,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(templates, landings, landings)
def test_a_refresh_touches_no_object_of_any_other_scope(moto_s3: S3Server, template: KeyTemplate, first, again):
    """Many landings under one path, of streams that are not compared with each other. Some land twice, and so
    replace their objects."""
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
    """Heads of this many partitions of another stream, as they are stored in a bucket."""
    orders = StreamId("public", "orders")
    for number in range(partitions):
        scope = Scope(orders, f"day-{number}")
        root = scope_root(settings.template.literal_root, scope)
        head = Head(location=location_of(root, scope))
        bucket.put(head_key(root), HEADS.encode(head))
    return orders


def _reads_of_a_refresh(server: S3Server, settings: Any) -> int:
    """The number of objects that a full refresh of `users` reads when it finds a file of the connector."""
    server.fill(settings.s3_bucket_name, ["data/public/users/2022_04_04_123456789_0.csv.gz"])
    client = CountedClient(server.client())
    with target(server, settings, Bucket(client, settings.s3_bucket_name)) as opened:
        receipt = land(batches_of(users(1, 1)), opened, stream(), sync("refresh"))
    assert receipt.removed == ("data/public/users/2022_04_04_123456789_0.csv.gz",)
    return client.calls.count("get_object")


def test_a_refresh_reads_only_the_heads_of_possible_owners(moto_s3: S3Server) -> None:
    settings = destination(moto_s3.new_bucket())
    bucket = moto_s3.open(settings)
    orders = _orders(bucket, settings, 50)
    RegistryEntry(bucket, settings, orders).enter(START)
    assert _reads_of_a_refresh(moto_s3, settings) < 10


def test_all_heads_of_a_stream_without_a_registry_entry_are_read(moto_s3: S3Server) -> None:
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
def test_destinations_with_similar_keys_leave_each_others_objects_alone(moto_s3: S3Server, ours, theirs) -> None:
    """Two destinations in one bucket, one bucket path inside the other: the keys do not show which destination owns
    them."""
    name = moto_s3.new_bucket()
    for number, layout in enumerate((theirs, ours, theirs, ours)):
        with target(moto_s3, destination(name, **layout)) as opened:
            land(batches_of(users(number, number)), opened, stream(), sync(f"s{number}"))
    assert ids_by_listing(moto_s3, name) == [2, 3]


def test_objects_landed_under_an_earlier_template_still_belong_to_their_stream(moto_s3: S3Server) -> None:
    """`orders` was once landed where `users` is landed now, and its registry still records this."""
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


# ---------------------------------------------------------------------- a take-over

FOREIGN = ["notes.csv", "archive/0.csv", "_SUCCESS", "2024.csv", "2024/05/0.csv", "2021_13_41_1622135805678_0.csv"]


@pytest.mark.parametrize(
    ("path_format", "pattern", "connectors"),
    [
        ("${STREAM_NAME}/", "{sync_id}", []),
        ("${STREAM_NAME}/", "{sync_id}{format_extension}", []),
        ("${STREAM_NAME}/", "{sync_id}/{part_number}{format_extension}", []),
        ("${STREAM_NAME}/", "{date:yyyy}-{sync_id}_{part_number}{format_extension}", []),
        ("${STREAM_NAME}/${YEAR}_${MONTH}_${DAY}_${EPOCH}_", "", ["2021_05_27_1622135805678_0.csv"]),
        ("${STREAM_NAME}/${EPOCH}", "{format_extension}", ["1622135805678.csv.gz"]),
        ("${STREAM_NAME}/${YEAR}/${MONTH}/", "{timestamp}{format_extension}", ["2021/05/1622135805678.jsonl"]),
        ("${STREAM_NAME}/", "{date}_{part_number}{format_extension}", ["2021_05_27_0.csv"]),
        ("${STREAM_NAME}/", "{date:yyyyMMdd'T'HHmmss}{format_extension}", ["20210527T171645.csv"]),
    ],
)
def test_a_first_refresh_takes_over_only_what_the_connector_can_have_written(
    moto_s3: S3Server, path_format: str, pattern: str, connectors: list[str]
) -> None:
    settings = destination(moto_s3.new_bucket(), s3_path_format=path_format, file_name_pattern=pattern)
    wrong = ["20211332T250000.csv", "2021_00_10_0.csv", "2021_05_27_0_20240101.csv", "2021/99/1622135805678.jsonl"]
    foreign = {f"data/users/{each}" for each in [*FOREIGN, *wrong]}
    moto_s3.fill(settings.s3_bucket_name, sorted(foreign | {f"data/users/{each}" for each in connectors}))
    with target(moto_s3, settings) as opened:
        receipt = land(batches_of(users(1, 1)), opened, stream(), sync("s1"))
        assert sorted(receipt.removed) == [f"data/users/{each}" for each in connectors]
        receipt = land(batches_of(users(2, 2)), opened, stream(), sync("s2"))
    assert foreign <= set(data_keys(moto_s3, settings.s3_bucket_name))


# ---------------------------------------------------------------------- one key for two streams

ONE_KEY: list[dict[str, Any]] = [
    {"s3_path_format": "x_", "file_name_pattern": "fixed{format_extension}"},
    {"s3_path_format": "x_", "file_name_pattern": "{sync_id}{format_extension}"},
    {"s3_path_format": "${DAY}/", "file_name_pattern": "{date:yyyy}{format_extension}"},
    {"s3_path_format": "${EPOCH}", "file_name_pattern": "{format_extension}"},
    {"s3_path_format": "${STREAM_NAME}/", "file_name_pattern": "latest{format_extension}"},
    {"s3_path_format": "${NAMESPACE}_${STREAM_NAME}/", "file_name_pattern": "latest{format_extension}"},
]


@pytest.mark.parametrize("template", ONE_KEY, ids=lambda each: " ".join(each.values()))
@pytest.mark.parametrize("mode", list(SyncMode))
def test_a_key_that_belongs_to_another_stream_is_refused_before_the_decision(
    moto_s3: S3Server, template: dict[str, str], mode: SyncMode
) -> None:
    """The streams are in two catalogs, so they are not compared. Both syncs have the same time and the same id."""
    settings = destination(moto_s3.new_bucket(), **template)
    one, other = stream("b_c", namespace="a"), stream("b_c" if "_$" not in template["s3_path_format"] else "c", mode)
    other = replace(other, namespace="a_b")
    given = sync("same", now=START)

    def landed(each: Stream, number: int) -> None:
        with target(moto_s3, settings) as opened, landing_streams(opened, [each], given) as landings:
            landings.append(StreamBatch(each.id, batch_of(users(number, number))))
            list(landings.publish())

    landed(one, 1)
    with pytest.raises(KeyCollisionError, match=r"an append must not|which the manifest of a\.b_c lists"):
        landed(other, 2)
    with target(moto_s3, settings) as opened, pytest.raises(KeyCollisionError):
        plan(opened, [other], given)
    assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [1]
    with target(moto_s3, settings) as opened:
        assert verify(opened.bucket, settings.template, Scope(one.id)).problems == ()
        land(batches_of(users(3, 3)), opened, one, given if mode is SyncMode.APPEND else sync("again", now=START))


HASHED = key_name("名前")


@pytest.mark.parametrize(("one", "other"), [*permutations(("a b", "a_b")), *permutations(("名前", HASHED))])
@pytest.mark.parametrize("place", ["name", "namespace"])
def test_a_stream_with_the_same_name_in_keys_as_another_replaces_none_of_its_objects(
    moto_s3: S3Server, one: str, other: str, place: str
) -> None:
    """A separator in a name becomes "_", which another name may contain, and a name may equal the hash of another."""
    settings = destination(
        moto_s3.new_bucket(),
        s3_path_format="${NAMESPACE}/${STREAM_NAME}/",
        file_name_pattern="latest{format_extension}",
    )
    first, second = (replace(stream(), **{place: each}) for each in (one, other))
    with target(moto_s3, settings) as opened:
        _land_alone(opened, first, "s1", 1)
        with pytest.raises(KeyCollisionError, match="lists"):
            _land_alone(opened, second, "s2", 2)
        with pytest.raises(KeyCollisionError, match="lists"):
            plan(opened, [second], sync("s3"))
        assert verify(opened.bucket, settings.template, Scope(first.id)).problems == ()
    assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [1]


@pytest.mark.parametrize("names", permutations(((None, "p/users"), ("p", "users"))))
def test_a_name_that_equals_namespace_and_name_of_another_stream_replaces_none_of_its_objects(
    moto_s3: S3Server, names: tuple[tuple[str | None, str], ...]
) -> None:
    settings = destination(
        moto_s3.new_bucket(),
        s3_path_format="${NAMESPACE}/${STREAM_NAME}/",
        file_name_pattern="latest{format_extension}",
    )
    first, second = (stream(name, namespace=namespace) for namespace, name in names)
    with target(moto_s3, settings) as opened:
        for number in range(2):
            _land_alone(opened, first, f"first-{number}", 1)
        with pytest.raises(KeyCollisionError, match="lists"):
            _land_alone(opened, second, "second", 2)
        assert verify(opened.bucket, settings.template, Scope(first.id)).problems == ()
    assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [1]


def test_two_streams_that_land_at_the_same_time_do_not_replace_each_other(moto_s3: S3Server) -> None:
    """Each listed the keys before the other landed, so both count from 0."""
    settings = destination(moto_s3.new_bucket(), s3_path_format="x_")
    first, second = stream("first", SyncMode.APPEND), stream("second", SyncMode.APPEND)
    with (
        target(moto_s3, settings) as opened,
        landing_streams(opened, [first], sync("s1")) as one,
        landing_streams(opened, [second], sync("s2")) as other,
    ):
        one.append(StreamBatch(first.id, batch_of(users(1, 1))))
        other.append(StreamBatch(second.id, batch_of(users(2, 2))))
        one.stage()
        other.stage()
        list(one.publish())
        with pytest.raises(KeyCollisionError, match=r"public\.first lists"):
            list(other.publish())
    assert ids_by_listing(moto_s3, settings.s3_bucket_name) == [1]


def test_a_usual_template_needs_no_request_to_detect_shared_keys(moto_s3: S3Server) -> None:
    named = KeyTemplate("lake", "${NAMESPACE}/${STREAM_NAME}/")
    assert named.keeps_apart(StreamId("public", "users"))
    assert named.keeps_apart(StreamId(None, "users"))
    assert not named.keeps_apart(StreamId("public", "a/b"))
    assert not named.keeps_apart(StreamId("my space", "users"))
    assert not named.keeps_apart(StreamId("public", "order_items"))
    assert KeyTemplate("lake", "${NAMESPACE}/${STREAM_NAME}/${EPOCH}_").keeps_apart(StreamId("public", "order_items"))
    assert not KeyTemplate("lake", "${STREAM_NAME}/${EPOCH}_").keeps_apart(StreamId("public", "users"))


def _land_alone(opened: Target, only: Stream, sync_id: str, number: int) -> None:
    """Lands a record of a stream that is alone in its catalog."""
    with landing_streams(opened, [only], sync(sync_id)) as landings:
        landings.append(StreamBatch(only.id, batch_of(users(number, number))))
        list(landings.publish())


def _manifests(server: S3Server, bucket: str) -> set[str]:
    pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = {each["Key"] for page in pages for each in page.get("Contents", ())}
    return {key for key in keys if "_s3dest" in key.split("/")}
