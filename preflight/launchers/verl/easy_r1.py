"""EasyR1's words in those of verl: a fork whose workers are verl's of 0.2 and 0.3, with keys and defaults of its own.

An update of its actor is verl's of packed rows without the entropy (workers/actor/dp_actor.py _forward_micro_batch), and
its states go to the host and back at the same places.

Source: verl/trainer/{main,config}.py, workers/{actor,rollout}/config.py, workers/fsdp_workers.py and
workers/sharding_manager/fsdp_vllm.py of EasyR1 0.3.3.dev0.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace

from preflight.files import open_regular
from preflight.formats.load import read_document
from preflight.formulas.objectives.actor_losses import ACTOR, ROLLOUT
from preflight.launch import LaunchCommand
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled, settings_of
from preflight.launchers.own_copy import copy_of
from preflight.launchers.verl.keys import FSDP, MODEL, RING
from preflight.launchers.verl.own_keys import FORWARD, OWN_ACTOR
from preflight.launchers.verl.words import flat
from preflight.launchers.verl.workers import put_rows, rows_in_room
from preflight.scripts.python.nodes import walk
from preflight.setting import Place, Setting
from preflight.versions.boundary import release

VERLS = {
    "actor.model.model_path": f"{MODEL}.path",
    "actor.model.enable_gradient_checkpointing": f"{MODEL}.enable_gradient_checkpointing",
    "actor.model.lora.rank": f"{MODEL}.lora_rank",
    "actor.model.lora.alpha": f"{MODEL}.lora_alpha",
    "actor.model.lora.target_modules": f"{MODEL}.target_modules",
    "actor.padding_free": f"{MODEL}.use_remove_padding",
    "actor.ulysses_size": RING,
    "actor.ulysses_sequence_parallel_size": RING,
    "actor.global_batch_size": f"{ACTOR}.ppo_mini_batch_size",
    "actor.micro_batch_size_per_device_for_update": f"{ACTOR}.ppo_micro_batch_size_per_gpu",
    "actor.micro_batch_size_per_device_for_experience": f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu",
    "actor.fsdp.torch_dtype": f"{FSDP}.model_dtype",
    "actor.fsdp.fsdp_size": f"{FSDP}.fsdp_size",
    "actor.offload.offload_params": f"{FSDP}.param_offload",
    "actor.offload.offload_optimizer": f"{FSDP}.optimizer_offload",
    "critic.model.model_path": "critic.model.path",
    "rollout.n": f"{ROLLOUT}.n",
    "rollout.name": f"{ROLLOUT}.name",
    "rollout.gpu_memory_utilization": f"{ROLLOUT}.gpu_memory_utilization",
    "rollout.tensor_parallel_size": f"{ROLLOUT}.tensor_model_parallel_size",
}
"""Key of the section `worker` -> what verl calls it."""
DEFAULTS = {
    "algorithm.adv_estimator": "grpo",
    "algorithm.disable_kl": False,
    "worker.actor.global_batch_size": 256,
    "worker.actor.micro_batch_size_per_device_for_update": 4,
    "worker.actor.micro_batch_size_per_device_for_experience": 16,
    "worker.actor.model.enable_gradient_checkpointing": True,
    "worker.actor.model.lora.alpha": 64,
    "worker.rollout.gpu_memory_utilization": 0.6,
    "worker.rollout.n": 1,
    "worker.rollout.tensor_parallel_size": 2,
}
"""Its own, where verl's reader would take another for what nobody says."""
WORKER = "worker."
FIELDS = frozenset(
    [
        "clip_ratio_dual", "clip_ratio_high", "clip_ratio_low", "dynamic_batching", "fsdp", "global_batch_size",
        "loss_avg_mode", "loss_type", "max_grad_norm", "micro_batch_size_per_device_for_experience",
        "micro_batch_size_per_device_for_update", "model", "offload", "optim", "padding_free", "ppo_epochs", "strategy",
        "tau_negative", "tau_positive", "ulysses_sequence_parallel_size", "ulysses_size", "use_torch_compile",
    ]
)  # fmt: skip
"""Keys of `worker.actor` in EasyR1 0.3.1 and 0.3.3; a copy that was changed has more."""
CHANGED = "worker.actor.model.override_config."
"""Of the model's config; FlashAttention is asked for beside it (workers/fsdp_workers.py _build_model_optimizer)."""
NO_DYNAMIC = release("0.3.1")
CPU_REFERENCE = "worker.ref.fsdp.enable_cpu_offload"


