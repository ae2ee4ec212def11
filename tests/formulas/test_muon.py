"""Muon keeps one state of a matrix and AdamW's two of everything else; its iteration makes no more than is counted."""

from __future__ import annotations

import pytest
import torch

import preflight
from preflight import LaunchPlan, estimate
from preflight.derive.costs.optimizer_states import _measured
from preflight.formulas.optimizers import ITERATED

LAYER, HIDDEN, VOCAB = 218_103_808, 4096, 128_256
"""Matrices of one layer of Llama 3.1 8B, and its widths."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(256, 512), (512, 256), (256, 256), (64, 1024)])
def test_torchs_own_has_one_state_and_no_larger_step(shape, dtype):
    size = dtype.itemsize
    state, passing = _measured(torch.optim.Muon, [shape] * 3, dtype, {})

    assert state == size
    assert passing * 3 <= size + ITERATED


def states_of(optimizer, **more):
    plan = LaunchPlan(
        model="meta-llama/Llama-3.1-8B", load_dtype="bf16", optimizer=optimizer,
        micro_batch_size=1, seq_len=512, trainer="transformers", **more,
    )  # fmt: skip
    terms = estimate(plan).terms
    return sum(term.num_bytes for term in terms if term.name.startswith("optimizer states"))


def test_matrices_of_layers_have_one_state_and_the_rest_two():
    saved = states_of("adamw_torch") - states_of("muon")

    assert saved == 2 * 32 * LAYER


def answer(folder, words):
    return preflight.check(words.split(), device="h200-sxm-141", cwd=folder)


LAUNCHES = {
    "llamafactory": "llamafactory-cli train --stage sft --do_train true --model_name_or_path Qwen/Qwen3-8B"
    " --finetuning_type full --bf16 true --cutoff_len 1024 --output_dir out --template qwen3 --dataset alpaca_en_demo"
    " --per_device_train_batch_size 1 --use_muon true",
    "swift": "swift sft --model Qwen/Qwen3-8B --tuner_type full --torch_dtype bfloat16 --max_length 1024"
    " --dataset data.jsonl --per_device_train_batch_size 1 --optimizer muon",
}


@pytest.mark.parametrize("words", LAUNCHES.values(), ids=LAUNCHES)
def test_frameworks_that_have_it_are_priced_with_it_on_one_device(tmp_path, words):
    (tmp_path / "data.jsonl").write_text('{"messages": []}\n')
    report = answer(tmp_path, words)

    assert report.plan.optimizer == "muon"
    assert not report.verdict.unpriced


def test_matrices_that_are_divided_are_named(tmp_path):
    words = (
        "torchrun --nproc_per_node 8 src/train.py" + LAUNCHES["llamafactory"].partition("train")[2]
    )
    sharded = "accelerate launch --use_fsdp --num_processes 8 --fsdp_sharding_strategy FULL_SHARD src/train.py"
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text(
        "from llamafactory.train.tuner import run_exp\n\nrun_exp()\n"
    )
    report = answer(tmp_path, words.replace("torchrun --nproc_per_node 8 src/train.py", sharded))

    assert "the states of muon" in report.verdict.unpriced


@pytest.mark.parametrize(
    ("card", "answer_then"), [("h200-sxm-141", "fits"), ("rtx4090-24", "unknown")]
)
def test_low_rank_states_fit_where_adamws_do_and_refuse_nothing(tmp_path, card, answer_then):
    script = "from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments\n"
    script += "(args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()\n"
    script += 'model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-8B", dtype="bfloat16")\n'
    script += "Trainer(model=model, args=args).train()\n"
    (tmp_path / "train.py").write_text(script)
    single = r".*layers\.[02468]\..*"  # one unit stands for all layers
    words = f"python train.py --output_dir out --optim galore_adamw --optim_target_modules {single} --bf16 true"
    words += " --per_device_train_batch_size 1"
    settings = {"seq_len": 512}
    report = preflight.check(words.split(), device=card, cwd=tmp_path, settings=settings)

    assert report.verdict.answer.value == answer_then
