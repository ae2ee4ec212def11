"""A small config of every decoder family, and the launches that are traced of it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from preflight.derive.layouts.small_sizes import (
    BATCH,
    EVERY_MODEL,
    LENGTH,
    OTHER_SIZES,
    PACKED_LENGTH,
    RELU,
    SEEING_MODELS,
    SIDES,
    STACKED,
    TAKEN,
    TOWERS,
)
from preflight.derive.layouts.type_configs import of_variant, small_type_config
from preflight.errors import BadInput
from preflight.formulas.adapters.adaptations import NO_ALL_LINEAR, USUAL, Adaptation, adapter_of
from preflight.formulas.cost_tables import DROPOUT, EAGER, FLASH, IN_FLOAT, LIGER, METHODS, SEEING
from preflight.formulas.layers.attention import default_attention
from preflight.formulas.layers.kernels import LIGER_KERNELS
from preflight.launch import LaunchPlan, Vision
from preflight.model import CAUSAL_LM, MASKED_LM
from preflight.models import describe
from preflight.models.families.bart_like import ACTIVE, BOTH
from preflight.models.families.library_defaults import family_table
from preflight.versions.installed import installed_versions
from preflight.versions.transformers import FUSES_EXPERTS


def small_config(model_type: str, variant: int = 0, head: str = MASKED_LM) -> dict[str, Any]:
    """Return the small config of a family; the variants have the same layers in other sizes.

    `head`: of an encoder, the objective whose class it is.
    """
    model_type = model_type.removesuffix(LIGER).replace(IN_FLOAT, "")
    if model_type not in EVERY_MODEL:
        model_type = model_type.removesuffix(EAGER)
        return small_type_config(model_type, variant, _least_depth(model_type), head=head)
    own_type = (
        next(
            (
                model_type.removesuffix(s)
                for s in (FLASH, EAGER, DROPOUT, SEEING)
                if model_type.endswith(s)
            ),
            model_type,
        )
        .removesuffix(RELU)
        .removesuffix(ACTIVE)
        .removesuffix(BOTH)
    )
    config = {"model_type": own_type, **EVERY_MODEL[model_type]}
    if variant:
        for name, others in OTHER_SIZES.items():
            if name in config:
                config[name] = others[variant - 1]
        if config.get("num_experts_per_tok") == 3:
            config["num_experts_per_tok"] = (2, 4, 3)[variant - 1]
        if "n_routed_experts" in EVERY_MODEL[model_type]:  # latent attention has no grouped keys
            is_grouped = EVERY_MODEL[model_type]["num_key_value_heads"] == 2
            if not is_grouped:
                config["num_key_value_heads"] = config["num_attention_heads"]
    if (
        model_type == "bloom"
    ):  # logits are more than the scores that its last layer hands on, as published
        config["vocab_size"] *= 6
    if model_type == "qwen2_moe" and not FUSES_EXPERTS.holds_in(installed_versions(LIBRARY)):
        del config["head_dim"]  # which its class refused (modeling_qwen2_moe.py, 4.57.6:300)
    if model_type == "glm4_moe_lite":  # as published: which kernel attends depends on it
        config["v_head_dim"] = config["qk_nope_head_dim"] + config["qk_rope_head_dim"]
    if model_type in SEEING_MODELS:
        whole = _with_tower(own_type, config)
        sides = {"image_size": 2 * SIDES[variant], "max_num_tiles": 4}
        return {**whole, "vision_config": {**whole["vision_config"], **sides, **TAKEN}}
    return config if model_type not in TOWERS else _with_tower(model_type, config)


LIBRARY = ("transformers",)
DEPTHS = (3, 4, 5, 6)


@cache
def _least_depth(model_type: str) -> int:
    """Return the fewest layers among which every kind of a type is, and one of each that is neither the first nor the
    last of its kind where more layers have one: those may hand something on to others."""

    def kinds(depth: int, least: int) -> set[str]:
        spec = describe(small_type_config(model_type, 0, depth), model_type, "small_models.py")
        return {unit.layer.kind for unit in spec.layers if unit.layer and len(unit.places) >= least}

    most = DEPTHS[-1]
    for depth in DEPTHS:
        if all(kinds(depth, least) == kinds(most, least) for least in (1, 3)):
            return depth
    return most


def _with_tower(model_type: str, text: dict[str, Any]) -> dict[str, Any]:
    whole, tower = TOWERS[model_type]
    width = "hidden_size" if "embed_dim" in tower else "out_hidden_size"
    if whole != "mllama":
        tower = {**tower, width: text["hidden_size"]}
    if "head_dim" not in text and whole != "mllama":  # positions in time, height and width
        eighth = text["hidden_size"] // text["num_attention_heads"] // 8
        sections = [2 * eighth, eighth, eighth]
        text = {**text, "rope_parameters": {"rope_type": "default", "mrope_section": sections}}
    return {
        "model_type": whole,
        "text_config": text,
        "vision_config": tower,
        "tie_word_embeddings": text["tie_word_embeddings"],
    }


def attention_of(model_type: str) -> str:
    """Return the attention of a small launch: the family's own, or flash attention where its name says so."""
    model_type = model_type.removesuffix(LIGER)
    table = family_table(of_variant(model_type)[0])
    if table is not None and model_type not in EVERY_MODEL:  # LongCat-Flash is a type
        return str(table["attention"])
    if model_type.endswith(FLASH):
        return "flash_attention_2"
    if model_type.startswith(STACKED) and not model_type.endswith(EAGER):
        return "sdpa"
    if model_type.endswith(EAGER):
        return "eager"
    return default_attention(model_type, {})


