"""OpenRLHF's arguments in plan fields: its DeepSpeed config, batch, length, adapter, and what its losses hold beside.

Source: cli/train_{sft,dpo,rm}.py, models/actor.py, models/utils.py, utils/deepspeed/deepspeed{,_utils}.py and
trainer/sft_trainer.py of OpenRLHF 0.3.8 to 0.11.2; where a release is named, what is older differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from preflight.launch import Adapter, BaseQuantization
from preflight.launch_facts import StepLoss
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.openrlhf.losses import has_kernel, step_of
from preflight.models.registry import are_alike
from preflight.scripts.arguments.trainer_spellings import attention_of
from preflight.setting import Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.unpriced_names import STORED_DTYPE
from preflight.versions.openrlhf import SCORES_BY_KERNEL

KEYS: Mapping[str, str] = {
    "activation_checkpointing": "gradient_checkpointing",
    "adapter.rank": "lora_rank",
    "adapter.alpha": "lora_alpha",
    "adapter.dropout": "lora_dropout",
    "attention": "attn_implementation",
    "base_quantization.scheme": "load_in_4bit",
    "engine": "zero_stage",
    "generation.memory_share": "vllm_gpu_memory_utilization",
    "generation.sleep": "vllm_enable_sleep",
    "micro_batch_size": "micro_train_batch_size",
    "offload_optimizer": "adam_offload",
    "seq_len": "max_len",
}
"""Plan field, or part of one -> the argument that it is read from and written to."""
DECIDES = {
    "pretrain": "model",
    "train_batch_size": "gradient_accumulation_steps",
    **{
        KEYS[name]: name.partition(".")[0]
        for name in ("adapter.rank", "attention", "engine", "micro_batch_size", "seq_len")
    },
}
"""Argument -> the plan field that is not known while a placeholder stands there."""
OBJECTIVES = {"sft": "sft", "dpo": "dpo", "rm": "scored_pairs"}
LEFT_OUT = {
    "ring_attn_size": NotModelled(
        "every rank is estimated with its whole sequence", "ring attention", "less"
    ),
    "ds_tensor_parallel_size": NotModelled(
        "DeepSpeed's AutoTP is not estimated: every rank is taken to hold all heads",
        "tensor parallelism of DeepSpeed",
        "less",
    ),
}
"""Degrees above one that no plan field of these trainers holds."""
SWITCHES = {
    "use_liger_kernel": NotModelled(
        "Liger's modules are estimated as the model's own: its loss is not used",
        "Liger's kernels",
        "less",
    ),
    "deepcompile": NotModelled("DeepCompile's graph is not estimated", "DeepCompile", "either"),
}


class Defaults:
    """The arguments of a launch, each given or as its release has it."""

    def __init__(self, keys: FrameworkKeys, defaults: Mapping[str, Any]) -> None:
        self.keys = keys
        self.defaults = defaults

    def value(self, name: str) -> Any:
        """Return what an argument is; None where the release has none of the name."""
        setting = self.keys.get(name)
        return self.defaults.get(name) if setting is None else setting.value

    def at(self, name: str) -> Setting:
        """Return an argument with the place that says it."""
        return self.keys.get(name) or self.keys.by_default(self.value(name))

    def put(self, field: str, value: Any, name: str) -> None:
        """Record a plan field that an argument decides."""
        self.keys.decide(field, value, self.keys.get(name), reason=f"no --{name}")


def read_trainer(
    keys: FrameworkKeys, part: LauncherPart, trainer: str, defaults: Mapping[str, Any]
) -> None:
    """Fill in every plan field that the arguments of a trainer decide."""
    said = Defaults(keys, defaults)
    if trainer in OBJECTIVES:
        keys.assume("objective", OBJECTIVES[trainer], f"its {trainer} trainer")
    keys.put_text("model", "pretrain")
    for field in ("seq_len", "micro_batch_size"):
        name = KEYS[field]
        if isinstance(said.value(name), int):
            said.put(field, said.value(name), name)
    _dtype(said)
    _steps(said, part)
    _attention(said)
    switch = KEYS["activation_checkpointing"]
    is_on = said.value(switch) is True
    said.put("activation_checkpointing", "full" if is_on else "none", switch)
    if is_on:
        is_reentrant = said.value("gradient_checkpointing_use_reentrant") is True
        said.put("checkpointing_reentrant", is_reentrant, "gradient_checkpointing_use_reentrant")
    _adapter(said)
    _engine(said)
    keys.assume("sequence_kind", "padded", "rows are padded to the longest of the batch")
    for name, left_out in LEFT_OUT.items():
        if isinstance(said.value(name), int) and said.value(name) > 1:
            keys.leave_out(left_out, said.at(name))
    for name, left_out in SWITCHES.items():
        if said.value(name) is True:
            keys.leave_out(left_out, said.at(name))
    if isinstance(said.value("aux_loss_coef"), (int, float)) and said.value("aux_loss_coef") > 0:
        message = "the routers' logits, which their own loss keeps, are not counted"
        keys.leave_out(NotModelled(message, "router logits", "more"), said.at("aux_loss_coef"))


def _dtype(said: Defaults) -> None:
    """Record the dtype that the model is loaded and trained in; before 0.9 bf16 was a switch."""
    keys = said.keys
    name = "param_dtype" if "param_dtype" in {*said.defaults, *keys.given} else "bf16"
    value = said.value(name)
    if value in ("bf16", "fp16") or value is True:
        dtype = "bf16" if value is True else str(value)
        said.put("load_dtype", dtype, name)
        said.put("mixed_precision", dtype, name)
        return
    message = "without --bf16 the model trains in the checkpoint's own dtype, which is taken for bf16 here"
    keys.assume("load_dtype", "bf16", f"no --{name}")
    keys.leave_out(NotModelled(message, STORED_DTYPE, "either"), said.at(name))


def _steps(said: Defaults, part: LauncherPart) -> None:
    """Record the micro batches of a step (DeepspeedStrategy.setup_distributed): the global batch over all data ranks."""
    batch, rows = said.value("train_batch_size"), said.value("micro_train_batch_size")
    ranks = part.ranks["world_size"].value
    if not all(isinstance(one, int) and one > 0 for one in (batch, rows, ranks)):
        return
    together = 1
    for name in LEFT_OUT:
        degree = said.value(name)
        together *= degree if isinstance(degree, int) and degree > 0 else 1
    steps = max(1, batch * together // (rows * ranks))
    said.put("gradient_accumulation_steps", steps, "train_batch_size")


def _attention(said: Defaults) -> None:
    """Record the attention: a switch before 0.8.11, and eager without it."""
    if "attn_implementation" in {*said.defaults, *said.keys.given}:
        value = said.value("attn_implementation")
        word = attention_of(value)
        if word is None:
            message = f"attention by {value} is estimated as flash_attention_2"
            left_out = NotModelled(message, f"attention by {value}", "either")
            said.keys.leave_out(left_out, said.at("attn_implementation"))
        said.put("attention", word or "flash_attention_2", "attn_implementation")
        return
    is_flash = said.value("flash_attn") is True
    said.put("attention", "flash_attention_2" if is_flash else "eager", "flash_attn")


def open_attention(keys: FrameworkKeys) -> None:
    """Leave the attention open, where no argument tells a release before 0.8 from one that has another default."""
    origin = keys.origins["attention"]
    reason = "no --flash_attn: eager before 0.8.11, flash_attention_2 since, and nothing says which release it is"
    keys.origins["attention"] = replace(
        origin, assumed=True, reason=reason, may_be=("eager", "flash_attention_2")
    )


def _adapter(said: Defaults) -> None:
    if said.value("load_in_4bit") is True:
        packed = BaseQuantization(scheme="nf4", double_quant=True, compute_dtype="bf16")
        said.put("base_quantization", packed, "load_in_4bit")
    rank = said.value("lora_rank")
    if not isinstance(rank, int) or rank < 1:
        return
    targets = said.value("target_modules")
    adapter = Adapter(
        rank=rank,
        alpha=int(said.value("lora_alpha") or 16),
        dropout=float(said.value("lora_dropout") or 0),
        targets=tuple(map(str, targets)) if isinstance(targets, list) else str(targets),
    )
    said.put("adapter", adapter, "lora_rank")


def _engine(said: Defaults) -> None:
    """Hand DeepSpeed the config that get_train_ds_config makes; `auto` stands for DeepSpeed's own sizes there."""
    keys = said.keys
    stage = said.value(KEYS["engine"])
    offload = "cpu" if said.value(KEYS["offload_optimizer"]) is True else "none"
    zero: dict[str, Any] = {"stage": stage, "offload_optimizer": {"device": offload}}
    zero["offload_param"] = {"device": "none"}
    zpg = said.value("zpg")
    if isinstance(zpg, int) and zpg > 1:
        zero["zero_hpz_partition_size"] = zpg
    dtype = keys.settings.get("load_dtype")
    is_fp16 = dtype is not None and dtype.value == "fp16"
    config: dict[str, Any] = {
        "zero_optimization": zero,
        "bf16": {"enabled": not is_fp16},
        "fp16": {"enabled": is_fp16},
        "gradient_clipping": said.value("max_norm"),
    }
    for key, field in (
        ("train_micro_batch_size_per_gpu", "micro_batch_size"),
        ("gradient_accumulation_steps", "gradient_accumulation_steps"),
    ):
        if field in keys.settings:
            config[key] = keys.settings[field].value
    if said.value("grad_accum_dtype"):
        config["data_types"] = {"grad_accum_dtype": said.value("grad_accum_dtype")}
    keys.argument("deepspeed", config, said.at("zero_stage"))
    if said.value("optim") == "muon":
        message = "Muon of DeepSpeed is estimated as AdamW"
        keys.leave_out(NotModelled(message, "Muon", "less"), said.at("optim"))
    name = "deepspeed_cpu_adam" if offload == "cpu" else "deepspeed_fused_adam"
    said.put("optimizer", name, "adam_offload")


