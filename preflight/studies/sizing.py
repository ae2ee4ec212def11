"""Filling in the sizing worksheet: a plan for every row, estimated on one device and sharded over several.

Every row is a plan like any other, priced by the same terms as a launch; the numbers of devices are those
that can be rented: parts of a node, and whole nodes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from preflight.advice import QUALITY
from preflight.devices.prices import Price, listed_prices
from preflight.devices.step_time import estimate_step_time
from preflight.errors import BadInput
from preflight.formulas.adapters.adapters import num_trainable_params
from preflight.launch import Adapter, BaseQuantization, LaunchPlan, Origin
from preflight.memory import MemoryEstimate
from preflight.model import ModelSpec
from preflight.plugin_manager import PluginManager
from preflight.studies.fewest_devices import (
    device_of_key,
    estimate_plan,
    fewest_devices,
    fits_on,
    smallest_card,
)
from preflight.studies.worksheet import Worksheet, WorksheetRow, buckets_of
from preflight.values import dataclass

METHODS = ("full", "lora", "qlora")
SEQ_LENS = (512, 2048, 8192)
LENGTHS = tuple(2**power for power in range(9, 18))
"""Lengths of rows that are tried for the longest that fits: 512 to 131,072."""
DEVICES = ("rtx4090-24", "rtx5090-32", "l40s-48", "a100-sxm-80", "h100-sxm-80", "h200-sxm-141")
"""Cards of the worksheet unless others are asked for: those that are rented most, one of each size."""
ADAPTER = Adapter("lora", rank=16, alpha=32, dropout=0.0, targets="all-linear")
ASSUMPTIONS = {
    "full": "weights loaded in fp32 and autocast to bf16: weights 4, gradients 4 and Adam's states 8 bytes a"
    " parameter, as FSDP and ZeRO keep them too; `--set load_dtype=bf16` for pure bf16 (8 bytes)",
    "lora": "frozen base in bf16, fp32 adapters of rank 16 on all linear layers; `--set adapter.rank=64`",
    "qlora": "NF4 with double quantization by bitsandbytes, adapters in bf16 as TRL makes them; what PEFT's preparation"
    " adds: `--set base_quantization.upcast_unquantized_to_fp32=all`",
    "optimizer": "adamw_torch_fused",
    "loss": "in pieces, as TRL's SFTTrainer computes it since 1.7; transformers' own Trainer makes all logits:"
    " `--set trainer=transformers --set loss=full_logits`",
    "attention": "sdpa",
    "gradients": "two accumulated micro steps, so that gradients are alive beside all activations",
    "sharding": "FSDP2 over all devices, everything resharded, gradients reduced in every micro step",
    "devices": "1, 2 or 4 devices, or whole nodes of 8; each holds its own activations, gathered layers,"
    " allocator, CUDA context and NCCL buffers, and leaves a margin of 5.5 percent",
    "dora": "its magnitudes are counted, the weights that it builds in each forward pass are not",
    "speed": "$ per million tokens is a count over rates: published speeds of one card were 0.55 to 1.3 of it",
}


@dataclass(frozen=True)
class SizingRequest:
    """What the worksheet is asked for."""

    seq_lens: Sequence[int] = SEQ_LENS
    micro_batch_size: int = 1
    devices: Sequence[str] = DEVICES
    """Keys of the GPU table."""
    has_variants: bool = False
    """Whether DoRA and the 8-bit optimizer have rows: `--all`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Plan fields in place of the assumed ones; those of adapters count where there is one."""
    prices: Mapping[str, Price] | None = None
    cwd: str = ""


def size(model_name: str, request: SizingRequest, plugins: PluginManager) -> Worksheet:
    """Return the worksheet of a model; raise BadInput where it is not known or has no formula."""
    named = _base_plan(model_name, request)
    model = plugins.first("preflight_describe_model", plan=named)
    if model is None:
        raise BadInput.one(
            f"the model {model_name!r} is not known here",
            fix="give a folder with its config.json, or that file",
        )
    if model.is_encoder:
        raise BadInput.one(
            f"{model_name} is an encoder, and what is sized here are language models"
        )
    if not model.layers or not model.is_decoder_lm:
        raise BadInput.one(f"{model_name}: no activation formula knows {model.model_type} models")
    prices = {**listed_prices(), **(request.prices or {})}
    rows = []
    for method, variant, edits in _ways(request.has_variants):
        for seq_len in request.seq_lens:
            for checkpointing in ("none", "full"):
                own = {**edits, "seq_len": seq_len, "activation_checkpointing": checkpointing}
                plan = _with_settings(named.with_edits(own), request.settings)
                rows.append(_row(method, variant, plan, model, request, plugins, prices))
    changed = {name: f"{value}, by --set" for name, value in request.settings.items()}
    return Worksheet(
        model_name,
        model.num_params,
        tuple(rows),
        {**ASSUMPTIONS, **changed},
        {key: prices[key].words for key in request.devices if key in prices},
        {method: QUALITY[method] for method in METHODS if QUALITY[method][0]},
        _longest(named, model, request, plugins),
    )


def _longest(
    named: LaunchPlan, model: ModelSpec, request: SizingRequest, plugins: PluginManager
) -> dict[str, dict[str, int | None]]:
    """Return card -> method -> the longest rows that one of it holds with checkpointing; each length estimated once."""
    longest: dict[str, dict[str, int | None]] = {key: {} for key in request.devices}
    for method, _, edits in _ways(False):
        estimates: dict[int, MemoryEstimate] = {}

        def fits(
            seq_len: int,
            key: str,
            edits: Mapping[str, Any] = edits,
            estimates: dict[int, MemoryEstimate] = estimates,
        ) -> bool:
            if seq_len not in estimates:
                own = {**edits, "seq_len": seq_len, "activation_checkpointing": "full"}
                plan = _with_settings(named.with_edits(own), request.settings)
                estimates[seq_len] = estimate_plan(
                    plan.with_edits({"seq_len": seq_len}), model, plugins
                )
            return fits_on(estimates[seq_len], device_of_key(key))

        for key, found in longest.items():
            number = bisect_left(LENGTHS, True, key=lambda length, key=key: not fits(length, key))  # type: ignore[misc]
            found[method] = LENGTHS[number - 1] if number else None
    return longest


def _base_plan(model_name: str, request: SizingRequest) -> LaunchPlan:
    plan = LaunchPlan(
        model=model_name,
        engine="single",
        world_size=1,
        num_nodes=1,
        objective="sft",
        trainer="trl",
        mixed_precision="bf16",
        load_dtype="fp32",
        optimizer="adamw_torch_fused",
        micro_batch_size=request.micro_batch_size,
        gradient_accumulation_steps=2,
        max_grad_norm=1.0,
        loss="chunked_linear",
        attention="sdpa",
        sequence_kind="padded",
        cwd=request.cwd,
    )
    return plan.with_origin("model", Origin("the command line"))


def _ways(has_variants: bool) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each method and variant with the plan edits that make it."""
    packed = BaseQuantization(
        "nf4", True, compute_dtype="bf16", storage_dtype="bf16", upcast_unquantized_to_fp32="none"
    )
    lora: dict[str, Any] = {"adapter": ADAPTER, "load_dtype": "bf16"}
    narrow = replace(ADAPTER, dtype="bf16")
    qlora = {**lora, "adapter": narrow, "base_quantization": packed}
    small = {"optimizer": "adamw_bnb_8bit"}
    dora = {"adapter": replace(ADAPTER, kind="dora")}
    qdora = {"adapter": replace(narrow, kind="dora")}
    yield "full", "", {}
    if has_variants:
        yield "full", "8bit", small
    yield "lora", "", lora
    if has_variants:
        yield "lora", "8bit", {**lora, **small}
        yield "lora", "dora", {**lora, **dora}
    yield "qlora", "", qlora
    if has_variants:
        yield "qlora", "8bit", {**qlora, **small}
        yield "qlora", "dora", {**qlora, **qdora}


