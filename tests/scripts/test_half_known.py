"""One thing of a script that only running tells leaves open what it decides, and no more: nothing fits or fails by it."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

from preflight.engines.own_deepspeed import STAGES
from preflight.scripts.settings.vocabulary import MORE_WORDS, OTHER_VOCABULARY

SCRIPT = """\
import torch
from helpers import *
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TrainingArguments
from trl import SFTConfig, SFTTrainer

{before}
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.1-8B", torch_dtype=torch.bfloat16{load})
{model}
args = SFTConfig(output_dir="o", per_device_train_batch_size=1, max_length=1024, bf16=True, gradient_checkpointing=True{args})
{after}
trainer = SFTTrainer(model=model, args=args, train_dataset=rows{trainer})
trainer.train()
"""
EMPTY = dict.fromkeys(("before", "load", "model", "args", "after", "trainer"), "")
ARGUMENTS = {"engine", "offload_params", "offload_optimizer", "optimizer", "attention", "loss"}


def read(folder, **changes):
    files = {"train.py": SCRIPT.format(**{**EMPTY, **changes})}
    return plan_of(folder, "torchrun --nproc_per_node 8 train.py", files)


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, set()),
        ({"load": ", quantization_config=config()"}, {"base_quantization"}),
        (
            {"load": ", quantization_config=config", "before": "config = make_config()"},
            {"base_quantization"},
        ),
        ({"load": ", quantization_config=None"}, set()),
        (
            {"load": ", quantization_config=BitsAndBytesConfig(load_in_4bit=True)"},
            set(),
        ),
        ({"load": ", **more"}, {"base_quantization", "attention"}),
        ({"trainer": ", peft_config=make()"}, {"adapter"}),
        ({"trainer": ", **more"}, {"adapter"}),
        ({"args": ", deepspeed=config()"}, {"engine", "offload_params", "offload_optimizer"}),
        ({"args": ", fsdp=words()"}, {"engine", "offload_params"}),
        ({"args": ", eval_strategy=word()"}, {"eval_micro_batch_size"}),
        ({"args": ", **more"}, ARGUMENTS),
        ({"after": "args = adjusted(args)"}, ARGUMENTS),
        ({"after": "for name, value in more.items():\n    setattr(args, name, value)"}, ARGUMENTS),
        ({"after": "setattr(args, 'seed', 3)"}, set()),
        ({"after": "from copy import deepcopy\nargs = deepcopy(args)"}, set()),
        ({"model": "model.to(torch.device('cuda'))"}, set()),
        ({"model": "model = model.to(dtype=pick())"}, {"load_dtype"}),
        ({"model": "if ready():\n    model.float()"}, {"load_dtype"}),
    ],
)
def test_what_only_running_tells_is_open(tmp_path, changes, fields):
    assert opens(read(tmp_path, **changes)) - {"versions"} == fields


@pytest.mark.parametrize(
    ("cast", "dtype"),
    [
        ("model = model.half()", "fp16"),
        ("model.float()", "fp32"),
        ("model = model.to(torch.float32)", "fp32"),
        ("model.to('cuda', dtype=torch.float16)", "fp16"),
        ("other = Head()\nother.float()", "bf16"),
        ("ref_model = AutoModelForCausalLM.from_pretrained('gpt2').half()", "bf16"),
    ],
)
def test_a_cast_of_the_model_is_its_dtype(tmp_path, cast, dtype):
    assert read(tmp_path, model=cast).load_dtype == dtype


def test_a_model_that_the_script_compiles_is_compiled(tmp_path):
    assert read(tmp_path, model="model = torch.compile(model)").torch_compile


def test_a_loss_that_the_trainer_is_handed_is_named(tmp_path):
    plan = read(tmp_path, trainer=", compute_loss_func=mine")
    assert "a loss of its own" in {problem.unpriced for problem in plan.notices}


@pytest.mark.parametrize(
    ("argument", "engines"),
    [("deepspeed", set(STAGES)), ("fsdp", {"ddp", "fsdp1", "fsdp2"})],
)
def test_an_engine_that_only_running_tells_may_be_any_of_its_kind(tmp_path, argument, engines):
    plan = read(tmp_path, args=f", {argument}=config()")
    assert {plan.engine, *plan.origins["engine"].may_be} == engines


def test_a_launcher_that_says_its_engine_decides_it(tmp_path):
    script = SCRIPT.format(**{**EMPTY, "args": ", **more"})
    config = "distributed_type: FSDP\nnum_processes: 8\nfsdp_config:\n  fsdp_version: 2\n"
    files = {"train.py": script, "fsdp.yaml": config}
    plan = plan_of(tmp_path, "accelerate launch --config_file fsdp.yaml train.py", files)
    assert plan.engine == "fsdp2" and "engine" not in opens(plan)


LOOP = """\
import torch
from accelerate import Accelerator
from helpers import *
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

