"""Automodel's adapter: its rank, and the modules that it goes on."""

from __future__ import annotations

from preflight.launch import Adapter, BaseQuantization
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def read_adapter(keys: FrameworkKeys, dtype: str) -> None:
    """Note the adapter, and how its base is packed."""
    if keys.is_on("quantization.load_in_4bit") or keys.is_on("quantization.load_in_8bit"):
        at = keys.given.get("quantization.load_in_4bit") or keys.given["quantization.load_in_8bit"]
        scheme = "nf4" if keys.is_on("quantization.load_in_4bit") else "int8"
        double = keys.is_on("quantization.bnb_4bit_use_double_quant")
        keys.put("base_quantization", BaseQuantization(scheme, double, compute_dtype="bf16"), at)
    rank = keys.count("peft.dim")
    target = keys.get("peft._target_")
    alpha, dropout = keys.number("peft.alpha"), keys.number("peft.dropout")
    by = rank or target
    if by is None:
        return
    adapter = Adapter(
        kind="dora" if keys.is_on("peft.use_dora") else "lora",
        rank=8 if rank is None else rank.value,
        alpha=32 if alpha is None else int(alpha.value),
        dropout=0.0 if dropout is None else dropout.value,
        targets=targets_of(keys),
        dtype=dtype,
    )
    keys.put("adapter", adapter, by)


def targets_of(keys: FrameworkKeys) -> str | tuple[str, ...]:
    """Return the endings of module names that patterns match; everything where they are no endings."""
    if keys.is_on("peft.match_all_linear"):
        head = NotModelled("the head is adapted too", "an adapter on the head", "more")
        keys.leave_out(head, keys.given["peft.match_all_linear"])
        return "all-linear"
    said = keys.get("peft.target_modules")
    if said is None:
        excluded = keys.get("peft.exclude_modules")
        return PROJECTIONS if excluded is None else "all-linear"
    patterns = [said.value] if isinstance(said.value, str) else list(said.value or ())
    found: list[str] = []
    for pattern in patterns:
        ending = str(pattern).removeprefix("*").removeprefix(".").rpartition(".")[2]
        if ending in ("_proj", "proj", "*_proj", "*proj"):
            found += PROJECTIONS
        elif "*" in ending or not ending:
            message = f"peft.target_modules {pattern} is taken for every linear layer"
            keys.leave_out(NotModelled(message, "which modules are adapted", "less"), said)
            return "all-linear"
        else:
            found.append(ending)
    return tuple(dict.fromkeys(found))
