"""Why a stream's registry refuses a landing: the stream has another owner, or its content moves to another name.

Values only. Must not know: S3.
"""

from __future__ import annotations

from s3dest_dagster.commit.registry_document import StreamRegistry, StreamTransfer
from s3dest_dagster.errors import OwnershipError, SupersededError
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
