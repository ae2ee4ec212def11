"""The named sizes that a layer's bytes are counted in, and sums of them: `4 T*h + 2 T*kv + 2 w:mlp.up_proj.weight`.

T*x    tokens times x, with x one of: 1, h hidden, q queries, kv keys, v values, o attention's output,
       I dense width, S shared experts' width, M an expert's width, nh and nkv heads, d head size,
       E experts, k experts per token, kh, kM, Eh, EM products, qr and kvr latent ranks,
       rope the rotary part of a latent key, r the adapter's rank, V vocabulary,
       rot a head's rotary part, rotq and rotkv of all heads, restq and restkv the other parts
TL*x   tokens times the length of a sequence times x
L*x    positions of one sequence times x: tables that sequences share
LL     the square of the length
hV     the head's matrix; T*V are its logits
E      experts
w:name one parameter of the layer
B      sequences
C      one byte
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from preflight.launch import LaunchPlan
from preflight.model import ModelSpec, ModelUnit
from preflight.precision import adapter_tensors

Form = Mapping[str, int]
"""Named size -> how many bytes of it."""

PER_LENGTH = ("1", "nh", "nkv")
PER_POSITION = ("1", "h", "d", "rope", "rot")
ROTARY_SHARES = {
    "gpt_neox": 0.25, "stablelm": 0.25, "phi": 0.5, "glm": 0.5, "glm4": 0.5, "glm4_moe": 0.5,
}  # fmt: skip
"""Of a head's size, where a config does not say: `partial_rotary_factor` (configuration_*.py, 5.24.0)."""


def layer_sizes(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit) -> dict[str, int]:
    """Return every named size of one layer under a plan; of names with equal sizes, the first is meant."""
    batch, length = plan.micro_batch_size or 1, plan.seq_len or 1
    widths = _widths(plan, model, unit)
    tokens = batch * length
    sizes = {"C": 1, "B": batch}
    sizes.update((f"T*{name}", tokens * size) for name, size in widths.items())
    sizes.update((f"TL*{name}", tokens * length * widths.get(name, 0)) for name in PER_LENGTH)
    sizes.update((f"L*{name}", length * widths.get(name, 0)) for name in PER_POSITION)
    sizes["LL"] = length * length
    sizes["E"] = widths["E"]
    sizes["hV"] = model.hidden_size * model.vocab_size
    sizes.update((f"w:{tensor.name}", tensor.num_params) for tensor in unit.tensors)
    if plan.adapter is not None:
        sizes.update(_adapter_sizes(plan, model, unit))
    return sizes


def _widths(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit) -> dict[str, int]:
    shape = unit.layer
    assert shape is not None
    latent = model.facts.get("mla") or {}
    hidden, num_experts, chosen = shape.hidden_size, shape.num_experts, shape.experts_per_token
    value_dim = shape.v_head_dim or shape.head_dim
    rotary = _rotary_dim(model, shape.head_dim)
    rest = shape.head_dim - rotary
    return {
        "1": 1,
        "h": hidden,
        "q": shape.query_size,
        "kv": shape.kv_size,
        "v": shape.num_kv_heads * value_dim,
        "o": shape.num_heads * value_dim,
        "I": shape.intermediate_size,
        "S": shape.shared_expert_intermediate_size,
        "M": shape.moe_intermediate_size,
        "nh": shape.num_heads,
        "nkv": shape.num_kv_heads,
        "d": shape.head_dim,
        "E": num_experts,
        "k": chosen,
        "kh": chosen * hidden,
        "kM": chosen * shape.moe_intermediate_size,
        "Eh": num_experts * hidden,
        "EM": num_experts * shape.moe_intermediate_size,
        "qr": latent.get("q_lora_rank") or 0,
        "kvr": latent.get("kv_lora_rank") or 0,
        "rope": latent.get("qk_rope_head_dim") or 0,
        "r": 0 if plan.adapter is None else plan.adapter.rank,
        "V": model.vocab_size,
        "rot": rotary,
        "rotq": shape.num_heads * rotary,
        "rotkv": shape.num_kv_heads * rotary,
        "restq": shape.num_heads * rest,
        "restkv": shape.num_kv_heads * rest,
    }


def _rotary_dim(model: ModelSpec, head_dim: int) -> int:
    """Return how much of a head is rotated; the whole unless the config or the family says less."""
    latent = model.facts.get("mla") or {}
    if latent.get("qk_rope_head_dim"):
        return int(latent["qk_rope_head_dim"])
    given = model.config.get("rotary_dim")
    if isinstance(given, int):
        return min(given, head_dim)
    scaling = model.config.get("rope_parameters")
    share = model.config.get("partial_rotary_factor") or model.config.get("rotary_pct")
    if share is None and isinstance(scaling, Mapping):
        share = scaling.get("partial_rotary_factor")
    if not isinstance(share, (int, float)):
        share = ROTARY_SHARES.get(model.model_type, 1.0)
    return min(head_dim, int(head_dim * share))


def _adapter_sizes(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit
) -> Iterator[tuple[str, int]]:
    assert plan.adapter is not None
    for owner, tensor in adapter_tensors(plan.adapter, model):
        if owner is unit:
            yield f"w:{tensor.name}", tensor.num_params


def bytes_of(form: Form, sizes: Mapping[str, int]) -> int:
    """Return a sum in bytes; a size that a layer does not have is none."""
    return sum(count * sizes.get(name, 0) for name, count in form.items())
