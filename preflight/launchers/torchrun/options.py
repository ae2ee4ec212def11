"""The options of torchrun, and the variables that stand for them (torch/distributed/run.py, torch 2.13)."""

from __future__ import annotations

from collections.abc import Mapping

from preflight.errors import Problem
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_options import LauncherOption
from preflight.shell.starters.option_table import options_of

OPTIONS = options_of("torchrun")
USE_ENV = LauncherOption("use_env", ("--use-env", "--use_env"), "flag")
"""Of torch.distributed.launch only."""
NOT_FROM_ENVIRONMENT = ("logs_specs", "numa_binding")
"""Every other option has a variable: PET_NPROC_PER_NODE, PET_NNODES, ..."""


def from_environment(env: Mapping[str, str]) -> Reading[dict[str, Setting]]:
    """Return the options that PET_* variables give; a flag on the command line beats them."""
    found: dict[str, Setting] = {}
    problems = Problems()
    for option in OPTIONS:
        name = f"PET_{option.key.upper()}"
        text = env.get(name)
        if text is None or option.key in NOT_FROM_ENVIRONMENT:
            continue
        place = Place("env", "", name)
        if option.kind == "str":
            found[option.key] = Setting(text, place)
            continue
        try:
            number = float(text) if option.kind == "float" else int(text)
        except ValueError:
            wanted = "0 or 1" if option.kind == "flag" else "a number"
            problems.append(
                Problem(f"${name} must be {wanted}, not {text!r}", f"${name}", id="PF111")
            )
            continue
        found[option.key] = Setting(bool(number) if option.kind == "flag" else number, place)
    return Reading(found, tuple(problems))
