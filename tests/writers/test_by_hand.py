"""What a script says in its own text is told as edits; made, they give the launch that was estimated."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "scripts"))

from launch_of_script import plan_of
from said_versions import say_versions

from preflight.launch import Adapter, BaseQuantization
from preflight.writers.launch import edits_by_hand, write_launch

TRAINER = """\
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, Trainer, TrainingArguments

tokenizer = AutoTokenizer.from_pretrained("meta-llama/Llama-3.1-8B")
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.1-8B", dtype=torch.float32)


def cut(row):
    return tokenizer(row["text"], max_length=1024, truncation=True)


arguments = TrainingArguments(
    output_dir="out",
    per_device_train_batch_size=16,
    bf16=True,
)
Trainer(model=model, args=arguments, train_dataset=rows.map(cut)).train()
"""
SFT = """\
import torch
from peft import LoraConfig
from transformers import BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

trainer = SFTTrainer(
    model="meta-llama/Llama-3.1-8B",
    args=SFTConfig(output_dir="out", per_device_train_batch_size=4, max_length=4096,
                   gradient_checkpointing=False),
)
trainer.train()
"""
SCRIPTS = {"transformers": TRAINER, "trl": SFT}
CHANGES = {
    "checkpointing": {"activation_checkpointing": "full"},
    "a smaller micro batch": {"micro_batch_size": 2, "gradient_accumulation_steps": 8},
    "a shorter length": {"seq_len": 512},
    "an optimizer": {"optimizer": "adamw_bnb_8bit"},
    "a loss in pieces": {"loss": "fused_linear"},
}


def edited(text: str, edits: tuple[str, ...]) -> str:
    """Return the script after the edits: a keyword at its line has another value, or a call gets one more."""
    tree = ast.parse(text)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for edit in edits:
        told = re.fullmatch(r"train\.py:(\d+)(?:, in (\w+)\(\.\.\.\))?: (.*)", edit)
        assert told, edit
        line, name, words = int(told[1]), told[2], told[3]
        new = ast.parse(f"f({words})").body[0].value.keywords  # type: ignore[attr-defined]
        for keyword in new:
            if name:
                (call,) = (
                    c for c in calls if c.lineno == line and ast.unparse(c.func).endswith(name)
                )
                call.keywords.append(keyword)
            else:
                (held,) = (
                    k for c in calls for k in c.keywords
                    if k.value.lineno == line and k.arg == keyword.arg
                )  # fmt: skip
                held.value = keyword.value
    return ast.unparse(ast.fix_missing_locations(tree))


CASES = [(trainer, change) for trainer in SCRIPTS for change in CHANGES]
CASES.remove(("trl", "a loss in pieces"))  # as TRL takes it unasked


@pytest.mark.parametrize(("trainer", "change"), CASES)
def test_the_edits_give_the_plan_that_they_were_told_for(tmp_path, trainer, change):
    say_versions(tmp_path)
    before = plan_of(tmp_path, "python train.py", {"train.py": SCRIPTS[trainer]})
    after = before.with_edits(CHANGES[change])
    edits = edits_by_hand(before, after)
    again = plan_of(tmp_path, "python train.py", {"train.py": edited(SCRIPTS[trainer], edits)})

    assert write_launch(before, after) is None
    for name in CHANGES[change]:
        assert getattr(before, name) != getattr(after, name)
        assert getattr(again, name) == getattr(after, name), edits


QLORA = {
    "base_quantization": BaseQuantization("nf4", True, compute_dtype="bf16"),
    "load_dtype": "bf16",
    "adapter": Adapter("lora", 16, 32, 0.0, "all-linear"),
}


def test_an_adapter_and_a_packed_base_are_told_where_the_model_is_loaded(tmp_path):
    before = plan_of(tmp_path, "python train.py", {"train.py": TRAINER})
    loading = 'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16)'

    assert edits_by_hand(before, before.with_edits(QLORA)) == (
        f"train.py:6, in from_pretrained(...): quantization_config={loading}, dtype=torch.bfloat16, and after it, "
        'model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))',
    )


def test_what_changes_in_a_file_is_told_as_it_is_written_and_in_one_list(tmp_path):
    limits = ("stage3_max_live_parameters", "stage3_max_reuse_distance")
    config = {"zero_optimization": {"stage": 3, **dict.fromkeys(limits, 10**9)}}
    parsed = "HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()[0]"
    script = re.sub(r"TrainingArguments\([^)]*\)", parsed, TRAINER)
    script = script.replace("Trainer, Tr", "HfArgumentParser, Trainer, Tr")
    files = {"train.py": script, "ds.json": json.dumps(config, indent=1)}
    line = "deepspeed --num_gpus 2 train.py --deepspeed ds.json --bf16 true --output_dir out"
    before = plan_of(tmp_path, line, files)
    fewer = {f"deepspeed.{name}": 10**8 for name in limits}
    lora = {"adapter": QLORA["adapter"], "load_dtype": "bf16"}
    *_, told = edits_by_hand(before, before.with_edits({**lora, **fewer}))

    assert told == "ds.json: " + ", ".join(f'"{name}": 100000000' for name in limits)


def test_nothing_is_told_of_a_script_that_takes_flags_or_of_what_no_argument_says(tmp_path):
    taking = SFT.replace(
        "import torch\n", "import torch\nfrom transformers import HfArgumentParser\n"
    )
    made = re.search(r"SFTConfig\([^)]*\)", SFT)
    assert made
    parsed = "HfArgumentParser(SFTConfig).parse_args_into_dataclasses()[0]"
    taking = taking.replace(made[0], parsed)
    flags = "--output_dir out --per_device_train_batch_size 4"
    before = plan_of(tmp_path, f"python train.py {flags}", {"train.py": taking})
    fixed = plan_of(tmp_path, "python train.py", {"train.py": SFT})

    assert edits_by_hand(before, before.with_edits({"micro_batch_size": 1})) == ()
    assert write_launch(before, before.with_edits({"micro_batch_size": 1})) is not None
    assert edits_by_hand(fixed, fixed.with_edits({"engine": "zero3", "world_size": 8})) == ()


PINNED = SFT.replace("gradient_checkpointing=False", "gradient_checkpointing=True")


@pytest.mark.parametrize(
    ("change", "lines", "is_told"),
    [
        ({"offload_activations": "cpu"}, "trl==0.18.1", True),
        ({"offload_activations": "cpu"}, "trl==0.16.1", False),
        # one of those that it may have takes none
        ({"offload_activations": "cpu"}, "trl>=0.16,<0.19", False),
        ({"loss": "fused_linear"}, "transformers==4.45.2\ntrl==0.12.2", True),
        ({"loss": "fused_linear"}, "transformers==4.44.2\ntrl==0.12.2", False),
    ],
)
def test_no_edit_is_told_that_the_launchs_release_does_not_take(change, lines, is_told, tmp_path):
    (tmp_path / "requirements.txt").write_text(lines)
    plan = plan_of(tmp_path, "accelerate launch train.py", {"train.py": PINNED})

    assert bool(edits_by_hand(plan, plan.with_edits(change))) is is_told