def in_verls_words(command: LaunchCommand, given: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return everything that is said, under its own keys and under verl's, with EasyR1's defaults."""
    default = Place("default", "", "EasyR1")
    found = {name: Setting(value, default) for name, value in DEFAULTS.items()}
    found.update(_of_file(command, given))
    found.update((name, setting) for name, setting in given.items() if name != "config")
    for name, setting in list(found.items()):
        verls = VERLS.get(name.removeprefix(WORKER)) if name.startswith(WORKER) else None
        if name.startswith(CHANGED) and name != f"{CHANGED}attn_implementation":
            verls = f"{MODEL}.override_config.{name.removeprefix(CHANGED)}"
        if verls is not None:
            found[verls] = setting
    without = found["algorithm.disable_kl"]
    found[f"{ACTOR}.use_kl_loss"] = Setting(without.value is not True, without.place)
    return found


def _of_file(command: LaunchCommand, given: Mapping[str, Setting]) -> Iterator[tuple[str, Setting]]:
    config = given.get("config")
    if config is not None and command.exists(str(config.value)):
        path = str(config.value)
        document = read_document(command, path, "yaml", stated_at=path)
        yield from flat(settings_of(document), document)


def read_rest(keys: FrameworkKeys, command: LaunchCommand, given: Mapping[str, Setting]) -> None:
    """Put what verl has no word for, and name what its formulas do not hold."""
    config = given.get("config")
    if config is not None and not command.exists(str(config.value)):
        message = f"the config {config.value} is not here: what it says is not known"
        keys.leave_out(NotModelled(message, "a config that is not here", "either"), config)
    if keys.value("algorithm.disable_kl") is True:
        keys.put("reference_model", "none", keys.given["algorithm.disable_kl"])
    elif keys.value("worker.actor.model.lora.rank", 0) in (0, None):
        _reference(keys)
    if "adapter" in keys.settings:  # whose own dtype is that of `torch_dtype`
        keys.put("load_dtype", "bf16", keys.settings["adapter"])
    optimizer = keys.get("worker.actor.optim.strategy")
    if optimizer is not None and optimizer.value == "adamw_bf16":
        keys.put("optimizer", "adamw_bf16", optimizer)
        keys.put("optimizer_state_dtype", "bf16", optimizer)
    elif optimizer is None or optimizer.value == "adamw":
        keys.assume("optimizer", "adamw_torch_fused", "torch.optim.AdamW(fused=True)")
    else:
        message = f"the states of {optimizer.value} are estimated as AdamW's"
        name = f"the states of {optimizer.value}"
        keys.leave_out(NotModelled(message, name, "either"), optimizer)
    _padding(keys)
    _dynamic(keys)
    own = next((each for each in keys.given if _is_own(each)), "")
    copy = copy_of(("verl",), command.cwd)
    if own or (copy is not None and _uses_logits(copy)):
        at = keys.get(own) or Setting(copy, Place("argv", "", "verl.trainer.main"))
        message = "this copy's actor makes more of its logits than EasyR1's, or has other keys"
        keys.leave_out(NotModelled(message, OWN_ACTOR, "either"), at)
    for name, expected, left_out in OTHERWISE:
        setting = keys.get(name)
        if setting is not None and setting.value is not expected:
            keys.leave_out(left_out, setting)


def _padding(keys: FrameworkKeys) -> None:
    """Leave padding open where nobody says it (on by default in 0.3.3, off in 0.3.1), and name what is cheaper with it."""
    setting = keys.get("worker.actor.padding_free")
    if setting is not None and setting.value is True:
        return
    if setting is None:
        origin = replace(keys.origins["sequence_kind"], assumed=True, may_be=("packed",))
        keys.assume("sequence_kind", "padded", "no worker.actor.padding_free")
        keys.origins["sequence_kind"] = origin
    at = setting or keys.by_default(False)
    message = "padded rows are estimated with the entropy of verl's"
    keys.leave_out(NotModelled(message, "log-probabilities of padded rows", "less"), at)


def _dynamic(keys: FrameworkKeys) -> None:
    """Open the rows of an update where rows of any length share the room of as many of the longest.

    That is so by default (workers/actor/config.py, 0.3.3), and 0.3.1 has no such switch. A row more than that is no more on a rank than without it where two share each row.
    """
    ring = keys.count(RING)
    is_on = keys.value("worker.actor.dynamic_batching", release(keys.library.version) > NO_DYNAMIC)
    if is_on is not True or (ring is not None and ring.value > 1):
        return
    rows, steps = (
        keys.settings.get(n) for n in ("micro_batch_size", "gradient_accumulation_steps")
    )
    longest = keys.settings.get("seq_len")
    if rows is not None and steps is not None and longest is not None:
        room = rows.value * longest.value
        found = rows_in_room(keys, room, longest.value, rows.value * steps.value, 1)
        put_rows(keys, found[0], found[1], rows, found[2])


def _is_own(name: str) -> bool:
    """Tell whether a key of the actor's section is none of EasyR1's."""
    above, _, rest = name.partition("worker.actor.")
    return not above and bool(rest) and rest.partition(".")[0] not in FIELDS


def _uses_logits(copy: str) -> bool:
    """Tell whether a copy's actor does anything with logits but for the log-probabilities that its forward returns."""
    try:
        with open_regular(os.path.join(copy, "workers", "actor", "dp_actor.py")) as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return True
    for method in walk(tree):
        if not isinstance(method, ast.FunctionDef):
            continue
        nodes = walk(method)
        if method.name == FORWARD:
            if any(isinstance(n, ast.Return) and isinstance(n.value, ast.Tuple) for n in nodes):
                return True
        elif any(isinstance(n, ast.Name) and n.id.startswith("logits") for n in nodes):
            return True
    return False


def _reference(keys: FrameworkKeys) -> None:
    """Name a reference that is not on the host while it does not run, which is where verl's formula has it."""
    setting = keys.get(CPU_REFERENCE)
    if setting is None or setting.value is not True:
        at = setting or keys.by_default(False)
        message = "the reference is estimated as on the host between its layers"
        keys.leave_out(NotModelled(message, "a reference on the card", "more"), at)


OTHERWISE = (
    ("worker.actor.fsdp.enable_full_shard", True, NotModelled(
        "layers are estimated as sharded again behind their forward", "layers that stay gathered", "more"
    )),
    ("worker.actor.fsdp.enable_cpu_offload", False, NotModelled(
        "the actor is estimated on its card", "an actor on the host", "less"
    )),
    ("worker.actor.model.freeze_vision_tower", False, NotModelled(
        "the tower is estimated as trained", "a tower that is frozen", "less"
    )),
)  # fmt: skip
"""Key -> its value in what is estimated, and what is said of another."""
