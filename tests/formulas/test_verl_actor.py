"""verl's actor: what its own functions took of log-probabilities in each release, beside the estimate; the launch around it.

verl_steps.py makes a row again, in an environment with its release.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from recorded import recorded
from some_plugins import plugins_of
from test_objectives import TOLERANCE, predicted
from verl_steps import ANSWER, CASES, CONFIG, PROMPT

import preflight
from preflight.formulas.limits.doubts import ACTORS_RELEASE
from preflight.formulas.objectives.actor_losses import kept_outputs
from preflight.formulas.objectives.critics import (
    KEPT,
    OF_ACTOR,
    SECTION,
    kept_by_critic,
    states_of_critic,
    update_of_critic,
)
from preflight.judge import estimate_memory
from preflight.launch import Adapter, Generation, LaunchPlan
from preflight.launch_facts import TrainerFacts
from preflight.memory import STEP_MOMENTS, Level, Moment, Phase
from preflight.models import describe
from preflight.plugins import load_plugins
from preflight.setting import Place, Setting

ROWS = recorded("verl_steps.jsonl")
SYNC = Path(__file__).with_name("verl_sync.py")
COMPILES = "actor_rollout_ref.actor.use_torch_compile"
COEFFICIENT = "actor_rollout_ref.actor.entropy_coeff"


def plan_of(row: dict) -> LaunchPlan:
    case = CASES[row["name"]]
    weight = Setting(0.001 if case.get("entropy") else 0, Place("argv", "", COEFFICIENT))
    return LaunchPlan(
        objective="grpo",
        trainer="plain_loop",
        launcher="verl",
        versions={"verl": row["verl"], "transformers": row["transformers"], "torch": "2.13.0"},
        load_dtype="bf16",
        mixed_precision="no",
        optimizer="sgd",
        micro_batch_size=case.get("rows", 1),
        seq_len=PROMPT + ANSWER,
        attention="sdpa",
        sequence_kind="packed" if case.get("packed", True) else "fixed",  # nothing is padded here
        activation_checkpointing="full" if case.get("checkpointing") else "none",
        checkpointing_reentrant=False,
        keeps_outputs=False,
        reference_model="none",
        generation=Generation("vllm", "server", max_completion_len=ANSWER, scores_again=True),
        trainer_facts=TrainerFacts(
            arguments={
                COEFFICIENT: weight,
                COMPILES: Setting(case.get("compiled", True), weight.place),
            }
        ),
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['name']}, verl {row['verl']}")
def test_what_was_counted_is_estimated(row):
    found, counted = predicted(plan_of(row), CONFIG, Moment.SCORING), row["peaks"]

    scoring = found.pop(Moment.SCORING.value)
    assert scoring == pytest.approx(counted["scoring"], rel=TOLERANCE)
    assert max(found.values()) == pytest.approx(
        max(counted["forward"], counted["backward"]), rel=TOLERANCE
    )


@pytest.mark.parametrize("adapted", [True, False])
def test_outputs_of_earlier_micro_batches_hold_what_their_graphs_end_at(adapted):
    """The loop of verl 0.8's engine: every output is kept as it is, and only its loss goes back."""
    import peft
    import torch
    from allocations import Allocations
    from small_llama import LLAMA
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**LLAMA), dtype=torch.bfloat16)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    if adapted:
        model = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["q_proj"]))
        model.enable_input_require_grads()
    tokens, held, outputs = 48, [], []
    with Allocations() as allocations:
        for _ in range(4):
            ids = torch.randint(0, LLAMA["vocab_size"], (1, tokens))
            scores = torch.log_softmax(model(input_ids=ids).logits.float(), -1)
            outputs += [scores.gather(-1, ids[..., None]), -(scores.exp() * scores).sum(-1)]
            del scores
            (outputs[-2].mean() + outputs[-1].mean()).backward()
            held.append(allocations.now)
    plan = LaunchPlan(
        objective="grpo", launcher="verl", trainer="plain_loop", versions={"verl": "0.8.0"},
        adapter=Adapter(rank=4) if adapted else None,
    )  # fmt: skip
    each = kept_outputs(plan, LLAMA["hidden_size"], 2)

    assert held[3] - held[2] == pytest.approx(tokens * each, rel=0.1, abs=2 * 8 * tokens)
    assert not kept_outputs(plan.with_edits({"versions.verl": "0.9.0"}), LLAMA["hidden_size"], 2)


