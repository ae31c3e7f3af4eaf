"""The credentials of a client that lives long: looked for when they are first needed, and again when they are no more.

Nothing that a client captures when it is made can end: neither that there were no credentials just then, nor keys that
were renewed since. A role is assumed once for as long as it holds. It must not know which links the chain has.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from botocore.credentials import Credentials, ReadOnlyCredentials

from s3dest_dagster.errors import S3DestError
from s3dest_dagster.printable import logger
from s3dest_dagster.storage.credential_chain import FoundCredentials
from s3dest_dagster.storage.error_mapping import refuses_identity

_SIGNED_BY = "s3dest_signed_by"
"""Where a request keeps which credentials it was signed by; None once it was signed anew."""
_logger = logger("storage")


class CurrentCredentials(Credentials):  # type: ignore[misc,unused-ignore]
    """What `find` gives, for as long as it holds. Safe to use from several threads, which wait for one search.

    It is looked for anew after a search without success, when what was found cannot renew itself, when the files that
    it came from have changed, and when a server has refused it.
    """

    def __init__(self, find: Callable[[], FoundCredentials]) -> None:
        super().__init__("", "", method="current")
        self._find = find
        self._found: FoundCredentials | None = None
        self._frozen: ReadOnlyCredentials | None = None
        self._lock = Lock()
        self._searches = 0

    @property
    def source(self) -> str:
        """Where they came from, in words; "" before they were needed."""
        found = self._found
        return found.source if found else ""

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """The keys to sign by. CredentialsError where there are none: the next call looks for them again."""
        while True:
            found = self._current()
            try:
                self._frozen = found.get_frozen_credentials()
            except S3DestError:
                self._drop(found)
                if not found.has_given_keys:
                    raise
            else:
                return self._frozen

    def search(self) -> int:
        """The number of the search that found what holds now."""
        self._current()
        return self._searches

    def drop_those_of_another_environment(self, variables: frozenset[tuple[str, str]]) -> None:
        """Looks for them anew where they were found while the environment was another than this."""
        found = self._found
        if found is not None and found.variables != variables:
            self._drop(found)

    def are_others_than(self, search: int) -> bool:
        """Whether there are other keys than those of this search, which a server has refused."""
        with self._lock:
            if self._searches != search:
                return True  # Of many requests that are refused one looks anew.
            refused, self._found = self._frozen, None
        return bool(self.get_frozen_credentials() != refused)

    def _current(self) -> FoundCredentials:
        """What holds now."""
        with self._lock:
            found = self._found
            if found is None:
                return self._looked_for()
            if not found.is_of_former_files():
                return found
            try:
                return self._looked_for()
            except S3DestError as error:
                # Somebody writes them just now, perhaps; what is there may hold still.
                _logger.debug("The files of the credentials have changed: %s", error)
                found.keep_in_spite_of_files()
                return found

    def _looked_for(self) -> FoundCredentials:
        found = self._find()
        self._found = found
        self._searches += 1
        return found

    def _drop(self, found: FoundCredentials) -> None:
        with self._lock:
            if self._found is found:
                self._found = None


def sign_anew_when_refused(client: Any, credentials: CurrentCredentials) -> None:
    """Makes the client send a request once more where the server refused its identity and there is another by now."""

    def note(request: Any, **_: Any) -> None:
        request.context.setdefault(_SIGNED_BY, credentials.search())

    def again(response: tuple[Any, dict[str, Any]] | None, request_dict: dict[str, Any], **_: Any) -> float | None:
        search = request_dict["context"].get(_SIGNED_BY)
        if response is None or search is None or not refuses_identity(response[1], request_dict["method"]):
            return None
        request_dict["context"][_SIGNED_BY] = None
        return 0.0 if credentials.are_others_than(search) else None

    service = client.meta.service_model.service_id.hyphenize()
    client.meta.events.register_first(f"before-sign.{service}", note)
    client.meta.events.register_first(f"needs-retry.{service}", again)
