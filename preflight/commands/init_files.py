"""Writing the files of `init`: all of them or none, and never over a file."""

from __future__ import annotations

import errno
import os

from preflight.errors import BadInput
from preflight.whole_file import write_whole


def write_files(folder: str, files: dict[str, str]) -> list[str]:
    """Write files that are not there; return their paths. Where one is there, nothing is written."""
    paths = [os.path.join(folder, name) for name in files]
    there = [path for path in paths if os.path.lexists(path)]
    if there:
        raise BadInput.one(
            f"{', '.join(there)} {'is' if len(there) == 1 else 'are'} there already, and no file is ever overwritten",
            fix="--output DIR writes elsewhere, --print shows what would be written",
        )
    written: list[str] = []
    try:
        for path, text in zip(paths, files.values(), strict=True):
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            write_whole(path, text, give_name=_name)
            written.append(path)
            if text.startswith("#!"):
                os.chmod(path, os.stat(path).st_mode | 0o111)
    except OSError as error:
        for done in written:
            os.unlink(done)
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "make room there" if is_full else ""
        raise BadInput.of(path, f"cannot be written: {error.strerror}", fix) from error
    return paths


def _name(draft: str, path: str) -> None:
    """Give a complete file its name, which nobody may have taken meanwhile."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        os.rename(draft, path)
