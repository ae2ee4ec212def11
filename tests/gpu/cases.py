"""What the kit trains: some forty combinations of model, adapter, optimizer, length, attention and loss.

Random weights from configs: nothing is downloaded. The sizes are chosen so that every case takes 2 to 14 GiB.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

LLAMA = {
    "model_type": "llama",
    "hidden_size": 1536,
    "intermediate_size": 4096,
    "num_hidden_layers": 16,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 32_000,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
MOE = {
    "hidden_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 32_000,
    "max_position_embeddings": 8192,
    "num_experts_per_tok": 2,
    "tie_word_embeddings": False,
}
MODELS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "llama-large-vocabulary": {**LLAMA, "num_hidden_layers": 8, "vocab_size": 128_256},
    "mistral": {
        **LLAMA,
        "model_type": "mistral",
        "intermediate_size": 5376,
        "sliding_window": None,
    },
    "qwen2": {**LLAMA, "model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {**LLAMA, "model_type": "qwen3", "vocab_size": 64_000},
    "gemma2": {
        **LLAMA,
        "model_type": "gemma2",
        "sliding_window": 1024,
        "query_pre_attn_scalar": 128,
    },
    "phi3": {**LLAMA, "model_type": "phi3", "pad_token_id": 0},
    "gpt2": {
        "model_type": "gpt2",
        "n_embd": 1280,
        "n_layer": 24,
        "n_head": 20,
        "n_positions": 2048,
        "vocab_size": 50_257,
    },
    "mixtral": {**MOE, "model_type": "mixtral", "intermediate_size": 2816, "num_local_experts": 8},
    "qwen3_moe": {
        **MOE,
        "model_type": "qwen3_moe",
        "intermediate_size": 2816,
        "moe_intermediate_size": 768,
        "num_experts": 32,
        "num_experts_per_tok": 4,
    },
}
SMALLEST = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 512,
    "sliding_window": 32,
    "query_pre_attn_scalar": 16,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
}
"""Sizes of the same models where a CPU rehearses them."""


@dataclass(frozen=True)
class Case:
    """One training of three steps, and what a plan says of it."""

    name: str
    model: str = "llama"
    micro_batch_size: int = 4
    seq_len: int = 1024
    gradient_accumulation_steps: int = 1
    load_dtype: str = "bf16"
    mixed_precision: str = "no"
    optimizer: str = "adamw_torch"
    activation_checkpointing: str = "none"
    attention: str = "sdpa"
    loss: str = "full_logits"
    adapter: str = ""
    """lora, or dora."""
    targets: Any = "all-linear"
    quantization: str = ""
    """nf4, or int8: of the base."""
    expandable_segments: bool = False
    generates: bool = False
    """Whether 64 tokens are generated after the last step."""
    needs: tuple[str, ...] = field(default=())
    """Packages beyond torch, transformers, accelerate and peft."""

    def config(self, is_rehearsal: bool) -> dict[str, Any]:
        """Return the model's config.json, of the smallest size for a rehearsal."""
        whole = MODELS[self.model]
        if not is_rehearsal:
            return whole
        return {k: SMALLEST.get(k, v) if v is not None else None for k, v in whole.items()}

    def shape(self, is_rehearsal: bool) -> tuple[int, int]:
        """Return micro batch size and sequence length."""
        return (2, 64) if is_rehearsal else (self.micro_batch_size, self.seq_len)

    def plan(self, is_rehearsal: bool, versions: dict[str, str]) -> dict[str, Any]:
        """Return the plan of a measured run (schema 1)."""
        micro, length = self.shape(is_rehearsal)
        values: dict[str, Any] = {
            "model": f"kit/{self.model}",
            "trainer": "transformers",
            "objective": "sft",
            "engine": "single",
            "world_size": 1,
            "shard_degree": 1,
            "load_dtype": self.load_dtype,
            "mixed_precision": self.mixed_precision,
            "optimizer": self.optimizer,
            "micro_batch_size": micro,
            "seq_len": length,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "activation_checkpointing": self.activation_checkpointing,
            "checkpointing_reentrant": False,
            "attention": self.attention,
            "loss": self.loss,
            "torch_compile": False,
            "offload_optimizer": "none",
            "offload_params": "none",
            "expandable_segments": self.expandable_segments,
            "versions": versions,
        }
        if self.adapter:
            values["adapter"] = {
                "kind": self.adapter,
                "rank": 16,
                "alpha": 32,
                "dropout": 0.0,
                "targets": self.targets,
            }
        if self.quantization:
            values["base_quantization"] = {"scheme": self.quantization, "compute_dtype": "bf16"}
            if self.quantization == "nf4":
                values["base_quantization"]["double_quant"] = True
        return values


