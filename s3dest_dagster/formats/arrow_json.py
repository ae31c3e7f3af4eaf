"""A batch's records as JSON texts, whether it holds JSON or Arrow columns. It must not know what the texts are for."""

from __future__ import annotations

from collections.abc import Sequence

from s3dest_dagster.batch import Batch, JsonBatch
from s3dest_dagster.columns.arrow_json_texts import Refused, object_texts
from s3dest_dagster.columns.arrow_types import refuse_invalid_utf8
from s3dest_dagster.columns.binary_columns import pieces
from s3dest_dagster.errors import RecordError


def json_texts(batch: Batch) -> Sequence[bytes]:
    """A JSON batch's own texts, or those of Arrow rows, in which nulls are written.

    Raises RecordError, naming the field, for what JSON has no text for: NaN and the infinities, dates and timestamps
    outside the years 1 to 9999, times outside of a day, texts that are not UTF-8; and for two columns of one name.
    """
    if isinstance(batch, JsonBatch):
        return batch.raws
    names = batch.data.schema.names
    if len(set(names)) < len(names):
        raise RecordError(
            f"Two Arrow columns have the same name, among {sorted(names)}; a record has each once. "
            "Rename one of them in the source."
        )
    refuse_invalid_utf8(batch.data)
    return pieces(object_texts(names, batch.data.columns, batch.num_rows, Refused()))
