"""The named sizes that a layer's bytes are counted in, and sums of them: `4 T*h + 2 T*kv + 2 w:mlp.up_proj.weight`.

T*x    tokens times x, with x one of: 1, h hidden, q queries, kv keys, v values, o attention's output,
       I dense width, S shared experts' width, M an expert's width, nh and nkv heads, d head size,
       E experts, k experts per token, kh, kM, Eh, EM products, qr and kvr latent ranks,
       rope the rotary part of a latent key, r the adapter's rank, V vocabulary,
       rot a head's rotary part, rotq and rotkv of all heads, restq and restkv the other parts,
       ih, id, ihd heads of a sparse attention's indexer, their size and both, idrope and ihdrope what of it
       is rotated, idrest and ihdrest the other parts, topk the keys that a token is left with
Te*x   rows of one expert in a loop over all of them, T*kE what says which token goes to which; e:name one expert's share
       of a stack of parameters that such a loop takes apart
TL*x   tokens times the length of a sequence times x
Tp*x   tokens of sequences padded to whole chunks of a gated delta rule, Bc*x those of one chunk of each sequence,
       N*x chunks of all sequences, with x too: lk keys, lv values, lrk keys repeated for every value head, lnk and
       lnv heads, lcc a chunk's square by head, lck the same for every key (Kimi), mix what is convolved, ls a state;
       Tk*mix is its padded result
L*x    positions of one sequence times x: tables that sequences share
LL     the square of the length; LL*nh that times heads: distances of one sequence's tokens
hV     the head's matrix; T*V are its logits
hP     a table of learned positions
V      the vocabulary
E      experts
d      head size
w:name one parameter of the layer; under 4 bits s:name its scales, and u:name and us:name the same where
       a product of many tokens unpacks them
B      sequences
       a type that a table lays out has widths of its own: T*x, TL*x, L*x, B*x and O*x (of the whole model, whatever the
       batch) with x an expression in config fields;
       where its states are scanned by chunks T*x are tokens of whole chunks, N*x the chunks of all sequences, S*x the
       same with the state before the first, M*x the square of those of each sequence, C*cc the square of a chunk,
       C*nn that of the number of chunks of a sequence and one
       of an encoder with a decoder T*x and TL*x are the encoder's, Y*x answers' tokens times x, Ys*1 those but the last, YY*x and YL*x those times
       an answer's length and times a source's, LL*x, KK*x and KL*x squares of both lengths and their product, K*1 an answer's length
       of layers that attend to images X*x are the image tokens of all sequences times x, TX text tokens times those of one
       sequence, TXp the same with rows as the efficient kernel pads a mask's, where it does
C      one byte
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from preflight.formulas.adapters.adapter_kinds import branch_rank
from preflight.formulas.adapters.adapters import adapter_tensors
from preflight.formulas.adapters.linear_experts import (
    FACT,
    LOOPED_STACKS,
    sizes_of_one,
    stacked_sizes,
)
from preflight.formulas.objective import num_sequences
from preflight.formulas.precision import is_quantized
from preflight.formulas.tower_sizes import attended_rows
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec, ModelUnit
from preflight.remembered import remembered
from preflight.units import ceil_div

LARGEST_FUSED_TOKENS = 1536
"""More tokens than this, and a 4-bit weight is unpacked before the product (bitsandbytes/backends/cuda/ops.py:926,
0.50.2)."""
MASK_MULTIPLE = 16
"""The efficient kernel reads masks in rows of 16 (aten/src/ATen/native/transformers/attention.cpp, pad_bias)."""
BLOCK = 64
"""Elements that share a scale (bitsandbytes/functional.py, 0.50.2)."""
UNPACKED = ("u:", "us:")
Form = Mapping[str, int]
"""Named size -> how many bytes of it."""

PER_LENGTH = ("1", "nh", "nkv", "ih", "id")
PER_POSITION = ("1", "h", "d", "rope", "rot")
ROTARY_SHARES = {
    "gpt_neox": 0.25, "stablelm": 0.25, "phi": 0.5, "glm": 0.5, "glm4": 0.5, "glm4_moe": 0.5,
    "qwen3_next": 0.25, "qwen3_5_text": 0.25, "qwen3_5_moe_text": 0.25,
}  # fmt: skip
"""Of a head's size, where a config does not say: `partial_rotary_factor` (configuration_*.py, 5.24.0)."""