def test_weights_on_their_way_to_an_engine_are_a_copy_of_the_shards_and_one_tensor_three_times(
    ranks,
):
    printed = ranks.printed(SYNC, json.dumps(CONFIG), world=2)
    counted = json.loads(printed.splitlines()[-1])["beside"]
    plan = LaunchPlan(
        objective="grpo", trainer="plain_loop", launcher="verl", engine="fsdp1", world_size=2, shard_degree=2,
        load_dtype="fp32", mixed_precision="bf16", micro_batch_size=1, seq_len=16, generation=Generation("vllm", "server"),
    )  # fmt: skip
    model = describe({**CONFIG, "dtype": "float32"}, "tiny", "test")
    (term,) = estimate_memory(plan, model, None, load_plugins(builtins=["memory_engine"])).terms

    assert term.num_bytes == pytest.approx(counted, rel=TOLERANCE)


def verdict_of(folder: Path, *words: str, release: str = "0.9.1"):
    argv = [
        "python3", "-m", "verl.trainer.main_ppo", "algorithm.adv_estimator=grpo",
        "actor_rollout_ref.model.path=Qwen/Qwen2.5-7B", "actor_rollout_ref.model.use_remove_padding=True",
        "data.max_prompt_length=512", "data.max_response_length=1024", "actor_rollout_ref.actor.use_kl_loss=True",
        "actor_rollout_ref.actor.ppo_micro_batch_size=64", "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=16",
        "actor_rollout_ref.rollout.name=vllm", *words,
    ]  # fmt: skip
    asked = {"versions.verl": release} if release else {}
    report = preflight.check(argv, device="h100-sxm-80", cwd=str(folder), settings=asked)
    assert report.verdict is not None
    return report


@pytest.mark.parametrize(("share", "answer"), [(0.4, "fits"), (0.75, "unknown"), (0.95, "unknown")])
def test_sglangs_share_is_judged_at_its_most(tmp_path, share, answer):
    words = (
        "actor_rollout_ref.rollout.name=sglang",
        f"actor_rollout_ref.rollout.gpu_memory_utilization={share}",
    )
    report = verdict_of(tmp_path, *words)

    assert report.verdict.answer.value == answer


def test_the_share_of_an_engine_decides(tmp_path):
    share = "actor_rollout_ref.rollout.gpu_memory_utilization="
    small, large = (verdict_of(tmp_path, share + number) for number in ("0.6", "0.95"))

    assert small.plan.micro_batch_size == 8
    assert small.verdict.answer.value == "fits"
    assert large.verdict.answer.value == "does_not_fit"
    assert large.verdict.failing_phase is Phase.ROLLOUT


def test_states_on_the_host_leave_their_room_to_the_engine(tmp_path):
    above = "actor_rollout_ref.actor.fsdp_config"
    words = ["actor_rollout_ref.rollout.gpu_memory_utilization=0.9"]
    moved = [f"{above}.param_offload=True", f"{above}.optimizer_offload=True"]

    assert verdict_of(tmp_path, *words).verdict.answer.value == "does_not_fit"
    assert verdict_of(tmp_path, *words, *moved).verdict.answer.value in ("fits", "tight")


def test_a_refusal_rests_on_no_share_of_a_release_that_nobody_says(tmp_path):
    share = "actor_rollout_ref.rollout.gpu_memory_utilization=0.95"
    unsaid = verdict_of(tmp_path, share, release="").verdict
    one_card = verdict_of(tmp_path, "trainer.n_gpus_per_node=1", release="").verdict

    assert unsaid.unpriced == (ACTORS_RELEASE,)
    assert one_card.answer.value == "does_not_fit"


