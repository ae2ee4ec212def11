"""How online RL generates, as TRL's arguments and its trainers' call in a script say it, release by release."""

from __future__ import annotations

import pytest
from said_versions import named_libraries
from trl import GRPOConfig, RLOOConfig

from preflight.launch import LaunchCommand
from preflight.trainers.arguments import read_trainer_arguments

NEWEST = {"trl": "1.16.0", "transformers": "5.24.0", "torch": "2.13.0"}
MADE = """
from datasets import load_dataset
from trl import GRPOConfig, GRPOTrainer, ModelConfig, TrlParser
def reward(completions, **_): return [0.0 for _ in completions]
args, model = TrlParser((GRPOConfig, ModelConfig)).parse_args_and_config()
{more}
trainer = GRPOTrainer(model=model.model_name_or_path, args=args, train_dataset=rows, reward_funcs={rewards}{given})
trainer.train()
"""


def read(words: str, folder, script: str = "trl.scripts.grpo", trl: str = "1.16.0", text: str = ""):
    if text:
        (folder / "train.py").write_text(text)
        script = "train.py"
    argv = ("python", script, "--output_dir", "out", *words.split())
    command = LaunchCommand(argv, cwd=str(folder))
    libraries = named_libraries({**NEWEST, "trl": trl})
    return read_trainer_arguments(argv[2:], 2, command, libraries, script)


def value(arguments, name: str):
    setting = arguments.settings.get(name)
    return None if setting is None else setting.value


def unpriced(arguments) -> list[str]:
    return [notice.message for notice in arguments.notices if notice.unpriced]


def test_defaults_are_those_of_the_installed_release(tmp_path):
    for script, config, reference in (("grpo", GRPOConfig, "none"), ("rloo", RLOOConfig, "same")):
        arguments = read("", tmp_path, f"trl.scripts.{script}")
        generation = value(arguments, "generation")
        default = config(output_dir=str(tmp_path), bf16=False, per_device_train_batch_size=8)

        assert generation.engine == "transformers" and not default.use_vllm
        assert generation.max_completion_len == default.max_completion_length
        assert generation.num_generations == default.num_generations
        assert generation.gathers_parameters == default.ds3_gather_for_generation
        assert (value(arguments, "reference_model") == "none") == (default.beta == 0)
        assert value(arguments, "reference_model") == reference
        assert value(arguments, "loss") == "chunked_linear"
        assert value(arguments, "seq_len") is None  # prompts are not cut
        assert not unpriced(arguments)


@pytest.mark.parametrize(
    ("script", "words", "trl", "is_ligers"),
    [
        ("grpo", "--use_liger_kernel true", "0.24.0", False),
        ("grpo", "--use_liger_loss true", "0.24.0", True),
        ("grpo", "--use_liger_kernel true", "0.25.0", True),
        ("grpo", "--use_liger_kernel true", "1.13.0", True),
        ("grpo", "--use_liger_kernel true", "1.15.0", False),
        ("rloo", "--use_liger_kernel true", "1.13.0", False),
    ],
)
def test_ligers_loss_is_that_of_the_switch_that_says_it(tmp_path, script, words, trl, is_ligers):
    arguments = read(words, tmp_path, f"trl.scripts.{script}", trl=trl)

    assert not unpriced(arguments)
    assert (value(arguments, "loss") == "fused_linear") is is_ligers


@pytest.mark.parametrize(
    ("trl", "completion", "prompt", "mode", "reference"),
    [
        ("0.18.2", 256, 512, "server", "same"),
        ("0.25.1", 256, 512, "server", "none"),
        ("0.27.2", 256, None, "server", "none"),
        ("1.0.0", 256, None, "colocate", "none"),
        ("1.10.0", 512, None, "colocate", "none"),
    ],
)
def test_defaults_move_with_the_release(tmp_path, trl, completion, prompt, mode, reference):
    arguments = read("--use_vllm true", tmp_path, trl=trl)
    generation = value(arguments, "generation")

    assert (generation.max_completion_len, generation.max_prompt_len) == (completion, prompt)
    assert generation.mode == mode
    assert value(arguments, "reference_model") == reference
    assert value(arguments, "seq_len") == (None if prompt is None else prompt + completion)


