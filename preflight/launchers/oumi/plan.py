"""oumi's TrainingConfig as the arguments that it makes for the trainer of transformers or TRL.

Source: to_hf in core/configs/params/training_params.py, __post_init__ of core/configs/training_config.py, to_lora and
to_bits_and_bytes of core/configs/params/peft_params.py, and train.py, of oumi 0.9.
"""

from __future__ import annotations

from dataclasses import replace

from preflight.launch import Origin
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.oumi.keys import KEYS, or_default, section_of
from preflight.libraries.resolve import Libraries
from preflight.scripts.arguments.trainer_tables import argument_table
from preflight.scripts.arguments.trainer_versions import LibraryVersions
from preflight.setting import Setting
from preflight.trainers.arguments import TrainerArguments, arguments_of
from preflight.trainers.kind import TrainerKind
from preflight.trainers.lookup import Given
from preflight.trainers.prepared_base import PREPARED_BY_SCRIPT
from preflight.unpriced_names import FROZEN

METHODS = {"HF": None, "TRL_SFT": "sft", "TRL_DPO": "dpo", "TRL_KTO": "kto", "TRL_GRPO": "grpo"}
"""trainer_type -> the method of TRL; None is transformers' own Trainer."""
CUT_BY_TRL = ("sft", "dpo")
"""Methods whose arguments get model_max_length as max_length."""
DECIDES = {
    "model.model_name": "model",
    **{
        KEYS[name]: name
        for name in ("seq_len", "micro_batch_size", "gradient_accumulation_steps", "optimizer")
    },
}
SAME_WORDS = {
    KEYS["micro_batch_size"]: "per_device_train_batch_size",
    KEYS["eval_micro_batch_size"]: "per_device_eval_batch_size",
    KEYS["gradient_accumulation_steps"]: "gradient_accumulation_steps",
    KEYS["optimizer"]: "optim",
    "training.compile": "torch_compile",
    "training.eval_strategy": "eval_strategy",
    "training.empty_device_cache_steps": "torch_empty_cache_steps",
    "training.ddp_find_unused_parameters": "ddp_find_unused_parameters",
    "training.max_grad_norm": "max_grad_norm",
    KEYS["adapter"]: "use_peft",
    "model.model_name": "model_name_or_path",
    KEYS["attention"]: "attn_implementation",
    KEYS["loss"]: "use_liger_kernel",
}
"""Key -> argument of the trainer that it becomes, oumi's own default too."""
OF_ADAPTER = {
    KEYS["adapter.rank"]: "lora_r",
    KEYS["adapter.alpha"]: "lora_alpha",
    KEYS["adapter.dropout"]: "lora_dropout",
    KEYS["adapter.targets"]: "lora_target_modules",
    "peft.lora_modules_to_save": "lora_modules_to_save",
}
OF_BASE = {
    "peft.bnb_4bit_quant_type": "bnb_4bit_quant_type",
    "peft.use_bnb_nested_quant": "use_bnb_nested_quant",
    "peft.bnb_4bit_compute_dtype": "bnb_4bit_compute_dtype",
    "peft.bnb_4bit_quant_storage": "bnb_4bit_quant_storage",
}
DTYPES = {
    "auto": "auto", "float32": "float32", "f32": "float32", "float": "float32", "float16": "float16", "f16": "float16",
    "half": "float16", "bfloat16": "bfloat16", "bf16": "bfloat16",
}  # fmt: skip
"""torch_dtype_str -> torch's name (utils/torch_utils.py get_torch_dtype)."""
LEFT_OUT = {
    "model.adapter_model": NotModelled(
        "the adapter that is loaded is not counted", "an adapter that is loaded", "either"
    ),
    "model.freeze_layers": NotModelled("frozen layers are estimated as trained", FROZEN, "less"),
    "model.text_only": NotModelled(
        "the model is estimated with the parts that see", "a model without its tower", "less"
    ),
    "peft.lora_target_parameters": NotModelled(
        "LoRA on parameters is not counted", "an adapter on parameters", "more"
    ),
    "peft.lora_exclude_modules": NotModelled(
        "modules that are kept from LoRA are estimated with it", "modules without LoRA", "less"
    ),
    "training.grpo.rollout_function": NotModelled(
        "a rollout of its own is estimated as TRL's", "a rollout of its own", "either"
    ),
}
PACKED_LENGTH = 1024
"""Of PretrainingAsyncTextDataset, where nobody says another (build_dataset_mixture)."""
BITNET = "tiiuae/Falcon-E-"
"""Models whose linear layers onebitllms replaces (build_model)."""


