"""Keeps the values of excluded, hashed and masked fields out of everything that a landing writes or says.

Batches are filtered when they arrive, before anything else sees them: encoding, checksums, schemas that are inferred,
counts and previews only know what is left. Must not know: how batches are encoded, what the rules look like.
"""

from __future__ import annotations

from s3dest_dagster.batch import ArrowBatch, Batch, Tally
from s3dest_dagster.columns.arrow_fields import ArrowFieldRules
from s3dest_dagster.columns.field_rules import rules_of, selected_stream
from s3dest_dagster.columns.hidden_values import Hasher
from s3dest_dagster.columns.json_fields import Counts, JsonFieldRules, new_counts
from s3dest_dagster.errors import RecordError, SettingsError
from s3dest_dagster.stream import Stream


class FieldFilter:
    """Applies a stream's field rules to its batches. Without rules it returns everything as it is.

    Args:
        stream: The stream, as its source describes it.
        hash_key: The destination's setting.

    Raises:
        SettingsError: A field is to be hashed and there is no key, or a path contradicts the stream's schema.
    """

    def __init__(self, stream: Stream, hash_key: str | None) -> None:
        self.stream = selected_stream(stream)
        """The stream as it lands (see `selected_stream`)."""
        self._name = str(stream.id)
        self._counts: Counts = new_counts()
        self._json: JsonFieldRules | None = None
        self._arrow: ArrowFieldRules | None = None
        selection = stream.selection
        if selection.hash and not hash_key:
            raise SettingsError(
                f"Stream {self._name!r}: fields.hash needs a key, and hash_key is not set. Set it on the destination, "
                "from a secret.",
                stream=self._name,
                setting="hash_key",
            )
        self.hash_key_id: str | None = Hasher(hash_key).key_id if selection.hash and hash_key else None
        """The id of the key with which fields are hashed. None if none are."""
        if selection:
            hasher, rules = Hasher(hash_key or ""), rules_of(selection)
            self._json = JsonFieldRules(rules, hasher.json_hash)
            self._arrow = ArrowFieldRules(rules, hasher.hash)

    @property
    def is_active(self) -> bool:
        """Whether there are rules."""
        return self._json is not None

    def apply(self, batch: Batch) -> Batch:
        """The batch as it lands. Raises RecordError, which shows no value, if the rules cannot be applied to it."""
        if self._json is None or self._arrow is None:
            return batch
        try:
            if isinstance(batch, ArrowBatch):
                return self._arrow.apply(batch, self._counts)
            return self._json.apply(batch, self._counts)
        except RecordError as error:
            raise RecordError(
                f"Stream {self._name!r}: {error.message}", stream=self._name, setting=error.setting
            ) from None

    def pop_tally(self) -> Tally:
        """The counts of what was applied since the last call, by path."""
        counts, self._counts = self._counts, new_counts()
        return Tally(**{action.value: dict(by_path) for action, by_path in counts.items()})
