"""What pyproject.toml cannot say about building: the wheel is without this project's code location, and the description
that a package index shows has whole links.

    S3DEST_REPOSITORY=https://github.com/you/s3dest make dist     relative links lead into this repository
"""

import os
import re

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info

_LINK = re.compile(r"(?<=\]\()(?!#|\w+:)(?=[^)\s])")
_PICTURE = re.compile(r'(?<=\bsrc=")(?!\w+:)|(?<=\bsrcset=")(?!\w+:)')


class LibraryModules(build_py):
    def find_package_modules(self, package, package_dir):
        found = super().find_package_modules(package, package_dir)
        return [each for each in found if each[:2] != ("s3dest_dagster", "definitions")]


class WholeLinks(egg_info):
    def run(self):
        if repository := os.environ.get("S3DEST_REPOSITORY", "").rstrip("/"):
            metadata = self.distribution.metadata
            # Only a released version has a tag.
            revision = "HEAD" if "dev" in metadata.version else f"v{metadata.version}"
            described = _LINK.sub(f"{repository}/blob/{revision}/", metadata.long_description)
            metadata.long_description = _PICTURE.sub(f"{repository}/raw/{revision}/", described)
        super().run()


setup(cmdclass={"build_py": LibraryModules, "egg_info": WholeLinks})
