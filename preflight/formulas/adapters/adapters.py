"""Where an adapter goes, and which tensors it trains there."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from preflight.formulas.adapters.adapted_experts import (
    GATE_AND_UP,
    ROUTER,
    adapted_stacks,
    expert_names,
    idle_stack,
)
from preflight.formulas.adapters.adapter_kinds import BRANCHES, default_targets, num_parameters
from preflight.formulas.adapters.frozen_parts import AROUND, SEEING, in_turns, is_frozen
from preflight.formulas.objective import is_scored
from preflight.launch import Adapter, LaunchPlan
from preflight.model import EXPERTS, LINEAR, OTHER, ModelSpec, ModelUnit, ParameterTensor
from preflight.remembered import remembered
from preflight.values import replace

_QV = ("q_proj", "v_proj")
PEFT_DEFAULT_TARGETS = {
    **dict.fromkeys(
        ("llama", "llama4", "mistral", "mixtral", "qwen2", "qwen3", "gemma", "gemma2"), _QV
    ),
    **dict.fromkeys(("bert", "roberta", "xlm-roberta"), ("query", "value")),
    **dict.fromkeys(("gemma3_text", "gptj", "opt", "stablelm"), _QV),
    **dict.fromkeys(("gpt2", "gpt_bigcode"), ("c_attn",)),
    **dict.fromkeys(("gpt_neox", "falcon", "bloom", "chatglm"), ("query_key_value",)),
    **dict.fromkeys(("t5", "mt5"), ("q", "v")),
    "phi": ("q_proj", "v_proj", "fc1", "fc2"),
}
"""TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING by the config's own model_type (peft/utils/constants.py,
0.21.2), as far as layers are known; a test compares. PEFT refuses any other type without targets."""
SAVED_HEADS = ("classifier", "score")
"""Modules that PEFT trains whole beside an adapter for a task with labels
(peft/peft_model.py PeftModelForSequenceClassification, PeftModelForTokenClassification, 0.21.2)."""
TABLES = ("embed_tokens", "wte", "embed_in", "word_embeddings", "tok_embeddings")
HEADS = ("lm_head", "embed_out", "output_layer")
"""What families call the embedding and the head, of which a model that is read with another one's shapes has its own."""


