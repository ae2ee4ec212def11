"""The options of torchrun, as get_args_parser of torch 2.13 declares them (torch/distributed/run.py)."""

from __future__ import annotations

from collections.abc import Mapping

from preflight.errors import Problem
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_options import LauncherOption


def _option(name: str, kind: str = "str", *more: str) -> LauncherOption:
    dashes = f"--{name.replace('_', '-')}"
    flags = tuple(dict.fromkeys((*more, dashes, f"--{name}")))
    choices: tuple[str, ...] = ("spawn", "fork", "forkserver") if name == "start_method" else ()
    if name == "numa_binding":
        choices = ("node", "socket", "exclusive", "core-complex")
    return LauncherOption(name, flags, kind, choices)


OPTIONS: tuple[LauncherOption, ...] = (
    _option("nnodes"),
    _option("nproc_per_node"),
    _option("rdzv_backend"),
    _option("rdzv_endpoint"),
    _option("rdzv_id"),
    _option("rdzv_conf"),
    _option("standalone", "flag"),
    _option("max_restarts", "int"),
    _option("monitor_interval", "float"),
    _option("start_method"),
    _option("event_log_handler"),
    _option("role"),
    _option("module", "flag", "-m"),
    _option("no_python", "flag"),
    _option("run_path", "flag"),
    _option("log_dir"),
    _option("redirects", "str", "-r"),
    _option("tee", "str", "-t"),
    _option("local_ranks_filter"),
    _option("duplicate_stdout_filters"),
    _option("duplicate_stderr_filters"),
    _option("node_rank", "int"),
    _option("master_addr"),
    _option("master_port", "int"),
    _option("local_addr"),
    _option("logs_specs"),
    _option("numa_binding"),
    _option("signals_to_handle"),
    _option("shutdown_timeout", "int"),
    _option("virtual_local_rank", "flag"),
)
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
