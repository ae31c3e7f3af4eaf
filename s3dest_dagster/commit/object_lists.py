"""Where the objects of a scope's segments are listed: in the segment or, if there are very many, in lists of their own.

All code that goes through the objects of a segment does so here, so that only one list is in memory at a time. An
object list has what readers need, and stays as long as its segment. An upload list has what only publishing needs, and
is deleted after the publication. Must not know: heads, which lists are still needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from s3dest_dagster.commit.documents import (
    FORMAT_VERSION,
    DocumentKind,
    ScopeLocation,
    misplaced,
    object_list_key,
    segment_key,
    upload_list_key,
)
from s3dest_dagster.commit.landed_objects import LandedObject, LandedSync, ListedObjects, MultipartUpload, SegmentObject
from s3dest_dagster.commit.segment import Segment
from s3dest_dagster.errors import ManifestError, StorageError
from s3dest_dagster.printable import logger
from s3dest_dagster.storage import Bucket

OBJECTS_OF_A_LIST = 2000
"""Objects of a list. A segment with no more of them holds them itself."""
_logger = logger("commit")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectList:
    """Some of the objects of a segment that has very many. Written once and never changed."""

    format_version: int = FORMAT_VERSION
    """Version of this format. A reader refuses a newer one."""
    location: ScopeLocation
    """The scope that the list belongs to, and the list's location. A reader refuses it anywhere else."""
    name: str
    """Its name, by which segments refer to it."""
    objects: tuple[SegmentObject, ...]
    """The objects. None has an `upload`: the upload list of the same name has them."""
    quarantines: tuple[SegmentObject, ...] = ()
    """Objects with lines that were not records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadList:
    """The uploads that create the objects of an object list. Deleted once they are published."""

    format_version: int = FORMAT_VERSION
    """Version of this format. A reader refuses a newer one."""
    location: ScopeLocation
    """The scope that the list belongs to, and the list's location. A reader refuses it anywhere else."""
    name: str
    """Its name, which is that of the object list."""
    uploads: tuple[MultipartUpload | None, ...]
    """The upload of each object and then of each quarantine. Null if there is nothing to complete."""


OBJECT_LISTS, UPLOAD_LISTS = DocumentKind(ObjectList), DocumentKind(UploadList)
StagedObject = tuple[SegmentObject, MultipartUpload | None]
"""An object, and the upload that creates it. None if it has none, or if its upload list is deleted."""


