"""The server's time comes from its answers, but not from old ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from odd_servers import odd_server
from recording_proxy import Forward
from servers import S3Server
from werkzeug.wrappers import Request, Response

from s3dest_dagster.storage import open_bucket
from s3dest_dagster.storage.requests import ServerClock

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
MOMENT = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


def answer(date: str | None) -> dict[str, object]:
    return {"ResponseMetadata": {"HTTPHeaders": {"date": date} if date is not None else {}}}


class ManualClocks:
    """Two clocks that a test sets."""

    def __init__(self) -> None:
        self.monotonic, self.wall = 100.0, 5000.0
        self.clock = ServerClock(lambda: self.monotonic, lambda: self.wall)


def test_time_passes_after_an_answer() -> None:
    clocks = ManualClocks()
    clocks.clock.note(answer(DATE))
    clocks.monotonic += 30
    clocks.wall += 31
    assert clocks.clock.now() == MOMENT + timedelta(seconds=30)


def test_an_answer_counts_for_a_minute() -> None:
    for monotonic, wall in ((61, 61), (1, 3600), (1, -5)):
        clocks = ManualClocks()
        clocks.clock.note(answer(DATE))
        clocks.monotonic += monotonic
        clocks.wall += wall
        assert clocks.clock.now() is None


def test_an_answer_without_a_date_is_ignored() -> None:
    for date in (None, "", "yesterday"):
        clocks = ManualClocks()
        clocks.clock.note(answer(date))
        assert clocks.clock.now() is None


def test_a_server_is_asked_once_per_minute(moto_s3: S3Server) -> None:
    def rule(_: Request, forward: Forward) -> Response:
        response = forward()
        response.headers["Date"] = DATE
        return response

    with odd_server(rule) as server:
        name = moto_s3.new_bucket()
        bucket = open_bucket(replace(moto_s3.connection, endpoint=server.endpoint), name)
        for _ in range(3):
            assert MOMENT <= bucket.server_time() < MOMENT + timedelta(minutes=1)
        assert len(server.seen) == 1
