"""What public scripts do that was read wrongly once: rows that TRL leaves alone, models of a config, classes that only document themselves."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

FROM_CONFIG = """\
import argparse
from transformers import AutoConfig, AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("--model_name_or_path", default=None)
parser.add_argument("--config_name", default=None)
args = parser.parse_args()
if args.config_name:
    config = AutoConfig.from_pretrained(args.config_name)
elif args.model_name_or_path:
    config = AutoConfig.from_pretrained(args.model_name_or_path)
if args.model_name_or_path:
    model = AutoModelForCausalLM.from_pretrained(args.model_name_or_path, config=config)
else:
    model = AutoModelForCausalLM.from_config(config)
for batch in DataLoader(rows, batch_size=3):
    model(**batch).loss.backward()
"""


@pytest.mark.parametrize("flag", ["--config_name", "--model_name_or_path"])
def test_a_model_that_is_made_of_a_config_has_its_name(flag, tmp_path):
    plan = plan_of(tmp_path, f"torchrun train.py {flag} gpt2-large", {"train.py": FROM_CONFIG})

    assert (plan.model, plan.micro_batch_size) == ("gpt2-large", 3)


UNPREPARED = """\
from trl import SFTConfig, SFTTrainer, TrlParser, ModelConfig
from transformers import AutoModelForCausalLM

parser = TrlParser((SFTConfig, ModelConfig))
args, model_args = parser.parse_args_and_config()
model = AutoModelForCausalLM.from_pretrained(
    model_args.model_name_or_path, attn_implementation=model_args.attn_implementation
)
{change}
SFTTrainer(model=model, args=args, train_dataset=rows, data_collator=collate).train()
"""


@pytest.mark.parametrize("change", ['args.dataset_kwargs = {"skip_prepare_dataset": True}', ""])
def test_rows_that_trl_does_not_prepare_are_neither_cut_nor_packed(change, tmp_path):
    line = "accelerate launch train.py --model_name_or_path gpt2 --packing true --max_length 512"
    plan = plan_of(tmp_path, line, {"train.py": UNPREPARED.replace("{change}", change)})
    said = (plan.seq_len, plan.sequence_kind)

    assert said == ((None, "padded") if change else (512, "packed"))
    assert "attention" not in opens(plan)


CLASSES = """\
from models import Llama

model = Llama()
model(rows).loss.backward()
"""
MODELS = '''\
class Llama:
    pass


@add_start_docstrings(
    """[`LlamaForSequenceClassification`] uses the last token.""",
)
class LlamaForSequenceClassification(Llama):
    pass
'''


def test_a_class_that_only_its_own_decorator_names_is_not_used(tmp_path):
    files = {"train.py": CLASSES, "models.py": MODELS}
    alone = plan_of(tmp_path, "python train.py", files)
    files["train.py"] = CLASSES.replace("Llama\n", "Llama, LlamaForSequenceClassification\n", 1)
    files["train.py"] += "LlamaForSequenceClassification()\n"
    used = plan_of(tmp_path, "python train.py", files)

    assert not [notice for notice in alone.notices if notice.unpriced]
    assert [notice.unpriced for notice in used.notices if notice.unpriced]


OWN_LOOP = """\
from accelerate import Accelerator
from transformers import AutoModelForCausalLM

accelerator = Accelerator()
model = AutoModelForCausalLM.from_pretrained("gpt2", device_map=accelerator.device)
accelerator.backward(model(rows).loss)
"""
CONFIG = """\
distributed_type: DEEPSPEED
deepspeed_config: {{zero_stage: 3, zero3_init_flag: {flag}}}
mixed_precision: bf16
num_processes: 2
"""


@pytest.mark.parametrize(
    ("release", "flag", "is_on"),
    [("0.28.0", "false", False), ("0.28.0", "true", True), ("1.0.1", "false", True)],
)
def test_zero3_is_off_while_a_loop_loads_its_model_where_accelerate_said_nothing(
    release, flag, is_on, tmp_path
):
    files = {
        "train.py": OWN_LOOP,
        "zero3.yaml": CONFIG.format(flag=flag),
        "requirements.txt": f"accelerate=={release}\n",
    }
    plan = plan_of(tmp_path, "accelerate launch --config_file zero3.yaml train.py", files)

    assert plan.script_facts.zero3_is_on_at_load is is_on


def test_the_model_is_the_one_that_a_flag_of_that_name_says(tmp_path):
    """--model_name is often what somebody calls the run."""
    line = "torchrun train.py --model gpt2 --model_name our-robot --bf16 true"
    plan = plan_of(tmp_path, line, {"train.py": "from pkg import main\nmain().backward()\n"})

    assert plan.model == "gpt2"


ATTENTION = """\
import argparse
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

config = AutoConfig.from_pretrained("gpt2")
if config.model_type == "internlm2":
    config.text.attn_implementation = "flash_attention_2"
else:
    config.text._attn_implementation = "flash_attention_2"
