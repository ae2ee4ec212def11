"""What no release of verl has, in the words of a launch or in a copy of its source: a fork makes something of its own of it.

Forks for agents add lengths and turns (`data.max_start_length`, `max_turns`), and what the policy trains on is then not a
prompt and an answer as `data` says: an answer goes on over several turns, with what a tool says between them. Others add
models and losses to the workers (`actor.distill_topk`), and a forward that gives back more than two numbers of a token.
"""

from __future__ import annotations

import ast
import os

from preflight.files import open_regular
from preflight.formulas.objectives.actor_losses import ACTOR
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.own_copy import copy_of, sources_of
from preflight.launchers.verl.keys import MODEL
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import unparse, walk
from preflight.setting import Place, Setting

REFERENCE = "actor_rollout_ref.ref"
SECTIONS = ("data", "actor_rollout_ref", "worker", "algorithm", "critic", "env", "agent")
"""Sections whose numbers decide what is trained on; a key that stands alone does as well."""
COUNTS = lazy_pattern(r"(?:^|_)(?:len|length|seqlen|turns?|tokens)(?:_|$)")
HANDED_ON = ("kwargs", "override")
"""Parts of names of sections that are handed on to an engine or a model as they are."""
OF_RELEASES = frozenset(
    [
        "forward_max_token_len_per_gpu", "log_prob_max_token_len_per_gpu", "max_assistant_turns", "max_length",
        "max_model_len", "max_num_batched_tokens", "max_prompt_length", "max_response_length", "max_seq_len",
        "max_seqlen_per_dp_cp_rank", "max_tool_response_length", "max_turns", "max_user_turns",
        "num_speculative_tokens", "pad_to_length", "pad_to_length_bucket", "ppo_max_token_len_per_gpu",
        "prompt_length", "response_length", "speculative_num_draft_tokens",
    ]
)  # fmt: skip
"""Names of such keys in trainer/config of verl 0.1 to 0.9.1."""


OF_WORKERS = {
    ACTOR: frozenset(
        [
            "_target_", "calculate_entropy", "calculate_sum_pi_squared", "checkpoint", "clip_ratio",
            "clip_ratio_c", "clip_ratio_high", "clip_ratio_low", "data_loader_seed", "engine",
            "entropy_checkpointing", "entropy_coeff", "entropy_from_logits_chunk_size",
            "entropy_from_logits_with_chunking", "freeze_vision_tower", "fsdp_config", "global_batch_info",
            "grad_clip", "kl_loss_coef", "kl_loss_type", "load_weight", "loss_agg_mode", "loss_scale_factor",
            "megatron", "model_config", "optim", "pad_to_length", "policy_loss", "ppo_epochs",
            "ppo_infer_max_token_len_per_gpu", "ppo_infer_micro_batch_size_per_gpu",
            "ppo_max_token_len_per_gpu", "ppo_micro_batch_size", "ppo_micro_batch_size_per_gpu",
            "ppo_mini_batch_size", "profile", "profiler", "qat", "rollout_n", "router_replay", "shuffle",
            "strategy", "sum_pi_squared_checkpointing", "tau_neg", "tau_pos", "torchtitan",
            "ulysses_sequence_parallel_size", "use_dynamic_bsz", "use_fused_kernels", "use_kl_loss",
            "use_prefix_grouper", "use_remove_padding", "use_rollout_log_probs", "use_torch_compile", "veomni",
        ]
    ),
    MODEL: frozenset(
        [
            "_target_", "architectures", "custom_chat_template", "enable_activation_offload",
            "enable_gradient_checkpointing", "exclude_modules", "external_lib", "fused_kernel_options",
            "generation_config", "gradient_checkpointing_kwargs", "hf_config", "hf_config_path",
            "load_tokenizer", "local_hf_config_path", "local_path", "local_tokenizer_path", "lora",
            "lora_adapter_path", "lora_alpha", "lora_rank", "model_type", "mtp", "override_config", "path",
            "processor", "target_modules", "target_parameters", "tiled_mlp", "tokenizer", "tokenizer_path",
            "trust_remote_code", "use_fused_kernels", "use_liger", "use_remove_padding", "use_shm",
        ]
    ),
    REFERENCE: frozenset(
        [
            "_target_", "entropy_checkpointing", "entropy_from_logits_chunk_size",
            "entropy_from_logits_with_chunking", "fsdp_config", "load_weight",
            "log_prob_max_token_len_per_gpu", "log_prob_micro_batch_size", "log_prob_micro_batch_size_per_gpu",
            "log_prob_use_dynamic_bsz", "megatron", "mindspeed", "model", "pad_to_length", "param_offload",
            "profile", "profiler", "rollout_n", "router_replay", "strategy", "torchtitan",
            "ulysses_sequence_parallel_size", "use_torch_compile", "veomni",
        ]
    ),
}  # fmt: skip
"""Section of a worker -> its keys in trainer/config and workers/config of verl 0.1 to 0.9.1."""
SCORES_FILE = "core_algos.py"
LARGER = lazy_pattern(r"logits|module|model|hidden|worker|_wg\b")
"""What a call may be given that holds more than a number per token."""
FORWARD = "_forward_micro_batch"
TAKES = frozenset(["self", "micro_batch", "temperature", "calculate_entropy"])
"""Of workers/actor/dp_actor.py, which gives back a log-probability and an entropy of every token (0.2 to 0.7.1)."""
OWN_ACTOR = "an actor of the copy's own"


