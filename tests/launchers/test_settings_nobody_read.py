"""A file of settings that a parser of the script's own reads is named where the plan lacks what it may say."""

from __future__ import annotations

import pytest

import preflight

OWN = """\
import sys, yaml, torch
settings = yaml.safe_load(open(sys.argv[-1]))
model = build(settings)
torch.optim.AdamW(model.parameters())
for batch in loader:
    model(batch).loss.backward()
"""
TRAINER = """\
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments
parser = HfArgumentParser(TrainingArguments)
args, = parser.parse_yaml_file(yaml_file="run.yaml")
Trainer(model=AutoModelForCausalLM.from_pretrained("gpt2"), args=args, train_dataset=rows).train()
"""


@pytest.mark.parametrize(
    ("words", "script", "is_told"),
    [
        ("--config-file run.yaml", OWN, True),
        ("--config=run.yaml", OWN, True),
        ("run.yaml", OWN, True),
        ("--model_config shape.json", OWN, True),
        ("--data_path shape.json", OWN, False),
        ("--deepspeed_config shape.json", OWN, False),
        ("--config-file absent.yaml", OWN, False),
        ("run.yaml", TRAINER, False),
    ],
)
def test_a_file_of_settings_that_nobody_read_is_named(tmp_path, words, script, is_told):
    (tmp_path / "t.py").write_text(script)
    rows = "rows" if script is OWN else "per_device_train_batch_size"
    (tmp_path / "run.yaml").write_text(f"{rows}: 4\n")
    (tmp_path / "shape.json").write_text("{}")
    launch = f"torchrun --nproc-per-node 2 t.py {words}".split()
    told = preflight.check(launch, device="h100-sxm-80", cwd=tmp_path).to_dict()
    (path,) = [each for each in words.replace("=", " ").split() if "." in each]
    messages = [each["message"] for each in told["findings"]]

    assert any("of which nothing was read" in each and path in each for each in messages) == is_told
