"""verl's launches: read as the manifest says, and as Hydra composes them on verl's own configs.

Hydra is not installed for the tests: its answers are kept in tests/configs/verl/asked.json, written by ask_verl.py from
Hydra 1.3.2 and the configs of verl 0.7.0 (the older SFT trainer) and 0.9.1.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from framework_launches import CONFIGS, cases_of, plan_of_case

import preflight
from preflight.formulas.user_loop import holds_copy
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.not_read import DOES_NOT_TRAIN
from preflight.launchers.verl import LAUNCHER
from preflight.unpriced_names import OTHERS_QAT

FOLDER = CONFIGS / "verl"
CASES = cases_of("verl")
ASKED: dict[str, dict[str, Any]] = json.loads((FOLDER / "asked.json").read_text())
ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


def read(argv: str, folder: Path = FOLDER) -> LaunchPlan:
    plan = LAUNCHER.read(LaunchCommand(tuple(argv.split()), {}, str(folder)))
    assert plan is not None
    return plan


def of_case(name: str) -> LaunchPlan:
    return plan_of_case(LAUNCHER.read, CASES[name], FOLDER)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("sft")])
def test_an_sft_launch_is_what_hydra_composes(name: str) -> None:
    theirs, plan = ASKED[name], of_case(name)

    assert plan.model == theirs["model.partial_pretrain"]
    assert plan.engine == {"fsdp": "fsdp1", "fsdp2": "fsdp2"}[theirs["model.strategy"]]
    assert plan.load_dtype == theirs["model.fsdp_config.model_dtype"]
    assert plan.micro_batch_size == theirs["data.micro_batch_size_per_gpu"]
    assert plan.global_batch_size == theirs["data.train_batch_size"]
    assert plan.seq_len == theirs["data.max_length"]
    recomputes = theirs["model.enable_gradient_checkpointing"]
    assert (plan.activation_checkpointing == "full") == recomputes
    names = ("cpu_offload", "offload_params")
    moves = all(theirs[f"model.fsdp_config.{name}"] for name in names)
    assert (plan.offload_params == "cpu") == moves
    assert plan.max_grad_norm == theirs["optim.clip_grad"]
    rank = 0 if plan.adapter is None else plan.adapter.rank
    assert rank == theirs["model.lora_rank"]
    if plan.adapter is not None:
        assert plan.adapter.alpha == theirs["model.lora_alpha"]
        assert plan.adapter.targets == theirs["model.target_modules"]


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("engine")])
def test_an_sft_launch_on_the_engine_is_what_hydra_composes(name: str) -> None:
    theirs, plan = ASKED[name], of_case(name)

    assert plan.model == theirs["model.path"]
    assert plan.engine == {"fsdp": "fsdp1", "fsdp2": "fsdp2"}[theirs["engine.strategy"]]
    assert plan.load_dtype == theirs["engine.model_dtype"]
    assert plan.seq_len == theirs["data.max_length"]
    rows = theirs["data.micro_batch_size_per_gpu"]
    if theirs["data.use_dynamic_bsz"]:
        rows = -(-theirs["data.max_token_len_per_gpu"] // theirs["data.max_length"])
    assert plan.micro_batch_size == rows
    kinds = {plan.sequence_kind, *plan.origins["sequence_kind"].may_be}
    assert ("packed" if theirs["model.use_remove_padding"] else "padded") in kinds
    recomputes = theirs["model.enable_gradient_checkpointing"]
    assert (plan.activation_checkpointing == "full") == recomputes
    assert plan.max_grad_norm == theirs["optim.clip_grad"]
    assert (0 if plan.adapter is None else plan.adapter.rank) == theirs["model.lora_rank"]


@pytest.mark.parametrize("release", ["0.6.1", "0.8.0", "0.9.1"])
def test_the_engine_takes_the_loss_of_an_sft_as_an_update_of_the_actor_without_entropy(release):
    """The units are those that verl_steps.py counted on the engine's own function."""
    words = CASES["engine_defaults"]["argv"].split()
    report = preflight.check(
        words, device="h100-sxm-80", cwd=str(FOLDER), settings={"versions.verl": release}
    )
    assert report.estimate is not None and report.verdict is not None
    terms = {term.name: term.num_bytes for term in report.estimate.terms}
    logits = 8 * 1024 * 152_064 * 2

    assert report.verdict.answer.value == "fits"
    backward = {"0.6.1": 4, "0.8.0": 4, "0.9.1": 1}[release]
    if release != "0.6.1":  # rows are padded there, unless it is asked to take that off
        assert terms["logits and log-probabilities, forward"] == logits
        assert terms["logits and log-probabilities, backward"] == backward * logits


