"""The register of a stream: under which templates it has landed, and when its abandoned uploads were last looked for.

Whoever lands a scope of the stream enters it before anything becomes visible. It must not know what the scopes hold.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta

from s3dest_dagster.errors import StorageError, TemplateError
from s3dest_dagster.keys import KeyTemplate, stream_root
from s3dest_dagster.landing.manifest import StreamRegister, UsedTemplate, from_json, register_key, to_json
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import StreamId

SWEEP_INTERVAL = timedelta(days=1)
"""Landings sweep a stream at most this often."""
_ATTEMPTS = 5


def enter(bucket: Bucket, template: KeyTemplate, stream: StreamId, now: datetime) -> bool:
    """Notes that the stream lands under this template. Returns whether it is to be swept, which is noted as done.

    One request when there is nothing to note. A stream's first landing has nothing to sweep yet.
    """
    key = register_key(stream_root(template, stream))
    claimed = False
    for attempt in range(1, _ATTEMPTS + 1):
        found = bucket.get(key)
        before = from_json(StreamRegister, found[0], key) if found is not None else _empty(stream)
        after = _entered(before, template, now)
        if after == before:
            return claimed and before.swept_at == now
        claimed = before.swept_at is not None and after.swept_at == now
        try:
            bucket.put(key, to_json(after), if_absent=found is None, if_match=found[1] if found is not None else None)
        except StorageError:
            # Another landing was first, or the answer was lost: what stands there now tells.
            if attempt == _ATTEMPTS:
                raise
        else:
            return claimed
    raise AssertionError("unreachable")


def could_own(bucket: Bucket, root: str, keys: Collection[str]) -> bool:
    """Whether the stream with this root could own any of these keys: it stands under the root, or a template that the
    stream has used could have made it."""
    found = bucket.get(register_key(root))
    if found is None or any(each.startswith(root) for each in keys):
        return True
    register = from_json(StreamRegister, found[0], register_key(root))
    stream = StreamId(register.namespace, register.stream)
    return any(_could_make(each, stream, keys) for each in register.templates)


def _could_make(used: UsedTemplate, stream: StreamId, keys: Collection[str]) -> bool:
    try:
        template = KeyTemplate(used.s3_bucket_path, used.s3_path_format, used.file_name_pattern)
        matches = template.matcher(stream).fullmatch
    except TemplateError:
        # An older library allowed what this one refuses, and nobody can say which keys that made.
        return True
    return any(map(matches, keys))


def _empty(stream: StreamId) -> StreamRegister:
    return StreamRegister(stream=stream.name, namespace=stream.namespace)


def _entered(register: StreamRegister, template: KeyTemplate, now: datetime) -> StreamRegister:
    used = UsedTemplate(template.bucket_path, template.path_format, template.file_name_pattern)
    templates = register.templates if used in register.templates else (*register.templates, used)
    due = register.swept_at is None or now - register.swept_at >= SWEEP_INTERVAL
    return replace(register, templates=templates, swept_at=now if due else register.swept_at)
