"""Real launch commands as a stranger types them: what the answer says of values nobody gave, and what to do next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from in_process import preflight
from said_versions import say_versions

FSDP2 = """\
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
fsdp_config:
  fsdp_version: 2
  fsdp_reshard_after_forward: true
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_state_dict_type: SHARDED_STATE_DICT
mixed_precision: bf16
num_machines: 1
num_processes: 8
same_network: true
"""
LLAMA = ["--model_name_or_path", "meta-llama/Llama-3.1-8B"]
TRAINER = ["--bf16", "true", "--per_device_train_batch_size", "2", "--output_dir", "out"]


LOOP = """\
import argparse
from accelerate import Accelerator
from transformers import AutoModelForCausalLM
parser = argparse.ArgumentParser()
parser.add_argument("--model")
model = AutoModelForCausalLM.from_pretrained(parser.parse_args().model)
model = Accelerator().prepare(model)
for batch in batches:
    model(**batch).loss.backward()
"""
SFT = """\
from trl import ModelConfig, ScriptArguments, SFTConfig, SFTTrainer, TrlParser, get_peft_config
script, training, model = TrlParser((ScriptArguments, SFTConfig, ModelConfig)).parse_args_and_config()
SFTTrainer(model.model_name_or_path, training, peft_config=get_peft_config(model)).train()
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "fsdp2.yaml").write_text(FSDP2)
    return tmp_path


@pytest.fixture
def trained(folder):
    """The folder with a script: nothing is refused for one that nobody can read."""
    script = Path(__file__).parent.parent.parent / "examples" / "2-rewritten" / "train.py"
    (folder / "train.py").write_bytes(script.read_bytes())
    say_versions(folder)
    return folder


def launch(*words: str) -> list[str]:
    return ["--", "accelerate", "launch", "--config_file", "fsdp2.yaml", "train.py", *words]


def check(folder, device: str, options: list[str], *words: str) -> dict:
    done = preflight(
        folder, "check", "--device", device, "--format", "json", *options, *launch(*words)
    )

    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def test_a_loop_without_a_known_flag_is_told_what_to_give_and_then_gets_an_answer(folder):
    """Every option on the last line is one that works."""
    (folder / "train.py").write_text(LOOP)
    done = preflight(folder, "check", *launch("--model", "meta-llama/Llama-3.1-8B"))
    told = done.stdout.splitlines()[-1]
    given = ["--set", "micro_batch_size=1", "--set", "seq_len=2048"]
    report = check(folder, "h100-sxm-80", given, "--model", "meta-llama/Llama-3.1-8B")

    assert told.endswith(
        "add --set micro_batch_size=N --set seq_len=N --device NAME before the `--`"
    )
    assert report["verdict"] == "fits"


def test_what_an_unknown_script_decides_is_named_as_assumed(folder):
    words = ["--model", "meta-llama/Llama-3.1-8B", "--batch_size", "1", "--max_length", "2048"]
    assumed = check(folder, "h100-sxm-80", [], *words)["assumed"]

    assert {"optimizer", "activation_checkpointing", "adapter", "load_dtype"} <= assumed.keys()
    assert "micro_batch_size" not in assumed


def test_an_argument_file_without_a_flag_tells_the_trainer_too(folder):
    (folder / "sft.yaml").write_text(
        "model_name_or_path: meta-llama/Llama-3.1-8B\ncutoff_len: 2048\n"
        "per_device_train_batch_size: 1\nlora_rank: 8\nlora_target: all\nbf16: true\n"
    )
    report = check(folder, "h100-sxm-80", [], "sft.yaml")

    assert report["plan"]["trainer"] == "transformers"
    assert report["plan"]["adapter"]["rank"] == 8
    assert "optimizer" in report["assumed"]


def test_library_defaults_stand_together_and_apart_from_guesses(folder):
    done = preflight(
        folder, "check", "--device", "h100", *launch(*LLAMA, *TRAINER, "--max_length", "512")
    )
    start = done.stdout.index("assumed:")
    text = " ".join(done.stdout[start:].split())

    assert text.startswith("assumed: trainer transformers (the script could not tell")
    assert text.count("defaults of transformers") == 1


