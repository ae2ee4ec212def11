"""Help text on a terminal that is narrower than it was written for."""

from __future__ import annotations

from preflight.lazy_pattern import lazy_pattern
from preflight.render.page import Page
from preflight.render.terminal import is_typed

COLUMNS = lazy_pattern(r"^( +\S.*?)( {2,})(\S.*)$")


def fitted(text: str, width: int) -> str:
    """Return help text for a terminal: paragraphs are filled again, what explains a word goes beside or below it.

    What is typed (an indented line) is never broken: it may be copied.
    """
    if all(len(line) <= width for line in text.splitlines()):
        return text
    page, lines, paragraph = Page(width), [], ""
    for line in text.splitlines():
        if line and not line.startswith(" ") and not line.endswith(":"):
            if line.startswith(("usage: ", "exit: ")) and paragraph:
                lines += page.wrap(paragraph)
                paragraph = ""
            paragraph = f"{paragraph} {line}".strip()
            continue
        if paragraph:
            lines += page.wrap(paragraph)
            paragraph = ""
        lines += [line] if len(line) <= width else _indented(line, page)
    return "\n".join([*lines, *(page.wrap(paragraph) if paragraph else [])]) + "\n"


def _indented(line: str, page: Page) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()))
    two = COLUMNS.match(line)
    if two is None:
        typed = is_typed(line.lstrip())
        return [line] if typed else page.wrap(line.lstrip(), indent, indent + "  ")
    column = len(two[1]) + len(two[2])
    if column <= page.width // 2:
        return page.wrap(two[3], two[1] + two[2], " " * column)
    return [two[1], *page.wrap(two[3], indent + "    ", indent + "    ")]
