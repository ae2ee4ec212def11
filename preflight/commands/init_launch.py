"""`init --model`: a launch that fits, written from the templates with a reason beside every choice."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import Any

from preflight.commands.options import FITS
from preflight.commands.output import print_json, print_lines, tell_left_alone
from preflight.devices.gpu_table import card_key
from preflight.errors import BadInput, Problem, raise_if_any
from preflight.launch import LaunchPlan, Origin
from preflight.launchers.all import launcher_named
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins
from preflight.report import SCHEMA_VERSION, Report
from preflight.streams import say
from preflight.studies.fitting import METHODS, Fitter, Fitting, engines_for, peak_words
from preflight.studies.new_launch import PER_NODE, Wish, files_of, read_back, read_choice
from preflight.units import ceil_div
from preflight.verdict import Answer

SEQ_LEN = 2048
"""Tokens where nobody says: those of the sizing worksheet's middle row."""
ANSWERED = {
    Answer.TIGHT: "is no more than tight on",
    Answer.UNKNOWN: "may fit and may not fit",
    Answer.DOES_NOT_FIT: "does not fit",
}
"""What is said of the least plan, where no plan is sure to fit."""


def write_launch(options: Any) -> int:
    """Find the plan, write its files if they read back as it, and say what was chosen."""
    wish = _wish(options)
    plugins = load_plugins(os.getcwd())
    tell_left_alone(*plugins.left_alone)
    fitting = _fitting(wish, options, plugins)
    files = files_of(wish, fitting.choice, fitting.reasons, options.slurm)
    report = read_back(wish, fitting, files, plugins)
    paths: list[str] = []
    if not options.print:
        from preflight.commands.init_files import write_files

        paths = write_files(options.output or ".", files)
    if options.format == "json":
        print_json(_value(fitting, files, paths, report), sys.stdout)
        return FITS
    if options.print:
        for name, text in files.items():
            say(f"# --- {name}\n{text}\n", sys.stdout)
        return FITS
    from preflight.render.page import page_for

    page = page_for(sys.stdout, options.color)
    card = report.device.name if report.device is not None else wish.device
    lines = [
        f"preflight: wrote {len(paths)} files {f'to {options.output}' if options.output else 'here'}. Peak {peak_words(fitting.judged)}"
        f" per rank ({wish.num_devices} x {card})"
    ]
    for name, value in _choices(fitting):
        lines += page.wrap(f"{name} {value}: {fitting.reasons[name]}", "  ", "    ")
    start = "launch.sh" if "launch.sh" in files and not options.slurm else "job.sbatch"
    how = f"./{start}" if start == "launch.sh" else f"preflight sbatch {start}"
    next_step = f"next: name your data in training.yaml, then {how}"
    print_lines([*lines, *page.wrap(next_step)], sys.stdout)
    return FITS


def _choices(fitting: Fitting) -> list[tuple[str, Any]]:
    """Return the choices that have a reason, in the order of the report."""
    choice = fitting.choice
    values = {
        "engine": choice.engine,
        "activation_checkpointing": "full" if choice.checkpoints else "none",
        "micro_batch_size": choice.micro_batch_size,
        "gradient_accumulation_steps": choice.gradient_accumulation_steps,
    }
    return [(name, value) for name, value in values.items() if name in fitting.reasons]


def _value(
    fitting: Fitting, files: dict[str, str], paths: list[str], report: Report
) -> dict[str, Any]:
    """Return what `--format json` prints."""
    chosen = {
        name: {"value": value, "reason": fitting.reasons[name]} for name, value in _choices(fitting)
    }
    head = {"schema_version": SCHEMA_VERSION, "paths": paths, "chosen": chosen, "files": files}
    return {**head, "report": report.to_dict()}


