"""A workflow of GitHub: each `run:` of its steps, with the variables of workflow, job and step.

Source: docs.github.com, "Workflow syntax for GitHub Actions". What an expression gives (`${{ inputs.model }}`) is not known.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace

from preflight.envelopes.contract import Job, Part
from preflight.envelopes.texts import Sheet, shell_text, variables


def github_parts(sheet: Sheet) -> Iterator[Part]:
    """Yield what the steps of a workflow, or of a composite action, run."""
    flow = sheet.document.value
    of_all = variables(flow.get("env"))
    jobs, action = flow.get("jobs"), flow.get("runs")
    groups: list[tuple[tuple[str, ...], object]] = []
    if isinstance(jobs, Mapping):
        groups += [(("jobs", str(name)), job) for name, job in jobs.items()]
    if isinstance(action, Mapping):
        groups.append((("runs",), action))
    for keys, job in groups:
        if not isinstance(job, Mapping):
            continue
        steps = job.get("steps")
        for index, step in enumerate(steps if isinstance(steps, list) else ()):
            if not isinstance(step, Mapping):
                continue
            env = {**of_all, **variables(job.get("env")), **variables(step.get("env"))}
            for block in shell_text(sheet, (*keys, "steps", index, "run"), step.get("run"), env):
                folder = step.get("working-directory")
                if isinstance(folder, str) and "$" not in folder and not os.path.isabs(folder):
                    block = replace(block, folder=folder)
                yield Part(block, Job("GitHub workflow"))