def test_an_engine_beside_the_ranks_is_read(tmp_path):
    words = (
        "--use_vllm --vllm_mode colocate --vllm_gpu_memory_utilization 0.45 --vllm_tensor_parallel_size 2"
        " --vllm_enable_sleep_mode --vllm_max_model_length 3000 --max_completion_length 1000 --steps_per_generation 4"
        " --gradient_accumulation_steps 4"
    )
    arguments = read(words, tmp_path)
    generation = value(arguments, "generation")

    assert (generation.engine, generation.mode, generation.memory_share) == (
        "vllm",
        "colocate",
        0.45,
    )
    assert (generation.tensor_parallel_degree, generation.sleep) == (2, True)
    assert value(arguments, "seq_len") == 3000
    assert arguments.origins["seq_len"].may_be == (2999 + 1000,)
    assert generation.scores_again  # what vLLM sampled is scored by the policy too


@pytest.mark.parametrize(
    ("script", "trl", "length"),
    [("grpo", "0.25.1", 812), ("grpo", "0.26.0", None), ("rloo", "0.28.0", None)],
)
def test_a_prompt_length_that_cuts_nothing_bounds_nothing(tmp_path, script, trl, length):
    words = "--max_prompt_length 512 --max_completion_length 300"
    arguments = read(words, tmp_path, f"trl.scripts.{script}", trl=trl)

    assert value(arguments, "seq_len") == length


@pytest.mark.parametrize(
    ("words", "again"),
    [
        ("--gradient_accumulation_steps 4", False),
        ("--gradient_accumulation_steps 4 --num_iterations 2", True),
        ("--gradient_accumulation_steps 4 --steps_per_generation 8", True),
        ("--use_vllm --vllm_importance_sampling_correction false", False),
    ],
)
def test_the_policy_scores_again_what_is_older_than_it(tmp_path, words, again):
    assert value(read(words, tmp_path), "generation").scores_again is again


@pytest.mark.parametrize(
    ("trl", "words", "steps", "waits"),
    [
        ("0.15.2", "", 1, True),
        ("0.16.1", "--gradient_accumulation_steps 1", 1, False),
        ("0.17.0", "", None, False),
        ("1.16.0", "--steps_per_generation 2", 2, True),
        ("1.16.0", "--steps_per_generation 8", 8, False),
    ],
)
def test_gradients_wait_where_a_rollout_is_for_less_than_a_step(tmp_path, trl, words, steps, waits):
    given = f"--gradient_accumulation_steps 4 {words}"
    generation = value(read(given, tmp_path, trl=trl), "generation")

    assert generation.steps_per_generation == steps
    assert generation.gradients_wait is waits


@pytest.mark.parametrize(
    ("trl", "words", "what"),
    [
        ("0.15.2", "--use_vllm true", ""),
        ("0.15.2", "--use_vllm true --vllm_device auto", ""),
        ("0.15.2", "--use_vllm true --vllm_device cuda:0", "a card that vllm_device names"),
        ("0.15.2", "--vllm_device cuda:0", ""),
        ("0.16.1", "--use_vllm true", ""),
    ],
)
def test_an_older_engine_is_on_no_card_of_a_rank_unless_it_is_told_so(tmp_path, trl, words, what):
    arguments = read(words, tmp_path, trl=trl)
    named = " ".join(unpriced(arguments))

    assert what in named if what else not named
    assert value(arguments, "generation").mode != "colocate" or "use_vllm" not in words


def test_a_beta_of_0_has_a_reference_all_the_same_in_older_releases(tmp_path):
    assert value(read("--beta 0", tmp_path, trl="0.15.2"), "reference_model") == "same"
    assert value(read("--beta 0", tmp_path, trl="0.16.1"), "reference_model") == "none"


@pytest.mark.parametrize(
    ("words", "reference"),
    [("--beta 0.04", "same"), ("--beta 0.04 --use_peft", "adapter_off"), ("--beta 0", "none")],
)
def test_beta_decides_whether_there_is_a_reference(tmp_path, words, reference):
    assert value(read(words, tmp_path), "reference_model") == reference


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("--reward_model_name_or_path org/reward --model_name_or_path org/m", "another size"),
        ("--use_transformers_continuous_batching", "continuous batching"),
        ("--cast_lm_head_to_fp32 true", "a head in fp32"),
        ("--entropy_coef 0.01", "a bonus for entropy"),
        ("--use_adaptive_entropy true", "a bonus for entropy"),
    ],
)
def test_what_of_it_no_formula_holds_is_named(tmp_path, words, what):
    assert what in " ".join(unpriced(read(words, tmp_path)))


def test_a_reward_model_of_the_policys_own_id_is_of_its_size(tmp_path):
    arguments = read("--reward_model_name_or_path org/m --model_name_or_path org/m", tmp_path)

    assert value(arguments, "reward_models") == ("same",)
    assert not unpriced(arguments)


