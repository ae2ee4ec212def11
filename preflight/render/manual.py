"""A manual page, reflowed to the terminal: paragraphs, and labels with their text beside them."""

from __future__ import annotations

import re

from preflight.lazy_pattern import lazy_pattern
from preflight.render.page import Page

_LABEL = lazy_pattern(r"\s*\S+(?: \S+)?  +(?=\S)")


def manual_lines(text: str, page: Page) -> list[str]:
    """Return a page with its lines broken anew; a label keeps its column, a blank line stays."""
    lines: list[str] = []
    item = ""
    hang = 0

    def finish() -> None:
        nonlocal item, hang
        if item:
            lines.extend(page.wrap(item, "  ", " " * (2 + hang)))
        item, hang = "", 0

    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        label = _LABEL.match(line)
        if not line.strip():
            finish()
            lines.append("")
        elif not item or label or indent < hang:
            finish()
            item, hang = line.rstrip(), len(label.group()) if label else indent
        else:
            item, hang = f"{item} {line.strip()}", max(hang, indent)
    finish()
    return lines


def summary_of(name: str, text: str) -> str:
    """Return the first sentence of a page, without the name that it may start with; of a finding, when it fires."""
    finding = re.match(rf"{re.escape(name)} [\w-]+ \(\w+\)\n\nWhen +(.*)", text)
    if finding is not None:
        return finding[1]
    paragraph = " ".join(text.partition("\n\n")[0].split())
    paragraph = re.sub(rf"^(PF\d{{3}}, )*{re.escape(name)}(, PF\d{{3}})*: ", "", paragraph)
    return re.split(r"(?<! al)\.(?: (?=[A-Z])|$)", paragraph)[0]


def index_lines(pages: dict[str, str], page: Page) -> list[str]:
    """Return a line or two per page: its name and its first sentence."""
    width = max(map(len, pages), default=0)
    if page.width < 2 * width + 12:
        return page.table([[name, summary] for name, summary in pages.items()])
    longest_word = max((len(w) for text in pages.values() for w in text.split()), default=0)
    is_beside = width + 4 + longest_word <= page.width
    lines = []
    for name, summary in pages.items():
        if is_beside:
            lines += page.wrap(summary, f"  {name.ljust(width)}  ", " " * (width + 4))
        else:
            lines += [f"  {name}", *page.wrap(summary, "  ", "  ")]
    return lines
