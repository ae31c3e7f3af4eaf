"""What Apache Spark looks for in the metadata of a Parquet or Avro file before it believes the dates in it.

Spark 2 counted days before 1582-10-15, and moments before 1900, by another calendar than Parquet and Avro define. Of a
file that does not say which version of Spark wrote it, Spark 3 refuses such values, and takes them for those of Spark 2
where `spark.sql.parquet.datetimeRebaseModeInRead` is LEGACY. From 3.1.0 on all types follow the definition, unless
`org.apache.spark.legacyDateTime` or `legacyINT96` stands there, too.
"""

from collections.abc import Mapping

PROLEPTIC_CALENDAR: Mapping[str, str] = {"org.apache.spark.version": "3.1.0"}
"""Says that dates and moments are as the definition of the format has them."""
