"""The shards of a table: ranges of a key, which together hold every row once, whatever is inserted later.

Must not know: drivers, how rows are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from s3dest_dagster.errors import SettingsError

_NAME = re.compile(r"(-?[0-9]+)?\.\.(-?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Keys from `start` on, before `end`. Without a start, rows without a key belong to it, too."""

    start: int | None = None
    end: int | None = None

    @property
    def name(self) -> str:
        """The name of the shard, such as `..1000`, `1000..2000` or `2000..`. `parse_range` gives the range again."""
        return f"{'' if self.start is None else self.start}..{'' if self.end is None else self.end}"

    def condition(self, key: str) -> str | None:
        """The condition of a statement. None: every row."""
        if self.start is None:
            return None if self.end is None else f"{key} < {self.end} or {key} is null"
        return f"{key} >= {self.start}" + ("" if self.end is None else f" and {key} < {self.end}")


def split_keys(lowest: int | None, highest: int | None, shards: int) -> list[KeyRange]:
    """So many ranges of about the same width, or fewer if there are fewer keys.

    The first and the last are open, so that a row which is inserted later belongs to one of them.

        split_keys(1, 100, 2)  # ..51, 51..
    """
    if lowest is None or highest is None:
        return [KeyRange()]
    width = highest - lowest + 1
    count = min(shards, width)
    bounds = [lowest + width * number // count for number in range(1, count)]
    return [KeyRange(start, end) for start, end in zip([None, *bounds], [*bounds, None], strict=True)]


def parse_range(name: str) -> KeyRange:
    """The range of a shard's name. Raises SettingsError if it is none."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise SettingsError(
            f"The shard {name!r} is no range of keys. Take the names that `SqlSource.shard_names` returns.",
            setting="shard",
        )
    start, end = (None if text is None else int(text) for text in match.groups())
    return KeyRange(start, end)