class ObjectLists:
    """Goes through the objects of one scope's segments, and puts the lists of those that have very many.

    Args:
        bucket: The bucket.
        root: `keys.scope_root` of the scope.
        location: The scope and its location.
        most: The most objects of a list, or of a segment without lists.
    """

    def __init__(self, bucket: Bucket, root: str, location: ScopeLocation, most: int = OBJECTS_OF_A_LIST) -> None:
        self.most = most
        self._bucket = bucket
        self._root = root
        self._location = location

    # ------------------------------------------------------------------ what readers need

    def objects(self, segment: Segment) -> Iterator[SegmentObject]:
        """The objects of a segment, without quarantines. Those of lists have no `upload`.

        Raises:
            ManifestError: A list is missing.
        """
        yield from segment.objects
        for each in segment.object_lists:
            if each.objects:
                yield from self.read(each).objects

    def quarantines(self, segment: Segment) -> Iterator[SegmentObject]:
        """The objects of a segment with lines that were not records."""
        yield from segment.quarantines
        for each in segment.object_lists:
            if each.quarantines:
                yield from self.read(each).quarantines

    def landed(self, segments: Iterable[Segment]) -> Iterator[tuple[Segment, LandedSync, LandedObject]]:
        """All objects that these segments list, oldest sync first, each with its segment and its sync."""
        for segment in segments:
            for sync in segment.compaction.absorbs:
                for absorbed in sync.objects:
                    yield segment, sync, absorbed
            own = segment.own_sync
            for item in self.objects(segment):
                yield segment, own, item

    def landed_quarantines(self, segments: Iterable[Segment]) -> Iterator[tuple[LandedSync, LandedObject]]:
        """All quarantines that these segments list, each with its sync."""
        for segment in segments:
            for sync in segment.compaction.absorbs:
                for absorbed in sync.quarantines:
                    yield sync, absorbed
            own = segment.own_sync
            for item in self.quarantines(segment):
                yield own, item

    def live_keys(self, segments: Iterable[Segment]) -> set[str]:
        """The keys of all objects that these segments list."""
        return {item.key for _, _, item in self.landed(segments)}

    def replaced_keys(self, segment: Segment) -> Iterator[str]:
        """The keys of the objects that a segment replaced. The lists of those that are deleted may be gone, too."""
        if segment.replaced is None:
            return
        yield from segment.replaced.keys
        for each in segment.replaced.object_lists:
            found = self.find(each)
            yield from (item.key for item in found.objects) if found is not None else ()

    def read(self, listed: ListedObjects) -> ObjectList:
        """Reads an object list.

        Raises:
            ManifestError: It is missing.
        """
        found = self.find(listed)
        if found is None:
            key = object_list_key(self._root, listed.name)
            raise ManifestError(
                f"{self._bucket.uri(key)} is missing although a segment of {self._location} refers to it. Somebody, or "
                "a lifecycle rule, deleted it; restore it from a backup or an older version of the object.",
                key=key,
                stream=str(self._location.stream_id),
                partition=self._location.partition,
            )
        return found

    def find(self, listed: ListedObjects) -> ObjectList | None:
        """Reads an object list that may be deleted. None if it is gone."""
        key = object_list_key(self._root, listed.name)
        found = OBJECT_LISTS.read(self._bucket, self._root, key)
        if found is None:
            return None
        if found[0].name != listed.name:
            raise misplaced(self._bucket, key, f"object list {found[0].name}")
        return found[0]

    # ------------------------------------------------------------------ what publishing needs

    def staged_objects(self, segment: Segment) -> Iterator[StagedObject]:
        """The objects of a segment with their uploads, without quarantines."""
        yield from ((item, item.upload) for item in segment.objects)
        for each in segment.object_lists:
            if each.objects:
                objects = self.read(each).objects
                yield from zip(objects, self._uploads(each)[: each.objects], strict=True)

    def staged_quarantines(self, segment: Segment) -> Iterator[StagedObject]:
        """The quarantines of a segment with their uploads."""
        yield from ((item, item.upload) for item in segment.quarantines)
        for each in segment.object_lists:
            if each.quarantines:
                quarantines = self.read(each).quarantines
                yield from zip(quarantines, self._uploads(each)[each.objects :], strict=True)

    def upload_ids(self, segment: Segment) -> set[str]:
        """The ids of the uploads that the publication of a segment completes. Those of deleted lists are completed."""
        held = (item.upload for item in (*segment.objects, *segment.quarantines))
        listed = (upload for each in segment.object_lists for upload in self._uploads(each))
        return {upload.id for uploads in (held, listed) for upload in uploads if upload is not None}

    def _uploads(self, listed: ListedObjects) -> Sequence[MultipartUpload | None]:
        found = UPLOAD_LISTS.read(self._bucket, self._root, upload_list_key(self._root, listed.name))
        if found is None:
            return (None,) * (listed.objects + listed.quarantines)
        return found[0].uploads

    # ------------------------------------------------------------------ writing

    def put(self, segment: Segment) -> Segment:
        """Puts the objects of a staged segment into lists if there are more than `most`. Returns the segment to put.

        If it fails, it deletes the lists again as far as possible.
        """
        if segment.object_lists or len(segment.objects) + len(segment.quarantines) <= self.most:
            return segment
        with self.writer(segment.name) as writer:
            writer.append(segment.objects, segment.quarantines)
            return with_lists(segment, writer.finish())

    def writer(self, owner: str, part: str = "") -> ObjectListWriter:
        """Writes lists whose names begin with this owner, a segment or an order, and then this part of a name."""
        return ObjectListWriter(self, f"{owner}/{part}")

    def put_list(
        self, name: str, objects: Sequence[SegmentObject], quarantines: Sequence[SegmentObject]
    ) -> ListedObjects:
        """Puts one object list and its upload list."""
        uploads = tuple(item.upload for item in (*objects, *quarantines))
        made = UploadList(location=self._location, name=name, uploads=uploads)
        self._bucket.put(upload_list_key(self._root, name), UPLOAD_LISTS.encode(made))
        listed = ObjectList(
            location=self._location,
            name=name,
            objects=tuple(replace(item, upload=None) for item in objects),
            quarantines=tuple(replace(item, upload=None) for item in quarantines),
        )
        self._bucket.put(object_list_key(self._root, name), OBJECT_LISTS.encode(listed))
        return ListedObjects(
            name=name,
            objects=len(objects),
            rows=sum(item.rows for item in objects),
            bytes=sum(item.bytes for item in objects),
            quarantines=len(quarantines),
            quarantined_rows=sum(item.rows for item in quarantines),
            files=sum(item.file is not None for item in objects),
        )

    def copy(self, segment: Segment, other: ObjectLists) -> None:
        """Copies all object lists to which a published segment refers to another scope, which gets a copy of it."""
        for each in segment.object_lists:
            other._receive(self.read(each))
        for each in segment.replaced.object_lists if segment.replaced is not None else ():
            if (found := self.find(each)) is not None:
                other._receive(found)

    def _receive(self, found: ObjectList) -> None:
        copied = replace(found, location=self._location)
        self._bucket.put(object_list_key(self._root, found.name), OBJECT_LISTS.encode(copied))

    # ------------------------------------------------------------------ deleting

    def delete(self, names: Iterable[str]) -> None:
        """Deletes the object lists with these names, and their upload lists."""
        self._bucket.delete(key(self._root, name) for name in names for key in (object_list_key, upload_list_key))

    def delete_own(self, segment: Segment) -> None:
        """Deletes the lists that were written for a segment which is not decided, and not those of its workers."""
        self.delete(each.name for each in segment.object_lists if each.name.startswith(f"{segment.name}/"))

    def delete_uploads(self, segment: Segment) -> None:
        """Deletes the upload lists of a published segment. A failure is logged: a sweep deletes the rest."""
        try:
            self._bucket.delete(upload_list_key(self._root, each.name) for each in segment.object_lists)
        except StorageError as error:
            key = segment_key(self._root, segment.name)
            _logger.warning("The upload lists of %s could not be deleted: %s", self._bucket.uri(key), error)


