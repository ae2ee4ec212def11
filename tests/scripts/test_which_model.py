"""Of several models the one that trains is read; what a helper builds is open."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

HEAD = """\
import argparse
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, HfArgumentParser, Trainer, TrainingArguments
from peft import LoraConfig, get_peft_model
from trl import DPOTrainer

parser = argparse.ArgumentParser()
parser.add_argument("--attn_implementation", default=None)
parser.add_argument("--lora", action="store_true")
args = parser.parse_args()
training = TrainingArguments(output_dir="out", per_device_train_batch_size=2, bf16=True)
"""
LAUNCH = "torchrun --nproc_per_node 8 train.py"
NAME = '"meta-llama/Llama-2-7b-hf"'
HANDED = ", attn_implementation=args.attn_implementation"


def test_a_model_of_a_helper_leaves_what_the_helper_decides_open(tmp_path):
    script = f"from helpers import load_model\n{HEAD}model, tokenizer = load_model({NAME})\nTrainer(model=model, args=training).train()\n"
    plan = plan_of(tmp_path, LAUNCH, {"train.py": script})

    assert {"adapter", "base_quantization", "load_dtype"} <= opens(plan)


def test_a_helper_of_the_repository_is_read(tmp_path):
    script = f"from helpers import load_model\n{HEAD}model, tokenizer = load_model({NAME})\nTrainer(model=model, args=training).train()\n"
    helper = (
        "import torch\nfrom transformers import AutoModelForCausalLM\n"
        "def load_model(name):\n"
        "    model = AutoModelForCausalLM.from_pretrained(name, torch_dtype=torch.float16, attn_implementation='eager')\n"
        "    return model, None\n"
    )
    plan = plan_of(tmp_path, LAUNCH, {"train.py": script, "helpers.py": helper})

    assert (plan.load_dtype, plan.attention) == ("fp16", "eager")
    assert not {"adapter", "base_quantization", "load_dtype"} & opens(plan)


@pytest.mark.parametrize("order", ["model, tokenizer", "tokenizer, model", "1, tokenizer, model"])
def test_a_model_is_followed_to_its_place_in_what_a_function_gives_back(order, tmp_path):
    helper = (
        "def load_all(name):\n"
        "    tokenizer = AutoTokenizer.from_pretrained(name)\n"
        "    model = AutoModelForCausalLM.from_pretrained(name, torch_dtype=torch.float16)\n"
        f"    return {order}\n"
    )
    taken = order.replace("1", "epochs")
    script = f"from transformers import AutoTokenizer\n{HEAD}{helper}{taken} = load_all({NAME})\nTrainer(model=model, args=training).train()\n"
    plan = plan_of(tmp_path, LAUNCH, {"train.py": script})

    assert (plan.model, plan.load_dtype) == ("meta-llama/Llama-2-7b-hf", "fp16")
    assert not {"adapter", "base_quantization", "load_dtype"} & opens(plan)


@pytest.mark.parametrize(
    ("other", "model"),
    [
        (NAME, "meta-llama/Llama-2-7b-hf"),
        ('"meta-llama/Llama-2-13b-hf"', None),
        ("pick()", None),
    ],
)
def test_a_name_by_which_every_branch_loads_is_the_models(other, model, tmp_path):
    script = (
        f"{HEAD}import os\nif len(os.listdir('.')) > 3:\n"
        f"    model = AutoModelForCausalLM.from_pretrained({NAME}, torch_dtype=torch.float16)\n"
        f"else:\n    model = AutoModelForCausalLM.from_pretrained({other})\n"
        "Trainer(model=model, args=training).train()\n"
    )
    plan = plan_of(tmp_path, LAUNCH, {"train.py": script})

    assert plan.model == model


def test_the_model_that_the_trainer_is_given_trains(tmp_path):
    script = (
        f"{HEAD}model = AutoModelForCausalLM.from_pretrained({NAME}, torch_dtype=torch.float16)\n"
        f"frozen = AutoModelForCausalLM.from_pretrained({NAME}, torch_dtype=torch.bfloat16)\n"
        "DPOTrainer(model, frozen, args=training).train()\n"
    )
    assert plan_of(tmp_path, LAUNCH, {"train.py": script}).load_dtype == "fp16"


def test_a_model_that_is_passed_on_is_followed(tmp_path):
    script = (
        f"{HEAD}def make():\n"
        f"    model = AutoModelForCausalLM.from_pretrained({NAME}, torch_dtype=torch.float16)\n"
        "    return get_peft_model(model, LoraConfig(r=4))\n"
        f"teacher = AutoModelForCausalLM.from_pretrained({NAME})\n"
        "Trainer(make(), training).train()\n"
    )
    plan = plan_of(tmp_path, LAUNCH, {"train.py": script})

    assert plan.load_dtype == "fp16"
    assert plan.adapter is not None and plan.adapter.rank == 4


@pytest.mark.parametrize("second, is_open", [("torch.float16", False), ("torch.float32", True)])
def test_two_models_of_which_either_may_train_are_known_where_they_agree(second, is_open, tmp_path):
    script = (
        f"{HEAD}one = AutoModelForCausalLM.from_pretrained({NAME}, torch_dtype=torch.float16)\n"
        f"two = AutoModelForCausalLM.from_pretrained({NAME}, torch_dtype={second})\n"
        "Trainer(model=pick(one, two), args=training).train()\n"
    )
    plan = plan_of(tmp_path, LAUNCH, {"train.py": script})

    assert ("load_dtype" in opens(plan)) is is_open
    assert is_open or plan.load_dtype == "fp16"


def test_an_attention_flag_that_reaches_nothing_changes_nothing(tmp_path):
    loaded = f"AutoModelForCausalLM.from_pretrained({NAME}, torch_dtype=torch.bfloat16"
    rest = "\nTrainer(model=model, args=training).train()\n"
    unused = {"train.py": f"{HEAD}model = {loaded}){rest}"}
    used = {
        "train.py": f"{HEAD}model = {loaded}, attn_implementation=args.attn_implementation){rest}"
    }
    command = f"{LAUNCH} --attn_implementation flash_attention_2"

    assert plan_of(tmp_path, command, used).attention == "flash_attention_2"
    assert plan_of(tmp_path, command, unused).attention != "flash_attention_2"


def test_an_adapter_that_this_command_line_does_not_make_is_none(tmp_path):
    script = (
        f"{HEAD}model = AutoModelForCausalLM.from_pretrained({NAME}, torch_dtype=torch.bfloat16)\n"
        "if args.lora:\n    model = get_peft_model(model, LoraConfig(r=4))\n"
        "Trainer(model=model, args=training).train()\n"
    )
    with_it = plan_of(tmp_path, f"{LAUNCH} --lora", {"train.py": script})
    without = plan_of(tmp_path, LAUNCH, {"train.py": script})

    assert with_it.adapter is not None and with_it.adapter.rank == 4
    assert without.adapter is None and "adapter" not in opens(without)


DATACLASS = """\
from dataclasses import dataclass, field
import torch
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments
from helpers import wrap

