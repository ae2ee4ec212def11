"""`check`, `run` and `fix`: one launch through the pipeline, and what is done about it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from preflight.commands.asked import known_remedies, request_from
from preflight.commands.becoming import become, find_program
from preflight.commands.options import (
    DOES_NOT_FIT,
    FITS,
    NOT_STARTED,
    add_here_option,
    add_launch_options,
    add_output_options,
    add_report_option,
    split_command,
    unknown_remedies,
)
from preflight.commands.output import print_report, print_review, save_page
from preflight.commands.parser import Parser
from preflight.errors import raise_if_any
from preflight.files import Seen, watched
from preflight.launch import LaunchCommand
from preflight.launchers.all import is_launchers_own
from preflight.pipeline import check_launch
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.report import Report
from preflight.repository.settings import find_repository
from preflight.request import Request
from preflight.rewrite import JudgeAgain, refuse_changed, save_rewrite, until_settled
from preflight.streams import say
from preflight.switch import is_off, unknown_word
from preflight.verdict import Answer

if TYPE_CHECKING:
    from preflight.studies.scan import ScannedLaunch

ABOUT = {
    "check": "Estimate and judge a launch. Starts and writes nothing.",
    "run": "Check a launch, rewrite it where safe changes make it fit, then become the launcher:\n"
    "no extra process; signals and exit code are the launcher's. The report goes to stderr.",
    "fix": "Write the rewritten files to .preflight/ and print the command that uses them.\n"
    "Starts nothing. The command goes to stdout, the report to stderr.",
}

EPILOG = {
    "check": """\
examples:
  preflight check -- accelerate launch --config_file fsdp.yaml train.py --max_length 4096
  preflight check --device t4-16 -- accelerate launch train.py
  preflight check --set seq_len=8192 --set model_config=config.json -- accelerate launch train.py
  preflight check -v --format json -- accelerate launch train.py

exit: 0 fits, tight or unknown; 1 does not fit as written; 2 bad input; 3 preflight failed
""",
    "run": """\
examples:
  preflight run -- accelerate launch --config_file fsdp.yaml train.py --max_length 4096
  preflight run --no-rewrite -- accelerate launch train.py
  preflight run --allow optimizer_8bit -- accelerate launch train.py

exit: 78 when nothing was started, else the launcher's own
PREFLIGHT=off starts the command unchecked.
""",
    "fix": """\
examples:
  preflight fix -- accelerate launch --config_file fsdp.yaml train.py --max_length 4096
  preflight fix --allow qlora -- accelerate launch train.py > start.sh
  preflight fix --use-headroom -- accelerate launch --config_file fsdp.yaml train.py

