"""`sbatch`, `srun` and `salloc`: the job judged for the nodes that it may get, then submitted by Slurm's own program."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from preflight.commands.options import FITS
from preflight.commands.parser import Parser
from preflight.commands.submit_answer import pass_on, refuse
from preflight.commands.submit_program import become, say
from preflight.errors import BadInput, PreflightError
from preflight.rewrite import until_settled
from preflight.switch import is_off

if TYPE_CHECKING:
    from preflight.device import DeviceSpec
    from preflight.slurm.guard import Answer, Asked
    from preflight.slurm.job_script import Submission

ABOUT = {
    "sbatch": "Judge the launches of a job script for every node that the job may get, then become sbatch.\n"
    "Takes sbatch's own arguments. stdout is sbatch's; what preflight has to say goes to stderr.",
    "srun": "Judge what srun would launch, then become srun. Takes srun's own arguments.",
    "salloc": "Judge the command that salloc would run, then become salloc. Takes salloc's own arguments.",
}
EPILOG = """\
examples:
  preflight sbatch job.sh
  preflight sbatch --fix -p gpu --gres=gpu:8 job.sh config.yaml
  preflight sbatch --nodes=2 --wrap 'srun torchrun ...'
  preflight sbatch --device h100-sxm-80 --nodes=2 job.sh     judge, without a Slurm; submit nothing
  preflight srun -N1 --gpus-per-node=8 torchrun --nproc_per_node=8 train.py

exit: 78 when nothing was submitted, else Slurm's own code
A job that cannot be judged is submitted, and a line says why. PREFLIGHT=off submits unchecked.
"""
_WITH_VALUE = ("--allow", "--device", "--forbid", "--set", "--policy", "--color", "--format")
_FLAGS = ("--fix", "--warn", "--explain")


def run(name: str, args: list[str]) -> int:
    """Run one of the three commands; return its exit code. A job that is submitted never returns."""
    declared = parser(name)
    own, words = _own_options(args)
    if words[:1] in (["-h"], ["--help"]) and not own:
        declared.print_help()
        return 0
    env = dict(os.environ)
    if is_off(env):
        say(["preflight: skipped, because PREFLIGHT=off; the job is submitted unchecked"])
        become(name, words, env)
    text = _standard_input(name, words)
    options = declared.parse_args(own)
    _refuse_wrong(options)  # what the user said to us is wrong: say so before anything is submitted
    if options.device is not None:
        return _only_judged(name, words, text, env, options)
    try:
        return until_settled(lambda: _guarded(name, words, text, env, options))
    except BadInput as error:
        from preflight.render.problems import problem_lines

        lines = problem_lines(error.problems)
    except PreflightError as error:
        lines = [f"preflight: not checked: {error}"]
    except Exception as error:
        if env.get("PREFLIGHT_TRACE") == "1":
            import traceback

            traceback.print_exception(error)
        lines = [f"preflight: not checked: {type(error).__name__}: {error}"]
    # A bug of ours stops nobody's job.
    from preflight.slurm.stamping import marked

    say([*lines, "next: the job is submitted unchecked"])
    return become(name, marked(name, words, env), env, text)


def parser(name: str) -> Parser:
    """Return what the command takes in front of Slurm's own words."""
    parser = Parser(
        name, ABOUT[name], f"preflight {name} [options] [{name.upper()} ARGUMENTS]", EPILOG
    )
    group = parser.add_argument_group("preflight's own options, in front of all others")
    group.add_argument(
        "--fix",
        action="store_true",
        help="submit a rewritten copy in .preflight/ where safe changes make it fit, and ask for the nodes that fit",
    )
    group.add_argument(
        "--device",
        metavar="NAME",
        help="judge for nodes with this GPU and submit nothing; asks no Slurm: h100-sxm-80, NAME:GIB",
    )
    group.add_argument("--warn", action="store_true", help="say what would be refused, and submit")
    group.add_argument("--explain", action="store_true", help="every launch, node and finding")
    group.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="as in `preflight check`"
    )
    group.add_argument(
        "--policy", metavar="FILE", help="a YAML file: allow, forbid, refuse, rewrite_jobs, ..."
    )
    for option in ("--allow", "--forbid"):
        group.add_argument(option, action="append", default=[], metavar="ID", help="a remedy")
    group.add_argument("--color", choices=("auto", "always", "never"), default="auto")
    group.add_argument("--format", choices=("text",), default="text", help="for people only")
    return parser


def _refuse_wrong(options: Any) -> None:
    """Raise BadInput for a setting or a policy of the user's own that cannot be meant."""
    from preflight.commands.options import policy_from, settings_from

    options.no_rewrite = False
    settings_from(options.set)
    policy_from(options, {})


