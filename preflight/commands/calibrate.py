"""`calibrate`: small trainings on the GPUs here, for what no formula knows of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from preflight.commands.options import FITS, add_output_options
from preflight.commands.output import print_json, print_lines
from preflight.commands.parser import Parser
from preflight.commands.progress import progress
from preflight.errors import BadInput
from preflight.records.folder import records_folder
from preflight.report import SCHEMA_VERSION

if TYPE_CHECKING:
    from preflight.embedded.calibration import Trial
    from preflight.records.site_correction import Correction
    from preflight.render.page import Page

FAILED_TRIAL = 1
TIME_LIMIT_S = 900

EPILOG = """\
Trains a handful of Llamas with random weights for two steps each, on one GPU and, where there are
two, on two; downloads nothing. What the driver shows beside torch, and what the allocator holds
beyond live tensors, becomes this site's correction of context, NCCL and allocator; model terms are
never corrected. Records go where `preflight history` looks.

examples:
  preflight calibrate
  PREFLIGHT_RECORDS=/shared/preflight preflight calibrate

exit: 0 done; 1 a training failed; 2 there is no GPU, or torch and transformers are not installed
"""


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(
        name,
        "Measure the runtime terms of the GPUs here with small trainings.",
        "preflight calibrate [options]",
        EPILOG,
    )
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="one tiny training on the CPU, which corrects nothing",
    )
    add_output_options(parser)
    return parser


def run(name: str, args: list[str]) -> int:
    """Run the matrix of this machine and print what it corrects."""
    options = parser(name).parse_args(args)
    trials = _trials(options.rehearse)
    failed = _train(trials)
    from preflight.records.run_index import renew_corrections
    from preflight.records.site_correction import to_dict

    corrections = renew_corrections()
    if options.format == "json":
        value = {
            "schema_version": SCHEMA_VERSION,
            "num_trials": len(trials),
            "failed": failed,
            "corrections": {name: to_dict(c) for name, c in corrections.items()},
        }
        print_json(value, sys.stdout)
    else:
        from preflight.render.page import page_for

        page, folder = page_for(sys.stdout, options.color), records_folder()
        found = corrections.values()
        print_lines(calibration_lines(len(trials), failed, found, folder, page), sys.stdout)
    return FAILED_TRIAL if failed else FITS


def _trials(is_rehearsal: bool) -> list[Trial]:
    from importlib.util import find_spec

    for library in ("torch", "transformers"):
        if find_spec(library) is None:
            fix = f"pip install {library}, in the environment of preflight"
            raise BadInput.one(f"{library} is not installed here", fix=fix)
    from preflight.embedded.calibration import matrix, rehearsal

    if is_rehearsal:
        return list(rehearsal())
    import torch

    if not torch.cuda.is_available():
        raise BadInput.one(
            "there is no GPU here that torch can use: nothing was run, and nothing is corrected",
            fix="run it on a node with the GPUs that launches are for;"
            " `preflight calibrate --rehearse` shows on a CPU that everything is there",
        )
    return list(matrix(torch.cuda.device_count()))


def _train(trials: Iterable[Trial]) -> list[str]:
    """Run every training; return a line for each that failed."""
    waiting, failed = list(trials), []
    with progress(len(waiting), "trainings") as done:
        for number, trial in enumerate(waiting):
            start = [sys.executable]
            if trial.num_ranks > 1:
                start += ["-m", "torch.distributed.run", f"--nproc_per_node={trial.num_ranks}"]
            argv = [*start, "-m", "preflight.embedded.calibration", json.dumps(asdict(trial))]
            try:
                ended = subprocess.run(argv, capture_output=True, text=True, timeout=TIME_LIMIT_S)
            except subprocess.TimeoutExpired:
                failed.append(f"{trial}: not done after {TIME_LIMIT_S} s")
            else:
                if ended.returncode:
                    last = (ended.stderr.strip().splitlines() or ["no reason given"])[-1]
                    failed.append(f"{trial}: {last}")
            done(number + 1)
    return failed


def calibration_lines(
    num_trials: int,
    failed: Sequence[str],
    corrections: Iterable[Correction],
    folder: str,
    page: Page,
) -> list[str]:
    """Return how many trainings were measured, those that failed, and what the records correct."""
    lines = [f"preflight: {num_trials - len(failed)} of {num_trials} trainings measured"]
    said = [correction.words for correction in corrections]
    for text in (*failed, *said):
        lines += page.wrap(text, "  ", "    ")
    use = "checks for these devices use it" if said else "nothing is corrected"
    return [*lines, f"next: {use}; records are in {folder}"]