@pytest.mark.parametrize("name", [name for name in CASES if "main_ppo" in CASES[name]["argv"]])
def test_a_ppo_launch_is_what_hydra_composes(name: str) -> None:
    theirs, plan = ASKED[name], of_case(name)
    generation = plan.generation
    assert generation is not None

    assert plan.model == theirs["actor_rollout_ref.model.path"]
    assert plan.engine == {"fsdp": "fsdp1", "fsdp2": "fsdp2"}[theirs[f"{ACTOR}.strategy"]]
    assert plan.world_size == theirs["trainer.nnodes"] * theirs["trainer.n_gpus_per_node"]
    longest = theirs["data.max_prompt_length"] + theirs["data.max_response_length"]
    assert plan.seq_len == longest
    rows = theirs[f"{ACTOR}.ppo_micro_batch_size_per_gpu"]
    if theirs[f"{ACTOR}.use_dynamic_bsz"]:
        rows = -(-theirs[f"{ACTOR}.ppo_max_token_len_per_gpu"] // longest)
    assert plan.micro_batch_size == rows
    assert plan.load_dtype == theirs[f"{ACTOR}.fsdp_config.model_dtype"]
    recomputes = theirs["actor_rollout_ref.model.enable_gradient_checkpointing"]
    assert (plan.activation_checkpointing == "full") == recomputes
    assert (0 if plan.adapter is None else plan.adapter.rank) == theirs[
        "actor_rollout_ref.model.lora_rank"
    ]
    assert generation.num_generations == theirs[f"{ROLLOUT}.n"]
    assert generation.memory_share == theirs[f"{ROLLOUT}.gpu_memory_utilization"]
    assert generation.tensor_parallel_degree == theirs[f"{ROLLOUT}.tensor_model_parallel_size"]
    assert (plan.reference_model == "same") == theirs[f"{ACTOR}.use_kl_loss"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("python -m verl.trainer.main_ppo --config-name=ppo_megatron_trainer.yaml", "Megatron"),
        ("python -m verl.trainer.main_ppo actor_rollout_ref.actor.strategy=megatron", "Megatron"),
        ("python -m verl.trainer.main_ppo model_engine=megatron", "Megatron"),
    ],
)
def test_what_is_not_read_is_named(argv: str, says: str) -> None:
    (notice,) = read(argv).notices

    assert notice.id == "PF125"
    assert says in notice.message


@pytest.mark.parametrize(
    ("path", "is_named"), [("Qwen/Qwen2.5-7B", False), ("Qwen/Qwen2.5-72B", True)]
)
def test_a_reference_of_another_model_is_named(path: str, is_named: bool) -> None:
    """`ref.model.path` is loaded in the actor's place (workers/fsdp_workers.py:803, 0.6.0)."""
    argv = f"python -m verl.trainer.main_ppo {ROLLOUT}.name=vllm actor_rollout_ref.model.path=Qwen/Qwen2.5-7B"
    named = {
        one.unpriced for one in read(f"{argv} +actor_rollout_ref.ref.model.path={path}").notices
    }

    assert ("a reference of another model" in named) is is_named


FSDP, MODEL = f"{ACTOR}.fsdp_config", "actor_rollout_ref.model"


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("reward.reward_model.enable=True", "an engine of a reward model"),
        (f"{ACTOR}.optim.optimizer=AdEMAMix", "the states of AdEMAMix"),
        (f"{FSDP}.dtype=float32", "layers that compute in float32"),
        (f"+{FSDP}.mixed_precision.param_dtype=fp32", "layers that compute in fp32"),
        (f"{FSDP}.reshard_after_forward=False", "layers that stay gathered"),
        (f"+{FSDP}.wrap_policy.disable=True", "a model that is gathered whole"),
        (f"{FSDP}.qat.enable=True", OTHERS_QAT),
        (f"{MODEL}.lora_adapter_path=a", "an adapter that is loaded"),
        (f"+{MODEL}.override_config.num_hidden_layers=80",
         f"what {MODEL}.override_config.num_hidden_layers changes"),
    ],
)  # fmt: skip
def test_what_a_worker_is_told_beyond_its_fields_is_named(word: str, name: str) -> None:
    argv = f"python -m verl.trainer.main_ppo {ROLLOUT}.name=vllm algorithm.adv_estimator=grpo"
    plain, told = ({one.unpriced for one in read(f"{argv} {w}").notices} for w in ("a=1", word))

    assert told - plain == {name}


