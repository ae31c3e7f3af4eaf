"""What a bucket knows about streams: manifests, and the steps that change them.

A sync becomes visible here, or not at all. Must not know: how records become objects, Dagster.
"""
