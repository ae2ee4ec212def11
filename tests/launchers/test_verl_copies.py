"""verl's source in the repository of a launch: its own configuration holds, and what a fork adds is named."""

from __future__ import annotations

from pathlib import Path

import pytest

import preflight
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.verl import LAUNCHER
from preflight.memory import Level
from preflight.report import Report

MODEL = "Qwen/Qwen2.5-3B"
PPO = f"python -m verl.trainer.main_ppo actor_rollout_ref.model.path={MODEL}"
BATCH = "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8"
OWN = """\
data:
  max_prompt_length: 1024
  max_response_length: 3072
actor_rollout_ref:
  model:
    enable_gradient_checkpointing: False
    use_remove_padding: True
  actor:
    strategy: fsdp
    ppo_micro_batch_size: 64
    use_dynamic_bsz: ${actor_rollout_ref.rollout.is_dynamic}
trainer:
  nnodes: 1
  n_gpus_per_node: 4
"""


def with_copy(folder: Path, config: str = OWN, version: str = "0.1") -> Path:
    """Write a copy of verl whose configuration is all that is read of it."""
    for name, text in (
        ("__init__.py", ""),
        ("version/version", version),
        ("trainer/config/ppo_trainer.yaml", config),
    ):
        path = folder / "verl" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def asking_for(folder: Path, version: str) -> Path:
    (folder / "requirements.txt").write_text(f"verl=={version}\n")
    return folder


def read(argv: str, folder: Path) -> LaunchPlan:
    plan = LAUNCHER.read(LaunchCommand(tuple(argv.split()), {}, str(folder)))
    assert plan is not None
    return plan


def check(argv: str, folder: Path) -> Report:
    return preflight.check(argv.split(), device="h100-sxm-80", cwd=str(folder))


def test_a_copys_own_configuration_says_what_the_command_does_not(tmp_path: Path) -> None:
    plan = read(PPO, with_copy(tmp_path))

    assert (plan.world_size, plan.micro_batch_size, plan.seq_len) == (4, 16, 4096)
    assert plan.activation_checkpointing == "none"
    assert plan.sequence_kind == "packed"
    assert "ppo_trainer.yaml:5" in plan.origins["activation_checkpointing"].where


@pytest.mark.parametrize(("checkout", "is_read"), [("verl", True), ("src", True), ("fork", False)])
def test_a_copy_may_lie_in_a_checkout_of_its_name(
    tmp_path: Path, checkout: str, is_read: bool
) -> None:
    """As `pip install -e ./verl` has it from there; which of other folders is installed nobody says."""
    with_copy(tmp_path / checkout)

    assert (read(PPO, tmp_path).sequence_kind == "packed") is is_read


def test_the_command_line_wins_over_a_copys_configuration(tmp_path: Path) -> None:
    switch = "actor_rollout_ref.model.enable_gradient_checkpointing=True"
    rows = "actor_rollout_ref.actor.ppo_micro_batch_size=32"
    plan = read(f"{PPO} {switch} {rows}", with_copy(tmp_path))

    assert plan.activation_checkpointing == "full"
    assert plan.micro_batch_size == 32 // 4


def test_a_configuration_that_is_composed_of_others_is_not_read(tmp_path: Path) -> None:
    plan = read(PPO, with_copy(tmp_path, "defaults:\n  - _self_\n" + OWN))

    assert plan.world_size == 8


@pytest.mark.parametrize(
    "key", ["data.max_start_length", "max_turns", "+actor_rollout_ref.rollout.agent.turn_len"]
)
def test_a_forks_own_lengths_make_other_sequences(key: str, tmp_path: Path) -> None:
    argv = f"{PPO} {BATCH} actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8"
    plain, forked = check(argv, tmp_path), check(f"{argv} {key}=2048", tmp_path)

    assert plain.verdict.unpriced == ("a critic",)
    assert f"sequences that {key.lstrip('+')} makes" in forked.verdict.unpriced


@pytest.mark.parametrize(
    "key",
    [
        "actor_rollout_ref.rollout.multi_turn.max_user_turns",
        "+actor_rollout_ref.rollout.engine_kwargs.vllm.max_seq_len_to_capture",
        "+reward_model.reward_kwargs.overlong_buffer_cfg.len",
        "trainer.save_freq",
    ],
)
def test_a_releases_own_keys_and_what_is_handed_on_make_none(key: str, tmp_path: Path) -> None:
    plan = read(f"{PPO} {key}=2048", tmp_path)

    assert not [one for one in plan.notices if one.unpriced.startswith("sequences")]