@pytest.mark.parametrize(
    ("words", "is_named"),
    [
        ("trainer.val_only=True", True),
        ("trainer.val_only=True trainer.val_before_train=True", True),
        ("trainer.val_only=True trainer.val_before_train=False", False),
        ("trainer.val_only=False", False),
    ],
)
def test_a_launch_that_ends_after_its_validation_does_not_train(words: str, is_named: bool) -> None:
    """`fit` returns behind the validation before the first step (trainer/ppo/ray_trainer.py, 0.2 to 0.9.1)."""
    argv = (
        f"python -m verl.trainer.main_ppo {ROLLOUT}.name=vllm algorithm.adv_estimator=grpo {words}"
    )

    assert (DOES_NOT_TRAIN in {one.unpriced for one in read(argv).notices}) is is_named


@pytest.mark.parametrize(
    ("path", "is_told"),
    [
        ("${ROOT}/models/Qwen/Qwen2.5-0.5B", True),
        ("$ROOT/models/Qwen/Qwen2.5-0.5B", True),
        ("${ROOT}/models/${NAME}", False),
        ("${NAME}", False),
        ("${data.root}/Qwen2.5-0.5B", False),
    ],
)
def test_a_variable_of_the_shell_for_a_folder_leaves_a_name(path: str, is_told: bool) -> None:
    plan = read(f"torchrun -m verl.trainer.fsdp_sft_trainer model.partial_pretrain={path}")

    assert plan.model == (path if is_told else None)


def test_a_critic_that_is_told_more_is_named() -> None:
    argv = f"python -m verl.trainer.main_ppo {ROLLOUT}.name=vllm critic.model.path=a"
    told = "critic.optim.optimizer=AdEMAMix critic.model.fsdp_config.reshard_after_forward=False"
    plain, more = (
        {one.unpriced for one in read(words).notices} for words in (argv, f"{argv} {told}")
    )

    assert more - plain == {"the states of AdEMAMix", "layers that stay gathered"}


def test_attention_and_what_stays_gathered_are_what_the_worker_is_told() -> None:
    plan = read(
        f"python -m verl.trainer.main_ppo {ROLLOUT}.name=vllm {ACTOR}.strategy=fsdp2"
        f" {FSDP}.reshard_after_forward=False +{MODEL}.override_config.attn_implementation=eager"
        f" +{MODEL}.override_config.max_position_embeddings=65536"
    )

    assert (plan.reshard_after_forward, plan.attention) == (False, "eager")
    assert not any("override_config" in one.unpriced for one in plan.notices)


@pytest.mark.parametrize(
    ("release", "more", "mib"),
    [("0.7.0", "", 0), ("0.7.1", "", 2048),
     ("0.9.1", f"{ROLLOUT}.checkpoint_engine.update_weights_bucket_megabytes=4096", 4096)],
)  # fmt: skip
def test_weights_reach_the_engine_in_a_buffer(release: str, more: str, mib: int) -> None:
    argv = (
        f"python -m verl.trainer.main_ppo {ROLLOUT}.name=vllm {MODEL}.path=Qwen/Qwen2.5-7B {more}"
    )
    report = preflight.check(
        argv.split(), device="h100-sxm-80", settings={"versions.verl": release}, env={}
    )

    assert report.estimate is not None
    assert [
        t.num_bytes for t in report.estimate.terms if t.name.startswith("buffer of weights")
    ] == ([mib * 1024**2] if mib else [])


def test_workers_of_a_newer_release_are_named() -> None:
    for strategy in (f"{ACTOR}.strategy", "model_engine"):
        plan = read(f"python -m verl.trainer.main_ppo {strategy}=veomni {ROLLOUT}.name=sglang")

        assert {"workers of verl's veomni", "SGLang's share of the card"} <= {
            one.unpriced for one in plan.notices
        }


def test_copies_in_smaller_groups_are_named_where_a_launch_is_priced() -> None:
    plan = read(CASES["sft"]["argv"] + " model.fsdp_config.fsdp_size=2")

    assert "copies in groups of 2 ranks" in {notice.unpriced for notice in plan.notices}
    whole = read(CASES["sft"]["argv"] + " model.fsdp_config.fsdp_size=8")

    assert not [notice for notice in whole.notices if notice.unpriced]


