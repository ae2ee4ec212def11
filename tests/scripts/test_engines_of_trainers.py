"""What a Trainer's own method makes an engine of is named, and one that hands on what the launch says is as it was."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

from preflight.unpriced_names import OWN_ENGINE

SCRIPT = """\
import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

(args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()

class Own(Trainer):
    def METHOD

Own(model=AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B"), args=args).train()
"""
MAKES = "create_accelerator_and_postprocess(self):\n        {}"
WRAPS = "_wrap_model(self, model, training=True):\n        {}"


def is_named(folder, method, flags=""):
    files = {"train.py": SCRIPT.replace("METHOD", method)}
    plan = plan_of(folder, f"torchrun --nproc_per_node 2 train.py --output_dir out {flags}", files)
    return OWN_ENGINE in {notice.unpriced for notice in plan.notices}


@pytest.mark.parametrize(
    ("method", "flags", "named"),
    [
        (MAKES.format("self.accelerator = Accelerator()"), "", False),
        (MAKES.format("self.accelerator = Accelerator(mixed_precision='no')"), "", True),
        (MAKES.format("self.accelerator = Accelerator(fsdp_plugin=FullyShardedDataParallelPlugin())"), "", True),
        (MAKES.format("self.accelerator = Accelerator(deepspeed_plugin=self.args.deepspeed_plugin)"), "--deepspeed zero.json", False),
        (MAKES.format("self.accelerator = Accelerator()"), "--deepspeed zero.json", True),
        (MAKES.format("made = dict(deepspeed_plugin=self.args.deepspeed_plugin)\n        self.accelerator = Accelerator(**made)"), "--deepspeed zero.json", False),
        (MAKES.format("super().create_accelerator_and_postprocess()\n        print(self.accelerator)"), "--deepspeed zero.json", False),
        (MAKES.format("self.accelerator = own_accelerator()"), "", True),
        (WRAPS.format("return model"), "", False),
        (WRAPS.format("return super()._wrap_model(model, training)"), "", False),
        (WRAPS.format("return torch.nn.parallel.DistributedDataParallel(model)"), "", True),
        (WRAPS.format("model = FSDP(model)\n        return model"), "", True),
    ],
)  # fmt: skip
def test_an_engine_that_a_method_makes_is_named(tmp_path, method, flags, named):
    """Only the launch was asked: another engine, or none, fitted as the one that it says."""
    (tmp_path / "zero.json").write_text(
        '{"zero_optimization": {"stage": 2}, "train_micro_batch_size_per_gpu": "auto"}'
    )

    assert is_named(tmp_path, method, flags) is named


MADE = """\
import torch
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

def with_adamw(base):
    class Own(base):
        def create_optimizer(self):
            self.optimizer = torch.optim.AdamW(self.model.parameters())
            return self.optimizer
    return Own

(args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
TRAINER(model=AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B"), args=args).train()
"""


@pytest.mark.parametrize(
    ("trainer", "is_open"), [("with_adamw(Trainer)", True), ("Trainer", False)]
)
def test_a_class_that_a_function_makes_says_its_optimizer(tmp_path, trainer, is_open):
    """`--optim` was believed beside it."""
    files = {"train.py": MADE.replace("TRAINER", trainer)}
    plan = plan_of(
        tmp_path, "torchrun --nproc_per_node 2 train.py --output_dir out --optim adafactor", files
    )

    assert ("adamw_torch" in plan.origins["optimizer"].may_be) is is_open