OWN_KEYS = {
    "a teacher": "actor_rollout_ref.model.teacher_path=Qwen/Qwen2.5-7B",
    "a loss over the vocabulary": "+actor_rollout_ref.actor.distill_topk=64",
    "a section": "actor_rollout_ref.actor.distillation.weight=0.5",
    "of the reference": "actor_rollout_ref.ref.returns_logits=True",
}


@pytest.mark.parametrize("word", OWN_KEYS.values(), ids=OWN_KEYS)
def test_what_a_forks_workers_make_of_a_key_of_theirs_is_named(word: str, tmp_path: Path) -> None:
    name = word.lstrip("+").partition("=")[0]
    assert f"what {name} does" in check(f"{PPO} {BATCH} {word}", tmp_path).verdict.unpriced


@pytest.mark.parametrize(
    "word",
    [
        "actor_rollout_ref.model.teacher_path=null",
        "actor_rollout_ref.actor.distill_topk=False",
        "actor_rollout_ref.actor.policy_loss.loss_mode=gspo",
        "actor_rollout_ref.actor.megatron.seed=1",
        "+actor_rollout_ref.model.override_config.rope_theta=1e6",
        "+actor_rollout_ref.rollout.engine_kwargs.vllm.mine=1",
        "+trainer.mine=1",
    ],
)
def test_keys_that_are_off_or_a_releases_own_make_none(word: str, tmp_path: Path) -> None:
    plan = read(f"{PPO} {BATCH} {word}", tmp_path)

    assert not [one for one in plan.notices if one.unpriced.startswith("what actor_rollout_ref")]


def test_a_copys_configuration_that_turns_a_key_of_its_own_on_is_named(tmp_path: Path) -> None:
    own = OWN.replace("    strategy: fsdp\n", "    strategy: fsdp\n    distill_topk: 64\n")
    report = check(f"{PPO} {BATCH}", with_copy(tmp_path, own))

    assert "what actor_rollout_ref.actor.distill_topk does" in report.verdict.unpriced


FORWARD = """\
class Actor:
    def _forward_micro_batch(self, micro_batch, temperature, calculate_entropy=False{more}):
        return entropy, log_probs
"""


@pytest.mark.parametrize(("more", "is_named"), [("", False), (", returns_logits=False", True)])
def test_a_forward_that_takes_more_than_any_releases_is_named(
    more: str, is_named: bool, tmp_path: Path
) -> None:
    path = with_copy(tmp_path) / "verl/workers/actor/dp_actor.py"
    path.parent.mkdir(parents=True)
    path.write_text(FORWARD.format(more=more))
    unpriced = check(f"{PPO} {BATCH}", tmp_path).verdict.unpriced

    assert ("an actor of the copy's own" in unpriced) == is_named


@pytest.mark.parametrize(("version", "kind"), [("0.3.0.post1", "same"), ("0.4.0", "none")])
def test_a_reference_is_always_loaded_before_it_was_asked_for(
    version: str, kind: str, tmp_path: Path
) -> None:
    plan = read(PPO, asking_for(tmp_path, version))

    assert plan.reference_model == kind
    asked = read(f"{PPO} actor_rollout_ref.actor.use_kl_loss=True", tmp_path)
    assert asked.reference_model == "same"


@pytest.mark.parametrize(("version", "level"), [("0.1", Level.ALLOCATED), ("0.2", Level.HOST)])
def test_a_reference_is_16_bits_wide_where_its_release_puts_it(
    version: str, level: Level, tmp_path: Path
) -> None:
    report = check(f"{PPO} {BATCH}", asking_for(tmp_path, version))
    assert report.estimate is not None and report.model is not None
    (term,) = [each for each in report.estimate.terms if "of the reference model" in each.name]

    per_rank = term.num_bytes / (8 if level is Level.HOST else 1)
    assert term.level is level
    assert per_rank == pytest.approx(2 * report.model.num_params / 8, rel=0.001)


def test_a_critic_that_keeps_its_activations_is_not_bounded_by_an_actor_that_does_not(
    tmp_path: Path,
) -> None:
    rows = f"{BATCH} critic.ppo_micro_batch_size_per_gpu=8 critic.model.path={MODEL}"
    scored = "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8"
    lengths = "data.max_prompt_length=1024 data.max_response_length=3072"
    argv = f"{PPO} {rows} {scored} {lengths}"
    switch = "critic.model.enable_gradient_checkpointing"
    recomputing, keeping = (
        check(f"{argv} {switch}={on}", asking_for(tmp_path, "0.6.1")) for on in ("True", "False")
    )

    assert recomputing.verdict.answer.value == "fits"
    assert keeping.verdict.answer.value == "unknown"
    assert keeping.verdict.unpriced == ("a critic",)


