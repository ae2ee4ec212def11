"""What training flags mean for the plan, against the objects that the libraries build from the same flags."""

from __future__ import annotations

import importlib
import re
import shlex

import pytest
from said_versions import named_libraries

from preflight.errors import BadInput
from preflight.launch import Adapter, BaseQuantization, LaunchCommand
from preflight.trainers.arguments import read_trainer_arguments

VERSIONS = {"transformers": "5.24.0", "trl": "1.16.0", "torch": "2.13.0"}
HF = "from transformers import HfArgumentParser, TrainingArguments\n"
LOOP = "import sys\nfrom accelerate import Accelerator\nread(sys.argv)\n"


def read(line, tmp_path, script="trl.scripts.sft", text="", versions=VERSIONS):
    if text:
        (tmp_path / script).write_text(text)
    argv = tuple(shlex.split(line))
    command, libraries = LaunchCommand(argv, cwd=str(tmp_path)), named_libraries(versions)
    return read_trainer_arguments(argv, 0, command, libraries, script)


def values(arguments):
    return {name: setting.value for name, setting in arguments.settings.items()}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--fp16",
        "--bf16 false",
        "--bf16 false --fp16 false",
        "--gradient_checkpointing false",
        "--no_gradient_checkpointing",
        "--activation_checkpointing false",
        "--activation_checkpointing true --gradient_checkpointing false",
        "--optim adafactor --max_grad_norm 0.3",
        "--per_device_train_batch_size 3 --gradient_accumulation_steps 7",
        "--gradient_checkpointing_kwargs '{\"use_reentrant\": true}'",
    ],
)
def test_arguments_are_those_of_the_real_sft_config(line, tmp_path):
    make_parser = importlib.import_module("trl.scripts.sft").make_parser
    _, config, _, _ = make_parser().parse_args_and_config([*shlex.split(line), "--use_cpu"])
    arguments = read(line, tmp_path).arguments

    for name in (
        "bf16",
        "fp16",
        "activation_checkpointing",
        "gradient_checkpointing",
        "max_grad_norm",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "learning_rate",
        "adam_beta1",
        "weight_decay",
        "warmup_steps",
        "max_length",
    ):
        assert arguments[name].value == getattr(config, name), name
    assert arguments["optim"].value == config.optim.value


def test_trls_defaults_are_assumed_and_named(tmp_path):
    arguments = read("", tmp_path)

    assert values(arguments) == {
        "objective": "sft",
        "micro_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "seq_len": 1024,
        "sequence_kind": "padded",
        "mixed_precision": "bf16",
        "optimizer": "adamw_torch_fused",
        "max_grad_norm": 1.0,
        "activation_checkpointing": "full",
        "attention": "sdpa",
        "load_dtype": "fp32",
        "loss": "chunked_linear",
    }
    assumed = {name for name in arguments.settings if arguments.origins[name].assumed}
    assert set(arguments.settings) - assumed == {"objective"}
    assert arguments.origins["seq_len"].where == "default of trl 1.16.0"
    assert arguments.origins["micro_batch_size"].where == "default of transformers 5.24.0"


def test_trl_counts_a_length_below_nothing_from_the_end(tmp_path):
    arguments = read("--max_length -1", tmp_path)

    assert "seq_len" not in arguments.settings
    assert len([1, 2, 3][slice(None, -1)]) == 2  # as sft_trainer.py cuts rows


def test_the_trainers_defaults_are_not_trls(tmp_path):
    arguments = read("--output_dir out", tmp_path, "train.py", HF)
    found = values(arguments)

    assert "seq_len" not in found
    assert "mixed_precision" not in found
    assert found["load_dtype"] is None
    assert found["activation_checkpointing"] == "none"
    assert found["loss"] == "full_logits"


def test_a_loop_of_its_own_has_no_defaults(tmp_path):
    arguments = read("--lr 1", tmp_path, "train.py", LOOP)

    assert arguments.trainer == "plain_loop"
    assert set(arguments.settings) == {"attention"}  # decided where the model is loaded
    assert arguments.arguments == {}


def test_old_versions_have_their_own_defaults(tmp_path):
    old = read("", tmp_path, versions={"trl": "0.18.2", "transformers": "4.52.4"})

    assert values(old)["activation_checkpointing"] == "none"
    assert values(old)["load_dtype"] == "fp32"
    assert values(old)["loss"] == "full_logits"
    assert values(old)["optimizer"] == "adamw_torch"
    assert "mixed_precision" not in values(old)