def _with_settings(plan: LaunchPlan, settings: Mapping[str, Any]) -> LaunchPlan:
    """Return the plan with the caller's values; those of an adapter or a packed base only where it has one."""
    kept = {
        name: value
        for name, value in settings.items()
        if "." not in name or getattr(plan, name.partition(".")[0]) is not None
    }
    return plan.with_edits(kept)


def _row(
    method: str,
    variant: str,
    plan: LaunchPlan,
    model: ModelSpec,
    request: SizingRequest,
    plugins: PluginManager,
    prices: Mapping[str, Price],
) -> WorksheetRow:
    alone = estimate_plan(plan, model, plugins)
    num_devices, plans = fewest_devices(plan, model, alone, request.devices, plugins)
    per_hour: dict[str, float | None] = {}
    per_tokens: dict[str, float | None] = {}
    for key in request.devices:
        number, price = num_devices[key], prices.get(key)
        if number is None or price is None:
            per_hour[key] = per_tokens[key] = None
            continue
        per_hour[key] = round(number * price.usd_per_hour, 4)
        time = estimate_step_time(plans[number], model, device_of_key(key))
        hours = time.seconds_per_token * 1e6 / 3600
        per_tokens[key] = (
            float(f"{hours * number * price.usd_per_hour:.2g}") if time.parts else None
        )
    return WorksheetRow(
        method,
        variant,
        plan.seq_len or 0,
        plan.micro_batch_size or 1,
        plan.activation_checkpointing,
        num_trainable_params(plan, model),
        buckets_of(alone),
        smallest_card(alone),
        num_devices,
        per_hour,
        per_tokens,
    )