accelerator = Accelerator({accelerator})
tokenizer = AutoTokenizer.from_pretrained("meta-llama/Llama-3.1-8B")
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.1-8B", torch_dtype=torch.bfloat16{load})
{model}
rows = rows.map(lambda row: tokenizer(row["text"], truncation=True, max_length=1024))
loader = DataLoader(rows, batch_size={batch}, shuffle=True)
optimizer = torch.optim.AdamW(model.parameters())
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
for batch in loader:
    accelerator.backward(model(**batch).loss)
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, set()),
        ({"load": ", quantization_config=config()"}, {"base_quantization"}),
        ({"load": ", **more"}, {"base_quantization", "attention"}),
        ({"model": "if ready():\n    model.float()"}, {"load_dtype"}),
        (
            {"model": "if ready():\n    model.gradient_checkpointing_enable()"},
            {"activation_checkpointing"},
        ),
        (
            {"accelerator": "mixed_precision='bf16', **more"},
            {"engine", "offload_params", "offload_optimizer"},
        ),
        (
            {"accelerator": "**more"},
            {"engine", "offload_params", "offload_optimizer", "mixed_precision"},
        ),
    ],
)
def test_a_loop_of_ones_own_is_read_alike(tmp_path, changes, fields):
    said = {
        "accelerator": "mixed_precision='bf16'",
        "load": "",
        "model": "",
        "batch": "2",
        **changes,
    }
    files = {"train.py": LOOP.format(**said)}
    plan = plan_of(tmp_path, "accelerate launch --multi_gpu --num_processes 8 train.py", files)
    assert plan.micro_batch_size == 2
    assert opens(plan) - {"versions"} == fields


@pytest.mark.parametrize("name", ["SFT", "DPO", "ORPO", "CPO", "BCO", "PRM", "OnlineDPO", "GKD"])
def test_the_arguments_of_every_trainer_of_trl_are_read(tmp_path, name):
    script = SCRIPT.format(**EMPTY).replace("SFT", name)
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 8 train.py", {"train.py": script})
    # prompts of the first are cut by nothing; the other's completions stand behind them
    length = {"OnlineDPO": None, "GKD": 1024 + 128}.get(name, 1024)
    assert (plan.micro_batch_size, plan.seq_len) == (1, length)
    assert (plan.activation_checkpointing, plan.mixed_precision) == ("full", "bf16")
    assert not opens(plan) & ARGUMENTS


def words_of(tokenizer: str) -> str:
    return f"words = AutoTokenizer.from_pretrained('{tokenizer}')\nmodel.resize_token_embeddings(len(words))"


def adding(words: str) -> str:
    return f"words.add_tokens({words})\nmodel.resize_token_embeddings(len(words))"