def test_what_accelerate_config_writes_is_not_warned_about(folder):
    report = check(folder, "h100-sxm-80", [], *LLAMA, *TRAINER, "--max_length", "512")

    assert [f["severity"] for f in report["findings"] if f["id"] == "PF102"] == ["info"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("adapter=lora", "adapter must be a mapping of kind, rank"),
        ("base_quantization.scheme=nf5", "base_quantization.scheme must be one of nf4, fp4, int8"),
        ("seq_len=4k", "seq_len must be a whole number from 1, not '4k'"),
    ],
)
def test_a_value_that_cannot_be_is_refused_where_it_was_given(folder, setting, said):
    done = preflight(folder, "check", "--set", setting, *launch(*LLAMA, *TRAINER))

    assert done.returncode == 2
    assert said in done.stderr
    assert "  at   --set" in done.stderr


def test_an_optimizer_that_is_not_known_is_named(folder):
    (folder / "train.py").write_text(SFT)
    words = [*LLAMA, *TRAINER, "--max_length", "512"]
    report = check(folder, "h100", ["--set", "optimizer=adamw_torch_fuse"], *words)
    unknown = next(f for f in report["findings"] if f["id"] == "PF406")

    assert unknown["fix"] == "did you mean adamw_torch_fused"
    assert report["verdict"] == "unknown"
    assert report["unpriced"] == ["the states of adamw_torch_fuse"]


def test_eight_bit_floats_are_no_silent_fit(folder):
    (folder / "train.py").write_text(SFT)
    words = [*LLAMA, *TRAINER, "--max_length", "512"]
    as_bf16 = check(folder, "h100", ["--set", "mixed_precision=bf16"], *words)
    report = check(folder, "h100", ["--set", "mixed_precision=fp8"], *words)

    assert as_bf16["verdict"] == "fits"
    assert report["verdict"] == "unknown"
    assert report["unpriced"] == ["fp8 matrices"]


@pytest.mark.parametrize(
    ("words", "unpriced"),
    [
        (["--torch_compile", "true", "--torch_compile_mode", "reduce-overhead"], ["CUDA graphs"]),
        (["--optim", "sgd", "--optim_args", "momentum=0.9"], ["states that optim_args ask for"]),
        (["--optim", "sgd", "--optim_args", "momentum=0.0"], []),
        (["--use_peft", "--lora_target_parameters", "experts"], ["an adapter on parameters"]),
        (["--torch_compile", "true"], []),
    ],
)
def test_an_argument_that_no_formula_counts_is_named(folder, words, unpriced):
    (folder / "train.py").write_text(SFT)
    report = check(folder, "h100", [], *LLAMA, *TRAINER, "--max_length", "512", *words)

    assert report["unpriced"] == unpriced


def test_what_stands_before_the_launcher_is_moved_before_preflight(folder):
    done = preflight(folder, "check", "--", "./ours.sh", "-q", "accelerate", "launch", "train.py")

    assert done.returncode == 0 and done.stdout.startswith("preflight: unknown")
    assert "./ours.sh -q preflight ... --" in done.stdout


def test_a_folder_is_not_called_a_missing_file(folder):
    (folder / "configs").mkdir()
    done = preflight(
        folder, "check", "--", "accelerate", "launch", "--config_file", "configs", "train.py"
    )

    assert done.returncode == 2
    assert "the config file 'configs' is a folder" in done.stderr
    assert "did you mean" not in done.stderr


def test_an_allowed_change_to_training_is_not_made_where_a_safe_one_is_enough(trained):
    words = [*LLAMA, *TRAINER, "--max_length", "16384"]
    safe = check(trained, "h100-sxm-80", [], *words)
    allowed = check(trained, "h100-sxm-80", ["--allow", "seq_len"], *words)

    assert safe["applied"]
    assert [tried["id"] for tried in allowed["applied"]] == [
        tried["id"] for tried in safe["applied"]
    ]


def test_an_allowed_cut_is_the_mildest_that_fits_with_safe_help(trained):
    """The suggestion and what `--allow` does with it are one plan."""
    words = [*LLAMA, *TRAINER, "--max_length", "65536"]
    suggested = check(trained, "h100-sxm-80", [], *words)["suggested"]
    promised = next(tried for tried in suggested if tried["id"] == "seq_len")
    applied = check(trained, "h100-sxm-80", ["--allow", "seq_len"], *words)["applied"]

    assert promised["verdict"] == "fits"
    assert applied[0]["edits"]["seq_len"] == promised["edits"]["seq_len"]
    assert [tried["id"] for tried in applied[1:]] == promised["with"]
    assert applied[-1]["allocated_peak_bytes"] == promised["allocated_peak_bytes"]