@remembered
def layer_sizes(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit) -> dict[str, int]:
    """Return every named size of one layer under a plan; of names with equal sizes, the first is meant."""
    batch = num_sequences(plan)
    length = ceil_div(plan.seq_len or 1, plan.ranks_per_sequence)
    own: Mapping[str, int] = model.facts.get("widths") or {}
    widths = _widths(plan, model, unit)
    chunk = int(model.facts.get("chunk") or 0)
    tokens = batch * (ceil_div(length, chunk) * chunk if chunk else length)
    sizes = {"C": 1, "B": batch}
    sizes.update((f"T*{name}", tokens * size) for name, size in widths.items())
    sizes.update((f"TL*{name}", tokens * length * widths.get(name, 0)) for name in PER_LENGTH)
    sizes.update((f"L*{name}", length * widths.get(name, 0)) for name in PER_POSITION)
    if model.facts.get("both_stacks"):
        sizes.update(_of_answers(widths, batch, length, plan.target_len or 1))
    if own:  # what grows with the chunks has its name before what has the size of a few
        sizes.update(_delta_sizes(model, batch, length))
    for name, size in own.items():
        sizes[f"T*{name}"] = tokens * size
        sizes[f"TL*{name}"] = tokens * length * size
        sizes[f"L*{name}"] = length * size
        sizes[f"B*{name}"] = batch * size
    if chunk:
        sizes.update(_of_chunks(own, batch, ceil_div(length, chunk)))
        sizes["T*1"] = batch * length  # what bytes per token are of
        sizes["C*cc"] = chunk * chunk
        sizes["C*nn"] = (ceil_div(length, chunk) + 1) ** 2
    if rows := attended_rows(plan, model):
        sizes.update(_of_images(widths, batch, length, rows))
    sizes["LL"] = length * length
    sizes.setdefault("LL*nh", length * length * widths["nh"])
    sizes.update(_delta_sizes(model, batch, length))
    sizes["E"] = widths["E"]
    sizes["d"] = widths["d"]
    sizes["hV"] = model.hidden_size * model.vocab_size
    sizes["V"] = model.vocab_size
    sizes["hP"] = _learned_positions(model)
    sizes.update((f"w:{tensor.name}", tensor.num_params) for tensor in unit.tensors)
    sizes.update((f"O*{name}", size) for name, size in own.items())  # a weight is meant first
    if model.facts.get(FACT):
        sizes.update(stacked_sizes(unit.tensors))
    if model.model_type in LOOPED_STACKS:
        sizes.update(sizes_of_one(unit))
    sizes.update(_rows_of_one_expert(widths, tokens))
    if plan.base_quantization is not None:
        of_expert = sizes["Te*1"] if model.facts.get(FACT) else tokens
        sizes.update(_packed_sizes(plan, unit, tokens, of_expert))
    if plan.adapter is not None:
        sizes.update(_adapter_sizes(plan, model, unit))
    return sizes


def _of_answers(
    widths: Mapping[str, int], batch: int, length: int, answer: int
) -> Iterator[tuple[str, int]]:
    """Yield the sizes of a decoder beside an encoder: what it is given, and what it attends to of both."""
    yield from ((f"Y*{name}", batch * answer * size) for name, size in widths.items())
    yield from (("Ys*1", batch * (answer - 1)), ("K*1", answer), ("K*h", answer * widths["h"]))
    squares = {"LL": length * length, "KK": answer * answer, "KL": answer * length}
    for name in ("1", "nh"):
        yield f"YY*{name}", batch * answer * answer * widths[name]
        yield f"YL*{name}", batch * answer * length * widths[name]
        yield from ((f"{square}*{name}", n * widths[name]) for square, n in squares.items())


def _of_images(
    widths: Mapping[str, int], batch: int, length: int, rows: int
) -> Iterator[tuple[str, int]]:
    """Yield the sizes of what layers attend to beside the text: so many rows for each sequence."""
    yield from ((f"X*{name}", batch * rows * size) for name, size in widths.items())
    padded = ceil_div(rows, MASK_MULTIPLE) * MASK_MULTIPLE
    yield "TX", batch * length * rows
    yield "TXp", batch * length * padded * (padded > rows)


def _of_chunks(own: Mapping[str, int], batch: int, num_chunks: int) -> Iterator[tuple[str, int]]:
    """Yield the sizes of a scan that works on all chunks of a sequence at once, and hands a state from each to the next."""
    for name, size in own.items():
        yield f"N*{name}", batch * num_chunks * size
        yield f"S*{name}", batch * (num_chunks + 1) * size
        yield f"M*{name}", batch * (num_chunks + 1) ** 2 * size


def _rows_of_one_expert(widths: Mapping[str, int], tokens: int) -> Iterator[tuple[str, int]]:
    """Yield the sizes of a loop over experts: one of them has an equal share of the rows."""
    if not widths["E"]:
        yield "Te*1", 0
        return
    rows = ceil_div(tokens * widths["k"], widths["E"])
    yield from ((f"Te*{name}", rows * widths[name]) for name in ("M", "h", "1", "r"))
    yield "T*kE", tokens * widths["k"] * widths["E"]


def _learned_positions(model: ModelSpec) -> int:
    """Return the elements of the largest embedding that is not the vocabulary's."""
    others = [
        tensor.num_params
        for unit in model.units
        if unit.role == "embedding"
        for tensor in unit.tensors
        if tensor.num_params != model.hidden_size * model.vocab_size
    ]
    return max(others, default=0)


