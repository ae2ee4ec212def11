"""How many elements of each parameter one rank holds, under every engine, padding included."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from preflight.formulas.adapters.adapters import adapter_tensors
from preflight.formulas.adapters.frozen_parts import SEEING, in_turns, is_blind, is_frozen
from preflight.formulas.objective import num_sequences
from preflight.formulas.precision import is_quantized
from preflight.formulas.tensor_parallel import divided_elements
from preflight.formulas.user_loop import has_own_model_code
from preflight.launch import LaunchPlan
from preflight.model import ALL_PARAMETERS, EXPERTS, ModelSpec, ModelUnit, ParameterTensor
from preflight.remembered import remembered
from preflight.units import ceil_div
from preflight.values import dataclass
from preflight.versions import accelerate, torchtitan
from preflight.versions.boundary import OLDEST
from preflight.versions.torch import REDUCES_ON_DEFAULT_STREAM

NF4_BLOCK = 64
NF4_ABSMAX_BLOCK = 256
"""bitsandbytes block sizes of 4-bit weights and of their double-quantized scales (bitsandbytes/functional.py, 0.50.2)."""
NF4_CODES, ABSMAX_CODES = 16, 256
"""Entries of their code books, in fp32."""


@dataclass(frozen=True)
class HeldTensor:
    """One tensor kind of the model as a plan trains it."""

    unit: ModelUnit
    tensor: ParameterTensor
    count: int
    trains: bool
    quantized: bool = False
    waits: bool = False
    """It may train, and no loss reaches it: without a gradient, but in the buckets of DDP, which are made before."""


@remembered
def held_tensors(plan: LaunchPlan, model: ModelSpec) -> tuple[HeldTensor, ...]:
    """Return every tensor of base and adapter with whether it trains and whether it is packed.

    One that gets no gradient has no optimizer state either, where states are made tensor by tensor.
    """
    return tuple(_held_tensors(plan, model))


def _held_tensors(plan: LaunchPlan, model: ModelSpec) -> Iterator[HeldTensor]:
    frozen_base = plan.adapter is not None
    all_train = plan.engine not in ("single", "ddp")
    turns = in_turns(plan, model)
    for unit, tensor in model.tensors():
        if plan.layers_at_a_time is not None:
            count = turns.count(unit)
            if count:
                yield HeldTensor(unit, tensor, count, tensor.gets_gradient)
            if unit.count > count:
                yield HeldTensor(unit, tensor, unit.count - count, False)
            continue
        packed = plan.base_quantization is not None and is_quantized(plan, unit, tensor)
        gets_gradient = tensor.gets_gradient and not is_blind(plan, unit)
        may_train = not frozen_base and not is_frozen(plan, unit)
        trains = may_train and (all_train or gets_gradient)
        yield HeldTensor(unit, tensor, unit.count, trains, packed, may_train and not trains)
    if plan.adapter is not None:
        for unit, tensor in adapter_tensors(plan, model):
            yield HeldTensor(unit, tensor, unit.count, all_train or tensor.gets_gradient)


def local_elements(plan: LaunchPlan, held: HeldTensor) -> int:
    """Return the elements of one instance of a tensor on the fullest rank.

    FSDP2 pads dim 0 to the shard group (torch/distributed/fsdp/_fully_shard/_fsdp_param.py, 2.13);
    FSDP1 pads the flat parameter of a unit and ZeRO each flat group: less than one element per rank
    and tensor. ZeRO-1/2 keep the parameters whole; tensor parallelism divides matrices first.
    """
    shape = held.tensor.shape
    total = prod(shape)
    if plan.tensor_parallel_degree > 1:
        total = divided_elements(plan, held.unit, held.tensor)
    if not shards_parameters(plan):
        return total
    degree = plan.shard_degree
    if plan.engine == "fsdp2" and shape:
        return ceil_div(shape[0], degree) * (total // max(1, shape[0]))
    if plan.engine == "zero3" and total <= persistence_threshold(plan):
        return total
    return ceil_div(total, degree)


def shards_parameters(plan: LaunchPlan) -> bool:
    return plan.is_fsdp or plan.engine == "zero3"


def partitions_as_made(plan: LaunchPlan) -> bool:
    """Tell whether ZeRO-3 divides each parameter as it is made; else the whole model is on every GPU before.

    A Trainer of transformers tells from_pretrained of ZeRO-3; a loop that calls deepspeed.initialize alone does not.
    """
    by_rule = plan.trainer != "plain_loop"
    told = (plan.zero_init, plan.script_facts.zero_init, by_rule)
    return plan.engine == "zero3" and next(each for each in told if each is not None)


def saves_shards(plan: LaunchPlan) -> bool:
    """Tell whether every rank writes its own shards of a checkpoint: what torchtitan always does
    (dcp.save in torchtitan/components/checkpoint.py, 0.1.0 to 0.3.0)."""
    return plan.state_dict_type == "sharded" or plan.trainer == "torchtitan"


def persistence_threshold(plan: LaunchPlan) -> int:
    """Return ZeRO-3's size below which a parameter stays whole; 0 for `auto`, which is 10 x hidden size
    (transformers/integrations/deepspeed.py:136)."""
    settings = plan.deepspeed
    return 100_000 if settings is None else settings.stage3_param_persistence_threshold or 0


def quantized_bytes(plan: LaunchPlan, num_elements: int) -> int:
    """Return the bytes of a packed weight with its scales."""
    return packed_bytes(plan, num_elements) + scale_bytes(plan, num_elements)


def packed_bytes(plan: LaunchPlan, num_elements: int) -> int:
    """Return the bytes of a packed weight alone: the parameter, which is what FSDP shards."""
    quantization = plan.base_quantization
    assert quantization is not None
    return num_elements if quantization.scheme == "int8" else ceil_div(num_elements, 2)


def scale_bytes(plan: LaunchPlan, num_elements: int) -> int:
    """Return the bytes of a packed weight's scales, whole on every rank: a QuantState is no parameter.

    4-bit: one scale per 64 (fp32, or uint8 plus fp32 per 256 of them when quantized twice), and each
    weight has its own code books (bitsandbytes/functional.py QuantState, 0.50.2); int8: a fp32 scale
    per row (counted per 4096 elements, the narrowest row in use).
    """
    quantization = plan.base_quantization
    assert quantization is not None
    if quantization.scheme == "int8":
        return ceil_div(num_elements, 4096) * 4
    blocks = ceil_div(num_elements, NF4_BLOCK)
    if quantization.double_quant:
        offset = 4
        books = 4 * (NF4_CODES + ABSMAX_CODES) + offset
        return blocks + 4 * ceil_div(blocks, NF4_ABSMAX_BLOCK) + books
    return 4 * blocks + 4 * NF4_CODES


def held_quantized_bytes(plan: LaunchPlan, held: HeldTensor) -> int:
    """Return what one rank holds of an instance of a packed weight: its shard, and all of its scales."""
    num_elements = held.tensor.num_params
    share = plan.shard_degree if shards_packed(plan, held) else 1
    return ceil_div(packed_bytes(plan, num_elements), share) + scale_bytes(plan, num_elements)


def shards_packed(plan: LaunchPlan, held: HeldTensor) -> bool:
    """Tell whether a packed weight is sharded; of a model that is counted alone the least is that it is."""
    if held.unit.name == ALL_PARAMETERS:
        return shards_parameters(plan)
    return shards_quantized_base(plan)


def shards_quantized_base(plan: LaunchPlan) -> bool:
    """Tell whether packed weights are sharded.

    FSDP2 leaves uint8 storage whole on every rank (accelerate/utils/fsdp_utils.py:789); DDP, single
    and ZeRO-1/2 replicate whatever the storage.
    """
    quantization = plan.base_quantization
    if quantization is None or not shards_parameters(plan):
        return False
    if plan.engine == "fsdp2":
        storage = quantization.storage_dtype
        return storage is not None and not storage.startswith(("uint8", "int8"))
    return True


def reduces_beside(plan: LaunchPlan) -> bool:
    """Tell whether FSDP2 makes the input of reduce-scatter on the stream that reduces."""
    if plan.trainer != "torchtitan" or plan.versions.get("torch"):
        return not REDUCES_ON_DEFAULT_STREAM.holds_in(plan.versions)
    return not torchtitan.WANTS_TORCH_2_6.holds_in(plan.versions, OLDEST)


@dataclass(frozen=True)
class WrapUnits:
    """FSDP's units in elements: what is gathered together."""

    layer: int
    """The largest wrapped layer."""
    embedding: int
    """0 where the embedding is not a unit of its own."""
    tail: int
    """Final norm and head: a unit in accelerate's FSDP2 wrapping."""
    root: int
    """Whatever stays in the root unit: unsharded from the start of forward to the end of backward."""
    num_layers: int
    embedding_in_root: int = 0
    """What of the root unit is the embedding's, whose gradient comes last."""
    whole: bool = False
    """True where nothing is wrapped: the model is one unit."""


