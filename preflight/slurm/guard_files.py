"""The two Lua files of the site guard: how they are made, put in place, taken away and looked at.

A site's own file is never overwritten: it stays where it is, or, with `--chain`, is kept beside ours under
another name and asked first. A file of ours is replaced by rename, and only by text that compiles.
"""

from __future__ import annotations

import os
import re
import shutil
import time

from preflight.errors import BadInput
from preflight.files import read_bytes, readable_text
from preflight.slurm.guard_text import POLICY_NAME, Settings, guard_text
from preflight.slurm.lua_syntax import NoLua, syntax_problem
from preflight.values import NamedTuple, dataclass
from preflight.whole_file import write_whole

POLICIES = ("off", "warn", "require")


class Part(NamedTuple):
    """One half of the guard."""

    name: str
    file: str
    """As Slurm calls it, beside slurm.conf."""
    setting: str
    value: str
    """The line of slurm.conf that switches it on."""
    pass_through: str
    """What stands in the file after it was uninstalled, while slurm.conf still asks for one."""


UNINSTALLED = "-- preflight: uninstalled."
PASS_THROUGH = UNINSTALLED + " Slurm needs this file while slurm.conf has {line}.\n"
PARTS = {
    "client": Part(
        "client",
        "cli_filter.lua",
        "CliFilterPlugins",
        "cli_filter/lua",
        "function slurm_cli_setup_defaults(options, early) return slurm.SUCCESS end\n"
        "function slurm_cli_pre_submit(options, component) return slurm.SUCCESS end\n"
        "function slurm_cli_post_submit(component, job_id, step_id) return slurm.SUCCESS end\n"
        "return slurm.SUCCESS\n",
    ),
    "controller": Part(
        "controller",
        "job_submit.lua",
        "JobSubmitPlugins",
        "lua",
        "function slurm_job_submit(job, partitions, uid) return slurm.SUCCESS end\n"
        "function slurm_job_modify(job, before, partitions, uid) return slurm.SUCCESS end\n"
        "return slurm.SUCCESS\n",
    ),
}
OURS = "-- preflight: "
"""How a file of ours begins."""


@dataclass(frozen=True)
class FileState:
    """What is in place of one half of the guard."""

    part: str
    path: str
    is_there: bool
    is_ours: bool
    """Whether it is a guard; one that was uninstalled lets everything pass."""
    is_chained: bool
    problem: str
    """Why Slurm could not load it; empty where it could, or where nobody can say."""
    is_switched_on: bool | None
    """Whether slurm.conf names it; None where there is no slurm.conf beside it."""
    policy: str
    """off, warn or require, of the controller."""


def default_folder() -> str:
    """Return the folder of slurm.conf."""
    return os.path.dirname(os.path.abspath(os.environ.get("SLURM_CONF") or "/etc/slurm/slurm.conf"))


def site_name(part: str) -> str:
    """Return the name under which a site's own file is kept beside ours."""
    return PARTS[part].file.replace(".lua", ".site.lua")


def install(part: str, folder: str, settings: Settings, chain: bool = False) -> str:
    """Put one half of the guard in place; return what was done. Raise BadInput where that is not to be done."""
    if not os.path.isdir(folder):
        raise BadInput.one(f"there is no folder {folder}", fix="the folder of slurm.conf")
    path = os.path.join(folder, PARTS[part].file)
    kept = os.path.join(folder, site_name(part))
    is_foreign = os.path.lexists(path) and not is_ours(path)
    if is_foreign and not chain:
        raise BadInput.one(
            f"{path} is the site's own and stays as it is",
            fix=f"--chain keeps it as {site_name(part)}, asked first, with the guard behind it",
        )
    if is_foreign and os.path.lexists(kept):
        raise BadInput.one(
            f"{path} is the site's own, and {kept} is there already", fix="move one of them away"
        )
    if is_foreign:
        problem = _compiled(_read(path), path)
        if problem:
            raise BadInput.one(f"{path} does not compile: {problem}", fix="mend it first")
    site_file = kept if is_foreign or os.path.lexists(kept) else None
    text = guard_text(PARTS[part].file, folder, settings, site_file)
    problem = _compiled(text, "the guard")
    if problem:  # a setting that Lua cannot have
        raise BadInput.one(f"the guard does not compile: {problem}", fix="another --python")
    if is_foreign:
        try:
            shutil.copy2(path, kept)  # and not moved: without a file Slurm stops every submission
        except OSError as error:
            raise BadInput.one(f"{kept} cannot be written: {error.strerror}") from error
    try:
        replace_file(path, text)
    except BaseException:
        if is_foreign:
            os.unlink(kept)
        raise
    return f"{path} written" + (
        f"; the site's own is {kept}, and is asked first" if site_file else ""
    )


