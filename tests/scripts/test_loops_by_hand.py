"""A loop that parses a Trainer's arguments and makes no Trainer: its flags are what the loop makes of them."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

LOOP = """\
import torch
{imports}
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, HfArgumentParser, TrainingArguments

(args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-1.7B", dtype=torch.float32).cuda()
{made}
tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen3-1.7B")


def collate(texts):
    return tokenizer(texts, truncation=True, padding="max_length", max_length=2048, return_tensors="pt")


model.train()
adam = torch.optim.AdamW(model.parameters(), lr=args.learning_rate)
for batch in DataLoader(rows, batch_size=args.per_device_train_batch_size, collate_fn=collate):
    loss = model(**batch, labels=batch["input_ids"]).loss
    {back}
    adam.step()
    adam.zero_grad()
"""
PLAIN = {
    "imports": "from torch.nn.parallel import DistributedDataParallel",
    "made": "model = DistributedDataParallel(model)",
    "back": "loss.backward()",
}
ACCELERATED = {
    "imports": "from accelerate import Accelerator",
    "made": "accelerator = Accelerator()\nmodel = accelerator.prepare(model)",
    "back": "accelerator.backward(loss)",
}
FLAGS = "--output_dir out --per_device_train_batch_size 2 --bf16 --gradient_checkpointing --optim adamw_8bit --fsdp full_shard"
RANKS = "torchrun --nproc_per_node 2"
CONFIG = "distributed_type: MULTI_GPU\nmixed_precision: bf16\nnum_processes: 2\n"


@pytest.fixture
def plan(tmp_path):
    def read(parts, launcher=RANKS, flags=FLAGS, **changes):
        text = LOOP
        for name, part in {**parts, **changes}.items():
            text = text.replace(f"{{{name}}}", part)
        files = {"train.py": text, "a.yaml": CONFIG}
        return plan_of(tmp_path, f"{launcher} train.py {flags}", files)

    return read


def told(plan):
    return (
        plan.engine,
        plan.mixed_precision,
        plan.activation_checkpointing,
        plan.optimizer,
        plan.micro_batch_size,
    )


def test_flags_that_no_word_of_the_loop_takes_up_change_nothing(plan):
    """The launch was judged as a Trainer's: sharded, under autocast, checkpointed, with states of 8 bits."""
    assert told(plan(PLAIN)) == ("ddp", "no", "none", "adamw_torch", 2)


@pytest.mark.parametrize(
    ("made", "field", "value"),
    [
        ("if args.gradient_checkpointing:\n    model.gradient_checkpointing_enable()", "activation_checkpointing", "full"),
        ("around = torch.autocast('cuda', enabled=args.bf16)", "mixed_precision", "bf16"),
    ],
    ids=["checkpoints", "autocast"],
)  # fmt: skip
def test_flags_that_the_loop_takes_up_hold(plan, made, field, value):
    read = plan(PLAIN, made=f"{made}\n{PLAIN['made']}")

    assert getattr(read, field) == value


@pytest.mark.parametrize(("parts", "precision"), [(PLAIN, "no"), (ACCELERATED, "bf16")])
def test_a_launchers_precision_is_an_accelerators(plan, parts, precision):
    read = plan(parts, "accelerate launch --config_file a.yaml", "--output_dir out")

    assert read.mixed_precision == precision
    assert read.activation_checkpointing == "none"


@pytest.mark.parametrize(
    "made",
    [
        "from transformers import Trainer\nTrainer(model=model, args=args, train_dataset=rows).train()",
        "import transformers\nkind = transformers.Trainer\nkind(model=model, args=args).train()",
        "from theirs import build_trainer\nbuild_trainer(model, args).train()",
    ],
    ids=["made", "by another name", "by a function of a library"],
)
def test_a_trainer_takes_its_flags(plan, made):
    read = plan(PLAIN, made=made)

    assert told(read)[:4] == ("fsdp2", "bf16", "full", "adamw_8bit")


CALLBACKS = """\
from transformers import TrainerCallback, TrainingArguments


class Log(TrainerCallback):
    def on_log(self, args: TrainingArguments, state, control, **kwargs):
        print(state)
"""
BY_WORD = """\
import fire
import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM
from callbacks import Log


class ChatTrainer:
    def fit(self, name="gpt2"):
        model = AutoModelForCausalLM.from_pretrained(name)
        adam = torch.optim.AdamW(model.parameters())
        for batch in rows:
            model(**batch).loss.backward()
            adam.step()


fire.Fire({given})
"""


@pytest.mark.parametrize("given", ["unknown()", "ChatTrainer"])
def test_annotations_of_callbacks_make_no_trainer(tmp_path, given):
    """A batch of nobody's was 8, which a Trainer takes by default."""
    files = {"callbacks.py": CALLBACKS, "train.py": BY_WORD.format(given=given)}
    plan = plan_of(tmp_path, "python train.py fit", files)

    assert plan.trainer == "plain_loop"
    assert plan.micro_batch_size is None


BY_ANNOTATION = """\
import {library}
from others import run
from transformers import TrainingArguments


def main(arguments: TrainingArguments):
    run(arguments)


{library}.cli(main)
"""


@pytest.mark.parametrize(("library", "trainer"), [("tyro", "transformers"), ("words", None)])
def test_arguments_that_a_library_fills_by_an_annotation_are_a_trainers(tmp_path, library, trainer):
    text = BY_ANNOTATION.format(library=library)
    plan = plan_of(tmp_path, "python train.py", {"train.py": text})

    assert plan.trainer == trainer