CRITIC = ("algorithm.adv_estimator=gae", "critic.model.path=Qwen/Qwen2.5-7B")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("critic.ppo_micro_batch_size_per_gpu=8",), "fits"),
        (("critic.ppo_micro_batch_size_per_gpu=32",), "fits"),
        (("critic.ppo_micro_batch_size_per_gpu=40",), "tight"),
        (("critic.ppo_micro_batch_size_per_gpu=512",), "unknown"),
        (("critic.ppo_micro_batch_size_per_gpu=8", "critic.model.path=Qwen/Qwen2.5-3B"), "unknown"),
        (
            ("critic.ppo_micro_batch_size_per_gpu=8", "actor_rollout_ref.model.lora_rank=8"),
            "unknown",
        ),
        (("trainer.n_gpus_per_node=1", "critic.ppo_micro_batch_size_per_gpu=8"), "does_not_fit"),
    ],
)
def test_a_critic_of_the_actors_shapes_is_judged_beside_it(tmp_path, words, answer):
    assert verdict_of(tmp_path, *CRITIC, *words).verdict.answer.value == answer


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_critics_update_takes_no_more_than_its_bound(checkpointing, dropout):
    """A step of the class that verl loads: one number per token for a head, beside what is estimated without logits."""
    import torch
    from allocations import Allocations
    from transformers import AutoConfig, LlamaForTokenClassification

    config = AutoConfig.for_model(**CONFIG, num_labels=1, classifier_dropout=dropout)
    model = LlamaForTokenClassification(config).to(torch.bfloat16).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    rows, length = 2, PROMPT + ANSWER
    ids = torch.randint(2, 50, (rows, length))
    with Allocations() as allocations:
        for tensor in (*model.parameters(), *model.buffers()):
            allocations.track(tensor.data)
        weights = allocations.now
        for _ in range(2):
            model.zero_grad()
            allocations.mark("step")
            values = model(input_ids=ids, use_cache=False).logits.squeeze(-1)
            (values - 1).square().mean().backward()
    case = "packed, checkpointed" if checkpointing else "packed"
    plan = plan_of({"name": case, "verl": "0.7.1", "transformers": "5.24.0"})
    generation = replace(plan.generation, critic_rows=rows)
    told = Setting(checkpointing, Place("argv", "", "critic.model.enable_gradient_checkpointing"))
    facts = TrainerFacts(arguments={**plan.trainer_facts.arguments, told.place.key: told})
    plan = replace(plan, generation=generation, trainer_facts=facts)
    spec = describe({**CONFIG, "dtype": "bfloat16"}, "tiny", "test")
    one, beside = update_of_critic(plan, spec)
    plugins = plugins_of("memory_")
    terms = [t for t in estimate_memory(one, spec, None, plugins).terms if t.name not in OF_ACTOR]
    most = max(
        sum(
            t.num_bytes
            for t in (*terms, *beside)
            if t.level is Level.ALLOCATED and moment in t.moments
        )
        for moment in STEP_MOMENTS
    )
    without_head = 2 * spec.head_params  # the estimate's weights have it, and a critic's have not

    assert one.micro_batch_size == rows
    assert allocations.peaks["step"] <= most
    assert most - without_head - weights < 1.5 * (allocations.peaks["step"] - weights)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({}, (1, 2)),
        ({"param_offload": True}, (0, 2)),
        ({"optimizer_offload": True}, (1, 0)),
        ({"model_dtype": "bf16"}, (0.5, 1)),
    ],
)
def test_a_critic_keeps_what_its_class_and_adam_keep_between_updates(said, kept):
    """Counted on the class that verl loads, in fp32; its head of one number per token is left out."""
    import torch
    from allocations import Allocations
    from transformers import AutoConfig, LlamaForTokenClassification

    with Allocations() as allocations:
        model = LlamaForTokenClassification(AutoConfig.for_model(**CONFIG, num_labels=1)).float()
        head = 4 * sum(each.numel() for each in model.score.parameters())
        for parameter in model.parameters():
            allocations.track(parameter.data)
        weights = allocations.now
        optimizer = torch.optim.AdamW(model.parameters())
        model(input_ids=torch.randint(2, 50, (1, 8))).logits.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        states = allocations.now - weights
    plan = plan_of({"name": "packed", "verl": "0.7.1", "transformers": "5.24.0"})
    arguments = {
        f"{SECTION}.{name}": Setting(value, Place("argv", "", name)) for name, value in said.items()
    }
    told = TrainerFacts(arguments={**plan.trainer_facts.arguments, **arguments})
    generation = replace(plan.generation, critic_rows=1)
    plan = replace(plan, objective="ppo", generation=generation, trainer_facts=told)
    terms = {t.name: t.num_bytes for t in kept_by_critic(plan, describe(CONFIG, "tiny", "test"))}

    assert [terms.get(name, 0) for name in KEPT] == pytest.approx(
        [kept[0] * (weights - head), kept[1] * (states - 2 * head) / 2], rel=TOLERANCE
    )
    assert not kept_by_critic(replace(plan, generation=replace(generation, critic_rows=None)), None)


