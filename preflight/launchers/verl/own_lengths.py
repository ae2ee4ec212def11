"""Lengths and turns under names that no release of verl has: whoever reads them makes sequences of its own.

Forks for agents add them (`data.max_start_length`, `max_turns`), and what the policy trains on is then not a prompt and
an answer as `data` says: an answer goes on over several turns, with what a tool says between them.
"""

from __future__ import annotations

from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.lazy_pattern import lazy_pattern

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
