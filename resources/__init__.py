"""This project's resources: bucket and credentials. One module per environment, which S3DEST_ENVIRONMENT names."""

import os
from importlib import import_module

ENVIRONMENTS = ("local", "production")


def resources() -> dict[str, object]:
    """The resources of the environment that S3DEST_ENVIRONMENT names; "local" if it is not set."""
    environment = os.environ.get("S3DEST_ENVIRONMENT", "local")
    if environment not in ENVIRONMENTS:
        raise ValueError(f"S3DEST_ENVIRONMENT is {environment!r}. Known are {', '.join(ENVIRONMENTS)}.")
    found: dict[str, object] = import_module(f"resources.{environment}").resources()
    return found