OF_CRITIC = (*CRITIC, "critic.ppo_micro_batch_size_per_gpu=8", "trainer.n_gpus_per_node=4")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ((), "does_not_fit"),
        (("critic.enable=False",), "unknown"),
        (("critic.model.lora_rank=8",), "unknown"),
        (("critic.optim.optimizer=Muon",), "unknown"),
        (("critic.model.fsdp_config.optimizer_offload=True",), "unknown"),
    ],
)
def test_what_a_critic_surely_keeps_may_refuse_a_launch(tmp_path, words, answer):
    """Of four cards: what the actor takes fits, and does not beside three copies of the critic's shards in fp32."""
    alone = verdict_of(tmp_path, "algorithm.adv_estimator=grpo", *OF_CRITIC[1:])

    assert alone.verdict.answer.value != "does_not_fit"
    assert verdict_of(tmp_path, *OF_CRITIC, *words).verdict.answer.value == answer


def test_a_critic_that_may_be_trls_makes_logits(tmp_path):
    report = verdict_of(tmp_path, *CRITIC, "critic.ppo_micro_batch_size_per_gpu=8")

    assert update_of_critic(report.plan, report.model) is not None
    assert update_of_critic(report.plan, replace(report.model, model_type="glm4")) is None


def test_the_ranks_together_hold_a_critics_states_once(tmp_path):
    report = verdict_of(tmp_path, *CRITIC, "critic.ppo_micro_batch_size=64")
    term = states_of_critic(report.plan, report.model)
    trained = report.model.num_params - report.model.embedding_params  # its head is a value

    assert report.plan.generation.critic_rows == 8
    assert 12 * trained <= 8 * term.num_bytes < 12 * (trained + 8 * 512)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("algorithm.adv_estimator=gae",), "a critic"),
        (("reward_model.enable=True",), "an engine of a reward model"),
        (("actor_rollout_ref.rollout.name=hf",), "hf"),
    ],
)
def test_what_no_formula_holds_is_named(tmp_path, words, named):
    assert verdict_of(tmp_path, *words).verdict.unpriced == (named,)


REWARDS = (
    "reward_model.enable=True", "reward_model.model.path={model}", "reward_model.micro_batch_size_per_gpu={rows}",
)  # fmt: skip


@pytest.mark.parametrize(
    ("model", "rows", "answer"),
    [
        ("Qwen/Qwen2.5-7B", 16, "fits"),
        ("Skywork/Skywork-Reward-Llama-3.1-8B-v0.2", 16, "fits"),
        ("Skywork/Skywork-Reward-Llama-3.1-8B-v0.2", 2048, "unknown"),
        ("somebodys/own", 16, "unknown"),
    ],
)
def test_a_reward_model_whose_shapes_are_known_is_judged_at_its_most(tmp_path, model, rows, answer):
    words = [word.format(model=model, rows=rows) for word in REWARDS]
    report = verdict_of(tmp_path, *words, release="0.6.1")
    terms = [t for t in report.estimate.terms if "reward model" in t.name]

    assert report.verdict.answer.value == answer
    assert bool(terms) == (answer == "fits")
    assert all(t.num_bytes == 0 or t.moments == {Moment.SCORING} for t in terms)


def test_a_reward_model_counts_tokens_where_the_critic_does(tmp_path):
    words = (*REWARDS[:1], "critic.use_dynamic_bsz=True", "critic.ppo_max_token_len_per_gpu=98304")
    report = verdict_of(tmp_path, *words, release="0.6.1")

    assert report.plan.generation.reward_rows == 64 + 1  # of 1,536 tokens
