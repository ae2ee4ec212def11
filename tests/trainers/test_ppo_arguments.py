"""PPO as TRL's arguments and a script of people's own say it, release by release."""

from __future__ import annotations

import pytest
from said_versions import named_libraries

from preflight.launch import LaunchCommand
from preflight.trainers.arguments import read_trainer_arguments

SCRIPT = """
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, HfArgumentParser
from trl import ModelConfig
from trl.experimental.ppo import PPOConfig, PPOTrainer
args, model_args = HfArgumentParser((PPOConfig, ModelConfig)).parse_args_into_dataclasses()
value = AutoModelForSequenceClassification.from_pretrained(args.reward_model_path, num_labels=1)
reward = AutoModelForSequenceClassification.from_pretrained(args.reward_model_path, num_labels=1)
policy = AutoModelForCausalLM.from_pretrained(args.sft_model_path)
reference = AutoModelForCausalLM.from_pretrained(args.sft_model_path)
{more}
PPOTrainer(args=args, processing_class=words, model=policy, ref_model=reference, reward_model=reward,
           value_model=value, train_dataset=rows).train()
"""
MODELS = "--model_name_or_path a/tokenizer --sft_model_path a/b --reward_model_path a/b "


def read(words: str, folder, trl: str = "1.12.0", transformers: str = "5.5.0", more: str = ""):
    (folder / "train.py").write_text(SCRIPT.replace("{more}", more))
    argv = ("python", "train.py", "--output_dir", "out", *words.split())
    libraries = named_libraries({"trl": trl, "transformers": transformers, "torch": "2.9.0"})
    return read_trainer_arguments(
        argv[2:], 2, LaunchCommand(argv, cwd=str(folder)), libraries, "train.py"
    )


def value(arguments, name: str):
    setting = arguments.settings.get(name)
    return None if setting is None else setting.value


def unpriced(arguments) -> list[str]:
    return [notice.unpriced for notice in arguments.notices if notice.unpriced]


def test_the_policy_is_what_the_script_loads_and_not_what_names_the_tokenizer(tmp_path):
    arguments = read(MODELS, tmp_path)

    assert value(arguments, "model") == "a/b"
    assert value(arguments, "reward_models") == ("same",)
    assert value(arguments, "reference_model") == "same"
    assert not unpriced(arguments)


def test_what_a_rollout_takes_is_said_by_arguments_of_its_own(tmp_path):
    words = "--response_length 100 --local_rollout_forward_batch_size 8 --num_mini_batches 2"
    said, default = (
        value(read(MODELS + words, tmp_path), "generation"),
        value(read(MODELS, tmp_path), "generation"),
    )

    assert (said.max_completion_len, said.rollout_rows, said.num_mini_batches) == (100, 8, 2)
    assert (default.max_completion_len, default.rollout_rows, default.num_mini_batches) == (
        53,
        64,
        1,
    )


def test_its_own_loop_checkpoints_nothing_cuts_no_prompt_and_evaluates_by_no_forward(tmp_path):
    words = "--gradient_checkpointing true --eval_strategy steps"
    arguments = read(MODELS + words, tmp_path)

    assert value(arguments, "activation_checkpointing") == "none"
    assert value(arguments, "seq_len") is None
    assert value(arguments, "eval_micro_batch_size") is None


@pytest.mark.parametrize(("transformers", "precision"), [("4.57.6", "bf16"), ("5.0.0", None)])
def test_bf16_reaches_its_accelerator_before_transformers_5(tmp_path, transformers, precision):
    arguments = read(MODELS + "--bf16 true", tmp_path, transformers=transformers)

    assert value(arguments, "mixed_precision") == precision


@pytest.mark.parametrize(
    ("words", "trl", "more", "named"),
    [
        (MODELS, "0.14.0", "", "PPO before TRL 0.15"),
        (MODELS, "1.13.0", "", "PPO after TRL 1.12"),
        (MODELS.replace("--reward_model_path a/b", "--reward_model_path a/c"), "1.12.0", "", "a reward model of another size"),
        ("--sft_model_path a/b", "1.12.0", "", "a reward model that the script makes"),
        (MODELS + "--use_peft", "1.12.0", "", "a value model beside an adapter"),
        (MODELS, "1.12.0", "policy.gradient_checkpointing_enable()", "checkpointing of the policy alone"),
    ],
)  # fmt: skip
def test_what_is_not_priced_is_named(tmp_path, words, trl, more, named):
    assert unpriced(read(words, tmp_path, trl=trl, more=more)) == [named]
