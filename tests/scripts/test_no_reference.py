"""A script of several stages that names a reference model, in a stage that holds none."""

from __future__ import annotations

import pytest

from preflight.launch import LaunchCommand
from preflight.scripts.reading import open_script
from preflight.scripts.signs import PAIRS, signs_of

SCRIPT = """
import argparse
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from trl import DPOTrainer

parser = argparse.ArgumentParser()
parser.add_argument("--stage", default="sft")
args = parser.parse_args()


def load():
    model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B")
    if args.stage == "dpo":
        ref_model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B")
    else:
        ref_model = None
    return {"model": model, "ref_model": ref_model}


parts = load()
model = parts["model"]
ref_model = parts["ref_model"]
arguments = TrainingArguments("out", per_device_train_batch_size=1)
if args.stage == "dpo":
    trainer = DPOTrainer(model, ref_model, args=arguments)
else:
    trainer = Trainer(model, arguments)
trainer.train()
"""
HOLDS = {
    "another model": SCRIPT.replace("ref_model = None", "ref_model = load_other()"),
    "a parameter": SCRIPT.replace("trainer.train()", "def scores(ref_model):\n    return ref_model\nscores(model)\ntrainer.train()"),
    "a pair": SCRIPT.replace('ref_model = parts["ref_model"]', "model, ref_model = build()"),
    "scores of one": SCRIPT.replace("trainer.train()", "print(reference_logps)\ntrainer.train()"),
}  # fmt: skip


def speaks_of_pairs(text, folder) -> bool:
    (folder / "train.py").write_text(text)
    command = LaunchCommand(("python", "train.py"), {}, str(folder))
    reader = open_script(command, "train.py", text)
    assert reader is not None
    reader.read(lambda names: None)
    return PAIRS in signs_of(command, "train.py", reader).unpriced


def test_a_name_that_is_none_in_this_stage_is_no_reference(tmp_path):
    assert not speaks_of_pairs(SCRIPT, tmp_path)
    assert speaks_of_pairs(SCRIPT.replace('default="sft"', 'default="dpo"'), tmp_path)


@pytest.mark.parametrize("name", HOLDS)
def test_a_name_that_may_hold_a_model_is_one(name, tmp_path):
    assert speaks_of_pairs(HOLDS[name], tmp_path)
