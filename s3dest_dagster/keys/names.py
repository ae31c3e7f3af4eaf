"""Names of streams and partitions in keys: readable in keys of data, unambiguous in keys of manifests.

Must not know: templates.
"""

from __future__ import annotations

import hashlib
import unicodedata
from urllib.parse import quote, unquote

from s3dest_dagster.errors import TemplateError
from s3dest_dagster.stream import Scope, StreamId

KEY_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/!_.*')(&$@=;:+,?-")
"""The characters that the connector keeps. Among them, only "/" separates directories."""
SEGMENT_CHARACTERS = KEY_CHARACTERS - {"/"}
SEPARATORS = frozenset(' \t\\|{}[]<>"')
"""Other characters that separate words. Names that differ only in these are rare. They share their spelling in keys, as
in the connector."""
_HASH_DIGITS = 10
_LONGEST_ENCODED = 180
_KEPT_OF_A_LONG_NAME = 140
RESERVED_SEGMENT = "_s3dest"
"""The directory of the manifests. No data object may be in it."""
_LONGEST_KEY = 1024
"""Bytes of UTF-8; S3's own limit."""

# ---------------------------------------------------------------------- names of data


def sanitize_name(text: str) -> str:
    """The name in keys by the connector's rule: NFKD, without marks, and with "_" for every other foreign character.

    Different names may become the same: every name of three Chinese characters is "___".
    """
    decomposed = unicodedata.normalize("NFKD", text)
    kept = (char for char in decomposed if not unicodedata.category(char).startswith("M"))
    return "".join(char if char in KEY_CHARACTERS else "_" for char in kept)


def key_name(text: str) -> str:
    """The name in keys by the connector's rule, with a hash if that rule loses more than separators.

    The hash is "_" and ten hex digits of the name's SHA-256, at the end. The result depends only on the name. Names
    that differ in more than separators have different keys.
    """
    sanitised = sanitize_name(text)
    if set(text) <= KEY_CHARACTERS | SEPARATORS:
        return sanitised
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{sanitised.rstrip('_')}_{digest[:_HASH_DIGITS]}"


def is_kept_apart(text: str) -> bool:
    """Whether `key_name` keeps the name as it is or gives it a hash, so that no other such name becomes the same."""
    return set(text) <= KEY_CHARACTERS or not set(text) <= KEY_CHARACTERS | SEPARATORS


def is_unmistakable(text: str) -> bool:
    """Whether no other name becomes the same in keys. A "_" may come from a separator or a hash in another name."""
    return set(text) <= KEY_CHARACTERS - {"_"}


def may_share_key_name(encoded: str, text: str) -> bool:
    """Whether an encoded name (see `encode_name`) and a raw one may be the same in keys.

    True if the encoded name is cut, since then nothing can be ruled out.
    """
    is_cut = "~" in encoded.strip("~")
    return is_cut or key_name(decode_name(encoded) or "") == key_name(text)


def sanitize_segment(text: str) -> str:
    """The text as one directory name or part of one: like `key_name`, with "_" for "/", and never "", "." or ".."."""
    segment = key_name(text).replace("/", "_")
    return segment if segment.strip(".") else "_" * max(len(segment), 1)


def check_key(key: str, whose: str, stream: StreamId | None = None) -> None:
    """Raises TemplateError for a key that is too long, has a "." or ".." directory, is a manifest's, or ends in "/"."""
    if problem := _problem(key):
        raise TemplateError(
            f"{whose} would make the key {key!r}, which {problem}.",
            stream=None if stream is None else str(stream),
            key=key,
            setting="s3_path_format",
        )


def _problem(key: str) -> str:
    segments = key.split("/")
    if len(key.encode("utf-8", "surrogatepass")) > _LONGEST_KEY:
        return f"is longer than the {_LONGEST_KEY} bytes that S3 allows. Shorten s3_bucket_path or s3_path_format"
    if RESERVED_SEGMENT in segments:
        return f"is under {RESERVED_SEGMENT!r}, which is kept for manifests. Choose another name"
    if "." in segments or ".." in segments:
        return "has a directory named '.' or '..', which many readers would follow. Choose another name"
    if not segments[-1]:
        return "ends with '/', which means a directory. Let file_name_pattern end with a name"
    return ""


# ---------------------------------------------------------------------- names and prefixes of manifests


def encode_name(name: str | None) -> str:
    """A raw name as one directory name, which is unique to that name and cannot be "." or "..".

    The name is percent-encoded, including "~", and including the dots if it has only dots. "~" means None and "~~"
    means "". If the result is longer than 180 bytes, it is cut, and "~" and 32 hex digits of the name's SHA-256 follow.
    """
    if not name:
        return "~" if name is None else "~~"
    raw = name.encode("utf-8", "surrogatepass")
    encoded = quote(raw, safe="").replace("~", "%7E")
    if not encoded.strip("."):
        return encoded.replace(".", "%2E")
    if len(encoded) > _LONGEST_ENCODED:
        return f"{encoded[:_KEPT_OF_A_LONG_NAME]}~{hashlib.sha256(raw).hexdigest()[:32]}"
    return encoded


def decode_name(encoded: str) -> str | None:
    """The raw name that `encode_name` encoded, for people to read; cut if the encoded name was cut."""
    return {"~": None, "~~": ""}.get(encoded, unquote(encoded))


def manifest_root(literal_root: str) -> str:
    """The prefix of everything that the library keeps for itself: "<literal root>/_s3dest/".

    Args:
        literal_root: The literal part of the bucket path, see `KeyTemplate.literal_root`.
    """
    return "/".join(filter(None, (literal_root, RESERVED_SEGMENT))) + "/"


def stream_root(literal_root: str, stream: StreamId) -> str:
    """The prefix of all manifests of a stream: "<literal root>/_s3dest/<namespace>/<stream>/"."""
    return f"{manifest_root(literal_root)}{encode_name(stream.namespace or None)}/{encode_name(stream.name)}/"


def scope_root(literal_root: str, scope: Scope) -> str:
    """The prefix of the manifests of one scope: "<literal root>/_s3dest/<namespace>/<stream>/<partition>/".

    No two scopes share it, since their names are encoded, not sanitised.
    """
    return f"{stream_root(literal_root, scope.stream)}{encode_name(scope.partition)}/"


def manifest_roots(prefix: str) -> list[str]:
    """Every manifest root to which an object under `prefix` may belong.

    There is one in each directory of the prefix, since any directory may be a bucket path. A prefix among manifests has
    only the root that it is under.
    """
    if (among := manifest_root_in(prefix)) is not None:
        return [among]
    directories = prefix.split("/")[:-1]
    return ["/".join((*directories[:depth], RESERVED_SEGMENT, "")) for depth in range(len(directories) + 1)]


def manifest_root_in(key: str) -> str | None:
    """The manifest root that the key is under; None for the key of a data object."""
    before, separator, _ = f"/{key}".partition(f"/{RESERVED_SEGMENT}/")
    return f"{before}{separator}"[1:] if separator else None


def literal_root_of(key: str) -> str:
    """The literal root whose manifests include this key: the inverse of `manifest_root`."""
    return f"/{key}".partition(f"/{RESERVED_SEGMENT}/")[0][1:]
