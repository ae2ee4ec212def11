"""Asks the real litgpt what its command line makes of a launch; run by hand where litgpt is installed.

`python tests/launchers/ask_litgpt.py` writes for every case of tests/configs/litgpt/manifest.yaml either `refused`, with
the reason, or what litgpt's own parser settles on where it is no default. The table of preflight/launchers/litgpt is
written by `python -m preflight.derive litgpt`. Nothing is downloaded and no model is built.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from written_answers import fill

from preflight.derive.tables.litgpt_tables import ask

CASES = Path(__file__).parents[2] / "tests" / "configs" / "litgpt"


def changed(words: list[str]) -> dict[str, Any]:
    """Return what the parser settles on where it differs from the command's defaults, or why it refuses."""
    settled, defaults = ask(words), ask([words[0], "a/b"])
    return {key: value for key, value in settled.items() if defaults.get(key) != value}


def _own_words(argv: str) -> list[str]:
    words = argv.split()
    return words[words.index("litgpt") + 1 :]


def main() -> None:
    os.chdir(CASES)
    cases = yaml.safe_load((CASES / "manifest.yaml").read_text())
    asked = {name: changed(_own_words(case["argv"])) for name, case in cases.items()}
    (CASES / "asked.json").write_text(json.dumps(asked, indent=1, sort_keys=True) + "\n")
    fill(CASES, lambda case, words: ask(_own_words(words)))


if __name__ == "__main__":
    sys.exit(main())