def _widths(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit) -> dict[str, int]:
    shape = unit.layer
    assert shape is not None
    latent = model.facts.get("mla") or {}
    hidden, num_experts, chosen = shape.hidden_size, shape.num_experts, shape.experts_per_token
    value_dim = shape.v_head_dim or shape.head_dim
    rotary = _rotary_dim(model, shape.head_dim)
    rest = shape.head_dim - rotary
    rank = 0 if plan.adapter is None else branch_rank(plan.adapter)
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
        "kr": chosen * rank,
        "Eh": num_experts * hidden,
        "EM": num_experts * shape.moe_intermediate_size,
        "qr": latent.get("q_lora_rank") or 0,
        "kvr": latent.get("kv_lora_rank") or 0,
        "rope": latent.get("qk_rope_head_dim") or 0,
        "r": rank,
        "V": model.vocab_size,
        "rot": rotary,
        "rotq": shape.num_heads * rotary,
        "rotkv": shape.num_kv_heads * rotary,
        "restq": shape.num_heads * rest,
        "restkv": shape.num_kv_heads * rest,
        **_indexer(plan, model, int(latent.get("qk_rope_head_dim") or 0)),
    }


def _indexer(plan: LaunchPlan, model: ModelSpec, rope: int) -> dict[str, int]:
    """Return the sizes of what chooses keys before a sparse attention reads them (DeepSeek V3.2)."""
    given = model.facts.get("indexer")
    if not given:
        return {}
    heads, dim = given["heads"], given["dim"]
    return {
        "ih": heads,
        "id": dim,
        "ihd": heads * dim,
        "idrope": rope,
        "ihdrope": heads * rope,
        "idrest": dim - rope,
        "ihdrest": heads * (dim - rope),
        "topk": min(given["topk"], plan.seq_len or given["topk"]),
    }


CHUNK = 64
"""Tokens that a gated delta rule works on together (modeling_qwen3_next.py torch_chunk_gated_delta_rule, 5.24.0)."""


def _delta_sizes(model: ModelSpec, batch: int, length: int) -> Iterator[tuple[str, int]]:
    """Yield the sizes of a gated delta rule's work: on padded tokens, on one chunk of them, on states."""
    delta = model.facts.get("delta")
    if not delta:
        return
    chunks = ceil_div(length, CHUNK)
    key_heads, value_heads = delta["key_heads"], delta["value_heads"]
    keys, values = key_heads * delta["key_dim"], value_heads * delta["value_dim"]
    widths = {
        "lk": keys,
        "lv": values,
        "lrk": value_heads * delta["key_dim"],
        "lnv": value_heads,
        "lnk": key_heads,
        "lcc": CHUNK * value_heads,
        "lck": CHUNK * value_heads * delta["key_dim"],
        "mix": 2 * keys + values,
    }
    state = value_heads * delta["key_dim"] * delta["value_dim"]
    # traces were of whole chunks, where a token's tensors and a padded one's have one name: they are counted padded
    padded = batch * chunks * CHUNK
    for scale, tokens in (("T", padded), ("Tp", padded), ("Bc", batch * CHUNK)):
        yield from ((f"{scale}*{name}", tokens * size) for name, size in widths.items())
    yield "T*mix", batch * length * widths["mix"]
    convolved = batch * (length + delta["kernel"] - 1)
    yield from ((f"Tk*{name}", convolved * widths[name]) for name in ("mix", "lk", "lv"))
    for scale, count in (("N", batch * chunks), ("B", batch)):
        yield f"{scale}*ls", count * state
        yield f"{scale}*lnv", count * value_heads
        yield f"{scale}*lrk", count * value_heads * delta["key_dim"]


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
    own = [
        tensor
        for owner, tensor in adapter_tensors(plan, model)
        if owner is unit or (owner.role == "embedding" and ".lora_" in tensor.name)
    ]
    yield from ((f"w:{tensor.name}", tensor.num_params) for tensor in own)
    if model.facts.get(FACT):
        yield from stacked_sizes(own).items()


def _packed_sizes(
    plan: LaunchPlan, unit: ModelUnit, tokens: int, of_expert: int
) -> Iterator[tuple[str, int]]:
    quantization = plan.base_quantization
    assert quantization is not None
    for tensor in unit.tensors:
        if not is_quantized(plan, unit, tensor):
            continue
        unpacks = (of_expert if ".experts." in tensor.name else tokens) > LARGEST_FUSED_TOKENS
        scales = ceil_div(tensor.num_params, BLOCK) if quantization.double_quant else 0
        yield f"s:{tensor.name}", scales
        if unpacks:
            yield f"u:{tensor.name}", tensor.num_params
            yield f"us:{tensor.name}", scales


def bytes_of(form: Form, sizes: Mapping[str, int]) -> int:
    """Return a sum in bytes; a size that a layer does not have is none."""
    return sum([count * sizes.get(name, 0) for name, count in form.items()])
