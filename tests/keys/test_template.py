"""Templates: the keys that they make, recognise and refuse."""

import re
from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from work_counter import assert_linear

from s3dest_dagster.errors import TemplateError
from s3dest_dagster.keys import DEFAULT_PATH_FORMAT, KeyTemplate, sanitize_name
from s3dest_dagster.keys.overlap import OverlapSearch
from s3dest_dagster.keys.placeholders import Level, fill, pattern_of
from s3dest_dagster.stream import Scope, StreamId

NOW = datetime(2021, 1, 1, 3, 4, 5, 67_000, tzinfo=UTC)
EPOCH = "1609470245067"
UUID = "3f0c9a52-7e4d-4b7c-9d8e-0a1b2c3d4e5f"
USERS = StreamId("public", "users")
EXTENSIONS = [".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".avro", ".parquet"]


def bound(template, scope=None, **values):
    return template.bind(scope or Scope(USERS), **{"now": NOW, "uuid": UUID, "sync_id": "42", **values})


def key(template, scope=None, part=0, extension=".csv", tag=""):
    return bound(template, scope).key(part, extension, uploaded_at=NOW + timedelta(seconds=1), tag=tag)


class TestKeys:
    def test_the_default_layout(self):
        template = KeyTemplate("data_output_path", DEFAULT_PATH_FORMAT)
        assert key(template, extension=".csv.gz") == f"data_output_path/public/users/2021_01_01_{EPOCH}_0.csv.gz"

    @pytest.mark.parametrize(
        ("variable", "text"),
        [
            ("${NAMESPACE}", "public"),
            ("${STREAM_NAME}", "users"),
            ("${YEAR}", "2021"),
            ("${MONTH}", "01"),
            ("${DAY}", "01"),
            ("${HOUR}", "03"),
            ("${MINUTE}", "04"),
            ("${SECOND}", "05"),
            ("${MILLISECOND}", "0067"),
            ("${EPOCH}", EPOCH),
            ("${UUID}", UUID),
        ],
    )
    def test_every_variable_works_in_the_path_format_and_in_the_bucket_path(self, variable, text):
        assert key(KeyTemplate("lake", variable + "/")) == f"lake/{text}/0.csv"
        assert key(KeyTemplate(variable, "x/")) == f"{text}/x/0.csv"

    @pytest.mark.parametrize(
        ("bucket_path", "path_format", "made"),
        [
            ("", "${STREAM_NAME}/", "users/0.csv"),
            ("/", "/${STREAM_NAME}/", "users/0.csv"),
            ("//a///b//", "//${STREAM_NAME}//x_", "a/b/users/x_0.csv"),
            ("a", "${STREAM_NAME}/", "a/users/0.csv"),
        ],
    )
    def test_slashes_are_corrected(self, bucket_path, path_format, made):
        assert key(KeyTemplate(bucket_path, path_format)) == made

    @pytest.mark.parametrize("namespace", [None, ""])
    def test_an_absent_namespace_leaves_no_directory(self, namespace):
        template = KeyTemplate("bp", "${NAMESPACE}/${STREAM_NAME}/")
        assert key(template, Scope(StreamId(namespace, "users"))) == "bp/users/0.csv"
        assert (
            key(KeyTemplate("", "${NAMESPACE}/${STREAM_NAME}/"), Scope(StreamId(namespace, "users"))) == "users/0.csv"
        )

    @pytest.mark.parametrize(
        ("name", "in_keys"), [("$1", "$1"), ("a$b", "a$b"), ("\\1", "_1"), ("${YEAR}", "$_YEAR_"), ("{date}", "_date_")]
    )
    def test_names_are_never_interpreted_as_syntax(self, name, in_keys):
        assert key(KeyTemplate("", "${NAMESPACE}/${STREAM_NAME}/"), Scope(StreamId(name, name))) == (
            f"{in_keys}/{in_keys}/0.csv"
        )

    def test_the_sync_time_is_utc(self):
        from zoneinfo import ZoneInfo

        keys = bound(
            KeyTemplate("", "${YEAR}${MONTH}${DAY}T${HOUR}/"), now=NOW.astimezone(ZoneInfo("America/New_York"))
        )
        assert keys.prefix == "20210101T03/"

    def test_a_tag_follows_the_part_number(self):
        assert key(KeyTemplate("", "x/"), part=3, tag="_3f9a1c2e", extension=".parquet") == "x/3_3f9a1c2e.parquet"
        assert key(KeyTemplate("", "x/", "{part_number}-{sync_id}"), part=3, tag="_3f9a1c2e") == "x/3_3f9a1c2e-42"

    def test_a_tag_without_part_number_is_before_the_extension_or_at_the_end(self):
        assert key(KeyTemplate("", "x/", "data{format_extension}"), tag="_3f9a1c2e") == "x/data_3f9a1c2e.csv"
        assert key(KeyTemplate("", "x/", "data"), tag="_3f9a1c2e") == "x/data_3f9a1c2e"

    def test_a_uuid_can_replace_the_part_number(self):
        assert key(KeyTemplate("", "x/"), part=UUID) == f"x/{UUID}.csv"

    @pytest.mark.parametrize(("part", "tag"), [(-1, ""), (10_000_000, ""), ("a/b", ""), (0, "_x"), (0, "3f9a1c2e")])
    def test_a_part_that_could_not_be_recognised_is_refused(self, part, tag):
        with pytest.raises(TemplateError, match=r"public\.users"):
            key(KeyTemplate("", "x/"), part=part, tag=tag)

    def test_a_sync_id_is_one_part_of_a_name(self):
        template = KeyTemplate("", "x/", "{sync_id}_{part_number}")
        assert bound(template, sync_id="run/../7 a").key(0, ".csv", uploaded_at=NOW) == "x/run_.._7_a_0"

    def test_micros_come_from_the_clock(self):
        keys = bound(KeyTemplate("", "x/", "{timestamp:micros}"))
        assert keys.key(0, ".csv", uploaded_at=NOW.replace(microsecond=67_089)) == "x/1609470245067089"


class TestPartitions:
    SCOPE = Scope(USERS, "2021-01-01|eu", {"date": "2021-01-01", "region": "eu"})

    def test_the_path_contains_the_partition_and_its_dimensions(self):
        assert key(KeyTemplate("", "d=${PARTITION}/"), self.SCOPE) == "d=2021-01-01_eu/0.csv"
        assert key(KeyTemplate("", "${PARTITION:region}/${PARTITION:date}/"), self.SCOPE) == "eu/2021-01-01/0.csv"

    @pytest.mark.parametrize(
        ("partition", "in_keys"),
        [("a/b", "a_b"), ("..", "__"), (".", "_"), ("", "_"), ("a b", "a_b"), ("../x", ".._x")],
    )
    def test_a_partition_cannot_leave_its_directory(self, partition, in_keys):
        assert key(KeyTemplate("", "p/${PARTITION}/"), Scope(USERS, partition)) == f"p/{in_keys}/0.csv"

    @pytest.mark.parametrize("variable", ["${PARTITION}", "${PARTITION:region}"])
    def test_an_unpartitioned_stream_is_refused(self, variable):
        with pytest.raises(TemplateError, match=r"public\.users is not partitioned.*" + re.escape(variable)):
            bound(KeyTemplate("", f"{variable}/"))

    def test_an_unknown_dimension_is_named_with_the_known_ones(self):
        with pytest.raises(TemplateError, match=r"no partition dimension 'land'.*date, region"):
            bound(KeyTemplate("", "${PARTITION:land}/"), self.SCOPE)
        with pytest.raises(TemplateError, match=r"Use \$\{PARTITION\} instead"):
            bound(KeyTemplate("", "${PARTITION:land}/"), Scope(USERS, "a"))

    @pytest.mark.parametrize(
        ("path_format", "scope", "named"),
        [
            ("${STREAM_NAME}/", Scope(USERS), True),
            ("${STREAM_NAME}/${EPOCH}_", Scope(USERS, "a"), False),
            ("${UUID}/", Scope(USERS, "a b"), True),
            ("${PARTITION}/", Scope(USERS, "2021-01-01"), True),
            ("${PARTITION}/", Scope(USERS, "a b"), False),
            ("${PARTITION}/", Scope(USERS, ".."), False),
            ("${PARTITION}/", SCOPE, False),
            ("${PARTITION:date}/", SCOPE, False),
            ("${PARTITION:date}/${PARTITION:region}_", SCOPE, True),
            ("${PARTITION:date}_${PARTITION:region}/", SCOPE, False),
        ],
    )
    def test_names_partition_is_true_only_if_no_other_partition_makes_the_same_keys(self, path_format, scope, named):
        assert bound(KeyTemplate("", path_format), scope).names_partition is named

    def test_a_sync_id_next_to_a_partition_does_not_identify_it(self):
        template = KeyTemplate("", "${PARTITION}_", "{sync_id}_{part_number}")
        assert not bound(template, Scope(USERS, "a")).names_partition


class TestTraits:
    @pytest.mark.parametrize(
        ("path_format", "pattern", "changes", "counts"),
        [
            (DEFAULT_PATH_FORMAT, "", True, True),
            ("${STREAM_NAME}/", "", False, True),
            ("${STREAM_NAME}/${YEAR}/${DAY}_", "", False, True),
            ("${STREAM_NAME}/${UUID}", "", True, True),
            ("${STREAM_NAME}/", "{date}{format_extension}", False, False),
            ("${STREAM_NAME}/", "{timestamp}{format_extension}", True, False),
            ("${STREAM_NAME}/", "{timestamp:micro}", True, False),
            ("${STREAM_NAME}/", "{sync_id}{format_extension}", True, False),
            ("${STREAM_NAME}/", "part-{part_number}", False, True),
        ],
    )
    def test_changes_every_sync_and_counts_parts(self, path_format, pattern, changes, counts):
        template = KeyTemplate("lake", path_format, pattern)
        assert (template.changes_every_sync, template.counts_parts) == (changes, counts)

    @pytest.mark.parametrize(("path_format", "named"), [("x/${STREAM_NAME}/", True), ("${NAMESPACE}/", False)])
    def test_names_stream(self, path_format, named):
        assert KeyTemplate("", path_format).names_stream is named

    @pytest.mark.parametrize(
        ("path_format", "pattern", "prefix"),
        [
            (DEFAULT_PATH_FORMAT, "", f"lake/public/users/2021_01_01_{EPOCH}_"),
            ("${STREAM_NAME}/", "a_{part_number}_{timestamp}", "lake/users/a_"),
            ("${STREAM_NAME}/", "{timestamp}_{part_number}", "lake/users/"),
            ("${STREAM_NAME}/", "{sync_id}-{date}", "lake/users/42-"),
            ("${STREAM_NAME}/", "{format_extension}/{part_number}", "lake/users/"),
        ],
    )
    def test_the_prefix_ends_before_the_parts_that_vary_by_object(self, path_format, pattern, prefix):
        assert bound(KeyTemplate("lake", path_format, pattern)).prefix == prefix

    @pytest.mark.parametrize(
        ("bucket_path", "path_format", "root"),
        [
            ("lake", DEFAULT_PATH_FORMAT, "lake/public/users/"),
            ("lake", "${STREAM_NAME}_${EPOCH}_", "lake/users_"),
            ("lake", "${YEAR}/${STREAM_NAME}/", "lake/"),
            ("", "${YEAR}/${STREAM_NAME}/", ""),
            ("", "a/${PARTITION}/", "a/"),
        ],
    )
    def test_the_listing_root_depends_only_on_the_stream(self, bucket_path, path_format, root):
        assert KeyTemplate(bucket_path, path_format).listing_root(USERS) == root


class TestRefused:
    @pytest.mark.parametrize(
        ("settings", "setting", "reason"),
        [
            (("d", "${FOO}/"), "s3_path_format", "${FOO} is not known"),
            (("d", "${year}/"), "s3_path_format", "Known are ${NAMESPACE}, ${STREAM_NAME}, ${YEAR}"),
            (("d", "${PARTITION:}/"), "s3_path_format", "${PARTITION:} is not known"),
            (("d", "${YEAR/"), "s3_path_format", "{ is not known"),
            (("d", "{date}/"), "s3_path_format", "placeholders like {date} belong in file_name_pattern"),
            (("${FOO}", "x/"), "s3_bucket_path", "${FOO} is not known"),
            (("d", "x/", "{foo}"), "file_name_pattern", "Known are {date}, {date:yyyy_MM}, {timestamp}"),
            (("d", "x/", "${date}"), "file_name_pattern", "${date} is not known"),
            (("d", "x/", "${YEAR}"), "file_name_pattern", "variables like ${YEAR} belong in s3_path_format"),
            (("d", "x/", "{{date}}"), "file_name_pattern", "{ is not known"),
            (("d", "x/", "a}"), "file_name_pattern", "} is not known"),
            (("d", "x/", "{part_number}-{part_number}"), "file_name_pattern", "twice"),
            (("d", "x\n/"), "s3_path_format", "cannot be printed"),
            (("d", "${STREAM_NAME}"), "s3_path_format", "between ${STREAM_NAME} and {part_number}"),
            (("d", "${NAMESPACE}${STREAM_NAME}/"), "s3_path_format", "between ${NAMESPACE} and ${STREAM_NAME}"),
            (("d", "${STREAM_NAME}${EPOCH}/"), "s3_path_format", "'user1'"),
            (("d", "${EPOCH}${STREAM_NAME}/"), "s3_path_format", "'user1'"),
            (("d", "x/${PARTITION}"), "s3_path_format", "between ${PARTITION} and {part_number}"),
            (("d", "x/", "{sync_id}{part_number}"), "file_name_pattern", "between {sync_id} and {part_number}"),
            (("d", "x/", "{part_number}{date:H}"), "file_name_pattern", "two objects could get the same key"),
        ],
    )
    def test_an_invalid_template_is_refused_with_the_reason_and_an_example(self, settings, setting, reason):
        with pytest.raises(TemplateError) as caught:
            KeyTemplate(*settings)
        assert reason in str(caught.value)
        assert "It would make keys like '" in str(caught.value)
        assert caught.value.setting == setting

    @pytest.mark.parametrize(
        ("settings", "reason"),
        [
            (("_s3dest", "x/"), "kept for manifests"),
            (("", "${STREAM_NAME}/_s3dest/"), "kept for manifests"),
            (("a/../b", "x/"), "'.' or '..'"),
            (("a" * 1024, "x/"), "1024 bytes"),
            (("a", "x/", "{part_number}/"), "ends with '/'"),
        ],
    )
    def test_templates_with_unusable_keys_are_refused(self, settings, reason):
        with pytest.raises(TemplateError, match=re.escape(reason)):
            KeyTemplate(*settings)

    @pytest.mark.parametrize("name", ["..", ".", "_s3dest", "a/../b", "é" * 1100])
    def test_streams_with_unusable_keys_are_refused(self, name):
        template = KeyTemplate("lake", "${STREAM_NAME}/")
        with pytest.raises(TemplateError) as caught:
            bound(template, Scope(StreamId("ns", name)))
        assert caught.value.stream == f"ns.{name}"
        with pytest.raises(TemplateError):
            template.check_streams([StreamId("ns", name)])

    def test_the_limit_counts_bytes_of_utf8(self):
        template = KeyTemplate("用" * 300, "x/")
        assert len(key(template, extension=".csv").encode()) < 1024
        with pytest.raises(TemplateError, match="1024"):
            KeyTemplate("用" * 341, "x/")

    def test_an_invalid_uuid_is_refused(self):
        with pytest.raises(TemplateError, match="not a UUID"):
            bound(KeyTemplate("", "${UUID}/"), uuid="u")

    @pytest.mark.parametrize(
        "path_format",
        [
            "${STREAM_NAME}${YEAR}_",
            "${STREAM_NAME}/${EPOCH}",
            "${STREAM_NAME}${UUID}",
            "${YEAR}${MONTH}${DAY}/${STREAM_NAME}_",
        ],
    )
    def test_neighbours_of_fixed_length_are_accepted(self, path_format):
        KeyTemplate("lake", path_format).check_streams([StreamId(None, "user"), StreamId(None, "user1")])


class TestStreamsTogether:
    @pytest.mark.parametrize(
        ("path_format", "streams"),
        [
            ("${NAMESPACE}/${STREAM_NAME}/", [("a", "b/c"), ("a/b", "c")]),
            ("${NAMESPACE}/${STREAM_NAME}/", [(None, "a/b"), ("a", "b")]),
            ("${NAMESPACE}_${STREAM_NAME}/", [("a", "b_c"), ("a_b", "c")]),
            ("${STREAM_NAME}/", [("x", "users"), ("y", "users")]),
            ("${STREAM_NAME}/", [(None, "user table"), (None, "user|table")]),
            ("${YEAR}/", [(None, "a"), (None, "b")]),
            ("${STREAM_NAME}_${PARTITION}/", [(None, "user"), (None, "user_s")]),
            ("${YEAR}/${STREAM_NAME}/${MONTH}/", [(None, "a/01"), ("a", "a/01")]),
        ],
    )
    def test_streams_that_could_share_a_key_are_refused_with_that_key(self, path_format, streams):
        template = KeyTemplate("lake", path_format)
        streams = [StreamId(*stream) for stream in streams]
        with pytest.raises(TemplateError) as caught:
            template.check_streams(streams)
        assert all(template.matcher(stream).fullmatch(caught.value.key) for stream in streams)
        assert all(repr(str(stream)) in str(caught.value) for stream in streams)

    def test_a_template_without_a_stream_name_allows_one_stream_and_refuses_two(self):
        template = KeyTemplate("lake", "${YEAR}/")
        template.check_streams([USERS, USERS])
        with pytest.raises(TemplateError, match=r"Put \$\{STREAM_NAME\} into s3_path_format"):
            template.check_streams([USERS, StreamId("public", "orders")])

    def test_names_with_a_common_beginning_have_different_keys(self):
        names = [
            "user",
            "users",
            "user_1",
            "user_1_3f9a1c2e",
            "user.1",
            "user+",
            "user*",
            "(user",
            "user[s]",
            "user/s",
            "user/1",
        ]
        for path_format in (
            DEFAULT_PATH_FORMAT,
            "${NAMESPACE}/${STREAM_NAME}_",
            "${YEAR}/${STREAM_NAME}/",
            "${STREAM_NAME}/",
        ):
            KeyTemplate("lake", path_format).check_streams([StreamId(None, name) for name in names])


class TestMatcher:
    @pytest.mark.parametrize(
        ("listed", "known"),
        [
            ("lake/public/users/2021_01_01_1234567890_0.csv.gz", True),
            ("lake/public/users/2022_04_04_123456789_12.avro", True),
            (f"lake/public/users/2022_04_04_123456789_{UUID}.jsonl", True),
            ("lake/public/users/2022_04_04_123456789_0_3f9a1c2e.parquet", True),
            ("lake/public/users/some_random_file_0.doc", False),
            ("lake/public/users/2022_04_04_123456789_0.doc", False),
            ("lake/public/users/2022_04_04_123456789_0", False),
            ("lake/public/users/2022_04_04_123456789_0.csv\n", False),
            ("lake/public/users/2022_04_04_123456789_notes.csv", False),
            ("lake/public/users/2022_04_04_123456789_00.csv", False),
            ("lake/public/users2/2022_04_04_123456789_0.csv", False),
            ("xlake/public/users/2022_04_04_123456789_0.csv", False),
            ("lake/public/users/sub/2022_04_04_123456789_0.csv", False),
        ],
    )
    def test_the_matcher_recognises_files_of_the_connector(self, listed, known):
        matched = KeyTemplate("lake", DEFAULT_PATH_FORMAT).matcher(USERS).fullmatch(listed)
        assert bool(matched) is known

    @pytest.mark.parametrize("name", ["a+b", "(", "a.b", "[x", "^$", "a|b", "a?"])
    def test_names_are_not_syntax(self, name):
        template = KeyTemplate("lake", "${STREAM_NAME}/")
        scope = Scope(StreamId(None, name))
        assert template.matcher(scope.stream).fullmatch(key(template, scope))
        assert not template.matcher(StreamId(None, "a.b")).fullmatch("lake/axb/0.csv")

    def test_a_manifest_is_never_recognised_as_data(self):
        template = KeyTemplate("", "${PARTITION}/${STREAM_NAME}/${PARTITION:a}/", "{sync_id}")
        assert template.matcher(USERS).fullmatch("x/users/y/head.json")
        assert not template.matcher(USERS).fullmatch("_s3dest/users/y/head.json")


names = st.one_of(
    st.text(st.characters(), min_size=1, max_size=12),
    st.text("ab1_./", min_size=1, max_size=6),
    st.sampled_from(["user", "users", "user_1", "user/1", "a+b", "(", "$1"]),
)
streams = st.builds(StreamId, st.none() | names, names)
separators = st.sampled_from(["/", "_", "-", "/x=", "/_"])
VARIABLES = [
    *("${NAMESPACE}", "${STREAM_NAME}", "${STREAM_NAME}", "${YEAR}", "${MONTH}", "${DAY}${HOUR}", "${MILLISECOND}"),
    *("${EPOCH}", "${UUID}", "${MINUTE}${SECOND}"),
]
PLACEHOLDERS = [
    *("{date}", "{date:yyyy-MM-dd'T'HH}", "{date:H.m}", "{date:MMM}", "{timestamp}", "{timestamp:micros}"),
    *("{sync_id}", "{format_extension}", "x", "1"),
]
NUMBERS = ["{part_number}", "{part_number}{timestamp}", "{timestamp}{part_number}"]
path_formats = st.lists(st.tuples(st.sampled_from(VARIABLES), separators).map("".join), min_size=1, max_size=5).map(
    "".join
)
name_beginnings = st.lists(
    st.tuples(st.sampled_from(PLACEHOLDERS), st.sampled_from(["_", "-", "."])).map("".join), max_size=3
)
counted_names = st.tuples(name_beginnings.map("".join), st.sampled_from(NUMBERS), st.just("{format_extension}"))
patterns = st.just("") | counted_names.map("".join)
bucket_paths = st.sampled_from(["", "lake", "/lake//raw/", "lake/${NAMESPACE}", "${STREAM_NAME}"])
moments = st.datetimes(datetime(2001, 10, 1), datetime(2285, 1, 1), timezones=st.just(UTC))
templates = st.builds(KeyTemplate, bucket_paths, path_formats, patterns)
parts = st.one_of(st.integers(0, 9_999_999), st.uuids().map(str))
tags = st.one_of(st.just(""), st.text("0123456789abcdef", min_size=8, max_size=8).map("_".__add__))


def usable(template, stream):
    """The template bound to the stream. Examples with refused names are skipped."""
    try:
        return bound(template, Scope(stream))
    except TemplateError:
        assume(False)
        raise


@settings(max_examples=5 * settings().max_examples, deadline=None)
@given(templates, streams, moments, parts, tags, st.sampled_from(EXTENSIONS))
def test_the_matcher_accepts_every_key_that_the_template_makes(template, stream, moment, part, tag, extension):
    usable(template, stream)
    keys = template.bind(Scope(stream), now=moment, uuid=UUID, sync_id="7")
    made = keys.key(part, extension, uploaded_at=moment, tag=tag)
    assert template.matcher(stream).fullmatch(made)
    assert made.startswith(keys.prefix)
    assert keys.prefix.startswith(template.listing_root(stream))
    assert "//" not in made
    assert not made.startswith("/")


@settings(max_examples=5 * settings().max_examples, deadline=None)
@given(templates, streams, st.integers(0, 9_999_999), tags, st.sampled_from(EXTENSIONS), moments)
def test_part_of_inverts_key(template, stream, part, tag, extension, moment):
    keys = usable(template, stream)
    assert keys.part_of(keys.key(part, extension, uploaded_at=moment, tag=tag)) == part


@settings(max_examples=5 * settings().max_examples, deadline=None)
@given(templates, streams, streams, moments, parts, tags)
def test_streams_that_pass_the_check_never_match_each_others_keys(template, one, other, moment, part, tag):
    assume(one != other)
    try:
        template.check_streams([one, other])
    except TemplateError:
        assume(False)
    made = template.bind(Scope(one), now=moment, uuid=UUID, sync_id="7").key(part, ".csv", uploaded_at=moment, tag=tag)
    assert not template.matcher(other).fullmatch(made)
    assert made != template.bind(Scope(other), now=moment, uuid=UUID, sync_id="7").key(
        part, ".csv", uploaded_at=moment, tag=tag
    )


@settings(max_examples=4 * settings().max_examples, deadline=None)
@given(streams, streams)
def test_under_the_default_format_only_streams_with_the_same_directory_are_refused(one, other):
    template = KeyTemplate("lake", DEFAULT_PATH_FORMAT)
    usable(template, one)
    usable(template, other)
    roots = {template.listing_root(one), template.listing_root(other)}
    assume(one != other and (len(roots) == 2) and not any("/" in sanitize_name(each.name) for each in (one, other)))
    assume(not any("/" in sanitize_name(each.namespace or "") for each in (one, other)))
    template.check_streams([one, other])


@settings(max_examples=4 * settings().max_examples, deadline=None)
@given(st.lists(st.text(st.characters(), max_size=8), min_size=2, max_size=2, unique=True))
def test_partitions_never_share_a_key_if_unnamed_ones_have_a_tag(partitions):
    template = KeyTemplate("lake", "${STREAM_NAME}/${PARTITION}/")
    made = []
    for partition, own_tag in zip(partitions, ("_00000000", "_00000001"), strict=True):
        assume(partition != "_s3dest")
        keys = bound(template, Scope(USERS, partition))
        made.append(keys.key(0, ".csv", uploaded_at=NOW, tag="" if keys.names_partition else own_tag))
    assert made[0] != made[1]


def test_keys_with_other_patterns_have_no_part():
    keys = bound(KeyTemplate("lake", DEFAULT_PATH_FORMAT))
    assert keys.part_of(f"{keys.prefix}{UUID}.csv") is None
    assert keys.part_of(f"{keys.prefix}007.csv") is None
    assert keys.part_of(f"{keys.prefix}7.doc") is None
    assert bound(KeyTemplate("lake", "x/", "data{format_extension}")).part_of("lake/x/data.csv") is None


def test_a_thousand_streams_are_checked_wherever_the_path_contains_their_name():
    """This would take minutes if every pair were searched completely, and exceed the time limit of the suite."""
    streams = [StreamId("public", f"stream_{number}") for number in range(1000)]
    KeyTemplate("lake", DEFAULT_PATH_FORMAT).check_streams(streams)
    KeyTemplate("lake", "${YEAR}/${STREAM_NAME}/").check_streams(streams)


MANY = [
    "${EPOCH}/${STREAM_NAME}_",
    "${YEAR}_${MONTH}_${STREAM_NAME}_",
    "${PARTITION}/${STREAM_NAME}/",
    "${STREAM_NAME}/",
]


@pytest.mark.parametrize("path_format", MANY)
def test_the_work_for_streams_grows_with_their_number(path_format):
    template = KeyTemplate("lake", path_format)

    def checking(size):
        ids = [StreamId(None, f"s{number}") for number in range(size)]
        return lambda: template.check_streams(ids)

    assert_linear(checking, 100)


def test_streams_that_cannot_be_distinguished_in_time_are_refused_with_a_remedy():
    template = KeyTemplate("lake", "${PARTITION}_${STREAM_NAME}_${EPOCH}_")
    with pytest.raises(TemplateError, match=r"keys of 1,000 streams clearly.* Put a '/' before \$\{STREAM_NAME\}"):
        template.check_streams([StreamId(None, f"s{number}") for number in range(1000)])


@settings(max_examples=4 * settings().max_examples, deadline=None)
@given(
    st.sampled_from(
        [*MANY, "${DAY}${STREAM_NAME}/", "${EPOCH}_${NAMESPACE}_${STREAM_NAME}_", "a${PARTITION}_${STREAM_NAME}_"]
    ),
    st.lists(st.builds(StreamId, st.sampled_from([None, "a"]), st.text("ab_1/", min_size=1, max_size=3)), max_size=4),
)
def test_streams_are_refused_if_and_only_if_two_share_a_key(path_format, ids):
    template, ids = KeyTemplate("lake", path_format), sorted({StreamId(ns, f"x{name}") for ns, name in ids}, key=str)
    patterns = [pattern_of(fill(template.tokens, Level.STREAM, each)) for each in ids]
    alike = any(OverlapSearch().shared_key(*pair) is not None for pair in combinations(patterns, 2))
    if alike:
        with pytest.raises(TemplateError):
            template.check_streams(ids)
    else:
        template.check_streams(ids)
