"""Dagster's words into plain values and back: resource, IO manager, assets, component, metadata."""
