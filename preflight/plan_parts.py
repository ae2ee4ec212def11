"""What a plan is made of beside plain values: an adapter, a quantized base, DeepSpeed's sizes, and where values come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from typing import Any

from preflight.values import dataclass, replace

SCRIPT_DECIDES = "not said by a known flag, and the script may say otherwise"
"""Origin of a value of a script that no trainer's table describes."""
NOTHING_SAYS = "not said by a known flag, and nothing in the script speaks of it"
"""Origin of such a value where the script, and what it imports of its repository, has no name that would decide it."""


SET_ORIGIN = "--set"
"""Where a value comes from that the caller says."""


@dataclass(frozen=True)
class Origin:
    """Where a value of the plan comes from."""

    where: str
    """`configs/fsdp2.yaml:6`, `--max_length`, `default of transformers 5.24.0`, `$ACCELERATE_MIXED_PRECISION`."""
    assumed: bool = False
    """True for a value that nobody gave: shown in every report."""
    reason: str = ""
    """Why this value was assumed."""
    may_be: tuple[Any, ...] = ()
    """What else the value may be, where nobody said it and no known default decides: the field is open."""
    is_range: bool = False
    """Whether `may_be` are the least and the most of a number that has no value yet: a length that nobody said."""

    @cached_property
    def settled(self) -> Origin:
        """The origin of the same value where it may be no other."""
        return replace(self, may_be=()) if self.may_be else self


def open_up_to(most: int, reason: str) -> Origin:
    """Return the origin of a count that nobody said and that is `most` at most: a library or a model refuses more."""
    return Origin("nobody", assumed=True, reason=reason, may_be=(1, most), is_range=True)


@dataclass(frozen=True)
class LibraryVersion:
    """The version of a library that a launch will have, with who says it."""

    version: str
    origin: Origin
    """`.venv`, `requirements.txt:3`, `--set`; assumed where nobody says it."""


@dataclass(frozen=True)
class VersionReading:
    """What a launch is under other versions of its libraries than those that are taken."""

    versions: Mapping[str, str]
    fields: Mapping[str, Any]
    """Plan field -> its value there, for those that have another one."""


@dataclass(frozen=True)
class Adapter:
    """A PEFT adapter on a frozen base."""

    kind: str = "lora"
    """lora, dora, ..."""
    rank: int = 8
    """Of the two matrices of each target."""
    alpha: int | None = None
    """Scale of the adapter's output, which memory does not depend on."""
    dropout: float = 0.0
    """In front of the adapter; above 0 it keeps a mask."""
    targets: tuple[str, ...] | str | None = None
    """Module name endings, `all-linear`, or None for PEFT's own default of the architecture."""
    dtype: str | None = None
    """None = PEFT's rule: fp32 for a bf16 or fp16 base (autocast_adapter_dtype)."""
    modules_to_save: tuple[str, ...] | None = None
    """Modules that are trained whole beside the adapter."""


@dataclass(frozen=True)
class BaseQuantization:
    """How the frozen base is stored (bitsandbytes)."""

    scheme: str = "nf4"
    """nf4, fp4 or int8."""
    double_quant: bool = False
    """Quantize the scales of the packed weights too."""
    compute_dtype: str | None = None
    """Of the products with unpacked weights."""
    storage_dtype: str | None = None
    """The dtype that the packed bits pretend to be; FSDP can shard floating ones only. None = uint8."""
    upcast_unquantized_to_fp32: str | None = None
    """none, norms or all (prepare_model_for_kbit_training); None = the trainer's rule."""
    experts: bool = False
    """Pack stacked experts too, which are no linear layers (axolotl's quantize_moe_experts)."""


@dataclass(frozen=True)
class LowRank:
    """How GaLore or APOLLO projects the gradients of matrices."""

    rank: int = 128
    """Of the gradient that the optimizer keeps moments of."""
    projection: str = "std"
    """Which side of a matrix the projector has: std (the shorter one), reverse_std, right, left or full (both)."""
    is_random: bool = False
    """Whether projectors are random, which needs no decomposition (APOLLO)."""
    targets: tuple[str, ...] | str = "all-linear"
    """Parts of the names of linear layers, or regular expressions; one text is a whole name's, or `all-linear`."""


@dataclass(frozen=True)
class DeepSpeedSettings:
    """ZeRO's bucket sizes and stage-3 limits, in elements, after `auto` was resolved.

    Defaults are DeepSpeed's own (deepspeed/runtime/zero/config.py, 0.19.8).
    None in the three sizes that transformers derives from the model: `auto` with the model's hidden
    size h, which a reader does not know (reduce h*h, prefetch int(0.9*h*h), persistence 10*h).
    """

    reduce_bucket_size: int | None = 500_000_000
    """Elements of gradients that are reduced at once."""
    allgather_bucket_size: int = 500_000_000
    """Elements that are gathered at once after a step, in stages 1 and 2."""
    overlap_comm: bool | None = None
    """None = DeepSpeed's rule: true for stage 3 only."""
    contiguous_gradients: bool = True
    """Copy gradients into one buffer as they appear."""
    stage3_prefetch_bucket_size: int | None = 50_000_000
    """Elements that are gathered ahead."""
    stage3_param_persistence_threshold: int | None = 100_000
    """Smaller parameters are never sharded."""
    stage3_max_live_parameters: int = 1_000_000_000
    """Elements that may be gathered at a time."""
    stage3_max_reuse_distance: int = 1_000_000_000
    """A parameter that is used again within so many elements is kept."""
    sub_group_size: int = 1_000_000_000
    """Elements that are stepped at once."""
    stage3_gather_16bit_weights_on_model_save: bool = False
    """Gather the whole model on rank 0 for a checkpoint."""
    zero_hpz_partition_size: int = 1
    """Ranks of a second shard inside a node (ZeRO++)."""
    memory_efficient_linear: bool = True
    """Stage 3: linear layers are DeepSpeed's own, which keep their inputs frozen or not."""
    grad_accum_dtype: str | None = None
    """Of gradients kept between micro steps."""
    offload_pin_memory: bool = True
    """Whether offloaded tensors are in pinned memory."""


