"""A model that is made with a config whose `gradient_checkpointing` is true checkpoints, whatever its Trainer is told."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

SCRIPT = """\
import argparse
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--keep", action="store_true")
args = parser.parse_args()
NAME = "meta-llama/Llama-2-7b-hf"


def configured():
    config = AutoConfig.from_pretrained(NAME)
    config.gradient_checkpointing = True
    return config

{before}
model = AutoModelForCausalLM.from_pretrained(NAME{loaded})
{after}
Trainer(model, TrainingArguments("out", per_device_train_batch_size=2{told})).train()
"""
MADE = "config = AutoConfig.from_pretrained(NAME)\n"
ON = MADE + "config.gradient_checkpointing = True"
GIVEN = ", config=config"


def checkpointing(tmp_path, before="", loaded=GIVEN, *, words="", told="", after=""):
    text = SCRIPT.format(before=before, loaded=loaded, told=told, after=after)
    plan = plan_of(tmp_path, f"python train.py {words}", {"train.py": text})
    is_open = "activation_checkpointing" in opens(plan)
    return "open" if is_open else plan.activation_checkpointing


@pytest.mark.parametrize(
    ("before", "loaded", "expected"),
    [
        (ON, GIVEN, "full"),
        (MADE + "config.gradient_checkpointing = not args.keep", GIVEN, "full"),
        (MADE + "config.gradient_checkpointing = False", GIVEN, "none"),
        (ON.replace("AutoConfig", "LlamaConfig"), GIVEN, "full"),
        ("", ", config=configured()", "full"),
        ("config = configured()", GIVEN, "full"),
        (ON, "", "none"),  # of a model that it is not given to
        (MADE, GIVEN, "none"),
        (MADE + "if unknown():\n    config.gradient_checkpointing = True", GIVEN, "open"),
    ],
)
def test_the_config_of_the_model_that_is_made_turns_it_on(before, loaded, expected, tmp_path):
    assert checkpointing(tmp_path, before, loaded) == expected


def test_a_flag_decides_it_where_the_config_is_set_by_it(tmp_path):
    before = MADE + "config.gradient_checkpointing = not args.keep"

    assert checkpointing(tmp_path, before, words="--keep") == "none"


def test_a_trainer_that_is_told_otherwise_does_not_turn_it_off(tmp_path):
    assert checkpointing(tmp_path, ON, told=", gradient_checkpointing=False") == "full"


def test_what_is_set_on_the_config_of_a_model_that_is_there_changes_nothing(tmp_path):
    assert checkpointing(tmp_path, MADE, after="model.config.gradient_checkpointing = True") == "none"  # fmt: skip


@pytest.mark.parametrize("is_on", [True, False])
def test_transformers_makes_a_model_so(is_on):
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=32
    )  # fmt: skip
    config.gradient_checkpointing = is_on
    model = AutoModelForCausalLM.from_config(config)
    model.config.gradient_checkpointing = not is_on

    assert model.is_gradient_checkpointing == is_on