@remembered
def num_trainable_params(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the parameters that get gradients, over the whole model."""
    if plan.layers_at_a_time is not None:
        return sum(unit.num_params for unit in in_turns(plan, model))
    if plan.adapter is None:
        return model.num_params
    return sum(t.num_params * unit.count for unit, t in adapter_tensors(plan, model))


def adapter_targets(adapter: Adapter, model: ModelSpec) -> tuple[str, ...] | str:
    """Return the module endings an adapter is put on, PEFT's default where none is named."""
    if adapter.targets is None:
        of_type = peft_model_type(model)
        own = None if adapter.kind in BRANCHES else default_targets(adapter.kind, of_type)
        if own is not None:
            return own
        return PEFT_DEFAULT_TARGETS.get(of_type, "all-linear")
    if isinstance(adapter.targets, tuple) and adapter.targets == ("all-linear",):
        return "all-linear"
    return adapter.targets


def peft_model_type(model: ModelSpec) -> str:
    """Return the type PEFT looks its defaults up by: the outer config's, not the text decoder's."""
    return str(model.facts.get("top_model_type", model.model_type))


@remembered
def adapter_tensors(
    plan: LaunchPlan, model: ModelSpec
) -> tuple[tuple[ModelUnit, ParameterTensor], ...]:
    """Return the trainable tensors of a plan's adapter with the unit that repeats them.

    LoRA puts r * (in + out) on every target (PEFT, Hu et al. 2021, section 4.1); DoRA adds a
    magnitude of `out`; modules_to_save adds a trainable copy of the whole module.
    """
    return tuple(each_adapter_tensor(plan, model))


def each_adapter_tensor(
    plan: LaunchPlan, model: ModelSpec
) -> Iterator[tuple[ModelUnit, ParameterTensor]]:
    """Yield what `adapter_tensors` returns: for a plan that nobody asks about again."""
    adapter = plan.adapter
    assert adapter is not None
    targets = adapter_targets(adapter, model)
    rank = adapter.rank
    saved = saved_names(adapter, model)
    heads = SAVED_HEADS if is_scored(plan) else ()
    stacks = adapted_stacks(plan, model, targets)
    renamed = renamed_modules(plan, model, targets)
    for unit, tensor in model.tensors():
        is_saved = tensor.module in saved or unit.name.rsplit(".", 1)[-1] in saved
        if is_saved or unit.name.partition(".")[0] in heads:
            yield unit, tensor
            continue
        outer = outer_targets(model, unit, targets)
        if outer:
            yield from ((unit, each) for each in _outer_adapters(adapter, outer, tensor))
            continue
        if unit.role == "lm_head" and targets == "all-linear":
            continue  # PEFT leaves the output embedding out (tuners_utils.py:2430)
        if unit.role == "layer":
            for extra in _stack_adapters(rank, tensor, stacks, idle_stack(plan, stacks)):
                yield unit, extra
            if tensor.module in renamed:
                continue
        is_beside = unit.role in AROUND and targets == "all-linear"
        if not is_beside and unit.role not in ("layer", "lm_head", *SEEING):
            continue
        if is_frozen(plan, unit):
            continue
        if not is_target(tensor, targets):
            continue
        # a Conv1D of GPT-2 has its inputs first
        is_turned = bool(unit.role == "layer" and model.facts.get("conv1d"))
        if adapter.kind not in BRANCHES:
            if is_convolution(tensor):
                continue
            yield unit, _of_other_kind(adapter, tensor, is_turned)
            continue
        for extra in lora_tensors(tensor, rank):
            yield unit, extra
        if adapter.kind == "dora":  # one for every output
            name, shape = (
                f"{tensor.name}.magnitude",
                tensor.shape[1:] if is_turned else tensor.shape[:1],
            )
            yield unit, ParameterTensor(name, shape, LINEAR, tensor.gets_gradient)


def renamed_modules(
    plan: LaunchPlan, model: ModelSpec, targets: tuple[str, ...] | str
) -> tuple[str, ...]:
    """Return the names that PEFT turns into those of stacked experts: dense and shared MLPs lose their adapters."""
    return expert_names(model) if adapted_stacks(plan, model, targets) else ()


def may_have_others(model: ModelSpec) -> bool:
    """Tell whether a model's modules may have other names than are listed: it is read with another one's shapes."""
    return model.like is not None or "auto_map" in model.config


def saved_names(adapter: Adapter, model: ModelSpec) -> tuple[str, ...]:
    """Return the modules that train whole beside an adapter, by the names that the model is read with."""
    saved = adapter.modules_to_save or ()
    if may_have_others(model):
        for names, role in ((TABLES, "embedding"), (HEADS, "lm_head")):
            if not set(names).isdisjoint(saved):
                saved = (
                    *saved,
                    *(u.name.rsplit(".", 1)[-1] for u in model.units if u.role == role),
                )
    return tuple(saved)


HEAD = "lm_head"


def outer_targets(
    model: ModelSpec, unit: ModelUnit, targets: tuple[str, ...] | str
) -> tuple[str, ...]:
    """Return the names of this embedding or head among an adapter's targets; a tied head is its embedding's too."""
    if unit.role not in ("embedding", HEAD) or not isinstance(targets, tuple):
        return ()
    # the first embedding is that of tokens: GPT-2 has one of positions too
    is_head_too = model.tied and unit is next(u for u in model.units if u.role == unit.role)
    names = [unit.name.rpartition(".")[2], *([HEAD] if is_head_too else [])]
    return tuple(name for name in dict.fromkeys(names) if name in targets)


def _outer_adapters(
    adapter: Adapter, names: tuple[str, ...], tensor: ParameterTensor
) -> Iterator[ParameterTensor]:
    """Yield the two matrices beside an embedding or a head, and DoRA's magnitudes (peft/tuners/lora, 0.21.2)."""
    for name in names if len(tensor.shape) == 2 else ():
        num_tokens, width = tensor.shape
        is_head = name == HEAD or tensor.kind == LINEAR
        yield ParameterTensor(f"{name}.lora_A", (adapter.rank, width), LINEAR, tensor.gets_gradient)
        yield ParameterTensor(
            f"{name}.lora_B", (num_tokens, adapter.rank), LINEAR, tensor.gets_gradient
        )
        if adapter.kind == "dora":
            magnitude = (num_tokens if is_head else width,)
            yield ParameterTensor(f"{name}.magnitude", magnitude, LINEAR, tensor.gets_gradient)


def _of_other_kind(adapter: Adapter, tensor: ParameterTensor, is_turned: bool) -> ParameterTensor:
    """Return what an adapter that is no two matrices trains on a linear weight, as one tensor."""
    outputs, inputs = reversed(tensor.shape) if is_turned else tensor.shape
    number = num_parameters(adapter, tensor.module, outputs, inputs)
    trained = tensor.gets_gradient and not tensor.is_read_bare
    return ParameterTensor(f"{tensor.name}.lora_{adapter.kind}", (number,), LINEAR, trained)


def lora_tensors(tensor: ParameterTensor, rank: int) -> Iterator[ParameterTensor]:
    """Yield the two matrices on a linear weight, or a convolution and one of single places on a convolution's
    (peft/tuners/lora/layer.py _ConvNd, 0.21.2); nothing on any other tensor."""
    if not is_convolution(tensor) and (tensor.kind != LINEAR or len(tensor.shape) != 2):
        return
    out_features, in_features = tensor.shape[0], prod(tensor.shape[1:])
    trained = tensor.gets_gradient and not tensor.is_read_bare
    yield ParameterTensor(f"{tensor.name}.lora_A", (rank, in_features), LINEAR, trained)
    yield ParameterTensor(f"{tensor.name}.lora_B", (out_features, rank), LINEAR, trained)


def _stack_adapters(
    rank: int, tensor: ParameterTensor, stacks: frozenset[str], idle: str
) -> Iterator[ParameterTensor]:
    """Yield what is put on a fused expert stack or a router: a rank for every expert, two for gate and up."""
    if tensor.kind == EXPERTS and len(tensor.shape) == 3:
        experts, out_features, in_features = tensor.shape
        name = tensor.name.rpartition(".")[2]
        rank *= experts * (2 if name == GATE_AND_UP else 1)
    elif tensor.kind == OTHER and len(tensor.shape) == 2 and tensor.module == ROUTER:
        name, (out_features, in_features) = ROUTER, tensor.shape
    else:
        return
    if name in stacks:
        trains = name != idle
        yield ParameterTensor(f"{tensor.name}.lora_A", (rank, in_features), gets_gradient=trains)
        yield ParameterTensor(f"{tensor.name}.lora_B", (out_features, rank), gets_gradient=trains)


def is_convolution(tensor: ParameterTensor) -> bool:
    """Tell whether a weight is that of a convolution over patches, which PEFT adapts where it is named."""
    return tensor.kind == OTHER and len(tensor.shape) >= 4 and tensor.name.endswith(".weight")


def is_target(tensor: ParameterTensor, targets: tuple[str, ...] | str) -> bool:
    """Tell whether an adapter sits on a tensor's module."""
    is_matrix = tensor.kind == LINEAR and len(tensor.shape) == 2
    if targets == "all-linear" or not (is_matrix or is_convolution(tensor)):
        return is_matrix
    names = (targets,) if isinstance(targets, str) else targets
    paths = [
        f".{name}.weight" for name in names
    ]  # as PEFT looks for one: whole parts of a path at its end
    return any(
        f".{tensor.module}.weight" == path or f".{tensor.name}".endswith(path) for path in paths
    )


@remembered
def recorded_layers(plan: LaunchPlan, model: ModelSpec) -> tuple[tuple[ModelUnit, ModelUnit], ...]:
    """Return each kind of decoder layers with those of it that keep something for backward: all of them in most plans,
    and a unit of no layer where none of its kind does.

    The output of a frozen embedding asks for no gradient by itself. PEFT and TRL make it ask where layers are
    checkpointed (peft/peft_model.py:734 in 0.21.2, trl/trainer/sft_trainer.py:899 in 1.16.0), axolotl and some scripts
    always. Below the lowest adapter layers are otherwise run as in an evaluation: those with a recurrent state below
    the first attention, where adapters are on attention alone.
    """
    lowest = _lowest_recorded(plan, model)
    layers = [unit for unit in model.layers if unit.layer is not None]
    above = [tuple(place for place in unit.places if place >= lowest) for unit in layers]
    return tuple(
        (unit, replace(unit, count=len(places), places=places) if lowest else unit)
        for unit, places in zip(layers, above, strict=True)
    )


def _lowest_recorded(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the place of the lowest layer that is recorded."""
    if plan.adapter is None or plan.activation_checkpointing != "none" or plan.vision is not None:
        return 0
    if plan.script_facts.inputs_ask:
        return 0
    trained = [unit for unit, tensor in adapter_tensors(plan, model) if tensor.gets_gradient]
    is_placed = all(unit.places for unit in model.layers)
    if not is_placed or any(u.role not in ("layer", "final_norm", "lm_head") for u in trained):
        return 0
    return min((place for unit in trained for place in unit.places), default=0)
