"""`init --repo`: a first preflight.toml from what can be read of the repository; never over a file that is there."""

from __future__ import annotations

import os
import sys
from typing import Any

from preflight.commands.init_files import write_files
from preflight.commands.options import FITS
from preflight.commands.output import print_json, print_lines
from preflight.devices.gpu_table import card_key
from preflight.documentation import page_of
from preflight.errors import BadInput
from preflight.render.page import page_for
from preflight.render.report import left_alone_lines
from preflight.report import SCHEMA_VERSION
from preflight.repository.settings import OWN_FILE, check_repository, find_repository
from preflight.streams import say


def write_settings(options: Any) -> int:
    """Write or print the first settings of a repository; return the exit code."""
    if not os.path.isdir(options.folder):
        raise BadInput.one(f"there is no folder {options.folder}")
    path = os.path.join(options.folder, OWN_FILE)
    if not options.print:
        _raise_if_there(path, options.folder)
    from preflight.commands.init_survey import survey
    from preflight.commands.init_text import settings_text

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