exit: 0 fits, as written or as rewritten; 1 nothing safe fits; 2 bad input; 3 preflight failed
""",
}


NUM_ALTERNATIVES = 2
"""Next best answers that `-v` and JSON show."""


def parser(name: str) -> Parser:
    """Return what one of the three commands takes."""
    parser = Parser(name, ABOUT[name], f"preflight {name} [options] -- COMMAND", EPILOG[name])
    add_launch_options(parser)
    add_here_option(parser)
    if name == "fix":
        parser.add_argument(
            "--use-headroom",
            action="store_true",
            help="make a launch that fits faster with the memory it leaves: a larger micro batch at the same"
            " global batch, no checkpointing, no resharding, no offload; training stays as it is",
        )
    add_report_option(parser)
    add_output_options(parser, for_review=name == "check")
    return parser


def run(name: str, args: list[str]) -> int:
    """Run one of the three commands; return its exit code."""
    if name == "run" and is_off(os.environ) and not {"-h", "--help"} & set(args[:1]):
        return _start_unchecked(args)
    if name == "run" and unknown_word(os.environ):
        say(f"preflight: {unknown_word(os.environ)}\n")
    declared = parser(name)
    own, argv = split_command(name, declared, args)
    options = declared.parse_args(own)
    if name == "run" and os.path.basename(argv[0]) == "preflight" and argv[1:2] == ("run",):
        say("preflight: the launch is judged by the preflight that is started here\n")
        return become(find_program(argv[0], dict(os.environ)), argv, dict(os.environ))
    repository = find_repository(os.getcwd())
    starts_here = name == "run" or is_for_this_node(name, options.device, options.here)
    command = LaunchCommand(
        argv,
        dict(os.environ),
        os.getcwd(),
        declared_flags=repository.flags,
        starts_here=starts_here,
    )
    request = request_from(
        options,
        repository,
        num_alternatives=NUM_ALTERNATIVES if options.verbose or options.format == "json" else 0,
        use_headroom=name == "fix" and options.use_headroom,
        finds_room=True,
        copies_script=name == "fix",
        on_this_node=is_for_this_node(name, options.device, options.here),
    )
    plugins = load_plugins(command.cwd, project_files=repository.hooks)
    if request.policy.allow or request.policy.forbid:
        known = known_remedies(plugins)
        if known is not None and request.use_headroom:
            from preflight.search.headroom import IDS

            known += IDS
        raise_if_any(unknown_remedies(request.policy, known))

    def answer() -> int:
        with watched() as seen:
            launches = _launches_of_file(command, plugins, request)
            report = None if launches else _report(command, plugins, request)
        if launches and (name != "run" or (len(launches) == 1 and options.report is not None)):
            from preflight.studies.checked_behind import single_report

            report = single_report(launches)
        if options.report is not None and report is not None:
            save_page(options.report, report, name, plugins, request.policy, options.set)
        if launches and (report is None or name == "run"):
            return _several(name, launches, command, options, request.policy, seen)
        assert report is not None
        if name == "run":
            return _run(report, options, seen)
        return (_check if name == "check" else _fix)(report, options)

    return until_settled(answer)


def _launches_of_file(
    command: LaunchCommand, plugins: PluginManager, request: Request
) -> list[ScannedLaunch]:
    """Return the launches of the file that a command hands to a shell or a scheduler; none for a launcher's own command,
    for which the readers of such files are not loaded."""
    if is_launchers_own(command):
        return []
    from preflight.studies.checked_behind import checked_launches

    return checked_launches(command, plugins, request)


def _several(
    name: str,
    launches: Sequence[ScannedLaunch],
    command: LaunchCommand,
    options: Any,
    policy: Policy,
    seen: Mapping[str, Seen],
) -> int:
    """Tell what was said of the launches of a file; `run` then starts the file as it is, unless one of them is refused.

    What the reader of a launch refuses stops no script, which may make a file before it comes to the launch.
    """
    from preflight.commands.launches import print_launches, refuse_several

    refuse_several(name, launches, options)
    refused = [launch for launch in launches if launch.is_refused]
    stream = sys.stderr if name == "run" else sys.stdout
    if len(launches) == len(refused) == 1 and launches[0].report is not None:
        print_report(launches[0].report, "check", options, stream)
    else:
        print_launches(launches, (), options, stream)
    if name != "run":
        return DOES_NOT_FIT if refused else FITS
    is_unread = any(launch.report is None for launch in launches)
    if is_unread and policy.refuses(Answer.UNKNOWN):
        return NOT_STARTED
    if any(launch.report is not None for launch in refused):
        return NOT_STARTED
    if refused:
        say("preflight: the file is started all the same: it may make what is missing here\n")
    refuse_changed(seen)
    program = find_program(command.argv[0], dict(command.env))
    return become(program, command.argv, dict(command.env))


def _report(command: LaunchCommand, plugins: PluginManager, request: Request) -> Report:
    """Check a launch; inside a Slurm job that it starts in, for the GPUs that the job got on all its nodes."""
    if not request.on_this_node or "SLURM_JOB_ID" not in command.env:
        return check_launch(command, plugins, request)
    from preflight.slurm.in_job import report_in_job, request_in_job

    notes: tuple[str, ...] = ()
    if request.device in (None, "auto") and request.repository.device is None:
        request, notes = request_in_job(request, command, plugins)
    return report_in_job(check_launch(command, plugins, request), command.env, notes)


def is_for_this_node(name: str, device: str | None, here: bool) -> bool:
    """Tell whether the ranks start on this node: `--here`, `--device auto`, or `run` without a named device."""
    if device is not None and device.lower() != "auto":
        return here  # a device is named where this machine is not to be asked
    return here or device is not None or name == "run"


def _check(report: Report, options: Any) -> int:
    if options.format in ("sarif", "github"):
        from preflight.render.sarif import Log

        log = Log(os.getcwd())
        log.add_report(report, _place(report))
        print_review(log, options.format)
    if options.format != "sarif":
        print_report(report, "check", options, sys.stdout)
    return DOES_NOT_FIT if report.verdict.answer is Answer.DOES_NOT_FIT else FITS


def _place(report: Report) -> str:
    """Return where a reviewer looks for a launch that was typed: its config, else its script."""
    documents = report.plan.documents.values()
    words = report.command.argv if report.command else ()
    scripts = [word for word in words if word.endswith((".py", ".sh"))]
    return next((f"{path}:1" for path in (*documents, *scripts)), "")


def _run(report: Report, options: Any, seen: Mapping[str, Seen]) -> int:
    """Print the report, then replace this process by the launcher; return only where nothing starts."""
    if not report.may_launch:
        print_report(report, "run", options, sys.stderr)
        return NOT_STARTED
    assert report.command is not None
    argv, env = report.command.argv, dict(report.command.env)
    rewrite = report.rewrite if report.applied else None
    if rewrite is not None:
        argv, env = rewrite.argv, {**env, **rewrite.env}
    program = find_program(argv[0], env)
    refuse_changed(seen)
    if rewrite is not None:
        save_rewrite(rewrite)
    print_report(report, "run", options, sys.stderr)
    _refuse_changed_late(seen)
    return become(program, argv, env)


def _refuse_changed_late(seen: Mapping[str, Seen]) -> None:
    """Judge again, and say so, where a file changed even while the report was printed."""
    try:
        refuse_changed(seen)
    except JudgeAgain as error:
        say(f"preflight: judged again, because {error.problems[0].message}\n")
        raise


def _fix(report: Report, options: Any) -> int:
    from preflight.render.words import shell_command

    rewrite = report.rewrite if report.applied else None
    answer = report.final_verdict.answer if rewrite else report.verdict.answer
    if rewrite is not None:
        save_rewrite(rewrite)
    if options.format == "json":
        print_report(report, "fix", options, sys.stdout)
    else:
        print_report(report, "fix", options, sys.stderr)
        if answer is not Answer.DOES_NOT_FIT and report.command is not None:
            argv = rewrite.argv if rewrite else report.command.argv
            say(shell_command(argv, rewrite.env if rewrite else {}) + "\n", sys.stdout)
    return DOES_NOT_FIT if answer is Answer.DOES_NOT_FIT else FITS


def _start_unchecked(args: list[str]) -> int:
    _, argv = split_command("run", parser("run"), args)
    program = find_program(argv[0], dict(os.environ))
    say("preflight: skipped, because PREFLIGHT=off; the launch starts unchecked\n")
    return become(program, argv, dict(os.environ))