def test_a_value_that_the_shell_fills_in_is_not_known() -> None:
    plan = read("python -m verl.trainer.main_ppo actor_rollout_ref.model.path=${MODEL}")

    assert plan.model is None


@pytest.mark.parametrize("start", ["verl.trainer.main_ppo", "verl.trainer.main"])
def test_a_number_that_another_program_fills_in_is_not_its_default(start: str) -> None:
    def read_with(words: str) -> LaunchPlan:
        return read(f"python3 -m {start} {words}")

    ranks = read_with("trainer.n_gpus_per_node=${GPUS}").origins["world_size"]

    assert len(ranks.may_be) > 1
    assert read_with("data.max_response_length=${LONGEST}").seq_len is None
    share = f"{ROLLOUT}.gpu_memory_utilization"
    said = share if start.endswith("_ppo") else "worker.rollout.gpu_memory_utilization"
    named = {one.unpriced for one in read_with(said + "=${SHARE}").notices}
    assert f"what {share} is" in named


def test_other_modules_are_other_readers() -> None:
    argv = "torchrun -m verl.trainer.main_eval data.path=a"

    assert LAUNCHER.read(LaunchCommand(tuple(argv.split()), {}, ".")) is None


def test_several_rows_at_a_time_are_priced_with_a_copy_of_their_logits() -> None:
    device = "h100-sxm-80"
    one = preflight.check(CASES["sft"]["argv"].split(), device=device, cwd=str(FOLDER))
    four = preflight.check(CASES["sft_defaults"]["argv"].split(), device=device, cwd=str(FOLDER))

    assert one.verdict is not None
    assert one.verdict.answer.value == "fits"
    assert four.verdict is not None
    assert not four.verdict.unpriced
    assert holds_copy(four.plan) and not holds_copy(one.plan)


PADDED = "log-probabilities of padded rows"
EASY = "python3 -m verl.trainer.main config=easy.yaml"
EASY_FOLDER = Path(__file__).parent / "easy_r1"


def test_easy_r1_is_read_by_its_own_keys() -> None:
    plan = read(EASY + " trainer.n_gpus_per_node=8 worker.actor.model.lora.rank=32", EASY_FOLDER)
    generation = plan.generation
    assert generation is not None and plan.adapter is not None

    assert (plan.model, plan.objective, plan.world_size) == ("Qwen/Qwen2.5-3B", "rloo", 16)
    assert (plan.engine, plan.load_dtype, plan.sequence_kind) == ("fsdp1", "bf16", "packed")
    assert (plan.seq_len, plan.micro_batch_size) == (4096, 2)
    assert plan.gradient_accumulation_steps == 64 * 4 // 16 // 2
    assert (generation.rollout_rows, generation.num_generations) == (8, 4)
    assert (generation.memory_share, generation.tensor_parallel_degree) == (0.5, 1)
    assert (generation.offloads_params, generation.offloads_optimizer) == (True, True)
    assert (plan.adapter.rank, plan.adapter.alpha) == (32, 64)
    assert plan.reference_model == "adapter_off"


@pytest.mark.parametrize(("word", "dtype"), [("32", "fp32"), ("16", "fp16"), ("bfloat16", "bf16")])
def test_a_dtype_is_a_number_or_a_name(word: str, dtype: str) -> None:
    """As verl/utils/torch_dtypes.py has them: PrecisionType.to_dtype("32") is float32."""
    key = "actor_rollout_ref.actor.fsdp_config.model_dtype"
    plan = read(f"python3 -m verl.trainer.main_ppo +{key}={word} trainer.n_gpus_per_node=8")

    assert plan.load_dtype == dtype


@pytest.mark.parametrize(("rank", "base", "own"), [(0, "fp32", None), (8, "bf16", "fp32")])
def test_easy_r1_keeps_what_an_adapter_stands_on_in_16_bits(rank, base, own) -> None:
    """`p.data = p.to(torch.bfloat16)` where it is not trained (workers/fsdp_workers.py _build_model_optimizer, 0.3.3)."""
    lora = f"worker.actor.model.lora.rank={rank}"
    plan = read(f"python3 -m verl.trainer.main worker.actor.model.model_path=a {lora}")

    assert plan.load_dtype == base
    assert (plan.adapter and plan.adapter.dtype) == own


