"""Object keys: from the settings of a template to the key of an object, and back.

`KeyTemplate` makes the keys of data objects. `scope_root` and similar functions make the prefixes of manifests. All of
this is rules about text.
It knows S3's limits for keys and, in its messages, the names of the settings. Must not: send requests, know records or
read the clock.
"""

from s3dest_dagster.keys.connector_keys import ConnectorKeys as ConnectorKeys
from s3dest_dagster.keys.connector_keys import keys_of_connector as keys_of_connector
from s3dest_dagster.keys.connector_keys import prefixes_of_connector as prefixes_of_connector
from s3dest_dagster.keys.names import decode_name as decode_name
from s3dest_dagster.keys.names import encode_name as encode_name
from s3dest_dagster.keys.names import key_name as key_name
from s3dest_dagster.keys.names import literal_root_of as literal_root_of
from s3dest_dagster.keys.names import manifest_root as manifest_root
from s3dest_dagster.keys.names import manifest_root_in as manifest_root_in
from s3dest_dagster.keys.names import manifest_roots as manifest_roots
from s3dest_dagster.keys.names import may_share_key_name as may_share_key_name
from s3dest_dagster.keys.names import sanitize_name as sanitize_name
from s3dest_dagster.keys.names import scope_root as scope_root
from s3dest_dagster.keys.names import stream_root as stream_root
from s3dest_dagster.keys.part_marks import RANDOM_BYTES_OF_A_PART as RANDOM_BYTES_OF_A_PART
from s3dest_dagster.keys.part_marks import mark_of as mark_of
from s3dest_dagster.keys.part_marks import marked_part as marked_part
from s3dest_dagster.keys.part_marks import sync_digest as sync_digest
from s3dest_dagster.keys.part_marks import sync_mark as sync_mark
from s3dest_dagster.keys.template import DEFAULT_PATH_FORMAT as DEFAULT_PATH_FORMAT
from s3dest_dagster.keys.template import KeyTemplate as KeyTemplate
from s3dest_dagster.keys.template import SyncKeys as SyncKeys
from s3dest_dagster.keys.template import part_id as part_id
