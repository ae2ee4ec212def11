"""A rule of TRL or transformers is said where their class reads the value, and of no class of the script's own.

Scripts as people have them: arguments derived from TrainingArguments with fields named like TRL's, a trainer that gets
plain TrainingArguments, TRL's parser beside the Trainer of transformers, an argparse loop with familiar flags.
"""

from __future__ import annotations

import inspect
import json

import pytest
from some_plugins import plugins_of
from trl.trainer.callbacks import SyncRefModelCallback

import preflight
from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.rewriting import read_launch

GRPO = """\
from dataclasses import dataclass, field
from typing import Optional
from trl import GRPOConfig, GRPOTrainer, ModelConfig, TrlParser
from transformers import TrainingArguments


@dataclass
class SamplerConfig({base}):
    generation_batch_size: Optional[int] = field(default=4)
    num_generations: int = 8
    sync_ref_model: bool = False
    beta: float = 0.04


class SamplerTrainer(GRPOTrainer):
    def __init__(self, model, args, **kwargs):
        {above}


args, model_args = TrlParser((SamplerConfig, ModelConfig)).parse_args_and_config()
SamplerTrainer(model_args.model_name_or_path, args).train()
"""
CALLS = "super().__init__(model, args=args, **kwargs)"
REFUSED_BY_TRL = "--num_generations 8 --generation_batch_size 6 --per_device_train_batch_size 3"
SYNCED = f"{REFUSED_BY_TRL} --sync_ref_model true --beta 0.0"


@pytest.fixture(scope="module")
def plugins():
    return plugins_of("check_", "read_")


def read(plugins, folder, script, words, **files):
    (folder / "train.py").write_text(script)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return read_launch(LaunchCommand(tuple(words.split()), {}, str(folder)), plugins)


def errors(plugins, plan):
    """Return the ids of what is said of engine and training as an error."""
    asked = {"plan": plan, "model": None, "device": None, "estimate": None}
    found = [finding for _, finding in plugins.collect("preflight_findings", **asked)]
    return sorted({f.id for f in found if f.severity == "error" and f.id[2] in "34"})


@pytest.mark.parametrize(
    ("base", "above", "expected"),
    [
        ("GRPOConfig", CALLS, ["PF437", "PF439"]),
        ("TrainingArguments", CALLS, []),  # no rule of TRL's reads it
        ("GRPOConfig", "self.model, self.args = model, args", ["PF437"]),
        ("Elsewhere", CALLS, []),
    ],
)
def test_rules_of_grpo_hold_for_arguments_and_trainers_of_trl(
    plugins, tmp_path, base, above, expected
):
    script = GRPO.format(base=base, above=above)
    plan = read(plugins, tmp_path, script, f"torchrun --nproc-per-node 2 train.py {SYNCED}")

    assert errors(plugins, plan) == expected


def test_trl_reads_its_own_config_alone():
    """What the parameters above stand for: one class refuses the batch, the other one never looks at it."""
    trl = pytest.importorskip("trl")
    from dataclasses import make_dataclass

    from transformers import TrainingArguments

    common = {"output_dir": "x", "report_to": [], "use_cpu": True, "bf16": False}
    batch = {"generation_batch_size": 6, "per_device_train_batch_size": 4, "num_generations": 8}
    with pytest.raises(ValueError, match="must be divisible by the global batch size"):
        trl.GRPOConfig(**common, **batch)
    fields = [("generation_batch_size", int, 4), ("num_generations", int, 8)]
    own = make_dataclass("SamplerConfig", fields, bases=(TrainingArguments,))

    assert own(**common, **batch).generation_batch_size == 6


SFT = """\
import transformers
from dataclasses import dataclass
from trl import SFTTrainer


@dataclass
class Own:
    model_name: str = "gpt2"
    max_seq_length: int = 512


parser = transformers.HfArgumentParser(({arguments}, Own))
training_args, own = parser.parse_args_into_dataclasses()
model = transformers.AutoModelForCausalLM.from_pretrained(own.model_name)
SFTTrainer(model=model, args=training_args).train()
"""
FSDP = json.dumps({"activation_checkpointing": True, "transformer_layer_cls_to_wrap": ["Block"]})
FSDP_WORDS = (
    "torchrun --nproc-per-node 2 train.py --output_dir o --fsdp full_shard --fsdp_config f.json"
)