def uninstall(part: str, folder: str) -> str:
    """Take one half of the guard away; return what was done. A file that Slurm still needs lets all pass."""
    path = os.path.join(folder, PARTS[part].file)
    kept = os.path.join(folder, site_name(part))
    if not os.path.lexists(path):
        return f"there is no {path}"
    if not is_ours(path):
        raise BadInput.one(f"{path} is not preflight's and stays as it is")
    if os.path.lexists(kept):
        replace_file(
            path, _read(kept)
        )  # and not renamed: its old time would hide it from slurmctld
        os.remove(kept)
        return f"{path} is the site's own again"
    if is_switched_on(part, folder) is not False:
        line = f"{PARTS[part].setting}={PARTS[part].value}"
        replace_file(path, PASS_THROUGH.format(line=line) + PARTS[part].pass_through)
        return f"{path} lets everything pass now; delete it after {line} is gone from slurm.conf"
    os.remove(path)
    return f"{path} removed"


def state(part: str, folder: str) -> FileState:
    """Return what is in place of one half of the guard."""
    path = os.path.join(folder, PARTS[part].file)
    is_there, problem = os.path.lexists(path), ""
    text = ""
    if is_there:
        try:
            text = _read(path)
            problem = syntax_problem(text) or ""
        except NoLua:
            pass
        except BadInput as error:
            problem = str(error)
    kept = os.path.join(folder, site_name(part))
    is_chained = os.path.lexists(kept) and text.startswith(OURS)
    if is_chained and not problem and part == "controller" and _is_newer(kept, path):
        problem = f"slurmctld has not seen that {kept} changed; touch {path}"
    return FileState(
        part,
        path,
        is_there,
        text.startswith(OURS) and not text.startswith(UNINSTALLED),
        is_chained,
        problem,
        is_switched_on(part, folder),
        policy(folder) if part == "controller" else "",
    )


def _is_newer(one: str, other: str) -> bool:
    try:
        return os.stat(one).st_mtime > os.stat(other).st_mtime
    except OSError:
        return False


def policy(folder: str) -> str:
    """Return what the controller does: off, warn or require; off where nobody decided, as job_submit.lua has it."""
    text = readable_text(os.path.join(folder, POLICY_NAME))
    word = re.match(r"\s*([A-Za-z]+)", text.partition("\n")[0])
    said = word.group(1) if word else "off"
    return said if said in POLICIES else "off"


def set_policy(folder: str, word: str) -> None:
    """Write the policy; the controller reads it at the next submission."""
    replace_file(os.path.join(folder, POLICY_NAME), f"{word}\n")


def is_switched_on(part: str, folder: str) -> bool | None:
    """Tell whether slurm.conf beside a guard names it; None where there is none that can be read."""
    try:
        text = read_bytes(os.path.join(folder, "slurm.conf")).decode("utf-8", "replace")
    except OSError:
        return None
    setting, value = PARTS[part].setting, PARTS[part].value
    lines = re.findall(rf"^[ \t]*{setting}[ \t]*=([^#\n]*)", text, re.MULTILINE | re.IGNORECASE)
    names = {name.strip().lower() for line in lines for name in line.split(",")}
    return bool(names & {value, f"job_submit/{value}", value.rpartition("/")[2]})


def is_ours(path: str) -> bool:
    """Tell whether a file is one that preflight wrote."""
    return _read(path).startswith(OURS)


def replace_file(path: str, text: str) -> None:
    """Write a file by rename, with the time of a second from now.

    slurmctld loads a file again whose time, in whole seconds, is after the last time that it loaded one
    (src/lua/slurm_lua.c, slurm_lua_loadscript, Slurm 24.11); that may be this very second.
    """
    before = os.stat(path).st_mtime if os.path.exists(path) else 0.0

    def name(draft: str, path: str) -> None:
        now = time.time()
        os.utime(draft, (now, max(now, before) + 1))
        os.replace(draft, path)

    try:
        write_whole(path, text, mode=0o644, is_synced=True, give_name=name)
    except OSError as error:
        raise BadInput.one(f"{path} cannot be written: {error.strerror}") from error


def _compiled(text: str, name: str) -> str | None:
    try:
        return syntax_problem(text)
    except NoLua as error:
        raise BadInput.one(
            f"nobody here can tell whether {name} compiles: {error}",
            fix="apt-get install lua5.1, or pip install lupa",
        ) from error


def _read(path: str) -> str:
    try:
        return read_bytes(path).decode("utf-8", "replace")
    except OSError as error:
        raise BadInput.one(f"{path} cannot be read: {error.strerror}") from error