class ObjectListWriter:
    """Puts objects into lists, each as soon as it is full. If the block fails, the lists are deleted again.

    Args:
        lists: The scope's lists.
        prefix: What the names of the lists begin with.
    """

    def __init__(self, lists: ObjectLists, prefix: str) -> None:
        self._lists = lists
        self._prefix = prefix
        self._objects: list[SegmentObject] = []
        self._quarantines: list[SegmentObject] = []
        self._names: list[str] = []
        self._written: list[ListedObjects] = []

    def append(self, objects: Iterable[SegmentObject], quarantines: Iterable[SegmentObject] = ()) -> None:
        """Adds objects. Puts a list whenever there are enough for one."""
        for item in objects:
            self._objects.append(item)
            self._put_if_full()
        for item in quarantines:
            self._quarantines.append(item)
            self._put_if_full()

    @property
    def has_written(self) -> bool:
        """Whether a list was put."""
        return bool(self._written)

    def held(self) -> tuple[tuple[SegmentObject, ...], tuple[SegmentObject, ...]]:
        """The objects and the quarantines that are in no list yet."""
        return tuple(self._objects), tuple(self._quarantines)

    def finish(self) -> tuple[ListedObjects, ...]:
        """Puts the last list. Returns what stands for all of them."""
        if self._objects or self._quarantines:
            self._put()
        return tuple(self._written)

    def _put_if_full(self) -> None:
        if len(self._objects) + len(self._quarantines) > self._lists.most:
            self._put()

    def _put(self) -> None:
        most = self._lists.most
        objects, self._objects = self._objects[:most], self._objects[most:]
        rest = most - len(objects)
        quarantines, self._quarantines = self._quarantines[:rest], self._quarantines[rest:]
        self._names.append(f"{self._prefix}{len(self._names):04}")
        self._written.append(self._lists.put_list(self._names[-1], objects, quarantines))

    def discard(self) -> None:
        """Deletes the lists again, as far as that is possible. A sweep deletes the rest."""
        try:
            self._lists.delete(self._names)
        except StorageError as error:
            _logger.warning("Object lists that nothing refers to could not be deleted, a sweep will: %s", error)

    def __enter__(self) -> ObjectListWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if error is not None:
            self.discard()


def with_lists(segment: Segment, lists: Iterable[ListedObjects]) -> Segment:
    """A segment whose objects and quarantines are in these lists."""
    made = replace(
        segment,
        objects=(),
        quarantine=None,
        further_quarantines=(),
        object_lists=tuple(lists),
    )
    return made.in_its_version()
