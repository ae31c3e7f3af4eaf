"""Connects the library to Dagster: resource, IO manager, assets, component, metadata."""