def test_a_library_that_is_missing_is_said_to_be_missing(tmp_path):
    arguments = read("", tmp_path, versions={})

    assert "trl is not installed here" in arguments.origins["seq_len"].reason


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("--packing", "sequence_kind", "packed"),
        ("--max_length 1000 --pad_to_multiple_of 64", "seq_len", 1024),
        ("--pad_to_multiple_of 4096", "seq_len", 4096),
        ("--max_length 1000 --pad_to_multiple_of auto", "seq_len", 1000),
        ("--packing --packing_strategy wrapped", "sequence_kind", "fixed"),
        ("--gradient_checkpointing_kwargs '{\"selective\": true}'", "activation_checkpointing", "selective_op"),
        ("--activation_checkpointing_kwargs '{\"every_n_layers\": 2}'", "activation_checkpointing", "selective_every_2"),
        ("--activation_checkpointing_kwargs '{\"offload\": true}'", "offload_activations", "cpu"),
        ("--activation_offloading", "offload_activations", "cpu"),
        ("--attn_implementation kernels-community/flash-attn2", "attention", "flash_attention_2"),
        ("--attn_implementation eager", "attention", "eager"),
        ("--model_init_kwargs '{\"attn_implementation\": \"flash_attention_3\"}'", "attention", "flash_attention_3"),
        ("--dtype bfloat16", "load_dtype", "bf16"),
        ("--dtype auto", "load_dtype", "auto"),
        ("--dtype float32 --model_init_kwargs '{\"dtype\": \"float16\"}'", "load_dtype", "fp16"),
        ("--label_smoothing_factor 0.1", "loss", "full_logits"),
        ("--use_liger_kernel", "loss", "chunked_linear"),
        ("--loss_type dft", "loss", "chunked_linear"),
        ("--torch_compile_mode default", "torch_compile", True),
        ("--accelerator_config '{\"gradient_accumulation_kwargs\": {\"sync_each_batch\": true}}'", "sync_each_batch", True),
        ("--eval_strategy steps --eval_steps 10", "eval_micro_batch_size", 8),
        ("--do_eval --per_device_eval_batch_size 2", "eval_micro_batch_size", 2),
        ("--eval_on_start true", "eval_micro_batch_size", 8),
    ],
)  # fmt: skip
def test_a_trl_flag_means_this_for_the_plan(line, field, value, tmp_path):
    assert values(read(line, tmp_path))[field] == value


@pytest.mark.parametrize(
    ("kwargs", "is_named"), [('{"num_hidden_layers": 4}', True), ('{"use_cache": false}', False)]
)
def test_a_model_of_another_shape_than_its_checkpoint_is_named(kwargs, is_named, tmp_path):
    notices = read(f"--model_init_kwargs '{kwargs}'", tmp_path).notices

    assert [each.unpriced for each in notices] == ["a model of another shape"] * is_named


def test_an_attention_that_nobody_knows_is_named(tmp_path):
    notices = read("--attn_implementation somebody/kernel", tmp_path).notices

    assert [(n.unpriced, n.takes) for n in notices] == [("the attention somebody/kernel", "more")]


def test_liger_fuses_the_loss_of_the_plain_trainer_and_of_older_trl(tmp_path):
    plain = read("--use_liger_kernel", tmp_path, "train.py", HF)
    older = read("--use_liger_kernel", tmp_path, versions={**VERSIONS, "trl": "1.10.0"})

    assert values(plain)["loss"] == "fused_linear"
    assert values(older)["loss"] == "fused_linear"


def test_without_evaluation_there_is_no_evaluation_batch(tmp_path):
    arguments = read("--per_device_eval_batch_size 2", tmp_path)

    assert "eval_micro_batch_size" not in arguments.settings


def test_trls_lora_is_an_adapter_with_its_defaults(tmp_path):
    lora = read("--use_peft", tmp_path)
    chosen = read("--use_peft --lora_r 64 --lora_target_modules all-linear --use_dora", tmp_path)

    assert values(lora)["adapter"] == Adapter("lora", 16, 32, 0.05)
    assert values(chosen)["adapter"] == Adapter("dora", 64, 32, 0.05, "all-linear")


PATTERNS = {
    r".*\.(q|k|v|o)_proj": ("q_proj", "k_proj", "v_proj", "o_proj"),
    r".*\.(?:q_proj|up_proj)$": ("q_proj", "up_proj"),
    r"model\.layers\.\d+\.self_attn\.(q|v)_proj": ("q_proj", "v_proj"),
    r".*(q_proj|k_proj)": ("q_proj", "k_proj"),
    r".*down_proj": ("down_proj",),
}


