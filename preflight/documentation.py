"""Where a page of the documentation lies: beside the package in a checkout, in share/doc of an installation, or nowhere."""

from __future__ import annotations

import os
import sys

CHECKOUT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "docs")
INSTALLED = os.path.join(sys.prefix, "share", "doc", "launch-preflight")
"""What `data-files` of pyproject.toml says."""


def page_of(name: str) -> str:
    """Return the path of a page, `docs/NAME.md` in a checkout; words without a path where no file of it is there."""
    for folder in (CHECKOUT, INSTALLED):
        path = os.path.join(folder, f"{name}.md")
        if os.path.isfile(path):
            return f"docs/{name}.md" if folder == CHECKOUT else path
    return f"the page {name}.md of preflight's repository"
