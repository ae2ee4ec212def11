"""Jupyter notebooks read as scripts: the code of their cells, in order, with a place that names cell and line.

Source: nbformat 4, docs/format_description: `cells[].cell_type`, `cells[].source` (a text or a list of lines); nbformat 3
keeps them under `worksheets[].cells[].input`. A line that IPython runs and Python does not is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from preflight.lazy_pattern import lazy_pattern

ENDING = ".ipynb"
LINES_OF_CELL = 1000
"""Line 12 of cell 3 is line 3012 of the script: a number that every reader of scripts can carry."""
KEPT_MAGICS = ("%%time", "%%timeit", "%%capture", "%%prun")
"""Cell magics whose cell is Python all the same (IPython/core/magics/execution.py, 9.0)."""
MOST_MAGICS = 50
"""Lines of a cell for IPython that are looked at for an open bracket before them: each is a parse."""
_NOT_PYTHON = lazy_pattern(r"(\s*)(?:[%!?]|[\w.]+\?\s*$|[\w, ]+=\s*[%!])")


def is_notebook(path: str) -> bool:
    """Tell whether a path is that of a notebook."""
    return path.endswith(ENDING)


def source_of(text: str) -> str:
    """Return a notebook's code as one script; the text itself where it is no notebook, which no reader takes for Python."""
    import json  # a launch without a notebook imports nothing for it

    try:
        cells = list(_cells(json.loads(text)))
    except (ValueError, RecursionError):
        return text
    lines: list[str] = []
    for number, source in enumerate(cells, 1):
        lines += [""] * (number * LINES_OF_CELL - len(lines))
        lines += _python_lines(source)
    return "\n".join([*lines, ""])


def place_of(path: str, line: int) -> str:
    """Return `path:line`, for a notebook `path:cell:line`: cells of code are counted from 1."""
    if not is_notebook(path):
        return f"{path}:{line}"
    return f"{path}:{line // LINES_OF_CELL}:{line % LINES_OF_CELL}"


def _cells(notebook: Any) -> Iterator[str]:
    """Yield the code of every cell that holds any; nothing of what has another shape."""
    if not isinstance(notebook, dict) or not {"cells", "worksheets"} & notebook.keys():
        raise ValueError("not a notebook")
    for sheet in _listed(notebook.get("worksheets")) or [notebook]:
        for cell in _listed(sheet.get("cells")):
            if cell.get("cell_type") == "code":
                source = cell.get("source", cell.get("input"))
                yield "".join(map(str, source)) if isinstance(source, list) else str(source or "")


def _listed(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _python_lines(source: str) -> list[str]:
    lines = source.splitlines()
    if lines and lines[0].startswith("%%"):
        if not lines[0].startswith(KEPT_MAGICS):
            return []  # another language, or another process
        lines[0] = ""
    if _syntax_error(lines) is None:
        return lines  # a line of Python may start with `%` too
    magics = 0
    for at, line in enumerate(lines):
        if not _NOT_PYTHON.match(line):
            continue
        magics += 1
        if magics > MOST_MAGICS or not _is_open(lines[:at]):
            lines[at] = _python_line(line)
    return lines


def _is_open(lines: list[str]) -> bool:
    """Tell whether a bracket or a text of several lines is still open at the end of some lines."""
    error = _syntax_error(lines)
    return error is not None and ("never closed" in error or "unterminated" in error)


def _syntax_error(lines: list[str]) -> str | None:
    import ast

    try:
        ast.parse("\n".join(lines))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return str(error)
    return None


def _python_line(line: str) -> str:
    """Return a line as Python reads it: what the shell or IPython is told does nothing here."""
    match = _NOT_PYTHON.match(line)
    return f"{match[1]}pass" if match else line