def _own_options(args: list[str]) -> tuple[list[str], list[str]]:
    """Return preflight's options, which stand in front, and the words for Slurm."""
    at = 0
    while at < len(args):
        word = args[at]
        if word in _FLAGS or (word.partition("=")[0] in _WITH_VALUE and "=" in word):
            at += 1
        elif word in _WITH_VALUE:
            at += 2
        else:
            break
    own: list[str] = []
    for word in args[:at]:
        name, equals, value = word.partition("=")
        own += [name, value] if equals and name in _WITH_VALUE else [word]
    return own, args[at:]


def _standard_input(name: str, words: list[str]) -> str | None:
    """Return the script that sbatch would read from its standard input; None where it would not."""
    if name != "sbatch" or sys.stdin is None or sys.stdin.isatty():
        return None
    from preflight.slurm.option_words import split_words

    split = split_words(words)
    given = {option.name for option in split.components[0]}
    if split.rest or given & {"wrap", "help", "version", "usage"}:
        return None
    return sys.stdin.buffer.read().decode("utf-8", "surrogateescape")


def _guarded(
    name: str, words: list[str], text: str | None, env: Mapping[str, str], options: Any
) -> int:
    from preflight.slurm.job_script import read_submission

    try:
        submission = read_submission(name, words, env, os.getcwd(), text)
    except OSError:
        become(name, words, env, text)  # Slurm says better what is wrong with the file
    if submission.kind == "nothing" or not _may_have_gpus(submission, env):
        become(name, words, env, text)
    answer, asked = _judged(submission, env, options)
    if not answer.refused:
        return pass_on(answer, asked, env, options, text)
    return refuse(answer, asked, env, options, text)


def _only_judged(
    name: str, words: list[str], text: str | None, env: Mapping[str, str], options: Any
) -> int:
    """Judge for nodes with one GPU that the person names, and submit nothing: no Slurm is asked, and none is needed."""
    from preflight.commands.slurm_audit import device_named
    from preflight.render.page import page_for
    from preflight.render.report import left_alone_lines
    from preflight.render.submission import submission_lines
    from preflight.slurm.job_script import read_submission

    if options.fix or options.warn:
        raise BadInput.one("--device submits nothing, which --fix and --warn ask for")
    device = device_named(options.device)
    try:
        submission = read_submission(name, words, env, os.getcwd(), text)
    except OSError as error:
        late = "preflight's own options (--set, --device, ...) stand in front of all of sbatch's"
        raise BadInput.one(
            f"the job script cannot be read: {error.strerror}",
            " ".join(words),
            late if "--set" in words or "--policy" in words else "",
        ) from error
    answer, asked = _judged(submission, env, options, device)
    if answer.refused:
        asked = replace(asked, policy=replace(asked.policy, rewrite_jobs=False))
        return refuse(answer, asked, env, options, text)
    page = page_for(sys.stderr, options.color)
    lines = submission_lines(answer, page, options.explain)
    lines = lines or ["preflight: nothing to judge: the job launches no training on GPUs"]
    lines += left_alone_lines(asked.left_alone, page)
    say([*lines, "next: nothing was submitted; without --device the job is"])
    return FITS


def _may_have_gpus(submission: Submission, env: Mapping[str, str]) -> bool:
    return any(part.wants_gpus for part in submission.options.components) or (
        submission.program == "srun" and "SLURM_JOB_ID" in env
    )


def _judged(
    submission: Submission, env: Mapping[str, str], options: Any, device: DeviceSpec | None = None
) -> tuple[Answer, Asked]:
    from preflight.commands.options import policy_from, settings_from
    from preflight.repository.settings import find_repository
    from preflight.slurm.guard import asked_in, judge_submission

    policy = policy_from(options, find_repository(submission.cwd).policy)
    asked = asked_in(submission.cwd, policy, settings_from(options.set))
    asked = replace(asked, device=device)
    return judge_submission(_of_this_job(submission, env), env, asked), asked


def _of_this_job(submission: Submission, env: Mapping[str, str]) -> Submission:
    """Return a step of the job that this shell is in with the nodes and GPUs of that job."""
    nodes = env.get("SLURM_JOB_NODELIST")
    if submission.program != "srun" or "SLURM_JOB_ID" not in env or not nodes:
        return submission
    own = submission.options
    changes: dict[str, Any] = {} if own.nodelist else {"nodelist": nodes}
    gpus = env.get("SLURM_GPUS_ON_NODE", "")
    if not own.requested_gpus and gpus.isdecimal():
        from preflight.slurm.options import GpuCount

        changes["gpus_per_node"] = (GpuCount("", int(gpus)),)
    if not own.partitions and env.get("SLURM_JOB_PARTITION"):
        changes["partitions"] = (env["SLURM_JOB_PARTITION"],)
    return replace(submission, options=replace(own, **changes))