def test_a_suggestion_says_what_must_stand_beside_it(trained):
    words = [*LLAMA, *TRAINER, "--max_length", "65536"]
    done = preflight(trained, "check", "--device", "h100-sxm-80", *launch(*words))

    assert "    add  --max_length " in done.stdout
    assert "    and  " in done.stdout
    assert "preflight writes it into the launch with --allow seq_len" in done.stdout


def test_a_launch_that_stays_tight_is_still_given_what_costs_nothing(trained):
    """Expandable segments bring the peak of a 3B model down by 6 GiB, and the margin is still gone."""
    command = ["--", "accelerate", "launch", "--num_processes", "1", "train.py", *TRAINER]
    words = ["--model_name_or_path", "meta-llama/Llama-3.2-3B", "--max_length", "4096"]
    one = ["--per_device_train_batch_size", "1", "--activation_checkpointing", "true"]
    settings = ["--set", "loss=full_logits", "--set", "load_dtype=bf16", "--device", "H100:26.4"]
    done = preflight(trained, "check", *settings, *command, *words, *one)
    first = done.stdout.splitlines()[0]

    assert first.startswith("preflight: tight as written, still tight rewritten. Peak ")
    assert "GiB unfragmented" in first
    assert "PYTORCH_ALLOC_CONF=expandable_segments:True" in done.stdout.splitlines()[-1]
    applied, _, suggested = done.stdout.partition("suggested, not applied")
    assert "  expandable_segments: " in applied and "  expandable_segments: " not in suggested


def test_no_row_is_shown_for_an_evaluation_that_never_runs(folder):
    words = [*LLAMA, *TRAINER, "--max_length", "65536"]
    without = preflight(folder, "check", "--device", "h100", *launch(*words)).stdout
    evaluates = launch(*words, "--eval_strategy", "epoch")
    with_it = preflight(folder, "check", "--device", "h100", *evaluates).stdout

    assert "\n  evaluation " not in without
    assert "\n  evaluation " in with_it


def test_llama_factorys_bits_are_read_as_a_quantized_base(folder):
    (folder / "sft.yaml").write_text(
        "model_name_or_path: meta-llama/Llama-3.1-8B\ncutoff_len: 2048\nquantization_bit: 4\n"
        "per_device_train_batch_size: 1\nlora_rank: 8\nlora_target: all\nbf16: true\n"
    )
    plan = check(folder, "h100-sxm-80", [], "sft.yaml")["plan"]

    assert plan["base_quantization"]["scheme"] == "nf4"
    assert plan["base_quantization"]["storage_dtype"] == "bf16"


@pytest.mark.parametrize(
    ("flag", "taken"), [("--use_my_lora", "adapter"), ("--set_4bit", "base_quantization")]
)
def test_a_flag_that_sounds_like_less_memory_and_is_not_read_is_named(folder, flag, taken):
    words = [*LLAMA, *TRAINER, "--max_length", "512", flag, "true"]
    findings = check(folder, "h100-sxm-80", [], *words)["findings"]

    assert [f["where"] for f in findings if f"{taken} is taken as none" in f["message"]] == [flag]


def test_a_flag_that_turns_such_a_thing_off_is_not(folder):
    words = [*LLAMA, *TRAINER, "--max_length", "512", "--adapter_path", "none"]
    findings = check(folder, "h100-sxm-80", [], *words)["findings"]

    assert not any("is taken as none" in f["message"] for f in findings)


@pytest.mark.parametrize("config", ["fsdp2", "zero3"])
def test_the_terms_of_a_phase_add_up_to_it(folder, config):
    """What docs/reference-cli.md says of `phases` and `peak_moments`."""
    (folder / "zero3.yaml").write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: DEEPSPEED\nmixed_precision: bf16\n"
        "deepspeed_config:\n  zero_stage: 3\nnum_machines: 1\nnum_processes: 8\n"
    )
    command = launch(*LLAMA, *TRAINER, "--max_length", "512")
    command[4] = f"{config}.yaml"
    done = preflight(folder, "check", "--device", "h100", "--format", "json", *command)
    estimate = json.loads(done.stdout)["estimate"]
    sums = {
        phase: sum(
            term["num_bytes"]
            for term in estimate["terms"]
            if term["level"] == "allocated"
            and phase in term["phases"]
            and moment in term["moments"]
        )
        for phase, moment in estimate["peak_moments"].items()
    }

    assert sums == estimate["phases"]
