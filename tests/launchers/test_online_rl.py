"""Launches of online RL, whole: what is answered for TRL's GRPO with an engine beside the ranks, and why."""

from __future__ import annotations

import pytest

import preflight
from preflight.memory import Phase
from preflight.verdict import Answer

GRPO = (
    "trl grpo --model_name_or_path Qwen/Qwen2.5-7B-Instruct --dataset_name d --reward_funcs accuracy_reward"
    " --dtype bfloat16 --num_processes 8 --accelerate_config zero3"
)
COLOCATED = f"{GRPO} --use_vllm --vllm_max_model_length 2048 --vllm_gpu_memory_utilization"
NEWEST = {"versions.trl": "1.16.0", "versions.transformers": "5.24.0", "versions.torch": "2.13.0"}


def check(line: str, folder, **more):
    settings = {**NEWEST, **more}
    return preflight.check(
        line.split(), device="h100-sxm-80", settings=settings, cwd=folder, env={}
    )


def term(report, start: str) -> int:
    return sum(t.num_bytes for t in report.estimate.terms if t.name.startswith(start))


def test_an_engine_with_a_third_of_the_card_leaves_room_and_one_with_most_of_it_does_not(tmp_path):
    small, large = (check(f"{COLOCATED} {share}", tmp_path) for share in (0.3, 0.9))

    assert small.verdict.answer is Answer.FITS
    assert large.verdict.answer is Answer.DOES_NOT_FIT
    assert large.verdict.failing_phase is Phase.LOAD  # DeepSpeed prepares beside the engine
    assert term(small, "inference engine: weights") == term(large, "inference engine: weights")
    grown = term(large, "inference engine") - term(small, "inference engine")
    assert grown == pytest.approx(0.6 * large.device.capacity_bytes, abs=2)


def test_an_engine_that_sleeps_fails_in_the_rollout_and_not_before(tmp_path):
    report = check(f"{COLOCATED} 0.9 --vllm_enable_sleep_mode", tmp_path)

    assert report.verdict.answer is Answer.DOES_NOT_FIT
    assert report.verdict.failing_phase is Phase.ROLLOUT


def test_advice_is_in_the_flags_of_the_trainer(tmp_path):
    report = check(f"{COLOCATED} 0.72", tmp_path)
    offered = {tried.remedy.id: tried for tried in report.suggested}
    share = offered["engine_share"].remedy.how

    assert offered["engine_sleep"].remedy.how == "--vllm_enable_sleep_mode true"
    assert share.startswith("--vllm_gpu_memory_utilization 0.")
    assert offered["engine_share"].verdict.answer is Answer.FITS
    assert "seq_len" not in offered


def test_a_share_that_fits_alone_is_said_beside_a_rewrite_of_twice_the_step_time(tmp_path):
    report = check(f"{COLOCATED} 0.9", tmp_path)
    (share,) = report.suggested

    assert report.is_dear and not report.may_launch
    assert share.remedy.how == "--vllm_gpu_memory_utilization 0.55"
    assert share.verdict.answer is Answer.FITS
    assert share.step_time_factor < 1.01


def test_a_share_that_holds_no_weights_is_no_engine(tmp_path):
    report = check(f"{COLOCATED} 0.15", tmp_path)

    assert report.verdict.answer is Answer.UNKNOWN
    assert report.verdict.unpriced == ("an engine that does not start",)
    assert any("vLLM refuses to start" in finding.message for finding in report.findings)


def test_a_server_leaves_the_ranks_their_cards(tmp_path):
    line = f"{COLOCATED} 0.9 --vllm_mode server"
    report = check(line, tmp_path, seq_len=2048)

    assert report.verdict.answer is Answer.FITS
    assert not term(report, "inference engine")
    # vllm_max_model_length is told to no server, whose own length nobody said
    assert check(line, tmp_path).verdict.missing == ("seq_len",)


