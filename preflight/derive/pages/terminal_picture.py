"""docs/images/terminal.svg: what a check prints on a terminal, as the README shows it, run here and drawn line by line."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
from collections.abc import Iterator
from html import escape

from preflight.cli import main
from preflight.derive.target import ROOT, Files, Say
from preflight.lazy_pattern import lazy_pattern

PICTURE = "docs/images/terminal.svg"
EXAMPLE = "2-rewritten"
COLUMNS = 88
MOST_LINES = 28
LETTER, LINE, MARGIN = 8.43, 19, 16
"""Of a monospaced font of 14 pixels: the width of a letter, the height of a line, and the edge around them."""
INKS = {"31": "#ff7b72", "32": "#56d364", "33": "#e3b341", "1": "#ffffff"}
PAINTED = lazy_pattern(r"\x1b\[(\d+)m")


def files(say: Say) -> Files:
    """Yield the picture."""
    words = (ROOT / "examples" / EXAMPLE / "command.sh").read_text().partition("preflight ")[2]
    _, *typed = shlex.split(words.replace("\\\n", " "))
    printed = _printed(["check", "--color", "always", *typed])
    command = _cut("$ preflight check " + " ".join(typed[: typed.index("train.py") + 1]) + " ...")
    shown = [*command, *printed[:MOST_LINES]]
    yield PICTURE, svg(shown if len(printed) <= MOST_LINES else [*shown, "..."])


def _printed(words: list[str]) -> list[str]:
    """Return what a command prints in the example's folder, in lines, with its colors; an environment that is active is none of
    it."""
    out, folder, before = io.StringIO(), os.getcwd(), dict(os.environ)
    try:
        os.chdir(ROOT / "examples" / EXAMPLE)
        os.environ |= {"COLUMNS": str(COLUMNS), "PATH": os.defpath}
        with contextlib.redirect_stdout(out):
            main(words)
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(before)
    return [part for line in out.getvalue().splitlines() for part in _cut(line)]


def _cut(line: str) -> Iterator[str]:
    """Yield a line in pieces of the width, as a terminal shows the first and the last, which a pipe keeps whole."""
    while len(PAINTED.sub("", line)) > COLUMNS:
        at = line.rfind(" ", 0, COLUMNS)
        yield line[:at]
        line = "    " + line[at + 1 :]
    yield line


def svg(lines: list[str]) -> str:
    """Return lines as a picture; without a font of its own, so that letters are placed by their number."""
    width = round(COLUMNS * LETTER) + 2 * MARGIN
    height = len(lines) * LINE + 2 * MARGIN
    rows = [
        f'<text x="{MARGIN}" y="{MARGIN + (at + 1) * LINE - 5}" xml:space="preserve">{_row(line)}</text>'
        for at, line in enumerate(lines)
    ]
    font = "14px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
            "<title>A check of a launch that does not fit as written, and fits rewritten</title>",
            f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
            f'<g style="font: {font}" fill="#c9d1d9">',
            *rows,
            "</g></svg>",
            "",
        ]
    )


def _row(line: str) -> str:
    """Return the parts of a line, each in its color."""
    parts, ink = [], "0"
    for at, text in enumerate(PAINTED.split(line)):
        if at % 2:
            ink = text
        elif text:
            said = escape(text, quote=False)
            parts.append(f'<tspan fill="{INKS[ink]}">{said}</tspan>' if ink in INKS else said)
    return "".join(parts)
