"""A check: a rule of yours that a launch must keep, said before it starts.

Save as preflight_hooks.py in the folder that launches start from.
"""

from preflight.finding import Finding
from preflight.hookspecs import hookimpl

MOST_TOKENS = 4_000_000
"""A global batch beyond this made our runs worse (experiments of spring, in the team's notes)."""


@hookimpl
def preflight_findings(plan):
    # Take only the arguments that you read: plan, model, device, estimate. What is not known is None.
    if plan.seq_len is None or plan.micro_batch_size is None:
        return
    sequences = plan.global_batch_size
    said = plan.origins.get("gradient_accumulation_steps")
    if sequences * plan.seq_len > MOST_TOKENS:
        yield Finding(
            id="OURS1",  # stable: `ignore` and `refuse` of a policy name it
            name="global-batch-too-large",
            severity="warning",  # error where training would be wrong; a policy can refuse with any
            message=f"the global batch is {sequences} sequences, {sequences * plan.seq_len:,} tokens",
            where=said.where if said is not None else "",  # the file and line that say it
            fix=f"at most {MOST_TOKENS:,} tokens: fewer gradient_accumulation_steps",
        )
