"""docs/upgrading.md and docs/data.md name commands, files and boundaries that exist, and leave none out."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path, PurePosixPath

import pytest

from preflight.derive.__main__ import names_of_everything, parsed
from preflight.derive.expected import updating_tests
from preflight.derive.targets import TABLES, TARGETS

ROOT = Path(__file__).parents[2]
UPGRADING = (ROOT / "docs" / "upgrading.md").read_text()
DATA = (ROOT / "docs" / "data.md").read_text()
COMMANDS = re.findall(r"python -m (preflight\.derive[\w.]*)([^`\n]*)", UPGRADING)


@pytest.mark.parametrize(("module", "words"), COMMANDS)
def test_a_command_of_the_page_exists_with_its_words(module, words):
    assert importlib.util.find_spec(module) is not None
    names = words.split()
    if module == "preflight.derive":
        names = parsed(names).names
    assert set(names) <= set(names_of_everything(updating_tests()))


def test_the_page_teaches_every_step_of_the_command():
    words = {word for _, words in COMMANDS for word in words.split()}

    assert {"--rules", "--check", "pages", "expected", "costs"} <= words
    for target in TARGETS:
        if target.group == TABLES:
            assert f"`{target.name}`" in UPGRADING or target.name in words, target.name


@pytest.mark.parametrize("page", [UPGRADING, DATA], ids=["upgrading", "data"])
def test_every_file_that_a_page_names_is_there(page):
    named = set(re.findall(r"`((?:preflight|tests|docs)/[\w./*-]+)`", page))
    named |= set(re.findall(r"(?:^| )((?:preflight|tests)/[\w./]+)$", page, re.M))

    assert len(named) > 5
    assert [name for name in named if not list(ROOT.glob(name.rstrip("/")))] == []


def test_the_boundary_on_the_page_is_the_one_that_holds():
    from preflight.versions.transformers import WEIGHS_TOKENS

    (block,) = re.findall(r"^```python\n(.*?)^```", UPGRADING, re.M | re.S)
    shown: dict[str, object] = {}
    exec(block, shown)

    assert shown["WEIGHS_TOKENS"] == WEIGHS_TOKENS


def test_every_library_with_boundaries_is_on_the_page():
    modules = {path.stem for path in (ROOT / "preflight" / "versions").glob("*.py")}
    for name in modules - {"__init__", "boundary", "days", "installed"}:
        assert f"`preflight/versions/{name}.py`" in UPGRADING, name


def test_every_data_file_is_on_its_page_with_what_makes_it():
    rows = re.findall(r"^\| `(preflight/\S+)` \| .* \| (.*) \|$", DATA, re.M)
    makers = {target.files: f"`{target.name}`" for target in TARGETS if target.group == TABLES}
    for path in (ROOT / "preflight").rglob("*"):
        name = path.relative_to(ROOT).as_posix()
        if path.suffix not in (".json", ".tsv") or not path.is_file():
            continue
        of_page = _of_nearest(name, dict(rows))
        assert of_page and of_page == (_of_nearest(name, makers) or of_page), name
    assert set(makers) <= {row for row, _ in rows}


def _of_nearest(name: str, makers: dict[str, str]) -> str:
    """Return the maker of the pattern that says most of a file's name; empty where none fits."""
    fitting = [pattern for pattern in makers if PurePosixPath(name).match(pattern)]
    nearest = max(fitting, key=lambda pattern: len(pattern.replace("*", "")), default=None)
    return "" if nearest is None else makers[nearest]
