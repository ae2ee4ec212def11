"""What a check calls an error is refused: the same setting makes preflight name it and the library stop with its own words."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
import tiny_training as lab
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from transformers.trainer_optimizer import _setup_low_rank_optimizer
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, ModelConfig, SFTConfig, SFTTrainer

from preflight.device import DeviceSpec
from preflight.errors import BadInput
from preflight.families import describe
from preflight.launch import LaunchCommand
from preflight.pipeline import read_launch
from preflight.plugins import BUILTIN_HOOKS, load_plugins
from preflight.units import GIB

TRAIN = "from transformers import HfArgumentParser, Trainer, TrainingArguments\nHfArgumentParser(TrainingArguments)\n"
OLD_TRAIN = TRAIN + "from peft import get_peft_model\n"
QV = ("q_proj", "v_proj")


class Case(NamedTuple):
    """One setting: as words of a launch, and as the library is given it."""

    id: str
    words: str
    refused: Callable[[], object]
    says: str
    config: dict | None = None
    changes: dict | None = None
    """Plan fields and versions that no flag of this machine's libraries gives."""
    severity: str = "error"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("model"))
    lab.tiny().save_pretrained(path)
    lab.tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def plugins():
    return load_plugins(builtins=[n for n in BUILTIN_HOOKS if n.startswith(("check_", "read_"))])


def arguments(kind=TrainingArguments, **values):
    common = {"output_dir": "/nonexistent", "report_to": [], "use_cpu": True}
    if kind is not TrainingArguments:
        common["bf16"] = False
    return kind(**{**common, **values})


def sft(peft=None, **values):
    return SFTTrainer(
        model=lab.tiny(),
        args=arguments(SFTConfig, **values),
        train_dataset=lab.texts(),
        processing_class=lab.tokenizer(),
        peft_config=peft,
    )


def dpo(peft=None, **values):
    return DPOTrainer(
        model=lab.tiny(),
        args=arguments(DPOConfig, **values),
        train_dataset=lab.preferences(),
        processing_class=lab.tokenizer(),
        peft_config=peft,
    )


def grpo(peft=None, **values):
    few = {"per_device_train_batch_size": 2, "num_generations": 2}
    return GRPOTrainer(
        model=lab.tiny(),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=arguments(GRPOConfig, **few, **values),
        train_dataset=lab.preferences().select_columns(["prompt"]),
        processing_class=lab.tokenizer(),
        peft_config=peft,
    )


def adapted(model_type="llama", changes=None, **lora):
    return get_peft_model(lab.tiny(model_type, **(changes or {})), LoraConfig(**lora))


def unscaled():
    model = lab.tiny().half()
    optimizer, scaler = torch.optim.AdamW(model.parameters()), torch.amp.GradScaler("cpu")
    scaler.scale(model(**lab.batch()).loss).backward()
    scaler.unscale_(optimizer)


def without_input_gradients():
    model = adapted(target_modules=list(QV))
    reentrant = partial(checkpoint, use_reentrant=True)
    # As transformers 4 turned checkpointing on.
    model.get_base_model()._set_gradient_checkpointing(True, reentrant)
    model.train()
    model(**lab.batch()).loss.backward()


def low_rank(name, **values):
    known = {name: torch.optim.AdamW}
    return _setup_low_rank_optimizer(
        arguments(optim=name, **values), lab.tiny(), name, known, {}, {}
    )


def trained(**values):
    args = arguments(max_steps=1, save_strategy="no", **values)
    return Trainer(model=lab.tiny(), args=args, train_dataset=lab.rows()).train()


def flash():
    config = lab.tiny().config
    config._attn_implementation = "flash_attention_2"
    return AutoModelForCausalLM.from_config(config)


