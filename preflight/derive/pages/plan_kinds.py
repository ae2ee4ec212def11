"""Plans that formulas were once wrong about, each beside a trace of today, for docs/formulas.md.

`python -m preflight.derive plan_kinds` writes the table; `python -m preflight.derive.pages.plan_kinds WORD ...` prints the
rows whose name or model has one of the words.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from preflight.derive.layouts.small_models import plan_of, small_config
from preflight.derive.layouts.small_sizes import NUM_VARIANTS
from preflight.derive.target import ROOT, Files, Say, put_between, read
from preflight.judge import estimate_memory
from preflight.launch import Adapter, BaseQuantization, LaunchPlan
from preflight.model import ModelSpec
from preflight.models import describe
from preflight.models.registry import find_model
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins
from preflight.trace.job import job_of
from preflight.values import dataclass

PAGE = "docs/formulas.md"
BEGIN, END = "<!-- kinds of plans -->", "<!-- end of kinds of plans -->"
WORST_OFF = 0.01
"""What a row may be off before it is marked."""

CHECKPOINTED = {"activation_checkpointing": "full"}
PADDED = {"sequence_kind": "padded"}
EAGER = {"attention": "eager"}
FP32 = {"load_dtype": "fp32"}
AUTOCAST = {**FP32, "mixed_precision": "bf16"}
NF4 = {"base_quantization": BaseQuantization("nf4", double_quant=True)}
LOOP = {"trainer": "plain_loop"}
FSDP2 = {"engine": "fsdp2", "world_size": 8, "shard_degree": 8}
OVER_16 = {"engine": "fsdp2", "world_size": 16, "shard_degree": 16}
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
LATENT = ("q_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")
QUERY_VALUE = ("q_proj", "v_proj")


def on(*targets: str, dtype: str | None = "bf16", **more: Any) -> dict[str, Any]:
    """Return the plan field of an adapter of rank 16 on some modules; on every linear layer where none is named."""
    return {
        "adapter": replace(Adapter("lora", 16, 16, 0.0, targets or "all-linear", dtype), **more)
    }


def tokens(length: int, rows: int = 1) -> dict[str, Any]:
    """Return the plan fields of some rows of a length."""
    return {"seq_len": length, "micro_batch_size": rows}


@dataclass(frozen=True)
class Kind:
    """A plan that a formula was off by some percent for, before it was mended."""

    name: str
    model: str
    """The id of a shipped model, or the type of a small one."""
    before: float
    """Percent that the formula was off a trace when the kind was found: at commit 224cef4, of FSDP2 in November 2026."""
    edits: Mapping[str, Any]


def _kind(name: str, model: str, before: float, *edits: Mapping[str, Any]) -> Kind:
    together: dict[str, Any] = tokens(2048)
    for more in edits:
        together.update(more)
    return Kind(name, model, before, together)


LLAMA, MISTRAL, GPT2 = (
    "meta-llama/Llama-3.1-8B",
    "mistralai/Mistral-7B-v0.1",
    "openai-community/gpt2",
)
MIXTRAL, QWEN3, QWEN3_MOE = "mistralai/Mixtral-8x7B-v0.1", "Qwen/Qwen3-1.7B", "Qwen/Qwen3-30B-A3B"
STARCODER2, FALCON, PHI2 = "bigcode/starcoder2-3b", "tiiuae/falcon-7b", "microsoft/phi-2"
QWEN3_NEXT = "Qwen/Qwen3-Next-80B-A3B-Instruct"
KINDS = (
    _kind("LoRA on attention alone, experts", MIXTRAL, 86.6, on(*ATTENTION)),
    _kind("LoRA on attention alone, experts", QWEN3_MOE, 81.1, on(*ATTENTION)),
    _kind("LoRA on attention alone, experts", "allenai/OLMoE-1B-7B-0924", 74.8, on(*ATTENTION)),
    _kind("LoRA on attention alone, experts", "zai-org/GLM-4.5-Air", 85.9, on(*ATTENTION)),
    _kind("LoRA on attention alone, experts", "deepseek-ai/DeepSeek-V2-Lite", 74.0, on(*LATENT)),
    _kind("LoRA on attention alone, experts", QWEN3_NEXT, 82.0, on(*ATTENTION)),
    _kind("the same, checkpointed", MIXTRAL, 3.9, on(*ATTENTION), CHECKPOINTED),
    _kind("the same, fp32 adapters under autocast", MIXTRAL, 86.2,
          on(*ATTENTION, dtype="fp32"), {"mixed_precision": "bf16"}),
    _kind("the same, QLoRA", MIXTRAL, 88.2, on(*ATTENTION), NF4),
    _kind("the same, FSDP2 over 8 ranks", QWEN3_MOE, 265, on(*ATTENTION), FSDP2),
    _kind("adapters on experts, FSDP2 over 8 ranks, checkpointed", QWEN3_MOE, -3.4,
          tokens(512), on(), FSDP2, CHECKPOINTED),
    _kind("8 experts over 16 ranks of FSDP2, checkpointed", MIXTRAL, -28.9,
          on(*ATTENTION), OVER_16, CHECKPOINTED),
    _kind("few tokens under FSDP2", LLAMA, 3.8, tokens(512), FSDP2),
    _kind("DoRA", LLAMA, -26.3, on(kind="dora")),
    _kind("DoRA, QLoRA", QWEN3, -30.2, on(kind="dora"), NF4),
    _kind("DoRA, small model", "olmo2", -21.2, on(kind="dora", rank=3), tokens(256, 2)),
    _kind("DoRA, checkpointed", LLAMA, 0.0, on(kind="dora"), CHECKPOINTED),
    _kind("window shorter than the sequence", MISTRAL, -7.0, tokens(8192)),
    _kind("window shorter than the sequence, LoRA", MISTRAL, -10.2, tokens(8192), on()),
    _kind("window shorter than the sequence", STARCODER2, -13.2, tokens(8192)),
    _kind("window shorter than the sequence, LoRA", STARCODER2, -21.5, tokens(8192), on(*QUERY_VALUE)),
    _kind("window shorter than the sequence, checkpointed", "google/gemma-3-1b-pt", 4.4,
          tokens(4096), CHECKPOINTED),
    _kind("padded rows", LLAMA, -4.5, tokens(4096, 2), PADDED),
    _kind("padded rows", "Qwen/Qwen3-0.6B", -3.9, tokens(1024, 8), PADDED),
    _kind("padded rows, fp32 under autocast", LLAMA, -1.4, tokens(2048, 2), PADDED, AUTOCAST),
    _kind("GPT-2 eager, fp32", GPT2, -22.0, tokens(1024, 8), EAGER, FP32),
    _kind("GPT-2 eager, fp32", GPT2 + "-xl", -24.6, tokens(1024, 4), EAGER, FP32),
    _kind("GPT-2 eager, bf16", GPT2 + "-xl", 9.1, tokens(1024, 4), EAGER),
    _kind("GPT-2 eager, fp32 under autocast", GPT2 + "-xl", -5.8, tokens(1024, 4), EAGER, AUTOCAST),
    _kind("Adafactor, checkpointed", "Qwen/Qwen2.5-1.5B", -12.6, CHECKPOINTED, {"optimizer": "adafactor"}),
    _kind("8-bit Adam in a loop", QWEN3, 10.8, {"optimizer": "adamw_8bit"}, LOOP),
    _kind("8-bit Adam in a loop, checkpointed", QWEN3, 0.1, {"optimizer": "adamw_8bit"}, LOOP, CHECKPOINTED),
    _kind("Falcon, LoRA on query_key_value", FALCON, -5.5, on("query_key_value")),
    _kind("OPT with its dropout", "facebook/opt-350m", -2.8),
    _kind("OPT with its dropout", "facebook/opt-1.3b", -2.6),
    _kind("OPT with its dropout", "facebook/opt-6.7b", -1.9),
    _kind("eager, checkpointed, long", LLAMA, -3.7, tokens(4096), EAGER, CHECKPOINTED),
    _kind("modules_to_save", LLAMA, -0.1, on(modules_to_save=("embed_tokens", "lm_head"))),
    _kind("modules_to_save, fp32 under autocast", LLAMA, -2.3,
          on(dtype="fp32", modules_to_save=("embed_tokens", "lm_head")), {"mixed_precision": "bf16"}),
    _kind("modules_to_save, window", "mistral", -3.8, tokens(500, 2),
          on(modules_to_save=("embed_tokens", "lm_head"))),
    _kind("LoRA on q, k and v of Phi-2", PHI2, -1.2, on("q_proj", "k_proj", "v_proj")),
    _kind("LoRA on fc1 of Phi-2", PHI2, -2.1, on("fc1")),
    _kind("LoRA on k of Phi-2", PHI2, 2.4, on("k_proj")),
    _kind("LoRA on the gate of an MLP", LLAMA, 0.5, on("gate_proj", dropout=0.1)),
    _kind("LoRA on the last product of an MLP", LLAMA, 0.8, on("down_proj")),
    _kind("linear attention, small", "qwen3_next", -5.8, tokens(256, 2)),
    _kind("linear attention, small", "qwen3_5_text", -3.6, tokens(256, 2)),
    _kind("linear attention, small", "qwen3_5_moe_text", -3.2, tokens(256, 2)),
    _kind("fp32 without autocast", LLAMA, 0.0, FP32),
)  # fmt: skip
"""Those that a trace runs; the page says what holds the others."""


@dataclass(frozen=True)
class Measured:
    """A kind with its peak, by formula and by trace."""

    kind: Kind
    formula_bytes: int
    traced_bytes: int

    @property
    def error(self) -> float:
        """The formula's relative error, signed."""
        return self.formula_bytes / self.traced_bytes - 1


