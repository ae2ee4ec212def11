"""seq_len: cut sequences shorter.

Saves      activations and logits in proportion, attention scores in square where they are kept
Costs      the text behind the cut
Safety     changes_training: other data
Written as --max_length (TRL) or the script's own flag
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.objective import ONLINE
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.launchers.all import launcher_of
from preflight.remedy import Remedy

SHORTEST = 256


@hookimpl
def preflight_remedies(plan: LaunchPlan) -> Iterable[Remedy]:
    """Halve the sequence length, again and again, down to 256 tokens."""
    length = plan.seq_len
    if length is None or plan.objective in ONLINE:
        return  # online RL cuts completions, and not the sequences that it trains on
    origin = plan.origins.get("seq_len")
    is_flag = origin is not None and origin.where.startswith("--") and origin.where != "--set"
    # Where a dataset said it, the origin is `--dataset FILE: row 17 is the longest, ...`.
    flag = launcher_of(plan).spellings.get("seq_len", "--max_length ")
    if origin is not None and is_flag and " " not in origin.where:
        flag = f"{origin.where} "
    shorter = length // 2
    while shorter >= SHORTEST:
        yield Remedy(
            "seq_len",
            f"sequences of at most {shorter} tokens",
            {"seq_len": shorter},
            "changes_training",
            how=f"{flag}{shorter}",
        )
        shorter //= 2