def test_easy_r1_has_defaults_of_its_own() -> None:
    plan = read("python3 -m verl.trainer.main worker.actor.model.model_path=Qwen/Qwen2.5-3B")
    generation = plan.generation
    assert generation is not None

    assert (plan.objective, plan.micro_batch_size, plan.seq_len) == ("grpo", 4, 1024)
    assert plan.load_dtype == "fp32"
    assert {plan.sequence_kind, *plan.origins["sequence_kind"].may_be} == {"padded", "packed"}
    assert (generation.rollout_rows, generation.memory_share) == (16, 0.6)
    assert (generation.tensor_parallel_degree, generation.offloads_params) == (2, False)
    assert plan.reference_model == "same"
    assert {one.unpriced for one in plan.notices if one.unpriced} == {
        "a reference on the card",
        PADDED,
    }


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ("", set()),
        ("algorithm.disable_kl=true worker.ref.fsdp.enable_cpu_offload=false", set()),
        ("worker.actor.optim.strategy=adamw_bf16", set()),
        ("worker.actor.optim.strategy=lion", {"the states of lion"}),
        ("worker.actor.fsdp.enable_full_shard=false", {"layers that stay gathered"}),
        (
            "worker.rollout.max_search_turns=3",
            {"sequences that worker.rollout.max_search_turns makes"},
        ),
        (
            "worker.actor.model.override_config.num_hidden_layers=2",
            {"what actor_rollout_ref.model.override_config.num_hidden_layers changes"},
        ),
        ("worker.actor.model.override_config.attn_implementation=eager", set()),
        ("config=absent.yaml", {"a config that is not here", "a reference on the card", PADDED}),
    ],
)
def test_what_easy_r1_has_and_no_formula_holds_is_named(more: str, named: set[str]) -> None:
    plan = read(f"{EASY} {more}", EASY_FOLDER)

    assert {one.unpriced for one in plan.notices if one.unpriced} == named


ACTOR_OF_COPY = """
class Actor:
    def _forward_micro_batch(self, batch):
        logits = self.module(batch).logits
        return self.log_probs_from_logits(logits)

    def update_policy(self, data):
        STEP
"""


@pytest.mark.parametrize(
    ("step", "own"),
    [
        ("loss = -self._forward_micro_batch(data).mean()", False),
        ("logits = self.module(data).logits", True),
        ("return (", True),
    ],
)
def test_a_copy_whose_actor_does_more_is_named(step: str, own: bool, tmp_path: Path) -> None:
    actor = tmp_path / "verl" / "workers" / "actor"
    actor.mkdir(parents=True)
    (tmp_path / "verl" / "__init__.py").write_text('__version__ = "0.3.3"\n')
    (actor / "dp_actor.py").write_text(ACTOR_OF_COPY.replace("STEP", step))
    (tmp_path / "easy.yaml").write_text((EASY_FOLDER / "easy.yaml").read_text())
    named = {one.unpriced for one in read(EASY, tmp_path).notices}

    assert ("an actor of the copy's own" in named) is own


def test_a_key_that_only_a_changed_copy_has_is_named() -> None:
    named = {
        one.unpriced
        for one in read(f"{EASY} worker.actor.is_entropy_reg=True", EASY_FOLDER).notices
    }

    assert "an actor of the copy's own" in named


def test_easy_r1_gets_a_verdict() -> None:
    argv = f"{EASY} worker.actor.optim.strategy=adamw_bf16".split()
    checked = preflight.check(argv, device="h100-sxm-80", cwd=str(EASY_FOLDER))

    assert checked.verdict is not None and checked.estimate is not None
    assert checked.verdict.answer.value == "fits"
    states = next(term for term in checked.estimate.terms if term.name == "optimizer states")
    parameters = next(t for t in checked.estimate.terms if t.name == "parameters, trainable")
    assert states.num_bytes == 3 * parameters.num_bytes


@pytest.mark.parametrize(
    ("words", "moves"),
    [
        (f"{ACTOR}.strategy=fsdp2 {FSDP}.offload_policy=True", True),
        (f"{ACTOR}.strategy=fsdp {FSDP}.offload_policy=True", False),
        (f"{ACTOR}.strategy=fsdp2 {FSDP}.offload_policy=False", False),
    ],
)
def test_states_are_on_the_host_under_fsdp2_alone(words: str, moves: bool) -> None:
    """workers/fsdp_workers.py of 0.4.0 to 0.7.1 and transformer_impl.py of 0.6.1 to 0.9.1 read the switch in fsdp2's branch."""
    plan = read(f"python -m verl.trainer.main_ppo {ROLLOUT}.name=vllm {words}")

    assert (plan.offload_params == "cpu") == moves == (plan.offload_optimizer == "cpu")


