"""The files that a script reads and writes while it is followed: its own texts first, then regular files.

Nothing is written anywhere, and nothing is opened that is no regular file: opening a FIFO is seen by who
waits on its other side.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from preflight.files import open_regular
from preflight.shell.grammar.patterns import NoPattern, glob
from preflight.shell.grammar.text import Steps, Text, known, not_known

MOST_BYTES = 1 << 20
MOST_NAMES = 1_000
"""Of a folder; a pattern over a larger one stays as it is written."""
_NOT_OPENED = ("/proc/", "/sys/", "/dev/")


class Files:
    """Texts by absolute path."""

    def __init__(self, opens: bool) -> None:
        self.written: dict[str, Text] = {}
        self.folders: set[str] = set()
        """Made by the script."""
        self.opens = opens
        """Whether files of this machine are looked at."""
        self.pipes: dict[str, str] = {}
        """`/dev/fd/63` -> `<(...)` as written."""

    def pipe(self, raw: str, text: Text) -> str:
        """Keep the output of `<(...)`, and return the path that stands for it."""
        path = f"/dev/fd/{63 + len(self.pipes)}"
        self.pipes[path] = raw
        self.written[path] = text
        return path

    def read(self, path: str) -> Text | None:
        """Return a file's text; None where there is none to be read."""
        if path in self.written:
            return self.written[path]
        if not self.opens or path.startswith(_NOT_OPENED) or "\0" in path:
            return None
        try:
            with open_regular(path) as file:
                data = file.read(MOST_BYTES + 1)
        except OSError:
            return None
        if len(data) > MOST_BYTES:
            return not_known("a file that is too long")
        return known(data.decode("utf-8", "surrogateescape"))

    def write(self, path: str, text: Text, adds: bool) -> None:
        if path.startswith("/dev/"):
            return
        before = self.read(path) if adds else None
        self.written[path] = text if before is None else before + text

    def is_file(self, path: str) -> bool:
        return path in self.written or (self.opens and _safe(os.path.isfile, path))

    def is_folder(self, path: str) -> bool:
        return path in self.folders or (self.opens and _safe(os.path.isdir, path))

    def exists(self, path: str) -> bool:
        return self.is_file(path) or self.is_folder(path) or (self.opens and _safe(os.path.lexists, path))  # fmt: skip

    def matching(self, folder: str, pattern: str, steps: Steps) -> list[str]:
        """Return the paths that a pattern without quotes stands for, as it would spell them; none where there are none."""
        if not self.opens:
            return []
        found = [""] if not pattern.startswith("/") else ["/"]
        parts = [part for part in pattern.split("/") if part]
        for index, part in enumerate(parts):
            is_last = index == len(parts) - 1
            following: list[str] = []
            for base in found:
                for name in self._names(os.path.join(folder, base), part, steps):
                    path = base + name
                    absolute = os.path.join(folder, path)
                    if is_last and pattern.endswith("/"):
                        if self.is_folder(absolute):
                            following.append(path + "/")
                    elif is_last:
                        following.append(path)
                    elif self.is_folder(absolute):
                        following.append(path + "/")
            found = following
            if len(found) > MOST_NAMES:
                return []
        return sorted(found)

    def _names(self, folder: str, part: str, steps: Steps) -> Iterator[str]:
        if not set(part) & set("*?["):
            if self.exists(os.path.normpath(os.path.join(folder, part))):
                yield part
            return
        try:
            fits = glob([(part, False)])
        except NoPattern:
            return
        here = os.path.normpath(folder)
        own = [path for path in (*self.written, *self.folders) if os.path.dirname(path) == here]
        names = {os.path.basename(path) for path in own}
        try:
            with os.scandir(folder or ".") as entries:
                names |= {
                    entry.name for entry, _ in zip(entries, range(MOST_NAMES + 1), strict=False)
                }
        except (OSError, ValueError):
            pass
        if len(names) > MOST_NAMES:
            return
        for name in sorted(names):
            if (not name.startswith(".") or part.startswith(".")) and fits.fits(name, steps):
                yield name


def _safe(test: object, path: str) -> bool:
    try:
        return bool(test(path))  # type: ignore[operator]
    except (OSError, ValueError):
        return False
