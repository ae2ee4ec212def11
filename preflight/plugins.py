"""Which plugins a launch is asked of, and where they are found.

Built-ins come first, then entry points of the group `preflight`, then a project's
`preflight_hooks.py`; the last is asked first, so a project beats an installed plugin, which beats
a built-in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache

from preflight.builtin_hooks import BUILTIN_HOOKS
from preflight.errors import BadInput
from preflight.plugin_manager import PluginManager
from preflight.trust import NotTrusted, read_trusted

ENTRY_POINT_GROUP = "preflight"
PROJECT_FILE = "preflight_hooks.py"


def load_plugins(
    project_dir: str | None = None,
    builtins: Iterable[str] = BUILTIN_HOOKS,
    project_files: Iterable[str] = (),
) -> PluginManager:
    """Return a manager with built-ins, installed entry points and the project's own hooks, checked.

    A project's file is imported only where it is the caller's alone (preflight/trust.py); another
    is named in `left_alone`.
    """
    manager = PluginManager()
    for name in builtins:
        manager.add_builtin(name)
    _load_entry_points(manager)
    if project_dir is not None:
        _load_project_file(manager, os.path.join(project_dir, PROJECT_FILE))
    for path in project_files:
        _load_project_file(manager, path)
    manager.check()
    return manager


def _load_entry_points(manager: PluginManager) -> None:
    if not _may_have_entry_points():
        return
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINT_GROUP):
        manager.register(manager.run(point.name, "import", point.load), point.name)


def _may_have_entry_points() -> bool:
    """Tell whether any installed distribution names our group, without importlib.metadata.

    Its import alone takes longer than the rest of a check; this reads the same small files.
    """
    for folder in dict.fromkeys(map(os.path.abspath, sys.path)):
        with suppress(OSError):
            if _names_our_group(folder, os.stat(folder).st_mtime_ns):
                return True
    return False


@lru_cache(maxsize=64)
def _names_our_group(folder: str, changed_ns: int) -> bool:
    """Tell whether a distribution of a folder does, as the folder was when it last changed."""
    header = f"[{ENTRY_POINT_GROUP}]".encode()
    try:
        names = os.listdir(folder)
    except NotADirectoryError:
        return True  # a zip file on the path: let importlib.metadata look into it
    for name in names:
        if name.endswith((".dist-info", ".egg-info")):
            with (
                suppress(OSError),
                open(os.path.join(folder, name, "entry_points.txt"), "rb") as file,
            ):
                if header in file.read():
                    return True
    return False


def _load_project_file(manager: PluginManager, path: str) -> None:
    if not os.path.isfile(path):
        return
    try:
        source = read_trusted(path)
    except NotTrusted as distrust:
        manager.left_alone += (str(distrust),)
        return
    except OSError as error:
        raise BadInput.of(path, f"cannot be read: {error.strerror}") from error
    import importlib.util

    spec = importlib.util.spec_from_file_location("preflight_project_hooks", path)
    if spec is None or spec.loader is None:
        raise BadInput.of(path, "cannot be imported as a Python module")
    module = importlib.util.module_from_spec(spec)
    # A check writes nothing, not even a bytecode folder beside the user's file.
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        # What was read, not what the loader would open now or find beside it as bytecode.
        manager.run(path, "import", lambda: exec(compile(source, path, "exec"), vars(module)))
    finally:
        sys.dont_write_bytecode = writes_bytecode
    manager.register(module, path)
