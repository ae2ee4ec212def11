"""Writing a torchtune launch back: `key=value` on the command line, which beats the config."""

from __future__ import annotations

from typing import Any

from preflight.errors import BadInput
from preflight.formats.edits import CannotEdit
from preflight.launch import BaseQuantization, LaunchPlan
from preflight.launchers.torchtune.config import COMPONENT, TuneRecipe
from preflight.launchers.torchtune.table import builders, recipes
from preflight.rewrite import Rewrite
from preflight.writers import engine as write_engine
from preflight.writers.draft import LaunchDraft, open_draft
from preflight.writers.finish import finish
from preflight.writers.framework import set_key
from preflight.writers.launch import changed_fields

WRITABLE = {
    "activation_checkpointing", "offload_activations", "micro_batch_size", "gradient_accumulation_steps", "seq_len",
    "optimizer", "optimizer_kernel", "loss", "offload_params", "offload_optimizer", "reshard_after_forward",
    "torch_compile", "base_quantization", "expandable_segments",
}  # fmt: skip
CLASSES = {
    "adamw_torch": "torch.optim.AdamW",
    "adamw_torch_fused": "torch.optim.AdamW",
    "adamw_bnb_8bit": "bitsandbytes.optim.AdamW8bit",
    "paged_adamw_8bit": "bitsandbytes.optim.PagedAdamW8bit",
    "paged_adamw_32bit": "bitsandbytes.optim.PagedAdamW",
    "sgd": "torch.optim.SGD",
}
"""The plan's optimizer -> a class that torchtune can make."""


def write_torchtune(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Return the launch that gives the plan `after`; None unless every changed field can be said."""
    draft, changed = open_draft(before), changed_fields(before, after)
    if draft is None or not changed <= WRITABLE:
        return None
    try:
        for key, value in _keys(draft, changed, after).items():
            _set(draft, key, value)
        if "expandable_segments" in changed:
            write_engine.write_expandable_segments(draft, before, after)
        return finish(draft)
    except (CannotEdit, BadInput):
        return None


def _keys(draft: LaunchDraft, changed: set[str], after: LaunchPlan) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    recipe = _recipe(draft).name
    if "activation_checkpointing" in changed:
        keys.update(_checkpointing(draft, str(after.activation_checkpointing)))
    if "offload_activations" in changed:
        keys["enable_activation_offloading"] = after.offload_activations == "cpu"
    if "micro_batch_size" in changed:
        name = "ppo_batch_size" if recipe.startswith("ppo_") else "batch_size"
        keys[name] = int(_known(after.micro_batch_size))
    if "gradient_accumulation_steps" in changed:
        keys["gradient_accumulation_steps"] = after.gradient_accumulation_steps
    if "seq_len" in changed:
        keys["tokenizer.max_seq_len"] = _known(after.seq_len)
    if "optimizer" in changed:
        keys.update(_optimizer(draft, after))
    if "reshard_after_forward" in changed:
        keys["fsdp_reshard_after_forward"] = _known(after.reshard_after_forward)
    if "loss" in changed:
        keys.update(_loss(draft, after))
    if "offload_params" in changed:
        if after.offload_params != after.offload_optimizer:
            raise CannotEdit("one key moves both")
        keys["fsdp_cpu_offload"] = after.offload_params == "cpu"
    if "torch_compile" in changed:
        keys["compile"] = after.torch_compile
    if "base_quantization" in changed:
        keys.update(_quantization(draft, after))
    reads = recipes().get(recipe, {}).get("reads")
    for key in keys:
        if reads and key.partition(".")[0] not in reads:
            raise CannotEdit(f"{recipe} does not read {key}")
    return keys


def _recipe(draft: LaunchDraft) -> TuneRecipe:
    recipe = draft.part.own
    assert isinstance(recipe, TuneRecipe), "torchtune's reader leaves it"
    return recipe


def _known(value: Any) -> Any:
    if value is None:
        raise CannotEdit("it cannot be unknown")
    return value


def _checkpointing(draft: LaunchDraft, value: str) -> dict[str, Any]:
    keys: dict[str, Any] = {"enable_activation_checkpointing": value == "full"}
    has_mode = _recipe(draft).values.get("ac_mode") is not None
    if value in ("full", "none"):
        return {**keys, "ac_mode": None} if has_mode else keys
    option = {"selective_op": "op", "selective_every_2": 2}[value]
    return {**keys, "ac_mode": "selective", "ac_option": option}


def _optimizer(draft: LaunchDraft, after: LaunchPlan) -> dict[str, Any]:
    component = CLASSES.get(after.optimizer)
    if component is None:
        raise CannotEdit(f"torchtune has no {after.optimizer}")
    if component.startswith("bitsandbytes.") and after.is_fsdp:
        raise CannotEdit("bitsandbytes' optimizers do not take FSDP2's tensors")
    section = _recipe(draft).values.get("optimizer")
    given = section if isinstance(section, dict) else {}
    keys: dict[str, Any] = {}
    if given.get(COMPONENT) != component:
        # An override of the section's own name is one of its component.
        keys[f"optimizer.{COMPONENT}"] = component
    if component == "torch.optim.AdamW":
        keys["optimizer.fused"] = after.optimizer == "adamw_torch_fused"
        if "foreach" in given:
            _remove(draft, "optimizer.foreach")  # torch takes one of them
    elif "fused" in given or "foreach" in given:
        for name in ("fused", "foreach"):
            if name in given:
                _remove(draft, f"optimizer.{name}")
    return keys


def _remove(draft: LaunchDraft, key: str) -> None:
    if key in draft.part.overrides:
        raise CannotEdit(f"{key} is given on the command line")
    draft.script_additions.append([f"~{key}"])


def _loss(draft: LaunchDraft, after: LaunchPlan) -> dict[str, Any]:
    section = _recipe(draft).values.get("loss")
    if after.loss != "chunked_ce" or (isinstance(section, dict) and len(section) > 1):
        raise CannotEdit("only a plain cross entropy is replaced, by the one in pieces")
    return {f"loss.{COMPONENT}": "torchtune.modules.loss.CEWithChunkedOutputLoss"}


def _quantization(draft: LaunchDraft, after: LaunchPlan) -> dict[str, Any]:
    """Return the argument that packs the base of a LoRA in nf4: the only scheme of torchtune."""
    scheme = after.base_quantization
    model = str((_recipe(draft).values.get("model") or {}).get(COMPONENT))
    takes = "quantize_base" in builders().get(model, {}).get("arguments", ())
    if after.adapter is None or not takes or model.rpartition(".")[2].startswith("qlora_"):
        raise CannotEdit("the model's builder does not say it")
    if scheme is None:
        return {"model.quantize_base": False}
    wanted = BaseQuantization("nf4", True, after.load_dtype, None, "none")
    if scheme != wanted:
        raise CannotEdit("torchtune packs in one way")
    return {"model.quantize_base": True}


def _set(draft: LaunchDraft, key: str, value: Any) -> None:
    """Change the word that gives a key, or add one."""
    if key in draft.part.overrides:
        set_key(draft, key, value)
        return
    text = "null" if value is None else str(value)
    draft.script_additions.append([f"{key}={text}"])