def read_loss(
    keys: FrameworkKeys, trainer: str, defaults: Mapping[str, Any], oldest: str
) -> StepLoss | None:
    """Return what the trainer's own loss takes of logits, in the dearest of the releases that it may be."""
    said = Defaults(keys, defaults)
    keys.assume("loss", "full_logits", "log probabilities of whole logits")
    if trainer == "dpo":
        read_reference(said)
    rows = said.value("micro_train_batch_size")
    is_one_row = rows == 1 or said.value("packing_samples") is True
    version = keys.library.version
    if has_kernel(oldest) != has_kernel(version) and trainer != "rm":
        message = f"the loss is estimated as before {SCORES_BY_KERNEL.since}, which takes more"
        at = said.at("micro_train_batch_size")
        keys.leave_out(NotModelled(message, "cheaper ways through a step", "less"), at)
        version = oldest
    return step_of(trainer, version, not is_one_row, keys.library.default_place)


def read_reference(said: Defaults) -> None:
    """Record the model that answers are compared with: the one that trains once more, unless another is named."""
    keys, other = said.keys, said.value("ref_pretrain")
    model = keys.settings.get("model")
    if other and model is not None and not are_alike(str(other), str(model.value)):
        said.put("reference_model", str(other), "ref_pretrain")
        return
    keys.assume("reference_model", "same", "no --ref_pretrain: the model that trains, loaded again")
    if said.value("ref_offload") is True:
        message = "the reference model is estimated on the card: DeepSpeed moves it where stage 3 partitions it"
        keys.leave_out(
            NotModelled(message, "a reference that is offloaded", "less"), said.at("ref_offload")
        )
    if said.value("load_in_4bit") is True:
        message = "the reference model is estimated in 16 bits"
        keys.leave_out(
            NotModelled(message, "a quantized reference", "less"), said.at("load_in_4bit")
        )
