"""The list of packages, which pyproject.toml cannot say: batch/ and streaming/ are installed below twinrun."""

from setuptools import find_packages, setup

mapped = [f"twinrun.{name}" for name in find_packages(include=["batch*", "streaming*"])]
setup(packages=[*find_packages(include=["twinrun", "twinrun.*"]), *mapped])