@pytest.mark.parametrize(("pattern", "targets"), PATTERNS.items())
def test_a_pattern_is_read_as_the_modules_that_it_matches(pattern, targets, tmp_path):
    arguments = read(f"--use_peft --lora_target_modules {shlex.quote(pattern)}", tmp_path)
    layer = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    places = {name: "self_attn" if name in layer[:4] else "mlp" for name in layer}
    matched = [n for n in layer if re.fullmatch(pattern, f"model.layers.3.{places[n]}.{n}")]

    assert values(arguments)["adapter"].targets == targets
    assert [name for name in layer if name in targets] == matched


def test_lora_flags_without_the_switch_are_no_adapter(tmp_path):
    arguments = read("--lora_r 8", tmp_path)

    assert "adapter" not in arguments.settings
    assert "no effect without use_peft" in arguments.notices[0].message


def test_the_adapter_is_that_of_trls_own_peft_config(tmp_path):
    from trl import get_peft_config

    line = "--use_peft --lora_r 4 --lora_alpha 9 --lora_target_modules k_proj v_proj --lora_modules_to_save lm_head"
    make_parser = importlib.import_module("trl.scripts.sft").make_parser
    _, _, model, _ = make_parser().parse_args_and_config([*shlex.split(line), "--use_cpu"])
    theirs = get_peft_config(model)
    ours = values(read(line, tmp_path))["adapter"]

    assert (ours.rank, ours.alpha, ours.dropout) == (
        theirs.r,
        theirs.lora_alpha,
        theirs.lora_dropout,
    )
    assert set(ours.targets) == theirs.target_modules
    assert list(ours.modules_to_save) == theirs.modules_to_save


@pytest.mark.parametrize(
    "line",
    [
        "--load_in_4bit",
        "--load_in_4bit --dtype bfloat16",
        "--load_in_4bit --use_bnb_nested_quant --bnb_4bit_quant_type fp4 --dtype bfloat16",
        "--load_in_4bit --bnb_4bit_quant_storage bfloat16 --dtype bfloat16",
    ],
)
def test_the_quantized_base_is_that_of_trls_own_config(line, tmp_path):
    from trl import get_quantization_config

    make_parser = importlib.import_module("trl.scripts.sft").make_parser
    _, _, model, _ = make_parser().parse_args_and_config([*shlex.split(line), "--use_cpu"])
    theirs = get_quantization_config(model)
    ours = values(read(line, tmp_path))["base_quantization"]
    words = {"torch.bfloat16": "bf16", "torch.float32": "fp32", "torch.uint8": None}

    assert ours.scheme == theirs.bnb_4bit_quant_type
    assert ours.double_quant == theirs.bnb_4bit_use_double_quant
    assert ours.compute_dtype == words[str(theirs.bnb_4bit_compute_dtype)]
    assert ours.storage_dtype == words[str(theirs.bnb_4bit_quant_storage)]


def test_qlora_adapters_are_bf16_under_trl(tmp_path):
    found = values(read("--use_peft --load_in_8bit", tmp_path))

    assert found["adapter"].dtype == "bf16"
    assert found["base_quantization"] == BaseQuantization("int8", upcast_unquantized_to_fp32="none")


def test_one_target_alone_is_refused_as_peft_refuses_it(tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    for target in ("q_proj", "q_proj,v_proj"):
        config = LlamaConfig(
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            vocab_size=8,
        )
        with pytest.raises(ValueError, match="not found in the base model"):
            get_peft_model(LlamaForCausalLM(config), LoraConfig(target_modules=target))
        with pytest.raises(BadInput, match="PEFT finds no"):
            read(f"--use_peft --lora_target_modules {target}", tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--fp16 --bf16 true", "bf16 and fp16 are both on"),
        ("--load_in_4bit --load_in_8bit", "both on"),
        ("--per_device_train_batch_size 0", "must be a whole number from 1"),
        ("--lora_r -1 --use_peft", "must be a whole number from 1"),
        ("--padding_free", "does not cut sequences"),
        ("--dtype float64", "^--dtype cannot be 'float64'"),
    ],
)
def test_an_impossible_combination_is_refused(line, message, tmp_path):
    with pytest.raises(BadInput, match=message):
        read(line, tmp_path)


def test_both_names_of_checkpointing_given_differently_are_pointed_out(tmp_path):
    arguments = read("--gradient_checkpointing false --activation_checkpointing true", tmp_path)

    assert values(arguments)["activation_checkpointing"] == "full"
    assert [place.key for place in arguments.places["activation_checkpointing"]] == [
        "--activation_checkpointing",
        "--gradient_checkpointing",
    ]
    assert "two names of one argument" in arguments.notices[0].message


