"""Small training scripts, put together from independent choices; every choice stands in some script of SCRIPTS.

A script trains a Llama of two layers, in the folder `m`, on rows of 300 words, `rows.jsonl`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from textwrap import indent

SETTINGS = {"model_path": "m", "max_length": 48, "batch_size": 2, "total_batch_size": 8, "use_ckpt": True}  # fmt: skip
"""What every script is told: by its command, or a file or a default of its own."""
_OTHERS = {"max_length": 16, "batch_size": 1, "total_batch_size": 4}
"""Defaults that the command line replaces."""
_DEFAULTS = {**SETTINGS, **_OTHERS, "use_ckpt": False}
_FLAGS = ["--max_length", "48", "--batch_size=2", "--total_batch_size", "8", "--use_ckpt"]
_TYPED = [(name, type(value).__name__, value) for name, value in _DEFAULTS.items()]
_ADDED = "\n".join(
    f'parser.add_argument("--{name}", action="store_true")'
    if kind == "bool"
    else f'parser.add_argument("--{name}", type={kind}, default={value!r})'
    for name, kind, value in _TYPED
)
_SIGNATURE = ", ".join(f"{name}: {kind} = {value!r}" for name, kind, value in _TYPED)
_MAIN = '\n\n\nif __name__ == "__main__":\n    '
_YAML = "\n".join(f"{name}: {str(v).lower() if v is True else v}" for name, v in SETTINGS.items())
_DASHED = [each.replace("_", "-") if each.startswith("--") else each for each in _FLAGS]
ENTRIES = {
    "argparse": (f"import argparse\nparser = argparse.ArgumentParser()\n{_ADDED}\nargs = parser.parse_args()\nBODY", "args.", _FLAGS, ""),
    "dataclass": (
        "from dataclasses import dataclass\nfrom transformers import HfArgumentParser\n\n\n@dataclass\nclass Arguments:\n"
        + "\n".join(f"    {name}: {kind} = {value!r}" for name, kind, value in _TYPED)
        + "\n\n\ndef main():\n    (args,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()\nINDENTED" + _MAIN + "main()",
        "args.", _FLAGS, ""),
    "constants": ("\n".join(f"{n.upper()} = {v!r}" for n, v in SETTINGS.items()) + "\n\n\ndef main():\nINDENTED" + _MAIN + "main()", "CONSTANT", [], ""),
    "typer": (f"import typer\n\n\ndef train({_SIGNATURE}):\nINDENTED{_MAIN}typer.run(train)", "", _DASHED, ""),
    "click": (
        "import click\n\n\n@click.command()\n"
        + "\n".join(f'@click.option("--{n}", {"is_flag=True" if k == "bool" else f"default={v!r}, type={k}"})' for n, k, v in _TYPED)
        + f"\ndef train({', '.join(SETTINGS)}):\nINDENTED{_MAIN}train()", "", _FLAGS, ""),
    "file under flags": (
        'import argparse\nimport yaml\nparser = argparse.ArgumentParser()\nparser.add_argument("--config")\n' + _ADDED
        + "\nknown, _ = parser.parse_known_args()\nparser.set_defaults(**yaml.safe_load(open(known.config)))\nargs = parser.parse_args()\nBODY",
        "args.", ["--config", "run.yaml", "--batch_size", "2"], _YAML.replace("batch_size: 2", "batch_size: 1", 1)),
    "file": ("import yaml\nfrom types import SimpleNamespace\nargs = SimpleNamespace(**yaml.safe_load(open('run.yaml')))\nBODY", "args.", [], _YAML),
}  # fmt: skip
"""How a script is told -> its text around what it does, what stands before a setting's name, its words, its file."""

