"""The settings of publication: whose the streams are, what a sync replaces, and how long replaced objects stay.

Must not know: how a sync is published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.fields import Settings, documented, setting

SHORTEST_SEGMENT_GRACE_S = 3600
"""A reader of a head reads its segments right after that. An hour is enough, even if the reader is suspended."""


@documented
@dataclass(frozen=True, kw_only=True)
class PublicationSettings(Settings):
    """Publication: whose the streams are, which objects a sync replaces, and when those are deleted."""

    owner: str | None = setting(
        "Owner of the streams that land with these settings. A stream that another owner has landed is refused before "
        "anything is written, see [owners](owners.md). `None`: in Dagster the key of the asset, and elsewhere none.",
        default=None,
    )
    on_rematerialize: Literal["replace", "append"] = setting(
        'Landing a partition of an append stream again replaces the objects of the partition; `"append"` adds to them.',
        default="replace",
    )
    on_empty_refresh: Literal["publish", "keep", "fail"] = setting(
        'A full refresh without records leaves the scope empty; `"keep"` keeps the previous objects, and `"fail"` '
        "fails the sync.",
        default="publish",
    )
    on_template_change: Literal["fail", "accept"] = setting(
        "A stream that has landed under this bucket path with another path format or file name pattern is refused "
        'before anything is written; `"accept"` gives the stream the new template, see [one '
        "template](guarantees.md#one-template).",
        default="fail",
    )
    publish_order: Literal["add_first", "purge_first"] = setting(
        'Replaced objects are deleted after the new ones are visible; `"purge_first"` deletes them before, as the '
        "connector does. See [what is not promised](guarantees.md#what-is-not-promised).",
        default="add_first",
    )
    delete_grace_s: float = setting(
        "Seconds for which replaced objects stay after the new ones are visible, so that readers who hold their keys "
        "can finish. If a scope is replaced more than 16 times during that time, they stay at most twice as long. Then "
        "the next sync of the scope, `s3dest recover` or `s3dest sweep` deletes them. It cannot be combined with "
        '`"purge_first"`. See [what is not promised](guarantees.md#what-is-not-promised).',
        default=0,
        at_least=0,
    )

    retire_grace_s: float = setting(
        "Seconds for which `s3dest retire --undo` can bring back what was retired. Its objects stay that long, though "
        "no reader of the manifests sees them. Then `s3dest sweep`, `s3dest recover`, or the next sync of the scope "
        "deletes them. See [leftovers](owners.md#retire-what-is-left).",
        default=7 * 86_400,
        at_least=0,
    )

    segment_grace_s: float = setting(
        "Seconds for which a segment that nothing needs any more stays after a sweep has found it, at least an hour: "
        "a reader of an older head may still need it. See [what is "
        "deleted](design/commit.md#what-is-deleted).",
        default=86_400,
        at_least=SHORTEST_SEGMENT_GRACE_S,
    )

    expire_partitions_after: int = setting(
        "Days after which a partition is retired, counted from the date in its key. Partitions whose keys are no dates "
        "stay. A landing looks for them at most once a day; `s3dest sweep` looks immediately. 0: never. See "
        "[retention](owners.md#retention).",
        default=0,
        at_least=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.delete_grace_s and self.publish_order == "purge_first":
            raise SettingsError(
                "delete_grace_s keeps replaced objects after the new ones are visible, and publish_order 'purge_first' "
                "deletes them before. Leave one of the two out.",
                setting="delete_grace_s",
            )
