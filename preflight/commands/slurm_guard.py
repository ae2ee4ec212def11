"""`slurm install`, `slurm uninstall` and `slurm status`: the guard of sbatch, for the admin of a cluster."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from typing import Any

from preflight.commands.options import FITS, add_output_options
from preflight.commands.output import print_json, print_lines
from preflight.commands.parser import Parser
from preflight.errors import BadInput
from preflight.report import SCHEMA_VERSION
from preflight.slurm.guard_files import (
    PARTS,
    POLICIES,
    FileState,
    default_folder,
    install,
    policy,
    set_policy,
    state,
    uninstall,
)
from preflight.slurm.guard_text import TIMEOUT_S, Settings, helper_problem

NOT_WHOLE = 1
ABOUT = {
    "install": "Write the guard beside slurm.conf. A site's own Lua file is never overwritten.",
    "uninstall": "Take the guard away. While slurm.conf asks for the file, one that lets all pass stays.",
    "status": "Show what of the guard is in place in a folder, and whether Slurm and it work together.",
}
EPILOG = {
    "install": """\
The client's guard checks a job inside sbatch and srun, with the user's rights; it refuses what surely
fits no GPU that the job may get, and leaves a stamp. The controller's only compares stamp and job.
Every failure of theirs lets the job pass. It is a policy, and no security.

examples:
  preflight slurm install --client --warn-only
  preflight slurm install --client /etc/slurm --controller /etc/slurm --policy warn
  preflight slurm install --controller --chain --policy require

exit: 0 done; 2 it cannot be done, and nothing was changed
""",
    "uninstall": """\
examples:
  preflight slurm uninstall --client --controller

exit: 0 done, or nothing to do; 2 a file is not ours
""",
    "status": """\
examples:
  preflight slurm status
  preflight slurm status --dir /etc/slurm --format json