def test_flags_of_a_script_of_its_own_are_read_by_their_names_and_marked(tmp_path):
    line = (
        "--model a/b --batch_size 4 --block-size 2048 --lora_rank 8 --lora_target q_proj,v_proj --qlora"
        " --mixed_precision bf16 --use_flash_attn --no_gradient_checkpointing --grad_accum_steps=2"
    )
    arguments = read(line, tmp_path, "train.py", LOOP)
    found = values(arguments)

    assert (found["model"], found["micro_batch_size"], found["seq_len"]) == ("a/b", 4, 2048)
    assert found["gradient_accumulation_steps"] == 2
    assert found["adapter"] == Adapter("lora", 8, None, 0.0, ("q_proj", "v_proj"))
    assert found["base_quantization"].scheme == "nf4"
    assert (found["mixed_precision"], found["attention"]) == ("bf16", "flash_attention_2")
    assert found["activation_checkpointing"] == "none"
    assert arguments.origins["seq_len"].reason == "read as seq_len from --block-size"
    inferred = [n for n, o in arguments.origins.items() if o.reason.startswith("read as ")]
    assert set(inferred) == set(found)


@pytest.mark.parametrize(
    ("flag", "is_said"),
    [
        ("--use_qlora_v2 true", True),
        ("--adapter_type lora", True),
        ("--quantize nf4", True),
        ("--pretrain_mm_mlp_adapter p.bin", False),
        ("--tune_mm_mlp_adapter True", False),
        ("--disable_lora", False),
        ("--no_quantization", False),
        ("--q-lora-rank 1536", False),
        ("--kv_lora_rank 512", False),
    ],
)
def test_names_that_turn_no_adapter_on_are_not_said_to(flag, is_said, tmp_path):
    """PF120: a vision model's projector, ranks of latent attention, and what is turned off."""
    arguments = read(flag, tmp_path, "train.py", LOOP)

    assert ("PF120" in [notice.id for notice in arguments.notices]) is is_said


@pytest.mark.parametrize(
    ("flags", "scheme"),
    [
        ("--use_qlora 1", "nf4"),
        ("--use_qlora 1 --quant_bit 4", "nf4"),
        ("--use_qlora 1 --quant_bit 8", "int8"),
        ("--qlora --bits 8", "int8"),
        ("--load_in_4bit --bits 8", "nf4"),
    ],
)
def test_a_switch_for_qlora_says_not_how_many_bits(flags, scheme, tmp_path):
    arguments = read(f"{flags} --lora_r 8", tmp_path, "train.py", LOOP)

    assert values(arguments)["base_quantization"].scheme == scheme


@pytest.mark.parametrize(
    ("flags", "others"),
    [
        ("--use_qlora 1", ["int8"]),
        ("--use_qlora 1 --quant_bit 4", []),
        ("--load_in_4bit", []),
    ],
)
def test_where_no_flag_says_the_bits_of_qlora_the_script_may_have_eight(flags, others, tmp_path):
    """A script whose `--bits` is 8 by default was read as one of 4 bits, half as large."""
    arguments = read(f"{flags} --lora_r 8", tmp_path, "train.py", LOOP)

    assert [e.scheme for e in arguments.origins["base_quantization"].may_be] == others


def test_a_value_that_only_the_script_understands_is_not_given(tmp_path):
    line = "--batch_size auto --gradient_checkpointing unsloth --dtype bf16 fp32"
    arguments = read(line, tmp_path, "train.py", LOOP)

    assert "micro_batch_size" not in arguments.settings
    assert "activation_checkpointing" not in arguments.settings
    assert "load_dtype" not in arguments.settings
    assert [problem.severity for problem in arguments.notices] == ["warning"] * 3


def test_several_words_behind_the_flag_of_a_model_name_none(tmp_path):
    arguments = read("--model_name_or_path a/b # or c/d", tmp_path, "train.py", LOOP)

    assert "model" not in arguments.settings
    assert [problem.where for problem in arguments.notices] == ["--model_name_or_path"]


def test_a_slip_of_the_pen_is_pointed_out(tmp_path):
    arguments = read("--per_device_train_batchsize 1", tmp_path, "train.py", HF)

    assert arguments.notices[0].fix == "did you mean per_device_train_batch_size"


