"""Every placeholder, and every pair of placeholders, is landed twice: no template prevents its second sync.

There are many pairs. All are tried on values only, and some of them on a server (all of them with
S3DEST_EVERY_PAIR). Every placeholder is replaced on a server, and every other one is appended to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import combinations
from uuid import UUID

import pytest
from land_and_read import START, batch_of, data_keys, destination, ids_by_listing, stream, target, users
from servers import S3Server

from s3dest_dagster.commit.registry_document import UsedTemplate
from s3dest_dagster.errors import KeyCollisionError, TemplateError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.keys import KeyTemplate
from s3dest_dagster.keys.date_format import DATE_LETTERS
from s3dest_dagster.keys.placeholders import PLACEHOLDERS, VARIABLES
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.stream import Scope, Sync, SyncMode

EVERY_PAIR = bool(os.environ.get("S3DEST_EVERY_PAIR"))
PARTITIONED = ("${PARTITION}", "${PARTITION:day}", "${PARTITION:region}")
IN_PATH = (*VARIABLES, *PARTITIONED[1:])
DATES = tuple(
    f"{{date:{letter * count}}}" for letter in DATE_LETTERS for count in (1, 2, 3, 4) if (letter, count) != ("X", 4)
)
IN_NAME = (*PLACEHOLDERS, "{date}", "{date:yyyy-MM-dd'T'HH}", *DATES)
USUAL_IN_NAME = (*PLACEHOLDERS, "{date}", "{date:yyyy-MM-dd'T'HH}", "{date:H}", "{date:MMM}", "{date:SSS}")
SINGLES = [((each,), ()) for each in IN_PATH] + [((), (each,)) for each in IN_NAME]
PAIRS = [
    *((pair, ()) for pair in combinations(IN_PATH, 2)),
    *((((one,), (other,))) for one in IN_PATH for other in USUAL_IN_NAME),
    *(((), pair) for pair in combinations(USUAL_IN_NAME, 2)),
]
Parts = tuple[Sequence[str], Sequence[str]]
SCOPE = Scope(stream().id, "2026-01-05|eu", {"day": "2026-01-05", "region": "eu"})


def template_of(parts: Parts, path: str) -> KeyTemplate:
    in_path, in_name = parts
    return KeyTemplate(path, "/".join(("x", *in_path, "")), "-".join(("y", *in_name)))


def test_a_template_matches_the_keys_that_it_makes() -> None:
    for parts in [*SINGLES, *PAIRS]:
        one, again = template_of(parts, "lake"), template_of(parts, "lake")
        assert UsedTemplate.of(one).makes_keys_of(again), parts
        assert one.tokens == again.tokens, parts


def landed_twice(opened: Target, parts: Parts, scope: Scope, mode: SyncMode) -> list[int]:
    """The ids that two syncs leave. A template with one key for all appends refuses the second sync, as it should."""
    ids = []
    for number in (1, 2):
        sync = Sync(f"s{number}", START.replace(minute=number, second=number), str(UUID(int=number)))
        try:
            land([batch_of(users(number, number))], opened, stream(mode=mode), sync, scope=scope)
        except KeyCollisionError:
            template = opened.destination.template
            assert number == 2
            assert mode is SyncMode.APPEND
            assert not template.counts_parts
            assert not template.changes_every_sync
            continue
        ids.append(number)
    return ids if mode is SyncMode.APPEND and scope.partition is None else ids[-1:]


def scopes(parts: Parts, mode: SyncMode) -> Iterator[Scope]:
    """The scopes that the template can land. Each sync of a partition replaces it, so a partition is tried only once
    for both modes."""
    unpartitioned = not set(parts[0]) & set(PARTITIONED)
    if unpartitioned:
        yield Scope(stream().id)
    if mode is SyncMode.FULL_REFRESH or not unpartitioned:
        yield SCOPE


def representative_templates(mode: SyncMode) -> list[Parts]:
    """The single placeholders, and a sample of the pairs with few similarities."""
    dates = {((), (each,)) for each in DATES[::16]}
    singles = [each for each in SINGLES if not set(each[1]) & set(DATES) or each in dates]
    some = [*singles, *PAIRS[::120]] if mode is SyncMode.FULL_REFRESH else [*singles[::2], *PAIRS[60::240]]
    return [*SINGLES, *PAIRS] if EVERY_PAIR else some


@pytest.mark.parametrize("mode", list(SyncMode))
def test_every_placeholder_lands_twice(moto_s3: S3Server, mode: SyncMode) -> None:
    bucket = moto_s3.new_bucket()
    wanted: dict[str, list[int]] = {}
    opened_once = moto_s3.open(destination(bucket))
    for number, parts in enumerate(representative_templates(mode)):
        for kind, scope in enumerate(scopes(parts, mode)):
            path = f"lake{number}-{kind}"
            template = template_of(parts, path)
            settings: S3Destination = destination(
                bucket,
                s3_bucket_path=path,
                s3_path_format=template.path_format,
                file_name_pattern=template.file_name_pattern,
            )
            with target(moto_s3, settings, opened_once) as opened:
                wanted[path] = landed_twice(opened, parts, scope, mode)
    keys = data_keys(moto_s3, bucket)
    for path, ids in wanted.items():
        assert sum(key.startswith(f"{path}/") for key in keys) == len(ids), path
    assert ids_by_listing(moto_s3, bucket) == sorted(each for ids in wanted.values() for each in ids)


def test_a_missing_dimension_is_still_refused() -> None:
    with pytest.raises(TemplateError, match="no partition dimension 'day'"):
        template_of((("${PARTITION:day}",), ()), "lake").bind(
            Scope(stream().id, "a"), now=START, uuid=str(UUID(int=1)), sync_id="1"
        )
