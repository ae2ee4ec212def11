"""What a type's small model shows when it is run: who gets gradients, which switches change its bytes, who is adapted."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from preflight.derive.layouts.changed_models import is_alike
from preflight.derive.layouts.observed_layouts import observe
from preflight.derive.layouts.small_models import small_config, small_launch
from preflight.derive.layouts.type_configs import config_fields, small_type_config
from preflight.model import LARGEST_FLASH_HEAD
from preflight.models import describe
from preflight.models.families.table_traces import HEAD_SIZES, WIDER, WINDOWS
from preflight.models.registry import all_models
from preflight.trace.built import torch_dtype
from preflight.trace.job import TraceJob, job_of
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


SHORTEST = 128
"""Of the sequences that are traced (cost_traces.py)."""


def is_windowed(model_type: str) -> bool:
    """Tell whether the window of a type's small models ends before any sequence that is traced does."""
    config = small_type_config(model_type)
    return any(isinstance(w := config.get(name), int) and 0 < w < SHORTEST for name in WINDOWS)


def has_windows(model_type: str) -> bool:
    """Tell whether some layers of a type look no further than a window."""
    spec = describe(small_type_config(model_type), model_type, "type_configs.py")
    return any(unit.layer and unit.layer.attention_kind == "sliding" for unit in spec.layers)


def large_heads(model_type: str) -> list[str]:
    """Return the head sizes of a type's small models that are more than flash attention takes."""
    config = small_type_config(model_type)
    return [
        name
        for name in HEAD_SIZES
        if isinstance(size := config.get(name), int) and size > LARGEST_FLASH_HEAD
    ]


def mark_idle(model_type: str, table: Mapping[str, Any]) -> None:
    """Flag the parameters that get no gradient from text: a decoder's attention to an encoder, an indexer."""
    for head, entry in table.get("heads", {}).items():
        _mark_idle(
            small_type_config(model_type, head=head), {**table, "kinds": (), "body": entry["body"]}
        )
    _mark_idle(small_type_config(model_type), table)


def mark_bare(model_type: str, table: Mapping[str, Any]) -> None:
    """Flag the weights that a type's layers read past their modules: an adapter on such a one gets no gradient.

    The type's table is already where it belongs, as it says what PEFT adapts.
    """
    spec = describe(small_config(model_type), model_type, "small_models.py")
    found = gradients_of(job_of(small_launch(model_type, "LoRA", False), spec, full_depth=True))
    bare = {
        f"{name.partition('.lora_')[0].partition('.layers.')[2].partition('.')[2]}.weight"
        for name, has_gradient in found.items()
        if ".lora_" in name and not has_gradient
    }
    for row in (row for kind in table["kinds"] for row in kind["tensors"]):
        if row[0] in bare and "idle" not in "".join(row[3:4]):
            row[3:4] = [(f"{row[3]} bare" if len(row) > 3 else "bare").strip()]


def _mark_idle(config: Mapping[str, Any], table: Mapping[str, Any]) -> None:
    job = TraceJob(config, micro_batch_size=2, seq_len=192, full_depth=True)
    idle = {name for name, has_gradient in gradients_of(job).items() if not has_gradient}
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


def gradients_of(job: TraceJob) -> dict[str, bool]:
    """Return of every parameter whether a step makes a gradient of it; nothing where it cannot be run."""
    from contextlib import nullcontext

    from preflight.trace.autocast import EmulatedAutocast
    from preflight.trace.build import build
    from preflight.trace.log import AllocationLog
    from preflight.trace.patches import like_cuda
    from preflight.trace.recorder import Recorder, recording
    from preflight.trace.step import run_steps

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


PROBES = {"int": 2, "float": 0.5, "bool": True}
"""What a field that is null is given to see whether it means anything, by what its class says it may be."""


def null_fields(
    model_type: str, names: Iterable[str]
) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Return of every field, null by itself, that means something the published values that are as good as null.

    First those on which parameters may depend, then those that change bytes alone. One with which a model has the
    same parameters, tables and peak, whatever it is given, means nothing, and is in neither.
    """
    from transformers import CONFIG_MAPPING

    kinds = {f.name: str(f.type) for f in dataclasses.fields(CONFIG_MAPPING[model_type])}
    sections = [s for e in all_models() for s in (e.config, e.config.get("text_config"))]
    configs = [s for s in sections if isinstance(s, Mapping) and s.get("model_type") == model_type]
    unset: dict[str, list[Any]] = {}
    untraced: dict[str, list[Any]] = {}
    for name in sorted(names):
        words = re.findall(r"\w+", kinds.get(name, ""))
        probes = [value for word, value in PROBES.items() if word in words]
        given = [c[name] for c in configs if c.get(name)]
        published = [v for i, v in enumerate(given) if v not in probes and v not in given[:i]]
        same = [value for value in (*probes, *published) if _is_like_null(model_type, name, value)]
        if probes and all(value in same for value in probes):
            continue
        tried = (*probes, *published)
        is_laid_out = bool(tried) and all(_keeps_layout(model_type, name, v) for v in tried)
        (untraced if is_laid_out else unset)[name] = [v for v in published if v in same]
    return unset, untraced


def _keeps_layout(model_type: str, name: str, value: Any) -> bool:
    try:
        plain, other = (
            observe(small_type_config(model_type, 0, 3, more)) for more in ({}, {name: value})
        )
    except Exception:  # what it cannot be built with decides parameters too
        return False
    return is_alike(other, plain)


def _is_like_null(model_type: str, name: str, value: Any) -> bool:
    if not _keeps_layout(model_type, name, value):
        return False
    try:
        return _peak(model_type, {name: value}) == _peak(model_type, {})
    except Exception:  # what cannot be run with it is something to it
        return False


def _peak(model_type: str, more: Mapping[str, Any]) -> int:
    config = small_type_config(model_type, 0, 3, more)
    job = TraceJob(config, micro_batch_size=2, seq_len=192, full_depth=True)
    return max(level.peak_bytes for level in trace(job, num_steps=1).levels)


def traced_switches(model_type: str) -> dict[str, bool]:
    """Return the switches on which a layer's bytes depend, as the traces had them."""
    from transformers import CONFIG_MAPPING

    found = {}
    try:
        plain = _peak(model_type, {})
    except Exception:  # what three layers cannot be built of, or run
        return {}
    given = small_type_config(model_type)
    for name, default in config_fields(CONFIG_MAPPING[model_type]).items():
        default = given.get(name, default)
        # of the one there is a head, and of the others layers have another width
        is_switch = isinstance(default, bool) and name not in ("is_decoder", *WIDER)
        if is_switch and not any(part in name for part in NO_SWITCHES):
            try:
                other = _peak(model_type, {name: not default})
            except Exception:
                other = 0
            if abs(other / plain - 1) > ENOUGH:
                found[name] = default
    return found


def default_of(model_type: str, name: str) -> Any:
    """Return what a type's config class has for a field where a config does not say."""
    from transformers import CONFIG_MAPPING

    return config_fields(CONFIG_MAPPING[model_type]).get(name)


def traced_nulls(model_type: str, table: Mapping[str, Any]) -> dict[str, bool]:
    """Return the fields without which layers have other tensors, and whether the traces had them."""
    given = small_type_config(model_type)
    rows = [row for kind in table["kinds"] for row in kind["tensors"] if len(row) > 4]
    names = re.findall(r"\['is', '(\w+)', None\]", str([row[4] for row in rows]))
    return {name: bool(given.get(name)) for name in sorted(set(names))}
