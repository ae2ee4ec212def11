"""`init --repo`: a first preflight.toml from what can be read of the repository; never over a file that is there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from preflight.commands.init_files import write_files
from preflight.commands.init_survey import Launch, Survey
from preflight.commands.options import FITS
from preflight.commands.output import print_json, print_lines
from preflight.devices.gpu_table import card_key
from preflight.documentation import page_of
from preflight.errors import BadInput
from preflight.render.page import page_for
from preflight.render.report import left_alone_lines
from preflight.report import SCHEMA_VERSION
from preflight.repository.settings import OWN_FILE, check_repository, find_repository
from preflight.scripts.arguments.trainer_spellings import DECLARABLE, SPELLINGS
from preflight.streams import say


def write_settings(options: Any) -> int:
    """Write or print the first settings of a repository; return the exit code."""
    if not os.path.isdir(options.folder):
        raise BadInput.one(f"there is no folder {options.folder}")
    path = os.path.join(options.folder, OWN_FILE)
    if not options.print:
        _raise_if_there(path, options.folder)
    from preflight.commands.init_survey import survey

    found = survey(options.folder)
    device = options.gpu
    if device is not None and ":" not in device:
        device = card_key(device)
    text = settings_text(found, device)
    check_repository(text, path)
    left_alone: tuple[str, ...] = ()
    if not options.print:
        write_files(options.folder, {OWN_FILE: text})
        left_alone = find_repository(options.folder).left_alone
    if options.format == "json":
        read = [{"where": launch.where, "command": launch.line} for launch in found.launches]
        unread = [{"where": where, "reason": reason} for where, reason in found.unread]
        value = {"schema_version": SCHEMA_VERSION, "path": "" if options.print else path}
        print_json({**value, "text": text, "launches": read, "unread": unread}, sys.stdout)
        return FITS
    if options.print:
        say(text, sys.stdout)
        return FITS
    page = page_for(sys.stdout, options.color)
    num_launches = len(found.launches)
    lines = [
        f"preflight: wrote {path} from {num_launches} launch{'' if num_launches == 1 else 'es'}"
    ]
    for where, reason in found.unread:
        lines += page.wrap(f"{where} was not read: {reason}", "  ", "    ")
    lines += left_alone_lines(left_alone, page)
    lines += page.wrap(
        f"next: {'preflight scan' if device else 'name the GPU in it, as `device`'}; {page_of('repository')} has every key"
    )
    print_lines(lines, sys.stdout)
    return FITS


def _raise_if_there(path: str, folder: str) -> None:
    if os.path.lexists(path):
        fix = "--print shows what would be written"
        raise BadInput.of(path, "is there already, and is never overwritten", fix)
    there = find_repository(folder).path
    if there:
        raise BadInput.of(
            os.path.relpath(there),
            "has settings already, and one more file would hide them",
            "--print shows what would be written",
        )


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
