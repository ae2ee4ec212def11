"""Online RL on TRL's own trainers: live bytes of rollout, scoring and update beside the estimate."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_llama import LLAMA
from some_plugins import plugins_of
from step_script import counted_of

from preflight.device import DeviceSpec
from preflight.judge import estimate_memory
from preflight.launch import Adapter, Generation, LaunchPlan
from preflight.memory import (
    ONLINE,
    PHASE_MOMENTS,
    STEP_MOMENTS,
    Level,
    MemoryEstimate,
    Moment,
    Phase,
)
from preflight.models import describe
from preflight.units import GIB

SCRIPT = Path(__file__).with_name("rollout_steps.py")
CONFIG = {**LLAMA, "vocab_size": 8192}
TOLERANCE = 0.02
CASES: dict[str, dict] = {
    "grpo": {"load": "bf16"},
    "grpo, long completions": {"load": "bf16", "prompt": 24, "completion": 48, "micro": 8},
    "grpo, reference and reward model, two steps": {
        "load": "bf16", "beta": 0.1, "reward": True, "accumulation": 2, "checkpointing": True,
    },
    "grpo, LoRA": {"load": "bf16", "rank": 8, "beta": 0.1},
    "grpo, reference and reward model, autocast": {
        "load": "fp32", "autocast": True, "beta": 0.1, "reward": True,
    },
    "grpo, a rollout between two micro steps": {
        "load": "bf16", "accumulation": 2, "arguments": {"steps_per_generation": 1},
    },
    "rloo": {"objective": "rloo", "load": "bf16", "beta": 0.05},
}  # fmt: skip


def case_of(name: str) -> dict:
    common = {"objective": "grpo", "micro": 4, "prompt": 116, "completion": 12, "config": CONFIG}
    return {**common, **CASES[name]}


@pytest.fixture(scope="module")
def measured(ranks, tmp_path_factory) -> dict[str, dict]:
    """One process takes two steps of every case."""
    folder = tmp_path_factory.mktemp("rollouts")
    return counted_of(ranks, SCRIPT, {name: case_of(name) for name in CASES}, folder)


def plan_of(case: dict) -> LaunchPlan:
    rank = case.get("rank")
    steps = case.get("arguments", {}).get("steps_per_generation")
    reference = "none" if not case.get("beta") else "adapter_off" if rank else "same"
    return LaunchPlan(
        objective=case["objective"], trainer="trl", load_dtype=case["load"],
        mixed_precision="bf16" if case.get("autocast") else "no", micro_batch_size=case["micro"],
        seq_len=case["prompt"] + case["completion"],
        gradient_accumulation_steps=case.get("accumulation", 1), attention="sdpa", sequence_kind="fixed",
        activation_checkpointing="full" if case.get("checkpointing") else "none", loss="chunked_linear",
        adapter=Adapter(rank=rank, targets=("q_proj", "v_proj")) if rank else None,
        reference_model=reference, reward_models=("same",) if case.get("reward") else None,
        generation=Generation(
            max_completion_len=case["completion"], scores_again=case["objective"] == "rloo",
            steps_per_generation=steps, gradients_wait=steps is not None,
        ),
    )  # fmt: skip


def estimate(plan: LaunchPlan, device: DeviceSpec | None = None):
    plugins = plugins_of("memory_")
    return estimate_memory(
        plan, describe({**CONFIG, "dtype": "bfloat16"}, "t", "t"), device, plugins
    )


def predicted_of(name: str) -> dict[str, int]:
    return parts_of(estimate(plan_of(case_of(name))))


def parts_of(estimate: MemoryEstimate) -> dict[str, int]:
    """Return the most live bytes of every part of an online step."""
    terms = [t for t in estimate.terms if t.level is Level.ALLOCATED]

    def at(*moments: Moment) -> int:
        return max(sum(t.num_bytes for t in terms if moment in t.moments) for moment in moments)

    return {
        "rollout": at(Moment.ROLLOUT),
        "scoring": at(Moment.SCORING),
        "update": at(*STEP_MOMENTS, Moment.OPTIMIZER_STEP),
    }


@pytest.mark.parametrize("part", ["rollout", "scoring", "update"])
@pytest.mark.parametrize("name", CASES)
def test_every_part_of_an_online_step_is_priced(measured, name, part):
    peaks = measured[name]["peaks"]
    update = max(peaks[part] for part in ("forward", "backward", "optimizer"))
    counted = {**peaks, "update": update}[part]

    assert predicted_of(name)[part] == pytest.approx(counted, rel=TOLERANCE)


def test_completions_of_a_whole_generation_are_made_at_once_and_trained_a_micro_batch_at_a_time(
    measured,
):
    shapes = measured["grpo, reference and reward model, two steps"]["shapes"]

    assert [8, 116] in shapes  # the prompts
    assert [8, 1] in shapes  # a token of each
    assert [4, 128] in shapes
    assert [8, 128] not in shapes


def test_an_adapter_or_no_beta_needs_no_second_copy(measured):
    held = {name: result["has_reference"] for name, result in measured.items()}

    assert held["rloo"]
    assert not held["grpo, LoRA"]
    assert not held["grpo"]


CARD = DeviceSpec("a card", 80 * GIB)


def with_engine(**more) -> LaunchPlan:
    generation = Generation(
        engine="vllm", memory_share=0.3, max_completion_len=32, scores_again=True
    )
    edits = {f"generation.{name}": value for name, value in more.items()}
    return plan_of(case_of("grpo")).with_edits({"generation": generation}).with_edits(edits)


def test_an_engine_takes_its_share_of_the_whole_card_in_a_rollout():
    terms = estimate(with_engine(), CARD).terms_at(Moment.ROLLOUT)
    engine = sum(t.num_bytes for t in terms if t.name.startswith("inference engine"))

    assert engine == -(-3 * 80 * GIB // 10)


def test_an_engine_that_sleeps_is_gone_while_the_policy_trains():
    awake, asleep = (
        {
            moment: sum(
                term.num_bytes
                for term in estimate(with_engine(sleep=sleeps), CARD).terms_at(moment)
                if term.name.startswith("inference engine")
            )
            for moment in (Moment.WEIGHT_SYNC, Moment.ROLLOUT, Moment.SCORING, Moment.FORWARD)
        }
        for sleeps in (False, True)
    )

    assert awake[Moment.ROLLOUT] == asleep[Moment.ROLLOUT]
    assert awake[Moment.FORWARD] > 0 == asleep[Moment.FORWARD] == asleep[Moment.SCORING]
    assert 0 < asleep[Moment.WEIGHT_SYNC] < awake[Moment.WEIGHT_SYNC]


def test_a_server_is_on_no_card_of_the_launch():
    names = {term.name for term in estimate(with_engine(mode="server"), CARD).terms}

    assert not [name for name in names if name.startswith("inference engine")]


def test_an_engine_over_two_ranks_has_half_of_the_weights_on_each():
    one, two = (
        next(
            t.num_bytes
            for t in estimate(with_engine(tensor_parallel_degree=degree), CARD).terms
            if t.name == "inference engine: weights"
        )
        for degree in (1, 2)
    )

    assert one == 2 * two


def test_phases_of_online_rl_are_of_online_rl_alone():
    plain = LaunchPlan(micro_batch_size=1, seq_len=64, load_dtype="bf16")
    phases = {peak.phase for peak in estimate(plain).peaks}
    online = {peak.phase for peak in estimate(with_engine(sleep=True), CARD).peaks}

    assert not phases & set(ONLINE)
    assert online >= set(ONLINE)
    assert Phase.WEIGHT_SYNC not in {p.phase for p in estimate(plan_of(case_of("rloo"))).peaks}
    assert all(len(PHASE_MOMENTS[phase]) == 1 for phase in ONLINE)


OLDER = {
    ("0.18.2", "bf16"): (110_054_834, 110_045_630),
    ("0.18.2", "fp32"): (212_888_756, 346_839_232),
    ("1.13.0", "bf16"): (155_020_538, 108_870_150),
    ("1.13.0", "fp32"): (236_890_876, 345_663_752),
}
"""Release of TRL and dtype (fp32 under autocast) -> bytes of a step's forward and backward, counted by rollout_steps.py in an
environment with that release (transformers 4.52.4 and 5.24.0, November 2026)."""


WIDE = {
    **CONFIG, "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 2, "vocab_size": 16384,
}  # fmt: skip


def most_of_a_step(plan: LaunchPlan) -> int:
    plugins = plugins_of("memory_")
    model = describe({**WIDE, "dtype": "bfloat16"}, "t", "t")
    terms = estimate_memory(plan, model, None, plugins).terms
    return max(
        sum(t.num_bytes for t in terms if t.level is Level.ALLOCATED and moment in t.moments)
        for moment in STEP_MOMENTS
    )


@pytest.mark.parametrize(("trl", "load"), OLDER)
def test_whole_logits_of_completions_are_priced_in_older_releases(trl, load):
    case = {
        "objective": "grpo",
        "micro": 4,
        "prompt": 32,
        "completion": 256,
        "load": load,
        "autocast": load == "fp32",
    }
    plan = plan_of(case).with_edits({"versions.trl": trl, "loss": "full_logits"})

    assert most_of_a_step(plan) == pytest.approx(max(OLDER[trl, load]), rel=TOLERANCE)