@dataclass
class Mine(TrainingArguments):
    lora_r: int = field(default=64)
    lora_alpha: int = 16

training, = HfArgumentParser((Mine,)).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16)
Trainer(model=model, args=training).train()
print(training.lora_r, training.lora_alpha)
"""


def test_a_rank_that_nobody_gives_is_no_adapter(tmp_path):
    command = f"{LAUNCH} --output_dir out"
    unsaid = plan_of(tmp_path, command, {"train.py": DATACLASS})
    said = plan_of(tmp_path, f"{command} --lora_r 8", {"train.py": DATACLASS})

    assert unsaid.adapter is None
    assert said.adapter is not None and said.adapter.rank == 8


def test_a_parser_of_dataclasses_is_no_trainer(tmp_path):
    script = (
        "from dataclasses import dataclass\nimport torch\n"
        "from transformers import AutoModelForCausalLM, HfArgumentParser\n"
        "@dataclass\nclass Mine:\n    per_device_train_batch_size: int = 4\n    max_seq_length: int = 512\n"
        "args, = HfArgumentParser((Mine,)).parse_args_into_dataclasses()\n"
        f"model = AutoModelForCausalLM.from_pretrained({NAME}, torch_dtype=torch.bfloat16)\n"
        "optimizer = torch.optim.AdamW(model.parameters())\n"
        "model(**batch).loss.backward()\n"
    )
    assert plan_of(tmp_path, LAUNCH, {"train.py": script}).trainer in (None, "plain_loop")


MAKES = {
    "an argument": (
        'def load():\n    model = FastLanguageModel.from_pretrained("x/y", load_in_4bit=True)\n    return model, None\n'
        "def train(model, rows):\n    trainer = Trainer(model=model, args=training)\n    trainer.train()\n"
        "model, tokenizer = load()\ntrain(model, None)\n"
    ),
    "itself, with more around it": (
        'model, tokenizer = FastLanguageModel.from_pretrained("x/y")\n'
        "model = FastLanguageModel.get_peft_model(model, r=16)\nTrainer(model, args=training).train()\n"
    ),
    "an attribute": (
        "class Job:\n    def __init__(self):\n        self.model = build()\n"
        "    def run(self):\n        Trainer(model=self.model, args=training).train()\nJob().run()\n"
    ),
    "nothing that is read": "def run(model):\n    Trainer(model=model, args=training).train()\nstart(run)\n",
}


@pytest.mark.parametrize("way", MAKES)
def test_a_model_that_is_followed_to_a_helper_is_open(tmp_path, way):
    script = f"from fast import FastLanguageModel\nfrom elsewhere import build, start\n{HEAD}{MAKES[way]}"
    plan = plan_of(tmp_path, LAUNCH, {"train.py": script})

    decided = {"adapter", "base_quantization", "load_dtype", "activation_checkpointing"}
    assert decided <= opens(plan)


@pytest.mark.parametrize("way", ["an argument", "an attribute"])
def test_a_model_that_is_followed_to_transformers_is_as_it_is_loaded(tmp_path, way):
    loaded = f"AutoModelForCausalLM.from_pretrained({NAME}, torch_dtype=torch.bfloat16)"
    script = MAKES[way].replace("build()", loaded)
    script = script.replace('FastLanguageModel.from_pretrained("x/y", load_in_4bit=True)', loaded)
    plan = plan_of(tmp_path, LAUNCH, {"train.py": HEAD + script})

    assert (plan.model, plan.load_dtype) == ("meta-llama/Llama-2-7b-hf", "bf16")
    assert not {"load_dtype", "activation_checkpointing"} & opens(plan)


MADE = f"from transformers import AutoConfig\n{HEAD}config = AutoConfig.from_pretrained({NAME})\n"


@pytest.mark.parametrize(
    ("more", "is_named"),
    [
        ("", True),
        ("config.use_cache = False\n", True),
        ("config.num_hidden_layers = 2\n", False),
    ],
)
def test_a_model_without_weights_is_that_of_its_config(tmp_path, more, is_named):
    script = f"{MADE}{more}model = AutoModelForCausalLM.from_config(config)\nTrainer(model=model, args=training).train()\n"
    plan = plan_of(tmp_path, LAUNCH, {"train.py": script})

    assert plan.model == (NAME.strip('"') if is_named else None)


@pytest.mark.parametrize(
    "method", ["(self, more=None)", "(self)", "(*self)", "(*, self=None)", "()"]
)
def test_an_object_that_trains_itself_is_what_its_method_is_called_on(method, tmp_path):
    """A model may be `self`, and a method may be called with less than it takes."""
    script = (
        f"{HEAD}class Mine(torch.nn.Module):\n"
        f"    def fit{method}:\n        Trainer(model=self, args=training).train()\n"
        f"model = AutoModelForCausalLM.from_pretrained({NAME}, torch_dtype=torch.float16)\n"
        "model.fit()\nMine.fit()\nfit()\n"
    )
    plan = plan_of(tmp_path, LAUNCH, {"train.py": script})

    assert plan.load_dtype == "fp16" or "load_dtype" in opens(plan)


BY_NAME = """from trl import {name}Config, {name}Trainer
{more}
trainer = {made}
trainer.train()
"""
GIVEN = "Qwen/Qwen2.5-0.5B"
OWN = "class MineTrainer({name}Trainer):\n    {body}\n"


@pytest.mark.parametrize(
    ("made", "more", "model"),
    [
        ("{name}Trainer('Qwen/Qwen2.5-0.5B', args={name}Config())", "", GIVEN),
        ("{name}Trainer(model='Qwen/Qwen2.5-0.5B', args={name}Config())", "", GIVEN),
        (
            "{name}Trainer('Qwen/Qwen2.5-0.5B', args=HfArgumentParser(Mine).parse_args_into_dataclasses()[0])",
            "from transformers import HfArgumentParser\nclass Mine({name}Config):\n    pass\n", GIVEN,
        ),
        ("MineTrainer('Qwen/Qwen2.5-0.5B', args={name}Config())", OWN.format(name="{name}", body="pass"), GIVEN),
        # what stands on none of TRL's takes anything first: a path of settings
        ("Other('settings.yaml')", "class Other:\n    pass\n", None),
        ("{name}Trainer(made_by(me), args={name}Config())", "", None),
        (
            "{name}Trainer('Qwen/Qwen2.5-0.5B') if other else {name}Trainer('gpt2')",
            "from mine import other\n", None,
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["SFT", "DPO", "GRPO", "Reward"])
def test_a_trainer_of_trls_is_given_its_model_by_name(name, made, more, model, tmp_path):
    text = BY_NAME.format(name=name, made=made.format(name=name), more=more.format(name=name))
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 2 train.py", {"train.py": text})

    assert plan.model == model


WRAPS = """\
import torch
from transformers import AutoModel, HfArgumentParser, Trainer, TrainingArguments


