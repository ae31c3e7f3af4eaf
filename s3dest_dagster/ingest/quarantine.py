"""Where lines go that are no records: beside the manifests, with their reasons, published with their sync.

It must not judge lines; the source did.
"""

from __future__ import annotations

import msgspec

from s3dest_dagster.batch import BadRecord
from s3dest_dagster.commit.manifest import ManifestObject
from s3dest_dagster.errors import RecordError
from s3dest_dagster.ingest.object_writer import new_upload, staged_object
from s3dest_dagster.ingest.receipt import Reason
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.settings.destination import SYNC_METADATA
from s3dest_dagster.storage import Upload
from s3dest_dagster.stream import Scope

_SHOWN = 200


class Quarantine:
    """Takes a sync's bad records; the object begins with the first of them. JSON Lines of `reason`, `file` where it
    stands in one, `line_number` and `line`."""

    def __init__(self, target: Target, scope: Scope, key: str, segment: str) -> None:
        self._target = target
        self._scope = scope
        self._key = key
        self._segment = segment
        self._upload: Upload | None = None
        self.rows = 0

    def take(self, bad: BadRecord) -> None:
        """Keeps one bad record, or raises RecordError when the settings say that it fails the sync."""
        if self._target.destination.on_bad_record == "fail":
            shown = bad.raw[:_SHOWN].decode("utf-8", "replace")
            which = "a line" if bad.line_number is None else f"line {bad.line_number:,}"
            which = f"{which} of {bad.file or 'the source'}"
            raise RecordError(
                f"{self._scope}: {which} is no record: {bad.reason}. It begins {shown!r}. Mend the "
                "source, or set on_bad_record to 'quarantine' to keep such lines aside.",
                stream=str(self._scope.stream),
                partition=self._scope.partition,
                key=bad.file,
                setting="on_bad_record",
            )
        if self._upload is None:
            self._target.memory.reserve(self, self._target.destination.part_bytes)
            self._upload = new_upload(self._target, self._target.bucket, self._key, {SYNC_METADATA: self._segment})
        text = bad.raw.decode("utf-8", "backslashreplace")
        place = (
            {"line_number": bad.line_number} if bad.file is None else {"file": bad.file, "line_number": bad.line_number}
        )
        line = {"reason": bad.reason, **place, "line": text}
        self._upload.write(msgspec.json.encode(line) + b"\n")
        self.rows += 1

    def finish(self) -> ManifestObject | None:
        """Stages the object; None when there was no bad record."""
        if self._upload is None:
            return None
        self._upload.finish()
        self._target.memory.reserve(self, 0)
        return staged_object(self._upload, self.rows, Reason.END)

    def abort(self) -> None:
        """Gives the object up."""
        self._target.memory.reserve(self, 0)
        if self._upload is not None:
            self._upload.abort()
