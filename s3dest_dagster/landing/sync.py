"""What a sync is called and when it began; everything about it that is drawn from outside. Plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from s3dest_dagster.errors import SettingsError

_MAX_ID = 200


@dataclass(frozen=True, slots=True)
class Sync:
    """One delivery of a stream's records.

    `id` is remembered: landing again under an id that is complete changes nothing. `now` (with a time zone) fills the
    path's time variables, `uuid` its `${UUID}`, `label` the file name pattern's `{sync_id}` ("" means the id).
    """

    id: str
    now: datetime
    uuid: str
    label: str = ""

    def __post_init__(self) -> None:
        if not self.id or len(self.id) > _MAX_ID or not self.id.isascii() or not self.id.isprintable():
            raise SettingsError(
                f"Sync id {self.id[:50]!r} is not usable: it must be 1 to {_MAX_ID} printable ASCII characters.",
                setting="sync_id",
            )
        if self.now.tzinfo is None:
            raise SettingsError("The time of a sync needs a time zone.", setting="now")
        object.__setattr__(self, "label", self.label or self.id)