class Embedder(torch.nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    @classmethod
    def build(cls, encoder):
        model = cls(encoder)
        return model

    def forward(self, query, passage):
        return contrast(self.encoder(**query), self.encoder(**passage))


encoder = AutoModel.from_pretrained("Qwen/Qwen2.5-0.5B")
(args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = {made}
{trainer}.train()
"""
GIVEN = "Trainer(model=model, args=args, train_dataset=rows)"


@pytest.mark.parametrize(
    ("made", "trainer", "is_named"),
    [
        ("Embedder(encoder)", GIVEN, True),
        ("Embedder.build(encoder)", GIVEN, True),
        ("Embedder(encoder)", "trainer", True),
        ("encoder", GIVEN, False),
        ("encoder", "trainer", False),
    ],
)
def test_a_model_of_a_class_of_ones_own_is_named_whatever_it_loads(
    tmp_path, made, trainer, is_named
):
    kept = 'kept = {"model": model, "args": args, "train_dataset": rows}\ntrainer = Trainer(**kept)\ntrainer'
    text = WRAPS.replace("{made}", made).replace("{trainer}", trainer.replace("trainer", kept))
    command = "torchrun --nproc_per_node 8 train.py --output_dir o --per_device_train_batch_size 1"
    plan = plan_of(tmp_path, command, {"train.py": text})

    named = {notice.unpriced for notice in plan.notices}
    assert ("what Embedder adds to the model" in named) == is_named


@pytest.mark.parametrize(
    ("asked", "loads"),
    [("any([args.lora, True])", "fp16"), ("any([args.lora, False])", "fp32"), ("all([True, args.lora])", "fp32")],
)  # fmt: skip
def test_any_and_all_of_what_is_known_are_known(asked, loads, tmp_path):
    script = (
        f"{HEAD}model = AutoModelForCausalLM.from_pretrained({NAME}, "
        f"torch_dtype=torch.float16 if {asked} else torch.float32)\n"
        "Trainer(model, args=training).train()\n"
    )
    plan = plan_of(tmp_path, LAUNCH, {"train.py": script})

    assert plan.load_dtype == loads and "load_dtype" not in opens(plan)


@pytest.mark.parametrize("asked", ["any([args.lora, ready()])", "all([True, ready()])"])
def test_any_and_all_are_open_where_one_that_is_not_known_decides(asked, tmp_path):
    script = (
        f"{HEAD}model = AutoModelForCausalLM.from_pretrained({NAME}, "
        f"torch_dtype=torch.float16 if {asked} else torch.float32)\n"
        "Trainer(model, args=training).train()\n"
    )
    assert "load_dtype" in opens(plan_of(tmp_path, LAUNCH, {"train.py": script}))


@pytest.mark.parametrize(
    "given", [NAME, f"repo_id={NAME}", f"{NAME}, local_dir='here', revision='main'"]
)
def test_the_folder_of_a_download_is_the_model_of_that_name(tmp_path, given):
    loads = f"path = huggingface_hub.snapshot_download({given})\nmodel = AutoModelForCausalLM.from_pretrained(path)\n"
    script = f"import huggingface_hub\n{HEAD}{loads}Trainer(model=model, args=training).train()\n"

    assert plan_of(tmp_path, LAUNCH, {"train.py": script}).model == "meta-llama/Llama-2-7b-hf"


@pytest.mark.parametrize(("other", "is_open"), [("", True), (HANDED, False)])  # fmt: skip
def test_a_flag_that_one_of_two_loading_calls_is_given_says_nothing_of_the_other(tmp_path, other, is_open):  # fmt: skip
    """It counted as said for whichever of them runs."""
    calls = [f"model = AutoModelForCausalLM.from_pretrained({NAME}{each})" for each in (HANDED, other)]  # fmt: skip
    text = f"{HEAD}if exists():\n    {calls[0]}\nelse:\n    {calls[1]}\nTrainer(model, args=training).train()\n"
    plan = plan_of(
        tmp_path, f"{LAUNCH} --attn_implementation flash_attention_2", {"train.py": text}
    )

    assert ("attention" in opens(plan)) is is_open
    assert is_open or plan.attention == "flash_attention_2"


@pytest.mark.parametrize(
    ("made", "model"),
    [
        ("other = partial(AutoModelForCausalLM.from_pretrained, size)\nmodel = other()", None),
        ("model = built()", None),
        ("other = {'a': built()}\nmodel = other['a']", None),
        ("model = wrapped(small)", "meta-llama/Llama-2-7b-hf"),
        ("pack = [small, 2]\nmodel = wrapped(pack)", "meta-llama/Llama-2-7b-hf"),
        ("model = small.type(torch.float32)", "meta-llama/Llama-2-7b-hf"),
    ],
)  # fmt: skip
def test_a_model_that_no_trainer_is_given_is_not_the_one_that_trains(tmp_path, made, model):
    """The only one that a script loads was taken for it, whatever else its trainer is given."""
    text = f"from functools import partial\n{HEAD}small = AutoModelForCausalLM.from_pretrained({NAME})\n{made}\nTrainer(model=model, args=training).train()\n"
    plan = plan_of(tmp_path, LAUNCH, {"train.py": text})

    assert plan.model == model
    assert plan.load_dtype == "fp32" or ".type(" not in made
