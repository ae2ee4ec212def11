"""Problems of files, given the id of what the file is."""

from __future__ import annotations

from dataclasses import replace

from preflight.errors import BadInput


def with_id(error: BadInput, id: str) -> BadInput:
    """Return the error with an id on every problem that has none."""
    return BadInput(*(replace(problem, id=problem.id or id) for problem in error.problems))
