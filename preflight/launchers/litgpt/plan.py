"""A training command of litgpt as a LaunchPlan: it starts its own ranks, shards by FSDP, and runs model code of its own.

Source: finetune/lora.py, finetune/full.py and pretrain.py of litgpt 0.5.13, and the FSDP strategies of lightning 2.6.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.engines.settings import EngineSettings
from preflight.errors import Problem
from preflight.launch import LaunchCommand, LaunchPlan, Origin
from preflight.launchers.framework_keys import FrameworkKeys, FrameworkLibrary, note_placeholders
from preflight.launchers.litgpt import LAUNCHER
from preflight.launchers.litgpt.model import adapter_of, base_quantization_of, read_model
from preflight.launchers.litgpt.words import LitgptWords, model_option, read_words
from preflight.launchers.script import make_plan
from preflight.setting import Place, Setting
from preflight.shell.launcher_part import LauncherPart
from preflight.shell.visible_devices import num_visible_devices
from preflight.trainers.arguments import TrainerArguments
from preflight.versions.installed import installed_versions, versions_used
from preflight.versions.litgpt import SHARDS_LORA_BY_FSDP2

EVERY_DEVICE = ("auto", -1)
PRECISIONS = {
    # precision -> dtype of the weights, autocast
    "bf16-true": ("bf16", "no"),
    "bf16-mixed": ("fp32", "bf16"),
    "16-true": ("fp16", "no"),
    "16-mixed": ("fp32", "fp16"),
    "32-true": ("fp32", "no"),
}
OPTIMIZERS = {
    "torch.optim.Adam": "adamw_torch",
    "torch.optim.AdamW": "adamw_torch",
    "torch.optim.Adagrad": "adagrad",
    "torch.optim.RMSprop": "rmsprop",
    "torch.optim.SGD": "sgd",
    "bitsandbytes.optim.AdamW8bit": "adamw_bnb_8bit",
    "bitsandbytes.optim.PagedAdamW": "paged_adamw_32bit",
}
DECIDES = {
    "checkpoint_dir": "model",
    "model_name": "model",
    "train.max_seq_length": "seq_len",
    "train.micro_batch_size": "micro_batch_size",
    "train.global_batch_size": "gradient_accumulation_steps",
}


def read_litgpt(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of a training command of litgpt; None where it is another command."""
    first = LAUNCHER.first_argument(command.argv)
    if first is None:
        return None
    reading = read_words(command, first)
    words = reading.value
    library = FrameworkLibrary("litgpt", versions_used(installed_versions())["litgpt"])
    keys = FrameworkKeys(library, dict(words.given))
    note_placeholders(keys, DECIDES)
    part = _part(command, keys, words, first)
    _checkpoint(command, keys, words)
    _engine(keys, words, part)
    _precision(keys, words)
    _batch(keys, words, part)
    _rest(keys, words)
    return _plan(command, part, keys, words, (*reading.problems, *keys.problems))


def _or_default(keys: FrameworkKeys, words: LitgptWords, option: str) -> Setting:
    """Return an option's setting, litgpt's default where nobody gives it."""
    default = Place("default", "", keys.library.label)
    return keys.get(option) or Setting(words.default(option), default)


def _put(keys: FrameworkKeys, plan_field: str, value: object, by: Setting) -> None:
    """Record a plan field that an option decides, or the default of one."""
    if by.place.kind == "default":
        keys.assume(plan_field, value)
    else:
        keys.put(plan_field, value, by)


def _part(
    command: LaunchCommand, keys: FrameworkKeys, words: LitgptWords, first: int
) -> LauncherPart:
    """Return the ranks: `devices` on each of `num_nodes`."""
    devices, origins = _or_default(keys, words, "devices"), {}
    if devices.value in EVERY_DEVICE:
        count = num_visible_devices(command.env)
        if "CUDA_VISIBLE_DEVICES" in command.env:
            devices = Setting(max(1, count), Place("env", "", "CUDA_VISIBLE_DEVICES"))
        else:
            reason = f"devices auto: litgpt starts a rank per GPU, and this machine shows {count}"
            devices = Setting(max(1, count), devices.place)
            origins["world_size"] = Origin(devices.place.where, True, reason)
    elif isinstance(devices.value, bool) or not isinstance(devices.value, int) or devices.value < 1:
        keys.refuse(
            f"devices must be auto or a whole number from 1, not {devices.value!r}", devices
        )
        devices = Setting(1, devices.place)
    default = Setting(1, Place("default", "", keys.library.label))
    nodes = keys.count("num_nodes") or default
    world_size = devices.value * nodes.value
    at = nodes if devices.value == 1 and nodes.value > 1 else devices
    return LauncherPart(
        name=LAUNCHER.name,
        first_option=first,
        script_index=first,
        ranks={"world_size": Setting(world_size, at.place), "num_nodes": nodes},
        mode="multi_gpu" if world_size > 1 else "single",
        mode_place=at.place,
        origins=origins,
    )


