"""A training command of litgpt as a LaunchPlan: it starts its own ranks, shards by FSDP, and runs model code of its own.

Source: args.py, finetune/lora.py, finetune/full.py and pretrain.py of litgpt 0.5.13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.framework_keys import FrameworkKeys
from preflight.launchers.framework_launch import note_placeholders, own_loop_plan
from preflight.launchers.framework_library import FrameworkLibrary
from preflight.launchers.litgpt import LAUNCHER
from preflight.launchers.litgpt.engine import (
    count_or_default,
    launched_part,
    or_default,
    put,
    read_engine,
    read_precision,
)
from preflight.launchers.litgpt.model import block_size, read_model
from preflight.launchers.litgpt.table import KEYS, litgpt_table
from preflight.launchers.litgpt.words import LitgptWords, model_option, read_words
from preflight.launchers.named_optimizer import named_optimizer
from preflight.plan_parts import open_up_to
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import LauncherPart

DECIDES = {
    "checkpoint_dir": "model",
    "model_name": "model",
    **{KEYS[name]: name for name in ("seq_len", "micro_batch_size")},
    "train.global_batch_size": "gradient_accumulation_steps",
}


def read_litgpt(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of a training command of litgpt; None where it is another command."""
    first = LAUNCHER.first_argument(command.argv)
    if first is None or _only_tells(command.argv[first:]):
        return None
    reading = read_words(command, first)
    words = reading.value
    library = FrameworkLibrary.of("litgpt", command, litgpt_table()["version"])
    keys = FrameworkKeys(library, dict(words.given))
    note_placeholders(keys, DECIDES)
    part = launched_part(command, keys, words, first)
    part = replace(part, overrides=_own_words(command, keys))
    _checkpoint(command, keys, words)
    read_engine(keys, words, part)
    read_precision(keys, words)
    _batch(command, keys, words, part)
    _rest(keys, words)
    problems = (*reading.problems, *keys.problems)
    told_by = f"litgpt {words.command}"
    return own_loop_plan(command, part, keys, "litgpt", told_by, problems, words.config)


def _own_words(command: LaunchCommand, keys: FrameworkKeys) -> dict[str, int]:
    """Return where the words are that say one option each: `--train {...}` says several."""
    spelled = {key: setting.place.key for key, setting in keys.given.items()}
    return {
        key: index
        for key, index in keys.words.items()
        if command.argv[index].partition("=")[0] == spelled[key]
    }


def _only_tells(words: Sequence[str]) -> bool:
    """Tell whether words of a training command ask what it takes, and start nothing: `pretrain list` names the models."""
    return bool({"-h", "--help", "--print_config"} & set(words)) or list(words[1:]) == ["list"]


def _checkpoint(command: LaunchCommand, keys: FrameworkKeys, words: LitgptWords) -> None:
    option = model_option(words.command)
    setting = words.given.get(option)
    if setting is None:
        here = Setting(None, Place("argv", "", f"litgpt {words.command}"))
        keys.refuse(f"litgpt {words.command} needs a {option}", here, "ORG/NAME of a model")
        return
    if setting.place.key == f"--{option}":
        # Before 0.4 every argument was an option.
        is_known = keys.library.is_known
        keys.refuse(
            f"litgpt from 0.4 on takes the {option} as a word of its own, and stops at --{option}",
            setting,
            f"litgpt {words.command} {setting.value}",
            "error" if is_known else "warning",
        )
    read_model(command, keys, option)


def _batch(
    command: LaunchCommand, keys: FrameworkKeys, words: LitgptWords, part: LauncherPart
) -> None:
    """Put batch and accumulation (TrainArgs in args.py), and the longest row where it is said."""
    world_size = part.ranks["world_size"].value
    micro = count_or_default(keys, words, KEYS["micro_batch_size"])
    total = count_or_default(keys, words, "train.global_batch_size")
    put(keys, "micro_batch_size", micro.value, micro)
    put(keys, "eval_micro_batch_size", micro.value, micro)
    steps = total.value // world_size // micro.value
    if steps < 1:
        at = micro if total.place.kind == "default" else total
        keys.refuse(
            f"a global batch of {total.value} over {world_size} ranks is smaller than a micro batch of {micro.value}",
            at,
            f"--train.global_batch_size {world_size * micro.value}",
        )
    put(keys, "gradient_accumulation_steps", max(1, steps), total)
    length = keys.count(KEYS["seq_len"])
    if length is not None:
        keys.put("seq_len", length.value, length)
    elif not keys.is_unknown(KEYS["seq_len"]):
        _context(command, keys, words)
    is_fixed = words.command == "pretrain"
    keys.assume("sequence_kind", "fixed" if is_fixed else "padded")


def _context(command: LaunchCommand, keys: FrameworkKeys, words: LitgptWords) -> None:
    """Put the model's context where rows are cut into it, and leave the length open up to it where data decides.

    The model refuses more than its block_size, and has that as max_seq_length where nobody says another
    (litgpt/model.py:37 and 49, pretrain.py:207, finetune/lora.py:304, 0.5.13).
    """
    is_pretraining = words.command == "pretrain"
    decides = "the model's context" if is_pretraining else "the longest row of the data"
    most = block_size(command, keys, model_option(words.command))
    if most is not None and is_pretraining:
        keys.assume("seq_len", most, "no train.max_seq_length: the model's block_size")
    elif most is not None:
        reason = f"{decides} decides, and the model refuses more than its block_size of {most:,}"
        keys.origins["seq_len"] = open_up_to(most, reason)
    else:
        here = Setting(None, Place("argv", "", f"litgpt {words.command}"))
        keys.note(
            "PF143",
            f"no train.max_seq_length: {decides} decides, which preflight does not read",
            here,
            "--train.max_seq_length N",
            "info",
        )


def _rest(keys: FrameworkKeys, words: LitgptWords) -> None:
    is_pretraining = words.command == "pretrain"
    keys.assume("attention", "sdpa")
    keys.assume("loss", "full_logits", "the head in pieces, all of which backward keeps")
    keys.assume("torch_compile", is_pretraining)
    norm = or_default(keys, words, "train.max_norm")
    if norm.value is not None and not is_pretraining:
        keys.refuse(f"litgpt {words.command} does not take train.max_norm", norm, "drop it")
    put(keys, "max_grad_norm", norm.value if isinstance(norm.value, (int, float)) else 0.0, norm)
    _optimizer(keys, words)


def _optimizer(keys: FrameworkKeys, words: LitgptWords) -> None:
    """Put the optimizer: bitsandbytes' paged AdamW beside a packed base, fused in pretraining where torch has it."""
    by = keys.get("optimizer.class_path") or or_default(keys, words, "optimizer")
    value = by.value.get("class_path") if isinstance(by.value, dict) else by.value
    name = str(value) if "." in str(value) else f"torch.optim.{value}"
    if "base_quantization" in keys.settings:
        if "AdamW" not in name:
            keys.refuse("a packed base is trained by AdamW only", by, "--optimizer AdamW")
        keys.assume("optimizer", "paged_adamw_32bit", "bitsandbytes' PagedAdamW beside quantize")
        return
    optimizer = named_optimizer(keys, name, by)
    if words.command == "pretrain" and optimizer == "adamw_torch":
        optimizer = "adamw_torch_fused"
    put(keys, "optimizer", optimizer, by)