def read_trainer(
    keys: FrameworkKeys, method: str | None, libraries: Libraries, is_checkpointed: bool
) -> TrainerArguments:
    """Return the trainer's half of the launch; `is_checkpointed` says that the trainer, and not FSDP, checkpoints."""
    known = _known(keys, method, is_checkpointed)
    keys.leave_out_given(LEFT_OUT)
    _note_shape(keys)
    trainer = "transformers" if method is None else "trl"
    kind = TrainerKind(trainer, keys.library.label, method, module="oumi", loads_model=True)
    given = Given(
        kind, argument_table(method), LibraryVersions(libraries), known, {}, dict(keys.overridden)
    )
    arguments = arguments_of(given)
    under = arguments.under
    assert under is not None
    return replace(
        _adjusted(keys, method, arguments),
        under=lambda others: _adjusted(keys, method, under(others)),
    )


def _known(keys: FrameworkKeys, method: str | None, is_checkpointed: bool) -> dict[str, Setting]:
    """Return the arguments that oumi hands on."""
    found = {
        argument: or_default(keys, key)
        for key, argument in SAME_WORDS.items()
        if not keys.is_unknown(key)
    }
    dtype = or_default(keys, "model.torch_dtype_str")
    if str(dtype.value) in DTYPES:
        found["dtype"] = Setting(DTYPES[str(dtype.value)], dtype.place)
    else:
        keys.refuse(f"torch_dtype_str does not know {dtype.value!r}", dtype, "bfloat16")
    precision = or_default(keys, "training.mixed_precision_dtype")
    for word in ("bf16", "fp16"):
        found[word] = Setting(str(precision.value).lower() == word, precision.place)
    if precision.value not in ("NONE", None) and found.get("dtype", dtype).value != "float32":
        message = "mixed_precision_dtype needs a model that is loaded in fp32: oumi stops"
        keys.note("PF141", message, precision, "model.torch_dtype_str: float32", "error")
    checkpoints = or_default(keys, "training.enable_gradient_checkpointing")
    is_on = checkpoints.value is True and is_checkpointed
    if keys.is_on("training.use_deterministic"):
        is_on = False  # to_hf turns it off
    found["gradient_checkpointing"] = Setting(is_on, checkpoints.place)
    options = section_of(keys, "training.gradient_checkpointing_kwargs")
    found["gradient_checkpointing_kwargs"] = options or Setting({}, checkpoints.place)
    length = keys.count("model.model_max_length")
    if method in CUT_BY_TRL and length is not None:
        found["max_length"] = length
    norm = keys.given.get("training.max_grad_norm")
    if norm is not None and norm.value is None:
        found["max_grad_norm"] = Setting(0.0, norm.place)
    if keys.is_on("training.use_peft"):
        found.update(_adapter(keys))
    if method == "grpo":
        found.update(_of_grpo(keys))
    found.update(keys.arguments)
    more = section_of(keys, "training.trainer_kwargs")
    if more is not None:
        # model_max_length beats the max_length that stands here (TrainingConfig.__post_init__)
        for name, value in more.value.items():
            if name != "max_length" or length is None or method not in CUT_BY_TRL:
                found[name] = Setting(value, more.place)
    return {name: setting for name, setting in found.items() if setting.value is not None}


