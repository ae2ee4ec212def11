"""What a loop of somebody's own makes, read beside the config that its launcher is given."""

from __future__ import annotations

import json

import pytest
from launch_of_script import plan_of as plan_of_script

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.unpriced_names import UNWRAPPED

LOOP = """\
import argparse
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM
{imports}

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=1)
args = parser.parse_args()
accelerator = Accelerator(mixed_precision="bf16")
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", dtype="bfloat16"{loads})
{loader}
model, loader = accelerator.prepare(model, loader)
for batch in loader:
    accelerator.backward(model(**batch).loss)
"""
LOADER = "loader = DataLoader(train_rows, shuffle=True, batch_size=args.batch_size)"
ONE_EACH = {
    "train_micro_batch_size_per_gpu": 1,
    "bf16": {"enabled": True},
    "zero_optimization": {"stage": 2},
}


@pytest.fixture
def plan_of(tmp_path):
    plugins = load_plugins()
    (tmp_path / "zero2.json").write_text(json.dumps(ONE_EACH))

    def plan(*flags: str, imports: str = "", loads: str = "", loader: str = LOADER):
        text = LOOP.format(imports=imports, loads=loads, loader=loader)
        (tmp_path / "train.py").write_text(text)
        words = ("accelerate", "launch", "--num_processes", "2", "--use_deepspeed")
        words = (*words, "--deepspeed_config_file", "zero2.json", "train.py", *flags)
        request = Request("h100-sxm-80", {"seq_len": 512})
        return check_launch(LaunchCommand(words, {}, str(tmp_path)), plugins, request)

    return plan


def test_a_loader_gives_the_batch_that_it_was_made_with(plan_of):
    assert plan_of("--batch-size", "2").plan.micro_batch_size == 2

    other = "loader = engine.deepspeed_io(train_rows)"
    assert plan_of("--batch-size", "2", loader=other).plan.micro_batch_size == 1


ATTENTIONS = {
    "nothing": ("", ()),
    "a word": (', attn_implementation="eager"', ()),
    "the older word": (', _attn_implementation="eager"', ()),
    "what a function finds": (", attn_implementation=best()", (None, "sdpa", "eager")),
}


@pytest.mark.parametrize("loads, may_be", ATTENTIONS.values(), ids=ATTENTIONS)
def test_an_attention_that_is_chosen_when_it_runs_is_open(plan_of, loads, may_be):
    plan = plan_of(loads=loads).plan

    assert plan.origins["attention"].may_be == may_be
    if "eager" in loads:
        assert plan.attention == "eager"


def test_a_sequence_that_is_divided_over_ranks_refuses_nothing(plan_of):
    ring = "from ring_flash_attn import zigzag_ring_flash_attn_func as attend\nattend.patch()"
    whole = plan_of("--batch-size", "4096")
    divided = plan_of("--batch-size", "4096", imports=ring)

    assert whole.verdict.answer.value == "does_not_fit"
    assert divided.verdict.unpriced == ("a sequence that is divided over ranks",)
    assert plan_of(imports=ring).verdict.answer.value == "fits"


ELSEWHERE = """\
import transformers
import {package}

@dataclass
class TrainingArguments({base}):
    more: int = 1

parser = transformers.HfArgumentParser((TrainingArguments,))
(args,) = parser.parse_args_into_dataclasses()
model = transformers.AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", dtype="bfloat16")
transformers.Trainer(model=model, args=args).train()
"""
BASES = {
    "the library's": ("torch", "transformers.TrainingArguments", 8, ()),
    "another's of that name": ("kit", "kit.utils.TrainingArguments", None, ("no", "bf16")),
    "another's": ("kit", "kit.trainers.MaskedConfig", None, ("no", "bf16")),
}


@pytest.mark.parametrize(("package", "base", "batch", "may_be"), BASES.values(), ids=BASES)
def test_arguments_that_are_built_on_anothers_class_have_no_known_defaults(
    tmp_path, package, base, batch, may_be
):
    (tmp_path / "train.py").write_text(ELSEWHERE.format(package=package, base=base))
    words = ("torchrun", "--nproc_per_node", "1", "train.py", "--output_dir", "out")
    command = LaunchCommand(words, {}, str(tmp_path))
    plan = check_launch(command, load_plugins(), Request("h100-sxm-80")).plan

    assert plan.micro_batch_size == batch
    assert plan.origins["mixed_precision"].may_be == may_be


BARE = """\
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, {imports}

def train(rank=0, world=2):
    model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", dtype="bfloat16"){wrapped}
    optimizer = torch.optim.SGD(model.parameters())
    for batch in DataLoader(train_rows, shuffle=True, batch_size=3):
        model(**batch).loss.backward()
        optimizer.step()

{runs}
"""


def _bare(tmp_path, command, wrapped="", runs="train()", imports="AutoTokenizer"):
    return plan_of_script(
        tmp_path, command, {"t.py": BARE.format(imports=imports, wrapped=wrapped, runs=runs)}
    )


@pytest.mark.parametrize(
    ("command", "wrapped", "runs", "is_named"),
    [
        ("torchrun --nproc_per_node 2 t.py", "", "train()", True),
        ("torchrun --nproc_per_node 2 t.py", "\n    model = DDP(model)", "train()", False),
        ("torchrun --nproc_per_node 2 t.py", "\n    fully_shard(model)", "train()", False),
        ("torchrun --nproc_per_node 1 t.py", "", "train()", True),
        ("python t.py", "", "train()", False),
        ("python t.py", "", "mp.spawn(train, nprocs=2)", True),
    ],
)
def test_ranks_without_an_engine_have_no_buckets_of_one(tmp_path, command, wrapped, runs, is_named):
    """They were refused for DDP's buckets, which a model that nothing wraps does not have."""
    notices = _bare(tmp_path, command, wrapped, runs).notices

    assert [each.takes for each in notices if each.unpriced == UNWRAPPED] == ["less"] * is_named


@pytest.mark.parametrize("imports", ["Trainer, TrainingArguments", "Trainer as T"])
def test_an_import_alone_makes_no_trainer(tmp_path, imports):
    """The loop's batch and optimizer were those of TrainingArguments, which a line of it imports and none makes."""
    plan = _bare(tmp_path, "python t.py", imports=imports)

    assert (plan.micro_batch_size, plan.optimizer, plan.trainer) == (3, "sgd", None)