exit: 0 whole, or nothing is installed; 1 something would not work
""",
}


def parser(name: str) -> Parser:
    """Return what the command takes."""
    usage = {"status": "preflight slurm status [--dir DIR]"}.get(
        name, f"preflight slurm {name} --client [DIR] | --controller [DIR] [options]"
    )
    parser = Parser(f"slurm {name}", ABOUT[name], usage, EPILOG[name])
    if name == "status":
        parser.add_argument("--dir", metavar="DIR", help="the folder of slurm.conf")
    else:
        for part in PARTS:
            parser.add_argument(
                f"--{part}",
                nargs="?",
                const="",
                metavar="DIR",
                help=f"{PARTS[part].file} in DIR, the folder of slurm.conf unless given",
            )
    if name == "install":
        _add_settings(parser)
    add_output_options(parser)
    return parser


def run(name: str, args: list[str]) -> int:
    """Install, uninstall or show the guard; return the exit code."""
    options = parser(name).parse_args(args)
    if name == "status":
        return _status(os.path.abspath(options.dir or default_folder()), options)
    folders = {
        part: os.path.abspath(given or default_folder())
        for part in PARTS
        if (given := getattr(options, part)) is not None
    }
    if not folders:
        raise BadInput.one("which half is not said", fix="--client, --controller, or both")
    done = (
        _install(folders, options)
        if name == "install"
        else [uninstall(part, folder) for part, folder in folders.items()]
    )
    if options.format == "json":
        print_json({"schema_version": SCHEMA_VERSION, "done": done}, sys.stdout)
    else:
        lines = [line if line.startswith("next: ") else f"preflight: {line}" for line in done]
        print_lines(lines, sys.stdout)
    return FITS


def _add_settings(parser: Parser) -> None:
    parser.add_argument(
        "--chain", action="store_true", help="keep a site's own file and ask it first"
    )
    group = parser.add_argument_group("the controller")
    group.add_argument(
        "--policy",
        choices=POLICIES,
        help="off, warn, or require a check (default: warn, or the one that is there)",
    )
    group = parser.add_argument_group("the client")
    group.add_argument("--warn-only", action="store_true", help="refuse nothing, say what would be")
    group.add_argument(
        "--python",
        metavar="PATH",
        default=sys.executable,
        help="the Python that has preflight, on every node with sbatch or srun (default: this one)",
    )
    group.add_argument(
        "--timeout",
        metavar="SECONDS",
        default=str(TIMEOUT_S),
        help=f"how long one check may take before the job passes (default: {TIMEOUT_S})",
    )
    group.add_argument(
        "--stamp-in",
        choices=("extra", "comment"),
        help="the option of sbatch for the stamp (default: extra; comment before Slurm 23.02, and where"
        " the cluster chooses nodes by extra)",
    )


def _install(folders: dict[str, str], options: Any) -> list[str]:
    text = str(options.timeout)
    if not text.isdecimal() or not 1 <= int(text) <= 600:
        raise BadInput.one(f"--timeout takes 1 to 600 seconds, not {text!r}", "--timeout")
    settings = Settings(options.python, int(text), _stamp_in(folders, options), options.warn_only)
    if "client" in folders:
        problem = helper_problem(settings)
        if problem:
            raise BadInput.one(
                f"{options.python} cannot run the check: {problem}",
                "--python",
                "the Python of the environment that has preflight",
            )
    done = []
    for part, folder in folders.items():
        done.append(install(part, folder, settings, options.chain))
        if part == "controller":
            word = options.policy or (
                policy(folder)
                if os.path.exists(os.path.join(folder, "preflight.policy"))
                else "warn"
            )
            set_policy(folder, word)
            done.append(f"policy {word}")
        done += _next_steps(part, folder)
    return done


def _stamp_in(folders: dict[str, str], options: Any) -> str:
    """Return where the stamp is to stand: as said, else as the cluster of this slurm.conf allows."""
    if options.stamp_in or "client" not in folders:
        return options.stamp_in or "extra"
    from preflight.slurm.stamping import cluster_facts, option_for

    conf = os.path.join(folders["client"], "slurm.conf")
    env = {**os.environ, **({"SLURM_CONF": conf} if os.path.exists(conf) else {})}
    return option_for(cluster_facts(env))


def _next_steps(part: str, folder: str) -> list[str]:
    found = state(part, folder)
    if found.is_switched_on:
        return []
    line = f"{PARTS[part].setting}={PARTS[part].value}"
    where = {
        "client": "on every node with sbatch or srun, compute nodes too, once the file is on all of them",
        "controller": "then `scontrol reconfigure`",
    }[part]
    return [f"next: {line} in {os.path.join(folder, 'slurm.conf')}, {where}"]


def _status(folder: str, options: Any) -> int:
    from preflight.render.page import page_for

    states = [state(part, folder) for part in PARTS]
    problem, seconds = "", None
    if states[0].is_ours:
        started = time.perf_counter()
        problem = helper_problem(Settings(), states[0].path)
        seconds = time.perf_counter() - started
    is_whole = not problem and all(_is_whole(found) for found in states)
    if options.format == "json":
        value = {
            "schema_version": SCHEMA_VERSION,
            "folder": folder,
            "is_whole": is_whole,
            "parts": [asdict(found) for found in states],
            "helper": {"problem": problem, "seconds": seconds},
        }
        print_json(value, sys.stdout)
        return FITS if is_whole else NOT_WHOLE
    lines = [f"preflight: guard of sbatch in {folder}"]
    for found in states:
        lines += _state_lines(found)
    if states[0].is_ours:
        words = f"fails: {problem}" if problem else f"answers in {1000 * (seconds or 0):.0f} ms"
        lines.append(f"  helper      {words}")
    page = page_for(sys.stdout, options.color)
    head, *others = lines
    wrapped = [part for line in others for part in page.wrap(line.strip(), "  ", " " * 14)]
    print_lines([head, *wrapped], sys.stdout)
    return FITS if is_whole else NOT_WHOLE


def _is_whole(found: FileState) -> bool:
    if found.problem:
        return False
    # Named and missing, Slurm stops: every submission, or the controller at its next start.
    return found.is_there or not found.is_switched_on


def _state_lines(found: FileState) -> list[str]:
    words = "not there"
    if found.is_there:
        words = "preflight's" if found.is_ours else "not preflight's guard"
        if found.is_chained:
            words += ", the site's own asked first"
    if found.problem:
        words += f"; it does not load: {found.problem}"
    on = {
        True: "slurm.conf names it",
        False: "slurm.conf does not name it",
        None: "no slurm.conf here",
    }[found.is_switched_on]
    lines = [f"  {found.part:10}  {os.path.basename(found.path)}: {words}; {on}"]
    if found.part == "controller" and found.is_ours:
        lines.append(f"  policy      {found.policy}")
    return lines
