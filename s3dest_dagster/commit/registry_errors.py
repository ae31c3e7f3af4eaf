"""Why a stream's registry refuses a landing: the stream has another owner, template or hash key, or its content moves
to another name.

Values only. Must not know: S3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from s3dest_dagster.commit.registry_document import StreamRegistry, StreamTransfer, UsedTemplate
from s3dest_dagster.errors import OwnershipError, SettingsError, SupersededError, TemplateError
from s3dest_dagster.stream import StreamId


def other_owner(stream: StreamId, path: str, owner: str, other: str | None) -> OwnershipError:
    """The error for a stream that belongs to somebody else.

    Args:
        stream: The stream.
        path: The `s3://` address of its bucket path.
        owner: Whose it is.
        other: Who would land it. None if nobody is named.
    """
    who, same = f"{other!r} would land it too", ""
    if other is None:
        who, same = "this landing names no owner", f"If this landing is on behalf of {owner!r}, set owner to that. "
    return OwnershipError(
        f"Stream {str(stream)!r} under {path} belongs to {owner!r}, and {who}: one would replace what the "
        f"other landed, or continue from its state. Nothing was written. {same}If these are two streams, give this "
        "one another namespace, name or s3_bucket_path. If the stream has a new owner for good, run `s3dest "
        f"transfer {stream} --to {other or 'OWNER'}`.",
        owner=owner,
        other=other,
        stream=str(stream),
    )


def refuse_moved(stream: StreamId, before: StreamRegistry, now: StreamRegistry) -> None:
    """Refuses a landing that began before a transfer to or from another name, and would end after it.

    Args:
        stream: The stream.
        before: Its registry when the landing began.
        now: Its registry now.

    Raises:
        SupersededError: There was such a transfer.
    """
    given = [str(each.stream_id) for each in now.given_to if each not in before.given_to]
    got = [str(each.stream_id) for each in now.former_names if each not in before.former_names]
    if not given and not got:
        return
    what = f"what it held was given to {given[-1]}" if given else f"it got what {got[-1]} held"
    again = f"land its records as {given[-1]}" if given else "run it again"
    raise SupersededError(
        f"Stream {str(stream)!r}: {what} while this sync ran. It gave up and left nothing behind; if its "
        f"records are still wanted, {again}.",
        stream=str(stream),
    )


def in_transfer(transfer: StreamTransfer, stream: StreamId) -> OwnershipError:
    """The error for a stream whose content is being given to another name."""
    source, target = transfer.source.stream_id, transfer.target.stream_id
    return OwnershipError(
        f"Stream {str(stream)!r}: everything that {str(source)!r} holds is being given to {str(target)!r}, and neither "
        "lands before that is finished. Nothing was written. If the transfer was interrupted, run it again: `s3dest "
        f"transfer {source} --to-stream {target} --yes`.",
        stream=str(stream),
    )


def other_hash_key(stream: StreamId, known: str | None, given: str) -> SettingsError:
    """The error for a stream whose fields have been hashed with another key. Both are ids of keys."""
    return SettingsError(
        f"Stream {str(stream)!r}: its fields have been hashed with another hash_key (id {known}, and this one has "
        f"{given}), so that equal values would get different hashes. Nothing was written. Take the former key back, or "
        "land the stream under another s3_bucket_path.",
        stream=str(stream),
        setting="hash_key",
    )


def other_template(stream: StreamId, path: str, current: UsedTemplate, given: UsedTemplate) -> TemplateError:
    """The error for a stream that lands under another template.

    Args:
        stream: The stream.
        path: The `s3://` address of its bucket path.
        current: The stream's template.
        given: The template of the landing.
    """
    differ = differing_settings(current, given)
    return TemplateError(
        f"Stream {str(stream)!r} lands under {path} with {spelled_settings(current, differ)}, and not with "
        f"{spelled_settings(given, differ)}: both would share one manifest, so that a full refresh with one deletes "
        "what was landed with the other. Nothing was written. Take the former back; or give the new one an "
        "s3_bucket_path of its own; or, if the stream moves to the new one for good, set on_template_change to "
        "'accept'.",
        stream=str(stream),
        setting=differ[0] if differ else "s3_path_format",
    )


def differing_settings(one: UsedTemplate, other: UsedTemplate) -> list[str]:
    """The settings in which two templates differ."""
    return [each.name for each in fields(UsedTemplate) if getattr(one, each.name) != getattr(other, each.name)]


def spelled_settings(used: UsedTemplate, names: Iterable[str]) -> str:
    """The settings of a template with these names, for a message."""
    given = {name: getattr(used, name) for name in names}
    return " and ".join(f"{name} {value!r}" if value else f"no {name}" for name, value in given.items())
