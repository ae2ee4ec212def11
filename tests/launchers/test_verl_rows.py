"""The rows of a micro batch of verl's: those of all ranks, and those that share the room of a number of tokens."""

from __future__ import annotations

import random

import pytest
from framework_launches import CONFIGS

from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.framework_keys import FrameworkKeys
from preflight.launchers.framework_library import FrameworkLibrary
from preflight.launchers.verl import LAUNCHER
from preflight.launchers.verl.workers import rows_beyond
from preflight.units import ceil_div

MODEL, ACTOR, ROLLOUT = (f"actor_rollout_ref.{name}" for name in ("model", "actor", "rollout"))


def read(argv: str, folder: str = str(CONFIGS / "verl")) -> LaunchPlan:
    plan = LAUNCHER.read(LaunchCommand(tuple(argv.split()), {}, folder))
    assert plan is not None
    return plan


OF_ALL = (
    f"python -m verl.trainer.main_ppo {ROLLOUT}.name=vllm {MODEL}.path=a critic.model.path=a trainer.n_gpus_per_node=4"
    f" {ACTOR}.ppo_micro_batch_size_per_gpu=1 {ACTOR}.ppo_micro_batch_size=32"
    " critic.ppo_micro_batch_size_per_gpu=2 critic.ppo_micro_batch_size=12"
    f" {ROLLOUT}.log_prob_micro_batch_size_per_gpu=1 {ROLLOUT}.log_prob_micro_batch_size=64"
)


def test_rows_of_all_ranks_take_the_place_of_those_of_one() -> None:
    """A configuration has rows of one GPU by default, and workers write them over (fsdp_workers.py:124-138, :598-604, 0.1)."""
    plan = read(OF_ALL)
    assert plan.generation is not None

    assert plan.micro_batch_size == 32 // 4
    assert plan.generation.critic_rows == 12 // 4
    assert plan.generation.rollout_rows == 64 // 4


def test_rows_of_all_ranks_are_written_as_such() -> None:
    plan = read(OF_ALL)
    edits = {"micro_batch_size": 2, "gradient_accumulation_steps": 32}
    rewrite = LAUNCHER.write(before=plan, after=plan.with_edits(edits))

    assert rewrite is not None
    assert f"{ACTOR}.ppo_micro_batch_size={2 * 4}" in rewrite.argv
    assert read(" ".join(rewrite.argv)).micro_batch_size == 2


def balanced(lengths: list[int], num_bins: int) -> list[int]:
    """Return the tokens of bins that are filled evenly, the longest row first."""
    bins = [0] * num_bins
    for length in sorted(lengths, reverse=True):
        bins[bins.index(min(bins))] += length
    return bins


@pytest.mark.parametrize("room", [1000, 1500, 2000, 4000])
@pytest.mark.parametrize("number", [8, 40, 160])
@pytest.mark.parametrize("shortest", [1, 600, 950])
def test_rows_that_are_divided_evenly_go_beyond_their_room_by_a_row(room, number, shortest):
    """As rearrange_micro_batches has it: ceil(tokens / room) bins, of lengths that no division may fit into them."""
    draw = random.Random(number)
    keys = FrameworkKeys(FrameworkLibrary("verl", "0.9.0", is_known=True, key="verl"), {})
    most = max(room, rows_beyond(keys, room, 1000, number, 1) * 1000)
    fullest = 0
    for _ in range(50):
        lengths = [draw.randint(shortest, 1000) for _ in range(number)]
        fullest = max(fullest, *balanced(lengths, min(number, ceil_div(sum(lengths), room))))

    assert fullest <= most
    if shortest == 600 and room == 1000:
        assert fullest > 1.2 * room


UPDATE = (
    f"python -m verl.trainer.main_ppo {ROLLOUT}.name=vllm data.max_prompt_length=1024 data.max_response_length=3072"
    f" {ACTOR}.use_dynamic_bsz=True trainer.n_gpus_per_node=8 {ACTOR}.ppo_mini_batch_size="
)


@pytest.mark.parametrize(
    ("release", "more", "may_be"),
    [
        ("0.4.1", f"64 {ACTOR}.ppo_max_token_len_per_gpu=8192", (3,)),
        ("0.9.0", f"64 {ACTOR}.ppo_max_token_len_per_gpu=8192", (3,)),
        ("0.9.1", f"64 {ACTOR}.ppo_max_token_len_per_gpu=8192", ()),
        ("0.4.1", f"24 {ACTOR}.ppo_max_token_len_per_gpu=8192", (1,)),  # three rows in two bins
        ("0.4.1", f"64 {ACTOR}.ppo_max_token_len_per_gpu=6000", (1, 3)),
        # a ring of four shares the row, and has room for it
        ("0.4.1", f"64 {ACTOR}.ppo_max_token_len_per_gpu=6000 {ACTOR}.ulysses_sequence_parallel_size=4", (1,)),
    ],
)  # fmt: skip
def test_an_update_may_have_a_row_more_than_its_tokens(release, more, may_be, tmp_path):
    (tmp_path / "requirements.txt").write_text(f"verl=={release}\n")
    plan = read(UPDATE + more, str(tmp_path))

    assert plan.micro_batch_size == 2
    assert plan.origins["micro_batch_size"].may_be == may_be


