"""What a type's small model shows when it is run: who gets gradients, which switches change its bytes, who is adapted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.derive.type_configs import config_fields, small_type_config
from preflight.trace.built import torch_dtype
from preflight.trace.job import TraceJob
from preflight.trace.run import trace


def adapts_experts(model_type: str) -> bool:
    """Tell whether PEFT's all-linear puts adapters on fused stacks of experts."""
    from preflight.trace.build import build

    adapter = {
        "kind": "lora", "rank": 8, "alpha": 16, "dropout": 0.0, "targets": "all-linear", "modules_to_save": None,
    }  # fmt: skip
    try:
        built = build(TraceJob(small_type_config(model_type), adapter=adapter, full_depth=True))
    except Exception:
        return False
    return any(
        "lora_A" in name
        and parameter.dim() == 2
        and ".experts." in name
        and ".experts.0." not in name
        for name, parameter in built.model.named_parameters()
    )


def mark_idle(model_type: str, table: Mapping[str, Any]) -> None:
    """Flag the parameters that get no gradient from text: a decoder's attention to an encoder, an indexer."""
    config = small_type_config(model_type)
    idle = {name for name, has_gradient in gradients_of(config).items() if not has_gradient}
    prefix = f"{table['prefix']}."
    in_layers = {
        name.removeprefix(prefix).partition(".")[2] for name in idle if name.startswith(prefix)
    }
    for row in (row for kind in table["kinds"] for row in kind["tensors"]):
        if row[0] in in_layers:
            row[3:4] = [(f"{row[3]} idle" if len(row) > 3 else "idle").strip()]
    for unit in table["body"]:
        for row in unit["tensors"]:
            if f"{unit['name']}.{row[0]}" in idle:
                row[3:4] = [(f"{row[3]} idle" if len(row) > 3 else "idle").strip()]


def gradients_of(config: Mapping[str, Any]) -> dict[str, bool]:
    """Return of every parameter whether a step makes a gradient of it; nothing where the model cannot be run."""
    from contextlib import nullcontext

    from preflight.trace.autocast import EmulatedAutocast
    from preflight.trace.build import build
    from preflight.trace.log import AllocationLog
    from preflight.trace.patches import like_cuda
    from preflight.trace.recorder import Recorder, recording
    from preflight.trace.step import run_steps

    job = TraceJob(config, micro_batch_size=2, seq_len=192, full_depth=True)
    found: dict[str, bool] = {}
    try:
        built = build(job)
        recorder = Recorder(AllocationLog(), "meta")
        recorder.answers = {"all": True, "any": False}

        def stepping(step: int) -> None:
            for name, parameter in built.model.named_parameters():
                found[name] = parameter.grad is not None

        with like_cuda(False, EmulatedAutocast(torch_dtype("bf16"), recorder)), recording(recorder):
            run_steps(job, built.model, built.layers, recorder, stepping, nullcontext, num_steps=1)
    except Exception:
        return {}
    return found


ENOUGH = 0.002
"""Of the peak of a small model: what a switch changes less is not asked for."""
NO_SWITCHES = ("tie_word_embeddings", "use_cache", "output_router_logits", "return_")


def traced_switches(model_type: str) -> dict[str, bool]:
    """Return the switches on which a layer's bytes depend, as the traces had them."""
    from transformers import CONFIG_MAPPING

    def peak(more: Mapping[str, Any]) -> int:
        config = small_type_config(model_type, 0, 3, more)
        job = TraceJob(config, micro_batch_size=2, seq_len=192, full_depth=True)
        return max(level.peak_bytes for level in trace(job, num_steps=1).levels)

    found = {}
    try:
        plain = peak({})
    except Exception:  # what three layers cannot be built of, or run
        return {}
    for name, default in config_fields(CONFIG_MAPPING[model_type]).items():
        if isinstance(default, bool) and not any(part in name for part in NO_SWITCHES):
            try:
                other = peak({name: not default})
            except Exception:
                other = 0
            if abs(other / plain - 1) > ENOUGH:
                found[name] = default
    return found
