"""A launch as it was typed: words, environment and folder, and how its files are read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import field

from preflight.files import LAUNCH_BYTES, read_text
from preflight.notebooks import is_notebook, source_of
from preflight.plan_parts import LibraryVersion
from preflight.values import dataclass


@dataclass(frozen=True)
class LaunchCommand:
    """What would be started: argv, environment and folder, exactly as given."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "."
    """Of this machine."""
    overlay: Mapping[str, str] = field(default_factory=dict)
    """Absolute path -> text that stands in for the file: a rewrite is read again before it is written."""
    declared_flags: Mapping[str, str] = field(default_factory=dict)
    """A flag of the repository's own scripts, without dashes -> the plan field that it means."""
    versions: Mapping[str, LibraryVersion] = field(default_factory=dict)
    """Library -> the version that somebody says beside the command, which beats what is found."""
    in_container: bool = False
    """Whether it runs in an image, so that neither its files nor its libraries are those of this machine."""
    mounts: Mapping[str, str] = field(default_factory=dict)
    """Folder in the container -> the folder of this machine that lies there; both are absolute."""
    is_submitted: bool = False
    """Whether another program starts it, which may add to its words: the node's own rank, a meeting point."""
    num_ranks: int | None = None
    """What its launcher gives each rank as WORLD_SIZE: 0 where it starts one without it; None where nobody knows."""
    starts_here: bool = False
    """Whether it starts on this machine, so that the libraries that are found here are the ones it will have."""

    def resolve(self, path: str) -> str:
        """Return `path` as an absolute path of this machine, the way the launcher in `cwd` would find it."""
        path = os.path.expanduser(path)
        target, source = (_nearest(path, each) for each in (self.mounts, self.mounts.values()))
        if len(target) > len(source):  # else the path is one of this machine
            path = os.path.join(self.mounts[target], os.path.relpath(path, target))
        return os.path.normpath(os.path.join(os.path.abspath(self.cwd), path))

    def inside(self, path: str) -> str | None:
        """Return under which path the container has a file of this machine; None where no mount has it."""
        targets = {source: target for target, source in self.mounts.items()}
        source = _nearest(path, targets)
        if not source:
            return None
        return os.path.normpath(os.path.join(targets[source], os.path.relpath(path, source)))

    def script_file(self, word: str) -> str:
        """Return the file that a script's word means: a path as it is, and a module's name as Python finds it.

        A repository is installed as its packages lie, in its own folder or in `src`; a package stands for its
        `__main__`. A file that is nowhere is named as it would lie in the folder of the launch.
        """
        if word.endswith(".py") or self.exists(word):
            return word
        module = word.replace(".", "/")
        for folder in ("", "src"):
            for tail in (".py", "/__main__.py"):
                path = os.path.join(folder, module + tail)
                if self.exists(path):
                    return path
        return f"{module}.py"

    def named_script(self) -> str | None:
        """Return the first word that is the path of a Python file which is here; None where none is."""
        return next((w for w in self.argv if w.endswith(".py") and self.exists(w)), None)

    def exists(self, path: str) -> bool:
        """Tell whether a file is there, in the overlay or on disk."""
        absolute = self.resolve(path)
        return absolute in self.overlay or os.path.isfile(absolute)

    def read_text(self, path: str) -> str:
        """Return a file's text with its line ends unchanged; of a notebook, the code of its cells as a script.

        Raises OSError where the file cannot be read, UnicodeDecodeError where it is not UTF-8.
        """
        absolute = self.resolve(path)
        if absolute in self.overlay:
            return self.overlay[absolute]
        if is_notebook(absolute):  # outputs may be long
            return source_of(read_text(absolute))
        return read_text(absolute, LAUNCH_BYTES)

    def readable_text(self, path: str) -> str:
        """Return what read_text does; empty where a file cannot be read, or is not UTF-8."""
        try:
            return self.read_text(path)
        except (OSError, UnicodeDecodeError):
            return ""


def _nearest(path: str, folders: Iterable[str]) -> str:
    """Return the longest of some folders that has a path; empty where none has it."""
    above = [
        each for each in folders if os.path.isabs(path) and os.path.commonpath((each, path)) == each
    ]
    return max(above, key=len, default="")
