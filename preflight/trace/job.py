"""What one trace needs to know: the part of a plan that decides which tensors PyTorch makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

from preflight.errors import Problem, raise_if_any
from preflight.formulas.adapters.adapters import adapter_targets
from preflight.formulas.layers.attention_tensors import has_padding_mask
from preflight.formulas.layers.kernels import LIGER_KERNELS
from preflight.formulas.optimizers import WITH_FOREACH, optimizer_kernel
from preflight.formulas.precision import precision_of, uses_autocast
from preflight.formulas.tower_sizes import attended_rows
from preflight.formulas.user_loop import drops_gradients, keeps_outputs
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.plan_choices import HF_TRAINERS
from preflight.trace.eight_bit import BITSANDBYTES
from preflight.values import dataclass
from preflight.versions.trl import FUSES_HEAD

ENGINES = ("single", "ddp", "fsdp2")
OPTIMIZERS = (
    "adamw_torch", "adamw_torch_fused", "sgd", "rmsprop", "adagrad", "adafactor", *BITSANDBYTES,
)  # fmt: skip
ADAPTERS = ("lora", "dora", "ia3", "loha", "miss", "oft", "vera")
"""Kinds that PEFT puts on a model without data as on one with; AdaLoRA's ranks train on a 16-bit model alone (0.21.2)."""
LOSSES = ("full_logits", "chunked_linear")


@dataclass(frozen=True)
class TraceJob:
    """One trace, in plain values: it travels to another process as JSON and names its result in the cache."""

    config: Mapping[str, Any]
    folder: str | None = None
    """A model folder whose own code is run (`trust_remote_code`); None = transformers' classes."""
    engine: str = "single"
    shard_degree: int = 1
    replicate_degree: int = 1
    reshard_after_forward: bool = True
    wrap_classes: tuple[str, ...] | None = None
    micro_batch_size: int = 1
    seq_len: int = 1
    target_len: int = 1
    """Of what the decoder beside an encoder is given."""
    image_rows: int = 0
    """Rows of images for each sequence that layers of their own attend to, behind the tower."""
    micro_steps: int = 1
    """2 for any accumulation: the second micro step finds gradients, as all later ones do."""
    sync_each_batch: bool = False
    has_padding: bool = False
    checkpointing: bool = False
    checkpointing_mode: str = "full"
    """full, selective_every_2 (transformers' every_n_layers) or selective_op (TRL's: attention is kept)."""
    attention: str = "sdpa"
    loaded_dtype: str = "bf16"
    """Of weights that do not train."""
    trainable_dtype: str = "bf16"
    compute_dtype: str = "bf16"
    reduce_dtype: str = "bf16"
    autocast: bool = False
    mixed: bool = False
    """Whether accelerate prepares the model for mixed precision."""
    keeps_outputs: bool | str = False
    """A loop that holds `outputs` across backward keeps the logits: into the next forward, or until it drops them behind
    its `backward` or its `step`."""
    adapter: Mapping[str, Any] | None = None
    quantization: Mapping[str, Any] | None = None
    inputs_ask: bool = True
    """Whether a checkpointed base hands its first layer an input that asks for gradients: before transformers 5.0
    PEFT's prepare_model_for_kbit_training and trainers see to it, which a checkpoint that is not reentrant needs not."""
    keeps_gradients: bool = False
    """`zero_grad(set_to_none=False)`: gradients become zeros and stay."""
    steps_in_backward: bool = False
    """Each parameter is stepped as soon as its gradient is there, which is then freed; every layer is run."""
    optimizer: str = "adamw_torch_fused"
    optimizer_kernel: str | None = None
    """None = what torch takes on a GPU: foreach, and fused where the name says so."""
    kernels: tuple[str, ...] = ()
    """Modules replaced by Liger's, as the plan names them."""
    loss: str = "full_logits"
    """full_logits is the model's own; chunked_linear is TRL's head."""
    has_groups: bool = False
    clips: bool = False
    has_buckets: bool = False
    """DDP's copy of all gradients, which is added: its reducer does not run on tensors without data."""
    full_depth: bool = False

    @property
    def kernel(self) -> str:
        """How the optimizer walks over tensors."""
        return self.optimizer_kernel or ("foreach" if self.optimizer in WITH_FOREACH else "fused")

    @property
    def uses_bitsandbytes(self) -> bool:
        """Whether a weight is packed by it, or its optimizer steps."""
        return self.quantization is not None or self.optimizer in BITSANDBYTES

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def job_from_dict(values: Mapping[str, Any]) -> TraceJob:
    """Build a job from `to_dict()` after JSON."""
    known = {f.name for f in fields(TraceJob)}
    kept = {name: values[name] for name in values if name in known}
    for name in ("wrap_classes", "kernels"):
        if kept.get(name) is not None:
            kept[name] = tuple(kept[name])
    return TraceJob(**kept)


