"""What the prolog of srun runs for a step: `python -I -m preflight.slurm.step_check FOLDER WORDS...`.

A step that is refused gets a flag in FOLDER. Everything else, each failure of ours among it, lets it start.
"""

from __future__ import annotations

import os
import sys

from preflight.printable import text_of
from preflight.streams import say


def main(args: list[str]) -> int:
    """Judge one step; return 0 whatever happens, for srun looks at nothing but the flag."""
    try:
        lines = refusal(args[1:])
        if lines:
            from preflight.slurm.step_hook import flag_path

            env = os.environ
            path = flag_path(args[0], env["SLURM_JOB_ID"], env["SLURM_STEP_ID"])
            with open(path, "w", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
    except Exception as error:
        lines = (f"preflight: the step was not judged and starts: {type(error).__name__}: {error}",)
    if lines:
        say(text_of(lines) + "\n")
    return 0


def refusal(words: list[str]) -> tuple[str, ...]:
    """Return why a step must not start, as lines for its user; nothing where it may."""
    import shlex
    from dataclasses import replace

    from preflight.errors import BadInput
    from preflight.judge import judge_plan
    from preflight.launch import LaunchCommand
    from preflight.plugins import load_plugins
    from preflight.policy import Policy, policy_from_dict
    from preflight.repository.settings import find_repository
    from preflight.request import Request, versions_of, with_request
    from preflight.rewriting import read_launch
    from preflight.slurm.allocation import ask_nodes
    from preflight.verdict import Answer

    env, cwd = dict(os.environ), os.getcwd()
    repository = find_repository(cwd)
    plugins = load_plugins(cwd, project_files=repository.hooks)
    command = LaunchCommand(
        tuple(words),
        env,
        cwd,
        declared_flags=repository.flags,
        versions=versions_of(repository),
        starts_here=True,
    )
    try:
        plan = read_launch(command, plugins)
    except BadInput as error:
        return _not_judged(error.problems[0].message)
    if plan is None:
        return ()  # no launch: mkdir, hostname, a download
    for what in dict.fromkeys((*repository.left_alone, *plugins.left_alone)):
        say(f"note: {what}\n")
    policy = policy_from_dict(repository.policy, "policy") if repository.policy else Policy()
    allocation = ask_nodes(env)
    smallest = allocation.smallest
    if smallest is None:
        return _not_judged("no node of the job says what GPUs it has")
    plan = replace(with_request(plan, Request(repository=repository)), device=smallest.words)
    judged = judge_plan(plan, plugins, policy)
    if judged.verdict.answer is not Answer.DOES_NOT_FIT:
        return ()
    return (
        f"preflight: does not fit {smallest.name} of {smallest.node}: {judged.verdict.reason}",
        *(f"  {note}" for note in allocation.notes),
        f"next: the step was not started; `preflight check --here -- {shlex.join(words)}`"
        " says what would help, and PREFLIGHT=off starts it unchecked",
    )


def _not_judged(why: str) -> tuple[str, ...]:
    say(f"preflight: the step was not judged and starts: {why}\n")
    return ()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