def test_plain_arguments_keep_their_defaults_under_trls_trainer(plugins, tmp_path):
    """PF203: the trainer's own checkpointing is off in TrainingArguments, and on in SFTConfig since TRL 0.22."""
    plain = SFT.format(arguments="transformers.TrainingArguments")
    plan = read(plugins, tmp_path, plain, FSDP_WORDS, f__json=FSDP)

    assert plan.activation_checkpointing == "full"
    assert plan.mixed_precision == "no"
    assert plan.trainer == "trl"

    trls = SFT.format(arguments="SFTConfig").replace("import SFTT", "import SFTConfig, SFTT")
    with pytest.raises(BadInput, match="the trainer's own activation checkpointing too"):
        read(plugins, tmp_path, trls, FSDP_WORDS, f__json=FSDP)


def test_sft_trainer_takes_plain_arguments_as_they_are():
    trl = pytest.importorskip("trl")
    import inspect

    from transformers import TrainingArguments

    plain = TrainingArguments(output_dir="x", report_to=[], use_cpu=True)
    made = trl.SFTConfig(**plain.to_dict())
    own = trl.SFTConfig(output_dir="x", report_to=[], use_cpu=True, bf16=False)

    assert "args = SFTConfig(**dict_args)" in inspect.getsource(trl.SFTTrainer.__init__)
    assert made.gradient_checkpointing is False and made.bf16 is False
    assert own.gradient_checkpointing is True


def test_a_collator_of_trl_does_not_make_trls_trainer(plugins, tmp_path):
    script = SFT.format(arguments="transformers.TrainingArguments")
    script = script.replace("from trl import SFTTrainer", "from trl import DataCollatorForX")
    script = script.replace("SFTTrainer(", "transformers.Trainer(")
    plan = read(plugins, tmp_path, script, "torchrun --nproc-per-node 2 train.py")

    assert plan.trainer == "transformers"
    assert plan.activation_checkpointing == "none"


LOOP = '''\
"""A loop of one's own; compare Trainer(model, TrainingArguments(...)) of transformers, or trl's:

from trl import SFTTrainer
"""
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--optimizer", default="adamw")
parser.add_argument("--save_strategy", default="no")
parser.add_argument("--load_best_model_at_end", action="store_true")
args = parser.parse_args()  # not HfArgumentParser
'''


def test_what_a_docstring_names_is_not_used(plugins, tmp_path):
    words = "torchrun --nproc-per-node 2 train.py --optimizer galore_adamw --load_best_model_at_end"
    plan = read(plugins, tmp_path, LOOP, words)

    assert plan.trainer is None
    assert errors(plugins, plan) == []


OWN_PARSER = """\
from transformers import Seq2SeqTrainingArguments
from settings import parse

args = parse(Seq2SeqTrainingArguments)
"""


def test_a_parser_of_ones_own_makes_no_error_of_flags_that_look_familiar(plugins, tmp_path):
    """A framework's own parser may turn bf16 on by another flag, and has other optimizers."""
    config = {"bf16": {"enabled": True}, "zero_optimization": {"stage": 2}}
    words = "deepspeed --num_gpus 2 train.py --deepspeed ds.json --torch_dtype bfloat16 --optim galore_adamw"
    plan = read(plugins, tmp_path, OWN_PARSER, words, ds__json=json.dumps(config))

    assert plan.mixed_precision == "bf16"
    assert errors(plugins, plan) == []


STRATEGIES = """\
import fire
import transformers


def train(base: str = "gpt2"):
    transformers.Trainer(args=transformers.TrainingArguments(
        output_dir="o", {name}="steps", save_strategy="steps", load_best_model_at_end=True,
        eval_steps=200, save_steps=200))


fire.Fire(train)
"""


def test_a_parameter_that_fire_takes_is_no_slip_of_a_trainers(plugins, tmp_path):
    script = STRATEGIES.format(name="eval_strategy").replace(
        '"gpt2")', '"gpt2", eval_step: int = 80)'
    )
    words = "torchrun --nproc-per-node 2 train.py --eval_step 80 --save_step 80"
    plan = read(plugins, tmp_path, script, words)
    said = [
        notice.message for notice in plan.notices if "is not a trainer argument" in notice.message
    ]

    assert [message.partition(" ")[0] for message in said] == ["--save_step"]


@pytest.mark.parametrize("version", ["4.38.0", "4.45.0"])
def test_a_strategy_under_its_old_name_is_read(plugins, tmp_path, version):
    """PF436: `evaluation_strategy` was its name until transformers 4.41, and went with 4.46."""
    (tmp_path / "requirements.txt").write_text(f"transformers=={version}\ntorch==2.3.0\n")
    script = STRATEGIES.format(name="evaluation_strategy")
    plan = read(plugins, tmp_path, script, "torchrun --nproc-per-node 2 train.py")

    assert errors(plugins, plan) == []