def test_a_batch_may_be_wider_than_any_of_its_rows(tmp_path):
    """Prompts are padded to the longest on their left and completions on their right: the two may be of two rows."""
    line = f"{COLOCATED} 0.3 --max_completion_length"
    narrow, wide = (check(f"{line} {completion}", tmp_path) for completion in (1, 1024))

    assert not narrow.plan.origins["seq_len"].may_be
    assert wide.plan.origins["seq_len"].may_be == (2047 + 1024,)
    assert wide.plan.seq_len == 2048

    line = f"{line} 4096".replace("2048", "4096")
    widths = {None: Answer.TIGHT, 4096: Answer.FITS, 8190: Answer.TIGHT}
    for width, answer in widths.items():
        said = {} if width is None else {"seq_len": width}
        assert check(line, tmp_path, **said).verdict.answer is answer


@pytest.mark.parametrize(
    ("batch", "steps"),
    [
        (512, 8),
        (64, 1),
        (192, 3),
    ],  # of 8 ranks with 8 completions each, two micro steps for an optimizer step
)
def test_a_generation_batch_is_what_all_ranks_generate_at_once(tmp_path, batch, steps):
    line = f"{GRPO} --gradient_accumulation_steps 2"
    said, counted = (
        check(f"{line} {words}", tmp_path, seq_len=2048)
        for words in (f"--generation_batch_size {batch}", f"--steps_per_generation {steps}")
    )

    assert said.estimate.terms == counted.estimate.terms
    assert not said.verdict.unpriced
    assert term(said, "keys and values") == steps * 8 * 2048 * 28 * 2 * 512 * 2


VERL = (
    "python -m verl.trainer.main_ppo algorithm.adv_estimator=grpo data.max_prompt_length=512"
    " data.max_response_length=1024 actor_rollout_ref.model.path=Qwen/Qwen2-7B"
    " actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=160 actor_rollout_ref.rollout.n=5"
    " actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8 trainer.n_gpus_per_node=8"
)


@pytest.mark.parametrize("release", ["0.4.1", "0.9.1", None])
def test_completions_that_may_end_sooner_refuse_nothing(tmp_path, release):
    """No data tells how long a model's answers are: a micro batch of 160 rows runs on short ones."""
    settings = {"versions.verl": release} if release else {}
    line = f"{VERL} actor_rollout_ref.model.use_remove_padding=True"
    report = check(line, tmp_path, **settings)
    longest = report.extra.get("longest_seq_len")

    assert report.verdict.answer is Answer.UNKNOWN and report.verdict.missing == ("seq_len",)
    assert report.may_launch and not report.applied
    assert longest is not None and 64 <= longest < 1536
    said = check(line, tmp_path, seq_len=longest, **settings)
    assert said.verdict.answer is Answer.FITS
    assert check(line, tmp_path, seq_len=1536, **settings).verdict.answer is Answer.DOES_NOT_FIT


def test_padding_that_is_not_taken_off_is_as_long_as_the_cap(tmp_path):
    line = f"{VERL} actor_rollout_ref.model.use_remove_padding=False"

    old, new = (check(line, tmp_path, **{"versions.verl": one}) for one in ("0.4.1", "0.9.1"))
    assert old.verdict.answer is Answer.DOES_NOT_FIT
    assert new.verdict.answer is Answer.UNKNOWN


def test_an_accelerator_that_runs_no_cuda_is_named(tmp_path):
    report = check(f"{VERL} trainer.device=npu", tmp_path, seq_len=256)

    assert "kernels of an accelerator that runs no CUDA" in report.verdict.unpriced


def test_prompts_that_nothing_cuts_leave_the_length_open(tmp_path):
    report = check(GRPO, tmp_path)

    assert report.verdict.answer is Answer.UNKNOWN
    assert report.verdict.missing == ("seq_len",)
    assert check(GRPO, tmp_path, seq_len=2048).verdict.answer is Answer.FITS


def test_prompts_of_any_length_are_priced(tmp_path):
    """The completions alone are scored, so that the loss takes less than what is counted with the norm before it."""
    peaks = [
        check(GRPO, tmp_path, seq_len=length).estimate.allocated_peak_bytes
        for length in (8192, 32768, 131072)
    ]

    assert peaks == sorted(peaks)


