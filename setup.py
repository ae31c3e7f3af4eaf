"""Leaves this project's code location out of the wheel; everything else about building is in pyproject.toml."""

from setuptools import setup
from setuptools.command.build_py import build_py


class LibraryModules(build_py):
    def find_package_modules(self, package, package_dir):
        found = super().find_package_modules(package, package_dir)
        return [each for each in found if each[:2] != ("s3dest_dagster", "definitions")]


setup(cmdclass={"build_py": LibraryModules})