def special(words: str) -> str:
    return adding(words).replace("add_tokens", "add_special_tokens")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"trainer": ", peft_config=LoraConfig(r=8)"}, None),
        ({"trainer": ", peft_config=LoraConfig(r=8, rank_pattern={})"}, None),
        ({"trainer": ", peft_config=LoraConfig(rank_pattern={'q_proj': 64})"}, "a rank pattern"),
        ({"trainer": ", peft_config=LoraConfig(target_parameters=names())"}, "an adapter on parameters"),
        ({"trainer": ", peft_config=LoraConfig(layer_replication=[(0, 8), (4, 12)])"}, "replicated layers"),
        ({"load": ", quantization_config=BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=['lm_head'])"}, None),
        ({"load": ", quantization_config=BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=['v_proj'])"},
         "modules that are not packed"),
        ({"load": ", num_hidden_layers=4"}, "a model of another shape"),
        ({"load": ", config=config", "before": "config = make()\nconfig.num_hidden_layers = 4"}, "a model of another shape"),
        ({"load": ", config=config", "before": "config = make()\nconfig.use_cache = False"}, None),
        ({"load": ", config=config", "before": "config = make()\nconfig.update({'num_hidden_layers': 4})"}, "a model of another shape"),
        ({"load": ", config=config", "before": "config = AutoConfig.from_pretrained(name, hidden_size=64)"}, "a model of another shape"),
        ({"load": ", config=config", "before": "config = AutoConfig.from_pretrained(name, attn_implementation='sdpa')"}, None),
        ({"after": "model.resize_token_embeddings(200_000)"}, OTHER_VOCABULARY),
        ({"after": "model.resize_token_embeddings(128_257)"}, None),
        ({"after": words_of("meta-llama/Llama-3.1-8B")}, None),
        ({"after": words_of("Qwen/Qwen2.5-7B")}, OTHER_VOCABULARY),
        ({"after": words_of("meta-llama/Llama-2-7b-hf")}, None),
        ({"after": words_of("own/tokenizer")}, OTHER_VOCABULARY),
        ({"after": adding("[f'<|{i}|>' for i in range(28_672)]")}, MORE_WORDS),
        ({"after": "more = 4096 * 7\nsounds = [str(i) for i in range(more)]\n" + adding("sounds")}, MORE_WORDS),
        ({"after": adding("[f'<|{i}|>' for i in range(100)]")}, None),
        ({"after": "few = ['<a>', '<b>']\nsounds = [str(i) for i in range(4096)]\nmore = few + sounds\n" + adding("more")}, MORE_WORDS),
        ({"after": "more = json.load(open('words.json'))\n" + adding("more")}, MORE_WORDS),
        ({"after": special("{'additional_special_tokens': [f'<|{i}|>' for i in range(28_672)]}")}, MORE_WORDS),
        ({"after": "model.resize_token_embeddings(len(words) + 65_536)"}, MORE_WORDS),
        ({"after": "model.resize_token_embeddings(len(words) + 8)"}, None),
        ({"after": "more = {'additional_special_tokens': [str(i) for i in range(4096)]}\n" + special("more")}, MORE_WORDS),
        ({"after": special("{'pad_token': '[PAD]', 'additional_special_tokens': ['<a>', '<b>']}")}, None),
        ({"after": adding("['<a>', '<b>']")}, None),
        ({"after": words_of("own/tokenizer").replace("model.resize", "print")}, None),
    ],
)  # fmt: skip
def test_what_a_config_adds_to_what_is_counted_is_named(tmp_path, changes, name):
    plan = read(tmp_path, **{"before": "", **changes, "model": "from peft import LoraConfig"})

    assert {notice.unpriced for notice in plan.notices} - {""} == (
        set() if name is None else {name}
    )


def test_more_arguments_of_an_adapter_leave_its_parts_open(tmp_path):
    change = {"trainer": ", peft_config=LoraConfig(r=8, **more)", "model": "from peft import LoraConfig"}  # fmt: skip

    assert opens(read(tmp_path, **change)) - {"versions"} == {"adapter"}


NAMELESS = """\
from dataclasses import dataclass
from typing import Optional
from transformers import AutoModelForCausalLM, AutoTokenizer, HfArgumentParser, Trainer, TrainingArguments

@dataclass
class Arguments(TrainingArguments):
    model_name_or_path: Optional[str] = None

args = HfArgumentParser(Arguments).parse_args_into_dataclasses()[0]
model = AutoModelForCausalLM.from_pretrained(args.model_name_or_path)
words = AutoTokenizer.from_pretrained(args.model_name_or_path)
model.resize_token_embeddings(len(words))
Trainer(model=model, args=args, train_dataset=rows).train()
"""


def test_words_of_a_model_that_nobody_names_stop_nobody(tmp_path):
    files = {"train.py": NAMELESS}

    assert plan_of(tmp_path, "python train.py --output_dir o", files).model is None
    assert plan_of(tmp_path, "python train.py --model_name_or_path gpt2", files).model == "gpt2"
