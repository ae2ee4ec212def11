"""Writing the files of `init`: all of them or none, and never over a file."""

from __future__ import annotations

import os

from preflight.errors import BadInput


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
            with open(path, "x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
            if text.startswith("#!"):
                os.chmod(path, os.stat(path).st_mode | 0o111)
    except OSError as error:
        for path in written:
            os.unlink(path)
        raise BadInput.one(f"cannot be written: {error.strerror}", error.filename) from error
    return paths
