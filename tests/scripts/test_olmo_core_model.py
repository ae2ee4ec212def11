"""Models that OLMo-core's factories make in a script, and what of the command or the script changes them."""

from __future__ import annotations

from pathlib import Path

import pytest

import preflight
from preflight.models import describe
from preflight.own_tables import table_beside
from preflight.scripts.settings import olmo_core_model
from preflight.unpriced_names import OLMO_CORE, OLMO_LOOP, Z_LOSS

TABLE = table_beside(olmo_core_model.__file__, "olmo_core_models.json")
SCRIPT = """\
import argparse
from olmo_core.config import DType
from olmo_core.data import TokenizerConfig
from olmo_core.distributed.parallel import DataParallelType
from olmo_core.float8 import Float8Config
from olmo_core.nn.transformer import TransformerConfig
from olmo_core.optim import AdamWConfig
from olmo_core.train import prepare_training_environment
from olmo_core.train.callbacks import LMEvaluatorCallbackConfig
from olmo_core.train.train_module import TransformerDataParallelConfig, TransformerTrainModuleConfig

def train(opts, overrides):
    tokenizer = TokenizerConfig.dolma2()
    model = TransformerConfig.olmo2_1B_v2(vocab_size=tokenizer.padded_vocab_size())
    module = TransformerTrainModuleConfig(
        rank_microbatch_size=4096, max_sequence_length=2048, optim=AdamWConfig(lr=1e-3), compile_model=True,
        dp_config=TransformerDataParallelConfig(
            name=DataParallelType.fsdp, param_dtype=DType.bfloat16, reduce_dtype=DType.float32))
    prepare_training_environment()
    trainer = make(module.build(model.build(init_device="meta")))
    trainer.fit()

parser = argparse.ArgumentParser()
parser.add_argument("name")
parser.add_argument("--factory", default="llama3_8B")
train(*parser.parse_known_args())
"""
COMMAND = "torchrun --nproc_per_node 8 train.py first"


def answer_of(folder: Path, text: str, command: str = COMMAND) -> preflight.Report:
    (folder / "train.py").write_text(text)
    return preflight.check(command.split(), device="h100-sxm-80", cwd=folder)


@pytest.mark.parametrize("name", TABLE["factories"])
def test_a_factory_has_as_many_parameters_as_its_config(name):
    made = dict(TABLE["factories"][name])
    params = made.pop("params")

    assert describe({**made, "vocab_size": 1024}, name, "here").num_params == params


@pytest.mark.parametrize(
    "before, after, kind, layers, words",
    [
        ("", "", "olmo2", 16, 100352),
        ("TransformerConfig.olmo2_1B_v2(", "getattr(TransformerConfig, opts.factory)(", "llama", 32, 100352),
        ("TransformerConfig.olmo2_1B_v2(", "TransformerConfig.olmo3_7B(", "olmo3", 32, 100352),
        ("TokenizerConfig.dolma2()", "TokenizerConfig.gpt2()", "olmo2", 16, 50304),
        ("tokenizer.padded_vocab_size()", "32000", "olmo2", 16, 32000),
    ],
)  # fmt: skip
def test_the_model_of_a_factory_is_read_with_the_words_of_its_tokenizer(
    before, after, kind, layers, words, tmp_path
):
    report = answer_of(tmp_path, SCRIPT.replace(before, after) if before else SCRIPT)
    config = report.plan.model_config

    assert report.verdict.answer.value == "fits"
    assert report.verdict.bounded == (OLMO_CORE,)
    assert (config["model_type"], config["num_hidden_layers"], config["vocab_size"]) == (kind, layers, words)  # fmt: skip


@pytest.mark.parametrize(
    "before, after",
    [
        ("TransformerConfig.olmo2_1B_v2(", "TransformerConfig.olmoe_1B_7B("),
        ("padded_vocab_size()", "padded_vocab_size(64)"),
        ("padded_vocab_size())", "padded_vocab_size(), n_layers=4)"),
        ("    module = ", "    model.block.feed_forward.hidden_size = 512\n    module = "),
        ("    module = ", "    other = TransformerConfig.olmo2_7B(vocab_size=1024)\n    module = "),
    ],
)
def test_a_model_that_is_not_the_tables_is_not_known(before, after, tmp_path):
    report = answer_of(tmp_path, SCRIPT.replace(before, after))

    assert report.plan.model_config is None
    assert "model" in report.verdict.missing


@pytest.mark.parametrize("word", ["--train_module.rank_microbatch_size=8192", "model.n_layers=2"])
def test_words_that_override_the_script_leave_its_loop_named(word, tmp_path):
    report = answer_of(tmp_path, SCRIPT, f"{COMMAND} {word}")

    assert report.verdict.answer.value == "unknown"
    assert OLMO_LOOP in report.verdict.unpriced


def test_callbacks_that_evaluate_take_rows_of_a_micro_batch(tmp_path):
    text = SCRIPT.replace(
        "    trainer.fit()", "    add(LMEvaluatorCallbackConfig())\n    trainer.fit()"
    )

    assert answer_of(tmp_path, text).plan.eval_micro_batch_size == 2
    assert answer_of(tmp_path, SCRIPT).plan.eval_micro_batch_size is None


@pytest.mark.parametrize(
    "given, bounded",
    [
        ("compile_model=True, z_loss_multiplier=1e-5", (OLMO_CORE,)),
        ("compile_model=False, z_loss_multiplier=1e-5", (OLMO_CORE, Z_LOSS)),
        ("compile_model=False, z_loss_multiplier=None", (OLMO_CORE,)),
        ("compile_model=True, float8_config=Float8Config(enabled=False)", (OLMO_CORE,)),
    ],
)
def test_sums_of_the_logits_are_bounded_where_nothing_is_compiled(given, bounded, tmp_path):
    report = answer_of(tmp_path, SCRIPT.replace("compile_model=True", given))

    assert report.verdict.answer.value == "fits"
    assert set(report.verdict.bounded) == set(bounded)


def test_in_a_checkout_of_the_library_its_files_are_none_of_the_scripts(tmp_path):
    package = tmp_path / "olmo_core" / "train"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    (package / "__init__.py").write_text(
        "from copy import deepcopy\n\n\ndef prepare_training_environment(model=None):\n    return deepcopy(model)\n"
    )

    assert answer_of(tmp_path, SCRIPT).verdict.answer.value == "fits"
