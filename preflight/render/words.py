"""Values in the words of a report: bytes against a capacity, phases, plan values, commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.device import DeviceSpec
from preflight.launch import LaunchPlan, plain
from preflight.memory import Phase
from preflight.printable import shell_word
from preflight.units import GIB, MIB, format_gib

NOT_STATED = "not stated"

PHASE_WORDS = {
    Phase.LOAD: "while the model loads",
    Phase.WEIGHT_SYNC: "while the engine gets the policy's weights",
    Phase.ROLLOUT: "in a rollout",
    Phase.SCORING: "while completions are scored",
    Phase.FORWARD: "in the first forward pass",
    Phase.LOSS: "at the loss of the first step",
    Phase.BACKWARD: "in the first backward pass",
    Phase.OPTIMIZER_STEP: "in the first optimizer step",
    Phase.SECOND_STEP: "in the second step",
    Phase.EVALUATION: "in evaluation",
    Phase.SAVE: "while a checkpoint is saved",
}


def of_capacity(num_bytes: int, capacity_bytes: int) -> str:
    """Write bytes against a capacity in one unit: `24.4 of 79.1 GiB`."""
    unit, name = (GIB, "GiB") if capacity_bytes >= GIB else (MIB, "MiB")
    return f"{num_bytes / unit:.1f} of {capacity_bytes / unit:.1f} {name}"


def amount(num_bytes: int, capacity_bytes: int | None) -> str:
    """Write bytes in the unit of the device they stand beside, so that a column has one unit."""
    if capacity_bytes is not None and capacity_bytes < GIB:
        return f"{num_bytes / MIB:.1f} MiB"
    return format_gib(num_bytes)


def devices(plan: LaunchPlan, device: DeviceSpec) -> str:
    """Write on what a launch runs: `8 x H100 80GB`, `16 x H100 80GB on 2 nodes`."""
    nodes = f" on {plan.num_nodes} nodes" if plan.num_nodes > 1 else ""
    ranks = plan.origins.get("world_size")
    number = (
        "an unknown number of" if ranks is not None and ranks.may_be else f"{plan.world_size} x"
    )
    return f"{number} {device.name}{nodes}"


def counted(number: int, noun: str) -> str:
    """Write a number of things: `1 card`, `3 cards`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def phase_name(phase: Phase) -> str:
    return phase.value.replace("_", " ")


def plan_value(plan: LaunchPlan, name: str) -> str:
    """Write a plan value, dotted names reaching into nested ones, as YAML would in one line."""
    value: Any = plan
    for part in name.split("."):
        value = getattr(value, part, None)
    return _written(plain(value))


def _written(value: Any) -> str:
    if value is None:
        return NOT_STATED
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(_written(item) for item in value)}]"
    if isinstance(value, dict):
        stated = [
            f"{key}: {_written(item)}" for key, item in value.items() if item not in (None, [])
        ]
        return "{" + ", ".join(stated) + "}" if stated else NOT_STATED
    return str(value)


def shell_command(argv: tuple[str, ...], env: Mapping[str, str]) -> str:
    """Write a command so that a shell runs it, variables first."""
    variables = [f"{name}={shell_word(value)}" for name, value in env.items()]
    return " ".join([*variables, *map(shell_word, argv)])
