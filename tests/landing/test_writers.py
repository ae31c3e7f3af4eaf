"""Two writers of one scope at the same time: every point at which one can overtake the other, enumerated."""

from __future__ import annotations

from functools import partial
from itertools import count

import pytest
from faults import FailingClient, OvertakenClient
from landed import batch_of, destination, ids_by_listing, open_uploads, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.errors import CommitError, S3DestError
from s3dest_dagster.landing import land, recover
from s3dest_dagster.landing.read import read_scope
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, SyncMode

OLD, FIRST, SECOND = [1, 2], [10, 11], [20, 21]
_streams = count()


def _land(server: S3Server, settings, name: str, mode: SyncMode, ids: list[int], sync_id: str, client=None) -> None:
    bucket = Bucket(client, settings.s3_bucket_name) if client else server.open(settings)
    bucket.__dict__["_conditional"] = True
    with target(server, settings, bucket) as opened:
        land((batch_of(users(each, each)) for each in ids), opened, stream(name, mode), sync(sync_id))


def _crash(server: S3Server, settings, name: str, mode: SyncMode) -> None:
    """A sync of the record 5 that is decided and dies before it is published."""
    dying = FailingClient(server.client(), at="complete_multipart_upload", dead=True)
    with pytest.raises(S3DestError, match="finishes it"):
        _land(server, settings, name, mode, [5], "crashed", dying)


def _overtaken_everywhere(server: S3Server, settings, mode: SyncMode, *, same_id: bool, crashed: bool) -> None:
    for at in count(1):
        name = f"writers{next(_streams)}x"
        _land(server, settings, name, mode, OLD, "old")
        if crashed:
            _crash(server, settings, name, mode)
        overtake = partial(_land, server, settings, name, mode, SECOND, "first" if same_id else "second")
        client = OvertakenClient(server.client(), at, overtake)
        failed = False
        try:
            _land(server, settings, name, mode, FIRST, "first", client)
        except CommitError:
            failed = True
        _settled(server, settings, name, f"overtaken before call {at}, failed: {failed}")
        seen = _visible(server, settings, name)
        assert 5 not in seen or crashed
        if mode is SyncMode.FULL_REFRESH:
            assert seen in (FIRST, SECOND), f"call {at}: {seen}"
        else:
            added = set(seen) - {*OLD, 5}
            whole = [set(FIRST), set(SECOND), *([] if same_id else [{*FIRST, *SECOND}])]
            assert added in whole, f"call {at}: {seen}"
            assert failed or same_id or set(FIRST) <= added
        if at > client.calls:
            return


def _visible(server: S3Server, settings, name: str) -> list[int]:
    table = read_scope(server.open(settings), settings.template, Scope(stream(name).id))
    return [] if table is None else sorted(table["id"].to_pylist())


def _settled(server: S3Server, settings, name: str, where: str) -> None:
    """After recovery listing and manifest agree, and a sweep finds nothing that anybody waits for."""
    bucket, scope = server.open(settings), Scope(stream(name).id)
    recovered = recover(bucket, settings.template, scope)
    assert recovered.ok, f"{where}: {recovered.message}"
    listed = ids_by_listing(server, settings.s3_bucket_name, f"data/public/{name}/")
    assert listed == _visible(server, settings, name), where
    assert open_uploads(server, settings.s3_bucket_name) == 0, where


@pytest.mark.timeout(240)
@pytest.mark.parametrize("crashed", [False, True], ids=["", "after-a-crash"])
@pytest.mark.parametrize("same_id", [False, True], ids=["two-syncs", "two-attempts"])
@pytest.mark.parametrize("mode", list(SyncMode))
def test_whoever_overtakes_whom_one_generation_is_left(
    moto_s3: S3Server, mode: SyncMode, same_id: bool, crashed: bool
) -> None:
    settings = destination(moto_s3.new_bucket(), object_size_mb=0.0002)
    _overtaken_everywhere(moto_s3, settings, mode, same_id=same_id, crashed=crashed)
