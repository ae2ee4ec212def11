"""What preflight prints names no page of the documentation that the reader does not have."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
from own_sources import own_trees

from preflight import documentation

ROOT = Path(__file__).parents[2]
PAGE = re.compile(r"\bdocs/[\w-]+\.md")


def printed_texts(tree: ast.Module) -> list[str]:
    """Return the texts of a module that are no docstrings."""
    silent = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent
    ]


def test_no_message_has_a_path_that_only_a_checkout_has():
    trees = {path: tree for path, tree in own_trees() if not path.startswith("preflight/derive/")}
    texts = {path: printed_texts(tree) for path, tree in trees.items()}
    named = {path: found for path, all_of in texts.items() if (found := PAGE.findall(str(all_of)))}

    assert named == {}, "preflight.documentation.page_of(NAME) says where a page is"
    assert len(texts) > 500


def test_a_checkout_an_installation_and_a_package_alone_each_say_what_is_there(
    monkeypatch, tmp_path
):
    installed = tmp_path / "share"
    installed.mkdir()
    monkeypatch.setattr(documentation, "INSTALLED", str(installed))
    in_checkout = documentation.page_of("repository")
    monkeypatch.setattr(documentation, "CHECKOUT", str(tmp_path / "no-docs"))
    alone = documentation.page_of("repository")
    (installed / "repository.md").write_text("# Settings\n")

    assert in_checkout == "docs/repository.md" and (ROOT / in_checkout).is_file()
    assert "/" not in alone and "repository.md" in alone
    assert documentation.page_of("repository") == str(installed / "repository.md")


@pytest.mark.parametrize("words", [("explain", "activation_checkpointing"), ("init", "--repo")])
def test_an_installed_preflight_names_pages_that_are_there(core_bin, tmp_path, words):
    (tmp_path / "train.sh").write_text("accelerate launch train.py\n")
    done = subprocess.run(
        [core_bin / "preflight", *words],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": str(core_bin), "COLUMNS": "1000"},
        capture_output=True,
        text=True,
        check=True,
    )
    pages = re.findall(r"[^\s()]*/[\w-]+\.md", done.stdout + done.stderr)

    assert pages and all(Path(page).is_file() for page in pages), done.stdout
