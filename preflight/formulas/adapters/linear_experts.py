"""Experts as linear layers, one by one: what most mixtures were before transformers 5.0 stacked them.

bitsandbytes packs such experts, and their router where it is a linear layer; a loop runs one expert after the
other, so that a layer keeps less in passing than the grouped product of stacked experts does
(models/mixtral/modeling_mixtral.py MixtralSparseMoeBlock, 4.48.1 and 4.57.6).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from preflight.formulas.adapters.adapted_experts import OLD_NAMES, USUAL_NAMES
from preflight.formulas.precision import Precision
from preflight.launch import LaunchPlan
from preflight.model import EXPERTS, LINEAR, OTHER, ModelSpec, ModelUnit, ParameterTensor
from preflight.remembered import remembered
from preflight.values import replace
from preflight.versions.transformers import FUSES_EXPERTS

LINEAR_ROUTERS = frozenset({"mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "phimoe", "qwen3_next"})
"""Types whose router was torch's Linear too (modeling_*.py, 4.57.6)."""
LINEAR_EXPERTS = LINEAR_ROUTERS | {"deepseek_v2", "deepseek_v3", "glm4_moe"}
"""Types whose experts were modules; those of GPT-OSS, Llama 4, GraniteMoE and Qwen3-VL-MoE were always stacked."""
LOOPED_STACKS = frozenset({"gpt_oss"})
"""Types that took their stacked experts one by one in training (models/gpt_oss/modeling_gpt_oss.py GptOssExperts, 4.57.6)."""
FACT = "linear_experts"


def in_release(plan: LaunchPlan, model: ModelSpec) -> ModelSpec:
    """Return the model as a plan's release of transformers builds it."""
    if model.model_type not in LINEAR_EXPERTS or FUSES_EXPERTS.holds_in(plan.versions):
        return model
    return _with_linear_experts(model)


@remembered
def _with_linear_experts(model: ModelSpec) -> ModelSpec:
    units = tuple(_unstacked(model.model_type, unit) for unit in model.units)
    return replace(model, units=units, facts={**model.facts, FACT: True})


