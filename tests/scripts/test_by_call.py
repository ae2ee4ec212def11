"""Checkpointing and optimizers that a script turns on by a call count; what may be turned on is open."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

SCRIPT = """\
import argparse
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

parser = argparse.ArgumentParser()
parser.add_argument("--save_memory", action="store_true")
args = parser.parse_args()

{classes}

def main():
    model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16{loaded})
    {call}
    training = TrainingArguments(output_dir="out", per_device_train_batch_size=2, bf16=True{told})
    {trainer}(model=model, args=training{given}).train()

main()
"""
LAUNCH = "torchrun --nproc_per_node 8 train.py"


def script(
    call: str = "pass",
    *,
    loaded: str = "",
    told: str = "",
    given: str = "",
    trainer: str = "Trainer",
    classes: str = "",
) -> dict[str, str]:
    call = call.replace("\n", "\n    ")
    return {
        "train.py": SCRIPT.format(
            call=call, loaded=loaded, told=told, given=given, trainer=trainer, classes=classes
        )
    }


IN_8_BITS = ", quantization_config=BitsAndBytesConfig(load_in_8bit=True)"
LORA = "\nmodel = get_peft_model(model, LoraConfig(r=8))"


@pytest.mark.parametrize(
    "call, loaded, expected",
    [
        ("model.gradient_checkpointing_enable()", "", "full"),
        ("model = prepare_model_for_kbit_training(model)" + LORA, IN_8_BITS, "full"),
        ("model = prepare_model_for_kbit_training(model)" + LORA, ", load_in_8bit=True", "full"),
        ("model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)" + LORA, IN_8_BITS, "none"),
        ("model = prepare_model_for_kbit_training(model)" + LORA, "", "none"),
        ("pass", "", "none"),
    ],
)  # fmt: skip
def test_a_call_turns_checkpointing_on(call, loaded, expected, tmp_path):
    plan = plan_of(tmp_path, LAUNCH, script(call, loaded=loaded))

    assert plan.activation_checkpointing == expected
    assert "activation_checkpointing" not in opens(plan)


def test_a_call_under_a_flag_counts_with_it(tmp_path):
    files = script("if args.save_memory:\n    model.gradient_checkpointing_enable()")

    assert plan_of(tmp_path, LAUNCH, files).activation_checkpointing == "none"
    with_it = plan_of(tmp_path, f"{LAUNCH} --save_memory", files)
    assert with_it.activation_checkpointing == "full"


def test_checkpointing_that_is_turned_off_again_is_open(tmp_path):
    again = "model.gradient_checkpointing_enable()\nmodel.gradient_checkpointing_disable()"

    assert "activation_checkpointing" in opens(plan_of(tmp_path, LAUNCH, script(again)))
    told = script(again, told=", gradient_checkpointing=True")  # Trainer turns it on when it trains
    assert plan_of(tmp_path, LAUNCH, told).activation_checkpointing == "full"


def test_a_call_that_may_run_leaves_checkpointing_open(tmp_path):
    maybe = "if torch.cuda.mem_get_info()[0] < 2**33:\n    model.gradient_checkpointing_enable()"

    assert "activation_checkpointing" in opens(plan_of(tmp_path, LAUNCH, script(maybe)))
    told = script(maybe, told=", gradient_checkpointing=True")
    plan = plan_of(tmp_path, LAUNCH, told)
    assert plan.activation_checkpointing == "full"
    assert "activation_checkpointing" not in opens(plan)


@pytest.mark.parametrize(
    ("base", "method", "lines", "is_open"),
    [
        ("TrainerCallback", "on_train_begin", "model.gradient_checkpointing_disable()", True),
        ("Trainer", "training_step", "model.gradient_checkpointing_disable()", True),
        ("Trainer", "training_step", "model.gradient_checkpointing_disable()\n        look(model)\n        model.gradient_checkpointing_enable()", False),
        ("Trainer", "__init__", "model.gradient_checkpointing_disable()", False),
        ("Trainer", "training_step", "pass", False),
    ],
)  # fmt: skip
def test_checkpointing_that_a_method_turns_off_in_training_is_open(
    base, method, lines, is_open, tmp_path
):
    own = f"class Mine({base}):\n    def {method}(self, model, *more):\n        {lines}\n"
    own = "from transformers import TrainerCallback\n" + own
    is_trainer = base == "Trainer"
    files = script(
        told=", gradient_checkpointing=True",
        given="" if is_trainer else ", callbacks=[Mine()]",
        trainer="Mine" if is_trainer else "Trainer",
        classes=own,
    )

    assert ("activation_checkpointing" in opens(plan_of(tmp_path, LAUNCH, files))) is is_open


@pytest.mark.parametrize(
    "given, expected",
    [
        (", optimizers=(torch.optim.SGD(model.parameters(), lr=1.0), None)", "sgd"),
        (", optimizer_cls_and_kwargs=(torch.optim.SGD, {'lr': 1.0})", "sgd"),
        (", optimizers=(None, schedule)", "adamw_torch_fused"),
    ],
)
def test_an_optimizer_that_the_trainer_is_given_is_the_optimizer(given, expected, tmp_path):
    plan = plan_of(tmp_path, LAUNCH, script(given=given))

    assert plan.optimizer == expected
    assert "optimizer" not in opens(plan)


def test_an_optimizer_that_nothing_names_is_open(tmp_path):
    given = plan_of(tmp_path, LAUNCH, script(given=", optimizers=(make(model), None)"))
    own = "class Mine(Trainer):\n    def create_optimizer(self):\n        self.optimizer = make(self.model)\n"
    made = plan_of(tmp_path, LAUNCH, script(trainer="Mine", classes=own))

    assert "optimizer" in opens(given)
    assert "optimizer" in opens(made)
    kept = (
        "class Mine(Trainer):\n    def create_optimizer(self):\n"
        "        cls, kwargs = Trainer.get_optimizer_cls_and_kwargs(self.args)\n"
        "        self.optimizer = cls(groups(self.model), **kwargs)\n"
    )
    assert "optimizer" not in opens(plan_of(tmp_path, LAUNCH, script(trainer="Mine", classes=kept)))


@pytest.mark.parametrize(
    ("classes", "after", "is_open"),
    [
        ("def create_optimizer(self):\n        self.optimizer = made(self.model)", "", True),
        ("def get_optimizer_cls_and_kwargs(self, args):\n        return torch.optim.AdamW, {}", "", True),
        ("def create_optimizer_and_scheduler(self, num_training_steps):\n        self.optimizer = torch.optim.AdamW(self.model.parameters())", "", True),
        ("def create_optimizer_and_scheduler(self, num_training_steps):\n        self.create_optimizer()", "", False),
        ("pass", "trainer.create_optimizer = made", True),
        ("pass", "trainer.get_optimizer_cls_and_kwargs = made", True),
        ("pass", "trainer.optimizer = made(model)", True),
    ],
)  # fmt: skip
def test_a_flag_says_nothing_of_an_optimizer_that_is_made_otherwise(
    classes, after, is_open, tmp_path
):
    files = script(trainer="Mine", classes=f"class Mine(Trainer):\n    {classes}\n")
    files["train.py"] = (
        files["train.py"]
        .replace("import AutoModel", "import HfArgumentParser, AutoModel")
        .replace("parser = argparse.ArgumentParser()", "parser = HfArgumentParser(TrainingArguments)")
        .replace('training = TrainingArguments(output_dir="out", per_device_train_batch_size=2, bf16=True)', "training = args")
        .replace("Mine(model=model, args=training).train()", f"trainer = Mine(model=model, args=training)\n    {after}\n    trainer.train()")
        .replace("args = parser.parse_args()", "args, = parser.parse_args_into_dataclasses()")
    )  # fmt: skip
    plan = plan_of(tmp_path, f"{LAUNCH} --output_dir out --optim adafactor", files)

    assert ("optimizer" in opens(plan)) is is_open
    assert (plan.optimizer == "adafactor") is not is_open


@pytest.mark.parametrize(
    ("after", "rows", "is_open"),
    [
        ("trainer.evaluate()", 8, False),
        ("trainer.predict(rows)", 8, False),
        ("if rows:\n        trainer.evaluate()", None, True),
        ("if training.eval_strategy != 'no':\n        trainer.evaluate()", None, False),
        ("evaluate.load('accuracy')", None, False),
        ("pass", None, False),
    ],
)
def test_an_evaluation_by_a_call_is_one(after, rows, is_open, tmp_path):
    files = script()
    files["train.py"] = files["train.py"].replace(
        "Trainer(model=model, args=training).train()",
        f"trainer = Trainer(model=model, args=training)\n    trainer.train()\n    {after}",
    )
    plan = plan_of(tmp_path, LAUNCH, files)

    assert plan.eval_micro_batch_size == rows
    assert ("eval_micro_batch_size" in opens(plan)) is is_open


LOADER = """
class Own(Trainer):
    def get_{kind}_dataloader(self, rows=None):
        return {made}