def read_own_lengths(keys: FrameworkKeys) -> None:
    """Name the sequences of a fork, whose length none of the keys that are known says."""
    for name, setting in keys.given.items():
        above, dot, last = name.rpartition(".")
        is_number = isinstance(setting.value, int) and not isinstance(setting.value, bool)
        is_own = COUNTS.search(last) is not None and (not dot or last not in OF_RELEASES)
        is_read = not dot or above.partition(".")[0] in SECTIONS
        if is_number and is_own and is_read and not any(word in above for word in HANDED_ON):
            message = f"no release of verl has {name}: sequences are estimated as a prompt and an answer of `data`"
            keys.leave_out(NotModelled(message, f"sequences that {name} makes", "either"), setting)
            return


def read_own_workers(keys: FrameworkKeys, folder: str) -> None:
    """Name what a fork's workers make of a key that is theirs, or of a forward that takes more than any release's."""
    copy = copy_of(("verl",), folder)
    for section, known in OF_WORKERS.items():
        for name, setting in keys.given.items():
            first = name.removeprefix(f"{section}.").partition(".")[0]
            is_on = setting.value not in (None, False, "", {}, [])
            is_own = name.startswith(f"{section}.") and first not in known and is_on
            if is_own and not _is_of_scores(copy, name.rpartition(".")[2]):
                message = f"no release of verl has {name}, and what it does is not counted"
                keys.leave_out(NotModelled(message, f"what {name} does", "either"), setting)
                return
    if copy is not None and _takes_more(os.path.join(copy, "workers", "actor", "dp_actor.py")):
        message = "this copy's actor asks its forward for more than verl's does"
        at = Setting(copy, Place("argv", "", "verl.trainer.main_ppo"))
        keys.leave_out(NotModelled(message, OWN_ACTOR, "either"), at)


def _takes_more(path: str) -> bool:
    """Tell whether the forward of an actor takes arguments that no release has; False of a file that is not there."""
    try:
        with open_regular(path) as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return False
    forwards = (n for n in walk(tree) if isinstance(n, ast.FunctionDef) and n.name == FORWARD)
    return any(not TAKES.issuperset(each.arg for each in f.args.args) for f in forwards)


def _is_of_scores(copy: str | None, key: str) -> bool:
    """Tell whether a copy's source hands a key to functions of core_algos alone: they make losses, advantages and
    coefficients of one number per token (trainer/ppo/core_algos.py, 0.1 to 0.9.1), beside which logits are thousands."""
    is_read = False
    for path, text in sources_of(copy) if copy is not None else ():
        if key not in text or os.path.basename(path) == SCORES_FILE:
            continue
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            return False
        taken = {id(part) for call in walk(tree) if _makes_scores(call) for part in walk(call)}
        read = [node for node in walk(tree) if _reads(node, key)]
        if not all(id(node) in taken for node in read):
            return False
        is_read = is_read or bool(read)
    return is_read


def _reads(node: ast.AST, key: str) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr == key) or (
        isinstance(node, ast.Constant) and node.value == key
    )


def _makes_scores(node: ast.AST) -> bool:
    """Tell whether an expression calls a function of core_algos, without what is larger than a number per token."""
    if not isinstance(node, ast.Call):
        return False
    return unparse(node.func).startswith("core_algos.") and not LARGER.search(unparse(node))
