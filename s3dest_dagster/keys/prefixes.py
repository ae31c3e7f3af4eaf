"""Where the manifests of a stream and its scopes stand: beside the data, never among it."""

from __future__ import annotations

from s3dest_dagster.keys.names import encode_name
from s3dest_dagster.keys.template import RESERVED_SEGMENT, KeyTemplate
from s3dest_dagster.stream import Scope, StreamId


def manifest_root(template: KeyTemplate) -> str:
    """The prefix of everything the library keeps for itself: "<literal root>/_s3dest/"."""
    return _manifest_root_under(template.literal_root)


def manifest_roots(prefix: str) -> list[str]:
    """Where the manifests can stand of an object whose key begins with `prefix`, whatever bucket path it was landed
    under: beside each of its directories. What stands among manifests itself has one such place."""
    if (among := manifest_root_in(prefix)) is not None:
        return [among]
    directories = prefix.split("/")[:-1]
    return ["/".join((*directories[:depth], RESERVED_SEGMENT, "")) for depth in range(len(directories) + 1)]


def manifest_root_in(key: str) -> str | None:
    """The manifest root that a listed key stands under; None for the key of an object."""
    before, found, _ = f"/{key}".partition(f"/{RESERVED_SEGMENT}/")
    return f"{before}{found}"[1:] if found else None


def literal_root_of(root: str) -> str:
    """The literal bucket path of manifests that stand under `root`: the inverse of `manifest_root`."""
    return f"/{root}".partition(f"/{RESERVED_SEGMENT}/")[0][1:]


def stream_root(template: KeyTemplate, stream: StreamId) -> str:
    """The prefix of all scopes of a stream: "<literal root>/_s3dest/<namespace>/<stream>/"."""
    return stream_root_under(template.literal_root, stream)


def stream_root_under(literal_root: str, stream: StreamId) -> str:
    """`stream_root` of a template that has this literal root."""
    return f"{_manifest_root_under(literal_root)}{encode_name(stream.namespace or None)}/{encode_name(stream.name)}/"


def scope_root(template: KeyTemplate, scope: Scope) -> str:
    """The prefix of what one scope holds: "<literal root>/_s3dest/<namespace>/<stream>/<partition>/".

    No two scopes share it, whatever their names: they are percent-encoded, not sanitised (see `encode_name`).
    """
    return scope_root_under(template.literal_root, scope)


def scope_root_under(literal_root: str, scope: Scope) -> str:
    """`scope_root` of a template that has this literal root."""
    return f"{stream_root_under(literal_root, scope.stream)}{encode_name(scope.partition)}/"


def _manifest_root_under(literal_root: str) -> str:
    return "/".join(filter(None, (literal_root, RESERVED_SEGMENT))) + "/"