@pytest.mark.parametrize(
    ("words", "moves", "is_named"),
    [
        ("model.strategy=fsdp model.fsdp_config.offload_params=True", True, False),
        ("model.strategy=fsdp", False, False),
        ("model.strategy=fsdp2 model.fsdp_config.offload_params=True", False, True),
    ],
)
def test_the_older_sft_trainer_moves_states_by_two_switches(
    words: str, moves: bool, is_named: bool
) -> None:
    argv = "torchrun --nproc_per_node 4 -m verl.trainer.fsdp_sft_trainer model.partial_pretrain=a"
    plan = read(f"{argv} model.fsdp_config.cpu_offload=True {words}")

    assert (plan.offload_params == "cpu") == moves
    names = {notice.unpriced for notice in plan.notices}
    assert ("states that cpu_offload moves" in names) == is_named


@pytest.mark.parametrize(("release", "mode"), [("0.4.0", "none"), ("0.4.1", "full")])
def test_the_older_sft_trainer_checkpoints_unasked_since_a_release(
    release: str, mode: str, tmp_path: Path
) -> None:
    """sft_trainer.yaml: enable_gradient_checkpointing False in 0.4.0, True in 0.4.1."""
    (tmp_path / "requirements.txt").write_text(f"verl=={release}\n")
    argv = "torchrun --nproc_per_node 4 -m verl.trainer.fsdp_sft_trainer model.partial_pretrain=a"

    assert read(argv, tmp_path).activation_checkpointing == mode


def test_a_key_that_a_release_has_not_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("verl==0.3.0.post1\n")
    words = f"python -m verl.trainer.main_ppo {ROLLOUT}.name=vllm {ACTOR}.strategy=fsdp2"
    plan = read(words, tmp_path)
    edits = {"offload_params": "cpu", "offload_optimizer": "cpu"}

    assert LAUNCHER.write(before=plan, after=plan.with_edits(edits)) is None
    plan = read(words)
    rewrite = LAUNCHER.write(before=plan, after=plan.with_edits(edits))
    assert rewrite is not None
    assert rewrite.argv[-1] == f"{FSDP}.offload_policy=true"


def test_a_key_that_a_config_of_ones_own_has_not_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("actor_rollout_ref:\n  model: {path: Qwen/Qwen2.5-7B}\n")
    plan = read("python -m verl.trainer.main_ppo --config-path=. --config-name=own", tmp_path)
    after = plan.with_edits({"activation_checkpointing": "none"})

    assert plan.model == "Qwen/Qwen2.5-7B"
    assert LAUNCHER.write(before=plan, after=after) is None


def test_easy_r1_is_written_by_its_own_keys() -> None:
    plan = read(EASY + " worker.actor.model.enable_gradient_checkpointing=false", EASY_FOLDER)
    edits = {"activation_checkpointing": "full", "generation.memory_share": 0.4}
    rewrite = LAUNCHER.write(before=plan, after=plan.with_edits(edits))

    assert rewrite is not None
    assert rewrite.argv[-2:] == (
        "worker.actor.model.enable_gradient_checkpointing=true",
        "worker.rollout.gpu_memory_utilization=0.4",
    )


def test_a_suggestion_says_the_words_that_would_be_written() -> None:
    words = (
        "torchrun --nproc_per_node 8 -m verl.trainer.fsdp_sft_trainer data.micro_batch_size_per_gpu=16"
        " data.max_length=4096 model.partial_pretrain=Qwen/Qwen2.5-7B model.enable_gradient_checkpointing=False"
    )
    report = preflight.check(words.split(), device="h100-sxm-80", env={})
    helps = [tried for tried in report.suggested if tried.verdict.answer.value == "fits"]
    suggested = {tried.remedy.id: tried.remedy for tried in helps}

    assert "data.micro_batch_size_per_gpu=" in suggested["micro_batch"].how
    assert "data.max_length=" in suggested["seq_len"].how
    assert not any("TRL" in one.how or "the script" in one.how for one in suggested.values())
