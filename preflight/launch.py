"""A launch as it was typed (LaunchCommand) and as it was understood (LaunchPlan)."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any

from preflight.errors import BadInput, Problem
from preflight.plan_types import wrong_types
from preflight.values import dataclass


@dataclass(frozen=True)
class LaunchCommand:
    """What would be started: argv, environment and folder, exactly as given."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "."
    overlay: Mapping[str, str] = field(default_factory=dict)
    """Absolute path -> text that stands in for the file: a rewrite is read again before it is written."""
    declared_flags: Mapping[str, str] = field(default_factory=dict)
    """A flag of the repository's own scripts, without dashes -> the plan field that it means."""

    def resolve(self, path: str) -> str:
        """Return `path` as an absolute path, the way the launcher in `cwd` would find it."""
        return os.path.normpath(os.path.join(os.path.abspath(self.cwd), os.path.expanduser(path)))

    def exists(self, path: str) -> bool:
        """Tell whether a file is there, in the overlay or on disk."""
        absolute = self.resolve(path)
        return absolute in self.overlay or os.path.isfile(absolute)

    def read_text(self, path: str) -> str:
        """Return a file's text with its line ends unchanged.

        Raises OSError where the file cannot be read, UnicodeDecodeError where it is not UTF-8.
        """
        absolute = self.resolve(path)
        if absolute in self.overlay:
            return self.overlay[absolute]
        if "\0" in absolute:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), absolute)
        if (
            os.path.exists(absolute)
            and not os.path.isfile(absolute)
            and not os.path.isdir(absolute)
        ):
            # A pipe, such as <(...), could be read once: the launcher would find it empty.
            raise OSError(
                errno.EINVAL, "it is no regular file, and can be read only once or without end"
            )
        with open(absolute, encoding="utf-8", newline="") as file:
            return file.read()


SCRIPT_DECIDES = "not said by a known flag, and the script may say otherwise"
"""Origin of a value of a script that no trainer's table describes."""


@dataclass(frozen=True)
class Origin:
    """Where a value of the plan comes from."""

    where: str
    """`configs/fsdp2.yaml:6`, `--max_length`, `default of transformers 5.24.0`, `$ACCELERATE_MIXED_PRECISION`."""
    assumed: bool = False
    """True for a value that nobody gave: shown in every report."""
    reason: str = ""
    """Why this value was assumed."""


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
    grad_accum_dtype: str | None = None
    """Of gradients kept between micro steps."""
    offload_pin_memory: bool = True
    """Whether offloaded tensors are in pinned memory."""


SCHEMES = ("nf4", "fp4", "int8")

ENGINES = ("single", "ddp", "fsdp1", "fsdp2", "zero0", "zero1", "zero2", "zero3")

CHOICES: dict[str, tuple[object, ...]] = {
    "engine": ENGINES,
    "reshard_after_forward": (True, False, "default"),
    "offload_params": ("none", "cpu", "nvme"),
    "offload_optimizer": ("none", "cpu", "nvme"),
    "offload_activations": ("none", "cpu"),
    "load_dtype": ("fp32", "bf16", "fp16"),
    "mixed_precision": ("no", "bf16", "fp16", "fp8"),
    "master_dtype": ("fp32", "bf16", "fp16"),
    "reduce_dtype": ("fp32", "bf16", "fp16"),
    "optimizer_state_dtype": ("fp32", "bf16", "fp16", "int8"),
    "logits_dtype": ("fp32", "bf16", "fp16"),
    "activation_checkpointing": ("none", "full", "selective_op", "selective_every_2"),
    "attention": ("eager", "sdpa", "flash_attention_2", "flash_attention_3"),
    "loss": ("full_logits", "chunked_ce", "fused_ce", "chunked_linear", "fused_linear"),
    "state_dict_type": ("full", "sharded"),
    "sequence_kind": ("padded", "packed", "fixed"),
    "wrap_policy": ("transformer", "size", "none"),
    "optimizer_kernel": ("foreach", "fused", "for_loop"),
    "keeps_outputs": (True, False),
    "checkpointing_reentrant": (True, False),
    "zero_grad_set_to_none": (True, False),
}
"""Plan field -> the values it may have (None, for not given, beside them)."""

MOST = 2**30
"""Of ranks, tokens and sequences: far beyond what anybody trains with, and below what would take long to try."""