def job_of(
    plan: LaunchPlan, model: ModelSpec, folder: str | None = None, full_depth: bool = False
) -> TraceJob:
    """Return the trace of a plan; raise BadInput naming everything in it that is not traced."""
    raise_if_any((*not_traced(plan), *_without_length_of_answers(plan, model)))
    assert plan.micro_batch_size is not None
    assert plan.seq_len is not None
    precision = precision_of(plan, model)
    adapter = None
    if plan.adapter is not None:
        # None: PEFT knows the targets of the architecture, or refuses, as it will in training.
        targets = None if plan.adapter.targets is None else adapter_targets(plan.adapter, model)
        adapter = {
            "kind": plan.adapter.kind,
            "rank": plan.adapter.rank,
            "alpha": plan.adapter.alpha or plan.adapter.rank,
            "dropout": plan.adapter.dropout,
            "targets": list(targets) if isinstance(targets, tuple) else targets,
            "modules_to_save": list(plan.adapter.modules_to_save or ()) or None,
        }
    # `max_grad_norm` is 1.0 there unless it is set (transformers/training_args.py, 5.24.0).
    clips = plan.trainer in HF_TRAINERS
    if plan.max_grad_norm is not None:
        clips = plan.max_grad_norm > 0
    is_sharded = plan.engine == "fsdp2"
    return TraceJob(
        config=dict(model.config),
        folder=folder,
        engine="fsdp2" if is_sharded else "single",
        shard_degree=plan.shard_degree if is_sharded else 1,
        replicate_degree=plan.replicate_degree if is_sharded else 1,
        reshard_after_forward=plan.reshard_after_forward is not False,
        wrap_classes=plan.wrap_classes,
        micro_batch_size=plan.micro_batch_size,
        seq_len=plan.seq_len,
        target_len=plan.target_len or 1,
        image_rows=attended_rows(plan, model),
        micro_steps=2 if plan.gradient_accumulation_steps > 1 else 1,
        sync_each_batch=plan.sync_each_batch,
        has_padding=has_padding_mask(plan),
        checkpointing=plan.activation_checkpointing != "none",
        checkpointing_mode=_mode(plan.activation_checkpointing),
        attention=plan.attention or "sdpa",
        loaded_dtype=precision.frozen,
        trainable_dtype=precision.trainable,
        compute_dtype=precision.compute,
        reduce_dtype=plan.reduce_dtype or precision.compute,
        autocast=uses_autocast(plan),
        mixed=plan.mixed_precision != "no",
        keeps_outputs=keeps_outputs(plan),
        keeps_gradients=not drops_gradients(plan),
        steps_in_backward=plan.optimizer_in_backward,
        adapter=adapter,
        quantization=(quantization := _quantization(plan, precision.compute)),
        inputs_ask=plan.checkpointing_reentrant is not False
        or (quantization or {}).get("upcast", "none") != "none",
        optimizer=plan.optimizer,
        optimizer_kernel=optimizer_kernel(plan),
        kernels=tuple(plan.kernels or ()),
        loss=plan.loss or "full_logits",
        # Trainer puts biases and norms into a group without weight decay; an optimizer steps group by group.
        has_groups=plan.trainer in HF_TRAINERS,
        clips=clips,
        has_buckets=plan.engine == "ddp",
        full_depth=full_depth or plan.optimizer_in_backward,
    )


def _without_length_of_answers(plan: LaunchPlan, model: ModelSpec) -> Iterable[Problem]:
    if model.has_both_stacks and plan.target_len is None:
        yield Problem("target_len is unknown", "", "--set target_len=NUMBER")
    if (
        model.has_both_stacks and plan.engine == "fsdp2"
    ):  # torch 2.13 refuses words that both stacks share
        yield Problem("FSDP2 of an encoder with a decoder is not traced", "", "--set engine=single")