SFT = "torchrun --nproc_per_node=8 -m verl.trainer.fsdp_sft_trainer model.partial_pretrain=Qwen/Qwen2.5-0.5B"
ROWS = {
    "its own default": ("data:\n  train_batch_size: 256\n", "", 2),
    "its own configuration": ("data:\n  micro_batch_size: 32\n", "", 4),
    "the command": ("data:\n  micro_batch_size: 16\n", "data.micro_batch_size=64", 8),
    "a copy that counts a GPU's": ("data:\n  micro_batch_size_per_gpu: 6\n", "data.micro_batch_size=64", 6),
}  # fmt: skip


@pytest.mark.parametrize(("config", "words", "rows"), ROWS.values(), ids=ROWS)
def test_the_first_release_counts_rows_of_all_ranks(tmp_path, config, words, rows):
    with_copy(asking_for(tmp_path, "0.1"))
    (tmp_path / "verl/trainer/config/sft_trainer.yaml").write_text(config)
    plan = read(f"{SFT} {words}", tmp_path)

    assert plan.micro_batch_size == rows
    assert plan.gradient_accumulation_steps == 256 // (8 * rows)


def test_later_releases_do_not_take_rows_of_all_ranks(tmp_path: Path) -> None:
    plan = read(f"{SFT} data.micro_batch_size=64", asking_for(tmp_path, "0.2.0"))

    assert (plan.micro_batch_size, plan.origins["micro_batch_size"].may_be) == (4, ())


def test_rows_of_all_ranks_are_open_where_nobody_says_the_release(tmp_path: Path) -> None:
    plan = read(f"{SFT} data.micro_batch_size=64", tmp_path)

    assert (plan.micro_batch_size, plan.origins["micro_batch_size"].may_be) == (4, (8,))


SCORES = """\
def policy_loss(log_prob, by_token=True):
    return log_prob.mean() if by_token else log_prob.sum(1).mean()
"""
ACTOR_FILE = """\
class Actor:
    def update_policy(self, data):
        entropy, log_prob = self._forward_micro_batch(data, temperature=1.0)
        return {update}
"""
HANDED = {
    "a loss": "core_algos.policy_loss(log_prob, by_token=self.config.by_token)",
    "a loss, by its key": 'core_algos.policy_loss(log_prob, by_token=self.config["by_token"])',
    "a controller": "core_algos.Controller(self.config.by_token).update()",
}
NAMED = {
    "nothing": "log_prob.mean()",
    "a branch of its own": "self.more(data) if self.config.by_token else log_prob.mean()",
    "a function of its own": "self.loss(log_prob, by_token=self.config.by_token)",
    "a loss of logits": "core_algos.entropy_loss(self.logits, by_token=self.config.by_token)",
    "a loss, and more": "core_algos.policy_loss(log_prob, self.config.by_token) + self.more(self.config.by_token)",
    "a model": "core_algos.distilled(log_prob, self.teacher_module, self.config.by_token)",
}


def with_own_key(folder: Path, update: str) -> Path:
    with_copy(
        folder, OWN.replace("    strategy: fsdp\n", "    strategy: fsdp\n    by_token: True\n")
    )
    for name, text in (
        ("trainer/ppo/core_algos.py", SCORES),
        ("workers/actor/dp_actor.py", ACTOR_FILE.format(update=update)),
    ):
        (folder / "verl" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "verl" / name).write_text(text)
    return folder


def unpriced(folder: Path) -> set[str]:
    return {notice.unpriced for notice in read(PPO, folder).notices}


@pytest.mark.parametrize("update", HANDED.values(), ids=HANDED)
def test_a_key_of_a_copys_losses_takes_nothing(tmp_path: Path, update: str) -> None:
    assert "what actor_rollout_ref.actor.by_token does" not in unpriced(
        with_own_key(tmp_path, update)
    )


@pytest.mark.parametrize("update", NAMED.values(), ids=NAMED)
def test_a_key_that_goes_anywhere_else_is_named(tmp_path: Path, update: str) -> None:
    assert "what actor_rollout_ref.actor.by_token does" in unpriced(with_own_key(tmp_path, update))


