"""Object keys: from the settings of a template to the key of an object, and back.

`KeyTemplate` makes the keys of data objects, `scope_root` and its kin the prefixes of manifests. Pure text rules.
Must not know: S3, formats, settings, the clock.
"""

from s3dest_dagster.keys.names import (
    decode_name,
    encode_name,
    key_name,
    literal_root_of,
    manifest_root,
    manifest_root_in,
    manifest_roots,
    may_share_key_name,
    sanitize_name,
    scope_root,
    stream_root,
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
    "may_share_key_name",
    "sanitize_name",
    "scope_root",
    "stream_root",
]