def test_a_policy_that_generates_itself_is_gathered_whole_unless_asked_not_to(tmp_path):
    whole, sharded = (
        check(f"{GRPO}{words}", tmp_path, seq_len=2048)
        for words in ("", " --ds3_gather_for_generation false")
    )

    assert term(whole, "policy, gathered to generate") == 2 * whole.model.num_params
    assert term(sharded, "policy, gathered to generate") < term(
        whole, "policy, gathered to generate"
    )


def test_a_reference_model_is_a_shard_of_a_second_copy(tmp_path):
    report = check(f"{GRPO} --beta 0.04", tmp_path, seq_len=2048)
    held = term(report, "parameters of the reference model")

    assert held == pytest.approx(2 * report.model.num_params / 8, rel=0.01)
    assert Phase.SCORING in {peak.phase for peak in report.estimate.peaks}


def test_a_release_that_is_not_priced_says_so(tmp_path):
    report = check(GRPO, tmp_path, **{"versions.trl": "1.14.0", "seq_len": 768})

    assert report.verdict.answer is Answer.UNKNOWN
    assert "in TRL 1.14.0" in report.verdict.reason


def test_an_engine_of_trl_0_15_is_on_the_card_after_the_ranks(tmp_path):
    words = f"{GRPO} --use_vllm true --bf16 true".replace("--dtype", "--torch_dtype")
    edits = {"versions.trl": "0.15.2", "versions.transformers": "4.49.0", "seq_len": 768}
    report = check(words, tmp_path, **edits)
    named = check(f"{words} --vllm_device cuda:7", tmp_path, **edits)

    assert not report.verdict.unpriced
    assert not [t for t in report.estimate.terms if t.name.startswith("inference engine")]
    gathered = term(report, "policy's parameters on their way to the engine")
    assert gathered == 2 * report.model.num_params
    assert "a card that vllm_device names" in " ".join(named.verdict.unpriced)


def test_a_release_before_the_fused_head_has_logits_of_completions_alone(tmp_path):
    report = check(f"{GRPO} --max_completion_length 100", tmp_path, **{"versions.trl": "0.24.0"})
    logits = next(t for t in report.estimate.terms if t.name == "logits and loss, backward")

    assert report.verdict.answer is Answer.FITS
    assert report.plan.seq_len == 612  # that release cuts prompts at 512 tokens
    assert logits.num_bytes == 4 * 8 * 101 * report.model.vocab_size


def test_a_reward_model_of_known_shapes_is_judged_at_its_most(tmp_path):
    words = f"{COLOCATED} 0.3 --reward_model_name_or_path"
    sizes = ("Skywork/Skywork-Reward-Llama-3.1-8B-v0.2", "Qwen/Qwen2.5-72B-Instruct", "own/model")
    small, large, other = (check(f"{words} {name}", tmp_path) for name in sizes)
    size = 4 if small.plan.zero_stage is None else 2

    assert small.verdict.answer is Answer.FITS
    assert term(small, "parameters of reward model") >= size * 7e9 / small.plan.shard_degree
    assert {large.verdict.answer, other.verdict.answer} == {Answer.UNKNOWN}


@pytest.mark.parametrize("release", ["0.18.2", "0.24.0"])
def test_an_evaluation_makes_logits_of_completions_alone(tmp_path, release):
    words = (
        GRPO.replace("--dtype", "--torch_dtype")
        + " --eval_strategy steps --max_prompt_length 1024 --max_completion_length"
    )
    settings = {"versions.trl": release, "versions.transformers": "4.57.3"}
    short, long = (
        term(
            check(f"{words} {n} --bf16 true", tmp_path, **settings), "logits of an evaluation batch"
        )
        for n in (127, 255)
    )

    assert 1.8 * short < long < 2 * short  # beside hidden states of prompts


@pytest.mark.parametrize(("rows", "is_named"), [(4, False), (64, True)])
def test_log_probabilities_of_more_rows_than_a_step_has_are_named(tmp_path, rows, is_named):
    words = (
        "trl dpo --model_name_or_path Qwen/Qwen2.5-0.5B-Instruct --dataset_name d --num_processes 1"
        f" --precompute_ref_log_probs true --precompute_ref_batch_size {rows}"
    )
    named = check(words, tmp_path).verdict.unpriced

    assert ("log-probabilities of 64 rows at once" in named) is is_named
