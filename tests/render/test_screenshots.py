"""The pictures of pages in docs/images: taken by Chromium, and of the pages that are written today.

`pytest tests/render/test_screenshots.py --update-expected` takes them again; look at them before they are committed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import preflight

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
PAGES = IMAGES / "pages.json"
"""Page -> the digest of the HTML that its pictures show."""
FOLDERS = {"report": "examples/2-rewritten", "worksheet": "."}
COMMANDS = {
    "report": (ROOT / "examples/2-rewritten/command.sh").read_text(),
    "worksheet": "preflight size Qwen/Qwen3-8B",
}
SHOTS = {
    "report-wide": ("report", 1100, 2300),
    "report-narrow": ("report", 500, 2300),
    "worksheet": ("worksheet", 1100, 1500),
}
"""Picture -> its page, and width and height in pixels."""


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Path]:
    """Every page, as its command writes it in a folder of its own."""
    pages = {}
    for name, command in COMMANDS.items():
        place = tmp_path_factory.mktemp(name)
        folder = ROOT / FOLDERS[name]
        for path in (*folder.glob("*.yaml"), *folder.glob("train.py")):
            (place / path.name).write_text(path.read_text())
        words = re.sub(
            r"preflight (fix|size)",
            rf"'{sys.executable}' -m preflight \1 --report out.html",
            command,
        )
        env = {**os.environ, "XDG_CACHE_HOME": str(place / "cache")}  # no trace is kept there
        run = subprocess.run(
            ["bash", "-c", words], cwd=place, env=env, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        pages[name] = place / "out.html"
    return pages


def digest(path: Path) -> str:
    """Return what tells two pages apart, whatever versions are installed, wherever, and on which day."""
    text = path.read_text().replace(preflight.__version__, "VERSION")
    text = re.sub(r"Checked on \d{4}-\d\d-\d\d", "Checked on DAY", text)
    text = text.replace(str(path.parent), "FOLDER")
    for name in ("accelerate", "torch", "transformers"):
        text = text.replace(f"{name}: {version(name)}", f"{name}: VERSION")
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_pictures_are_of_the_pages_that_are_written_today(written, request):
    digests = {name: digest(path) for name, path in written.items()}
    if request.config.getoption("--update-expected"):
        browse = request.getfixturevalue("browse")
        IMAGES.mkdir(exist_ok=True)
        for shot, (page, width, height) in SHOTS.items():
            target = IMAGES / f"{shot}.png"
            browse(written[page], f"--window-size={width},{height}", f"--screenshot={target}")
        PAGES.write_text(json.dumps(digests, indent=2) + "\n")

    assert json.loads(PAGES.read_text()) == digests, "take the pictures again: --update-expected"


@pytest.mark.parametrize("shot", SHOTS)
def test_every_picture_is_as_large_as_said_and_shown_by_a_page(shot):
    _, width, height = SHOTS[shot]
    header = (IMAGES / f"{shot}.png").read_bytes()[:24]
    pages = [path.read_text() for path in ROOT.glob("docs/*.md")]

    assert struct.unpack(">II", header[16:24]) == (width, height)
    assert any(f"(images/{shot}.png)" in text for text in pages)
