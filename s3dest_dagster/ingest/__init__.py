"""One sync into one bucket: batches become staged objects, which the commit then publishes together.

It must not know Dagster, nor where records come from.
"""
