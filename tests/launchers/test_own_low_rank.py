"""GaLore and APOLLO of LLaMA-Factory, axolotl and ms-swift: what the plan has of their keys."""

from __future__ import annotations

from pathlib import Path

import pytest

import preflight
from preflight.errors import BadInput
from preflight.formulas.optimizers import is_known
from preflight.launch import Adapter, LowRank
from preflight.launchers.llamafactory import LAUNCHER
from preflight.launchers.low_rank import ALL_BUT_THE_HEAD
from preflight.plugins import load_plugins

LLAMAFACTORY = """
model_name_or_path: Qwen/Qwen3-8B
stage: sft
do_train: true
finetuning_type: full
dataset: alpaca_en_demo
template: qwen3
cutoff_len: 512
output_dir: out
per_device_train_batch_size: 1
gradient_accumulation_steps: 1
pure_bf16: true
"""
AXOLOTL = """
base_model: Qwen/Qwen3-8B
datasets: [{path: rows.jsonl, type: alpaca}]
sequence_len: 512
micro_batch_size: 1
gradient_accumulation_steps: 1
num_epochs: 1
learning_rate: 1e-5
output_dir: out
bf16: true
"""
SWIFT = (
    "swift sft --model Qwen/Qwen3-8B --tuner_type full --torch_dtype bfloat16 --max_length 512 --dataset data.jsonl"
    " --per_device_train_batch_size 1"
)
ON_ONE = {"CUDA_VISIBLE_DEVICES": "0"}


def checked(folder: Path, launcher: str, more: str):
    text = {"llamafactory": LLAMAFACTORY, "axolotl": AXOLOTL}.get(launcher, "")
    (folder / "run.yaml").write_text(text + more)
    (folder / "data.jsonl").write_text('{"messages": []}\n')
    words = {
        "llamafactory": "llamafactory-cli train run.yaml",
        "axolotl": "axolotl train run.yaml --num-processes 1",
        "swift": f"{SWIFT} {more}",
    }[launcher]
    return preflight.check(words.split(), device="h200-sxm-141", cwd=folder, env=ON_ONE)


CASES = {
    "llamafactory, by default": ("llamafactory", "use_galore: true\noptim: adamw_torch\n", "galore_adamw", LowRank(16, targets=ALL_BUT_THE_HEAD)),
    "llamafactory, layer by layer": (
        "llamafactory",
        "use_galore: true\ngalore_layerwise: true\ngalore_rank: 64\ngalore_target: mlp,self_attn\noptim: adamw_8bit\n",
        "galore_adamw_8bit",
        LowRank(64, targets=("mlp", "self_attn")),
    ),
    "llamafactory, APOLLO": (
        "llamafactory", "use_apollo: true\napollo_proj: svd\noptim: adamw_torch\n", "apollo_adamw", LowRank(16, targets=ALL_BUT_THE_HEAD),
    ),
    "llamafactory, APOLLO at random": (
        "llamafactory", "use_apollo: true\noptim: adamw_torch\n", "apollo_adamw", LowRank(16, "std", True, ALL_BUT_THE_HEAD),
    ),
    "axolotl": (
        "axolotl", "optimizer: galore_adamw\noptim_args: {rank: 32, proj_type: left}\noptim_target_modules: [attn, mlp]\n",
        "galore_adamw", LowRank(32, "left", targets=("attn", "mlp")),
    ),
    "axolotl, layer by layer": (
        "axolotl", "optimizer: apollo_adamw_layerwise\noptim_args: rank=32\noptim_target_modules: all_linear\n",
        "apollo_adamw_layerwise", LowRank(32, is_random=True, targets="all_linear"),
    ),
    "swift, by default": ("swift", "--use_galore true", "galore_adamw", LowRank(128, targets=ALL_BUT_THE_HEAD)),
    "swift": (
        "swift", "--use_galore true --galore_rank 32 --galore_target_modules q_proj v_proj --optim adafactor",
        "galore_adafactor", LowRank(32, targets=("q_proj", "v_proj")),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("launcher", "more", "optimizer", "low_rank"), CASES.values(), ids=CASES)
def test_what_is_projected(tmp_path, launcher, more, optimizer, low_rank):
    report = checked(tmp_path, launcher, more)

    assert (report.plan.optimizer, report.plan.low_rank) == (optimizer, low_rank)
    assert report.plan.optimizer_in_backward is ("layerwise" in more)
    assert report.verdict.answer.value == "fits"
    assert {found.id for found in report.findings} & {"PF434", "PF141"} == set()


@pytest.mark.parametrize("more", ["--galore_quantization true", "--galore_with_embedding true"])
def test_what_ms_swift_makes_otherwise_is_named(tmp_path, more):
    report = checked(tmp_path, "swift", f"--use_galore true {more}")

    assert report.plan.low_rank is None
    assert "GaLore" in report.verdict.unpriced


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("use_apollo: true\noptim: adafactor\n", "use_apollo takes adamw_torch, not optim adafactor"),
        ("use_galore: true\noptim: sgd\n", "use_galore takes adamw_torch, adafactor"),
        (
            "use_galore: true\noptim: adamw_torch\ngalore_layerwise: true\ngradient_accumulation_steps: 2\n",
            "galore_layerwise steps in backward and cannot accumulate",
        ),
    ],
)  # fmt: skip
def test_what_llamafactory_stops_at(tmp_path, more, says):
    with pytest.raises(BadInput, match=says):
        checked(tmp_path, "llamafactory", more)


@pytest.mark.parametrize("more", ["use_galore: true\n", "use_badam: true\n", ""])
def test_no_adapter_is_written_beside_what_works_without_one(tmp_path, more):
    plan = checked(tmp_path, "llamafactory", more + "optim: adamw_torch\n").plan
    adapted = plan.with_edits({"adapter": Adapter(targets="all-linear"), "load_dtype": "auto"})

    assert (LAUNCHER.write(plan, adapted) is None) is bool(more)


@pytest.mark.parametrize(
    ("more", "says"),
    [("use_galore: true\n", "galore_adamw"), ("use_badam: true\n", "BAdam"), ("", "")],
)
def test_an_adapter_is_offered_in_place_of_what_works_without_one(tmp_path, more, says):
    report = checked(tmp_path, "llamafactory", more + "optim: adamw_torch\n")
    offered = load_plugins().collect(
        "preflight_remedies", plan=report.plan, model=report.model, device=report.device
    )
    told = [f"in place of {says}, whose settings have to be taken out"] * bool(says)

    for remedy in (each for _, each in offered if each.id in ("lora", "qlora")):
        adapted = report.plan.with_edits(remedy.edits)
        assert (adapted.low_rank, adapted.layers_at_a_time) == (None, None)
        assert is_known(adapted.optimizer)
        assert [note for note in remedy.notes if "in place of" in note] == told


def test_the_default_that_galore_does_not_take_is_told(tmp_path):
    """`NotImplementedError: Unknown optim: adamw_torch_fused` (_create_galore_optimizer, 0.9.5)."""
    found = checked(tmp_path, "llamafactory", "use_galore: true\n").findings

    assert [each.severity for each in found if "adamw_torch_fused" in each.message] == ["warning"]