@pytest.mark.parametrize(
    ("rewards", "given", "what"),
    [
        ("reward", "", ""),
        ("[reward, reward]", "", ""),
        ("'org/reward'", "", "reward model"),
        ("scores", "\n)\nscores = [reward, 'org/reward']\nprint(", "reward model"),
        ("scores", "\n)\nscores = [reward]\nprint(", ""),
        ("[reward, scorer]", ", rollout_func=mine", "rollouts of the script's own"),
        ("reward", ", environment_factory=World", "rollouts of the script's own"),
        ("reward", ", tools=None", ""),
        ("reward", ", tools=[reward]", "rollouts of the script's own"),
        ("reward", ", tools=[]", ""),
    ],
)
def test_what_a_script_hands_to_the_trainer_is_read(tmp_path, rewards, given, what):
    text = MADE.format(more="", rewards=rewards, given=given)
    found = " ".join(unpriced(read("", tmp_path, text=text)))

    assert what in found if what else not found


@pytest.mark.parametrize(("length", "is_named"), [("None", True), ("128", False)])
def test_completions_that_nothing_ends_are_named(tmp_path, length, is_named):
    text = MADE.format(more="", rewards="reward", given="").replace(
        "args=args", f'args=GRPOConfig("o", max_completion_length={length})'
    )

    assert bool(unpriced(read("", tmp_path, text=text))) is is_named


def test_a_reward_model_is_read_as_the_second_argument_too(tmp_path):
    text = MADE.format(more="", rewards="", given="").replace(", reward_funcs=", "")
    in_order = text.replace("GRPOTrainer(model=model.model_name_or_path,", "GRPOTrainer(model, {},")

    assert unpriced(read("", tmp_path, text=in_order.replace("{}", "'org/reward'")))
    assert not unpriced(read("", tmp_path, text=in_order.replace("{}", "reward")))


def test_a_trainer_that_is_derived_from_grpos_may_do_more(tmp_path):
    text = MADE.format(more="class Mine(GRPOTrainer): {}", rewards="reward", given="")
    text = text.replace("trainer = GRPOTrainer(", "trainer = Mine(")
    plain, other = (
        unpriced(read("", tmp_path, text=text.replace("{}", body)))
        for body in ("pass", "\n    def _prepare_inputs(self, rows): return rows")
    )

    assert not plain and "Mine._prepare_inputs" in " ".join(other)


def test_a_reward_that_is_named_by_its_module_may_load_a_model(tmp_path):
    for name, is_named in (("think_format_reward", False), ("my_lib.rewards.score", True)):
        arguments = read(f"--reward_funcs {name}", tmp_path)

        assert any("another module" in message for message in unpriced(arguments)) is is_named


PAIRS = """
from datasets import load_dataset
from transformers import AutoModelForCausalLM
from trl import ModelConfig, TrlParser
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer
args, model = TrlParser((OnlineDPOConfig, ModelConfig)).parse_args_and_config()
policy = AutoModelForCausalLM.from_pretrained(model.model_name_or_path, dtype="bfloat16")
OnlineDPOTrainer(model=policy, args=args, train_dataset=rows, reward_funcs=[len]).train()
"""


def test_pairs_that_are_generated_have_no_length_that_cuts_a_prompt(tmp_path):
    words = "--max_new_tokens 256 --max_length 512 --gradient_accumulation_steps 2"
    arguments = read(f"{words} --reward_model_path some/reward", tmp_path, text=PAIRS)
    generation = value(arguments, "generation")

    assert value(arguments, "objective") == "online_dpo"
    assert value(arguments, "seq_len") is None
    assert generation.max_completion_len == 256
    assert generation.gradients_wait
    assert value(arguments, "reward_models") == ("some/reward",)
    assert value(arguments, "loss") == "full_logits"
    assert value(read("", tmp_path, text=PAIRS), "generation").max_completion_len == 64


OWN_CONFIG = """
from dataclasses import dataclass
@dataclass
class Config(GRPOConfig):
    block_size: int = 64
"""


def test_words_that_are_written_at_once_are_no_length_of_rows(tmp_path):
    text = MADE.format(more="", rewards="reward", given="").replace("((GRPOConfig", "((Config")
    text = text.replace("def reward", f"{OWN_CONFIG}\ndef reward")
    arguments = read("--block_size 32 --max_completion_length 256", tmp_path, text=text)

    assert value(arguments, "seq_len") is None
