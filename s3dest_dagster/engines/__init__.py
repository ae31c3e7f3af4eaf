"""Engines whose workers stage the shards of one sync: an adapter for each, and the table of their datasets.

An adapter turns the engine's own dataset into calls of `stage` in the engine's workers. Must not know: Dagster.
"""

from s3dest_dagster.engines.datasets import Engine as Engine
from s3dest_dagster.engines.datasets import engine_of as engine_of
