"""Reads the launches of a framework's manifest, and writes remedies into copies of their configs."""

from __future__ import annotations

import difflib
import pathlib
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import yaml

from preflight.launch import LaunchCommand, LaunchPlan
from preflight.rewrite import Rewrite
from preflight.rewriting import differing_fields, rewritten_command

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
EIGHT = {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}
Reader = Callable[[LaunchCommand], LaunchPlan | None]
Writer = Callable[[LaunchPlan, LaunchPlan], Rewrite | None]


@cache
def cases_of(framework: str) -> dict[str, dict[str, Any]]:
    """Return the cases of a framework's manifest."""
    text = (CONFIGS / framework / "manifest.yaml").read_text()
    cases: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return cases


def command_of(case: Mapping[str, Any], folder: pathlib.Path) -> LaunchCommand:
    """Return a case as it would be typed in `folder`."""
    return LaunchCommand(tuple(case["argv"].split()), case.get("env", EIGHT), str(folder))


def plan_of_words(
    hook: Callable[..., Any], words: str, folder: pathlib.Path, env: Mapping[str, str]
) -> LaunchPlan | None:
    """Return what a reader makes of words that are typed in a folder; None where it leaves them to others."""
    command = LaunchCommand(tuple(words.split()), env, str(folder))
    plan: LaunchPlan | None = hook(command=command)
    return plan


def plan_of_case(
    hook: Callable[..., Any], case: Mapping[str, Any], folder: pathlib.Path
) -> LaunchPlan:
    """Return what a reader makes of a case of its framework's manifest."""
    plan: LaunchPlan | None = hook(command=command_of(case, folder))
    assert plan is not None
    return plan


def said_plan(case: Mapping[str, Any], plan: LaunchPlan) -> dict[str, Any]:
    """Return the part of a plan that the case states, with nested values cut to what it states of them."""
    whole = plan.to_dict()
    found = {}
    for name, wanted in case["plan"].items():
        value = whole[name]
        if isinstance(wanted, Mapping) and isinstance(value, Mapping):
            value = {key: value[key] for key in wanted}
        found[name] = value
    return found


def unstated(case: Mapping[str, Any], plan: LaunchPlan) -> dict[str, Any]:
    """Return the fields of a plan that differ from an empty one and that the case does not state."""
    default, whole = LaunchPlan().to_dict(), plan.to_dict()
    left = {"versions", "trainer", "deepspeed"}  # what is installed, and DeepSpeed's own tests
    origin = plan.origins.get("vision")
    if origin is not None and origin.assumed:
        left.add("vision")  # a default that counts where the model has a tower (test_towers.py)
    return {
        name: value
        for name, value in whole.items()
        if value != default[name] and name not in case["plan"] and name not in left
    }


class Rewritten:
    """A launch of the corpus after edits, written and read again."""

    def __init__(
        self,
        folder: pathlib.Path,
        framework: str,
        read: Reader,
        write: Writer,
        case: Mapping[str, Any],
        edits: Mapping[str, Any],
    ) -> None:
        self.folder = folder / framework
        if not self.folder.exists():
            shutil.copytree(CONFIGS / framework, self.folder)
        command = command_of(case, self.folder)
        before = read(command)
        assert before is not None
        self.before, self.after = before, before.with_edits(edits)
        self.rewrite = write(self.before, self.after)
        self.command = command
        self._read = read

    @property
    def differing(self) -> tuple[str, ...]:
        """Fields of the written launch that are not as edited."""
        assert self.rewrite is not None, "nothing was written"
        again = self._read(rewritten_command(self.command, self.rewrite))
        assert again is not None
        return differing_fields(again, self.after, self.before)

    @property
    def changed_lines(self) -> list[str]:
        """Lines that the copies of the files lost (-) and gained (+)."""
        assert self.rewrite is not None
        lines = []
        for file in self.rewrite.files:
            old, new = file.before.splitlines(), file.after.splitlines()
            lines += [line for line in difflib.ndiff(old, new) if line[:1] in "-+"]
        return lines