def _quantization(plan: LaunchPlan, compute: str) -> dict[str, Any] | None:
    quantization = plan.base_quantization
    if quantization is None:
        return None
    return {
        "scheme": quantization.scheme,
        "double_quant": quantization.double_quant,
        "compute_dtype": quantization.compute_dtype or compute,
        "upcast": quantization.upcast_unquantized_to_fp32 or "none",
        "experts": quantization.experts,
    }


def _mode(checkpointing: str) -> str:
    return "full" if checkpointing == "none" else checkpointing


def _is_old_head(plan: LaunchPlan) -> bool:
    """Tell whether TRL's fused head is not the one that is run here."""
    if plan.loss != "chunked_linear":
        return False
    return plan.trainer != "trl" or not FUSES_HEAD.holds_in(plan.versions)


def folder_of(plan: LaunchPlan) -> str:
    """Return the folder that a plan's model would be, if it is one."""
    return plan.resolve(plan.model or "")


def not_traced(plan: LaunchPlan) -> Iterable[Problem]:
    """Yield a problem for everything in a plan that no trace can show yet."""

    def problem(name: str, what: str, fix: str = "") -> Problem:
        origin = plan.origins.get(name)
        return Problem(f"{what} is not traced", origin.where if origin else "", fix)

    if plan.engine not in ENGINES:
        yield problem(
            "engine",
            f"engine {plan.engine}",
            "`--set engine=single` traces what one rank computes, without the engine's buffers",
        )
    for name in ("tensor", "context", "sequence", "expert"):
        if getattr(plan, f"{name}_parallel_degree") > 1:
            yield problem(f"{name}_parallel_degree", f"{name} parallelism")
    for name in ("params", "optimizer", "activations"):
        if getattr(plan, f"offload_{name}") != "none":
            yield problem(f"offload_{name}", f"offload of {name}")
    if plan.activation_checkpointing == "selective_op" and plan.trainer != "trl":
        yield problem("activation_checkpointing", "selective checkpointing other than TRL's")
    if (plan.loss or "full_logits") not in LOSSES or _is_old_head(plan):
        yield problem(
            "loss", f"loss {plan.loss}", "`--set loss=full_logits` traces the model's own loss"
        )
    if unknown := sorted(set(plan.kernels or ()) - set(LIGER_KERNELS)):
        yield problem("kernels", f"kernels {', '.join(unknown)}")
    if plan.torch_compile:
        yield problem(
            "torch_compile", "torch.compile", "`--set torch_compile=false` traces the eager model"
        )
    if plan.mixed_precision == "fp8":
        yield problem("mixed_precision", "fp8")
    if plan.base_quantization is not None:
        if plan.base_quantization.scheme not in ("nf4", "fp4"):
            yield problem("base_quantization", f"a base in {plan.base_quantization.scheme}")
        if plan.is_fsdp:
            yield problem("base_quantization", "a quantized base under FSDP")
        if plan.adapter is None:
            yield problem("base_quantization", "a quantized base without an adapter")
    if plan.adapter is not None and plan.adapter.kind not in ADAPTERS:
        yield problem("adapter", f"a {plan.adapter.kind} adapter")
    if plan.optimizer not in OPTIMIZERS:
        yield problem(
            "optimizer",
            f"optimizer {plan.optimizer}",
            "`--set optimizer=adamw_torch_fused` traces everything else",
        )
    if plan.layers_at_a_time is not None:
        yield problem("layers_at_a_time", "an optimizer whose layers take turns")
    if plan.engine == "fsdp2" and plan.optimizer in (*BITSANDBYTES, "adafactor"):
        yield problem("optimizer", f"{plan.optimizer} on FSDP2's sharded tensors")
    if plan.optimizer_kernel == "fused" and plan.optimizer in ("sgd", "rmsprop", "adagrad"):
        yield problem("optimizer_kernel", f"a fused {plan.optimizer}")
    for name in ("optimizer_state_dtype", "logits_dtype"):
        if getattr(plan, name) is not None:
            yield problem(name, name)
    if plan.engine == "fsdp2" and plan.wrap_policy not in (None, "transformer"):
        yield problem("wrap_policy", f"wrap policy {plan.wrap_policy}")
    for name in ("micro_batch_size", "seq_len"):
        if getattr(plan, name) is None:
            yield Problem(f"{name} is unknown", "", f"--set {name}=NUMBER")
