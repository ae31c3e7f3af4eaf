"""The objects of a segment: what readers need of each, how each is published, and what stands for a list of them.

Values only. Must not know: S3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime

from s3dest_dagster.commit.documents import sync_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LandedObject:
    """The part of an object's entry that readers need."""

    key: str
    """Key of the object."""
    rows: int
    """Number of records in it. For a quarantine, the number of lines."""
    bytes: int
    """Size in bytes."""
    etag: str
    """ETag by S3's rule for multipart uploads. Empty if the rule does not apply. Servers may use another rule."""
    crc32: str = ""
    """CRC-32 of its bytes, in hexadecimal digits."""
    partition_values: Mapping[str, str | None] | None = None
    """The values of its directories by their names, null for a null. Null if the stream has no `partition_by`."""
    is_counted: bool = True
    """False: it was adopted without being read, so that its `rows` is 0 although it has records."""
    generation_id: int | None = None
    """The generation that its metadata name, if it was adopted. Null if they name none."""
    file: str | None = None
    """The path, at the source, of the file of which it is a copy: it has no records. Null if it has records."""


@dataclass(frozen=True, slots=True)
class MultipartUpload:
    """Everything that is needed to complete a multipart upload."""

    id: str
    """Upload id."""
    part_etags: tuple[str, ...]
    """ETags of the parts, in order."""

    @property
    def object_etag(self) -> str:
        """The object's ETag by S3's rule: the MD5 of the parts' MD5s, and their number. "" if the rule does not apply.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
        """
        try:
            digests = bytes.fromhex("".join(self.part_etags))
        except ValueError:
            return ""
        return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(self.part_etags)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentObject(LandedObject):
    """An object of a segment: what readers need, why it was closed, and how it is published."""

    close_reason: str
    """Why it was closed: `size`, `memory`, `schema` or `end`. `adopted` if it was there already, `file` if it is a copy
    of a file."""
    short_row_groups: int = 0
    """Number of row groups that ended early because memory ran short."""
    upload: MultipartUpload | None = None
    """The upload that the publication completes. Readers do not need it. Null if there is nothing to complete."""

    @property
    def landed(self) -> LandedObject:
        """The object without the fields that only its own segment needs."""
        return LandedObject(**{each.name: getattr(self, each.name) for each in fields(LandedObject)})


@dataclass(frozen=True, slots=True, kw_only=True)
class LandedSync:
    """The part of a published sync that readers need."""

    segment: str
    """Name of the sync's own segment."""
    started_at: datetime
    """When the sync began."""
    objects: tuple[LandedObject, ...]
    """Its objects."""
    quarantine: LandedObject | None
    """The object with the lines that were not records, or null."""
    further_quarantines: tuple[LandedObject, ...] = ()
    """Further objects with such lines, if several workers landed the sync."""
    mark: str | None = None
    """The text in the metadata of its objects, if that is not the segment's name: several workers landed the sync."""
    generation_id: int | None = None
    """The generation of the sync. Null if it has none, which counts as 0."""

    @property
    def sync_id(self) -> str:
        return sync_of(self.segment)

    @property
    def quarantines(self) -> tuple[LandedObject, ...]:
        """All objects with lines that were not records."""
        return self.further_quarantines if self.quarantine is None else (self.quarantine, *self.further_quarantines)

    @property
    def object_mark(self) -> str:
        """The text in the metadata of its objects."""
        return self.mark or self.segment


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedObjects:
    """An object list that a segment refers to, and what it sums up to."""

    name: str
    """Name of the list: a segment or an order, a slash, and a text that no other list of it has."""
    objects: int
    """Number of its objects."""
    rows: int
    """Their records."""
    bytes: int
    """Their size in bytes."""
    quarantines: int = 0
    """Number of its objects with lines that were not records."""
    quarantined_rows: int = 0
    """The lines in them."""
    files: int = 0
    """Number of its objects that are copies of files. Above 0, the segment has format version 4."""
