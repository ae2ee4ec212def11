"""What a check calls an error is refused: the same setting makes preflight name it and the library stop with its own words."""

from __future__ import annotations

import re
import sys
from functools import partial

import pytest
import tiny_training as lab
from refused_settings import CASES, arguments, flash, sft, trained
from some_plugins import plugins_of
from transformers import Trainer

from preflight.device import DeviceSpec
from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.models import describe
from preflight.rewriting import read_launch
from preflight.units import GIB

TRAIN = "from transformers import HfArgumentParser, Trainer, TrainingArguments\nHfArgumentParser(TrainingArguments)\n"
OLD_TRAIN = TRAIN + "from peft import get_peft_model\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("model"))
    lab.tiny().save_pretrained(path)
    lab.tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def plugins():
    return plugins_of("check_", "read_")


def found_by_preflight(plugins, tmp_path, words, config=None, changes=None):
    """Return id -> severity of what preflight finds in a launch."""
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "old_train.py").write_text(OLD_TRAIN)
    first, *rest = words.split()
    argv = ["python", first, *rest]
    if first == "trl":
        method = rest.pop(0) if rest[:1] and not rest[0].startswith("-") else "sft"
        argv = ["trl", method, *rest]
    argv += ["--output_dir", "out"]
    try:
        plan = read_launch(LaunchCommand(tuple(argv), {}, str(tmp_path)), plugins)
    except BadInput as error:
        return {problem.id: problem.severity for problem in error.problems}
    plan = plan.with_edits(changes or {})
    model = describe(lab.config_of(**{"model_type": "llama", **(config or {})}), "tiny", "test")
    device = DeviceSpec("V100", 31 * GIB, supports_bf16=False, compute_capability=(7, 0))
    items = plugins.collect("preflight_findings", plan=plan, model=model, device=device)
    found = {problem.id: problem.severity for problem in plan.notices}
    return {**found, **{finding.id: finding.severity for _, finding in items}}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.id} {case.words}")
def test_the_library_refuses_what_the_check_names(case, plugins, tmp_path):
    found = found_by_preflight(plugins, tmp_path, case.words, case.config, case.changes)
    with pytest.raises(Exception, match=case.says):
        case.refused()

    assert found.get(case.id) == case.severity


def test_a_quantized_model_without_an_adapter_is_refused(plugins, tmp_path, folder):
    found = found_by_preflight(plugins, tmp_path, "trl --load_in_4bit true")
    model = lab.quantized(folder, load_in_4bit=True)
    with pytest.raises(ValueError, match="You cannot perform fine-tuning on purely quantized"):
        Trainer(model=model, args=arguments())

    assert found["PF416"] == "error"
    with_adapter = "trl --load_in_4bit true --use_peft true --lora_target_modules q_proj v_proj"
    assert "PF416" not in found_by_preflight(plugins, tmp_path, with_adapter)


FUSED = {"fused_linear_cross_entropy": True}
FILES = [
    (
        "PF441",
        "packing: true\nmax_length: null\n",
        lambda: sft(packing=True, max_length=None),
        "`max_length` can't be `None`",
    ),
    (
        "PF442",
        "use_liger_kernel: true\nliger_kernel_config:\n  fused_linear_cross_entropy: true\n",
        lambda: sft(use_liger_kernel=True, liger_kernel_config=FUSED),
        "is not supported: it replaces the model's forward",
    ),
]


@pytest.mark.parametrize(("id", "text", "refused", "says"), FILES, ids=[f[0] for f in FILES])
def test_the_library_refuses_a_file_that_the_check_names(
    plugins, tmp_path, id, text, refused, says
):
    (tmp_path / "sft.yaml").write_text(text)
    found = found_by_preflight(plugins, tmp_path, "trl --config sft.yaml")
    with pytest.raises(ValueError, match=says):
        refused()

    assert found.get(id) == "error"


MISSING = [
    (flash, "the package for FlashAttention2 doesn't seem to be installed"),
    (partial(trained, use_liger_kernel=True), "liger-kernel >= 0.3.0 is not available"),
    (partial(trained, optim="galore_adamw"), "You need to install `galore_torch`"),
    (partial(trained, optim="apollo_adamw"), "You need to install `apollo_torch`"),
    (partial(trained, optim="lomo"), "You need to install `lomo_optim`"),
    (partial(trained, optim="grokadamw"), "Please install grokadamw"),
    (partial(trained, optim="schedule_free_adamw"), "You need to install `schedulefree`"),
    (partial(trained, optim="stable_adamw"), "You need to install `torch-optimi`"),
    (partial(trained, optim="adamw_torch_8bit"), "You need to have `torchao>=0.4.0`"),
    (partial(trained, optim="adamw_anyprecision"), "pytorch/torchdistx"),
]


@pytest.mark.parametrize(("needs_it", "says"), MISSING, ids=[says for _, says in MISSING])
def test_a_missing_package_is_refused(needs_it, says):
    """None of these is installed for the tests; PF433 is about them."""
    with pytest.raises((ImportError, ValueError), match=re.escape(says)):
        needs_it()


def test_bitsandbytes_that_cannot_be_imported_is_refused(monkeypatch):
    """Python itself takes a None in sys.modules for a module that is not there."""
    from transformers.utils import is_bitsandbytes_available

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    is_bitsandbytes_available.cache_clear()
    try:
        with pytest.raises(ImportError, match="You need to install `bitsandbytes`"):
            trained(optim="paged_adamw_8bit")
    finally:
        monkeypatch.undo()
        is_bitsandbytes_available.cache_clear()


VALID = [
    "train.py --bf16 false",
    "train.py --optim galore_adamw --optim_target_modules mlp",
    "train.py --load_best_model_at_end true --eval_strategy steps --eval_steps 100 --save_steps 200",
    "train.py --load_best_model_at_end true --eval_strategy epoch --save_strategy epoch",
    "trl --packing true --bf16 false --dtype float32",
    "trl --use_peft true --lora_target_modules q_proj v_proj --bf16 false",
    "trl --use_peft true --lora_target_modules all-linear --bf16 false",
    "trl grpo --num_generations 4 --bf16 false",
    "trl dpo --use_peft true --lora_target_modules q_proj v_proj --bf16 false",
]


@pytest.mark.parametrize("words", VALID)
def test_a_launch_that_the_libraries_take_has_no_error(words, plugins, tmp_path):
    found = found_by_preflight(plugins, tmp_path, words)

    assert "error" not in found.values()