def test_a_name_that_the_release_has_dropped_is_refused(plugins, tmp_path):
    """PF123, in a call of the script's own: only where the release is the one whose arguments were read."""
    pins = "transformers==5.24.0\ntrl==1.16.0\ntorch==2.13.0\n"
    (tmp_path / "requirements.txt").write_text(pins)
    words = "torchrun --nproc-per-node 2 train.py"
    with pytest.raises(
        BadInput, match="evaluation_strategy is not an argument of TrainingArg"
    ) as e:
        read(plugins, tmp_path, STRATEGIES.format(name="evaluation_strategy"), words)
    (problem,) = e.value.problems

    assert problem.fix == "it is eval_strategy now"
    assert problem.where == "train.py:7"
    read(plugins, tmp_path, STRATEGIES.format(name="eval_strategy"), words)


def test_transformers_stops_at_the_old_name():
    transformers = pytest.importorskip("transformers")
    with pytest.raises(TypeError, match="unexpected keyword argument 'evaluation_strategy'"):
        transformers.TrainingArguments(output_dir="o", evaluation_strategy="steps")


@pytest.mark.parametrize(
    ("stage", "words", "num_models"),
    [
        (3, "--sync_ref_model true", 2),
        (3, "--sync_ref_model false", 0),
        (2, "--sync_ref_model true", 0),
    ],
)
def test_models_that_are_gathered_to_synchronise_them_are_priced(
    tmp_path, stage, words, num_models
):
    """TRL's callback gathers every parameter of policy and reference at once under ZeRO-3 alone."""
    source = inspect.getsource(SyncRefModelCallback)
    assert "zero_stage == 3" in source and "GatheredParameters" in source

    (tmp_path / "ds.json").write_text(f'{{"zero_optimization": {{"stage": {stage}}}}}')
    launch = (
        "accelerate launch --use_deepspeed --deepspeed_config_file ds.json --num_processes 8 -m trl.scripts.dpo"
        f" --model_name_or_path meta-llama/Llama-3.1-8B --dataset_name x --output_dir o {words}"
    )
    report = preflight.check(launch.split(), device="h100-sxm-80", cwd=tmp_path, env={})
    gathered = [t.num_bytes for t in report.estimate.terms if "synchronise" in t.name]

    # fewer steps than it takes to come so far are not refused for it
    named = {notice.takes for notice in report.plan.notices if "synchronise" in notice.unpriced}
    assert named == ({"less"} if num_models else set())
    assert sum(gathered) == num_models * 8_030_261_248 * 2


WHOSE_ARGUMENTS = """\
from transformers import AutoModelForCausalLM, HfArgumentParser
{imports}

args, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-0.6B")
Trainer(model=model, args=args).train()
"""
OF_ITS_OWN = "from mine.arguments import TrainingArguments\nfrom mine.loop import Trainer"
OWN_ARGUMENTS = (
    "from pydantic import BaseModel\n\nclass TrainingArguments(BaseModel):\n    rows: int = 1\n"
)
OWN_LOOP = "class Trainer:\n    def train(self): ...\n"
WHOSE = {
    "its own, of no library": (OF_ITS_OWN, OWN_ARGUMENTS, None),
    "its own, of none at all": (OF_ITS_OWN, OWN_ARGUMENTS.replace("(BaseModel)", "(object)"), None),
    "its own, on theirs": (OF_ITS_OWN, OWN_ARGUMENTS.replace("pydantic import BaseModel", "transformers import TrainingArguments as BaseModel"), "transformers"),
    "its own, on what is not here": (OF_ITS_OWN, OWN_ARGUMENTS.replace("from pydantic import BaseModel", "from .more import BaseModel"), "transformers"),
    "another library's": ("from lib.training import Trainer, TrainingArguments", "", None),
    "another library's arguments": ("from lib.training import TrainingArguments\nfrom transformers import Trainer", "", "transformers"),
    "on theirs": ("from sentence_transformers import SentenceTransformerTrainer as Trainer, SentenceTransformerTrainingArguments as TrainingArguments", "", "transformers"),
}  # fmt: skip


@pytest.mark.parametrize(("imports", "arguments", "trainer"), WHOSE.values(), ids=WHOSE)
def test_arguments_are_transformers_where_the_import_leads_to_them(
    plugins, tmp_path, imports, arguments, trainer
):
    (tmp_path / "mine").mkdir()
    for name, text in {"__init__": "", "arguments": arguments, "loop": OWN_LOOP}.items():
        (tmp_path / "mine" / f"{name}.py").write_text(text)
    plan = read(plugins, tmp_path, WHOSE_ARGUMENTS.format(imports=imports), "python train.py")

    assert plan.trainer == trainer