def _wish(options: Any) -> Wish:
    """Return what was asked for; raise BadInput for all that is missing or cannot be."""
    problems: list[Problem] = []
    for option, value in (("--gpu", options.gpu), ("--num-gpus", options.num_gpus)):
        if value is None:
            problems.append(Problem(f"{option} must be given", fix=f"{option} VALUE"))
    for option in ("num_gpus", "num_nodes", "seq_len", "global_batch_size"):
        value = getattr(options, option)
        if value is not None and value < 1:
            flag = f"--{option.replace('_', '-')}"
            problems.append(Problem(f"{flag} must be at least 1, not {value}", flag))
    raise_if_any(problems)
    num_nodes = options.num_nodes or ceil_div(options.num_gpus, PER_NODE)
    if options.num_gpus % num_nodes:
        problems.append(
            Problem(
                f"{options.num_gpus} GPUs cannot be shared by {num_nodes} nodes alike",
                "--num-gpus",
                str(num_nodes * ceil_div(options.num_gpus, num_nodes)),
            )
        )
    if num_nodes > 1 and not options.slurm:
        problems.append(
            Problem(f"{num_nodes} nodes need somebody who starts them", "--num-nodes", "--slurm")
        )
    if options.engine == "single" and options.num_gpus > 1:
        problems.append(Problem("one GPU is what `single` trains on", "--engine", "ddp"))
    if options.engine == "hsdp" and num_nodes == 1:
        problems.append(
            Problem("hsdp copies from node to node, and there is one", "--engine", "fsdp2")
        )
    if options.engine not in (None, "single", "ddp") and options.num_gpus == 1:
        problems.append(Problem("one GPU has nobody to share with", "--engine", "single"))
    engines = launcher_named(options.launcher).template_engines
    if options.engine not in (None, *engines):
        fix = f"--launcher accelerate, or one of {', '.join(engines)}"
        problems.append(
            Problem(f"its files cannot say {options.engine}", "--launcher torchrun", fix)
        )
    raise_if_any(problems)
    return Wish(
        options.model,
        options.gpu if ":" in options.gpu else card_key(options.gpu),
        options.num_gpus,
        num_nodes,
        options.method,
        options.seq_len or SEQ_LEN,
        os.path.abspath(options.output or "."),
        options.seq_len is not None,
        options.launcher,
    )


def _fitting(wish: Wish, options: Any, plugins: PluginManager) -> Fitting:
    """Return the choice that fits; raise BadInput that says how much is missing, and what would fit."""
    engines = engines_for(
        options.engine, wish.num_devices, launcher_named(wish.launcher).template_engines
    )

    def fitter(wish: Wish) -> Fitter:
        return Fitter(
            lambda choice: read_choice(wish, choice, plugins), plugins, options.global_batch_size
        )

    named = LaunchPlan(model=wish.model, cwd=os.getcwd()).with_origin("model", Origin("--model"))
    if plugins.first("preflight_describe_model", plan=named) is None:
        raise BadInput.one(f"the model {wish.model!r} is not known here", "--model")
    asked = fitter(wish)
    least = asked.least(engines)
    if least.device is None or least.estimate is None or least.verdict.missing:
        what = ", ".join(least.verdict.missing) or "the device"
        raise BadInput.one(
            f"nobody can tell what fits: {what} not known", "--model",
            "`preflight trace` asks PyTorch, for a launch that you write",
        )  # fmt: skip
    fitting = asked.fitting(engines)
    if fitting is not None:
        return fitting
    others = METHODS[METHODS.index(wish.method) + 1 :]
    found = [m for m in others if fitter(replace(wish, method=m)).fitting(engines) is not None]
    would = f"`--method {found[0]}` fits; " if found else ""
    raise BadInput.one(
        f"{wish.method} training of {wish.model} {ANSWERED[least.verdict.answer]} {wish.num_devices} x {wish.device}:"
        f" with {least.plan.engine}, checkpointing and one sequence of {wish.seq_len} tokens the peak is {peak_words(least)}",
        "--num-gpus",
        f"{would}`preflight size {wish.model} --gpu {wish.device} --seq-len {wish.seq_len}` counts the GPUs",
    )
