"""What a litgpt command starts: ranks, the strategy that shards over them, and the dtypes that they train in.

Source: finetune/lora.py, finetune/full.py and pretrain.py of litgpt 0.5.13, and the FSDP strategies of lightning 2.6.
"""

from __future__ import annotations

from preflight.launch import LaunchCommand, Origin
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.litgpt import LAUNCHER
from preflight.launchers.litgpt.model import adapter_of, base_quantization_of
from preflight.launchers.litgpt.words import LitgptWords
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.shell.starters.variables import num_visible_devices
from preflight.versions.litgpt import SHARDS_LORA_BY_FSDP2

WHICH_BITSANDBYTES = NotModelled(
    "nothing says which litgpt the launch will have: before 0.5.5 layers of bitsandbytes keep what they read, up to a quarter"
    " more than this estimate",
    "what an older litgpt holds beside a packed base",
    "more",
)
EIGHT_BITS = NotModelled(
    "int8-training was not compared with any run of litgpt's: its table has none",
    "what litgpt holds beside a base in 8 bits",
    "more",
)
EVERY_DEVICE = ("auto", -1)
PRECISIONS = {
    # precision -> dtype of the weights, autocast
    "bf16-true": ("bf16", "no"),
    "bf16-mixed": ("fp32", "bf16"),
    "16-true": ("fp16", "no"),
    "16-mixed": ("fp32", "fp16"),
    "32-true": ("fp32", "no"),
}


def or_default(keys: FrameworkKeys, words: LitgptWords, option: str) -> Setting:
    """Return an option's setting, litgpt's default where nobody gives it."""
    return keys.get(option) or keys.by_default(words.default(option))


def count_or_default(keys: FrameworkKeys, words: LitgptWords, option: str) -> Setting:
    """Return an option's whole number; litgpt's default where nobody gives it, or what is given is refused."""
    return keys.count(option) or keys.by_default(words.default(option))


def put(keys: FrameworkKeys, plan_field: str, value: object, by: Setting) -> None:
    """Record a plan field that an option decides, or the default of one."""
    if by.place.kind == "default":
        keys.assume(plan_field, value)
    else:
        keys.put(plan_field, value, by)


def launched_part(
    command: LaunchCommand, keys: FrameworkKeys, words: LitgptWords, first: int
) -> LauncherPart:
    """Return the ranks: `devices` on each of `num_nodes`."""
    devices, origins = or_default(keys, words, "devices"), {}
    if devices.value in EVERY_DEVICE:
        count = num_visible_devices(command.env)
        if "CUDA_VISIBLE_DEVICES" in command.env:
            devices = Setting(max(1, count), Place("env", "", "CUDA_VISIBLE_DEVICES"))
        else:
            reason = f"devices auto: litgpt starts a rank per GPU, and this machine shows {count or 'none'}"
            devices = Setting(max(1, count), devices.place)
            origins["world_size"] = Origin(devices.place.where, True, reason)
            if not count:
                message = f"the number of ranks is not known: {reason}"
                keys.note("PF115", message, devices, "--devices N")
    elif isinstance(devices.value, bool) or not isinstance(devices.value, int) or devices.value < 1:
        keys.refuse(
            f"devices must be auto or a whole number from 1, not {devices.value!r}", devices
        )
        devices = Setting(1, devices.place)
    nodes = keys.count("num_nodes") or keys.by_default(1)
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


def read_engine(keys: FrameworkKeys, words: LitgptWords, part: LauncherPart) -> None:
    """Put engine and sharding: FSDP over all ranks, and for pretraining within a node (pretrain.py:143)."""
    by, world_size = Setting(True, part.mode_place), part.ranks["world_size"].value
    if world_size == 1:
        put(keys, "engine", "single", by)
        put(keys, "activation_checkpointing", "none", by)
        if any(problem.id == "PF115" for problem in keys.problems):
            reason = "one device is not sharded, and several are"
            keys.origins["engine"] = Origin(by.place.where, True, reason, ("fsdp1",))
        return
    is_pretraining, is_lora = words.command == "pretrain", words.command == "finetune_lora"
    nodes = part.ranks["num_nodes"].value if is_pretraining else 1
    by_fsdp2 = is_lora and SHARDS_LORA_BY_FSDP2.holds_in(keys.library.versions)
    put(keys, "engine", "fsdp2" if by_fsdp2 else "fsdp1", by)
    if is_lora and not keys.library.is_known:
        since = SHARDS_LORA_BY_FSDP2.since
        reason = f"nothing says which litgpt the launch will have, and before {since} it is FSDP1"
        keys.origins["engine"] = Origin(
            f"default of {keys.library.label}", True, reason, ("fsdp1",)
        )
    put(keys, "shard_degree", world_size // nodes, by)
    put(keys, "replicate_degree", nodes, by)
    checkpointing = "none" if is_pretraining else "full"
    keys.assume("activation_checkpointing", checkpointing, "the strategy that litgpt makes")
    keys.assume("reshard_after_forward", True)
    keys.assume("wrap_policy", "transformer", "every block is sharded")
    keys.assume("state_dict_type", "full")


def read_precision(keys: FrameworkKeys, words: LitgptWords) -> None:
    """Put the dtypes; without --precision it is bf16-mixed where the card has bf16 (utils.py:363)."""
    given = keys.get("precision")
    name = "bf16-mixed" if given is None else str(given.value)
    if given is not None and name not in PRECISIONS:
        keys.refuse(f"precision must be one of {', '.join(PRECISIONS)}, not {given.value!r}", given)
        return
    weights, mixed = PRECISIONS[name]
    by = given or keys.by_default(name)
    put(keys, "load_dtype", weights, by)
    put(keys, "master_dtype", weights, by)
    put(keys, "mixed_precision", mixed, by)
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
        keys.decide("adapter", adapter, *said)
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
    if scheme.scheme == "int8":
        keys.leave_out(EIGHT_BITS, quantize)
    elif not keys.library.is_known:
        keys.leave_out(WHICH_BITSANDBYTES, quantize)
