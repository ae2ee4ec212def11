"""A memory rule: what of yours a rank holds, and preflight cannot know.

Save as preflight_hooks.py in the folder that launches start from. `preflight check -v -- ...` then lists the term.
"""

from preflight.hookspecs import hookimpl
from preflight.memory import ALWAYS, MemoryTerm

BUFFER_SEQUENCES = 1024
"""Of train.py: sequences that the replay buffer keeps on the device."""
BYTES_PER_TOKEN = 8
"""Token ids are int64."""


@hookimpl
def preflight_memory_terms(plan, model):
    # Take only the arguments that you read. Nothing yielded means: not mine.
    if plan.trainer != "trl" or plan.seq_len is None:
        return
    yield MemoryTerm(
        name="replay buffer",  # unique over all plugins
        num_bytes=BUFFER_SEQUENCES * plan.seq_len * BYTES_PER_TOKEN,  # of one rank, an int
        moments=ALWAYS,  # or the moments of a step in which it is alive: see preflight/memory.py
        formula=f"{BUFFER_SEQUENCES} sequences x {plan.seq_len} tokens x {BYTES_PER_TOKEN}",  # to check by hand
        source="train.py, class ReplayBuffer",
    )