POSITIVE_FIELDS = (
    "world_size",
    "num_nodes",
    "shard_degree",
    "replicate_degree",
    "tensor_parallel_degree",
    "context_parallel_degree",
    "sequence_parallel_degree",
    "expert_parallel_degree",
    "micro_batch_size",
    "seq_len",
    "gradient_accumulation_steps",
    "eval_micro_batch_size",
    "host_memory_gib",
)


@dataclass(frozen=True)
class LaunchPlan:
    """Everything about a launch that memory depends on, in the field's words. None = unknown.

    Frozen: a remedy's plan is `plan.with_edits({...})`, so the plan before and the plan after both exist.
    """

    model: str | None = None
    """HF id or path, as the user spelled it."""
    model_config: Mapping[str, Any] | None = None
    """An inline config.json; beats `model`."""

    engine: str = "single"
    """How ranks divide the model: one device, DDP, FSDP 1 or 2, a stage of DeepSpeed's ZeRO."""
    world_size: int = 1
    """Ranks over all nodes."""
    num_nodes: int = 1
    """Nodes that the ranks are spread over."""
    shard_degree: int = 1
    """Ranks that share one copy of the model states."""
    replicate_degree: int = 1
    """HSDP copies."""
    tensor_parallel_degree: int = 1
    """Ranks that share each matrix product."""
    context_parallel_degree: int = 1
    """Ranks that share a sequence, ring attention."""
    sequence_parallel_degree: int = 1
    """Ranks that share a sequence, DeepSpeed's Ulysses."""
    expert_parallel_degree: int = 1
    """Ranks that share the experts of a layer."""

    reshard_after_forward: bool | str | None = None
    """FSDP only. True frees a unit's parameters after its forward; `default` = torchtitan's rule."""
    wrap_policy: str | None = None
    """FSDP only: transformer (a unit per decoder layer), size, none (one unit)."""
    wrap_classes: tuple[str, ...] | None = None
    """FSDP only: layer classes named by the user; None = the model's own `_no_split_modules`."""
    wrap_min_num_params: int | None = None
    """FSDP only: parameters from which on a module is a unit, under the size policy."""
    backward_prefetch: str | None = None
    """FSDP1 only: backward_pre, backward_post, none."""
    sync_each_batch: bool = False
    """FSDP: reduce gradients at every micro step instead of keeping them unsharded (accelerate's no_sync)."""
    cpu_ram_efficient_loading: bool | None = None
    """FSDP only: one rank of a node reads the checkpoint, the others get theirs from it."""
    state_dict_type: str | None = None
    """FSDP only: what a checkpoint holds, the whole model or each rank's shard."""

    offload_params: str = "none"
    """Where parameters wait until they are used."""
    offload_optimizer: str = "none"
    """Where optimizer states are kept and stepped."""
    offload_activations: str = "none"
    """Where saved activations wait for the backward."""

    load_dtype: str | None = None
    """Of the weights as they are loaded; None = the rule of engine, optimizer and library version."""
    mixed_precision: str = "no"
    """The trainer's autocast or the engine's own precision."""
    master_dtype: str | None = None
    """Of the weights that the optimizer steps; None = the rule of engine, optimizer and library version."""
    reduce_dtype: str | None = None
    """Of gradients as they are summed over ranks; None = the rule of engine, optimizer and library version."""
    optimizer_state_dtype: str | None = None
    """None = the rule of engine, optimizer and library version."""
    logits_dtype: str | None = None
    """None = the rule of engine, optimizer and library version."""

    optimizer: str = "adamw_torch_fused"
    """As the trainer names it: adamw_torch_fused, adamw_8bit, adafactor, ..."""
    optimizer_kernel: str | None = None
    """How torch's own optimizers walk over tensors: foreach, fused or for_loop; None = torch's default."""
    zero_grad_set_to_none: bool | None = None
    """False keeps gradients allocated, as zeros, through the next forward; None = torch's default."""
    keeps_outputs: bool | None = None
    """Whether the loop holds the model's outputs across backward; None = the rule of trainer and version."""
    max_grad_norm: float | None = None
    """Gradients are clipped to this norm; 0 = not clipped."""
    micro_batch_size: int | None = None
    """Per rank, per micro step."""
    seq_len: int | None = None
    """Tokens of the longest sequence that can reach the model."""
    sequence_kind: str | None = None
    """padded (a mask reaches attention), packed (no padding), fixed (all the same length)."""
    gradient_accumulation_steps: int = 1
    """Micro steps of one optimizer step."""
    eval_micro_batch_size: int | None = None
    """Per rank, in evaluation; None = nothing is said of an evaluation."""

    activation_checkpointing: str = "none"
    """What layers compute again in backward instead of keeping it."""
    checkpointing_reentrant: bool | None = None
    """Whether a layer is recomputed by a backward of its own (torch's use_reentrant); None = the rule of trainer and version."""
    attention: str | None = None
    """The attention kernel; None = the model's default."""
    loss: str | None = None
    """How the head's output becomes the loss: whole, in chunks, or fused with the head."""
    torch_compile: bool = False
    """Whether the model is compiled."""

    adapter: Adapter | None = None
    """A PEFT adapter on a frozen base; None = every parameter is trained."""
    base_quantization: BaseQuantization | None = None
    """How the frozen base is packed; None = it is not."""
    deepspeed: DeepSpeedSettings | None = None
    """Sizes of DeepSpeed's config; None = its defaults."""

    host_memory_gib: int | None = None
    """Memory of one node that its ranks may use; None = nobody said. How preflight was asked, like `device`: a
    launch does not say it, but a node, a job or a person does."""

    expandable_segments: bool = False
    """PYTORCH_ALLOC_CONF=expandable_segments:True."""

    trainer: str | None = None
    """transformers, trl, torchtitan, torchtune, litgpt, plain_loop."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Library versions that decide defaults, by import name."""

    device: str | None = None
    """A GPU table key, a driver's device name, NAME:GIB, or auto; how preflight was asked, not part of the launch."""
    launcher: str | None = None
    """What starts the ranks, as its reader names it."""
    cwd: str = "."
    """The folder that relative paths of the launch start from."""
    on_this_node: bool = field(default=False, compare=False, repr=False)
    """Whether the ranks start here, so that what this node has and lacks counts; how preflight was asked."""
    origins: Mapping[str, Origin] = field(default_factory=dict, compare=False, repr=False)
    notices: tuple[Problem, ...] = field(default=(), compare=False, repr=False)
    """What the reader saw that is not fatal: ignored keys, look-alikes."""
    source: Any = field(default=None, compare=False, repr=False)
    """What the reader needs to write the launch back; opaque to everybody else."""
    wrapping: tuple[Any, ...] = field(default=(), compare=False, repr=False)
    """The wrappers (srun, env, bash -c, ...) around the command that was read, outermost first."""

    @property
    def ranks_per_node(self) -> int:
        """Ranks on the fullest node."""
        return -(-self.world_size // self.num_nodes)

    @property
    def offloads(self) -> bool:
        """Whether anything that training needs lives in host memory."""
        places = self.offload_params, self.offload_optimizer, self.offload_activations
        return "cpu" in places

    @property
    def data_parallel_degree(self) -> int:
        """Ranks that see different samples."""
        shared = (
            self.tensor_parallel_degree
            * self.context_parallel_degree
            * self.sequence_parallel_degree
        )
        return max(1, self.world_size // shared)

    @property
    def global_batch_size(self) -> int | None:
        """Sequences per optimizer step over all ranks; None where the micro batch is unknown."""
        if self.micro_batch_size is None:
            return None
        return self.micro_batch_size * self.gradient_accumulation_steps * self.data_parallel_degree

    @property
    def is_fsdp(self) -> bool:
        return self.engine in ("fsdp1", "fsdp2")

    @property
    def zero_stage(self) -> int | None:
        """0 to 3 under DeepSpeed, else None."""
        return int(self.engine[4]) if self.engine.startswith("zero") else None

    def with_edits(self, edits: Mapping[str, Any]) -> LaunchPlan:
        """Return the plan with fields changed; `deepspeed.sub_group_size` reaches into a nested value.

        Raises BadInput for a field that does not exist or a value it cannot have.
        """
        changed: dict[str, Any] = {}
        for name, value in edits.items():
            outer, _, inner = name.partition(".")
            if outer not in PLAN_FIELDS:
                raise BadInput.one(f"there is no plan field {name!r}", fix=nearest_fix(outer))
            if inner:
                nested = changed[outer] if outer in changed else getattr(self, outer)
                if nested is None:
                    nested = NESTED[outer]()
                names = {f.name for f in fields(nested)}
                if inner not in names:
                    raise BadInput.one(f"there is no plan field {name!r}")
                value = replace(nested, **{inner: value})
            changed[outer] = value
        plan = replace(self, **changed)
        problems = plan.problems()
        if problems:
            raise BadInput(*problems)
        return plan

    def is_changed_by(self, edits: Mapping[str, Any]) -> bool:
        """Tell whether edits would make another plan of this one."""
        for name, value in edits.items():
            outer, _, inner = name.partition(".")
            held = getattr(self, outer, None)
            if inner and held is None:
                return True
            if (getattr(held, inner, None) if inner else held) != value:
                return True
        return False

    def with_origin(self, name: str, origin: Origin) -> LaunchPlan:
        """Return the plan with one origin recorded."""
        return replace(self, origins={**self.origins, name: origin})

    def problems(self) -> tuple[Problem, ...]:
        """Return what cannot be true of any launch: values outside their choices, degrees that do not multiply."""
        found: list[Problem] = []

        def at(name: str) -> str:
            origin = self.origins.get(name)
            return origin.where if origin else ""

        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in choices:
                wanted = ", ".join(str(choice) for choice in choices)
                found.append(
                    Problem(
                        f"{name} must be one of {wanted}, not {value!r}",
                        at(name),
                        "put quotes around 'no': YAML reads it as false"
                        if value is False and "no" in choices
                        else "",
                    )
                )
        for name, nested in NESTED.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, nested):
                inner = ", ".join(f.name for f in fields(nested))
                found.append(Problem(f"{name} must be a mapping of {inner}", at(name)))
        quantization = self.base_quantization
        if isinstance(quantization, BaseQuantization) and quantization.scheme not in SCHEMES:
            found.append(
                Problem(
                    f"base_quantization.scheme must be one of {', '.join(SCHEMES)},"
                    f" not {quantization.scheme!r}",
                    at("base_quantization"),
                )
            )
        for name in POSITIVE_FIELDS:
            value = getattr(self, name)
            if value is not None and (
                not isinstance(value, int) or isinstance(value, bool) or value < 1
            ):
                found.append(
                    Problem(f"{name} must be a whole number from 1, not {value!r}", at(name))
                )
            elif value is not None and value > MOST:
                found.append(Problem(f"{name} cannot be more than {MOST:,}", at(name)))
        told = {problem.message.partition(" ")[0] for problem in found}
        for name, complaint in wrong_types(self):
            if name.partition(".")[0] not in told and name not in told:
                found.append(Problem(complaint, at(name.partition(".")[0])))
        if not found and self.world_size % self.shard_degree:
            found.append(
                Problem(
                    f"{self.world_size} ranks cannot be cut into groups of {self.shard_degree}",
                    at("shard_degree") or at("world_size"),
                    "shard_degree must divide world_size",
                )
            )
        if not found and self.num_nodes > self.world_size:
            found.append(
                Problem(
                    f"{self.num_nodes} nodes but only {self.world_size} ranks",
                    at("world_size"),
                    "the number of processes is the total over all nodes",
                )
            )
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as the `plan:` of a measured run: plain values, contract names only."""
        return {name: plain(getattr(self, name)) for name in PLAN_FIELDS if name not in ASKED}


PLAN_FIELDS = tuple(f.name for f in fields(LaunchPlan) if f.repr)
"""Fields that a person may say and a report shows; the others are what one stage hands on to the next."""
ASKED = ("cwd", "device", "launcher")
"""Plan fields that say how preflight was asked, or where: no part of a plan on disk."""
NESTED: dict[str, type[Any]] = {
    "adapter": Adapter,
    "base_quantization": BaseQuantization,
    "deepspeed": DeepSpeedSettings,
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


NEAR = 0.6
"""What two names must share of both their lengths to be one misspelt: difflib's own cutoff."""


def nearest_fix(name: str, known: tuple[str, ...] = PLAN_FIELDS) -> str:
    """Return `did you mean X`, or an empty string where nothing is near.

    Only names that have letters enough in common are given to difflib: a file may have thousands of unknown keys.
    """
    import difflib

    size = len(name)
    possible = [
        other
        for length, group in _by_length(known)
        if 2 * min(size, length) / (size + length or 1) >= NEAR
        for other, letters in group
        if 2 * sum(map(letters.__contains__, name)) / (size + length) >= NEAR
    ]
    near = difflib.get_close_matches(name, possible, n=1, cutoff=NEAR) if possible else ()
    return f"did you mean {near[0]}" if near else ""


@lru_cache(maxsize=8)
def _by_length(
    known: tuple[str, ...],
) -> tuple[tuple[int, tuple[tuple[str, frozenset[str]], ...]], ...]:
    """Return names with their letters, by length."""
    groups: dict[int, list[tuple[str, frozenset[str]]]] = {}
    for name in known:
        groups.setdefault(len(name), []).append((name, frozenset(name)))
    return tuple((length, tuple(group)) for length, group in groups.items())