@pytest.mark.parametrize("text", [HF, ""])
def test_an_argument_that_the_trainer_has_is_no_slip_of_itself(text, tmp_path):
    """A value that only a shell or the script understands is not what the Trainer takes: its name is the Trainer's all the same."""
    line = "--per_device_train_batch_size 1 --seed $RANDOM --lerning_rate 1e-4"
    arguments = read(line, tmp_path, "train.py", text)

    said = [notice.fix for notice in arguments.notices if notice.fix.startswith("did you mean")]
    assert said == ["did you mean learning_rate"]


@pytest.mark.parametrize(("release", "is_slip"), [("0.17.0", False), ("1.16.0", True)])
def test_an_argument_of_the_release_that_runs_is_no_slip(release, is_slip, tmp_path):
    text = "from mine import GRPOConfig\nfrom trl import GRPOTrainer, TrlParser\nGRPOTrainer(\n"
    versions = {**VERSIONS, "trl": release}
    (tmp_path / "c.yaml").write_text("vllm_max_model_len: 99\n")
    arguments = read("--config c.yaml", tmp_path, "train.py", text, versions)

    said = [notice.fix for notice in arguments.notices]
    assert ("did you mean vllm_max_model_length" in said) is is_slip


def test_a_call_that_was_read_whole_leaves_the_rest_to_its_class(tmp_path):
    text = "from trl import SFTConfig, SFTTrainer\nargs = SFTConfig(max_length=64)\npeft = LoraConfig(r=1)\nSFTTrainer(model, args=args, peft_config=peft)\n"
    arguments = read("", tmp_path, "train.py", text)

    assert (arguments.settings["seq_len"].value, arguments.origins["seq_len"].assumed) == (
        64,
        False,
    )
    assert arguments.settings["micro_batch_size"].value == 8
    assert arguments.origins["micro_batch_size"].assumed
    assert arguments.settings["adapter"].value.rank == 1
    assert arguments.notices == ()


@pytest.mark.parametrize(
    "call",
    [
        "SFTConfig(max_length=64, **read_settings())",
        "SFTConfig(per_device_train_batch_size=free_memory())",
        "pick(SFTConfig) if hot() else SFTConfig(**read_settings())",
    ],
)
def test_what_a_call_may_set_is_not_taken_from_defaults(tmp_path, call):
    arguments = read(
        "", tmp_path, "train.py", f"from trl import SFTConfig, SFTTrainer\nargs = {call}\n"
    )

    assert "micro_batch_size" not in arguments.settings
    assert [problem.where for problem in arguments.notices] == ["train.py:2"]


@pytest.mark.parametrize(
    ("script", "text", "line", "trainer"),
    [
        ("trl/scripts/sft.py", "", "", "trl"),
        ("trl.scripts.dpo", "", "", "trl"),
        ("train.py", "from trl import SFTTrainer\n", "", "trl"),
        ("train.py", HF, "", "transformers"),
        ("train.py", "from transformers import Trainer\nt = Trainer(m)\n", "", "transformers"),
        ("train.py", LOOP, "--per_device_train_batch_size 4", "plain_loop"),
        ("gone.py", "", "--packing", "trl"),
        ("gone.py", "", "--optim sgd", "transformers"),
        ("gone.py", "", "--per_device_train_batch_size 1", "transformers"),
        ("sft.py", "", "--per_device_train_batch_size 1", "trl"),
        ("run_sft.py", HF, "--per_device_train_batch_size 1", "transformers"),
        ("gone.py", "", "--lr 1", None),
    ],
)
def test_the_trainer_is_told_by_name_text_or_flags(script, text, line, trainer, tmp_path):
    arguments = read(line, tmp_path, script, text)

    assert arguments.trainer == trainer
    if trainer is not None:
        assert arguments.origins["trainer"].where
        assert arguments.origins["trainer"].assumed is not bool(text or script.startswith("trl"))


def test_a_changed_copy_of_trls_script_may_have_flags_of_its_own(tmp_path):
    script = importlib.import_module("trl.scripts.sft").__file__
    with open(script, encoding="utf-8") as file:
        text = file.read()
    (tmp_path / "trl" / "scripts").mkdir(parents=True)

    with pytest.raises(BadInput, match="does not know --mine"):
        read("--mine 1", tmp_path, "trl/scripts/sft.py", text)
    changed = read(
        "--mine 1", tmp_path, "trl/scripts/sft.py", text + "@dataclass\nclass Mine: ...\n"
    )
    assert changed.raw["mine"].value == "1"


def test_other_trl_trainers_are_said_to_be_estimated_in_part(tmp_path):
    arguments = read("", tmp_path, "trl.scripts.distillation")

    assert "seq_len" not in arguments.settings
    assert "distillation trainer is estimated in part" in arguments.notices[0].message
    assert values(arguments)["objective"] == "distillation"
