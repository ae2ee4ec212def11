"""torchtitan's graph trainer: which of its compile settings keep what, of a step that is traced whole and run node by node.

Source: experiments/graph_trainer (configs.py, trainer.py, passes.py, memory_policy.py) of torchtitan's main branch, August 2026.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from preflight.launchers.framework_keys import NotModelled
from preflight.launchers.torchtitan.degrees import TitanReader
from preflight.scripts.python.made_objects import FunctionReader, Made
from preflight.unpriced_names import CUDA_GRAPH, GRAPH_STEP

CONFIGS = "torchtitan/experiments/graph_trainer/configs.py"
OF_COMPILE = "GraphTrainerCompileConfig"
"""Class of the section `compile`, which has what graphs keep."""

POLICIES = {"default": "selective_op", "eager": "selective_op", "full": "full"}
"""memory_policy -> what the plan calls it; the first keeps every product of matrices, the second every other one."""
AS_IT_IS = {
    "enable_passes": True,
    "pass_pipeline": "default",
    "inductor_compilation": "regional",
    "enable_fsdp_dense_region_overlap": False,
    "enable_autoparallel": False,
    "ep_overlap.enabled": False,
}
"""Settings whose other values make another graph, which nobody counted."""
CHANGE_NOTHING = frozenset(
    {"cudagraph_pass", "insert_kernel_annotations_pass", "custom_codegen_pass"}
)
"""Passes without which the same tensors are alive; of every other one a graph may keep more."""


def under_graphs(functions: FunctionReader, made: Made, own: Mapping[str, Any]) -> Made | None:
    """Return the config that another one becomes under the graph trainer, whose `compile` begins anew; None where a checkout
    has a graph trainer of other settings, or none."""
    base = made.arguments[0] if made.arguments else None
    is_its = functions.imported(made.path, made.name) == CONFIGS
    if not (
        is_its and isinstance(base, Made) and own.keys() >= {"mode", "memory_policy", *AS_IT_IS}
    ):
        return None
    kept = {key: value for key, value in base.attributes.items() if key != "compile"}
    return replace(base, attributes={**kept, **made.attributes})


def read_graph_step(reader: TitanReader) -> None:
    """Put what the graph that a step is traced into keeps, and name what of it is bounded or not counted."""
    keys = reader.keys
    policy = reader.value("compile.memory_policy")
    at = reader.at("compile.memory_policy", policy)
    reader.put("activation_checkpointing", POLICIES.get(policy, "none"), "compile.memory_policy")
    others = list(_others(reader))
    for said in others:
        words = f"a graph trainer's {said}"
        keys.leave_out(NotModelled(f"{words} is not counted", words, "either"), at)
    if not others:
        message = "a step is traced as one graph, which is estimated as torchtitan's own trainer"
        keys.leave_out(NotModelled(message, GRAPH_STEP, "either"), at)
    if not reader.value("training.disable_cuda_graphs"):  # trainer.py:845 zero_grad
        reader.put("zero_grad_set_to_none", False, "training.disable_cuda_graphs")
    # Experts over ranks ask the host how many rows come, which no graph is captured with (cudagraph.py).
    is_captured = reader.degree("parallelism.expert_parallel_degree") == 1
    is_captured &= "cudagraph_pass" not in _disabled(reader)
    if is_captured and reader.value("compile.enable_passes"):
        message = "the graph of a step is captured, and the pool of it is not counted"
        keys.leave_out(NotModelled(message, CUDA_GRAPH, "more"), at)


def _disabled(reader: TitanReader) -> frozenset[str]:
    """Return the passes that do not run; words of one flag are separated by commas."""
    said = reader.value("compile.disable_passes") or ()
    return frozenset(said.split(",") if isinstance(said, str) else map(str, said))


def _others(reader: TitanReader) -> Iterator[str]:
    """Yield in words what of a graph nobody counted."""
    for key, usual in {"mode": "aot_fx_trace", **AS_IT_IS}.items():
        value = reader.value(f"compile.{key}")
        if value != usual:
            yield f"{key} {value}"
    policy = reader.value("compile.memory_policy")
    if policy not in POLICIES:
        yield f"memory_policy {policy}"
    for name in sorted(_disabled(reader) - CHANGE_NOTHING):
        yield f"graph without {name}"
    for degree in ("pipeline", "context"):
        if reader.degree(f"parallelism.{degree}_parallel_degree") > 1:
            yield f"{degree} parallelism"
