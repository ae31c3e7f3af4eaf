"""The manifests of streams in a bucket, and the steps that change them.

A sync becomes visible here, or not at all. Must not know: how records become objects, Dagster.
"""