CASES = [
    Case("PF401", "train.py --bf16 true", lambda: arguments(bf16=True, use_cpu=False),
         "Your setup doesn't support bf16/gpu", severity="warning"),
    Case("PF402", "train.py --fp16 true", unscaled, "Attempting to unscale FP16 gradients",
         changes={"load_dtype": "fp16"}),
    Case("PF405", "trl --use_peft true", lambda: adapted("phi3"),
         "Please specify `target_modules`", {"model_type": "phi3"}),
    Case("PF407", "train.py --bf16 true --fp16 true", lambda: arguments(bf16=True, fp16=True),
         "At most one of fp16 and bf16 can be True"),
    Case("PF415", "trl --load_in_4bit true --load_in_8bit true",
         lambda: ModelConfig(load_in_4bit=True, load_in_8bit=True),
         "can't use 8 bit and 4 bit precision at the same time"),
    Case("PF421", "trl --use_peft true --lora_target_modules query value",
         lambda: adapted(target_modules=["query", "value"]), "not found in the base model"),
    Case("PF421", "trl --use_peft true --lora_target_modules q_proj",
         lambda: adapted(target_modules="q_proj"), "not found in the base model"),
    Case("PF421", "trl --use_peft true --lora_target_modules q_proj,v_proj",
         lambda: adapted(target_modules="q_proj,v_proj"), "not found in the base model"),
    Case("PF423", "trl --use_peft true --lora_target_modules all-linear",
         lambda: adapted("qwen3_moe", lab.EXPERTS, target_modules="all-linear", lora_dropout=0.05),
         "ParamWrapper does not work with lora_dropout != 0",
         {"model_type": "qwen3_moe", **lab.EXPERTS}),
    Case("PF423", "trl --use_peft true --lora_target_modules w1 w2 w3 --lora_dropout 0 --use_dora true",
         lambda: adapted("mixtral", lab.EXPERTS, target_modules=["w1", "w2", "w3"], use_dora=True),
         "ParamWrapper does not work with use_dora=True",
         {"model_type": "mixtral", **lab.EXPERTS}),
    Case("PF423", "trl --use_peft true --lora_target_modules q_proj up_proj --lora_dropout 0",
         lambda: adapted("olmoe", lab.EXPERTS, target_modules=["q_proj", "up_proj"]),
         "Cannot convert PEFT target\\(s\\) up_proj without also targeting gate_proj",
         {"model_type": "olmoe", **lab.EXPERTS}),
    Case("PF426", "trl --use_peft true --lora_target_modules q_proj lm_head",
         lambda: sft(LoraConfig(target_modules=["q_proj", "lm_head"])),
         "Applying a PEFT adapter to `lm_head` is not supported"),
    Case("PF428", "old_train.py --gradient_checkpointing true --use_lora true --lora_r 8",
         without_input_gradients, "element 0 of tensors does not require grad",
         changes={"versions": {"transformers": "4.49.0"}}),
    Case("PF432", "trl grpo --auto_find_batch_size true",
         lambda: arguments(GRPOConfig, auto_find_batch_size=True),
         "auto_find_batch_size is not supported by GRPO"),
    Case("PF434", "train.py --optim galore_adamw", lambda: low_rank("galore_adamw"),
         "You need to define `optim_target_modules`"),
    Case("PF434", "train.py --optim apollo_adamw_layerwise --optim_target_modules mlp --gradient_accumulation_steps 4",
         lambda: low_rank("apollo_adamw_layerwise", optim_target_modules=["mlp"], gradient_accumulation_steps=4),
         "does not support gradient accumulation"),
    Case("PF435", "trl --optim adamw_8bits", lambda: arguments(optim="adamw_8bits"),
         "adamw_8bits is not a valid OptimizerNames"),
    Case("PF436", "train.py --load_best_model_at_end true",
         lambda: arguments(load_best_model_at_end=True),
         "requires the save and eval strategy to match"),
    Case("PF436", "train.py --load_best_model_at_end true --eval_strategy steps --eval_steps 100 --save_steps 250",
         lambda: arguments(load_best_model_at_end=True, eval_strategy="steps", eval_steps=100, save_steps=250),
         "round multiple of the evaluation steps"),
    Case("PF436", "train.py --lr_scheduler_type reduce_lr_on_plateau",
         lambda: arguments(lr_scheduler_type="reduce_lr_on_plateau"), "requires an eval strategy"),
    Case("PF437", "trl grpo --per_device_train_batch_size 2 --gradient_accumulation_steps 2 --num_generations 8",
         lambda: arguments(GRPOConfig, per_device_train_batch_size=2, gradient_accumulation_steps=2, num_generations=8),
         "must be divisible by num_generations"),
    Case("PF437", "trl grpo --num_generations 1", lambda: arguments(GRPOConfig, num_generations=1),
         "at least 2 generations per prompt"),
    Case("PF437", "trl grpo --generation_batch_size 8 --steps_per_generation 1",
         lambda: arguments(GRPOConfig, generation_batch_size=8, steps_per_generation=1),
         "can not be both configured"),
    Case("PF437", "trl grpo --generation_batch_size 12 --per_device_train_batch_size 8",
         lambda: arguments(GRPOConfig, generation_batch_size=12, per_device_train_batch_size=8),
         "must be divisible by the global batch size"),
    Case("PF439", "trl dpo --sync_ref_model true --use_peft true --lora_target_modules q_proj v_proj",
         lambda: dpo(LoraConfig(target_modules=list(QV)), sync_ref_model=True),
         "while using a PEFT model, which is currently not supported"),
    Case("PF439", "trl dpo --sync_ref_model true --precompute_ref_log_probs true",
         lambda: dpo(sync_ref_model=True, precompute_ref_log_probs=True),
         "together with `precompute_ref_log_probs=True`"),
    Case("PF439", "trl grpo --sync_ref_model true", lambda: grpo(sync_ref_model=True),
         "while `beta=0.0`"),
    Case("PF440", "trl --padding_free true", lambda: sft(padding_free=True),
         "`max_length` is not enforced"),
    Case("PF444", 'trl --gradient_checkpointing false --gradient_checkpointing_kwargs {"selective":true}',
         lambda: sft(gradient_checkpointing=False, gradient_checkpointing_kwargs={"selective": True}),
         "requires `gradient_checkpointing=True`"),
    Case("PF444", 'trl --gradient_checkpointing_kwargs {"selective":true,"use_reentrant":true}',
         lambda: sft(gradient_checkpointing_kwargs={"selective": True, "use_reentrant": True}),
         "requires non-reentrant gradient checkpointing"),
]  # fmt: skip


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