def objective_of(head: str) -> str | None:
    """Return the objective that trains an encoder's head in small launches; None for words that are masked."""
    return {MASKED_LM: None, CAUSAL_LM: "pretrain"}.get(head, head)


def small_launch(
    model_type: str,
    method: str,
    checkpointing: bool,
    adaptation: Adaptation = USUAL,
    **more: Any,
) -> LaunchPlan:
    """Return the small launch of a family and method: its own attention, and adapters where it can have them."""
    kernels = LIGER_KERNELS if model_type.endswith(LIGER) else None
    if model_type.startswith(STACKED):
        if "base_quantization" in METHODS[method]:
            raise BadInput.one(f"{model_type} is not traced packed: some of its matrices stay fp32")
        more = {"target_len": LENGTH // 2, "sequence_kind": "padded", **more}
    if model_type in SEEING_MODELS:
        more = {"vision": Vision(images_per_sequence=1), **more}
    plan = plan_of(
        method, checkpointing, attention=attention_of(model_type), kernels=kernels, **more
    )
    is_usual = adaptation is USUAL and of_variant(model_type)[0] not in NO_ALL_LINEAR
    if plan.adapter is None or is_usual:
        return plan
    model = describe(small_config(model_type), model_type, "small_models.py")
    adapter = adapter_of(adaptation, plan.adapter, model)
    if adapter is None:
        raise BadInput.one(f"{model_type} has no {adaptation.targets} of its own")
    return replace(plan, adapter=adapter)


def plan_of(method: str, checkpointing: bool, **more: Any) -> LaunchPlan:
    """Return the small launch of a method: one device, bf16, two sequences of equal length."""
    values = {
        "micro_batch_size": BATCH,
        "seq_len": PACKED_LENGTH if "base_quantization" in METHODS[method] else LENGTH,
        "attention": "sdpa",
        "load_dtype": "bf16",
        "sequence_kind": "fixed",
        "optimizer": "adamw_torch_fused",
        "activation_checkpointing": "full" if checkpointing else "none",
        **METHODS[method],
        **more,
    }
    return LaunchPlan(**values)
