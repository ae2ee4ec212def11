"""PF504, PF505: a checkpoint folder that another launch wrote: its engine and its ranks, told from file names."""

from __future__ import annotations

import os
from collections.abc import Iterator

from preflight.bool_words import STRTOBOOL
from preflight.files import entries_of
from preflight.finding import Finding
from preflight.findings import found
from preflight.launch import LaunchPlan
from preflight.lazy_pattern import lazy_pattern
from preflight.node.this_node import starts_here
from preflight.plan_choices import HF_TRAINERS
from preflight.values import dataclass

STATES_OF_RANK = lazy_pattern(r"zero_pp_rank_(\d+)_mp_rank_\d+_optim_states\.pt$")
"""deepspeed/runtime/engine.py _get_zero_ckpt_name (0.19.8)."""
WAYS_TO_RESUME = ("resume_from_checkpoint", "get_last_checkpoint")
CHECKPOINT = lazy_pattern(r"checkpoint-(\d+)$")


def findings(plan: LaunchPlan) -> Iterator[Finding]:
    """Look at the checkpoint that the launch resumes from, or at those it would write among."""
    if plan.trainer not in HF_TRAINERS:
        return
    resume = plan.trainer_facts.given("resume_from_checkpoint")
    output = plan.trainer_facts.get("output_dir")
    if resume is not None and isinstance(resume.value, str):
        text = resume.value
        if STRTOBOOL.read(text) is None and text.lower() not in ("none", "null", ""):
            yield from _resumed(plan, text, resume.place.where)
            return
    if output is not None and isinstance(output.value, str):
        yield from _written_among(plan, output.value, output.place.where, resume is not None)


@dataclass(frozen=True)
class Written:
    """What the names in a checkpoint folder tell about the launch that wrote it."""

    num_zero_ranks: int | None = None
    """Ranks among which DeepSpeed's optimizer states lie; None where it is not DeepSpeed's."""
    is_universal: bool = False
    has_fsdp_model: bool = False


def read_checkpoint(folder: str) -> Written:
    """Tell from a folder's file names which engine wrote it, and for how many ranks."""
    names = os.listdir(folder)
    tags = [n for n in names if n.startswith("global_step")]
    from preflight.node.limits import text_of  # few launches resume from ZeRO's shards

    latest = text_of(os.path.join(folder, "latest")).strip()
    tag = latest if latest in tags else max(tags, key=len, default=None)
    ranks: set[str] = set()
    universal = False
    if tag is not None:
        inner = os.listdir(os.path.join(folder, tag))
        universal = "zero" in inner
        ranks = {m[1] for m in map(STATES_OF_RANK.search, inner) if m is not None}
    return Written(
        len(ranks) if tag is not None else None,
        universal,
        any(n.startswith("pytorch_model_fsdp") for n in names),
    )


def _resumed(plan: LaunchPlan, text: str, where: str) -> Iterator[Finding]:
    folder = plan.resolve(text)
    if not os.path.isdir(folder):
        if starts_here(plan):
            yield found("PF505", f"there is no checkpoint {text}", where, _newest(plan, folder))
        return
    try:
        written = read_checkpoint(folder)
    except OSError:
        return
    fix = "resume with the engine that wrote it, or start from its weights as a model"
    if plan.zero_stage is None:
        if written.has_fsdp_model and not plan.is_fsdp:
            yield found(
                "PF505", f"{text} was written by FSDP, and this launch is {plan.engine}", where, fix
            )
        elif written.num_zero_ranks is not None:
            yield found(
                "PF505",
                f"{text} was written by DeepSpeed, and this launch is {plan.engine}: the optimizer"
                " starts from nothing",
                where,
                fix,
                severity="warning",
            )
        return
    if written.num_zero_ranks is None:
        yield found(
            "PF505",
            f"{text} has no global_step folder, and this launch resumes DeepSpeed",
            where,
            fix,
        )
        return
    ranks = plan.world_size // plan.tensor_parallel_degree
    if plan.zero_stage and written.num_zero_ranks not in (0, ranks) and not written.is_universal:
        yield found(
            "PF505",
            f"{text} was written by {written.num_zero_ranks} ranks, and this launch has {ranks}",
            where,
            f"{written.num_zero_ranks} ranks, or DeepSpeed's universal checkpoint"
            " (deepspeed/checkpoint/ds_to_universal.py, load_universal)",
        )


def _newest(plan: LaunchPlan, folder: str) -> str:
    near = checkpoints_in(os.path.dirname(folder))
    return (
        f"the newest beside it is checkpoint-{max(near)}" if near else "the folder of a checkpoint"
    )


def checkpoints_in(folder: str) -> list[int]:
    """Return the steps of the checkpoints in a folder."""
    found = map(CHECKPOINT.match, entries_of(folder))
    return [int(match[1]) for match in found if match is not None]


def _written_among(plan: LaunchPlan, text: str, where: str, is_resumed: bool) -> Iterator[Finding]:
    """Say where saving deletes the checkpoints of an older run: Trainer keeps the newest by their time."""
    limit = plan.trainer_facts.value("save_total_limit")
    if is_resumed or not isinstance(limit, int) or limit <= 0:
        return
    if str(plan.trainer_facts.value("save_strategy", "steps")) == "no":
        return
    steps = checkpoints_in(plan.resolve(text))
    if not steps or any(word in plan.script_text for word in WAYS_TO_RESUME):
        return
    yield found(
        "PF504",
        f"{text} holds checkpoints up to step {max(steps)}, and this launch starts again at step 0:"
        f" --save_total_limit {limit} deletes the old ones",
        where,
        "an empty --output_dir, or --resume_from_checkpoint true",
    )
