"""Where records come from: connector processes, messages on a byte stream, Python values, Arrow data.

A source yields batches, states and statuses, and nothing else; it must not know buckets, formats or Dagster.
"""
