"""A launch in a checkout of torchtune runs its builders: newer than the table's, or changed."""

from __future__ import annotations

import shlex

import pytest

from preflight.launch import LaunchCommand
from preflight.launchers.torchtune import LAUNCHER
from preflight.models.registry import all_names, find_model, own_names
from preflight.open_values import open_values

BUILDERS = """\
from functools import partial
from torchtune.models.llama3_1._model_builders import llama3_1_8b

def newer_8b():
    return newer(vocab_size=151936, num_layers=36, num_heads=32, num_kv_heads=8, embed_dim=4096,
                 intermediate_dim=12288, max_seq_len=40960, norm_eps=1e-6)

def lora_newer_8b(lora_attn_modules, apply_lora_to_mlp=False, lora_rank=8, quantize_base=False):
    return lora_newer(lora_attn_modules=lora_attn_modules, vocab_size=151936, num_layers=36, num_heads=32,
                      num_kv_heads=8, embed_dim=4096, intermediate_dim=12288, max_seq_len=40960)

def fused():
    decoder = newer(embed_dim=7, max_seq_len=1048576)
    return EarlyFusionModel(decoder)

qlora_newer_8b = partial(lora_newer_8b, quantize_base=True)
as_before = llama3_1_8b
"""
FILES = {
    "torchtune/__init__.py": "",
    "recipes/__init__.py": "",
    "torchtune/models/newer/_model_builders.py": BUILDERS,
    "torchtune/models/llama2/_model_builders.py": "def llama2_7b():\n    return llama2(max_seq_len=8192)\n",
    "torchtune/models/llama3/_model_builders.py": "def llama3_8b(:\n",
}


@pytest.fixture
def read(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def plan_of(component, *lines):
        keys = [f"model: {{_component_: torchtune.models.{component}", *lines]
        text = ", ".join(keys) + "}\nbatch_size: 1\ncheckpointer: {checkpoint_dir: /tmp/Qwen3-8B}\n"
        (tmp_path / "mine.yaml").write_text(text)
        argv = shlex.split(
            "tune run --nproc_per_node 2 full_finetune_distributed --config mine.yaml"
        )
        plan = LAUNCHER.read(LaunchCommand(tuple(argv), {}, str(tmp_path)))
        assert plan is not None
        return plan

    return plan_of


def test_a_builder_that_the_table_does_not_have_is_the_model_of_its_sizes(read):
    plan = read("newer.newer_8b")
    entry = find_model(plan.model)

    assert entry is not None and entry.config["num_hidden_layers"] == 36
    assert (entry.config["hidden_size"], entry.config["intermediate_size"]) == (4096, 12288)
    assert open_values(plan)["seq_len"] == (1, 40960)


def test_its_adapter_and_packed_base_are_read_by_its_own_arguments(read):
    plan = read("newer.qlora_newer_8b", "lora_attn_modules: [q_proj]", "lora_rank: 4")

    assert plan.adapter is not None and plan.adapter.rank == 4
    assert plan.base_quantization is not None


def test_a_builder_without_sizes_is_the_model_that_its_checkpoint_is_named_after(read):
    plan = read("newer.fused")

    assert plan.model is not None
    assert find_model(plan.model) == find_model("Qwen/Qwen3-8B")
    assert open_values(plan)["seq_len"] == (1, 1048576)


def test_a_name_for_a_builder_of_another_file_is_that_one(read):
    assert read("newer.as_before").model == read("llama3_1.llama3_1_8b").model


def test_a_builder_that_the_checkout_changed_takes_what_it_says(read):
    plan = read("llama2.llama2_7b")

    assert plan.model == "meta-llama/Llama-2-7b-hf"
    assert open_values(plan)["seq_len"] == (1, 8192)


def test_what_cannot_be_read_is_the_tables(read):
    plan = read("llama3.llama3_8b")

    assert plan.model == "meta-llama/Meta-Llama-3-8B"
    assert open_values(plan)["seq_len"] == (1, 8192)


def test_a_model_of_some_sizes_is_no_packed_copy_of_it():
    """The nearest name of an owner's may be that of a copy in other numbers, which is no checkpoint to train."""
    packed = {other.name for other in all_names() if other.packing}

    assert packed and packed.isdisjoint(name for names in own_names().values() for name in names)
