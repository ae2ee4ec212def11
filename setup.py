"""The packages of a wheel: found, so that a new folder is in it; two of them stand at the top level for readers."""

from setuptools import find_packages, setup

LINKED = ("preflight.hooks", "preflight.templates")
FOR_DEVELOPERS = ("preflight.derive", "preflight.derive.*")

found = find_packages(
    include=["preflight", "preflight.*"],
    exclude=[*FOR_DEVELOPERS, *LINKED, *(f"{name}.*" for name in LINKED)],
)
setup(packages=[*found, *LINKED])
