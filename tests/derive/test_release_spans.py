"""What came with a release and what left with one, read of files of the shape that wheels have."""

from __future__ import annotations

from pathlib import Path

from preflight.derive.tables.release_spans import _came, _fields, _left, _types

RELEASES = ["0.9.0", "0.20.0", "0.21.0"]
BASE = "class TrainingArguments:\n    seed: int = 1\n    {more}\n"
SFT = "class SFTConfig(TrainingArguments):\n    {fields}\nclass SFTTrainer:\n    def __init__(self, {keywords}): ...\n"
SCRIPT = "class ScriptArguments:\n    {fields}\n"


def wheel(
    folder: Path, release: str, fields: str, keywords: str, script: str = "name: str"
) -> Path:
    package = folder / f"trl-{release}" / "trl"
    (package / "trainer").mkdir(parents=True)
    (package / "__init__.py").write_text("from .trainer import SFTConfig\nfrom os import path\n")
    text = SFT.format(fields=fields, keywords=keywords) + SCRIPT.format(fields=script)
    (package / "trainer" / "sft.py").write_text(text)
    return package


def read(folder: Path, *releases: tuple[str, ...]):
    packages = [
        wheel(folder, release, *parts) for release, parts in zip(RELEASES, releases, strict=True)
    ]
    return [_fields(each, "**/*.py") for each in packages]


def test_what_came_and_what_left(tmp_path):
    held = read(
        tmp_path,
        ("old: int\n    stays: int", "tokenizer"),
        ("new: int\n    stays: int", "tokenizer, more"),
        ("new: int\n    stays: int", "more"),
    )
    came, left = _came(held, RELEASES, "0.10.1", frozenset()), _left(held, RELEASES, frozenset())

    assert came["SFTConfig"] == {"new": "0.20.0"} and came["SFTTrainer"] == {"more": "0.20.0"}
    assert left["SFTConfig"] == {"old": "0.20.0"} and left["SFTTrainer"] == {"tokenizer": "0.21.0"}
    assert held[0]["import"] == {"SFTConfig"}  # what another package gives is none of its names


def test_what_only_moved_did_not_come(tmp_path):
    """From the script's class, from transformers' own, out of what a trainer took as it was, or back again."""
    held = read(
        tmp_path,
        ("back: int", "**keywords", "moved: int"),
        ("moved: int\n    bf16: bool", "named"),
        ("back: int\n    moved: int", "named"),
    )
    came = _came(held, RELEASES, "0.10.1", frozenset({"bf16"}))

    assert not came["SFTConfig"] and not came.get("SFTTrainer")


def test_nothing_came_with_the_oldest_release_that_a_launch_may_have(tmp_path):
    held = read(tmp_path, ("one: int", "a"), ("one: int\n    two: int", "a"), ("one: int", "a"))

    assert _came(held, RELEASES, "0.20.0", frozenset())["SFTConfig"] == {}
    assert _came(held, RELEASES, "0.9.0", frozenset())["SFTConfig"] == {"two": "0.20.0"}


def test_a_type_is_bounded_by_the_last_release_without_it(tmp_path):
    releases = ["4.40.0", "4.48.0", "4.50.0"]
    packages = {}
    for version in releases:
        package = packages[version] = tmp_path / version
        (package / "models" / "llama").mkdir(parents=True)
        (package / "models" / "llama" / "configuration_llama.py").write_text(
            'class LlamaConfig:\n    model_type = "llama"\n'
        )
    (packages["4.50.0"] / "models" / "new").mkdir()
    (packages["4.50.0"] / "models" / "new" / "configuration_new.py").write_text(
        'class NewTextConfig:\n    model_type: str = "new_text"\n'
    )

    assert _types(packages, releases) == {"new_text": "4.48.0"}
