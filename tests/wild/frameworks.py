"""What launches of frameworks' own repositories are answered: a record of counts, and the table of docs/launchers.md made of it.

    python -m tests.wild.frameworks FOLDER_OF_CLONES [FRAMEWORK ...]    # check them, write the record and the table
    python -m tests.wild.frameworks                                     # write the table again

Of each repository 50 launches are checked at most, drawn evenly from all that it shows, each line once before any line
twice; where its documents, scripts and configs show fewer, scripts of its own that train when Python runs them follow.
The record holds counts and preflight's own words for what is missing, and nothing of the repositories but name and commit.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from tests.real_launchers.record import PAGE

from .checking import Answered, answers_to
from .extraction import Launch, launches_of, own_scripts

PATH = Path(__file__).with_name("frameworks.json")
DEVICE = "h100-sxm-80"
AT_MOST = 50
REASONS = 4
"""Of what is missing, the commonest."""
MARK = "frameworks"
FRAMEWORKS: Mapping[str, str] = {
    "ms-swift": "modelscope/ms-swift",
    "verl": "verl-project/verl",
    "OpenRLHF": "OpenRLHF/OpenRLHF",
    "NeMo Automodel": "NVIDIA-NeMo/Automodel",
    "prime-rl": "PrimeIntellect-ai/prime-rl",
    "torchtitan": "pytorch/torchtitan",
    "axolotl": "axolotl-ai-cloud/axolotl",
    "LLaMA-Factory": "hiyouga/LLaMA-Factory",
    "TRL": "huggingface/trl",
    "torchtune": "pytorch/torchtune",
    "litgpt": "Lightning-AI/litgpt",
    "oumi": "oumi-ai/oumi",
    "sentence-transformers": "UKPLab/sentence-transformers",
    "transformers' examples": "voidism/DoLa/transformers-4.28.1",
    "accelerate": "huggingface/accelerate",
    "PEFT": "huggingface/peft",
    "XTuner": "InternLM/xtuner",
    "Unsloth": "unslothai/unsloth",
}
"""Framework -> the repository whose clone, `owner+name`, shows how it is launched; a folder of it where it ships another's."""


def drawn(launches: Sequence[Launch], number: int) -> list[Launch]:
    """Return so many of the launches, evenly drawn; a line that shows several counts once while there are other lines."""
    first = list({launch.where: launch for launch in reversed(launches)}.values())[::-1]
    later = [launch for launch in launches if launch not in first]
    return _evenly(first, number) + _evenly(later, number - len(first))


def _evenly(launches: Sequence[Launch], number: int) -> list[Launch]:
    count = max(0, min(number, len(launches)))
    return [launches[index * len(launches) // count] for index in range(count)]


def shown_by(clone: Path) -> tuple[list[Launch], list[Launch]]:
    """Return the launches that a clone shows, and the scripts that train and that no launch of these starts."""
    launches = list(launches_of(clone))
    started = {Path(launch.folder, word) for launch in launches for word in launch.argv}
    rest = [one for one in own_scripts(clone) if Path(one.folder, one.argv[1]) not in started]
    return launches, rest


def reasons_of(answered: Answered) -> list[str]:
    """Return what an answer lacks, each in preflight's own words."""
    answer = answered.answer
    deciding = [name for name, one in (answer.get("open") or {}).items() if one["deciding"]]
    return [*(answer.get("missing") or ()), *deciding, *(answer.get("unpriced") or ())]


def counts(clone: Path) -> dict[str, Any]:
    """Return what the launches of one clone are answered, counted."""
    shown, rest = shown_by(clone)
    chosen = drawn(shown, AT_MOST)
    chosen += drawn(rest, AT_MOST - len(chosen))
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for answered in answers_to(chosen, DEVICE):
        outcomes[answered.outcome] += 1
        if answered.outcome == "unknown":
            reasons.update(dict.fromkeys(reasons_of(answered), 1))
    commonest = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:REASONS]
    return {
        "commit": commit_of(clone),
        "shown": len(shown) + len(rest),
        "outcomes": dict(sorted(outcomes.items())),
        "unknown_for": dict(commonest),
        "date": date.today().isoformat(),
    }


def commit_of(clone: Path) -> str:
    """Return the commit that a clone is at."""
    command = ("git", "-C", str(clone), "rev-parse", "HEAD")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def recorded() -> dict[str, Any]:
    """Return the record by framework."""
    return dict(json.loads(PATH.read_text()))


def table(record: Mapping[str, Any]) -> str:
    """Return the table of a record."""
    head = (
        "| framework | repository and commit | launches shown | checked | fits or tight | refused | exit 2 | unknown, and for what most |\n"
        "|---|---|--:|--:|--:|--:|--:|---|\n"
    )
    return head + "".join(row(name, record[name]) for name in FRAMEWORKS if name in record)


def row(name: str, one: Mapping[str, Any]) -> str:
    outcomes = Counter(one["outcomes"])
    unknown = outcomes["unknown"]
    words = ", ".join(f"{reason} {count}" for reason, count in one["unknown_for"].items())
    return (
        f"| {name} | {FRAMEWORKS[name]} {one['commit'][:8]} | {one['shown']} | {outcomes.total()}"
        f" | {outcomes['fits'] + outcomes['tight']} | {outcomes['does_not_fit']} | {outcomes['exit 2']}"
        f" | {unknown}{': ' if words else ''}{words} |\n"
    )


def write(record: Mapping[str, Any]) -> None:
    """Write the record, and its table into the page."""
    ordered = {name: record[name] for name in FRAMEWORKS if name in record}
    PATH.write_text(json.dumps(ordered, indent=1) + "\n")
    begin, end = f"<!-- {MARK} -->\n", f"<!-- end of {MARK} -->\n"
    before, _, behind = PAGE.read_text().partition(begin)
    PAGE.write_text(f"{before}{begin}{table(ordered)}{end}{behind.partition(end)[2]}")


def clone_of(repository: str, folder: Path) -> Path:
    """Return where a repository, or a folder of it, lies among the clones."""
    owner, name, *inner = repository.split("/")
    return Path(folder, f"{owner}+{name}", *inner).resolve()


def main(arguments: Sequence[str]) -> None:
    """Check the clones of a folder, keep what is recorded of frameworks that are not checked, and write the table."""
    record = recorded() if PATH.exists() else {}
    for folder in map(Path, arguments[:1]):
        for name in arguments[1:] or FRAMEWORKS:
            clone = clone_of(FRAMEWORKS[name], folder)
            if clone.is_dir():
                record[name] = counts(clone)
                print(row(name, record[name]), end="", flush=True)
                write(record)
    write(record)


if __name__ == "__main__":
    main(sys.argv[1:])
