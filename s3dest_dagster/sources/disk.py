"""The files on disk that a pattern matches, found as a shell finds them.

It must not know formats, nor stores other than the disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from s3dest_dagster.sources.path_patterns import Match, PathPattern

_Links = tuple[int, ...]


def matching_files(directory: str, pattern: PathPattern) -> Iterator[tuple[str, Match]]:
    """The paths below the directory, and how they match. OSError for a directory that cannot be looked into.

    A link to a file is one; a link to a directory is followed where the pattern names it, or a wildcard within a name
    matches it, but never by `**`. A file that several paths lead to is found once, by the first of them.
    """
    found: set[str] = set()
    for below, links in sorted(_walk(directory, pattern, "", ())):
        match = pattern.match(below)
        if match is None or any(begin < link <= end for begin, end in match.deep for link in links):
            continue
        path = os.path.join(directory, below)
        if (real := os.path.realpath(path)) not in found:
            found.add(real)
            yield path, match


def _walk(directory: str, pattern: PathPattern, below: str, links: _Links) -> Iterator[tuple[str, _Links]]:
    """The files below, each with where the links to directories in its path end.

    Each link that is followed takes a name that the pattern says, so that no circle of links is walked for ever.
    """
    try:
        entries = list(os.scandir(os.path.join(directory, below)))
    except (FileNotFoundError, NotADirectoryError):
        return
    for each in entries:
        path = below + each.name
        if not each.is_dir():
            yield path, links
        elif pattern.reaches_below(path.count("/") + 1):
            its_links = (*links, len(path)) if each.is_symlink() else links
            if len(its_links) <= pattern.named_levels:
                yield from _walk(directory, pattern, f"{path}/", its_links)