@pytest.mark.parametrize(
    ("more", "may_be"),
    [
        ("", (3,)),
        ("worker.actor.dynamic_batching=false", ()),
        ("worker.actor.ulysses_size=2", ()),
        ("worker.actor.global_batch_size=16", (1,)),
    ],
)
def test_so_may_an_update_of_easy_r1(more, may_be, tmp_path):
    copy = tmp_path / "verl"
    copy.mkdir()
    (copy / "__init__.py").write_text('__version__ = "0.3.3.dev0"\n')
    rows = "worker.actor.micro_batch_size_per_device_for_update=2"
    argv = f"python3 -m verl.trainer.main worker.actor.model.model_path=a {rows} {more}"
    plan = read(argv, str(tmp_path))

    assert plan.micro_batch_size == 2
    assert plan.origins["micro_batch_size"].may_be == may_be


@pytest.mark.parametrize(("of_all", "rows", "may_be"), [(32, 4, (2,)), (48, 6, (3,)), (128, 8, ())])
def test_an_update_has_no_more_rows_than_a_rank_is_given(of_all, rows, may_be, tmp_path):
    """Of 8 ranks, with room for eight of the longest; half as many tokens where rows are half as long."""
    (tmp_path / "requirements.txt").write_text("verl==0.9.1\n")
    plan = read(f"{UPDATE}{of_all} {ACTOR}.ppo_max_token_len_per_gpu=32768", str(tmp_path))

    assert plan.micro_batch_size == rows
    assert plan.origins["micro_batch_size"].may_be == may_be
    assert plan.gradient_accumulation_steps == of_all // 8 // rows


CRITIC = (
    f"python -m verl.trainer.main_ppo {ROLLOUT}.name=vllm {MODEL}.path=a critic.model.path=a trainer.n_gpus_per_node=8"
    f" data.max_prompt_length=512 data.max_response_length=512 {ACTOR}.use_dynamic_bsz=True {ACTOR}.ppo_mini_batch_size=64"
)


@pytest.mark.parametrize(
    ("more", "rows", "scored"),
    [
        ("", 64 // 8, 33),  # 32,768 tokens, and a row beyond them
        (f"{ROLLOUT}.n=2", 16, 33),
        (f"{ROLLOUT}.n=8", 33, 33),
        ("critic.ppo_mini_batch_size=128", 16, 33),
        ("critic.ulysses_sequence_parallel_size=2", 16, 33),
        ("critic.ppo_max_token_len_per_gpu=4096", 5, 5),
        ("critic.forward_max_token_len_per_gpu=8192", 8, 9),
        ("critic.ppo_mini_batch_size=${SIZE}", 33, 33),
    ],
)
def test_a_critics_update_has_no_more_rows_than_a_rank_of_its_mini_batch(
    more, rows, scored
) -> None:
    plan = read(f"{CRITIC} {more}")
    assert plan.generation is not None

    assert (plan.generation.critic_rows, plan.generation.critic_scored_rows) == (rows, scored)


COPIED = """\
actor_rollout_ref:
  model: {path: a}
  actor: {ppo_mini_batch_size: 64, use_dynamic_bsz: true}
  rollout: {name: vllm, n: 1}
data: {max_prompt_length: 512, max_response_length: 512}
critic:
  model: {path: "${actor_rollout_ref.model.path}"}
  ppo_mini_batch_size: ${actor_rollout_ref.actor.ppo_mini_batch_size}
  ppo_max_token_len_per_gpu: ${critic.forward_max_token_len_per_gpu}
  forward_max_token_len_per_gpu: MORE
"""


@pytest.mark.parametrize(
    ("more", "rows", "scored"),
    [("8192", 8, 9), ("${critic.ppo_max_token_len_per_gpu}", 8, 33), ("${oc.env:TOKENS}", 8, 33)],
)
def test_keys_that_a_file_refers_to_have_their_values(more, rows, scored, tmp_path) -> None:
    """Also where a chain of them ends in a circle, or in what only running tells: then nobody says them."""
    folder = tmp_path / "verl" / "trainer" / "config"
    folder.mkdir(parents=True)
    (tmp_path / "verl" / "__init__.py").write_text("")
    (folder / "ppo_trainer.yaml").write_text(COPIED.replace("MORE", more))
    plan = read("python -m verl.trainer.main_ppo trainer.n_gpus_per_node=8", str(tmp_path))
    assert plan.generation is not None

    assert (plan.generation.critic_rows, plan.generation.critic_scored_rows) == (rows, scored)
