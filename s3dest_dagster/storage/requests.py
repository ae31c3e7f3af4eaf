"""Requests to one bucket: each is sent again while that may help, and what goes wrong is told in our own errors.

It must not know what the requests are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from threading import Event
from typing import Any, TypeVar

from s3dest_dagster.errors import S3DestError, StorageError
from s3dest_dagster.settings.connection import is_aws
from s3dest_dagster.storage.error_mapping import ASKED, is_refusal, is_transient, translated
from s3dest_dagster.storage.headers import content_md5
from s3dest_dagster.storage.retry import RetryPolicy, Tries
from s3dest_dagster.storage.server_clock import ServerClock

Answer = TypeVar("Answer")


class Requests:
    """The way to one bucket. `clock` tells the server's time by the answers that came."""

    def __init__(self, client: Any, bucket: str, retry_policy: RetryPolicy) -> None:
        self.client = client
        self.bucket = bucket
        self.clock = ServerClock()
        self._patience = retry_policy

    @property
    def endpoint(self) -> str:
        """The URL that requests go to."""
        return str(self.client.meta.endpoint_url)

    @property
    def partition(self) -> str:
        """The part of AWS that ARNs name: "aws-cn" in China, "aws-us-gov"; "aws" elsewhere and on other servers."""
        return str(self.client.meta.partition) if is_aws(self.endpoint) else "aws"

    def until(self, given_up: Event) -> Requests:
        """The same way for requests that are not tried again once the event is set; a pause ends at once then."""
        same = copy(self)
        same._patience = replace(self._patience, pause=given_up.wait)
        return same

    def begin(self) -> Tries:
        """The tries of one request."""
        return self._patience.begin()

    def send(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """The answer to one request that is sent once, by the name that the client has for it."""
        answer: dict[str, Any] = getattr(self.client, operation)(Bucket=self.bucket, **arguments)
        self.clock.note(answer)
        return answer

    def send_with_md5(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """The same with Content-MD5, and no other checksum, where the client has no argument for it."""
        with content_md5(self.client, operation):
            return self.send(operation, **arguments)

    @contextmanager
    def promised(self, ability: str) -> Iterator[None]:
        """Does what the server is known to take. A refusal says so: it is not what was found out."""
        try:
            yield
        except StorageError as error:
            if is_aws(self.endpoint) or not is_refusal(error):
                raise
            raise StorageError(
                f"{error.message} When the server was first used, it took {ability}. If it does not any more, run "
                "`s3dest check --again`, which finds out anew what it can do.",
                key=error.key,
            ) from error

    def ask(self, action: str, key: str | None, do: Callable[[], Answer], tries: Tries | None = None) -> Answer:
        """What `do` gives, which sends requests; it is done again while that may help and patience lasts.

        Every request can be: what a first try has done already, a second finds done.
        """
        tries = tries or self.begin()
        while True:
            try:
                return do()
            except S3DestError:
                raise
            except ASKED as error:
                transient = is_transient(error)
                if not transient or not tries.again():
                    tried = tries.told() if transient else ""
                    raise translated(error, action, self.bucket, key, tried=tried, partition=self.partition) from error