def _adapter(keys: FrameworkKeys) -> dict[str, Setting]:
    found = {argument: or_default(keys, key) for key, argument in OF_ADAPTER.items()}
    bias = or_default(keys, "peft.lora_bias")
    if bias.value != "none":
        keys.leave_out(NotModelled("biases that train are not counted", "biases", "more"), bias)
    if not keys.is_on("peft.q_lora"):
        return found
    found.update({argument: or_default(keys, key) for key, argument in OF_BASE.items()})
    switch, bits = keys.given["peft.q_lora"], or_default(keys, "peft.q_lora_bits")
    for count in (4, 8):
        found[f"load_in_{count}bit"] = Setting(bits.value == count, switch.place)
    found[PREPARED_BY_SCRIPT] = Setting(not _is_coerced(keys), switch.place)
    storage = str(found["bnb_4bit_quant_storage"].value)
    if _is_coerced(keys) and storage != DTYPES.get(str(keys.value("model.torch_dtype_str"))):
        message = "under FSDP oumi stops unless bnb_4bit_quant_storage is the model's dtype"
        at = found["bnb_4bit_quant_storage"]
        keys.note("PF141", message, at, "bnb_4bit_quant_storage: bfloat16", "error")
    return found


def _is_coerced(keys: FrameworkKeys) -> bool:
    """Tell whether all of a quantized base and its adapter become the model's dtype: under FSDP (train.py)."""
    return keys.is_on("peft.q_lora") and "ACCELERATE_USE_FSDP" in keys.environment


def _of_grpo(keys: FrameworkKeys) -> dict[str, Setting]:
    """Return the arguments of GRPO, which oumi hands on by the same names; those of vLLM only where it generates."""
    with_vllm = keys.is_on("training.grpo.use_vllm")
    prefix = "training.grpo."
    found = {
        name.removeprefix(prefix): setting
        for name, setting in keys.given.items()
        if name.startswith(prefix) and name.count(".") == prefix.count(".")
        if with_vllm or not name.startswith(f"{prefix}vllm_")
    }
    found.pop("rollout_function", None)
    kwargs = section_of(keys, f"{prefix}model_init_kwargs")
    return found if kwargs is None else {**found, "model_init_kwargs": kwargs}


def _note_shape(keys: FrameworkKeys) -> None:
    """Name what makes another model of the one that is named."""
    shape = section_of(keys, "model.model_kwargs")
    if shape is not None and set(shape.value) - {"disable_dropout"}:
        message = "the model has what model_kwargs changes in its config"
        keys.leave_out(NotModelled(message, "a model of another shape", "either"), shape)
    model = keys.get("model.model_name")
    if model is not None and str(model.value).startswith(BITNET):
        message = "linear layers are estimated as the checkpoint has them"
        keys.leave_out(NotModelled(message, "layers of onebitllms", "either"), model)


def _adjusted(
    keys: FrameworkKeys, method: str | None, arguments: TrainerArguments
) -> TrainerArguments:
    """Return a trainer's half with what oumi does to rows before the trainer sees them."""
    settings, origins = dict(arguments.settings), dict(arguments.origins)
    length = keys.count("model.model_max_length")
    # torchdata's pipeline packs nothing (builders/oumi_data.py)
    packs = keys.is_on("data.train.pack") and not keys.is_on("data.train.use_torchdata")
    if length is not None and method is None:
        settings["seq_len"] = length
        origins["seq_len"] = Origin(length.place.where)
    if length is None and packs:
        place = keys.library.default_place
        settings["seq_len"] = Setting(PACKED_LENGTH, place)
        origins["seq_len"] = Origin(
            place.where, True, "no model_max_length: rows are packed to 1024"
        )
    elif length is None and method in (None, "sft"):
        settings.pop("seq_len", None)  # rows that oumi has made tokens of are cut by nobody
        origins.pop("seq_len", None)
    if packs:
        at = keys.given["data.train.pack"]
        settings["sequence_kind"] = Setting("fixed", at.place)
        origins["sequence_kind"] = Origin(at.place.where)
    adapter = settings.get("adapter")
    if adapter is not None and _is_coerced(keys):
        dtype = str(settings["load_dtype"].value)
        settings["adapter"] = replace(adapter, value=replace(adapter.value, dtype=dtype))
    for key, plan_field in DECIDES.items():
        if keys.is_unknown(key):
            settings.pop(plan_field, None)
    collator = str(keys.value("data.train.collator_name", ""))
    return replace(
        arguments,
        raw=dict(keys.given),
        settings=settings,
        origins=origins,
        environment={**arguments.environment, **keys.environment},
        script=replace(
            arguments.script, is_of_library=True, is_text_only=collator.startswith("text")
        ),
    )
