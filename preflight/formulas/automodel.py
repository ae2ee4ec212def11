"""The most that NeMo Automodel's training takes beside transformers' own modules, which its launches are estimated with.

Types without a class of Automodel's own run transformers' modules, under Liger where it has some, which take less. Its own
Llama, Qwen2 and Qwen3 keep no more than those do, but where they are checkpointed: norms, attention and MLP of a layer are,
one by one, so that the input of each stays. tests/formulas/test_automodel_steps.py holds steps that were counted.
"""

from __future__ import annotations

from collections.abc import Iterator

from preflight.formulas.engines.fsdp_gathers import LAYERS, Gathers
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import num_tokens
from preflight.launch import LaunchPlan
from preflight.memory import EVERY_STEP, MemoryTerm
from preflight.model import ModelSpec
from preflight.unpriced_names import AUTOMODEL
from preflight.values import replace

OWN_CLASSES = frozenset(
    {
        "deepseek_v3", "deepseek_v32", "deepseek_v4", "diffusion_gemma", "ernie4_5_moe", "exaone", "gemma4", "gemma4_text",
        "gemma4_unified", "glm4_moe", "glm4_moe_lite", "glm5_next", "glm_moe_dsa", "gpt_oss", "hy_v3", "internlm3",
        "kimi_k2", "kimi_linear", "laguna", "mimo_v2_flash", "minimax_m2", "ministral3", "mistral3", "mistral4",
        "muse_glimmer", "nemotron_h", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_moe",
        "qwen3_next", "qwen3_vl", "qwen3_vl_moe", "sarvam_mla", "sarvam_moe", "step3p5", "step3p7",
    }
)  # fmt: skip
"""Types that have one nobody counted (_transformers/registry.py MODEL_ARCH_MAPPING, 0.4.0 to 0.7.0)."""
PARTS = 3
"""Rows of hidden values beside a layer's input: of attention, of the second norm and of the MLP. Transformers' own layers
are checkpointed so before 0.6, and whole since (components/distributed/parallelizer.py)."""
OF_HEAD = 12
"""Bytes of an element of the head that a loss of hidden states gathers beside FSDP, of its gradient and of their sum."""
WORKSPACES = 128 * 2**20
"""Bytes of Transformer Engine's products, where it is installed: 32 MiB each (module/base.py)."""
FUSED = frozenset({"fused_linear", "chunked_ce"})
"""Losses that are taken of hidden states; every layer's are asked for with them (recipes/llm/train_ft.py, 0.7.0)."""


def automodel_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the terms of what may be more than the estimate; none where nobody counted what runs."""
    is_known = (
        model.model_type not in OWN_CLASSES or plan.trainer_facts.value("model.force_hf") is True
    )
    is_plain = plan.context_parallel_degree == 1 and not plan.torch_compile
    is_plain &= plan.base_quantization is None and (
        plan.adapter is None or plan.adapter.kind == "lora"
    )
    is_text = model.is_decoder_lm and not model.has_towers and plan.sequence_kind != "packed"
    if not (is_known and is_plain and is_text and plan.seq_len and model.layers):
        return []
    return list(_terms(plan, model))


def in_stored_dtype(plan: LaunchPlan, model: ModelSpec) -> LaunchPlan:
    """Return a plan whose weights are trained in the dtype that they are stored in, at most: fp32 where that is not certain."""
    is_certain = model.config_dtype in ("bf16", "fp16") and not model.stored_dtypes
    return plan if is_certain else replace(plan, load_dtype="fp32", master_dtype="fp32")


def _terms(plan: LaunchPlan, model: ModelSpec) -> Iterator[MemoryTerm]:
    row = num_tokens(plan) * model.hidden_size * precision_of(plan, model).bytes_of("compute")
    is_checkpointed = plan.activation_checkpointing != "none"
    shows_all = plan.loss in FUSED or plan.trainer_facts.value("model.output_hidden_states") is True
    rows = model.num_layers * (PARTS if is_checkpointed else shows_all)
    yield _term("hidden values between parts of layers", rows * row, f"{row:,} x {rows}")
    if plan.loss in FUSED:
        head = model.vocab_size * model.hidden_size
        yield _term("a head that is gathered for the loss", OF_HEAD * head, f"{head:,} x {OF_HEAD}")
    if plan.engine == "fsdp2":
        gathers = Gathers.of(plan, model)
        # its backward gathers two layers ahead (fsdp2_backward_prefetch_depth, components/distributed/config.py, 0.4 to 0.7)
        yield gathers.term("gathered layer, two ahead", gathers.units.layer, LAYERS)
    yield _term("workspaces of products", WORKSPACES, "4 x 32 MiB")


def _term(name: str, num_bytes: int, formula: str) -> MemoryTerm:
    return MemoryTerm(f"{name}, at most", num_bytes, frozenset(EVERY_STEP), formula, AUTOMODEL)