FULL = Case("llama-full")
LORA = replace(FULL, name="llama-lora", adapter="lora")
CHECKPOINTED = {"activation_checkpointing": "full"}
BITSANDBYTES = {"needs": ("bitsandbytes",)}


def _dense() -> Iterator[Case]:
    yield FULL
    yield replace(FULL, name="llama-full-checkpointed", **CHECKPOINTED)
    yield replace(FULL, name="llama-full-length-4096", micro_batch_size=1, seq_len=4096)
    yield replace(
        FULL, name="llama-full-length-8192", micro_batch_size=1, seq_len=8192, **CHECKPOINTED
    )
    yield replace(FULL, name="llama-full-batch-16", micro_batch_size=16, seq_len=512)
    yield replace(FULL, name="llama-full-accumulated", gradient_accumulation_steps=2)
    yield replace(FULL, name="llama-full-expandable", expandable_segments=True)
    yield replace(FULL, name="llama-full-autocast", load_dtype="fp32", mixed_precision="bf16")
    yield replace(
        FULL,
        name="llama-full-autocast-checkpointed",
        load_dtype="fp32",
        mixed_precision="bf16",
        **CHECKPOINTED,
    )
    yield replace(FULL, name="llama-full-fp32", load_dtype="fp32", micro_batch_size=2)
    yield replace(FULL, name="llama-full-eager", attention="eager", micro_batch_size=2)
    yield replace(FULL, name="llama-full-generates", generates=True)
    yield replace(FULL, name="llama-large-vocabulary", model="llama-large-vocabulary")
    for kind in ("mistral", "qwen2", "qwen3", "phi3", "gpt2"):
        yield replace(FULL, name=f"{kind}-full", model=kind, micro_batch_size=2)
    yield replace(FULL, name="gemma2-full", model="gemma2", attention="eager", micro_batch_size=2)
    yield replace(FULL, name="qwen3-full-checkpointed", model="qwen3", **CHECKPOINTED)


def _experts() -> Iterator[Case]:
    for kind in ("mixtral", "qwen3_moe"):
        yield replace(FULL, name=f"{kind}-full", model=kind, micro_batch_size=2)
        yield replace(FULL, name=f"{kind}-full-checkpointed", model=kind, **CHECKPOINTED)
    yield replace(
        LORA, name="mixtral-lora", model="mixtral", targets=["q_proj", "k_proj", "v_proj", "o_proj"]
    )


def _optimizers() -> Iterator[Case]:
    for optimizer in ("adamw_torch_fused", "sgd", "adafactor"):
        yield replace(FULL, name=f"llama-{optimizer}", optimizer=optimizer)
    for optimizer in ("adamw_bnb_8bit", "paged_adamw_8bit"):
        yield replace(FULL, name=f"llama-{optimizer}", optimizer=optimizer, **BITSANDBYTES)


def _adapters() -> Iterator[Case]:
    yield LORA
    yield replace(LORA, name="llama-lora-checkpointed", **CHECKPOINTED)
    yield replace(
        LORA, name="llama-lora-length-8192", micro_batch_size=2, seq_len=8192, **CHECKPOINTED
    )
    yield replace(LORA, name="llama-lora-attention", targets=["q_proj", "v_proj"])
    yield replace(LORA, name="llama-lora-autocast", mixed_precision="bf16")
    yield replace(LORA, name="mistral-lora-checkpointed", model="mistral", **CHECKPOINTED)
    yield replace(LORA, name="llama-dora", adapter="dora", micro_batch_size=2)
    for scheme in ("nf4", "int8"):
        yield replace(
            LORA, name=f"llama-lora-{scheme}", quantization=scheme, **CHECKPOINTED, **BITSANDBYTES
        )
    yield replace(LORA, name="qwen3-lora-nf4", model="qwen3", quantization="nf4", **BITSANDBYTES)


def _kernels() -> Iterator[Case]:
    yield replace(FULL, name="llama-liger", loss="fused_linear", needs=("liger_kernel",))
    flash = {"attention": "flash_attention_2", "needs": ("flash_attn",)}
    yield replace(FULL, name="llama-full-flash", **flash)
    yield replace(LORA, name="llama-lora-flash", **flash, **CHECKPOINTED)


def cases() -> tuple[Case, ...]:
    """Return every case, the most telling first: time may run out."""
    found = (*_dense(), *_adapters(), *_experts(), *_optimizers(), *_kernels())
    assert len({case.name for case in found}) == len(found)
    return found