@remembered
def wrap_units(
    plan: LaunchPlan, model: ModelSpec, trains_only: bool = False, padded: bool = False
) -> WrapUnits:
    """Return the unit sizes under FSDP (accelerate/utils/fsdp_utils.py:751-918 for FSDP2, accelerator.py:1919 for FSDP1).

    `trains_only` counts the elements that get gradients; `padded` as FSDP2 gathers and reduces them, whose buffers
    have as much of every rank as the fullest one holds: eight stacked experts over sixteen ranks are sixteen, but of
    ranks that share them each gathers its own (torchtitan/distributed/fsdp.py, 0.3.0;
    torch/distributed/fsdp/_fully_shard/_fsdp_param.py init_all_gather_outputs, _fsdp_collectives.py foreach_reduce, 2.13).
    """
    pads = padded and plan.engine == "fsdp2" and plan.expert_parallel_degree == 1
    sizes: dict[int, int] = {}
    for held in held_tensors(plan, model):
        if trains_only and not held.trains:
            continue
        elements = divided_elements(plan, held.unit, held.tensor)
        if held.tensor.kind == EXPERTS and plan.expert_parallel_degree > 1:
            elements = ceil_div(held.tensor.num_params, plan.expert_parallel_degree)
        if held.quantized:
            if not shards_quantized_base(plan):
                continue
            elements = packed_bytes(plan, elements) // 2  # as 16-bit elements
        elif pads:
            elements = local_elements(plan, held) * plan.shard_degree
        sizes[id(held.unit)] = sizes.get(id(held.unit), 0) + elements

    def size(unit: ModelUnit) -> int:
        return sizes.get(id(unit), 0)

    layer = max((size(unit) for unit in model.layers), default=0)
    others: dict[str, int] = {}
    for unit in model.units:
        if unit.role != "layer" and not _wraps_block(plan, model, unit):
            others[unit.role] = others.get(unit.role, 0) + size(unit) * unit.count
    embedding, head = others.get("embedding", 0), others.get("lm_head", 0)
    norm = others.get("final_norm", 0)
    other = sum(others.get(role, 0) for role in ("other", *SEEING))
    unwrapped = plan.wrap_policy == "none" or (
        plan.wrap_policy == "size" and (plan.wrap_min_num_params or 0) > layer
    )
    everything = layer * model.num_layers + embedding + head + norm + other
    if model.is_counted_alone and plan.wrap_policy != "none":
        return WrapUnits(0, 0, 0, 0, 1)  # nobody knows its layers: at least nothing is gathered
    if unwrapped or not model.layers:
        return WrapUnits(everything, 0, 0, 0, 1, whole=True)
    if plan.engine == "fsdp1" or not wraps_both_ends(plan):
        root = embedding + head + norm + other
        return WrapUnits(layer, 0, 0, root, model.num_layers, 0 if model.tied else embedding)
    if model.tied:
        return WrapUnits(layer, 0, embedding + norm, other, model.num_layers)
    return WrapUnits(layer, embedding, head + norm, other, model.num_layers)


