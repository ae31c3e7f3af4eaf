"""What a record is: from JSON schemas to record types, Avro and Arrow schemas, and from batches to columns.

Its rules are the connector's where they lose nothing, and our own where the connector's would. It must not know file
formats, S3 or Dagster.
"""

from s3dest_dagster.schema.arrow import Layout, arrow_schema, arrow_type, columns, paths
from s3dest_dagster.schema.avro import avro_schema, avro_schema_text, fingerprint
from s3dest_dagster.schema.envelope import emitted_at_column, record_id_column, record_ids
from s3dest_dagster.schema.inference import json_schema_of_arrow, json_schema_of_records
from s3dest_dagster.schema.json_schema import record_type
from s3dest_dagster.schema.remarks import (
    Effect,
    Remark,
    RemarkGroup,
    cell_remarks,
    column_remarks,
    grouped,
    line_remarks,
    unknown_type_remarks,
)
from s3dest_dagster.schema.road import Converted, Road
from s3dest_dagster.schema.values import UNFIT, convert_record, convert_value

__all__ = [
    "UNFIT",
    "Converted",
    "Effect",
    "Layout",
    "Remark",
    "RemarkGroup",
    "Road",
    "arrow_schema",
    "arrow_type",
    "avro_schema",
    "avro_schema_text",
    "cell_remarks",
    "column_remarks",
    "columns",
    "convert_record",
    "convert_value",
    "emitted_at_column",
    "fingerprint",
    "grouped",
    "json_schema_of_arrow",
    "json_schema_of_records",
    "line_remarks",
    "paths",
    "record_id_column",
    "record_ids",
    "record_type",
    "unknown_type_remarks",
]