MAIN = """\
import hydra
import ray

from .own_trainer import RayOwnTrainer


@hydra.main(config_path="config", config_name="own_trainer", version_base=None)
def main(config):
    ray.get(Runner.remote().run.remote(config))


@ray.remote(num_cpus=1)
class Runner:
    def run(self, config):
        from verl.trainer.ppo.ray_trainer import ResourcePoolManager, Role
        from verl.workers.fsdp_workers import ActorRolloutRefWorker, CriticWorker

        pool = "global_pool"
        workers = {Role.ActorRollout: ray.remote(ActorRolloutRefWorker), Role.Critic: ray.remote(CriticWorker)}
        resource_pool_spec = {pool: [config.trainer.n_gpus_per_node] * config.trainer.nnodes}
        manager = ResourcePoolManager(resource_pool_spec, {role: pool for role in workers})
        trainer = RayOwnTrainer(config, role_worker_mapping=workers, resource_pool_manager=manager)
        trainer.init_workers()
        trainer.fit()
"""
OWN_TRAINER = """\
from verl.trainer.ppo.ray_trainer import RayPPOTrainer


class RayOwnTrainer(RayPPOTrainer):
    def fit(self):
        for batch in self.loader:
            answers = self.actor_rollout_wg.generate_sequences(batch)
            kept = self.filtered(batch, answers)
            kept = kept.union(self.ref_policy_wg.compute_ref_log_prob(kept))
            self.actor_rollout_wg.update_actor(kept)
"""
ON_TOP = "defaults:\n  - ppo_trainer\n  - _self_\ndata:\n  max_response_length: 2048\n"


def with_main(
    folder: Path, main: str = MAIN, trainer: str = OWN_TRAINER, config: str = ON_TOP
) -> Path:
    """Write a main of somebody's own beside a copy of verl."""
    for name, text in (
        ("main_own.py", main),
        ("own_trainer.py", trainer),
        ("config/own_trainer.yaml", config),
    ):
        path = folder / "recipe" / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return with_copy(folder)


OWN_MAIN = f"python3 -m recipe.own.main_own actor_rollout_ref.model.path={MODEL}"


@pytest.mark.parametrize("start", ["-m recipe.own.main_own", "recipe/own/main_own.py"])
def test_a_main_of_ones_own_with_verls_workers_is_read_as_verls(start: str, tmp_path: Path) -> None:
    command = f"python3 {start} actor_rollout_ref.model.path={MODEL} +trainer.nnodes=2"
    plan = read(command, with_main(tmp_path))

    assert (plan.launcher, plan.model, plan.world_size) == ("verl", MODEL, 8)
    # the answer of its own configuration, the prompt and the batch of the copy's below it
    assert plan.seq_len == 1024 + 2048
    assert plan.micro_batch_size == 8


def test_a_main_with_verls_own_trainer_needs_no_trainer_of_its_own(tmp_path: Path) -> None:
    main = MAIN.replace(
        ".own_trainer import RayOwnTrainer", "verl.trainer.ppo.ray_trainer import RayPPOTrainer"
    )
    main = main.replace("RayOwnTrainer(", "RayPPOTrainer(")

    assert read(OWN_MAIN, with_main(tmp_path, main)).seq_len == 3072


MORE = {
    "a worker of its own": (MAIN.replace("verl.workers.fsdp_workers", "recipe.own.workers"), OWN_TRAINER, ON_TOP),
    "a worker defined there": (f"{MAIN}\nclass OwnWorker:\n    pass\n", OWN_TRAINER, ON_TOP),
    "an actor on a card beside them": (
        MAIN.replace("num_cpus=1", "num_gpus=1"), OWN_TRAINER, ON_TOP
    ),
    "two pools of cards": (
        MAIN.replace("{pool: [", '{"critic": [1], pool: ['), OWN_TRAINER, ON_TOP
    ),
    "a request that no trainer of verl's makes": (
        MAIN, OWN_TRAINER.replace("update_actor", "update_teacher"), ON_TOP
    ),
    "answers from elsewhere": (
        MAIN, OWN_TRAINER.replace("self.actor_rollout_wg.generate_sequences", "self.agent.play"), ON_TOP
    ),
    "a trainer that is not here": (MAIN.replace(".own_trainer", "elsewhere"), OWN_TRAINER, ON_TOP),
    "a configuration that is not here": (MAIN.replace('"own_trainer"', '"other"'), OWN_TRAINER, ON_TOP),
    "a configuration of several": (MAIN, OWN_TRAINER, ON_TOP.replace("_self_", "environments")),
}  # fmt: skip


@pytest.mark.parametrize("files", MORE.values(), ids=MORE)
def test_a_main_that_does_more_is_not_read_as_verls(
    files: tuple[str, str, str], tmp_path: Path
) -> None:
    report = check(OWN_MAIN, with_main(tmp_path, *files))

    assert report.plan.launcher == "python"
    assert report.verdict.answer.value == "unknown"


def test_the_configuration_that_a_command_names_is_the_one_that_counts(tmp_path: Path) -> None:
    folder = with_main(tmp_path)
    (folder / "recipe/own/config/short.yaml").write_text(ON_TOP.replace("2048", "512"))
    (folder / "recipe/own/config/several.yaml").write_text(ON_TOP.replace("_self_", "environments"))

    assert read(f"{OWN_MAIN} --config-name short", folder).seq_len == 1024 + 512
    assert check(f"{OWN_MAIN} --config-name several", folder).plan.launcher == "python"
