"""What mkdocs does not know of docs/: its index is the navigation, and some links lead to files beside the folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
OUTSIDE = re.compile(r"\]\(\.\./((?:examples|hooks|templates)/[^)#]+)")
INDEX_LINE = re.compile(r"^- \[([^\]]+)\]\(([^)]+)\)", re.MULTILINE)


def inside(link: str) -> str:
    """Return where a page of the index stands on the site."""
    return link.removeprefix("../")


def title_of(link: str) -> str:
    """Return the heading of a page that the index names by its file."""
    text = (ROOT / "docs" / link).read_text(encoding="utf-8")
    return text.partition("\n")[0].removeprefix("# ")


def on_config(config: Any) -> Any:
    """Make the navigation of the index: its headings are sections."""
    index = Path(config.docs_dir, "README.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", index, flags=re.MULTILINE)[1:]
    config.nav = ["README.md"]
    for section in sections:
        heading, _, rest = section.partition("\n")
        config.nav.append({heading: [inside(link) for _, link in INDEX_LINE.findall(rest)]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the files beside docs/ that its pages link to."""
    pages = [file for file in files if file.is_documentation_page()]
    texts = [Path(file.abs_src_path).read_text(encoding="utf-8") for file in pages]
    for name in sorted({name for text in texts for name in OUTSIDE.findall(text)}):
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Any, **more: Any) -> str:
    """Lead links to where their files stand on the site."""
    if page.file.src_uri.partition("/")[0] in ("examples", "hooks"):
        markdown = markdown.replace("](../docs/", "](../").replace("](../../docs/", "](../../")
    if page.file.src_uri == "README.md":
        markdown = INDEX_LINE.sub(lambda line: f"- [{title_of(line[2])}]({line[2]})", markdown)
    return OUTSIDE.sub(r"](\1", markdown)
