"""Checkpoints that torch's own module makes around each layer, inside FSDP's wrapper."""

from __future__ import annotations

from dataclasses import replace

import pytest
from launch_of_script import plan_of

from preflight.formulas.layers.checkpointing import is_reentrant, recomputes_wrapped_layers

SCRIPT = """\
import argparse, functools
import torch
from peft import LoraConfig, get_peft_model
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    CheckpointImpl, apply_activation_checkpointing, checkpoint_wrapper,
)
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

parser = argparse.ArgumentParser()
parser.add_argument("--reentrant", action="store_true")
args = parser.parse_args()
torch.distributed.init_process_group("nccl")
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.1-8B", torch_dtype=torch.bfloat16)
model = get_peft_model(model, LoraConfig(r=8))
BEFORE
model = FSDP(model, device_id=0)
AFTER
adam = torch.optim.AdamW(model.parameters(), lr=1e-4)
loader = torch.utils.data.DataLoader(rows, batch_size=2)
model.train()
for batch in loader:
    model(**batch).loss.backward()
    adam.step()
    adam.zero_grad()
"""
KIND = "wrapper = functools.partial(checkpoint_wrapper, checkpoint_impl=CheckpointImpl.{})\n"
CALL = "apply_activation_checkpointing(model, checkpoint_wrapper_fn=wrapper, check_fn=lambda m: isinstance(m, LlamaDecoderLayer))"
PLAIN = "apply_activation_checkpointing(model, check_fn=lambda m: isinstance(m, LlamaDecoderLayer))"


def read(tmp_path, after="", before="", flags=""):
    text = SCRIPT.replace("BEFORE", before).replace("AFTER", after)
    command = f"torchrun --nproc-per-node 2 train.py {flags}"
    return plan_of(tmp_path, command, {"train.py": text})


def by_flag(name: str) -> str:
    return KIND.format(f"REENTRANT if {name} else CheckpointImpl.NO_REENTRANT") + CALL


@pytest.mark.parametrize(
    ("after", "flags", "reentrant"),
    [
        (KIND.format("NO_REENTRANT") + CALL, "", False),
        (KIND.format("REENTRANT") + CALL, "", True),
        (by_flag("args.reentrant"), "--reentrant", True),
        (by_flag("args.reentrant"), "", False),
        (by_flag("len(rows) > 4"), "", None),
        (PLAIN, "", None),
        ("wrapper = functools.partial()\n" + CALL, "", None),
    ],
)
def test_which_kind_it_is_stands_in_the_script(tmp_path, after, flags, reentrant):
    plan = read(tmp_path, after, flags=flags)

    assert (plan.engine, plan.activation_checkpointing) == ("fsdp1", "full")
    assert plan.checkpointing_reentrant is reentrant
    assert plan.script_facts.wrapped_checkpoints is not None


@pytest.mark.parametrize(
    ("given", "reentrant"),
    [
        ("{'use_reentrant': True}", True),
        ("gradient_checkpointing_kwargs={'use_reentrant': False}", False),
        ("{}", True),
        ("", None),
        ("options_of(args)", None),
    ],
)
def test_what_the_models_own_method_is_told_is_read(tmp_path, given, reentrant):
    plan = read(tmp_path, f"model.gradient_checkpointing_enable({given})")

    assert plan.activation_checkpointing == "full"
    assert plan.checkpointing_reentrant is reentrant


@pytest.mark.parametrize(("release", "reentrant"), [("2.1.0", True), ("2.2.0", False)])
def test_where_nobody_says_it_is_the_kind_of_the_release(tmp_path, release, reentrant):
    plan = read(tmp_path, PLAIN)

    assert is_reentrant(replace(plan, versions={"torch": release})) is reentrant


def test_no_input_is_held_by_hooks_of_a_wrapper_around_the_checkpoint(tmp_path):
    """transformers before 4.53 checkpoints around FSDP's wrapper; torch's module, put into a model that is wrapped, inside."""
    own = read(tmp_path, KIND.format("REENTRANT") + CALL)
    usual = read(tmp_path, "model.gradient_checkpointing_enable({'use_reentrant': True})")
    old = {"transformers": "4.48.1", "torch": "2.2.0"}

    assert not recomputes_wrapped_layers(replace(own, versions=old))
    assert recomputes_wrapped_layers(replace(usual, versions=old))


def test_a_checkpoint_that_is_there_before_fsdp_is_around_it(tmp_path):
    plan = read(tmp_path, before=KIND.format("REENTRANT") + CALL)

    assert plan.activation_checkpointing == "full"
    assert plan.script_facts.wrapped_checkpoints is None
