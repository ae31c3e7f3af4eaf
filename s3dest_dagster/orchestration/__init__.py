"""Dagster's words into plain values and back: resource, IO manager, stream assets, metadata.

It must not know how records are landed or what stands in a bucket: that is the landing's. Import from the modules;
this package imports none of them, so that nobody pays for what is not used.
"""
