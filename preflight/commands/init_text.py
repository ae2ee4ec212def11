"""The text of a first preflight.toml: what launches leave unsaid, a reason beside every line."""

from __future__ import annotations

import json
from collections.abc import Iterator

from preflight.commands.init_survey import Launch, Survey
from preflight.scripts.arguments.trainer_spellings import DECLARABLE, SPELLINGS

HEAD = """\
# What preflight takes where a launch of this repository says nothing; the launch itself always wins.
# Written by `preflight init --repo`; repository.md of preflight's documentation has every key.
"""
ASKED = ("model", "seq_len", "micro_batch_size")
"""Plan fields without which there is no verdict."""
EXAMPLES = {"model": '"org/name"', "seq_len": "4096", "micro_batch_size": "1"}


def settings_text(found: Survey, device: str | None) -> str:
    """Return the file's text; `device` is the key of the card that the person who asks has named."""
    parts = [HEAD, *_launches(found), "", *_device(found, device), "", *_guard(), "", *_plan(found)]
    return "\n".join([*parts, "", *_flags(found), "", *_policy()]) + "\n"


def _launches(found: Survey) -> Iterator[str]:
    yield f"# Launches read: {len(found.launches)}."
    for launch in found.launches:
        yield f"#   {launch.where}  {_short(launch.line)}"
    for where, reason in found.unread:
        yield f"#   {where}  not read: {_short(reason)}"


def _device(found: Survey, device: str | None) -> Iterator[str]:
    if device is not None:
        yield f"device = {json.dumps(device)}"
        return
    asked = dict.fromkeys(name for _, name in found.gpus)
    if asked:
        places = ", ".join(f"{where} asks for {name}" for where, name in found.gpus[:3])
        yield f'# device = "a100-sxm-80"  # {_short(places)}; which card that is, only its site knows'
    else:
        yield '# device = "h100-sxm-80"  # nothing in the repository names a GPU; `preflight gpus` lists the keys'


def _guard() -> Iterator[str]:
    yield '# guard = "warn"  # off: an installed preflight stays silent when a launcher is started without it'


def _plan(found: Survey) -> Iterator[str]:
    yield "[plan]"
    for name in ASKED:
        values = {
            getattr(launch.plan, name): launch
            for launch in found.launches
            if getattr(launch.plan, name) is not None
        }
        unknown = [launch for launch in found.launches if getattr(launch.plan, name) is None]
        if len(values) == 1:
            value, launch = next(iter(values.items()))
            origin = launch.plan.origins.get(name)
            said = "assumed" if origin is not None and origin.assumed else "said"
            where = origin.where if origin is not None else ""
            reason = f"{said} by {launch.where} ({where})" if where else f"of {launch.where}"
            mark = "" if unknown and said == "said" else "# "
            yield f"{mark}{name} = {json.dumps(value)}  # {_short(reason)}"
        elif values:
            listed = ", ".join(f"{value} ({launch.where})" for value, launch in values.items())
            yield f"# {name} = {EXAMPLES[name]}  # launches differ: {_short(listed)}"
        else:
            yield f"# {name} = {EXAMPLES[name]}  # {_short(_why(name, unknown))}"


def _why(name: str, launches: list[Launch]) -> str:
    for launch in launches:
        for problem in launch.plan.notices:
            if name in problem.message and problem.where:
                return f"{problem.where}: {problem.message}"
    return "no launch says it" if launches else "no launch was found"


def _flags(found: Survey) -> Iterator[str]:
    """Yield the scripts' own flags that stand for a plan field, where their names do not tell."""
    yield "[flags]"
    told: dict[str, tuple[str, str]] = {}
    for launch in found.launches:
        command, script = launch.plan.command, launch.plan.script_facts
        if command is None or script.index is None:
            continue
        for field, flag in script.flags.items():
            plain = flag.rstrip("?")
            argument = DECLARABLE.get(field)
            if argument is not None and plain not in SPELLINGS.get(argument, (argument,)):
                name = command.argv[script.index]
                told.setdefault(plain, (field, f"{name} hands it on as {argument}"))
    for flag, (field, reason) in told.items():
        yield f"{json.dumps('--' + flag)} = {json.dumps(field)}  # {_short(reason)}"
    if not told:
        yield '# "--bs" = "micro_batch_size"  # a flag of your own scripts whose name preflight does not know'


def _policy() -> Iterator[str]:
    yield "[policy]"
    yield '# refuse = ["does_not_fit", "tight"]  # by default only does_not_fit refuses'


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 110 else f"{text[:107]}..."
