"""Object keys: from a path format and a file name pattern to the key of an object, and back.

Pure text rules, checked when they are made. It must not know S3, formats, settings or the clock.
"""

from s3dest_dagster.keys.names import decode_name, encode_name, key_name, sanitize_name, stands_alike
from s3dest_dagster.keys.prefixes import (
    literal_root_of,
    manifest_root,
    manifest_root_in,
    manifest_roots,
    scope_root,
    scope_root_under,
    stream_root,
    stream_root_under,
)
from s3dest_dagster.keys.template import DEFAULT_PATH_FORMAT, KeyTemplate, SyncKeys

__all__ = [
    "DEFAULT_PATH_FORMAT",
    "KeyTemplate",
    "SyncKeys",
    "decode_name",
    "encode_name",
    "key_name",
    "literal_root_of",
    "manifest_root",
    "manifest_root_in",
    "manifest_roots",
    "sanitize_name",
    "scope_root",
    "scope_root_under",
    "stands_alike",
    "stream_root",
    "stream_root_under",
]