def plan_and_model(kind: Kind) -> tuple[LaunchPlan, ModelSpec]:
    """Return the plan of a kind and its model; raise LookupError where the registry has no such model."""
    entry = find_model(kind.model)
    is_small = "/" not in kind.model
    if not is_small and entry is None:
        raise LookupError(kind.model)
    config = small_config(kind.model, NUM_VARIANTS) if entry is None or is_small else entry.config
    if kind.name.endswith("window"):
        config = {**config, "sliding_window": 100}
    plan = replace(plan_of("full", False, attention=None), **kind.edits)
    return plan, describe(config, kind.model, "registry")


def measure(kind: Kind, plugins: PluginManager) -> Measured:
    """Trace the plan of a kind, and set what `preflight check` adds up beside the trace's peak."""
    from preflight.trace.run import trace

    plan, model = plan_and_model(kind)
    traced = max(level.peak_bytes for level in trace(job_of(plan, model)).levels)
    peak = estimate_memory(plan, model, None, plugins, ()).allocated_peak_bytes
    return Measured(kind, peak, traced)


def table_lines(measured: Iterable[Measured]) -> list[str]:
    """Return the table in Markdown."""
    lines = ["| plan | model | before | now | peak traced, GiB |", "|---|---|--:|--:|--:|"]
    for one in measured:
        name, off = one.kind.model.rpartition("/")[2], f"{100 * one.error:+.2f}"
        marked = f"**{off}**" if abs(one.error) > WORST_OFF else off
        gib = one.traced_bytes / 2**30
        lines.append(
            f"| {one.kind.name} | {name} | {one.kind.before:+.1f} | {marked} | {gib:.2f} |"
        )
    return lines


def _measured(kinds: Iterable[Kind], say: Say) -> Iterable[Measured]:
    plugins = load_plugins(str(ROOT))
    for kind in kinds:
        say(f"{kind.name}, {kind.model}")
        yield measure(kind, plugins)


def files(say: Say) -> Files:
    """Yield the page with a row for every kind."""
    yield PAGE, put_between(read(PAGE), BEGIN, END, table_lines(_measured(KINDS, say)))


def main() -> int:
    """Print the rows that have one of some words, or all; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m preflight.derive.pages.plan_kinds", description=__doc__
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="all rows when none is given")
    words = parser.parse_args().words
    kinds = [k for k in KINDS if not words or any(w in f"{k.name} {k.model}" for w in words)]
    print("\n".join(table_lines(_measured(kinds, print))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
