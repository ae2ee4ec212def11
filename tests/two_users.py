"""Two plain users beside root, for tests of what one may do to the other: real processes, real owners of real files.

Their numbers are in no passwd file, as users of a directory service that does not answer are not. A process
of theirs may read everything, because the Python of a test may lie below a home of root's; it writes and owns as
its user does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

VICTIM, ATTACKER, ROOT = 64001, 64002, 0

MARK_RUN = "import os; open({folder!r} + '/ran-as-%d' % os.geteuid(), 'w').close()\n"
"""Python that leaves a file where somebody's process ran it."""


def missing() -> str:
    """Return why this machine cannot have two users; nothing where it can."""
    if os.geteuid() != 0:
        return "pytest does not run as root, and only root can be two other users"
    return "" if shutil.which("setpriv") else "there is no setpriv (util-linux)"


class Machine:
    """A folder that everybody may enter, with a home for each user and a place that everybody may write."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.chmod(0o755)
        self.scratch = self.folder(ROOT, "scratch", 0o1777)
        self.marks = self.folder(ROOT, "marks", 0o1777)
        self.homes = {user: self.folder(user, f"home-{user}", 0o755) for user in (VICTIM, ATTACKER)}

    def folder(self, owner: int, name: str | Path, mode: int = 0o755) -> Path:
        """Make a folder, and give it to a user."""
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        os.chown(path, owner, owner)
        return path

    def write(self, owner: int, path: Path, text: str, mode: int = 0o644) -> Path:
        """Write a file, and give it to a user."""
        path.write_text(text)
        path.chmod(mode)
        os.chown(path, owner, owner)
        return path

    @property
    def hostile_code(self) -> str:
        """Python that tells on itself wherever it is imported."""
        return MARK_RUN.format(folder=str(self.marks))

    @property
    def ran_as(self) -> list[str]:
        """Who ran the hostile code."""
        return sorted(path.name for path in self.marks.iterdir())

    def run(
        self, user: int, *argv: str, cwd: Path, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as a user."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFLIGHT")}
        home = "/root" if user == ROOT else str(self.homes[user])
        own = {"HOME": home, "XDG_CONFIG_HOME": f"{home}/.config", "COLUMNS": "200"}
        caps = "+dac_read_search"
        become = [] if user == ROOT else ["setpriv", f"--reuid={user}", f"--regid={user}"]
        if become:
            become += ["--clear-groups", f"--inh-caps={caps}", f"--ambient-caps={caps}", "--"]
        return subprocess.run(
            [*become, *argv],
            cwd=cwd,
            env={**kept, "PYTHONDONTWRITEBYTECODE": "1", **own, **variables},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=180,
        )

    def preflight(
        self, user: int, *args: str, cwd: Path, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run our command as a user."""
        return self.run(user, sys.executable, "-m", "preflight.cli", *args, cwd=cwd, **variables)
