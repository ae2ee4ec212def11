"""A parser of a script's own that stands on transformers' takes the arguments of the Trainer, in whatever file it is defined."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

PARSERS = """\
from transformers import HfArgumentParser


class FileAndFlags(HfArgumentParser):
    def parse_file_and_flags(self, path, words):
        given = dict(word.lstrip("-").split("=") for word in words)
        made = zip(self.parse_yaml_file(path), self.dataclass_types)
        return [kind(**{**vars(each), **given}) for each, kind in made]
"""
TRAIN = """\
import json
import sys
from dataclasses import dataclass

from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from parsers import FileAndFlags

@dataclass
class Names:
    model_name_or_path: str = "gpt2"

def first_of(texts):
    return texts["first"]

parser = FileAndFlags((Names, TrainingArguments))
if len(sys.argv) == 2:
    names, arguments = parser.parse_yaml_file(sys.argv[1])
elif sys.argv[1].endswith(".yaml"):
    names, arguments = parser.parse_file_and_flags(sys.argv[1], sys.argv[2:])
else:
    names, arguments = parser.parse_args_into_dataclasses()
with open("texts.json") as file:
    texts = json.load(file)
first = first_of(texts)
model = AutoModelForCausalLM.from_pretrained(names.model_name_or_path)
Trainer(model=model, args=arguments, train_dataset=rows).train()
"""
CONFIG = (
    "output_dir: out\nbf16: true\nper_device_train_batch_size: 3\ngradient_checkpointing: true\n"
)


@pytest.mark.parametrize("flags", ["", " --seed=1"])
def test_a_file_tells_the_trainer_by_it(tmp_path, flags):
    files = {"parsers.py": PARSERS, "train.py": TRAIN, "run.yaml": CONFIG}
    plan = plan_of(tmp_path, f"python train.py run.yaml{flags}", files)

    assert (plan.micro_batch_size, plan.mixed_precision) == (3, "bf16")
    assert plan.activation_checkpointing == "full"
    assert plan.origins["micro_batch_size"].where.startswith("run.yaml")
