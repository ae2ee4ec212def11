"""The one door to what stands in a file: shell scripts, Makefiles, READMEs, and the envelopes of clouds and schedulers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from preflight.envelopes.compose import compose_parts
from preflight.envelopes.contract import Part
from preflight.envelopes.dstack import dstack_parts
from preflight.envelopes.github import github_parts
from preflight.envelopes.kubernetes import kubernetes_parts
from preflight.envelopes.makefile import recipes
from preflight.envelopes.sky import sky_parts
from preflight.envelopes.texts import sheets_of
from preflight.shell.blocks import blocks_of

ENDINGS = (".yaml", ".yml")
READERS = (sky_parts, dstack_parts, github_parts, kubernetes_parts, compose_parts)
"""Each tells its own files by their keys; a file is of one kind."""
NOTHING: Mapping[str, str] = {}
WORKFLOWS = ".github"
"""The hidden folder in which workflows stand."""


def parts_of(path: str, text: str, said: Mapping[str, str] = NOTHING) -> Iterator[Part]:
    """Yield the shell texts of a file, each with the job that it is started in; nothing for a config.

    `said` is what options of the command that hands it on say in place of keys.
    """
    if os.path.basename(path) == "Makefile":
        for recipe in recipes(text):
            yield Part(recipe.block)
        return
    if not path.endswith(ENDINGS):
        for block in blocks_of(path, text):
            yield Part(block)
        return
    for sheet in sheets_of(os.fspath(path), text, said):
        for reader in READERS:
            parts = list(reader(sheet))
            yield from parts
            if parts:
                break
