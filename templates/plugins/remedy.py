"""A remedy: a change of yours that may make a launch fit. preflight estimates it and believes nothing.

This docstring is its manual page: `preflight explain cut_sequences`.
Save as preflight_hooks.py in the folder that launches start from.
"""

from preflight.hookspecs import hookimpl
from preflight.remedy import Remedy

SHORTEST = 2048
"""Of our rows, 99 percent are shorter than this."""


@hookimpl
def preflight_remedies(plan, model):
    if plan.seq_len is None or plan.seq_len <= SHORTEST:
        return
    yield Remedy(
        id="cut_sequences",
        title=f"cut sequences to {SHORTEST} tokens: 99 percent of our rows are shorter",
        edits={"seq_len": SHORTEST},  # plan fields; the reader of the launcher writes its keys
        safety="changes_training",  # only suggested, unless `--allow cut_sequences`; see preflight/remedy.py
    )
