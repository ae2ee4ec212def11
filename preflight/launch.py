"""A launch as it was understood: LaunchPlan, with the nouns that readers, checks and remedies need beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any

from preflight.command import LaunchCommand
from preflight.errors import BadInput, Problem
from preflight.launch_facts import EngineFacts, RankFacts, ScriptFacts, TrainerFacts
from preflight.near_names import nearest_fix
from preflight.plan_choices import CHOICES, ENGINES, MOST, SCHEMES, impossible_values
from preflight.plan_parts import (
    NESTED,
    SCRIPT_DECIDES,
    Adapter,
    BaseQuantization,
    DeepSpeedSettings,
    Generation,
    LowRank,
    Origin,
    Pipeline,
    VersionReading,
    Vision,
    plain,
)
from preflight.values import dataclass, replace
from preflight.versions.boundary import Boundary

__all__ = [
    "ASKED",
    "CHOICES",
    "ENGINES",
    "MOST",
    "NESTED",
    "PLAN_FIELDS",
    "SCHEMES",
    "SCRIPT_DECIDES",
    "Adapter",
    "BaseQuantization",
    "DeepSpeedSettings",
    "EngineFacts",
    "Generation",
    "LaunchCommand",
    "LaunchPlan",
    "LowRank",
    "Origin",
    "Pipeline",
    "RankFacts",
    "ScriptFacts",
    "TrainerFacts",
    "VersionReading",
    "Vision",
    "plain",
]


@dataclass(frozen=True)
class LaunchPlan:
    """Everything about a launch that memory depends on, in the field's words. None = unknown.

    Frozen: a remedy's plan is `plan.with_edits({...})`, so the plan before and the plan after both exist.
    """

    model: str | None = None
    """HF id or path, as the user spelled it."""
    model_config: Mapping[str, Any] | None = None
    """An inline config.json; beats `model`."""

    objective: str | None = None
    """What is trained for, as the trainer's field calls it: sft, dpo, reward, ...; None = nobody said, and the next
    token is taken."""
    reference_model: str | None = None
    """What the policy is compared with: none (or computed before training), adapter_off (the model itself, its adapter
    switched off), same (a second copy), or another model's id; None = the rule of objective and adapter."""
    reward_models: tuple[str, ...] | None = None
    """Models that score completions: `same` for one of the policy's size, or ids; None = functions do."""
    generation: Generation | None = None
    """How online RL makes completions; None = nothing is generated, or nobody said how."""

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

    pipeline: Pipeline | None = None
    """Stages that the layers are divided into; None = every rank has all layers."""

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
    zero_init: bool | None = None
    """ZeRO-3 only: parameters are partitioned as they are made (deepspeed.zero.Init), so that no rank holds the whole
    model; None = the rule of the trainer."""
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
    """Of the weights that the optimizer steps, `loaded` as they are loaded; None = the rule of engine, optimizer and library version."""
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
    keeps_outputs: bool | str | None = None
    """Whether the loop holds the model's outputs across backward: true, into the next forward; `backward`, until the
    optimizer steps; `step`, until it has; None = the rule of trainer and version."""
    optimizer_in_backward: bool = False
    """Whether each parameter is stepped, and its gradient freed, as soon as backward has made it."""
    layers_at_a_time: int | None = None
    """Layers that train while all else is frozen, in turns, each with an fp32 copy of its own (BAdam); None = all train."""
    low_rank: LowRank | None = None
    """What GaLore or APOLLO projects; None = another optimizer, or nobody said."""
    max_grad_norm: float | None = None
    """Gradients are clipped to this norm; 0 = not clipped."""
    micro_batch_size: int | None = None
    """Per rank, per micro step; of pairs of answers where the objective trains on pairs."""
    texts_per_row: int | None = None
    """Texts of one row that an embedding model sees: 2 for pairs, 3 for triplets; None = one, or nobody said."""
    cached_rows: int | None = None
    """Rows that a loss with cached gradients (GradCache) takes through the model at once; None = all of them."""
    seq_len: int | None = None
    """Tokens of the longest sequence that can reach the model."""
    target_len: int | None = None
    """Tokens of the longest answer that the decoder beside an encoder is given; `seq_len` is then the encoder's."""
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
    kernels: tuple[str, ...] | None = None
    """Modules replaced by fused kernels: `liger_rms_norm`, `liger_swiglu`, `liger_rope`; None = none."""
    torch_compile: bool = False
    """Whether the model is compiled."""

    adapter: Adapter | None = None
    """A PEFT adapter on a frozen base; None = every parameter is trained."""
    base_quantization: BaseQuantization | None = None
    """How the frozen base is packed; None = it is not."""
    deepspeed: DeepSpeedSettings | None = None
    """Sizes of DeepSpeed's config; None = its defaults."""
    vision: Vision | None = None
    """Images beside the text, and what of a vision tower is trained; None = text alone."""

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
    command: LaunchCommand | None = field(default=None, compare=False, repr=False)
    """The command that was read, without the wrappers around it; None for a plan that was not read from one."""
    documents: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Role (accelerate, deepspeed, trainer) -> path of the launch's file with that role, as spelled."""
    rank_facts: RankFacts = field(default=RankFacts(), compare=False, repr=False)
    """How the ranks start and meet."""
    script_facts: ScriptFacts = field(default=ScriptFacts(), compare=False, repr=False)
    """What was read of the training script."""
    trainer_facts: TrainerFacts = field(default=TrainerFacts(), compare=False, repr=False)
    """The trainer's own arguments."""
    engine_facts: EngineFacts = field(default=EngineFacts(), compare=False, repr=False)
    """What FSDP or DeepSpeed was given that the fields above do not hold."""
    source: object = field(default=None, compare=False, repr=False)
    """What the reader hands to its own writer; nobody else looks inside."""
    version_readings: tuple[VersionReading, ...] = field(default=(), compare=False, repr=False)
    """What the launch is under the other versions that its libraries may have, where nobody says them."""
    wrapping: tuple[Any, ...] = field(default=(), compare=False, repr=False)
    """The wrappers (srun, env, bash -c, ...) around the command that was read, outermost first."""

    def resolve(self, path: str) -> str:
        """Return a path of the launch as an absolute one of this machine."""
        mounts = {} if self.command is None else self.command.mounts
        return LaunchCommand((), cwd=self.cwd, mounts=mounts).resolve(path)

    @property
    def is_read(self) -> bool:
        """Whether a reader made the plan, of a command or of a running process, and no person wrote it down."""
        return self.command is not None or self.source is not None

    @property
    def script_text(self) -> str:
        """The training script's text; empty where it cannot be read."""
        command, index = self.command, self.script_facts.index
        if command is None or index is None or index >= len(command.argv):
            return ""
        return command.readable_text(command.argv[index])

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
    def ranks_per_sequence(self) -> int:
        """Ranks that share the tokens of each sequence."""
        return self.context_parallel_degree * self.sequence_parallel_degree

    @property
    def ranks_per_sample(self) -> int:
        """Ranks that work on parts of the same samples."""
        return (
            self.tensor_parallel_degree
            * self.ranks_per_sequence
            * (1 if self.pipeline is None else self.pipeline.degree)
        )

    @property
    def data_parallel_degree(self) -> int:
        """Ranks that see different samples."""
        return max(1, self.world_size // self.ranks_per_sample)

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

    def surely(self, boundary: Boundary) -> bool:
        """Tell whether something is so under every version that the libraries may have."""
        every = (self.versions, *(other.versions for other in self.version_readings))
        return all(boundary.holds_in(versions) for versions in every)

    def with_edits(self, edits: Mapping[str, Any]) -> LaunchPlan:
        """Return the plan with fields changed; `deepspeed.sub_group_size` reaches into a nested value.

        Raises BadInput for a field that does not exist or a value it cannot have.
        """
        changed: dict[str, Any] = {}
        for name, value in edits.items():
            outer, _, inner = name.partition(".")
            if outer not in PLAN_FIELDS:
                raise BadInput.one(
                    f"there is no plan field {name!r}", fix=nearest_fix(outer, PLAN_FIELDS)
                )
            if inner and outer == "versions":
                value = {**changed.get(outer, self.versions), inner: value}
            elif inner:
                nested = changed[outer] if outer in changed else getattr(self, outer)
                if nested is None:
                    nested = NESTED[outer]()
                names = {f.name for f in fields(nested)}
                if inner not in names:
                    raise BadInput.one(f"there is no plan field {name!r}")
                value = replace(nested, **{inner: value})
            changed[outer] = value
        # A field that was edited is open no longer.
        origins = {
            name: origin.settled if name in changed else origin
            for name, origin in self.origins.items()
        }
        others = tuple(
            other
            if changed.keys().isdisjoint(other.fields)
            else replace(other, fields={n: v for n, v in other.fields.items() if n not in changed})
            for other in self.version_readings
        )
        plan = replace(self, **changed, origins=origins, version_readings=others)
        problems = plan.problems()
        if problems:
            raise BadInput(*problems)
        return plan

    def is_open(self, name: str) -> bool:
        """Tell whether a field may have another value: one that nobody said, or that another release makes it."""
        origin = self.origins.get(name)
        return bool(origin and origin.may_be) or any(
            name in other.fields for other in self.version_readings
        )

    def is_changed_by(self, edits: Mapping[str, Any]) -> bool:
        """Tell whether edits would make another plan of this one: an open field that gets its likely value is settled."""
        for name, value in edits.items():
            outer, _, inner = name.partition(".")
            if self.is_open(name):
                return True
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
        """Return what cannot be true of any launch."""
        return impossible_values(self, self.origins)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as the `plan:` of a measured run: plain values, contract names only."""
        return {name: plain(getattr(self, name)) for name in PLAN_FIELDS if name not in ASKED}


PLAN_FIELDS = tuple(f.name for f in fields(LaunchPlan) if f.repr)
"""Fields that a person may say and a report shows; the others are what one stage hands on to the next."""
ASKED = ("cwd", "device", "launcher")
"""Plan fields that say how preflight was asked, or where: no part of a plan on disk."""