model = AutoModelForCausalLM.from_pretrained("gpt2", config=config)
Trainer(model=model, args=TrainingArguments("out", bf16=True)).train()
"""


def test_an_attention_that_is_set_on_a_config_counts(tmp_path):
    plan = plan_of(tmp_path, "torchrun train.py", {"train.py": ATTENTION})

    assert plan.attention == "flash_attention_2"


@pytest.mark.parametrize(
    ("load", "later", "attention"),
    [
        ("", "model.set_attn_implementation('eager')", "eager"),
        (", attn_implementation='eager'", "model.set_attn_implementation('eager')", "eager"),
        (", attn_implementation='sdpa'", "model.set_attn_implementation('eager')", None),
        (
            "",
            "if torch.cuda.is_bf16_supported():\n    model.config._attn_implementation = 'sdpa'\nmodel.set_attn_implementation('eager')",
            None,
        ),
    ],
)
def test_an_attention_that_is_set_later_counts_and_is_open_where_two_are_said(
    tmp_path, load, later, attention
):
    """The module's own (transformers/modeling_utils.py set_attn_implementation, 4.57) changes the one that it was loaded with."""
    text = ATTENTION.replace("import argparse", "import torch").replace("flash_attention_2", "sdpa")
    start, _, rest = text.partition("config = ")
    made = (
        rest[rest.index("model = ") :]
        .replace(", config=config", load)
        .replace("Trainer(", f"{later}\nTrainer(")
    )
    plan = plan_of(tmp_path, "torchrun train.py", {"train.py": start + made})

    if attention is None:
        assert "attention" in opens(plan)
    else:
        assert plan.attention == attention


NONE = """\
import torch
from transformers import AutoModelForCausalLM
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser

parser = TrlParser((SFTConfig, ModelConfig))
args, given = parser.parse_args_and_config()
dtype = given.dtype if given.dtype in ["auto", None] else getattr(torch, given.dtype)
model = AutoModelForCausalLM.from_pretrained(given.model_name_or_path, dtype=dtype)
SFTTrainer(model=model, args=args).train()
"""


@pytest.mark.parametrize(("said", "loads"), [("null", "auto"), ("bfloat16", "bf16")])
def test_a_dtype_of_none_is_none_that_is_said(said, loads, tmp_path):
    """transformers 5 then takes the checkpoint's own (modeling_utils.py:4186, 5.24.0)."""
    files = {"train.py": NONE, "run.yaml": f"model_name_or_path: gpt2\ndtype: {said}\n"}
    plan = plan_of(tmp_path, "accelerate launch train.py --config run.yaml", files)

    assert plan.load_dtype == loads


FRAMEWORK = {
    "mine/cli/train.py": """\
import argparse
from mine.actor import Actor
from mine.rows import RowDataset
from mine.trainer import SFTTrainer

def train(args):
    model = Actor(args.pretrain, bf16=args.bf16, load_in_4bit=args.load_in_4bit)
    rows = RowDataset(args.dataset, model.tokenizer, args.max_len)
    SFTTrainer(model, rows, args.micro_train_batch_size).fit(args)

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pretrain", type=str, default=None)
    parser.add_argument("--dataset", type=str, default=None)
    parser.add_argument("--max_len", type=int, default=2048)
    parser.add_argument("--micro_train_batch_size", type=int, default=8)
    parser.add_argument("--train_batch_size", type=int, default=128)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--load_in_4bit", action="store_true")
    train(parser.parse_args())
""",
    "mine/actor.py": """\
import torch
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

class Actor(nn.Module):
    def __init__(self, pretrain_or_model, bf16=True, load_in_4bit=False):
        super().__init__()
        if isinstance(pretrain_or_model, str):
            packed = BitsAndBytesConfig(load_in_4bit=True) if load_in_4bit else None
            self.model = AutoModelForCausalLM.from_pretrained(
                pretrain_or_model,
                quantization_config=packed,
                torch_dtype=torch.bfloat16 if bf16 else "auto",
            )
        else:
            self.model = pretrain_or_model
""",
    "mine/rows.py": """\
class RowDataset:
    def __init__(self, dataset, tokenizer, max_length):
        self.tokenizer, self.max_length = tokenizer, max_length
    def __getitem__(self, index):
        return self.tokenizer(index, max_length=self.max_length, truncation=True)
""",
    "mine/trainer/__init__.py": "from .sft_trainer import SFTTrainer\n",
    "mine/trainer/sft_trainer.py": """\
from abc import ABC

class SFTTrainer(ABC):
    def __init__(self, model, rows, batch):
        self.model, self.rows = model, rows
    def fit(self, args):
        for row in self.rows:
            self.model(row).loss.backward()
            self.optimizer.step()
""",
}


@pytest.mark.parametrize("one", ["train_batch_size_per_device", "batch_size_per_device", "micro_batch_size"])  # fmt: skip
def test_rows_of_one_rank_are_not_those_of_all(one, tmp_path):
    """Of a script whose arguments a library parses nothing but the flags is known."""
    text = "from rl import get_args, run\nrun(get_args())\n"
    command = f"python train.py --pretrain gpt2 --train_batch_size 128 --{one} 2"

    assert plan_of(tmp_path, command, {"train.py": text}).micro_batch_size == 2


def test_what_classes_of_a_framework_are_made_with_is_read(tmp_path):
    """Its own SFTTrainer is none of TRL's: no default of TRL's is taken."""
    launch = "deepspeed --num_gpus 8 --module mine.cli.train --pretrain gpt2 --max_len 4096"
    plan = plan_of(
        tmp_path, f"{launch} --micro_train_batch_size 2 --train_batch_size 256", FRAMEWORK
    )
    quantized = plan_of(tmp_path, f"{launch} --bf16 --load_in_4bit", FRAMEWORK)

    assert (plan.model, plan.seq_len, plan.micro_batch_size) == ("gpt2", 4096, 2)
    assert (plan.load_dtype, plan.base_quantization, plan.trainer) == ("auto", None, None)
    assert plan.loss is None
    assert quantized.load_dtype == "bf16"
    assert quantized.base_quantization is not None
