"""A reader: a launcher of yours, read into a plan.

    ourlaunch --gpus 8 --model Qwen/Qwen3-8B --length 4096

Save as preflight_hooks.py in the folder that launches start from.
"""

from preflight.errors import BadInput
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan, Origin


@hookimpl
def preflight_read_launch(command):
    if command.argv[0].rpartition("/")[2] != "ourlaunch":
        return None  # not mine: the next reader is asked
    words = command.argv[1:]
    flags = dict(zip(words[::2], words[1::2], strict=False))
    try:
        num_gpus = int(flags.get("--gpus", "1"))
        seq_len = int(flags.get("--length", "2048"))
    except ValueError as error:
        # Mine, and wrong: what is wrong, where, what to do.
        raise BadInput.one(f"must be a whole number: {error}", "ourlaunch") from error
    plan = LaunchPlan(
        model=flags.get("--model"),
        engine="fsdp2" if num_gpus > 1 else "single",
        world_size=num_gpus,
        shard_degree=num_gpus,
        trainer="transformers",
        mixed_precision="bf16",
        load_dtype="fp32",
        optimizer="adamw_torch_fused",
        micro_batch_size=1,
        seq_len=seq_len,
        activation_checkpointing="full",
        launcher="ourlaunch",
        cwd=command.cwd,
        # More that checks can ask (the trainer's arguments, the ranks' meeting, the script): trainer_facts,
        # rank_facts, script_facts and engine_facts, docs/reference-plan.md.
        command=command,
    )
    # Where each value comes from is shown by `-v`; what nobody said is assumed, and always shown.
    if "--length" in flags:
        return plan.with_origin("seq_len", Origin("--length"))
    default = Origin("ourlaunch 1.0", assumed=True, reason="its default")
    return plan.with_origin("seq_len", default)