@dataclass(frozen=True)
class Generation:
    """How online RL makes the completions that it trains on."""

    engine: str = "transformers"
    """transformers (the policy itself generates) or vllm."""
    mode: str = "colocate"
    """vLLM: colocate (an engine in every rank, on its card) or server (on cards that no rank of the launch has)."""
    memory_share: float | None = None
    """vLLM beside the ranks: the share of the whole card that it may use; None = the trainer's default."""
    tensor_parallel_degree: int = 1
    """vLLM beside the ranks: ranks that share its weights and keys."""
    sleep: bool = False
    """vLLM beside the ranks: whether it gives its memory back between rollouts."""
    max_model_len: int | None = None
    """vLLM: tokens of prompt and completion that it takes; None = what the model's config allows."""
    max_prompt_len: int | None = None
    """Tokens that a prompt is cut at; None = prompts are not cut."""
    max_completion_len: int = 256
    """Tokens that a completion ends at."""
    num_generations: int = 8
    """Completions of one prompt."""
    steps_per_generation: int | None = None
    """Micro batches of a rank that are generated at once; None = those of one optimizer step, or what `batch_size` makes."""
    batch_size: int | None = None
    """Completions of all ranks together that are generated at once, where a launch says them and no steps."""
    gradients_wait: bool = False
    """Whether a rollout comes between micro batches of one optimizer step, while gradients of the earlier ones are there."""
    rollout_rows: int | None = None
    """Completions that are generated and scored at once; None = all of them."""
    num_mini_batches: int | None = None
    """PPO: optimizer steps that the completions of a rollout are divided into, as TRL counts them."""
    gathers_parameters: bool = True
    """Whether the whole policy is gathered at once: by ZeRO-3 while it generates, by verl to send an adapter on."""
    scores_again: bool = False
    """Whether the policy's log-probabilities are taken once more between rollout and update."""
    critic_rows: int | None = None
    """verl's PPO: rows of a micro batch of its critic, which has the policy's shapes; None = it has none, or others."""
    critic_scored_rows: int | None = None
    """Rows that it gives values to at once, without a graph; None = no more than those of a micro batch."""
    reward_rows: int | None = None
    """verl: rows that its reward model scores at once; None = it has none, or nobody says."""
    offloads_params: bool = False
    """Whether the policy's parameters are on the host while an engine generates."""
    offloads_optimizer: bool = False
    """Whether its optimizer states are on the host outside an update."""


@dataclass(frozen=True)
class Pipeline:
    """How the layers of a model are divided over stages, and in which order micro batches pass through them."""

    degree: int = 2
    """Ranks of one pipeline."""
    schedule: str = "1f1b"
    """gpipe, 1f1b, interleaved_1f1b or looped_bfs."""
    num_micro_batches: int = 1
    """Micro batches that pass through the stages in one step of the schedule."""
    stages_per_rank: int = 1
    """Stages of one rank, which are as many ranks apart as the pipeline has."""
    layers_per_stage: int | None = None
    """Layers of a stage at most, of which `stages_per_rank` follows; None = that is said."""
    first_less: int = 1
    """Layers that the first stage has less than its share, for the embedding."""
    last_less: int = 1
    """Layers that the last stage has less than its share, for the norm and the head."""
    rank: int | None = None
    """The rank whose stages are estimated; None = the fullest one's."""


@dataclass(frozen=True)
class Vision:
    """What a launch trains beside text: images, and the parts of the model that see them."""

    frozen: tuple[str, ...] = ()
    """Parts that are not trained where no adapter says so already: tower, projector, language_model; decoder is the last
    without layers that attend to images."""
    image_tokens: int | None = None
    """Tokens that one image becomes at most; None = as many as the sequence holds."""
    images_per_sequence: int | None = None
    """Images of one sequence at most; 0 = text alone, None = as many as the sequence holds."""


TOWER, PROJECTOR, LANGUAGE_MODEL = FREEZABLE = ("tower", "projector", "language_model")
"""The parts that a model which sees has."""
DECODER = "decoder"
"""What else `vision.frozen` may name."""

NESTED: dict[str, type[Any]] = {
    "adapter": Adapter,
    "base_quantization": BaseQuantization,
    "deepspeed": DeepSpeedSettings,
    "generation": Generation,
    "low_rank": LowRank,
    "pipeline": Pipeline,
    "vision": Vision,
}
"""Plan field -> the class of its value."""


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: dataclasses as dicts, tuples as lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return value