def _checkpoint(command: LaunchCommand, keys: FrameworkKeys, words: LitgptWords) -> None:
    option = model_option(words.command)
    setting = words.given.get(option)
    if setting is None:
        here = Setting(None, Place("argv", "", f"litgpt {words.command}"))
        keys.refuse(f"litgpt {words.command} needs a {option}", here, "ORG/NAME of a model")
        return
    if setting.place.key == f"--{option}":
        # Before 0.4 every argument was an option.
        is_known = "litgpt" in installed_versions()
        keys.refuse(
            f"litgpt from 0.4 on takes the {option} as a word of its own, and stops at --{option}",
            setting,
            f"litgpt {words.command} {setting.value}",
            "error" if is_known else "warning",
        )
    read_model(command, keys, option)


def _engine(keys: FrameworkKeys, words: LitgptWords, part: LauncherPart) -> None:
    """Put engine and sharding: FSDP over all ranks, and for pretraining within a node (pretrain.py:143)."""
    by, world_size = Setting(True, part.mode_place), part.ranks["world_size"].value
    if world_size == 1:
        _put(keys, "engine", "single", by)
        _put(keys, "activation_checkpointing", "none", by)
        return
    is_pretraining, is_lora = words.command == "pretrain", words.command == "finetune_lora"
    nodes = part.ranks["num_nodes"].value if is_pretraining else 1
    by_fsdp2 = is_lora and SHARDS_LORA_BY_FSDP2.holds_in(installed_versions())
    _put(keys, "engine", "fsdp2" if by_fsdp2 else "fsdp1", by)
    _put(keys, "shard_degree", world_size // nodes, by)
    _put(keys, "replicate_degree", nodes, by)
    checkpointing = "none" if is_pretraining else "full"
    keys.assume("activation_checkpointing", checkpointing, "the strategy that litgpt makes")
    keys.assume("reshard_after_forward", True)
    keys.assume("wrap_policy", "transformer", "every block is sharded")
    keys.assume("state_dict_type", "full")


def _precision(keys: FrameworkKeys, words: LitgptWords) -> None:
    """Put the dtypes; without --precision it is bf16-mixed where the card has bf16 (utils.py:363)."""
    given = keys.get("precision")
    name = "bf16-mixed" if given is None else str(given.value)
    if given is not None and name not in PRECISIONS:
        keys.refuse(f"precision must be one of {', '.join(PRECISIONS)}, not {given.value!r}", given)
        return
    weights, mixed = PRECISIONS[name]
    by = given or Setting(name, Place("default", "", keys.library.label))
    _put(keys, "load_dtype", weights, by)
    _put(keys, "master_dtype", weights, by)
    _put(keys, "mixed_precision", mixed, by)
    if keys.settings["engine"].value == "fsdp1":
        # FSDPPrecision of lightning reduces in the dtype that it computes in.
        keys.assume("reduce_dtype", weights if mixed == "no" else mixed)
    elif keys.settings["engine"].value == "fsdp2" and mixed != "no":
        keys.note(
            "PF143",
            "autocast over fp32 shards is estimated as FSDP2's own mixed precision",
            by,
            "--precision bf16-true",
            "info",
        )
    if words.command == "finetune_lora":
        adapter, said = adapter_of(keys, words, weights)
        if said:
            keys.put("adapter", adapter, *said)
        else:
            keys.assume("adapter", adapter)
        _quantized(keys, name, weights)


def _quantized(keys: FrameworkKeys, precision: str, dtype: str) -> None:
    """Put the packed base; litgpt stops at mixed precision and at several ranks (finetune/lora.py:141, 152)."""
    quantize = keys.get("quantize")
    if quantize is None:
        return
    scheme = base_quantization_of(str(quantize.value), dtype)
    if scheme is None:
        keys.refuse(
            f"quantize takes bnb.nf4, bnb.nf4-dq, bnb.fp4, bnb.fp4-dq and bnb.int8-training, not {quantize.value!r}",
            quantize,
        )
        return
    if "mixed" in precision:
        keys.refuse(f"quantize does not work with {precision}", quantize, "--precision bf16-true")
    elif scheme.scheme == "int8" and precision != "16-true":
        keys.refuse("int8-training works with fp16 only", quantize, "--precision 16-true")
    if keys.settings["engine"].value != "single":
        keys.refuse("quantize works on one device only", quantize, "--devices 1")
    keys.put("base_quantization", scheme, quantize)
    keys.note(
        "PF143",
        "litgpt's own tables show 20 to 45 % more than this estimate for a packed base",
        quantize,
        "--precision bf16-true without quantize is estimated to a few percent",
    )


def _batch(keys: FrameworkKeys, words: LitgptWords, part: LauncherPart) -> None:
    """Put batch and accumulation (TrainArgs in args.py), and the longest row where it is said."""
    world_size = part.ranks["world_size"].value
    micro = keys.count("train.micro_batch_size") or _or_default(
        keys, words, "train.micro_batch_size"
    )
    total = keys.count("train.global_batch_size") or _or_default(
        keys, words, "train.global_batch_size"
    )
    _put(keys, "micro_batch_size", micro.value, micro)
    _put(keys, "eval_micro_batch_size", micro.value, micro)
    steps = total.value // world_size // micro.value
    if steps < 1:
        at = micro if total.place.kind == "default" else total
        keys.refuse(
            f"a global batch of {total.value} over {world_size} ranks is smaller than a micro batch of {micro.value}",
            at,
            f"--train.global_batch_size {world_size * micro.value}",
        )
    _put(keys, "gradient_accumulation_steps", max(1, steps), total)
    length = keys.count("train.max_seq_length")
    if length is not None:
        keys.put("seq_len", length.value, length)
    elif not keys.is_unknown("train.max_seq_length"):
        decides = (
            "the model's context" if words.command == "pretrain" else "the longest row of the data"
        )
        here = Setting(None, Place("argv", "", f"litgpt {words.command}"))
        keys.note(
            "PF143",
            f"no train.max_seq_length: {decides} decides, which preflight does not read",
            here,
            "--train.max_seq_length N",
            "info",
        )
    is_fixed = words.command == "pretrain"
    keys.assume("sequence_kind", "fixed" if is_fixed else "padded")


def _rest(keys: FrameworkKeys, words: LitgptWords) -> None:
    is_pretraining = words.command == "pretrain"
    keys.assume("attention", "sdpa")
    keys.assume("loss", "full_logits", "the head in pieces, all of which backward keeps")
    keys.assume("torch_compile", is_pretraining)
    norm = _or_default(keys, words, "train.max_norm")
    if norm.value is not None and not is_pretraining:
        keys.refuse(f"litgpt {words.command} does not take train.max_norm", norm, "drop it")
    _put(keys, "max_grad_norm", norm.value if isinstance(norm.value, (int, float)) else 0.0, norm)
    _optimizer(keys, words)


def _optimizer(keys: FrameworkKeys, words: LitgptWords) -> None:
    """Put the optimizer: bitsandbytes' paged AdamW beside a packed base, fused in pretraining where torch has it."""
    by = keys.get("optimizer.class_path") or _or_default(keys, words, "optimizer")
    value = by.value.get("class_path") if isinstance(by.value, dict) else by.value
    name = str(value) if "." in str(value) else f"torch.optim.{value}"
    if "base_quantization" in keys.settings:
        if "AdamW" not in name:
            keys.refuse("a packed base is trained by AdamW only", by, "--optimizer AdamW")
        keys.assume("optimizer", "paged_adamw_32bit", "bitsandbytes' PagedAdamW beside quantize")
        return
    optimizer = OPTIMIZERS.get(name)
    if optimizer is None:
        keys.note("PF143", f"{name} is estimated as adamw_torch", by)
        optimizer = "adamw_torch"
    if words.command == "pretrain" and optimizer == "adamw_torch":
        optimizer = "adamw_torch_fused"
    _put(keys, "optimizer", optimizer, by)


def _plan(
    command: LaunchCommand,
    part: LauncherPart,
    keys: FrameworkKeys,
    words: LitgptWords,
    problems: Iterable[Problem],
) -> LaunchPlan:
    keys.origins["trainer"] = Origin(f"litgpt {words.command}")
    trainer = TrainerArguments(
        trainer="litgpt",
        raw=keys.given,
        settings=keys.settings,
        origins=keys.origins,
        places=keys.places,
        documents={} if words.config is None else {"trainer": words.config},
    )
    engine = EngineSettings(fields=dict(part.ranks), library_names=("torch", "litgpt"))
    return make_plan(command, part, trainer, engine, problems)