def wraps_both_ends(plan: LaunchPlan) -> bool:
    """Tell whether FSDP2 has units for the embedding and for norm and head; else they are in the root unit."""
    if has_own_model_code(plan):
        return plan.trainer == "torchtitan" and torchtitan.WRAPS_BOTH_ENDS.holds_in(
            plan.versions, OLDEST
        )
    return accelerate.WRAPS_BOTH_ENDS.holds_in(plan.versions)


TOWER_BLOCKS = {
    "gemma3": "SiglipEncoderLayer", "gemma4": "Gemma4VisionEncoderLayer", "internvl": "InternVLVisionLayer",
    "internvl_rms": "InternVLVisionLayer", "llava": "CLIPEncoderLayer",
    "llava_pixtral": "PixtralAttentionLayer", "llava_siglip": "SiglipEncoderLayer", "mistral3": "PixtralAttentionLayer",
    "paligemma": "SiglipEncoderLayer", "qwen2_vl": "Qwen2VLVisionBlock",
    "qwen2_5_vl": "Qwen2_5_VLVisionBlock", "qwen3_vl": "VisionBlock",
}  # fmt: skip
"""Kind of tower -> the end of its block's class, where a model says not to split it (modeling_*.py, 5.24.0)."""


def _wraps_block(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit) -> bool:
    """Tell whether FSDP makes units of a tower's blocks: it does where the model's own classes decide."""
    if model.tower is None or unit.role != "tower" or not unit.name.endswith("*"):
        return False
    end = TOWER_BLOCKS.get(model.tower.kind)
    classes = plan.wrap_classes if plan.wrap_classes is not None else model.layer_classes
    return end is not None and any(name.endswith(end) for name in classes)


def num_answer_tokens(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the tokens that one micro batch's head makes logits for: of the answers, where a decoder has an encoder."""
    if not model.has_both_stacks:
        return num_tokens(plan)
    return num_sequences(plan) * (plan.target_len or 1)


def num_tokens(plan: LaunchPlan) -> int:
    """Return the tokens of one micro batch on one rank, of one row where the batch is unknown; 0 where the length is."""
    if plan.seq_len is None:
        return 0
    return num_sequences(plan) * ceil_div(plan.seq_len, plan.ranks_per_sequence)