"""


@pytest.mark.parametrize(
    ("kind", "made", "field", "is_open"),
    [
        ("train", "DataLoader(rows, batch_size=64)", "micro_batch_size", True),
        ("train", "super().get_train_dataloader()", "micro_batch_size", False),
        ("train", "DataLoader(rows, batch_size=self._train_batch_size)", "micro_batch_size", False),
        ("eval", "DataLoader(rows, batch_size=64)", "eval_micro_batch_size", True),
        ("eval", "DataLoader(rows, batch_size=self.args.eval_batch_size)", "eval_micro_batch_size", False),
    ],
)  # fmt: skip
def test_a_loader_of_a_trainers_own_subclass_decides_its_rows(kind, made, field, is_open, tmp_path):
    files = script(
        trainer="Own",
        classes=LOADER.format(kind=kind, made=made),
        told=", eval_strategy='steps', per_device_eval_batch_size=2",
    )
    plan = plan_of(tmp_path, LAUNCH, files)

    assert (field in plan.script_facts.unread) is is_open


ANOTHER = """\
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B")
judge = judge_of(rows)
{call}
Trainer(model=model, args=TrainingArguments("o", per_device_train_batch_size=2), train_dataset=rows).train()
"""


@pytest.mark.parametrize(
    ("call", "checkpointing", "compiles"),
    [
        ("model.gradient_checkpointing_enable()", "full", False),
        ("judge.gradient_checkpointing_enable()", "none", False),
        ("def prepared(it):\n    it.gradient_checkpointing_enable()\nprepared(judge)", "none", False),
        ("def prepared(it):\n    it.gradient_checkpointing_enable()\nprepared(model)", "full", False),
        ("model = torch.compile(model)", "none", True),
        ("judge = torch.compile(judge)", "none", False),
    ],
)  # fmt: skip
def test_what_a_call_makes_of_another_model_is_none_of_the_one_that_trains(tmp_path, call, checkpointing, compiles):  # fmt: skip
    plan = plan_of(tmp_path, "python train.py", {"train.py": ANOTHER.format(call=call)})

    assert (plan.activation_checkpointing, plan.torch_compile) == (checkpointing, compiles)


EIGHT_BITS = """\
import argparse
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer
parser = argparse.ArgumentParser()
parser.add_argument("--use_qlora", action="store_true")
args = parser.parse_args()
bits = BitsAndBytesConfig(load_in_8bit=True) if args.use_qlora else None
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", quantization_config=bits)
Trainer(model).train()
"""


def test_a_script_that_loads_in_8_bits_under_a_switch_for_qlora_is_believed(tmp_path):
    """It was bad input: the switch was taken for 4 bits, beside the 8 of the script."""
    plan = plan_of(tmp_path, "python train.py --use_qlora", {"train.py": EIGHT_BITS})

    assert plan.base_quantization.scheme == "int8"