_LORA = 'LoraConfig(r=RANK, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")'
MODELS = {
    "whole": "",
    "bf16": "model = model.to(torch.bfloat16)",
    "adapter": f"from peft import LoraConfig, get_peft_model\nmodel = get_peft_model(model, {_LORA.replace('RANK', '4')})",
    "merged and again": f"from peft import LoraConfig, get_peft_model\nmodel = get_peft_model(model, {_LORA.replace('RANK', '4')}).merge_and_unload()\nmodel = get_peft_model(model, {_LORA.replace('RANK', '16')})",
    "head alone": "for name, p in model.named_parameters():\n    p.requires_grad = name.startswith('lm_head')",
}  # fmt: skip
CHECKPOINTS = {
    "none": "",
    "by a flag": "if @use_ckpt:\n    model.gradient_checkpointing_enable()",
    "by a call": 'model.gradient_checkpointing_enable({"use_reentrant": False})',
    "off again": "model.gradient_checkpointing_enable()\nmodel.gradient_checkpointing_disable()",
    "by its parts": "from functools import partial\nfrom torch.utils.checkpoint import checkpoint\nmodel._set_gradient_checkpointing(True, partial(checkpoint, use_reentrant=False))",
}
_LOAD = 'import json\ndata = [json.loads(line)["text"] for line in open("rows.jsonl")]\n'
_BATCH = '\n    return {"input_ids": ids, "labels": ids}\n'
ROWS = {
    "cut and filled": _LOAD + 'def collate(texts):\n    ids = tokenizer(texts, truncation=True, padding="max_length", max_length=@max_length, return_tensors="pt")["input_ids"]' + _BATCH,
    "sliced": _LOAD + 'def collate(texts):\n    ids = torch.tensor([tokenizer(text)["input_ids"][: @max_length] for text in texts])' + _BATCH,
    "made up": "data = torch.randint(0, 90, (24, @max_length))\ndef collate(rows):\n    ids = torch.stack(list(rows))" + _BATCH,
    "rounded up": _LOAD + 'def collate(texts):\n    rows = tokenizer(texts, truncation=True, max_length=@max_length)["input_ids"]\n    width = (max(map(len, rows)) + 63) // 64 * 64\n    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])' + _BATCH,
    "two of one": _LOAD + 'def collate(texts):\n    both = [text for text in texts] + [text[:60] for text in texts]\n    ids = tokenizer(both, truncation=True, padding=True, max_length=@max_length, return_tensors="pt")["input_ids"]' + _BATCH,
    "in blocks": "from datasets import load_dataset\n" + 'data = load_dataset("json", data_files="rows.jsonl", split="train")\ndata = data.map(lambda rows: tokenizer(rows["text"]), batched=True, remove_columns=data.column_names)\n'
    "def group(rows):\n    ids = sum(rows['input_ids'], [])\n    total = len(ids) // @max_length * @max_length\n    return {'input_ids': [ids[i : i + @max_length] for i in range(0, total, @max_length)]}\n"
    "data = data.map(group, batched=True, remove_columns=data.column_names)\ndef collate(rows):\n    ids = torch.tensor([row['input_ids'] for row in rows])" + _BATCH,
}  # fmt: skip
MICRO = {
    "as it is": "rows_at_once = @batch_size",
    "of all ranks": 'rows_at_once = @total_batch_size // int(os.environ.get("WORLD_SIZE", 1))',
    "times two": "rows_at_once = @batch_size * 2",
    "set again": "rows_at_once = @batch_size\nif rows_at_once < 3:\n    rows_at_once = 3",
}
OPTIMIZERS = {"AdamW": "torch.optim.AdamW(PARAMETERS, lr=1e-4)", "SGD": "torch.optim.SGD(PARAMETERS, lr=1e-4, momentum=0.9)"}  # fmt: skip
_STEP = "for batch in LOADER:\n    loss = model(**MOVED).loss\n    GRADIENT\n    optimizer.step()\n    optimizer.zero_grad()\n"
ROUNDS = {
    "one": f"model.train()\n{_STEP}",
    "two loaders in turn": f"second = DataLoader(data, batch_size=rows_at_once * 2, collate_fn=collate)\nmodel.train()\n{_STEP}{_STEP.replace('LOADER', 'second')}",
    "left in evaluation": "model.train()\nfor epoch in range(2):\n" + indent(f"{_STEP}model.eval()\n", "    "),
    "never in training": _STEP,
}  # fmt: skip
_SUB = "class Own(Trainer):\n    def METHOD\n\n\n"
TRAINERS = {
    "its own": "",
    "own optimizer": "create_optimizer(self, *given):\n        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4)\n        return self.optimizer",
    "own loader": "get_train_dataloader(self):\n        return DataLoader(self.train_dataset, batch_size=self.args.train_batch_size * 2, collate_fn=self.data_collator)",
    "own loss": "compute_loss(self, model, inputs, return_outputs=False, **kwargs):\n        both = {key: torch.cat([value, value]) for key, value in inputs.items()}\n        return model(**both).loss",
}  # fmt: skip
KINDS = {
    "trainer": ("python", ""),
    "accelerate": ("python", "from accelerate import Accelerator\naccelerator = Accelerator()\n"),
    "plain": ("python", ""),
    "ranks": ("torchrun --nproc_per_node 2", "import torch.distributed as dist\ndist.init_process_group('gloo')\n"),
    "trainer on ranks": ("torchrun --nproc_per_node 2", ""),
}  # fmt: skip
AXES = {"entry": ENTRIES, "kind": KINDS, "model": MODELS, "checkpoints": CHECKPOINTS, "rows": ROWS, "micro": MICRO, "optimizer": OPTIMIZERS, "rounds": ROUNDS, "trainer": TRAINERS}  # fmt: skip


