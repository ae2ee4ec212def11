"""Run axolotl's scattermoe over packed experts on the CPU, forward and backward, and print a row of what was alive.

Run where triton, bitsandbytes and axolotl's package (0.18.0; its folder is the one argument) are to be had:
    PYTHONPATH=ROOT/tests/formulas TRITON_INTERPRET=1 python ROOT/tests/formulas/scattered_steps.py FOLDER > scattered_steps.jsonl
No kernel is run: all that they write to is made by the functions that call them.
"""

from __future__ import annotations

import json
import logging
import sys
from types import ModuleType
from typing import Any

import torch
from allocations import Allocations

PACKAGES = ("axolotl", "axolotl.integrations", "axolotl.integrations.kernels", "axolotl.integrations.kernels.libs", "axolotl.utils")  # fmt: skip
LIBRARY = "axolotl.integrations.kernels.libs.scattermoe_lora"
CASES = [
    {"hidden": 256, "inner": 128, "experts": 16, "rank": 2, "tokens": 16, "chosen": 2},
    {"hidden": 256, "inner": 128, "experts": 16, "rank": 16, "tokens": 16, "chosen": 2},
    {"hidden": 256, "inner": 512, "experts": 16, "rank": 64, "tokens": 16, "chosen": 2},
    {"hidden": 64, "inner": 32, "experts": 4, "rank": 1, "tokens": 2048, "chosen": 2},
    {"hidden": 64, "inner": 128, "experts": 4, "rank": 1, "tokens": 2048, "chosen": 2},
    {"hidden": 128, "inner": 64, "experts": 8, "rank": 8, "tokens": 512, "chosen": 4},
    {"hidden": 128, "inner": 64, "experts": 64, "rank": 8, "tokens": 2048, "chosen": 8},
]


def take_part(folder: str) -> None:
    """Make the packages above scattermoe's importable without all that they import."""
    for name in PACKAGES:
        sys.modules[name] = package = ModuleType(name)
        package.__path__ = [f"{folder}/{name.partition('.')[2].replace('.', '/')}"]
    logger: Any = ModuleType("axolotl.utils.logging")
    logger.get_logger = logging.getLogger
    sys.modules["axolotl.utils.logging"] = logger


def run_no_kernels() -> None:
    """Leave out every kernel of Triton's."""
    from triton.runtime.autotuner import Autotuner, Heuristics
    from triton.runtime.interpreter import GridExecutor, InterpretedFunction

    for kind, name in (
        (Autotuner, "run"),
        (Heuristics, "run"),
        (InterpretedFunction, "run"),
        (GridExecutor, "__call__"),
    ):
        setattr(kind, name, lambda *args, **kwargs: None)


class Experts(torch.nn.Module):
    """Packed stacks, as a model's own experts hold them."""

    def __init__(self, case: dict[str, int]) -> None:
        from bitsandbytes.nn.parametrize import replace_parameter_4bit

        super().__init__()
        self.num_experts, hidden, inner = case["experts"], case["hidden"], case["inner"]
        self.hidden_dim, self.intermediate_dim = hidden, inner
        for name, shape in (("gate_up_proj", (2 * inner, hidden)), ("down_proj", (hidden, inner))):
            stack = torch.randn(self.num_experts, *shape).bfloat16()
            setattr(self, name, torch.nn.Parameter(stack, requires_grad=False))
            replace_parameter_4bit(self, name, compress_statistics=True)
        self.act_fn = torch.nn.SiLU()


def counted(case: dict[str, int]) -> dict[str, int]:
    """Return the most that is alive both ways, beside what is there before."""
    from importlib import import_module

    run = import_module(f"{LIBRARY}.experts").scattermoe_experts_forward
    in_its_order = import_module(f"{LIBRARY}.layers").peft_lora_to_scattermoe
    experts, number, rank = Experts(case), case["experts"], case["rank"]
    pairs = {}
    for name, outputs, inputs in (
        ("gate_up_proj", 2 * case["inner"], case["hidden"]),
        ("down_proj", case["hidden"], case["inner"]),
    ):
        first = torch.nn.Parameter(torch.randn(rank * number, inputs))
        pairs[name] = first, torch.nn.Parameter(torch.randn(outputs, rank * number))
    rows = torch.randn(case["tokens"], case["hidden"]).bfloat16().requires_grad_()
    places = [torch.randperm(number)[: case["chosen"]] for _ in range(case["tokens"])]
    weights = torch.rand(case["tokens"], case["chosen"])
    seen = Allocations()
    with seen:
        for tensor in (*experts.parameters(), *(t for pair in pairs.values() for t in pair), rows):
            seen.track(tensor)
        before = seen.now
        seen.mark("forward")
        experts._scattermoe_lora = {
            name: (*in_its_order(*(t.to(rows.dtype) for t in pair), number, rank), 1.0)
            for name, pair in pairs.items()
        }
        found = run(experts, rows, torch.stack(places), weights)
        experts._scattermoe_lora = None
        seen.mark("backward")
        found.float().sum().backward()
    return {part: seen.peaks[part] - before for part in ("forward", "backward")}


def main() -> None:
    """Print a row for each case."""
    take_part(sys.argv[1])
    run_no_kernels()
    for case in CASES:
        print(json.dumps({**case, "peaks": counted(case)}), flush=True)


if __name__ == "__main__":
    main()
