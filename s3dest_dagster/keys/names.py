"""Names of streams and partitions as parts of object keys. It must not know templates."""

from __future__ import annotations

import hashlib
import unicodedata
from urllib.parse import quote, unquote

KEY_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/!_.*')(&$@=;:+,?-")
"""What the connector lets through; of these only "/" separates directories."""
SEGMENT_CHARACTERS = KEY_CHARACTERS - {"/"}

SEPARATORS = frozenset(' \t\\|{}[]<>"')
"""Foreign characters that stand between or around words. A name that differs from another in these alone is rare, and
is taken for a spelling of it, as the connector takes it."""
_HASH_DIGITS = 10

_LONGEST_ENCODED = 180
_KEPT_OF_A_LONG_NAME = 140


def sanitize_name(text: str) -> str:
    """The name as it stands in keys, by the connector's rule: NFKD, marks dropped, each foreign character a "_".

    Different names may become the same: every name of three Chinese characters is "___".
    """
    decomposed = unicodedata.normalize("NFKD", text)
    kept = (char for char in decomposed if not unicodedata.category(char).startswith("M"))
    return "".join(char if char in KEY_CHARACTERS else "_" for char in kept)


def key_name(text: str) -> str:
    """The name as it stands in keys: by the connector's rule, and where that loses more than separators, "_" and ten
    hex digits of its SHA-256 behind it.

    It depends on the name alone. Names that differ in more than separators have different keys.
    """
    sanitised = sanitize_name(text)
    if set(text) <= KEY_CHARACTERS | SEPARATORS:
        return sanitised
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{sanitised.rstrip('_')}_{digest[:_HASH_DIGITS]}"


def is_kept_apart(text: str) -> bool:
    """Whether no other such name stands in keys as this one does: it is kept as it is, or has a hash."""
    return set(text) <= KEY_CHARACTERS or not set(text) <= KEY_CHARACTERS | SEPARATORS


def is_unmistakable(text: str) -> bool:
    """Whether no other name at all stands in keys as this one does. Behind a "_" may be a separator of another, or a
    hash."""
    return set(text) <= KEY_CHARACTERS - {"_"}


def stands_alike(encoded: str, text: str) -> bool:
    """Whether a name (encoded, see `encode_name`) stands in keys as the text does; also where it is cut, so that nobody
    can say."""
    is_cut = "~" in encoded.strip("~")
    return is_cut or key_name(decode_name(encoded) or "") == key_name(text)


def sanitize_segment(text: str) -> str:
    """The text as (part of) one directory name: as `key_name`, "/" a "_", and never "", "." or ".."."""
    segment = key_name(text).replace("/", "_")
    return segment if segment.strip(".") else "_" * max(len(segment), 1)


def encode_name(name: str | None) -> str:
    """A raw name as one directory name that no other name has and that cannot climb.

    Percent-encoded, also "~", and the dots of names made of dots only; "~" stands for None and "~~" for "". A name
    whose encoding is longer than 180 bytes is cut, and its SHA-256 (first 32 hex digits) follows a "~".
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
    """The raw name that `encode_name` made this of, for people to read; cut where that has cut it."""
    return {"~": None, "~~": ""}.get(encoded, unquote(encoded))