@dataclass(frozen=True)
class Script:
    """A script with its command; what it was made of is its name."""

    choices: dict[str, str]
    text: str
    launcher: str
    words: list[str]
    files: dict[str, str] = field(default_factory=dict)


def script_of(choices: dict[str, str]) -> Script:
    """Return the script of one choice of every axis."""
    around, before, words, settings = ENTRIES[choices["entry"]]
    kind = choices["kind"]
    launcher, starts = KINDS[kind]
    head = f"{starts}model = AutoModelForCausalLM.from_pretrained(@model_path)\ntokenizer = AutoTokenizer.from_pretrained(@model_path)\n"
    parts = [head, MODELS[choices["model"]], CHECKPOINTS[choices["checkpoints"]], ROWS[choices["rows"]], MICRO[choices["micro"]]]  # fmt: skip
    imports = "import os\nimport torch\nfrom torch.utils.data import DataLoader\nfrom transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments\n\n\n"
    if kind.startswith("trainer"):
        method = TRAINERS[choices["trainer"]]
        imports += _SUB.replace("METHOD", method) if method else ""
        parts.append(
            "arguments = TrainingArguments('out', max_steps=2, report_to=[], save_strategy='no', remove_unused_columns=False, "
            "use_cpu=not torch.cuda.is_available(), per_device_train_batch_size=rows_at_once)\n"
            f"{'Own' if method else 'Trainer'}(model, arguments, data_collator=collate, train_dataset=data).train()"
        )
    else:
        imports = imports.replace(", Trainer, TrainingArguments", "")
        parameters = "[p for p in model.parameters() if p.requires_grad]"
        parts.append("loader = DataLoader(data, batch_size=rows_at_once, collate_fn=collate)")
        parts.append(
            "model = torch.nn.parallel.DistributedDataParallel(model)" if kind == "ranks" else ""
        )
        parts.append(
            f"optimizer = {OPTIMIZERS[choices['optimizer']].replace('PARAMETERS', parameters)}"
        )
        is_accelerates = kind == "accelerate"
        parts.append("model, optimizer, loader = accelerator.prepare(model, optimizer, loader)" if is_accelerates else "")  # fmt: skip
        gradient = "accelerator.backward(loss)" if is_accelerates else "loss.backward()"
        steps = ROUNDS[choices["rounds"]].replace("LOADER", "loader").replace("MOVED", "batch")
        parts.append(steps.replace("GRADIENT", gradient))
    body = "\n".join(each for each in parts if each)
    for name in SETTINGS:
        body = body.replace(f"@{name}", name.upper() if before == "CONSTANT" else f"{before}{name}")
    text = imports + around.replace("INDENTED", indent(body, "    ")).replace("BODY", body) + "\n"
    return Script(choices, text, launcher, words, {"run.yaml": settings} if settings else {})


def scripts(seed: int) -> Iterator[Script]:
    """Yield scripts that have every choice of every axis, as few as its longest axis has, in an order that the seed gives."""
    shuffled = {name: random.Random(f"{seed} {name}").sample([*axis], len(axis)) for name, axis in AXES.items()}  # fmt: skip
    loops = [each for each in shuffled["kind"] if not each.startswith("trainer")]
    trainers = [each for each in KINDS if each.startswith("trainer")]
    for turn in range(max(map(len, AXES.values())) + 1):
        chosen = {name: order[turn % len(order)] for name, order in shuffled.items()}
        # what a loop or a trainer alone has is had by the turns of each
        half, of_trainer = divmod(turn, 2)
        chosen["kind"] = (trainers if of_trainer else loops)[half % len(trainers if of_trainer else loops)]  # fmt: skip
        chosen["trainer"] = shuffled["trainer"][half % len(TRAINERS)]
        chosen["rounds"] = shuffled["rounds"][half % len(ROUNDS)]
        yield script_of(chosen)