def _unstacked(model_type: str, unit: ModelUnit) -> ModelUnit:
    tensors: list[ParameterTensor] = []
    (gate, up), down = OLD_NAMES.get(model_type, USUAL_NAMES)
    for tensor in unit.tensors:
        path, _, name = tensor.name.rpartition(".")
        if tensor.kind == EXPERTS and len(tensor.shape) == 3:
            num_experts, rows, columns = tensor.shape
            names, rows = ((gate, up), rows // 2) if "gate_up" in name else ((down,), rows)
            tensors.extend(
                replace(tensor, name=f"{path}.{i}.{one}.weight", shape=(rows, columns), kind=LINEAR)
                for i in range(num_experts)
                for one in names
            )
        elif tensor.kind == OTHER and tensor.module == "gate" and model_type in LINEAR_ROUTERS:
            tensors.append(replace(tensor, kind=LINEAR))
        else:
            tensors.append(tensor)
    return replace(unit, tensors=tuple(tensors))


def stacked_sizes(tensors: Iterable[ParameterTensor]) -> dict[str, int]:
    """Return the parameters of the stacks that experts became, and of adapters on all of them, by the names that traces have."""
    found: dict[str, int] = {}
    for tensor in tensors:
        path, is_expert, rest = tensor.name.partition(".experts.")
        if is_expert and tensor.kind == LINEAR:
            is_down = rest.split(".")[1] in ("down_proj", "w2")
            _, adapter, half = rest.partition(".lora_")
            stack = f"{'down_proj' if is_down else 'gate_up_proj'}{adapter}{half}"
            name = f"w:{path}.experts.{stack}"
            found[name] = found.get(name, 0) + tensor.num_params
    return found


def sizes_of_one(unit: ModelUnit) -> dict[str, int]:
    """Return the parameters of one expert of every stack."""
    return {
        f"e:{tensor.name}": tensor.num_params // tensor.shape[0]
        for tensor in unit.tensors
        if ".experts." in tensor.name and len(tensor.shape) > 1
    }


OF_ROWS = ("T*kM", "T*kh", "T*k")
"""What a layer has of rows: one for each token and expert that it goes to."""
INDEX_BYTES = 16
"""Of a row: which token it is, and which of its experts, both int64 (torch.where)."""


def kept_rows(precision: Precision, packed: str | None, trains: bool) -> dict[str, int]:
    """Return what backward needs of the rows: gate, its activation and up; an expert's result, and that times its
    share (index_add keeps its source: tools/autograd/derivatives.yaml, torch 2.13); inputs where weights train."""
    c = precision.bytes_of("compute")
    of_expert = 4 if packed == "prepared" else c
    return {
        "T*kM": of_expert * (4 if trains else 3),
        "T*kh": of_expert * (3 if trains else 2),
        "T*k": INDEX_BYTES + 8 + 2 * c,
    }


def looped_shared(
    forms: Mapping[str, Any],
    precision: Precision,
    packed: str | None,
    trains: bool,
    checkpointed: bool,
) -> dict[str, Any]:
    """Return what is alive beside layers, where the first layer's backward begins with a loop's rows."""
    first = {name: count for name, count in forms["first"].items() if name not in OF_ROWS}
    if not checkpointed:
        first.update(kept_rows(precision, packed, trains))
    found = {name: form for name, form in forms.items() if name != "first_backward"}
    if "adding" in forms:
        found["adding"] = {n: f for n, f in forms["adding"].items() if n != "first_backward"}
    return {**found, "first": first}


def looped(
    forms: Mapping[str, Any],
    whole: Mapping[str, Any],
    precision: Precision,
    packed: str | None,
    trains: bool,
    checkpointed: bool,
) -> dict[str, Any]:
    """Return the forms of a layer with stacked experts as those of one that loops over them.

    `whole` are its forms without recomputation. Points of a forward or backward that have no rows stay as they
    are; those in the experts become one each, with all rows that backward needs and one expert's work.
    `packed` is plain, or prepared where 4-bit layers take and return fp32, and None for weights that are not;
    packed experts are never copied whole.
    """
    c = precision.bytes_of("compute")
    of_expert = 4 if packed == "prepared" else c
    rows = kept_rows(precision, packed, trains)
    saved = summed(_outside(whole["saved"], packed), rows)
    # the sum of results, the residual, the norm's output unless it is saved; which token goes where
    stream = {"T*h": (2 if trains else 3) * c, "T*kE": 8}

    at_end = summed(saved, stream, {"Te*M": of_expert, "Te*h": of_expert})
    in_passing = summed({"T*h": 3 * c, "T*kE": 8}, {"Te*M": 3 * of_expert, "Te*h": 2 * of_expert})
    in_backward = at_end if checkpointed else {"Te*M": 3 * of_expert}
    rest = 0 if checkpointed else -whole["saved"].get("T*k", 0)
    gone = {} if checkpointed else {name: -count for name, count in rows.items()}

    def is_outside(form: Mapping[str, int]) -> bool:
        return form.get("T*k", 0) == rest

    def backward(form: Mapping[str, int]) -> dict[str, int]:
        return summed(_outside(form, packed), gone)

    result: dict[str, Any] = {
        **forms,
        "saved": _outside(forms["saved"], packed) if checkpointed else saved,
        "forward": [_outside(one, packed) for one in forms["forward"] if not one.get("T*k")]
        + [in_passing if checkpointed else at_end],
        "backward": [[in_backward, {}]]
        + [[backward(one), made] for one, made in forms["backward"] if is_outside(one)],
    }
    if "adding" in forms:
        adding = [backward(one) for one in forms["adding"] if is_outside(one)]
        result["adding"] = [in_backward, *adding]
    return result


def _outside(form: Mapping[str, int], packed: str | None) -> dict[str, int]:
    """Return what a form has without rows, and without copies of experts that are packed."""
    return {
        name: count
        for name, count in form.items()
        if name not in OF_ROWS and not (packed and _is_of_mixture(name))
    }


def summed(*forms: Mapping[str, int]) -> dict[str, int]:
    """Return the sum of forms, size by size."""
    found: dict[str, int] = {}
    for form in forms:
        for name, count in form.items():
            found[name] = found.get(name, 0) + count
    return found


def _is_of_mixture(name: str) -> bool:
    """Tell a copy of the experts' or the router's weights."""
    return (
        name.startswith("w:")
        and ".lora_" not in name
        and (".experts." in name or name.endswith("mlp.gate.weight"))
    )
